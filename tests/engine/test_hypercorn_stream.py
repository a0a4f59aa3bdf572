"""What we rely on in Hypercorn, and the bounds that we put around it."""

import inspect

import h2.connection
import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypothesis import given
from hypothesis import strategies as st

from restated.engine.hypercorn_stream import (
    BUDGETS,
    PREFACE,
    Caller,
    FrameBudgets,
    Receive,
    Scope,
    Send,
    StreamLimits,
    serve_stream,
)
from tests.sim.clock import VirtualClock

CALLER = Caller("tcp", "10.0.0.1", 7)


async def show_caller(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the caller and the protocol."""
    assert scope["type"] == "http"
    caller = scope["state"]["caller"]
    body = f"{caller.address} {scope['http_version']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def served(data: bytes, limits: StreamLimits | None = None) -> bytes:
    """Everything a connection answers to `data` until it is closed."""

    async def main() -> bytes:
        ours, theirs = trio.testing.memory_stream_pair()
        received = b""
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await serve_stream(
                    show_caller, theirs, CALLER, limits or StreamLimits(), clock=VirtualClock()
                )

            nursery.start_soon(serve)
            await ours.send_all(data)
            while more := await ours.receive_some():
                received += more
        return received

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def frame(kind: int, payload: bytes = b"", stream: int = 0, flags: int = 0) -> bytes:
    """One HTTP/2 frame."""
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def http2_request() -> bytes:
    """The bytes of one GET with prior knowledge."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "t"), (":path", "/")]
    client.send_headers(1, fields, end_stream=True)
    return client.data_to_send()


def test_hypercorn_is_as_we_know_it() -> None:
    """design.md 3.10: the class is not public; a new version is looked at before it is used."""
    assert list(inspect.signature(TCPServer).parameters) == [
        "app", "config", "context", "state", "stream",
    ]  # fmt: skip
    for name in (
        "accesslog", "errorlog", "include_server_header", "h11_max_incomplete_size",
        "h2_max_concurrent_streams", "h2_max_header_list_size", "keep_alive_max_requests",
        "keep_alive_timeout", "websocket_max_message_size",
    ):  # fmt: skip
        assert hasattr(Config, name)


def test_http1_is_served_with_the_caller_and_closed_when_idle() -> None:
    """design.md 3.10."""
    answer = served(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"10.0.0.1 1.1" in answer
    assert b"\r\nserver:" not in answer.lower()


def test_http2_is_served_with_prior_knowledge() -> None:
    """design.md 2."""
    assert b"10.0.0.1 2" in served(http2_request())


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 6, 8, 99])
def test_a_flood_of_empty_frames_ends_the_connection(kind: int) -> None:
    """N3: GOAWAY with ENHANCE_YOUR_CALM."""
    payloads = {2: b"\0\0\0\x03\x10", 3: b"\0\0\0\x08", 6: b"12345678", 8: b"\0\0\0\x01"}
    stream = 1 if kind in (0, 2, 3) else 0
    data = frame(kind, payloads.get(kind, b""), stream)
    answer = served(http2_request() + data * 5_000)
    assert frame(7, bytes(4) + (11).to_bytes(4, "big")) in answer


def test_budgets_refill_with_time() -> None:
    """N3: a patient client is not an attacker."""

    async def main() -> None:
        budgets = FrameBudgets(VirtualClock(), 0)
        _, burst, rate = BUDGETS[6]
        ping = frame(6, b"12345678")
        assert budgets.spend(ping * burst) is None
        assert budgets.spend(ping) == "PING"
        await trio.sleep(1.5)
        assert budgets.spend(ping * (rate - 1)) is None
        assert budgets.spend(ping * rate) == "PING"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@given(st.lists(st.integers(1, 40), max_size=60))
def test_frames_are_counted_however_they_are_cut(sizes: list[int]) -> None:
    """N1, N3: the pre-scan sees frame borders in any pieces."""

    async def main() -> None:
        settings = frame(4) + frame(1, b"x" * 30, 1) + frame(0, b"", 1, 1) + frame(0, b"y", 1)
        stream = PREFACE + settings * 51
        budgets = FrameBudgets(VirtualClock(), len(PREFACE))
        found: list[str | None] = []
        position = 0
        for size in [*sizes, len(stream)]:
            found.append(budgets.spend(stream[position : position + size]))
            position += size
        assert found[-1] == "SETTINGS"
        assert not any(found[:-1])

    trio.run(main, clock=trio.testing.MockClock())


def test_a_peer_that_does_not_read_is_dropped() -> None:
    """M4: Hypercorn shields its sends from cancellation; the bound is ours."""

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 1_000_000})

    async def main() -> None:
        ours, theirs = trio.testing.lockstep_stream_pair()
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await serve_stream(large, theirs, CALLER, StreamLimits(), clock=VirtualClock())

            nursery.start_soon(serve)
            await ours.send_all(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        assert 60 <= trio.current_time() <= 136

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_no_bytes_make_it_raise() -> None:
    """N1: defects of Hypercorn end one connection, quietly."""
    for data in (b"\0" * 100, PREFACE + b"\xff" * 100, b"PRI", b"P", b"GET /\xff HTTP/1.1\r\n\r\n"):
        served(data)
