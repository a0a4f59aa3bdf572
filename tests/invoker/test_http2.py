"""HTTP/2 requests, answers and flow control, against the h2 library in server role."""

import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import h2.events
import pytest
import trio
from trio.abc import Stream
from trio.testing import lockstep_stream_pair

from restated.invoker import frames
from tests.invoker.peers import (
    Bench,
    FakeNet,
    Http2Peer,
    Recorder,
    address,
    begin,
    deployment,
    run_virtually,
    settle,
    start,
)


def test_a_request_carries_its_headers_then_those_of_the_deployment() -> None:
    """service-protocol.md 2.1: order of headers, base path and query are kept."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        to = deployment("http://127.0.0.1:9080/base?q=1", headers=b'{"X-Shop": "west"}')
        begin(bench, b"ab", b"cd", to=to, streams=False)
        peer = await bench.peer()
        request = await peer.next(h2.events.RequestReceived)
        assert request.headers == [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "127.0.0.1:9080"),
            (":path", "/base/invoke/S/h?q=1"),
            ("content-type", "application/x"),
            ("x-restate-cluster-name", "localcluster"),
            ("x-shop", "west"),
        ]
        assert await peer.body(1, 4) == b"abcd"
        assert (await peer.next(h2.events.StreamEnded)).stream_id == 1

    run_virtually(test)


def test_an_answer_arrives_in_order_and_its_trailers_are_dropped() -> None:
    """Receiver: head, body, end; RFC 9113 8.1 trailers."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        peer = await bench.peer()
        stream_id = await peer.request()
        await peer.answer(stream_id, b"one", ends=False, content_type="a/b")
        peer.h2.send_data(stream_id, b"two")
        peer.h2.send_headers(stream_id, [("x-late", "1")], end_stream=True)
        await peer.flush()
        await recorder.over.wait()
        assert recorder.status == 200
        assert recorder.headers == (("content-type", "a/b"),)
        assert recorder.body == b"onetwo"
        assert recorder.ended

    run_virtually(test)


def test_the_end_of_a_request_is_a_flag_of_its_last_data() -> None:
    """C88: no trailers, no empty frame when the end is known in time."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        begin(bench, b"all", streams=False)
        peer = await bench.peer()
        data = await peer.next(h2.events.DataReceived)
        assert data.data == b"all"
        assert data.stream_ended is not None

    run_virtually(test)


def test_a_half_close_after_everything_was_sent_is_an_empty_data() -> None:
    """C88."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"all")
        peer = await bench.peer()
        assert (await peer.next(h2.events.DataReceived)).stream_ended is None
        assert recorder.exchange is not None
        recorder.exchange.end()
        recorder.exchange.end()
        recorder.exchange.send(b"too late")
        last = await peer.next(h2.events.DataReceived)
        assert (last.data, last.stream_ended is not None) == (b"", True)
        await peer.answer(1, b"ok")
        await recorder.over.wait()
        assert recorder.body == b"ok"

    run_virtually(test)


def test_a_request_without_body_ends_with_its_headers() -> None:
    """Discovery: GET without DATA."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        begin(bench, streams=False, method="GET")
        peer = await bench.peer()
        assert (await peer.next(h2.events.RequestReceived)).stream_ended is not None

    run_virtually(test)


def test_bytes_sent_later_follow_the_body() -> None:
    """Exchange.send: behind everything queued before."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"1", b"2")
        assert recorder.exchange is not None
        recorder.exchange.send(b"3")
        peer = await bench.peer()
        assert await peer.body(1, 3) == b"123"
        recorder.exchange.send(b"4")
        assert await peer.body(1, 1) == b"4"

    run_virtually(test)


def test_bytes_that_are_made_late_keep_their_place() -> None:
    """Exchange.send_lazily: made when the peer takes them, not before."""

    async def test(nursery: trio.Nursery) -> None:
        made = []

        def pieces() -> Iterator[bytes]:
            for number in (b"2", b"3"):
                made.append(number)
                yield number * 50_000

        bench = Bench(nursery)
        recorder = begin(bench, b"1")
        peer = await bench.peer()
        assert await peer.body(1, 1) == b"1"
        exchange = recorder.exchange
        assert exchange is not None
        exchange.send_lazily(pieces())
        exchange.send(b"4")
        exchange.end()
        exchange.send_lazily(iter([b"too late"]))
        assert made == []
        assert await peer.body(1, 100_001) == b"2" * 50_000 + b"3" * 50_000 + b"4"
        assert (await peer.next(h2.events.StreamEnded)).stream_id == 1

    run_virtually(test)


def test_an_answer_that_ends_first_ends_the_request_too() -> None:
    """The service may answer early; the stream must not stay half open for ever."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        peer = await bench.peer()
        await peer.answer(await peer.request(), b"done")
        await recorder.over.wait()
        assert (await peer.next(h2.events.StreamEnded)).stream_id == 1

    run_virtually(test)


def test_an_answer_that_ends_while_a_request_is_stuck_resets_the_rest() -> None:
    """What is left would not be read: RST_STREAM CANCEL."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x" * 100, streams=False)
        peer = await bench.peer(INITIAL_WINDOW_SIZE=10)
        peer.acknowledges = False
        await peer.answer(await peer.request(), b"done")
        await recorder.over.wait()
        assert recorder.ended
        assert (await peer.next(h2.events.StreamReset)).error_code == frames.CANCEL

    run_virtually(test)


def test_informational_answers_are_skipped() -> None:
    """RFC 9113 8.1: 1xx before the answer."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        peer = await bench.peer()
        stream_id = await peer.request()
        peer.h2.send_headers(stream_id, [(":status", "103"), ("link", "x")])
        await peer.answer(stream_id, b"ok")
        await recorder.over.wait()
        assert (recorder.status, recorder.body) == (200, b"ok")

    run_virtually(test)


def test_an_abort_resets_the_stream_and_silences_it() -> None:
    """Exchange.abort: RST_STREAM CANCEL, no more calls."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        peer = await bench.peer()
        await peer.answer(await peer.request(), b"part", ends=False)
        await recorder.answered.wait()
        assert recorder.exchange is not None
        recorder.exchange.abort()
        recorder.exchange.abort()
        reset = await peer.next(h2.events.StreamReset)
        assert reset.error_code == frames.CANCEL
        await peer.send_raw(frames.frame(frames.DATA, 0, 1, b"late"))
        again = begin(bench, b"y")
        assert await peer.request() == 3
        await peer.answer(3)
        await again.over.wait()
        assert again.ended
        assert (recorder.body, recorder.over.is_set()) == (b"part", False)

    run_virtually(test)


def test_an_abort_before_a_connection_sends_nothing() -> None:
    """The exchange only waited."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        first = begin(bench, b"x")
        assert first.exchange is not None
        first.exchange.abort()
        second = begin(bench, b"y")
        peer = await bench.peer()
        assert await peer.body(await peer.request(), 1) == b"y"
        await peer.answer(1)
        await second.over.wait()
        assert not first.over.is_set()

    run_virtually(test)


def test_a_request_waits_for_the_window_of_its_stream() -> None:
    """RFC 9113 5.2: never more than the peer allows, in order."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        begin(bench, b"abcdefghij", b"klmnopqrst", streams=False)
        peer = await bench.peer(INITIAL_WINDOW_SIZE=7)
        peer.acknowledges = False
        assert await peer.body(1, 7) == b"abcdefg"
        peer.h2.increment_flow_control_window(5, 1)
        await peer.flush()
        assert await peer.body(1, 5) == b"hijkl"
        await settle()
        assert not [event for event in peer.log if isinstance(event, h2.events.StreamEnded)]
        peer.h2.increment_flow_control_window(100, 1)
        await peer.flush()
        assert await peer.body(1, 8) == b"mnopqrst"
        await peer.next(h2.events.StreamEnded)

    run_virtually(test)


def test_requests_share_the_window_of_the_connection() -> None:
    """Two streams with room starve on the connection's 65,535 bytes and both go on later."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        begin(bench, b"a" * 50_000, streams=False)
        begin(bench, b"b" * 50_000, streams=False)
        peer = await bench.peer(INITIAL_WINDOW_SIZE=1 << 20)
        peer.acknowledges = False
        sizes = {1: 0, 3: 0}
        while sum(sizes.values()) < 65_535:
            data = await peer.next(h2.events.DataReceived)
            sizes[data.stream_id] += len(data.data)
        assert min(sizes.values()) > 0
        peer.h2.increment_flow_control_window(65_535)
        await peer.flush()
        await peer.next(h2.events.StreamEnded)
        await peer.next(h2.events.StreamEnded)

    run_virtually(test)


def test_a_new_initial_window_moves_the_windows_of_open_streams() -> None:
    """RFC 9113 6.9.2: a window may become negative and must be earned back first."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        begin(bench, b"x" * 30, streams=False)
        peer = await bench.peer(INITIAL_WINDOW_SIZE=10)
        peer.acknowledges = False
        await peer.body(1, 10)
        peer.h2.update_settings({4: 4})
        await peer.flush()
        await peer.next(h2.events.SettingsAcknowledged)
        peer.h2.increment_flow_control_window(6, 1)
        await peer.flush()
        await settle()
        peer.h2.update_settings({4: 9})
        await peer.flush()
        assert await peer.body(1, 5) == b"x" * 5
        peer.h2.update_settings({4: 100})
        await peer.flush()
        assert await peer.body(1, 15) == b"x" * 15

    run_virtually(test)


def test_an_end_needs_no_window() -> None:
    """An empty DATA may always be sent."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"12345")
        peer = await bench.peer(INITIAL_WINDOW_SIZE=5)
        peer.acknowledges = False
        await peer.body(1, 5)
        assert recorder.exchange is not None
        recorder.exchange.end()
        await peer.next(h2.events.StreamEnded)

    run_virtually(test)


def test_the_peer_gets_its_window_back_when_bytes_are_consumed() -> None:
    """Exchange.consumed; announced in halves of a window."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery, stream_window_bytes=100, connection_window_bytes=70_000)
        recorder = begin(bench, b"x", receiver=Recorder(consumes=False))
        peer = await bench.peer()
        stream_id = await peer.request()
        await peer.answer(stream_id, b"y" * 100, ends=False)
        await settle()
        assert peer.h2.local_flow_control_window(stream_id) == 0
        assert recorder.exchange is not None
        recorder.exchange.consumed(49)
        await settle()
        recorder.exchange.consumed(1)
        update = await peer.next(h2.events.WindowUpdated)
        while not update.stream_id:
            update = await peer.next(h2.events.WindowUpdated)
        assert (update.stream_id, update.delta) == (stream_id, 50)

    run_virtually(test)


def test_windows_of_broken_off_answers_return_to_the_connection() -> None:
    """Bytes nobody will consume must not use up the connection's window."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery, connection_window_bytes=70_000)
        peer: Http2Peer | None = None
        for stream_id in range(1, 41, 2):
            recorder = begin(bench, b"x", receiver=Recorder(consumes=False))
            peer = peer or await bench.peer()
            assert await peer.request() == stream_id
            await peer.answer(stream_id, b"y" * 10_000, ends=False)
            await recorder.answered.wait()
            assert recorder.exchange is not None
            recorder.exchange.abort()
            await peer.next(h2.events.StreamReset)

    run_virtually(test)


@pytest.mark.parametrize("is_connection", [True, False])
def test_a_peer_that_overruns_a_window_is_cut_off(is_connection: bool) -> None:
    """RFC 9113 6.9.1; M4: never buffered on."""

    async def test(nursery: trio.Nursery) -> None:
        sizes = (70_000, 1 << 20) if is_connection else (1 << 20, 30_000)
        bench = Bench(nursery, connection_window_bytes=sizes[0], stream_window_bytes=sizes[1])
        recorder = begin(bench, b"x", receiver=Recorder(consumes=False))
        peer = await bench.peer()
        await peer.answer(await peer.request(), ends=False)
        await peer.send_raw(frames.frame(frames.DATA, 0, 1, b"y" * 16_384) * 5)
        error = await recorder.failure()
        assert "FLOW_CONTROL_ERROR" in str(error)
        assert error.code == "RT0010"

    run_virtually(test)


def test_a_long_body_is_pulled_as_it_is_taken() -> None:
    """A replay of 8 MiB is never in memory: what is pulled is what the peer took, plus a bit."""

    async def test(nursery: trio.Nursery) -> None:
        pulled = 0

        def body() -> Iterator[bytes]:
            nonlocal pulled
            for _ in range(1_024):
                pulled += 8_192
                yield b"z" * 8_192

        bench = Bench(nursery, FakeNet(lockstep_stream_pair), outgoing_bytes_max=65_536)
        start(bench.transport, body(), to=address(), streams=False)
        stream = await bench.net.accept()
        raw = bytearray()
        nursery.start_soon(
            stream.send_all,
            frames.settings_frame(((frames.INITIAL_WINDOW_SIZE, frames.WINDOW_MAX),))
            + frames.window_update(0, 1 << 30),
        )
        ahead = 0
        while len(raw) < 8 << 20:
            raw += await stream.receive_some(10_000)
            ahead = max(ahead, pulled - len(raw))
        assert 0 < ahead < 65_536 * 3

    run_virtually(test)


def test_a_plain_socket_is_written_to_until_it_is_full_and_then_waited_for() -> None:
    """The direct way of Wire.send_now: nothing is lost or reordered when the kernel says no."""

    def pair() -> tuple[Stream, Stream]:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        return tuple(  # type: ignore[return-value]  # two of them
            trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (ours, theirs)
        )

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery, FakeNet(pair))
        pieces = [bytes([n % 251]) * 10_000 for n in range(300)]
        recorder = begin(bench, *pieces, streams=False)
        peer = await bench.peer(INITIAL_WINDOW_SIZE=1 << 20)
        peer.acknowledges = True
        assert await peer.body(1, 3_000_000) == b"".join(pieces)
        await peer.answer(1, b"thanks")
        await recorder.over.wait()
        assert recorder.body == b"thanks"

    trio.run(partial(_in_nursery, test))


def test_a_closing_connection_says_why() -> None:
    """GOAWAY with our reason, as far as the kernel takes it at once."""

    def pair() -> tuple[Stream, Stream]:
        ours, theirs = (trio.socket.from_stdlib_socket(end) for end in socket.socketpair())
        return trio.SocketStream(ours), trio.SocketStream(theirs)

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery, FakeNet(pair))
        recorder = begin(bench, b"x")
        peer = await bench.peer()
        await peer.request()
        await peer.send_raw(frames.frame(frames.PING, 0, 1, b"12345678"))
        await recorder.failure()
        goodbye = await peer.next(h2.events.ConnectionTerminated)
        assert goodbye.error_code == frames.PROTOCOL_ERROR

    trio.run(partial(_in_nursery, test))


async def _in_nursery(test: Any) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await test(nursery)
            nursery.cancel_scope.cancel()
