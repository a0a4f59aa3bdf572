"""Catalogue C58-C68, timers and clocks: what the tests of the rooms do not show."""

from typing import Any

import pytest
import trio
import trio.testing

from restated.core.events import (
    AttemptEnded,
)
from restated.invoker.transport import TransportError
from restated.model.ids import invocation_id_for
from restated.model.records import (
    Entry,
    Timer,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.builders import command, invoke
from tests.engine.world import EngineWorld, run_engine
from tests.ingress.http import post
from tests.ingress.world import IngressWorld, run_ingress
from tests.invoker.handlers import NAP, Output, echo, silent, sleeper
from tests.invoker.world import GREET
from tests.sim.clock import EPOCH_MS, SeededRng
from tests.sim.sdk import Context, Peer, Wait
from tests.sim.world import SimWorld, run_sim

INT64 = 2**63 - 1
OUTPUT = pb.OutputCommandMessage(value=pb.Value(content=b"1"))


@pytest.mark.parametrize("at_ms", [0, 1, EPOCH_MS - 1])
def test_c59_a_deadline_in_the_past_is_due_at_once(at_ms: int) -> None:
    """C59: for a sleep and for a delay; no remaining time underflows into for ever."""

    def handler(context: Context) -> Output:
        yield from context.sleep(at_ms)
        return b"awake"

    async def body(world: SimWorld) -> None:
        world.sdk.serve(GREET, handler)
        sleeping = await world.invoke()
        delayed = await world.invoke(scheduled_for_ms=at_ms)
        await trio.sleep(0.1)
        assert [world.outcome(one) for one in (sleeping, delayed)] == [b"awake"] * 2

    run_sim(body)


def test_c60_a_retention_without_end_does_not_stop_the_cleaner() -> None:
    """C60: its sum does not overflow, its journal goes on time, and so does everybody else."""

    async def body(world: EngineWorld) -> None:
        endless: dict[str, Any] = {"completion_retention_ms": INT64, "journal_retention_ms": 1_000}
        await world.writer.submit(invoke("inv_endless", **endless))
        brief: dict[str, Any] = {"completion_retention_ms": 2_000, "journal_retention_ms": 2_000}
        await world.writer.submit(invoke("inv_brief", **brief))
        for number in (1, 2):
            world.writer.post(command(number, 1, messages.OUTPUT_COMMAND, OUTPUT))
            await world.writer.submit(AttemptEnded(number, 1))
        row = world.store.by_id("inv_endless")
        assert row is not None
        assert row.expires_at_ms == INT64
        await trio.sleep(10)
        assert (world.status("inv_endless"), world.status("inv_brief")) == ("completed", None)
        assert list(world.store.scan(Entry)) == []

    run_engine(body)


def test_c62_a_clock_set_back_while_the_process_is_down_makes_nothing_early() -> None:
    """C62, T1, T4: recovery reads the stored deadline and the clock as it is now."""

    async def body(world: SimWorld) -> None:
        world.sdk.serve(GREET, echo)
        delayed = await world.invoke(scheduled_for_ms=EPOCH_MS + 5_000)
        await trio.sleep(1)
        world.clock.step_ms = -60_000
        await world.crash(down_s=10)
        await trio.sleep(53.9)
        assert world.row(delayed).status == "scheduled"
        await trio.sleep(1.2)
        assert world.row(delayed).status == "completed"

    run_sim(body)


def test_c63_recovery_makes_no_second_timer_of_a_deadline_that_did_not_move() -> None:
    """C63, T3: a sleep is replayed by each attempt, its deadline is stored once and fires once."""

    async def body(world: SimWorld) -> None:
        world.sdk.serve(GREET, sleeper(10))
        invocation_id = await world.invoke()
        await trio.sleep(0.1)
        timers = list(world.store.scan(Timer))
        for _ in range(3):
            await world.crash(down_s=1)
            world.peers[-1].fail()
            await trio.sleep(0.5)
            assert list(world.store.scan(Timer)) == timers
        await trio.sleep(20)
        assert world.outcome(invocation_id) == b"awake"
        assert world.journal(invocation_id).count(messages.SLEEP_COMPLETION) == 1
        assert timers == [Timer(1, "sleep", 1, EPOCH_MS + 10_000)]

    run_sim(body)


@pytest.mark.parametrize("is_reached", [True, False])
def test_c64_a_retry_keeps_its_time_over_a_restart(is_reached: bool) -> None:
    """C64: after a failure of the handler, and of the connection; neither early nor forgotten."""

    async def body(world: SimWorld) -> None:
        opened = world.sdk.open

        def refuses(request: Any, content: Any, receiver: Any) -> Peer:
            peer = opened(request, content, receiver)
            receiver.on_failed(TransportError("connection refused", "RT0010"))
            return peer

        if is_reached:
            world.sdk.script(GREET, broken)
        else:
            world.sdk.open = refuses  # type: ignore[method-assign, assignment]  # the network
        invocation_id = await world.invoke()
        await trio.sleep(0.01)
        at_ms = world.row(invocation_id).next_retry_at_ms
        assert at_ms is not None
        await world.crash()
        assert world.row(invocation_id).next_retry_at_ms == at_ms
        await trio.sleep((at_ms - world.clock.wall_ms() - 1) / 1_000)
        assert len(world.peers) == 1
        await trio.sleep(0.002)
        assert len(world.peers) == 2
        assert world.row(invocation_id).policy_attempts == 2

    run_sim(body)


def broken(peer: Peer) -> Wait:
    """Fails at once."""
    peer.fail()
    yield


def test_c65_the_time_of_creation_is_taken_once() -> None:
    """C65: neither recovery nor a retry nor the end moves it."""

    async def body(world: SimWorld) -> None:
        world.sdk.script(NAP, broken)
        await trio.sleep(0.5)
        invocation_id = await world.invoke("nap")
        world.sdk.serve(NAP, sleeper(8))
        seen = [world.row(invocation_id).created_at_ms]
        for _ in range(3):
            await world.crash(down_s=1)
            seen.append(world.row(invocation_id).created_at_ms)
        await trio.sleep(20)
        assert world.row(invocation_id).status == "completed"
        assert {*seen, world.row(invocation_id).created_at_ms} == {EPOCH_MS + 500}

    run_sim(body)


@pytest.mark.parametrize(
    ("step_ms", "duration_ms"),
    [(0, 5_000), (3_600_000, 3_605_000), (-1, 4_999), (-3_600_000, 0)],
)
def test_c66_the_duration_since_the_last_entry_survives_restart_and_clock_step(
    step_ms: int, duration_ms: int
) -> None:
    """C66: as the wall clock has it, and never negative."""

    async def body(world: SimWorld) -> None:
        world.sdk.script(GREET, silent)
        await world.invoke()
        await trio.sleep(3)
        world.clock.step_ms = step_ms
        await world.crash(down_s=2)
        await trio.sleep(0.1)
        assert Context(world.peers[0]).start.duration_since_last_stored_entry == 0
        assert Context(world.peers[1]).start.duration_since_last_stored_entry == duration_ms

    run_sim(body)


def test_c67_what_happens_in_one_millisecond_has_ids_of_its_own() -> None:
    """C67: the time in an id only orders; chance tells them apart."""
    rng = SeededRng()
    drawn = {
        invocation_id_for(
            service="S", handler="h", handler_type="shared", key=None, scope="",
            idempotency_key=None, now_ms=EPOCH_MS, entropy=rng.bytes(12),
        )
        for _ in range(10_000)
    }  # fmt: skip
    assert len(drawn) == 10_000

    async def body(world: IngressWorld) -> None:
        answers = [await world.ask(post("/Svc/hang/send")) for _ in range(100)]
        assert len({answer.headers["x-restate-id"] for answer in answers}) == 100
        assert {row.created_at_ms for row in world.started} == {EPOCH_MS}

    run_ingress(body)
