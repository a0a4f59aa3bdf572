"""Memory for payloads: whatever is offered, what is held is bounded, and everything ends."""

from collections.abc import Generator

import pytest
import trio

from restated.core.events import Kill
from restated.invoker.http2_exchange import Http2Exchange
from restated.invoker.invoker import InvokerLimits
from restated.invoker.pool import COPIES, LARGE_BYTES, STALL_MS, Intake, PayloadPool
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import frame
from tests.invoker.handlers import NAP
from tests.invoker.world import GREET, InvokerWorld, run_world
from tests.sim.sdk import Peer, Script

MIB = 1 << 20
PIECE = 64 * 1024
WINDOW = 256 * 1024


def flood(world: InvokerWorld, size: int, held: list[int], stall_s: float = 0) -> Script:
    """An output of so many bytes as fast as the window allows; it may stop half-way for a time."""

    def script(peer: Peer) -> Generator[None, None, None]:
        peer.hears_of_window = True
        output = pb.OutputCommandMessage(value=pb.Value(content=bytes(size)))
        octets = frame(messages.OUTPUT_COMMAND, output.SerializeToString())
        continues_at = trio.current_time()
        for at in range(0, len(octets), PIECE):
            if at == len(octets) // 2 // PIECE * PIECE:
                continues_at = trio.current_time() + stall_s
            while peer.sent_bytes - peer.consumed_bytes >= WINDOW:
                yield
            while trio.current_time() < continues_at:
                yield
            peer.write(octets[at : at + PIECE])
            held.append(world.invoker.held_bytes)
        peer.message(messages.END, pb.EndMessage())
        peer.finish()

    return script


@pytest.mark.parametrize(("pool", "count"), [(32 * MIB, 64), (24 * MIB, 30), (4 * MIB, 10)])
def test_what_exceeds_the_pool_waits_or_begins_anew_and_all_of_it_ends(
    pool: int, count: int
) -> None:
    """G14, C83, C84, M1: 256 MiB into 32; also into a pool smaller than one message."""
    size = 4 * MIB

    async def body(world: InvokerWorld) -> None:
        held: list[int] = []
        world.sdk.script(GREET, flood(world, size, held))
        started = [await world.invoke() for _ in range(count)]
        await trio.sleep(300)
        assert [world.outcome(each) for each in started] == [bytes(size)] * count
        assert {world.row(each).failures_since_command for each in started} == {0}
        assert max(held) <= max(pool, COPIES * size) + pool // 4 + 2 * WINDOW
        assert max(held) >= COPIES * size
        assert world.invoker.held_bytes == 0
        assert (world.invoker.open_count, world.invoker.waiting_count) == (0, 0)

    run_world(body, InvokerLimits(payload_pool_bytes=pool))


def test_who_waits_for_memory_is_not_timed_out() -> None:
    """M1: it is we who do not read; its inactivity timeout of 100 ms does not count."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, flood(world, 4 * MIB, [], stall_s=5))
        world.sdk.script(NAP, flood(world, 4 * MIB, []))
        first, second = await world.invoke(), await world.invoke("nap")
        await trio.sleep(3)
        waiting = world.peers[1]
        assert waiting.sent_bytes - waiting.consumed_bytes == WINDOW
        assert waiting.kept_bytes == WINDOW
        assert not waiting.is_ended
        await trio.sleep(3)
        world.peers[0].wake()
        await trio.sleep(3)
        assert [world.outcome(each) for each in (first, second)] == [bytes(4 * MIB)] * 2
        assert len(world.peers) == 2

    run_world(body, InvokerLimits(payload_pool_bytes=12 * MIB))


def test_killed_while_waiting_gives_its_place_to_the_next() -> None:
    """C25: whoever leaves the queue, the others go on."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, flood(world, 4 * MIB, [], stall_s=5))
        world.sdk.script(NAP, flood(world, 4 * MIB, []))
        first = await world.invoke()
        second, third = await world.invoke("nap"), await world.invoke("nap")
        await trio.sleep(1)
        await world.writer.submit(Kill(second))
        await world.writer.submit(Kill(first))
        await trio.sleep(1)
        assert world.outcome(third) == bytes(4 * MIB)
        assert world.invoker.held_bytes == 0

    run_world(body, InvokerLimits(payload_pool_bytes=12 * MIB))


def test_answer_that_ends_while_it_waits_fails_the_attempt() -> None:
    """C84: nothing more will come of it; what it holds is free at once."""

    async def body(world: InvokerWorld) -> None:
        world.sdk.script(GREET, flood(world, 4 * MIB, [], stall_s=5))
        world.sdk.script(NAP, flood(world, 4 * MIB, []))
        await world.invoke()
        second = await world.invoke("nap")
        await trio.sleep(1)
        world.peers[1].fail()
        await trio.sleep(0.01)
        assert world.row(second).failures_since_command == 1
        assert 8 * MIB < world.invoker.held_bytes < 8 * MIB + WINDOW

    run_world(body, InvokerLimits(payload_pool_bytes=12 * MIB))


def test_a_peer_that_stops_half_way_gives_up_while_others_wait() -> None:
    """C25, G14: not after its timeouts of minutes; it begins anew, and that is no failure."""

    async def body(world: InvokerWorld) -> None:
        stalls = iter([600, 0])

        def first_stalls(peer: Peer) -> Generator[None, None, None]:
            yield from flood(world, 4 * MIB, [], stall_s=next(stalls))(peer)

        world.sdk.script(GREET, first_stalls)
        world.sdk.script(NAP, flood(world, 4 * MIB, []))
        first = await world.invoke()
        await trio.sleep(100)
        assert world.row(first).attempt == 1, "nobody waits: it may take its time"
        second = await world.invoke("nap")
        await trio.sleep(STALL_MS / 1000 - 1)
        assert world.row(second).status == "invoked"
        await trio.sleep(3)
        assert world.outcome(second) == bytes(4 * MIB)
        await trio.sleep(3)
        assert world.outcome(first) == bytes(4 * MIB)
        assert world.row(first).attempt == 2
        assert world.invoker.held_bytes == 0

    run_world(body, InvokerLimits(payload_pool_bytes=12 * MIB))


# -- the pool itself


class Asking:
    """An attempt's intake that remembers its grants."""

    def __init__(self, pool: PayloadPool, log: list[str], name: str) -> None:
        self.intake = Intake(pool, lambda: log.append(name), lambda: log.append(f"{name} stalls"))


def test_grants_are_whole_and_in_order() -> None:
    """C83: a smaller message behind a large one does not overtake it."""
    pool, log = PayloadPool(16 * MIB), list[str]()
    first, second, third = (Asking(pool, log, name).intake for name in "abc")
    assert first.judge(4 * MIB, 10) == ("granted", 0)
    assert second.judge(5 * MIB, 10) == ("waits", 10)
    assert third.judge(MIB, 10) == ("waits", 10)
    assert second.judge(5 * MIB, 25) == ("waits", 15)
    assert pool.held_bytes == 8 * MIB + 35
    first.release()
    assert log == ["b", "c"]
    assert pool.held_bytes == 12 * MIB
    second.release()
    third.release()
    assert pool.held_bytes == 0


def test_who_moves_keeps_its_grant_however_slow_it_is() -> None:
    """C25: the time begins when somebody waits, and anew with every byte."""
    pool, log = PayloadPool(16 * MIB), list[str]()
    first, second = (Asking(pool, log, name).intake for name in "ab")
    first.judge(5 * MIB, 0)
    pool.sweep(0)
    second.judge(4 * MIB, 0)
    pool.sweep(STALL_MS)
    pool.sweep(2 * STALL_MS - 1)
    first.judge(5 * MIB, 0)
    pool.sweep(2 * STALL_MS)
    pool.sweep(3 * STALL_MS - 1)
    assert log == []
    pool.sweep(3 * STALL_MS)
    assert log == ["a stalls"]


def test_replays_that_stand_still_leave_one_grant() -> None:
    """C84: what is held by who does not move must not be waited for."""
    pool, log = PayloadPool(16 * MIB), list[str]()
    pool.replay(17 * MIB)
    first, second = (Asking(pool, log, name).intake for name in "ab")
    assert first.judge(4 * MIB, 0) == ("granted", 0)
    assert second.judge(4 * MIB, 0) == ("waits", 0)
    first.release()
    assert log == ["b"]


def test_share_of_those_who_wait_is_bounded() -> None:
    """C84: what waiting attempts have received cannot be taken back: one of them gives up."""
    pool, log = PayloadPool(16 * MIB), list[str]()
    first, second, third = (Asking(pool, log, name).intake for name in "abc")
    first.judge(4 * MIB, 0)
    assert second.judge(4 * MIB, MIB) == ("waits", MIB)
    assert third.judge(4 * MIB, 3 * MIB + 1) == ("refused", 3 * MIB + 1)
    third.release()
    assert pool.held_bytes == 8 * MIB + MIB


def test_small_messages_ask_nobody() -> None:
    """The hot path: below the bound an attempt's own limits are enough."""
    pool = PayloadPool(1)
    intake = Asking(pool, [], "a").intake
    assert intake.judge(LARGE_BYTES - 1, LARGE_BYTES - 1) == ("granted", 0)
    assert pool.held_bytes == 0


# -- what waits must not hold up its connection


class Credits:
    """A connection that counts what its streams give back."""

    def __init__(self) -> None:
        self.stream_bytes = 0
        self.connection_bytes = 0

    def mark(self, exchange: Http2Exchange) -> None:
        raise AssertionError(exchange)

    def reset(self, exchange: Http2Exchange, code: int) -> None:
        raise AssertionError(exchange, code)

    def credit_stream(self, exchange: Http2Exchange, count: int) -> None:
        assert exchange.carrier is self
        self.stream_bytes += count

    def credit_connection(self, count: int) -> None:
        self.connection_bytes += count


def test_kept_bytes_are_given_back_to_the_connection_once() -> None:
    """C83: others on the connection go on; the stream gets its window when it is granted."""
    carrier = Credits()
    exchange = Http2Exchange(b"", iter(()), Silent(), streams=True)
    exchange.carrier = carrier
    exchange.unconsumed = 100
    exchange.keep(60)
    exchange.keep(60)  # never more than is there
    assert (carrier.stream_bytes, carrier.connection_bytes) == (0, 100)
    exchange.unconsumed += 10
    exchange.consumed(105)
    assert (carrier.stream_bytes, carrier.connection_bytes) == (105, 105)
    assert exchange.forget_unconsumed() == 5


class Silent:
    """A receiver of nothing."""

    def on_response(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        raise AssertionError(status, headers)

    def on_data(self, data: bytes) -> None:
        raise AssertionError(data)

    def on_end(self) -> None:
        raise AssertionError

    def on_failed(self, error: Exception) -> None:
        raise AssertionError(error)
