"""Stored deadlines become events: never early, never lost, never in a busy loop."""

import trio

from restated.core.effects import Put
from restated.core.events import AttemptEnded, Cancel
from restated.model.records import Timer
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.builders import DAY_MS, command, invoke
from tests.engine.world import EngineWorld, run_engine


async def send_in(world: EngineWorld, invocation_id: str, delay_ms: int) -> None:
    """A delayed send."""
    at_ms = world.clock.wall_ms() + delay_ms
    await world.writer.submit(invoke(invocation_id, scheduled_for_ms=at_ms))


def test_delayed_invocation_starts_on_time() -> None:
    """T1, T2."""

    async def body(world: EngineWorld) -> None:
        await send_in(world, "inv_a", 500)
        await trio.sleep(0.499)
        assert world.status("inv_a") == "scheduled"
        await trio.sleep(0.002)
        assert world.status("inv_a") == "invoked"

    run_engine(body)


def test_earlier_deadline_stored_later_fires_first() -> None:
    """C07: the sleeping task is woken."""

    async def body(world: EngineWorld) -> None:
        await send_in(world, "inv_late", 100_000)
        await trio.sleep(1)
        await send_in(world, "inv_soon", 100)
        await trio.sleep(0.2)
        assert world.status("inv_soon") == "invoked"
        assert world.status("inv_late") == "scheduled"

    run_engine(body)


def test_more_due_timers_than_one_turn_all_fire() -> None:
    """T3, C61: equal deadlines of different owners."""

    async def body(world: EngineWorld) -> None:
        for index in range(1_000):
            world.writer.post(invoke(f"inv_{index}", scheduled_for_ms=world.clock.wall_ms() + 100))
        await trio.sleep(0.2)
        assert {world.status(f"inv_{index}") for index in range(1_000)} == {"invoked"}
        assert list(world.store.scan(Timer)) == []

    run_engine(body)


def test_wall_clock_stepping_forward_fires_within_a_second_and_back_never_early() -> None:
    """T4."""

    async def body(world: EngineWorld) -> None:
        await send_in(world, "inv_a", 3_600_000)
        world.clock.step_ms = 3_600_000
        await trio.sleep(1.1)
        assert world.status("inv_a") == "invoked"
        await send_in(world, "inv_b", 5_000)
        world.clock.step_ms -= 60_000
        await trio.sleep(10)
        assert world.status("inv_b") == "scheduled"
        await trio.sleep(56)
        assert world.status("inv_b") == "invoked"

    run_engine(body)


def test_timer_of_something_gone_fires_into_nothing() -> None:
    """C10: the row goes, the loop goes on."""

    async def body(world: EngineWorld) -> None:
        world.store.apply([Put(Timer(77, "sleep", 1, world.clock.wall_ms() + 10))])
        await send_in(world, "inv_a", 20)
        await trio.sleep(1)
        assert list(world.store.scan(Timer)) == []
        assert world.status("inv_a") == "invoked"

    run_engine(body)


def test_cancelled_delay_leaves_no_deadline() -> None:
    """C63."""

    async def body(world: EngineWorld) -> None:
        await send_in(world, "inv_a", 100)
        await world.writer.submit(Cancel("inv_a"))
        assert world.store.next_deadline_ms() is None
        await trio.sleep(1)
        assert world.status("inv_a") is None

    run_engine(body)


def test_expired_results_go_within_one_clean_up_interval() -> None:
    """I4; ingress.md 11."""

    async def body(world: EngineWorld) -> None:
        await world.writer.submit(invoke("inv_a"))
        output = pb.OutputCommandMessage(value=pb.Value(content=b"1"))
        world.writer.post(command(1, 1, messages.OUTPUT_COMMAND, output))
        await world.writer.submit(AttemptEnded(1, 1))
        await trio.sleep(DAY_MS / 1000 - 5)
        assert world.status("inv_a") == "completed"
        await trio.sleep(7)
        assert world.status("inv_a") is None

    run_engine(body)
