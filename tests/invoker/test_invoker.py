"""Attempts from the accepted invocation to the stored result, with the real core and writer."""

from collections.abc import Generator
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from restated.core.effects import Done, StartAttempt
from restated.core.events import Kill, Pause, Resume
from restated.invoker.invoker import InvokerLimits
from restated.model.records import Failure, StateValue
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.invoker.handlers import NAP, Output, echo, silent, sleeper
from tests.invoker.world import ADD, GREET, InvokerWorld, deployment, run_world, seed
from tests.sim.clock import EPOCH_MS
from tests.sim.sdk import Context, Peer

# -- the way of an invocation


def test_an_echo_needs_no_read_of_the_store() -> None:
    """Design 3.9: the first attempt's journal comes with the effect."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(GREET, echo)
        world.store.snapshot = world.forbid  # type: ignore[method-assign]  # must not be called
        invocation = await world.invoke()
        await trio.sleep(1)
        assert world.outcome(invocation) == b'"Ada"'
        assert world.invoker.open_count == 0

    run_world(body)


def test_attempts_that_end_in_time_cost_no_sweeps() -> None:
    """A sweep looks at every attempt: far deadlines are seen by one a second, not by one each."""

    async def body(world: InvokerWorld) -> None:
        sweeps: list[float] = []
        sweep = world.invoker._sweep

        def counted(now_ms: float) -> None:
            sweeps.append(now_ms)
            sweep(now_ms)

        world.invoker._sweep = counted  # type: ignore[method-assign]
        world.sdk.serve(GREET, echo)
        for _ in range(20):
            await world.invoke()
            await trio.sleep(0.02)
        assert not sweeps
        await trio.sleep(1)
        assert len(sweeps) == 1

    run_world(body)


def test_bytes_that_have_arrived_are_read_before_a_deadline_counts() -> None:
    """The loop was held up: the deadline has passed, and what postpones it waits to be read."""

    async def body(world: InvokerWorld) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        world.sdk.script(NAP, silent)
        for _ in range(16):  # the order within a turn of the loop is random
            invocation = await world.invoke("nap")
            await trio.sleep(0.01)
            (attempt,) = world.invoker._open
            await trio.sleep_until(attempt.deadline_ms / 1000 - 0.003)
            clock.jump(0.05)
            peer = world.peers[-1]
            peer.respond()
            await trio.sleep(0.09)
            assert not peer.is_ended
            await world.writer.submit(Kill(invocation))

    run_world(body)


def test_a_live_handler_gets_its_completions_on_the_stream() -> None:
    """service-protocol.md 4.1: every new notification is forwarded, in journal order."""

    def outer(context: Context) -> Output:
        ran = yield from context.run(lambda: b"ran")
        yield from context.sleep(EPOCH_MS + 500)
        got = yield from context.call("Counter", "add", b"1", key="k")
        return ran + got.value.content

    def add(context: Context) -> Output:
        context.set_state("n", context.input)
        yield from ()
        return b"five"

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(GREET, outer)
        world.sdk.serve(ADD, add)
        invocation = await world.invoke()
        await trio.sleep(2)
        assert world.outcome(invocation) == b"ranfive"
        assert world.journal(invocation) == [
            messages.INPUT_COMMAND, messages.RUN_COMMAND, messages.RUN_COMPLETION,
            messages.SLEEP_COMMAND, messages.SLEEP_COMPLETION, messages.CALL_COMMAND,
            messages.CALL_INVOCATION_ID_COMPLETION, messages.CALL_COMPLETION,
            messages.OUTPUT_COMMAND,
        ]  # fmt: skip
        assert len(world.peers) == 2
        assert list(world.store.scan(StateValue)) == [StateValue("", "Counter", "k", "n", b"1")]

    run_world(body)


@pytest.mark.parametrize(("version", "acked"), [(6, False), (7, True)])
def test_a_run_is_stored_and_acknowledged(version: int, acked: bool) -> None:
    """service-protocol.md 3.6: v7 answers the flag with an ack."""

    def handler(context: Context) -> Output:
        return (yield from context.run(lambda: b"ran"))

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(GREET, handler)
        invocation = await world.invoke()
        await trio.sleep(1)
        assert world.outcome(invocation) == b"ran"
        assert world.row(invocation).protocol_version == version
        types = {message.type for message in world.peers[0].received}
        assert (messages.PROPOSE_RUN_COMPLETION_ACK in types) == acked
        assert (messages.RUN_COMPLETION in types) != acked

    run_world(body, InvokerLimits(protocol_version_max=7 if version == 7 else "auto"))


def test_an_idle_handler_is_suspended_and_resumed() -> None:
    """service-protocol.md 4.6: half-close after 100 ms, Suspension, a new attempt when due."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(NAP, sleeper(5))
        invocation = await world.invoke("nap")
        await trio.sleep(0.12)
        assert world.peers[0].is_ended
        assert world.row(invocation).status == "suspended"
        await trio.sleep(5)
        assert world.outcome(invocation) == b"awake"
        assert len(world.peers) == 2
        types = [message.type for message in world.peers[1].received]
        assert types == [
            messages.START, messages.INPUT_COMMAND, messages.SLEEP_COMMAND,
            messages.SLEEP_COMPLETION,
        ]  # fmt: skip

    run_world(body)


@pytest.mark.parametrize(
    "fields", [{"mode": "request_response"}, {"transport": "http1"}], ids=["manifest", "http1"]
)
def test_request_and_response_suspends_at_every_wait(fields: dict[str, Any]) -> None:
    """service-protocol.md 2.2; design 3.4: HTTP/1.1 is always driven that way."""

    async def body(world: InvokerWorld) -> None:
        world.register(deployment(**fields), revision=2)
        world.sdk.serve(GREET, sleeper(2))
        invocation = await world.invoke()
        await trio.sleep(0.1)
        assert world.row(invocation).status == "suspended"
        await trio.sleep(3)
        assert world.outcome(invocation) == b"awake"

    run_world(body)


def test_a_completion_that_crosses_the_suspension_resumes_at_once() -> None:
    """C03: the push was dropped behind the half-close; the core sees that it is there."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(NAP, sleeper(0.1))
        invocation = await world.invoke("nap")
        await trio.sleep(1)
        assert world.outcome(invocation) == b"awake"

    run_world(body)


def test_a_failed_attempt_is_retried_with_everything_it_sent() -> None:
    """C13; service-protocol.md 4.1: retry count and duration of Start."""
    tries: list[int] = []

    def script(peer: Peer) -> Generator[None, None, None]:
        context = Context(peer)
        tries.append(context.start.retry_count_since_last_stored_entry)
        run = pb.RunCommandMessage(result_completion_id=1)
        context.command(messages.RUN_COMMAND, run)
        if len(tries) < 3:
            peer.fail()
        else:
            output = pb.OutputCommandMessage(value=pb.Value(content=b"at last"))
            context.command(messages.OUTPUT_COMMAND, output)
            peer.message(messages.END, pb.EndMessage())
            peer.finish()
        yield from ()

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, script)
        invocation = await world.invoke()
        await trio.sleep(5)
        assert world.outcome(invocation) == b"at last"
        assert tries == [0, 1, 2]
        assert world.row(invocation).attempt == 3
        assert world.events(invocation)[0]["restate_doc_error_code"] == "RT0010"

    run_world(body)


def test_the_callers_of_an_unknown_service_back_off() -> None:
    """RT0018: the attempt fails, the command is not stored."""

    def handler(context: Context) -> Output:
        got = yield from context.call("Nope", "x", b"")
        return got.value.content

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(GREET, handler)
        invocation = await world.invoke()
        await trio.sleep(0.01)
        assert world.journal(invocation) == [messages.INPUT_COMMAND]
        assert world.events(invocation)[0]["error_message"] == (
            "cannot process command Command: Call (command index 1) because of a failed "
            "precondition: the service handler Nope/x was not found"
        )

    run_world(body)


# -- state


def add_state(world: InvokerWorld, *, count: int = 2, value: bytes = b"v") -> None:
    seed(
        world.store, *(StateValue("", "Counter", "k", f"n{index}", value) for index in range(count))
    )


def test_objects_get_their_state_with_start() -> None:
    """service-protocol.md 4.1."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(ADD, echo)
        add_state(world)
        await world.invoke("add", "Counter", key="k")
        await trio.sleep(1)
        start = Context(world.peers[0]).start
        assert (start.partial_state, start.key) == (False, "k")
        assert Context(world.peers[0]).state() == {"n0": b"v", "n1": b"v"}

    run_world(body)


def test_lazy_handlers_get_no_state() -> None:
    """service-protocol.md 4.1."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve("/invoke/Counter/lazy", echo)
        add_state(world)
        await world.invoke("lazy", "Counter", key="k")
        await trio.sleep(1)
        start = Context(world.peers[0]).start
        assert (start.partial_state, len(start.state_map)) == (True, 0)

    run_world(body)


def test_state_beyond_the_limit_is_left_to_lazy_reads() -> None:
    """Design 3.15: partial_state with an empty map; it never waits."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(ADD, echo)
        add_state(world, count=3, value=bytes(400))
        await world.invoke("add", "Counter", key="k")
        await trio.sleep(1)
        start = Context(world.peers[0]).start
        assert (start.partial_state, len(start.state_map)) == (True, 0)

    run_world(body, InvokerLimits(eager_state_bytes=1_000))


# -- operators


def test_a_kill_resets_the_stream() -> None:
    """state-machine.md 3: abort, nothing of the attempt counts any more."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        invocation = await world.invoke()
        await trio.sleep(1)
        await world.writer.submit(Kill(invocation))
        await trio.sleep(0.1)
        assert world.peers[0].is_aborted
        assert isinstance(world.outcome(invocation), Failure)
        assert world.invoker.open_count == 0

    run_world(body)


def test_a_pause_asks_the_handler_to_suspend() -> None:
    """state-machine.md 3: half-close, paused when it suspends, resumed by hand."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(GREET, sleeper(60))
        invocation = await world.invoke()
        await trio.sleep(1)
        assert await world.writer.submit(Pause(invocation)) == Done(is_final=False)
        await trio.sleep(0.1)
        assert world.peers[0].is_ended
        assert world.row(invocation).status == "paused"
        await world.writer.submit(Resume(invocation))
        await trio.sleep(61)
        assert world.outcome(invocation) == b"awake"

    run_world(body)


def test_a_paused_handler_that_does_not_react_is_aborted() -> None:
    """state-machine.md 3: paused after the abort timeout and the drain."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script("/invoke/Greeter/impatient", silent)
        invocation = await world.invoke("impatient")
        await world.writer.submit(Pause(invocation))
        await trio.sleep(0.3 + 5.1)
        assert world.row(invocation).status == "paused"
        assert world.events(invocation)[-1]["last_failure"]["restate_doc_error_code"] == "RT0001"

    run_world(body)


def test_a_resumed_invocation_has_one_attempt() -> None:
    """B3: the older exchange is reset; its late answer changes nothing."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        invocation = await world.invoke()
        await trio.sleep(0.1)
        row = world.row(invocation)
        world.invoker.start(StartAttempt(replace(row, attempt=row.attempt + 1)))
        world.peers[0].message(messages.END, pb.EndMessage())
        await trio.sleep(0.1)
        assert world.peers[0].is_aborted
        assert world.invoker.open_count == 1

    run_world(body)
