"""The end of an invocation and everything it releases."""

import pytest

from restated.core.effects import Done, Ignored, Settled, StopAttempt
from restated.core.events import AttemptEnded, Expired, Kill, PatchState, Purge, PurgeJournal
from restated.core.finish import state_version
from restated.model.records import (
    Completion,
    Entry,
    Failure,
    InboxItem,
    Invocation,
    Lock,
    Promise,
    PromiseWaiter,
    Result,
    Row,
    SignalRow,
    StatePatch,
    StateValue,
    Timer,
    Waiter,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.builders import DAY_MS, object_target, workflow_target
from tests.core.world import StepWorld

OWNED: tuple[type[Row], ...] = (
    Invocation, Result, Entry, Completion, SignalRow, Timer, Waiter, Lock, InboxItem,
    StateValue, Promise, PromiseWaiter,
)  # fmt: skip


def fail_terminally(world: StepWorld, invocation_id: str, failure: Failure) -> None:
    """Output a failure and end."""
    metadata = [pb.FailureMetadata(key=key, value=value) for key, value in failure.metadata]
    body = pb.OutputCommandMessage(
        failure=pb.Failure(code=failure.code, message=failure.message, metadata=metadata)
    )
    world.command(invocation_id, messages.OUTPUT_COMMAND, body)
    row = world.row(invocation_id)
    world.apply(AttemptEnded(row.number, row.attempt))


def left_over(world: StepWorld) -> list[Row]:
    """Rows that an ended invocation must not leave behind."""
    return [row for table in OWNED for row in world.store.scan(table)]


def test_last_output_is_the_result(world: StepWorld) -> None:
    """service-protocol.md 4.3: two outputs, the last wins."""
    first = world.invoke()
    body = pb.OutputCommandMessage(value=pb.Value(content=b"1"))
    world.command(first, messages.OUTPUT_COMMAND, body)
    world.output(first, b"2")
    assert world.effects == [Settled(first, b"2")]
    assert world.row(first).expires_at_ms == world.now_ms + DAY_MS


def test_late_end_of_an_aborted_attempt_changes_nothing(world: StepWorld) -> None:
    """B3, C11: the attempt number fences old attempts."""
    first = world.invoke()
    body = pb.OutputCommandMessage(value=pb.Value(content=b"1"))
    world.command(first, messages.OUTPUT_COMMAND, body)
    world.fail(first)
    world.advance(60_000)
    before = world.rows()
    assert world.apply(AttemptEnded(world.row(first).number, 1)) == Ignored("stale attempt")
    assert world.rows() == before


def test_without_retention_nothing_is_left(world: StepWorld) -> None:
    """C72: the outcome goes to those who wait, then every row is gone."""
    first = world.invoke(object_target(), completion_retention_ms=0, journal_retention_ms=0)
    world.output(first, b"1")
    assert world.effects[0] == Settled(first, b"1")
    assert left_over(world) == []


def test_journal_without_retention_goes_at_once_and_the_result_stays(world: StepWorld) -> None:
    """state-machine.md 4.3: journal retention 0."""
    first = world.invoke(journal_retention_ms=0)
    world.output(first, b"1")
    assert list(world.store.scan(Entry)) == []
    assert world.row(first).journal_length == 0
    assert [row.outcome for row in world.store.scan(Result)] == [b"1"]


def test_retention_removes_the_journal_first_then_everything(world: StepWorld) -> None:
    """I4: never early, nothing stays."""
    first = world.invoke(workflow_target(), journal_retention_ms=1_000)
    number = world.row(first).number
    body = pb.SetStateCommandMessage(key=b"n", value=pb.Value(content=b"1"))
    world.command(first, messages.SET_STATE_COMMAND, body)
    world.output(first)
    assert world.apply(Expired(number)) == Ignored("still retained")
    world.now_ms += 1_000
    world.apply(Expired(number))
    assert list(world.store.scan(Entry)) == []
    assert world.status(first) == "completed"
    world.now_ms += DAY_MS
    world.apply(Expired(number))
    assert left_over(world) == []


@pytest.mark.parametrize("event", [Purge, PurgeJournal])
def test_purge_takes_what_it_says(world: StepWorld, event: type[Purge | PurgeJournal]) -> None:
    """admin.md 7."""
    first = world.invoke()
    world.output(first)
    assert world.apply(event(first)) == Done()
    assert (world.status(first) is None) == (event is Purge)
    assert list(world.store.scan(Entry)) == []


def test_purge_of_a_run_leaves_who_still_waits_for_a_promise(world: StepWorld) -> None:
    """B8: a shared handler outlives the run; the promise can be settled yet. S1: the run's own."""
    run, other = world.invoke(workflow_target()), world.invoke(workflow_target(handler="tell"))
    for waiting in (run, other):
        body = pb.GetPromiseCommandMessage(key="p", result_completion_id=1)
        world.command(waiting, messages.GET_PROMISE_COMMAND, body)
    world.output(run)
    world.apply(Purge(run))
    assert [row.caller for row in world.store.scan(PromiseWaiter)] == [world.row(other).number]


def test_kill_releases_the_key_and_starts_the_next_in_line(world: StepWorld) -> None:
    """K7, X1."""
    first, second = world.invoke(object_target()), world.invoke(object_target())
    world.apply(Kill(first))
    assert StopAttempt(1, 1, "abort") in world.effects
    assert world.started() == [(second, 1)]
    assert world.outcomes()[first] == Failure(409, "killed")


def test_state_patch_waits_for_the_lock_and_keeps_its_place(world: StepWorld) -> None:
    """state-machine.md 7: applied between two exclusive invocations, in order."""
    first = world.invoke(object_target("k"))
    world.apply(PatchState("Counter", "k", StatePatch((("n", b"9"),))))
    second = world.invoke(object_target("k"))
    assert list(world.store.scan(StateValue)) == []
    world.output(first)
    assert [(row.name, row.value) for row in world.store.scan(StateValue)] == [("n", b"9")]
    assert world.status(second) == "invoked"


def test_state_patch_with_another_version_is_dropped(world: StepWorld) -> None:
    """admin.md 6."""
    world.apply(PatchState("Counter", "k", StatePatch((("n", b"1"),))))
    world.apply(PatchState("Counter", "k", StatePatch((("n", b"2"),), "stale")))
    assert [row.value for row in world.store.scan(StateValue)] == [b"1"]


def test_state_version_is_the_reference_digest() -> None:
    """admin.md 6, both vectors."""
    assert state_version([]) == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    row = StateValue("", "TicketObject", "bob", "name", b"bob")
    assert state_version([row]) == "tDqA04Lj3_qJ-PgNPTecXDGZgpwy6jm2Ni2BYqJIthM"
