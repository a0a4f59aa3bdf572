"""Work that is too large for one event goes on in pieces, and loses nothing between them."""

import pytest

from restated.core.effects import Settled
from restated.core.events import Attach, AttemptEnded, Kill, Purge, TimerFired
from restated.core.pieces import ANSWERED_BYTES_MAX, MESSAGES_MAX, REMOVED_BYTES_MAX, ROWS_MAX
from restated.model.records import Completion, Entry, OutboxMessages, Row, SignalRow, Timer
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.core.test_commands import child_of
from tests.core.world import StepWorld


def send(world: StepWorld, parent: str, child: str, index: int) -> None:
    """A one-way call."""
    body = pb.OneWayCallCommandMessage(invocation_id_notification_idx=index)
    request = child_of(world, parent, child, None)
    world.command(parent, messages.ONE_WAY_CALL_COMMAND, body, child=request)


def test_kill_of_a_large_tree_goes_on_until_all_of_it_is_dead(world: StepWorld) -> None:
    """X1, C24: at most a hundred messages an event, the rest survives a crash as rows."""
    parent = world.invoke()
    children = [f"inv_child_{index}" for index in range(3 * MESSAGES_MAX)]
    for index, child in enumerate(children):
        send(world, parent, child, index + 1)
    world.apply(Kill(parent))
    killed = [effect for effect in world.effects if isinstance(effect, Settled)]
    assert len(killed) == MESSAGES_MAX + 1
    assert world.store.next_deadline_ms() == world.now_ms
    world.advance(0)
    assert set(world.outcomes()) == {parent, *children}
    assert list(world.store.scan(OutboxMessages)) == []
    assert list(world.store.scan(Timer)) == []


@pytest.mark.parametrize(
    ("size", "count", "at_once"),
    [
        (10, 2 * MESSAGES_MAX + 25, MESSAGES_MAX),
        (ANSWERED_BYTES_MAX // 10, 25, 10),
        (ANSWERED_BYTES_MAX + 1, 3, 1),
    ],
)
@pytest.mark.parametrize("succeeds", [True, False])
def test_more_waiters_than_one_event_answers_all_get_the_outcome(
    world: StepWorld, size: int, count: int, at_once: int, *, succeeds: bool
) -> None:
    """B2, M2: equal bytes for everybody, copied for so many at a time, stored once for the rest."""
    target = world.invoke()
    askers = asking(world, target, count)
    value = pb.Value(content=b"v" * size) if succeeds else None
    failure = None if succeeds else pb.Failure(code=500, message="v" * size)
    output = pb.OutputCommandMessage(value=value, failure=failure)
    world.command(target, messages.OUTPUT_COMMAND, output)
    world.apply(AttemptEnded(number(world, target), 1))
    answered = [answers(world, askers)]
    assert sum(len(row.messages) for row in world.store.scan(OutboxMessages)) < size + 5_000
    while timers := world.store.due(world.now_ms, 1):
        world.apply(TimerFired(0, timers[0].kind, timers[0].token))
        answered.append(answers(world, askers))
    steps = [*range(at_once, count, at_once), count]
    assert answered == steps
    assert list(world.store.scan(OutboxMessages)) == []
    entries = [world.store.get(Entry, number(world, asker), 2) for asker in askers]
    assert len({entry.payload for entry in entries if entry is not None}) == 1


def test_waiters_of_two_outcomes_that_are_large_are_answered_in_turn(world: StepWorld) -> None:
    """The outcome of the first is still there when the second is stored behind it."""
    targets = [world.invoke(), world.invoke()]
    askers = [asking(world, target, 3) for target in targets]
    for index, target in enumerate(targets):
        world.output(target, bytes([index]) * (ANSWERED_BYTES_MAX + 1))
    world.apply(Kill(askers[0][2]))
    world.advance(0)
    assert (answers(world, askers[0][:2]), answers(world, askers[1])) == (2, 3)
    last = world.store.get(Entry, number(world, askers[1][2]), 2)
    assert last is not None
    assert last.payload.endswith(bytes([1]) * 10)
    assert list(world.store.scan(OutboxMessages)) == []


@pytest.mark.parametrize("entries", [10, ROWS_MAX, 2 * ROWS_MAX + 7])
def test_journal_of_any_length_is_removed_whole(world: StepWorld, entries: int) -> None:
    """S4: a long one in pieces, a short one at once; nothing is left of either."""
    target = world.invoke()
    first = number(world, target)
    for index in range(1, entries // 2):
        body = pb.RunCommandMessage(result_completion_id=index)
        world.command(target, messages.RUN_COMMAND, body)
    world.output(target)
    world.apply(Purge(target))
    assert world.status(target) is None
    again = world.invoke(id=target)
    world.advance(0)
    assert left_of(world, first) == []
    assert world.journal(again) == ["Command: Input"]


def test_heavy_journal_is_removed_a_few_entries_at_a_time(world: StepWorld) -> None:
    """S4, M2: SQLite visits all pages of what it deletes; a hundred entries of 20 MiB took 5 s."""
    target = world.invoke()
    first = number(world, target)
    for index in range(8):
        body = pb.RunCommandMessage(result_completion_id=index, name="n" * (REMOVED_BYTES_MAX // 3))
        world.command(target, messages.RUN_COMMAND, body)
    world.output(target)
    world.apply(Purge(target))
    lengths = [10]
    while timers := world.store.due(world.now_ms, 1):
        world.apply(TimerFired(first, timers[0].kind, timers[0].token))
        lengths.append(len(world.store.sizes(first, ROWS_MAX)))
    assert lengths == [10, 6, 3, 0]
    assert left_of(world, first) == []


def test_unknown_identity_is_answered_through_the_outbox_too(world: StepWorld) -> None:
    """Every kind of message can be stored and sent later."""
    from restated.core.pieces import postpone, send_postponed
    from restated.core.view import Step

    asker = world.invoke()
    step = Step(world.store, world.now_ms)
    postponed = [Attach("inv_x", number(world, asker), 1, wait=True), Kill("inv_x")]
    postpone(step, postponed)
    world.store.apply(step.writes())
    later = Step(world.store, world.now_ms)
    send_postponed(later)
    assert later.messages == postponed


def number(world: StepWorld, invocation_id: str) -> int:
    """The number of an invocation."""
    return world.row(invocation_id).number


def asking(world: StepWorld, target: str, count: int) -> list[str]:
    """So many invocations that wait for the outcome of `target`."""
    askers = [world.invoke() for _ in range(count)]
    for asker in askers:
        body = pb.AttachInvocationCommandMessage(invocation_id=target, result_completion_id=1)
        world.command(asker, messages.ATTACH_INVOCATION_COMMAND, body, peer=target)
    return askers


def answers(world: StepWorld, askers: list[str]) -> int:
    """How many of them have got it."""
    rows = [world.store.get(Completion, number(world, asker), 1) for asker in askers]
    return sum(row is not None and row.entry_index == 2 for row in rows)


def left_of(world: StepWorld, owner: int) -> list[Row]:
    """Rows of a journal that is gone."""
    tables: tuple[type[Row], ...] = (Entry, Completion, SignalRow, Timer)
    return [row for table in tables for row in world.store.scan(table, owner)]
