"""HTTP/1.1 exchanges over memory streams, byte for byte."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.abc import Stream
from trio.testing import lockstep_stream_pair

from restated.invoker.http1 import Http1Transport
from restated.invoker.targets import Targets
from restated.invoker.transport import TransportLimits, WrongHttpVersionError
from tests.invoker.peers import FakeNet, Recorder, deployment, run_virtually, settle, start

HEAD = (
    b"POST /base/invoke/S/h?q=1 HTTP/1.1\r\ncontent-type: application/x\r\n"
    b"x-restate-cluster-name: localcluster\r\nx-shop: west\r\nhost: 127.0.0.1:9080\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nok"


class Lane:
    """A transport, the network behind it, and the service's end of the newest connection."""

    def __init__(self, nursery: trio.Nursery, net: FakeNet | None = None, **limits: Any) -> None:
        self.net = net or FakeNet()
        self.transport = Http1Transport(nursery, self.net, Targets(), TransportLimits(**limits))

    def begin(self, *pieces: bytes, **options: Any) -> Recorder:
        to = deployment("http://127.0.0.1:9080/base?q=1", "http1", b'{"X-Shop": "west"}')
        return start(self.transport, iter(pieces), **{"to": to, "streams": False, **options})

    async def accept(self) -> Stream:
        return await self.net.accept()


async def read(stream: Stream, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        more = await stream.receive_some(size - len(octets))
        assert more, octets
        octets += more
    return octets


async def read_request(stream: Stream, body: bytes = b"1\r\nx\r\n0\r\n\r\n") -> None:
    assert await read(stream, len(HEAD) + len(body)) == HEAD + body


def test_each_piece_of_a_request_is_a_chunk() -> None:
    """service-protocol.md 2.1: one chunk per message, no content length."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"start", b"", b"input-of-seventeen")
        stream = await lane.accept()
        await read_request(stream, b"5\r\nstart\r\n12\r\ninput-of-seventeen\r\n0\r\n\r\n")
        await stream.send_all(OK)
        await recorder.over.wait()
        assert recorder.status == 200
        assert recorder.headers == (("content-type", "a/b"), ("content-length", "2"))
        assert (recorder.body, recorder.ended) == (b"ok", True)

    run_virtually(test)


def test_a_get_has_no_body() -> None:
    """Discovery."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        lane.begin(method="GET", headers=(("accept", "z"),))
        stream = await lane.accept()
        request = await stream.receive_some(10_000)
        assert bytes(request) == (
            b"GET /base/invoke/S/h?q=1 HTTP/1.1\r\naccept: z\r\n"
            b"x-restate-cluster-name: localcluster\r\nx-shop: west\r\nhost: 127.0.0.1:9080\r\n\r\n"
        )

    run_virtually(test)


def test_bytes_may_follow_until_the_request_is_ended() -> None:
    """Exchange.send, send_lazily and end; an answer may come in between."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x", streams=True)
        stream = await lane.accept()
        await read(stream, len(HEAD) + 6)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await recorder.answered.wait()
        assert recorder.exchange is not None
        recorder.exchange.send(b"later")
        recorder.exchange.send_lazily(iter([b"2", b"3"]))
        recorder.exchange.send(b"4")
        assert await read(stream, 28) == b"5\r\nlater\r\n1\r\n2\r\n1\r\n3\r\n1\r\n4\r\n"
        recorder.exchange.end()
        recorder.exchange.send(b"too late")
        recorder.exchange.send_lazily(iter([b"too late"]))
        assert await read(stream, 5) == b"0\r\n\r\n"
        await stream.send_all(b"3\r\ntwo\r\n0\r\n\r\n")
        await recorder.over.wait()
        assert recorder.body == b"onetwo"

    run_virtually(test)


def test_a_connection_is_used_again() -> None:
    """Keep-alive: the next exchange needs no new connection."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        stream: Stream | None = None
        for _ in range(3):
            recorder = lane.begin(b"x")
            stream = stream or await lane.accept()
            await read_request(stream)
            await stream.send_all(OK)
            await recorder.over.wait()
            assert recorder.body == b"ok"
            await settle()
        assert lane.net.connects == 1

    run_virtually(test)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\n",
        OK + OK,
    ],
)
def test_a_connection_is_not_used_again_when_the_answer_forbids_it(answer: bytes) -> None:
    """`connection: close`, HTTP/1.0, bytes nobody asked for."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x")
        stream = await lane.accept()
        await read_request(stream)
        await stream.send_all(answer)
        await recorder.over.wait()
        assert recorder.body == b"ok"
        assert await stream.receive_some(1) == b""
        lane.begin(b"x")
        await read_request(await lane.accept())

    run_virtually(test)


def test_an_answer_before_the_end_of_the_request_closes_the_connection() -> None:
    """The rest of the request would be read as the next one."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x", streams=True)
        stream = await lane.accept()
        await read(stream, len(HEAD) + 6)
        await stream.send_all(OK)
        await recorder.over.wait()
        assert recorder.ended
        assert await stream.receive_some(1) == b""

    run_virtually(test)


def test_a_connection_closed_while_idle_is_replaced() -> None:
    """C86: the pool does not keep what the peer gave up."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x")
        stream = await lane.accept()
        await read_request(stream)
        await stream.send_all(OK)
        await recorder.over.wait()
        await settle()
        await stream.aclose()
        await settle()
        lane.begin(b"x")
        await read_request(await lane.accept())

    run_virtually(test)


def test_an_idle_connection_is_closed_after_five_minutes() -> None:
    """C86."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x")
        stream = await lane.accept()
        await read_request(stream)
        await stream.send_all(OK)
        await recorder.over.wait()
        began = trio.current_time()
        assert await stream.receive_some(1) == b""
        assert trio.current_time() - began == pytest.approx(300)

    run_virtually(test)


def test_connections_are_bounded() -> None:
    """Beyond the bound an exchange waits for a connection to become free."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery, connections_max=1)
        first, second = lane.begin(b"x"), lane.begin(b"x")
        stream = await lane.accept()
        for recorder in (first, second):
            await read_request(stream)
            await stream.send_all(OK)
            await recorder.over.wait()
            assert recorder.body == b"ok"
        assert lane.net.connects == 1

    run_virtually(test)


def test_exchanges_that_wait_are_bounded() -> None:
    """One more than the bound fails at once."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery, connections_max=1, waiting_max=1)
        _, waiting, refused = lane.begin(b"x"), lane.begin(b"x"), lane.begin(b"x")
        assert "too many requests wait" in str(await refused.failure())
        assert not waiting.over.is_set()

    run_virtually(test)


def test_a_continue_is_no_answer() -> None:
    """RFC 9110 15.2: 1xx may precede the answer."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x")
        stream = await lane.accept()
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n")
        await stream.send_all(OK)
        await recorder.over.wait()
        assert (recorder.status, recorder.body) == (200, b"ok")
        assert recorder.headers[0] == ("content-type", "a/b")

    run_virtually(test)


def test_a_body_may_end_with_the_connection() -> None:
    """RFC 9112 6.3: neither a length nor chunks."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x")
        stream = await lane.accept()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: a/b\r\n\r\nto the end")
        await settle()
        assert not recorder.over.is_set()
        await stream.aclose()
        await recorder.over.wait()
        assert (recorder.body, recorder.ended) == (b"to the end", True)

    run_virtually(test)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "before it answered"),
        (b"HTTP/1.1 200 OK\r\n", "before it answered"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", "in the middle of its answer"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
            "in the middle of its answer",
        ),
        (b"HTTP/1.1 2xx OK\r\n\r\n", "no valid HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "no valid HTTP/1.1"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 " + b"O" * 20_000, "too large a head"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 4_000, "too large a head"),
        (b"HTTP/1.1 102 Wait\r\n\r\n" * 20, "without end"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"x" * 90_000,
            "too many bytes around",
        ),
    ],
)
def test_a_bad_answer_fails_the_exchange(answer: bytes, text: str) -> None:
    """N1, N2, M5: bounded, with a text that says what was wrong."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x")
        stream = await lane.accept()
        await read_request(stream)
        await stream.send_all(answer)
        await settle()
        await stream.aclose()
        error = await recorder.failure()
        assert text in str(error)
        assert error.code == "RT0010"

    run_virtually(test)


def test_a_peer_of_http_2_is_told_apart() -> None:
    """C89: it answers with a SETTINGS frame."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x")
        stream = await lane.accept()
        await stream.send_all(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        error = await recorder.failure()
        assert isinstance(error, WrongHttpVersionError)
        assert "HTTP/2" in str(error)

    run_virtually(test)


def test_a_slow_receiver_stops_the_reading() -> None:
    """M4: at most 256 KiB, and one read, are taken ahead of the receiver."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery, FakeNet(lockstep_stream_pair))
        recorder = lane.begin(b"x", receiver=Recorder(consumes=False))
        stream = await lane.accept()
        await read_request(stream)
        body = b"z" * 1_000_000

        async def answer() -> None:
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + body)

        nursery.start_soon(answer)
        await settle()
        assert 262_144 <= len(recorder.body) <= 262_144 + 65_536
        assert recorder.exchange is not None
        while not recorder.ended:
            recorder.exchange.consumed(len(recorder.body))
            await settle()
        assert recorder.body == body

    run_virtually(test)


def test_a_long_body_is_pulled_as_it_is_taken() -> None:
    """A replay is never whole in memory."""

    async def test(nursery: trio.Nursery) -> None:
        pulled = 0

        def body() -> Iterator[bytes]:
            nonlocal pulled
            for _ in range(512):
                pulled += 8_192
                yield b"z" * 8_192

        lane = Lane(nursery, FakeNet(lockstep_stream_pair))
        to = deployment("http://127.0.0.1:9080", "http1")
        start(lane.transport, body(), to=to, streams=False)
        stream = await lane.accept()
        taken, ahead = 0, 0
        while taken < 4 << 20:
            taken += len(await stream.receive_some(10_000))
            ahead = max(ahead, pulled - taken)
        assert 0 < ahead < 3 * 65_536

    run_virtually(test)


def test_an_abort_closes_the_connection_and_silences_it() -> None:
    """Exchange.abort."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x")
        stream = await lane.accept()
        await read_request(stream)
        assert recorder.exchange is not None
        recorder.exchange.abort()
        recorder.exchange.abort()
        assert await stream.receive_some(1) == b""
        await settle()
        assert not recorder.over.is_set()

    run_virtually(test)


def test_an_abort_before_the_connection_stands_sends_nothing() -> None:
    """The exchange only waited."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x")
        assert recorder.exchange is not None
        recorder.exchange.abort()
        await settle()
        assert lane.net.connects == 0
        assert not recorder.over.is_set()

    run_virtually(test)


def test_a_refused_connection_fails_the_exchange_once() -> None:
    """RT0010."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        lane.net.refusal = ConnectionRefusedError(111, "x")
        recorder = lane.begin(b"x")
        assert not recorder.over.is_set()
        assert str(await recorder.failure()) == "Connection refused (os error 111)"

    run_virtually(test)


def test_a_body_that_raises_fails_the_exchange() -> None:
    """A request cut short must not look complete: no last chunk is sent."""

    async def test(nursery: trio.Nursery) -> None:
        def body() -> Iterator[bytes]:
            yield b"good"
            raise ValueError("bad")

        lane = Lane(nursery)
        to = deployment("http://127.0.0.1:9080", "http1")
        recorder = start(lane.transport, body(), to=to, streams=False)
        stream = await lane.accept()
        assert "could be produced" in str(await recorder.failure())
        octets = b""
        while more := await stream.receive_some(1_000):
            octets += more
        assert not octets.endswith(b"0\r\n\r\n")

    run_virtually(test)


def test_a_receiver_that_raises_loses_its_own_exchange_only() -> None:
    """A defect of one attempt leaves the transport usable."""

    class Broken(Recorder):
        def on_response(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
            raise ValueError(status, headers)

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        lane.begin(b"x", receiver=Broken())
        stream = await lane.accept()
        await stream.send_all(OK[:-1])
        await settle()
        other = lane.begin(b"x")
        stream = await lane.accept()
        await stream.send_all(OK)
        await other.over.wait()
        assert other.body == b"ok"

    run_virtually(test)


@settings(max_examples=150, deadline=None)
@given(
    octets=st.binary(max_size=200),
    head=st.sampled_from(
        [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", OK]
    ),
)
def test_no_bytes_do_more_than_fail_the_exchange(head: bytes, octets: bytes) -> None:
    """N1."""

    async def test(nursery: trio.Nursery) -> None:
        lane = Lane(nursery)
        recorder = lane.begin(b"x")
        stream = await lane.accept()
        await stream.send_all(head + octets)
        await settle()
        await stream.aclose()
        await recorder.over.wait()

    run_virtually(test)
