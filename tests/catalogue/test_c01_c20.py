"""Catalogue C01-C20, resume, suspend and wake-up: what the tests of the rooms do not show."""

import random
from typing import Any

import pytest
import trio

from restated.core.effects import Ignored, Put
from restated.core.events import Kill, RestartAsNew, Resume, TimerFired
from restated.daemon import daemon
from restated.invoker.invoker import InvokerLimits
from restated.invoker.transport import TransportError
from restated.model.records import Invocation, Lock, StateValue, Timer
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.builders import invoke, object_target
from tests.core.world import StepWorld
from tests.engine.world import EngineWorld, run_engine
from tests.ingress.http import get
from tests.invoker.handlers import NAP, Output, silent, sleeper
from tests.invoker.world import ADD, GREET, InvokerWorld, run_world
from tests.sim.clock import EPOCH_MS
from tests.sim.sdk import Context, Peer
from tests.sim.world import SimWorld, When, run_sim


def two_steps(context: Context) -> Output:
    """Two runs; adds one to the state; tells what the steps gave and what was counted."""
    first = yield from context.run(lambda: b"a")
    second = yield from context.run(lambda: b"b")
    total = int(context.state().get("n", b"0")) + 1
    context.set_state("n", b"%d" % total)
    return first + second + b"%d" % total


def exchanges(world: SimWorld, invocation_id: str) -> list[Peer]:
    """Every exchange of an invocation, in order."""
    return [
        peer for peer in world.peers if peer.headers["x-restate-invocation-id"] == invocation_id
    ]


def test_c01_a_completion_while_suspended_invokes_at_once_and_the_lock_stays_held() -> None:
    """C01, K1: one transaction; the next in line does not get the key in between."""
    world = StepWorld()
    holder, waiting = world.invoke(object_target()), world.invoke(object_target())
    body = pb.SleepCommandMessage(wake_up_time=world.now_ms + 10, result_completion_id=1)
    world.command(holder, messages.SLEEP_COMMAND, body)
    world.suspend(holder, "c1")
    world.now_ms += 10
    world.apply(TimerFired(1, "sleep", 1))
    assert world.status(holder) == "invoked"
    assert world.started() == [(holder, 2)]
    assert [lock.holder for lock in world.store.scan(Lock)] == [world.row(holder).number]
    assert world.status(waiting) == "inboxed"


@pytest.mark.parametrize("due", ["sleep", "delay", "retry"])
def test_c04_what_is_due_before_anything_is_ready_is_not_dropped(due: str) -> None:
    """C04: the deadline passes while the process is down and the deployment does not answer."""

    async def body(world: SimWorld) -> None:
        if due == "retry":
            invocation = await world.invoke()  # nobody serves it yet
        elif due == "delay":
            invocation = await world.invoke(scheduled_for_ms=EPOCH_MS + 500)
        else:
            world.sdk.serve(NAP, sleeper(0.5))
            invocation = await world.invoke("nap")
        await trio.sleep(0.3 if due != "retry" else 0)
        opened, refusals = world.sdk.open, [1, 2]

        def not_ready(request: Any, content: Any, receiver: Any) -> Peer:
            if refusals:
                refusals.pop()
                receiver.on_failed(TransportError("connection refused", "RT0010"))
                return Peer(request, content, receiver, lambda _: None)
            return opened(request, content, receiver)

        world.sdk.open = not_ready  # type: ignore[method-assign, assignment]  # the network, coming up
        world.sdk.serve(GREET, sleeper(0.5))
        await world.crash(down_s=2)
        assert world.row(invocation).status in ("invoked", "scheduled", "suspended")
        await trio.sleep(3)
        assert world.outcome(invocation) == b"awake"
        assert refusals == []

    run_sim(body)


def test_c06_events_posted_while_the_writer_goes_idle_are_never_left_lying() -> None:
    """C06: 1,000 schedules of senders against a writer that runs out of work."""

    async def body(world: EngineWorld) -> None:
        draw = random.Random(6)
        answered: list[int] = []

        async def send(number: int, turns: int) -> None:
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            await world.writer.submit(invoke(f"inv_{number}"))
            answered.append(number)

        for schedule in range(1_000):
            with trio.move_on_after(1):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send, 2 * schedule, draw.randrange(8))
                    nursery.start_soon(send, 2 * schedule + 1, draw.randrange(8))
            assert len(answered) == 2 * schedule + 2, f"left lying in schedule {schedule}"

    run_engine(body)


def test_c08_places_freed_while_places_are_given_out_are_given_on() -> None:
    """C08: a connection that fails inside `open` frees its place in the middle of the hand-out."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        holders = [await world.invoke() for _ in range(2)]
        opened, failed = world.sdk.open, set[str]()

        def fails_first(request: Any, content: Any, receiver: Any) -> Peer:
            peer = Peer(request, content, receiver, lambda _: None)
            if peer.headers["x-restate-invocation-id"] in failed:
                return opened(request, content, receiver)
            failed.add(peer.headers["x-restate-invocation-id"])
            receiver.on_failed(TransportError("connection refused", "RT0010"))
            return peer

        world.sdk.open = fails_first  # type: ignore[method-assign, assignment]  # the network
        world.sdk.serve(GREET, sleeper(1))
        waiting = [await world.invoke() for _ in range(10)]
        for holder in holders:
            await world.writer.submit(Kill(holder))
        await trio.sleep(60)
        assert [world.row(one).status for one in waiting] == ["completed"] * 10
        assert (world.invoker.open_count, world.invoker.waiting_count) == (0, 0)

    run_world(body, InvokerLimits(attempts_max=2))


def test_c09_ticks_of_others_do_not_postpone_inactivity() -> None:
    """C09: sweeps for other attempts, their messages, commits."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(NAP, sleeper(60))
        world.sdk.script(GREET, silent)
        quiet = await world.invoke("nap")
        chatty = await world.invoke()
        for _ in range(11):
            await trio.sleep(0.01)
            await world.invoke("nap")  # each has a deadline of its own
            run = pb.ClearAllStateCommandMessage()
            world.peers[1].message(messages.CLEAR_ALL_STATE_COMMAND, run)
        await trio.sleep(0.01)
        assert world.row(quiet).status == "suspended"
        assert world.row(chatty).status == "invoked"

    run_world(body)


@pytest.mark.parametrize("operation", ["kill", "resume", "restart"])
def test_c10_a_retry_timer_that_was_read_before_fires_into_nothing(operation: str) -> None:
    """C10: its token is the attempt that failed; even a row that survived starts nothing."""
    world = StepWorld()
    found = world.invoke(object_target())
    if operation == "restart":
        world.output(found)
        world.apply(RestartAsNew(found, "inv_new", 99))
        world.fail("inv_new")
        world.apply(Kill("inv_new"))
    else:
        world.fail(found)
        world.apply(Kill(found) if operation == "kill" else Resume(found))
    [number] = [row.number for row in world.store.scan(Invocation)][-1:]
    stale = Timer(number, "retry", 1, world.now_ms)
    assert isinstance(world.apply(TimerFired(number, "retry", 1)), Ignored)
    attempts = [row.attempt for row in world.store.scan(Invocation)]
    world.store.apply([Put(stale)])  # what a defect would leave behind
    assert world.apply(TimerFired(number, "retry", 1)) == Ignored("stale retry")
    assert world.started() == []
    assert [row.attempt for row in world.store.scan(Invocation)] == attempts


@pytest.mark.parametrize("told_late_s", [0, 0.01])
def test_c16_recovery_leaves_alone_what_this_process_started(
    monkeypatch: pytest.MonkeyPatch, told_late_s: float
) -> None:
    """C16, B3: timers fire while recovery still reads its later pages; their commit may show
    before its effects are released, and recovery may be over by then.
    """
    monkeypatch.setattr(daemon, "RECOVERY_PAGE", 1)

    async def body(world: SimWorld) -> None:
        world.sdk.script(GREET, silent)
        running = [await world.invoke() for _ in range(30)]
        delayed = await world.invoke(scheduled_for_ms=EPOCH_MS + 100)
        world.told_late_s = told_late_s
        await world.crash(down_s=1)
        await trio.sleep(1)
        assert [len(exchanges(world, one)) for one in running] == [2] * 30
        assert [peer.is_aborted for peer in exchanges(world, delayed)] == [False]

    run_sim(body)


def test_c17_a_stale_list_of_open_invocations_runs_nothing_that_has_ended() -> None:
    """C17: what waits for room is read anew when there is room."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        first, second = [await world.invoke() for _ in range(2)]
        stale = world.store.open_invocations(0, 256)
        world.invoker.abort_all()
        world.restart_invoker()
        await world.writer.submit(Kill(second))
        before = len(world.peers)
        world.invoker = world.new_invoker(InvokerLimits(attempts_max=1))
        world.invoker.recover(stale)
        await world.writer.submit(Kill(first))
        await trio.sleep(0.1)
        started = [peer.headers["x-restate-invocation-id"] for peer in world.peers[before:]]
        assert started == [first]
        assert world.invoker.waiting_count == 0

    run_world(body)


@pytest.mark.parametrize("is_recovered", [False, True])
def test_c18_two_recoveries_of_one_execution_record_one_result(is_recovered: bool) -> None:
    """C18, B2: the stored result is the one that every caller gets."""

    async def body(world: SimWorld) -> None:
        executions: list[int] = []

        def script(peer: Peer) -> Any:
            executions.append(len(executions))
            value = pb.Value(content=b"%d" % executions[-1])
            while not peer.is_aborted and trio.current_time() < 1:
                yield
            peer.message(messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=value))
            yield
            peer.message(messages.END, pb.EndMessage())
            peer.finish()

        world.sdk.script(GREET, script)
        invocation = await world.invoke()
        rows = world.store.open_invocations(0, 256)
        await world.crash()
        client = await world.connect()
        await client.send(get(f"/restate/attach/{invocation}"))
        if not is_recovered:
            world.rooms.invoker._begun = {rows[0].number: rows[0].attempt}
        world.rooms.invoker.recover(rows)
        await trio.sleep(1)
        for peer in (*world.peers, *world.peers):
            peer.wake()
        answer = await client.answer()
        await trio.sleep(1)
        assert answer.body == world.outcome(invocation)
        assert world.journal(invocation).count(messages.OUTPUT_COMMAND) == 1
        assert len(executions) == (3 if is_recovered else 2)

    run_sim(body)


@pytest.mark.parametrize("when", ["before", "behind"])
def test_c19_a_crash_between_two_steps_is_continued_and_blocks_no_queue(when: When) -> None:
    """C19: at every commit of the execution; one place for attempts, one more call of the key."""

    def crash_at(commit: int) -> int:
        crashes: list[int] = []

        async def body(world: SimWorld) -> None:
            world.sdk.serve(ADD, two_steps)
            world.crash_at(commit, when)
            first = await world.invoke("add", "Counter", "k", idempotency_key="1")
            second = await world.invoke("add", "Counter", "k", idempotency_key="2")
            await trio.sleep(5)
            assert world.outcome(first) == b"ab1"
            assert world.outcome(second) == b"ab2"
            assert world.journal(first).count(messages.RUN_COMPLETION) == 2
            assert list(world.store.scan(Lock)) == []
            crashes.append(world.crashes)

        run_sim(body, InvokerLimits(attempts_max=1))
        return crashes[0]

    assert [crash_at(commit) for commit in range(1, 8)] == [1] * 7


def test_c20_restarts_while_a_queue_drains_lose_nobody() -> None:
    """C20: then new ones; each is executed once, in order."""

    def add(context: Context) -> Output:
        total = int(context.state().get("n", b"0")) + 1
        yield from context.sleep(int(context.input))
        context.set_state("n", b"%d" % total)
        return b"%d" % total

    async def body(world: SimWorld) -> None:
        world.sdk.serve(ADD, add)
        sent = [await send(world, number) for number in range(12)]
        for _ in range(10):
            await trio.sleep(0.07)
            await world.crash()
        sent += [await send(world, number) for number in range(12, 16)]
        await trio.sleep(10)
        assert [world.outcome(one) for one in sent] == [b"%d" % n for n in range(1, 17)]
        assert [row.value for row in world.store.scan(StateValue)] == [b"16"]
        assert list(world.store.scan(Timer)) == []

    async def send(world: SimWorld, number: int) -> str:
        wake_up = b"%d" % (EPOCH_MS + 100 * number)
        return await world.invoke("add", "Counter", "k", payload=wake_up)

    run_sim(body, InvokerLimits(attempts_max=1))
