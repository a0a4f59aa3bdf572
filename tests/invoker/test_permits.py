"""Places, recovery and the choice of a deployment, with the real core and writer."""

from collections.abc import Generator
from typing import Any

import trio
from msgspec.structs import replace

from restated.core.effects import PushNotification, StartAttempt
from restated.core.events import Kill, Pause, Signal
from restated.invoker.invoker import InvokerLimits, LiveAttempt
from restated.model.records import Completion, Entry
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.invoker.handlers import NAP, caller_of, echo, silent, sleeper
from tests.invoker.world import GREET, InvokerWorld, deployment, run_world, seed
from tests.sim.clock import EPOCH_MS
from tests.sim.sdk import Context, Peer

# -- permits


def test_attempts_beyond_the_limit_wait_for_a_place() -> None:
    """Design 3.15, C25: a place that becomes free is given on, in order."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        invocations = [await world.invoke() for _ in range(4)]
        await trio.sleep(0.1)
        assert (world.invoker.open_count, world.invoker.waiting_count) == (2, 2)
        assert [live.in_flight for live in world.invoker.live()] == [True, True, False, False]
        await world.writer.submit(Kill(invocations[2]))
        await world.writer.submit(Kill(invocations[0]))
        await trio.sleep(0.1)
        assert (world.invoker.open_count, world.invoker.waiting_count) == (2, 0)
        assert {peer.headers["x-restate-invocation-id"] for peer in world.peers} == {
            invocations[0], invocations[1], invocations[3],
        }  # fmt: skip

    run_world(body, InvokerLimits(attempts_max=2))


def test_a_waiting_attempt_replays_what_came_meanwhile() -> None:
    """Design 3.9: pushes before the first snapshot are dropped, the snapshot contains them."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        first, second = await world.invoke(), await world.invoke()
        await world.writer.submit(Signal(second, "s17", b"x"))
        await world.writer.submit(Kill(first))
        await trio.sleep(0.1)
        await world.writer.submit(Signal(second, "s18", b"y"))
        await trio.sleep(0.1)
        received = [message.type for message in world.peers[1].received]
        assert received == [
            messages.START, messages.INPUT_COMMAND, messages.SIGNAL_NOTIFICATION,
            messages.SIGNAL_NOTIFICATION,
        ]  # fmt: skip
        assert Context(world.peers[1]).start.known_entries == 2

    run_world(body, InvokerLimits(attempts_max=1))


def test_a_waiting_attempt_is_paused_at_once() -> None:
    """state-machine.md 3: better than the reference, which forgets the request."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        await world.invoke()
        second = await world.invoke()
        await world.writer.submit(Pause(second))
        await trio.sleep(0.1)
        assert world.row(second).status == "paused"
        assert world.invoker.waiting_count == 0

    run_world(body, InvokerLimits(attempts_max=1))


def test_callers_that_hold_all_places_make_room_for_their_callees() -> None:
    """C83: nobody waits for the inactivity timeout, a minute."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(GREET, caller_of("impatient"))
        world.sdk.serve("/invoke/Greeter/impatient", echo)
        callers = [await world.invoke() for _ in range(8)]
        await trio.sleep(2)
        assert {world.row(one).status for one in callers} == {"completed"}

    run_world(body, InvokerLimits(attempts_max=2))


def test_as_many_make_room_as_wait_and_those_first_that_were_silent_longest() -> None:
    """A suspension costs a replay: nobody suspends for nothing."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve("/invoke/Counter/read", sleeper(600))
        world.sdk.serve(GREET, echo)
        sleepers = []
        for key in ("a", "b", "c"):
            sleepers.append(await world.invoke("read", "Counter", key))
            await trio.sleep(0.2)
        assert [world.row(one).status for one in sleepers] == ["invoked"] * 3
        quick = await world.invoke()
        await trio.sleep(0.05)
        assert world.row(quick).status == "invoked"
        await trio.sleep(2)
        assert world.row(quick).status == "completed"
        assert [world.row(one).status for one in sleepers] == ["suspended", "invoked", "invoked"]

    run_world(body, InvokerLimits(attempts_max=3))


def test_who_executes_a_run_keeps_its_place() -> None:
    """It would have to replay after each run, and it frees its place by itself."""

    async def body(world: InvokerWorld) -> None:
        def busy(peer: Peer) -> Generator[None, None, None]:
            peer.respond()
            run = pb.RunCommandMessage(result_completion_id=1)
            peer.message(messages.RUN_COMMAND, run)
            while True:
                yield

        world.sdk.script(GREET, busy)
        await world.invoke()
        await world.invoke()
        await trio.sleep(5)
        assert [peer.is_ended for peer in world.peers] == [False]

    run_world(body, InvokerLimits(attempts_max=1))


def test_while_places_become_free_only_the_long_silent_make_room() -> None:
    """What a service computes outside a run is computed again after a suspension."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        await world.invoke()
        asked_after = 0
        calls = [await world.invoke() for _ in range(30)]
        while not world.peers[0].is_ended:
            await trio.sleep(0.05)
            await world.writer.submit(Kill(calls[asked_after]))
            asked_after += 1
        assert asked_after in range(18, 25)  # a second

    run_world(body, InvokerLimits(attempts_max=2))


def test_nobody_is_asked_again_before_the_first_could_answer() -> None:
    """A service that takes its time costs one more suspension a second, not all."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        for _ in range(4):
            await world.invoke()
        asked = []
        for seconds in (0.3, 0.6, 0.6):
            await trio.sleep(seconds)
            asked.append(sum(peer.is_ended for peer in world.peers))
        assert asked == [1, 1, 2]

    run_world(body, InvokerLimits(attempts_max=3))


def test_replays_in_flight_are_bounded_by_the_payload_pool() -> None:
    """Design 3.15: who exceeds the pool waits until a replay is done."""

    async def body(world: InvokerWorld) -> None:
        bodies: list[Any] = []
        opened = world.sdk.open

        def hold_body(request: Any, body: Any, receiver: Any) -> Peer:
            bodies.append(body)
            return opened(request, iter(()), receiver)

        world.sdk.open = hold_body  # type: ignore[method-assign]  # a window that does not open
        world.sdk.script(GREET, lambda _: iter(()))  # type: ignore[arg-type, return-value]
        for _ in range(3):
            await world.invoke(payload=bytes(600))
        await trio.sleep(0.1)
        assert (world.invoker.open_count, world.invoker.waiting_count) == (2, 1)
        list(bodies[0])
        assert (world.invoker.open_count, world.invoker.waiting_count) == (3, 0)
        list(bodies[1])
        list(bodies[2])
        assert world.invoker.held_bytes == 0

    run_world(body, InvokerLimits(payload_pool_bytes=1_000))


# -- recovery, and stores that disagree


def test_recovery_continues_with_the_stored_attempt() -> None:
    """C16, C19; design 3.9: the number is still a valid fence, counters stay."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(GREET, sleeper(2))
        invocation = await world.invoke()
        await trio.sleep(0.1)
        world.invoker.abort_all()
        assert world.invoker.open_count == 0
        world.restart_invoker()
        world.invoker.recover(world.store.open_invocations(0, 256))
        await trio.sleep(3)
        assert world.outcome(invocation) == b"awake"
        assert world.row(invocation).attempt == 1
        assert len(world.peers) == 2

    run_world(body)


def test_recovery_leaves_those_that_back_off_to_their_timer() -> None:
    """C62, C64: never before its time, and only once."""

    async def body(world: InvokerWorld) -> None:
        await world.invoke()  # nobody serves it: 404, back-off of 50 ms and more
        await trio.sleep(0.01)
        world.invoker.abort_all()
        world.restart_invoker()
        world.invoker.recover(world.store.open_invocations(0, 256))
        assert world.invoker.open_count == 0
        await trio.sleep(0.1)
        assert len(world.peers) == 2

    run_world(body)


def test_a_stored_output_is_not_replayed() -> None:
    """C12: only the End was lost."""

    def script(peer: Peer) -> Generator[None, None, None]:
        value = pb.Value(content=b"done")
        peer.message(messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=value))
        while True:
            yield

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, script)
        invocation = await world.invoke()
        await trio.sleep(0.1)
        world.invoker.abort_all()
        world.restart_invoker()
        world.invoker.recover(world.store.open_invocations(0, 256))
        await trio.sleep(0.1)
        assert world.outcome(invocation) == b"done"
        assert len(world.peers) == 1

    run_world(body)


def test_a_long_journal_is_read_in_pages() -> None:
    """Design 3.9: pages of 256 entries, each in a snapshot of its own."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        invocation = await world.invoke()
        await trio.sleep(0.1)
        row = world.row(invocation)
        entries = [Entry(row.number, index, messages.CLEAR_ALL_STATE_COMMAND, b"", 0)
                   for index in range(1, 1_000)]  # fmt: skip
        grown = replace(row, journal_length=1_000, command_count=1_000, attempt=2)
        seed(world.store, grown, *entries)
        world.invoker.start(StartAttempt(grown))
        await trio.sleep(0.1)
        assert len(world.peers[1].received) == 1_001
        assert world.invoker.held_bytes == 0

    run_world(body)


def test_a_journal_that_is_too_short_is_not_run() -> None:
    """C14: the attempt gives up, the core starts another one."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        invocation = await world.invoke()
        await trio.sleep(0.1)
        row = world.row(invocation)
        world.invoker.start(StartAttempt(replace(row, journal_length=2)))
        await trio.sleep(0.1)
        assert world.row(invocation).attempt == 2
        assert Context(world.peers[2]).start.known_entries == 1

    run_world(body)


def test_a_push_for_an_older_attempt_is_dropped() -> None:
    """B3: the newer one replays it."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        invocation = await world.invoke()
        await trio.sleep(0.1)
        number = world.row(invocation).number
        world.invoker.push(PushNotification(number, 7, 1, messages.SLEEP_COMPLETION, b""))
        world.invoker.push(PushNotification(99, 1, 1, messages.SLEEP_COMPLETION, b""))
        await trio.sleep(0.1)
        assert len(world.peers[0].received) == 2

    run_world(body)


# -- deployments


def test_without_a_deployment_it_backs_off() -> None:
    """RT0011; not counted in Start, but spent from the budget."""

    async def body(world: InvokerWorld) -> None:
        world.catalog.current = replace(world.catalog.current, services={})
        invocation = await world.invoke()
        await trio.sleep(0.01)
        row = world.row(invocation)
        (event,) = world.events(invocation)
        assert event["restate_doc_error_code"] == "RT0011"
        assert event["error_message"] == "no deployment was found to process the invocation"
        assert (row.failures_since_command, row.policy_attempts) == (0, 1)

    run_world(body)


def test_an_unpinned_invocation_moves_to_a_newer_deployment() -> None:
    """service-protocol.md 4.7."""

    async def body(world: InvokerWorld) -> None:
        invocation = await world.invoke()
        await trio.sleep(0.01)
        world.register(deployment("dp_2"), revision=2)
        world.sdk.serve(GREET, echo)
        await trio.sleep(1)
        assert world.outcome(invocation) == b'"Ada"'
        assert world.row(invocation).deployment_id == "dp_2"
        assert world.row(invocation).service_revision == 2

    run_world(body)


def test_a_pinned_invocation_stays_where_it_is() -> None:
    """service-protocol.md 4.7."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(NAP, sleeper(1))
        invocation = await world.invoke("nap")
        await trio.sleep(0.5)
        world.register(deployment("dp_2"), revision=2)
        await trio.sleep(1)
        assert world.outcome(invocation) == b"awake"
        assert [peer.request.deployment.id for peer in world.peers] == ["dp_1", "dp_1"]

    run_world(body)


def test_live_attempts_are_described_for_sql() -> None:
    """Design 3.4: what the query child cannot know."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, silent)
        invocation = await world.invoke()
        await trio.sleep(0.1)
        assert world.invoker.live() == [
            LiveAttempt(invocation, True, EPOCH_MS, "dp_1", "fake-sdk/1.0.0")
        ]

    run_world(body)


def test_a_run_of_an_older_attempt_can_be_proposed_again() -> None:
    """service-protocol.md 4.5: the command is replayed, the action runs again."""
    calls: list[int] = []

    def script(peer: Peer) -> Generator[None, None, None]:
        calls.append(1)
        context = Context(peer)
        if len(calls) == 1:
            context.command(messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
            peer.fail()
            return
        result = yield from context.run(lambda: b"again")
        output = pb.OutputCommandMessage(value=pb.Value(content=result))
        context.command(messages.OUTPUT_COMMAND, output)
        peer.message(messages.END, pb.EndMessage())
        peer.finish()

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, script)
        invocation = await world.invoke()
        await trio.sleep(1)
        assert world.outcome(invocation) == b"again"
        completion = world.store.get(Completion, world.row(invocation).number, 1)
        assert completion is not None
        assert completion.polarity == "success"

    run_world(body)
