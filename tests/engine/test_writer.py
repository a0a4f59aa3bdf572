"""The one writer: order, isolation, and nothing told before it is durable."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from restated.core.effects import Accepted, Reply, StartAttempt, Write
from restated.core.events import Cancel, Event
from restated.engine.writer import (
    BATCH_BYTES_MAX,
    BATCH_EVENTS_MAX,
    LINGER_EVENTS_MAX,
    LINGER_S,
    QUEUE_MAX,
)
from restated.model.errors import InternalError, OverloadedError
from restated.model.records import Counter
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.messages import SET_STATE_COMMAND as SET_STATE
from restated.store.store import Committed, StoreFailedError
from tests.builders import command, invoke, object_target
from tests.engine.world import EngineWorld, run_engine

SET_X = pb.SetStateCommandMessage(key=b"x", value=pb.Value(content=b"1"))


class Unheard(Event):
    """An event that no table knows: stands for a defect in the core."""

    number: int = 1


def test_reply_comes_after_the_commit_that_covers_it() -> None:
    """A1."""

    async def body(world: EngineWorld) -> None:
        reply = await world.writer.submit(invoke("inv_a"))
        assert reply == Accepted("inv_a", is_new=True)
        assert world.store.by_id("inv_a") is not None
        assert isinstance(world.effects[0], StartAttempt)

    run_engine(body)


def test_nothing_is_told_when_the_commit_fails() -> None:
    """A3: the store's failure leaves the writer; no reply, no effect."""

    async def body(world: EngineWorld) -> None:
        world.store.fail_next_commit = True
        await world.writer.submit(invoke("inv_a"))
        pytest.fail("a reply without a commit")

    with pytest.RaisesGroup(StoreFailedError, flatten_subgroups=True):
        run_engine(body)


def test_events_posted_in_one_turn_share_a_commit_and_keep_their_order() -> None:
    """Group commit; style.md 8."""

    async def body(world: EngineWorld) -> None:
        order: list[Reply | None] = []
        tickets = [world.writer.post(invoke(f"inv_{index}"), order.append) for index in range(100)]
        await tickets[-1].wait()
        assert world.writer.batches == 1
        assert order == [Accepted(f"inv_{index}", is_new=True) for index in range(100)]

    run_engine(body)


@pytest.mark.parametrize(("turn_s", "batches"), [(0.0, {1}), (0.001, {3, 4, 5})])
def test_events_that_come_turn_by_turn_share_a_commit_for_a_while(
    turn_s: float, batches: set[int]
) -> None:
    """Callers who all connect at once; the first does not wait for the last of very many."""

    async def body(world: EngineWorld) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        for index in range(20):
            ticket = world.writer.post(invoke(f"inv_{index}"))
            clock.jump(turn_s)
            await trio.lowlevel.checkpoint()
        await ticket.wait()
        assert world.writer.batches in batches

    run_engine(body)


def test_batch_is_bounded_by_events_and_bytes() -> None:
    """design.md 3.15: one larger event is a batch of its own."""

    async def body(world: EngineWorld) -> None:
        for index in range(BATCH_EVENTS_MAX + 1):
            ticket = world.writer.post(invoke(f"inv_{index}"))
        await ticket.wait()
        assert world.writer.batches == 2
        large = b"x" * (BATCH_BYTES_MAX + 1)
        for index in range(3):
            ticket = world.writer.post(invoke(f"inv_large_{index}", payload=large))
        await ticket.wait()
        assert world.writer.batches == 5

    run_engine(body)


def test_defect_drops_its_event_and_nothing_else() -> None:
    """style.md 7: per-event isolation."""

    async def body(world: EngineWorld) -> None:
        before, defect, after = (
            world.writer.post(event) for event in (invoke("inv_a"), Unheard(), invoke("inv_b"))
        )
        assert await after.reply() == Accepted("inv_b", is_new=True)
        assert await before.reply() == Accepted("inv_a", is_new=True)
        with pytest.raises(InternalError):
            await defect.reply()
        assert world.writer.defects == 1
        counter = world.store.get(Counter, "invocation")
        assert counter is not None
        assert counter.value == 2

    run_engine(body)


def queued_call(invocation_id: str) -> Event:
    """A call that waits behind the holder of its key."""
    return invoke(invocation_id, object_target(), wants_result=True)


def test_call_behind_the_holder_of_its_key_shares_the_next_commit() -> None:
    """A1: it is told its end only, so nobody waits for its own commit."""

    async def body(world: EngineWorld) -> None:
        await world.writer.submit(queued_call("inv_holder"))
        queued = world.writer.post(queued_call("inv_queued"))
        await trio.testing.wait_all_tasks_blocked()
        was_settled = queued.settled
        await world.writer.submit(invoke("inv_other"))
        assert (was_settled, queued.settled) == (False, True)
        assert world.writer.batches == 2

    run_engine(body)


def test_nothing_lingers_longer_than_its_bound() -> None:
    """A call that nothing follows is durable 4 ms later."""

    async def body(world: EngineWorld) -> None:
        await world.writer.submit(queued_call("inv_holder"))
        started = trio.current_time()
        await world.writer.submit(queued_call("inv_queued"))
        assert trio.current_time() - started == pytest.approx(LINGER_S)
        assert world.status("inv_queued") == "inboxed"

    run_engine(body)


def test_many_calls_that_nobody_waits_for_do_not_linger() -> None:
    """A full batch gains little by another event."""

    async def body(world: EngineWorld) -> None:
        await world.writer.submit(queued_call("inv_holder"))
        started = trio.current_time()
        for index in range(LINGER_EVENTS_MAX):
            ticket = world.writer.post(queued_call(f"inv_{index}"))
        await ticket.wait()
        assert trio.current_time() == started

    run_engine(body)


def test_large_calls_that_nobody_waits_for_do_not_linger() -> None:
    """M3: a batch carries a bounded number of bytes, whoever waits for it."""

    async def body(world: EngineWorld) -> None:
        await world.writer.submit(queued_call("inv_holder"))
        started = trio.current_time()
        event = replace(queued_call("inv_queued"), payload=bytes(BATCH_BYTES_MAX))
        await world.writer.submit(event)
        assert trio.current_time() == started

    run_engine(body)


@pytest.mark.parametrize(
    "event",
    [
        invoke("inv_send", object_target()),
        invoke("inv_other_service"),
        command(1, 1, SET_STATE, SET_X, ack=True),
        command(1, 99, SET_STATE, SET_X),
        Cancel("inv_unknown"),
    ],
    ids=["send", "start", "command with ack", "stale command", "request of an operator"],
)
def test_what_somebody_waits_for_is_committed_at_once(event: Event) -> None:
    """A send is answered, an attempt begins, an ack leaves, a stale attempt is told."""

    async def body(world: EngineWorld) -> None:
        await world.writer.submit(queued_call("inv_holder"))
        started = trio.current_time()
        await world.writer.submit(event)
        assert trio.current_time() == started

    run_engine(body)


def test_command_without_an_ack_lingers() -> None:
    """The service goes on without it; what comes next shares its commit."""

    async def body(world: EngineWorld) -> None:
        await world.writer.submit(queued_call("inv_holder"))
        ticket = world.writer.post(command(1, 1, SET_STATE, SET_X))
        await trio.testing.wait_all_tasks_blocked()
        was_settled = ticket.settled
        await world.writer.drain()
        assert (was_settled, ticket.settled) == (False, True)

    run_engine(body)


def test_full_queue_refuses_after_five_seconds() -> None:
    """design.md 3.8: back-pressure with an end."""

    async def body() -> None:
        world = EngineWorld()  # its writer does not run
        for index in range(QUEUE_MAX):
            world.writer.post(invoke(f"inv_{index}"))
        started = trio.current_time()
        with pytest.raises(OverloadedError, match="4096 events"):
            await world.writer.submit(invoke("inv_more"))
        assert trio.current_time() - started == 5
        assert world.writer.backlog == QUEUE_MAX

    trio.run(body, clock=trio.testing.MockClock(autojump_threshold=0))


def test_waiting_for_room_ends_when_there_is_room() -> None:
    """design.md 3.8."""

    async def body(world: EngineWorld) -> None:
        for index in range(QUEUE_MAX):
            world.writer.post(invoke(f"inv_{index}"))
        assert await world.writer.submit(invoke("inv_more")) == Accepted("inv_more", is_new=True)

    run_engine(body)


def test_drain_returns_when_everything_is_durable() -> None:
    """design.md 3.10: the stop waits for it."""

    async def body(world: EngineWorld) -> None:
        for index in range(1_000):
            world.writer.post(invoke(f"inv_{index}"))
        await world.writer.drain()
        assert world.writer.backlog == 0
        assert world.store.by_id("inv_999") is not None

    run_engine(body)


def test_store_that_fails_while_an_event_is_applied_stops_the_writer() -> None:
    """A3: a failed store is not a defect of one event."""

    async def body(world: EngineWorld) -> None:
        world.store.fail_reads()
        await world.writer.submit(invoke("inv_a"))
        pytest.fail("a reply of a failed store")

    with pytest.raises(ExceptionGroup) as raised:
        run_engine(body)
    assert raised.value.split(StoreFailedError)[1] is None


def test_replies_and_effects_are_released_event_by_event() -> None:
    """C48: registered in the callback of its reply, one sees ends behind it, none before."""

    async def body(world: EngineWorld) -> None:
        seen_at_reply: list[int] = []
        for name in ("inv_a", "inv_b"):
            ticket = world.writer.post(
                invoke(name), lambda _: seen_at_reply.append(len(world.effects))
            )
        await ticket.wait()
        assert seen_at_reply == [0, 1]
        assert len(world.effects) == 2
        assert world.writer.batches == 1

    run_engine(body)


def test_drain_waits_for_a_commit_in_flight_beside_its_sender() -> None:
    """design.md 3.10: the queue is empty by then; both are woken."""

    async def body(world: EngineWorld) -> None:
        replies: list[Reply] = []

        async def send() -> None:
            replies.append(await world.writer.submit(invoke("inv_a")))

        commit = world.store.commit
        gate = trio.Event()

        async def slow_commit(writes: Sequence[Write]) -> Committed:
            await gate.wait()
            return await commit(writes)

        world.store.commit = slow_commit  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(world.writer.drain)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 2
            gate.set()
        assert replies == [Accepted("inv_a", is_new=True)]

    run_engine(body)
