"""Work that is too large for one event goes on in pieces, and loses nothing between them."""

import pytest

from restated.core.effects import Settled
from restated.core.events import Attach, Kill, Purge, TimerFired
from restated.core.pieces import MESSAGES_MAX, PIECE_BYTES_MAX, REMOVED_BYTES_MAX, ROWS_MAX
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


def test_more_waiters_than_one_event_answers_all_get_the_outcome(world: StepWorld) -> None:
    """B2: equal bytes for everybody, also through the outbox, whatever the size of a piece."""
    target = world.invoke()
    value = b"v" * (PIECE_BYTES_MAX // 10)
    askers = [world.invoke() for _ in range(MESSAGES_MAX + 25)]
    for asker in askers:
        body = pb.AttachInvocationCommandMessage(invocation_id=target, result_completion_id=1)
        world.command(asker, messages.ATTACH_INVOCATION_COMMAND, body, peer=target)
    world.output(target, value)
    assert len(list(world.store.scan(OutboxMessages))) == 3
    world.advance(0)
    answered = [
        row.entry_index
        for asker in askers
        for row in world.store.scan(Completion, number(world, asker))
    ]
    assert answered == [2] * len(askers)


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


def left_of(world: StepWorld, owner: int) -> list[Row]:
    """Rows of a journal that is gone."""
    tables: tuple[type[Row], ...] = (Entry, Completion, SignalRow, Timer)
    return [row for table in tables for row in world.store.scan(table, owner)]
