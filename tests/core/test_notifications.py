"""Completions, signals and timers: what wakes a suspended invocation and what does not."""

import pytest

from restated.core.awaits import evaluate, leaves, restored, stored
from restated.core.effects import Done, Ignored
from restated.core.events import AttemptSuspended, Complete, Signal, TimerFired
from restated.model.records import Await, Combinator, Failure
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.core.test_commands import pushed
from tests.core.world import StepWorld


def sleep(world: StepWorld, invocation_id: str, completion_id: int, in_ms: int = 1_000) -> None:
    """A Sleep command."""
    body = pb.SleepCommandMessage(
        wake_up_time=world.now_ms + in_ms, result_completion_id=completion_id
    )
    world.command(invocation_id, messages.SLEEP_COMMAND, body)


def test_only_what_is_awaited_wakes(world: StepWorld) -> None:
    """C01, C02: invoked again in the transaction of the completion."""
    first = world.invoke()
    sleep(world, first, 1, 100)
    sleep(world, first, 2, 200)
    world.suspend(first, "c2")
    world.advance(100)
    assert world.status(first) == "suspended"
    world.advance(100)
    assert world.status(first) == "invoked"
    assert world.row(first).attempt == 2


def test_completion_before_the_suspension_is_processed_resumes_at_once(world: StepWorld) -> None:
    """C03."""
    first = world.invoke()
    sleep(world, first, 1, 10)
    world.advance(10)
    world.suspend(first, "c1", known=1)
    assert world.started() == [(first, 2)]


def test_awakeable_settles_once(world: StepWorld) -> None:
    """C38, C39: kept before it is awaited; the second completion is ignored."""
    first = world.invoke()
    assert world.apply(Signal(first, "s17", b"1")) == Done()
    assert world.apply(Signal(first, "s17", b"2")) == Ignored("the awakeable was completed before")
    assert world.journal(first) == ["Command: Input", "Notification: Signal"]


def test_named_signals_are_all_stored_in_order(world: StepWorld) -> None:
    """service-protocol.md 3.5: FIFO for each name."""
    first = world.invoke()
    world.apply(Signal(first, "n:go", b"1"))
    world.apply(Signal(first, "n:go", Failure(500, "no")))
    [(index, code, answer)] = pushed(world)
    assert (index, code, answer.name, answer.failure.message) == (
        2, messages.SIGNAL_NOTIFICATION, "go", "no",
    )  # fmt: skip


def test_signal_1_is_a_cancel_whoever_sends_it(world: StepWorld) -> None:
    """state-machine.md 4.4: an awakeable's id may name it too; what has not started ends."""
    scheduled = world.invoke(scheduled_for_ms=world.now_ms + 10)
    assert world.apply(Signal(scheduled, "s1", b"1")) == Done()
    assert world.outcomes()[scheduled] == Failure(409, "canceled")
    first = world.invoke()
    world.apply(Signal(first, "s1", b"1"))
    [(_, code, answer)] = pushed(world)
    assert (code, answer.idx, answer.WhichOneof("result")) == (
        messages.SIGNAL_NOTIFICATION, 1, "void",
    )  # fmt: skip


def test_signal_that_was_already_replayed_wakes_nobody_again(world: StepWorld) -> None:
    """design.md 3.4: `awaiting_floor`; the reference attempts over and over here."""
    first = world.invoke()
    world.apply(Signal(first, "n:go", b"1"))
    world.suspend(first, "n:go", known=2)
    assert world.status(first) == "suspended"
    world.apply(Signal(first, "n:go", b"2"))
    assert world.status(first) == "invoked"


def test_signal_that_arrived_unread_wakes_once(world: StepWorld) -> None:
    """design.md 3.4: an entry that the attempt had not replayed."""
    first = world.invoke()
    world.apply(Signal(first, "n:go", b"1"))
    world.suspend(first, "n:go", known=1)
    assert world.started() == [(first, 2)]


@pytest.mark.parametrize("status", ["scheduled", "completed", "unknown"])
def test_signal_that_nobody_can_read_is_dropped(world: StepWorld, status: str) -> None:
    """state-machine.md 3, C43."""
    scheduled = world.invoke(scheduled_for_ms=world.now_ms + 10)
    completed = world.invoke()
    world.output(completed)
    target = {"scheduled": scheduled, "completed": completed, "unknown": "inv_x"}[status]
    before = world.rows()
    assert world.apply(Signal(target, "s17", b"1")) == Ignored("nobody can read the signal")
    assert world.rows() == before


def test_completion_of_an_ended_or_unknown_caller_is_ignored(world: StepWorld) -> None:
    """B2."""
    first = world.invoke()
    sleep(world, first, 1)
    world.output(first)
    assert world.apply(Complete(1, 1, None)) == Ignored("the caller has ended")
    assert world.apply(Complete(77, 1, None)) == Ignored("the caller has ended")


def test_timer_that_was_removed_is_stale(world: StepWorld) -> None:
    """C10: nothing happens, nothing is stored."""
    first = world.invoke()
    sleep(world, first, 1)
    before = world.rows()
    assert world.apply(TimerFired(1, "sleep", 1)) == Ignored("stale timer")  # not due yet
    assert world.apply(TimerFired(1, "retry", 1)) == Ignored("stale timer")
    assert world.rows() == before


LEAVES = {"c1": "success", "c2": "failure", "c3": None}
TREES: list[tuple[Combinator, tuple[str, ...], str | None]] = [
    ("unknown", ("c3",), None),
    ("unknown", ("c3", "c2"), "undetermined"),
    ("first_completed", ("c3", "c2"), "failure"),
    ("first_completed", ("c3",), None),
    ("all_completed", ("c1", "c2"), "success"),
    ("all_completed", ("c1", "c3"), None),
    ("first_succeeded", ("c2", "c3"), None),
    ("first_succeeded", ("c2", "c1"), "success"),
    ("first_succeeded", ("c2",), "failure"),
    ("all_succeeded", ("c1", "c3"), None),
    ("all_succeeded", ("c1", "c2", "c3"), "failure"),
    ("all_succeeded", ("c1",), "success"),
]


@pytest.mark.parametrize(("combinator", "on", "verdict"), TREES)
def test_combinators(
    world: StepWorld, combinator: Combinator, on: tuple[str, ...], verdict: str | None
) -> None:
    """service-protocol.md 4.6, each row of the table, nested once more in each other."""
    first = world.invoke()
    for completion_id in (1, 2, 3):
        sleep(world, first, completion_id)
    world.apply(Complete(1, 1, b"1"))
    world.apply(Complete(1, 2, Failure(500, "no")))
    row = world.row(first)
    tree = Await(combinator, on)
    assert evaluate(world.store, row, tree)[0] == verdict
    nested = Await("first_completed", ("c3",), (tree,))
    assert evaluate(world.store, row, nested)[0] == verdict
    outer = Await("all_succeeded", (), (tree,))
    assert evaluate(world.store, row, outer)[0] == verdict
    everything = Await("all_completed", (), (tree,))
    assert evaluate(world.store, row, everything)[0] == (None if verdict is None else "success")


def test_satisfied_branches_are_cut_out_of_the_stored_await(world: StepWorld) -> None:
    """service-protocol.md, supplement to 4.6."""
    first = world.invoke()
    for completion_id in (1, 2):
        sleep(world, first, completion_id)
    tree = Await("first_completed", ("s1",), (Await("all_completed", ("c1", "c2")),))
    world.apply(AttemptSuspended(1, 1, tree, 3))
    world.apply(Complete(1, 1, None))
    row = world.row(first)
    assert row.status == "suspended"
    rest = Await("first_completed", ("s1",), (Await("all_completed", ("c2",)),))
    assert evaluate(world.store, row, tree) == (None, rest)
    world.apply(Complete(1, 2, None))
    assert world.status(first) == "invoked"


def test_race_is_settled_by_what_stands_first_in_the_journal(world: StepWorld) -> None:
    """service-protocol.md, supplement to 4.6: the kind of the child that satisfied it."""
    first = world.invoke()
    for completion_id in (1, 2, 3):
        sleep(world, first, completion_id)
    world.apply(Complete(1, 2, b"1"))
    world.apply(Complete(1, 1, Failure(500, "no")))
    race = Await("first_completed", ("c1", "c2"))
    awaiting = Await("first_succeeded", ("c3",), (race,))
    assert evaluate(world.store, world.row(first), awaiting)[0] == "success"


def test_unread_signal_counts_as_the_oldest_that_is_unread(world: StepWorld) -> None:
    """service-protocol.md 3.5: signals of one name are read in order."""
    first = world.invoke()
    sleep(world, first, 1)
    world.apply(Signal(first, "n:go", Failure(500, "read before")))
    world.apply(Signal(first, "n:go", b"1"))
    world.apply(Signal(first, "n:go", Failure(500, "read later")))
    awaiting = Await("first_succeeded", ("n:go", "c1"))
    world.apply(AttemptSuspended(1, 1, awaiting, 3))
    assert world.started() == [(first, 2)]


def test_tree_of_the_greatest_depth_is_stored_and_evaluated(world: StepWorld) -> None:
    """RT0025 begins above 1,000 levels; recursion would end before."""
    first = world.invoke()
    sleep(world, first, 1)
    tree = Await(on=("c1",))
    for _ in range(1_000):
        tree = Await("all_completed", (), (tree,))
    kept = restored(stored(tree))
    assert stored(kept) == stored(tree)
    assert leaves(kept) == ["c1"]
    assert evaluate(world.store, world.row(first), kept)[0] is None
    world.apply(Complete(1, 1, None))
    assert evaluate(world.store, world.row(first), kept)[0] == "success"


def test_stored_form_keeps_the_order_of_children() -> None:
    """B5: what is shown and evaluated is what the SDK sent."""
    tree = Await(
        "all_succeeded", ("c1", "s17"),
        (Await("first_completed", ("c2",)), Await("unknown", ("n:go",), (Await(on=("c4",)),))),
    )  # fmt: skip
    assert restored(stored(tree)) == tree
