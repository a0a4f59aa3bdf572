"""One accepted connection served by Hypercorn: HTTP/1.1, HTTP/2 and websockets for an ASGI app.

Lives here: who the caller is, the stream that Hypercorn is given (peeked bytes put back, bounded
sends, budgets for HTTP/2 control frames).
Does not: accept connections, set Hypercorn up (hypercorn_server.py), know what the app answers
(ingress/asgi.py, admin/app.py).
Rules: N3 a peer cannot keep us busy with frames that carry nothing; M4 a peer that does not read
is dropped; M2 nothing here outlives its connection.
Hypercorn is imported by the first connection that needs it, to keep start-up short.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal, TypeAlias

import trio

from restated.model.records import Record
from restated.seams import Clock
from restated.store.store import StoreFailedError

Scope: TypeAlias = MutableMapping[str, Any]  # ASGI leaves the values open
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER_BYTES: Final = 9
DATA, HEADERS, RST_STREAM, CONTINUATION = 0, 1, 3, 9
FLAG_END_STREAM: Final = 1
FLAG_END_HEADERS: Final = 4
GOAWAY_ENHANCE_YOUR_CALM: Final = bytes.fromhex("00000807000000000000000000 0000000b")

log = logging.getLogger("restated.http")


class Caller(Record):
    """Who is at the other end of a connection; routes find it in `scope["state"]["caller"]`."""

    transport: Literal["tcp", "unix"]
    address: str = ""  # numeric host for tcp, '' for unix
    port: int = 0


class StreamLimits(Record):
    """Bounds of one connection; design.md 3.15."""

    head_bytes_max: int = 131_072
    header_list_bytes_max: int = 16_384  # HTTP/2
    streams_max: int = 200  # HTTP/2 requests in progress
    idle_s: float = 75.0
    send_s: float = 60.0  # one send that makes no progress for so long ends the connection
    websocket_message_bytes_max: int = 1_048_576


BUDGETS: Final[tuple[tuple[str, int, int], ...]] = (  # by frame type: name, burst, per second
    ("empty DATA", 500, 100),
    ("HEADERS", 0, 0),  # bounded by the streams in progress and by the resets that free them
    ("PRIORITY", 1_000, 100),
    ("RST_STREAM", 300, 100),
    ("SETTINGS", 50, 5),
    ("PUSH_PROMISE", 0, 0),  # a protocol error, h2 ends the connection
    ("PING", 100, 10),
    ("GOAWAY", 0, 0),  # ends the connection
    ("WINDOW_UPDATE", 4_000, 4_000),
    ("CONTINUATION", 0, 0),  # bounded by the header list, in h2
)
UNKNOWN_FRAME: Final = ("unknown frames", 1_000, 100)


class FrameBudgets:
    """Counts HTTP/2 frames that cost us work and the peer nothing, from their headers alone."""

    __slots__ = ("_clock", "_partial", "_refilled_ms", "_skip", "_tokens", "has_request")

    def __init__(self, clock: Clock, skip: int) -> None:
        self._clock = clock
        self._skip = skip  # bytes until the next frame header
        self._partial = b""
        self.has_request = False  # a complete head went by
        self._tokens = [float(burst) for _, burst, _ in (*BUDGETS, UNKNOWN_FRAME)]
        self._refilled_ms = clock.monotonic_ms()

    def spend(self, data: bytes | bytearray, only: int | None = None) -> str | None:
        """Count the frames in `data`; the name of what exceeds its budget, else None.

        `only` restricts the budgets to one frame type.
        """
        if self._partial:
            data, self._partial = self._partial + data, b""
        position, end = self._skip, len(data)
        while position + FRAME_HEADER_BYTES <= end:
            kind, flags = data[position + 3], data[position + 4]
            length = int.from_bytes(data[position : position + 3], "big")
            position += FRAME_HEADER_BYTES + length
            if kind in (HEADERS, CONTINUATION) and flags & FLAG_END_HEADERS:
                self.has_request = True
            if only is None or kind == only:
                exceeded = self._count(kind, flags, length)
                if exceeded is not None:
                    return exceeded
        self._skip = max(0, position - end)
        if position < end:
            self._partial = bytes(data[position:])
        return None

    def _count(self, kind: int, flags: int, length: int) -> str | None:
        if kind == DATA and (length > 0 or flags & FLAG_END_STREAM):
            return None
        index = min(kind, len(BUDGETS))
        name, burst, _ = UNKNOWN_FRAME if index == len(BUDGETS) else BUDGETS[index]
        if burst == 0:
            return None
        self._tokens[index] -= 1
        if self._tokens[index] >= 0:
            return None
        self._refill()
        return name if self._tokens[index] < 0 else None

    def _refill(self) -> None:
        now_ms = self._clock.monotonic_ms()
        elapsed_s = max(0.0, now_ms - self._refilled_ms) / 1000
        self._refilled_ms = now_ms
        for index, (_, burst, rate) in enumerate((*BUDGETS, UNKNOWN_FRAME)):
            self._tokens[index] = min(float(burst), self._tokens[index] + elapsed_s * rate)


class _NoSocket:
    """Stands in for the socket of a stream that has none: Hypercorn asks for addresses."""

    family = socket.AF_UNIX

    def getpeername(self) -> str:
        return ""

    def getsockname(self) -> str:
        return ""


class ServedStream(trio.abc.HalfCloseableStream):
    """A connection as Hypercorn sees it. Any bound that is exceeded looks like a broken peer."""

    def __init__(
        self, stream: trio.abc.Stream, received: bytes, limits: StreamLimits, clock: Clock
    ) -> None:
        self._stream = stream
        self._received = received
        self._send_s = limits.send_s
        self._incoming: FrameBudgets | None = None
        self._outgoing: FrameBudgets | None = None
        self._clock = clock
        self._is_first = True
        self._request_until_ms = clock.monotonic_ms() + limits.idle_s * 1000
        self.socket: object = (
            stream.socket if isinstance(stream, trio.SocketStream) else _NoSocket()
        )

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Next bytes; b"" at the end, also when the peer exceeds a budget."""
        data: bytes | bytearray
        if self._received:
            data, self._received = self._received, b""
        else:
            data = await self._receive(max_bytes)
        if self._is_first:
            self._is_first = False
            while 0 < len(data) < 3 and PREFACE.startswith(data):
                more = await self._stream.receive_some(max_bytes)
                if not more:
                    break
                data = bytes(data) + more
            if data.startswith(PREFACE[:3]):
                self._incoming = FrameBudgets(self._clock, len(PREFACE))
                self._outgoing = FrameBudgets(self._clock, 0)
        if self._incoming is None:
            return data
        exceeded = self._incoming.spend(data)
        return data if exceeded is None else await self._refuse(exceeded)

    async def _receive(self, max_bytes: int | None) -> bytes | bytearray:
        """b"" also when no HTTP/2 request came in time: Hypercorn's timer starts behind it."""
        if self._incoming is None or self._incoming.has_request:
            return await self._stream.receive_some(max_bytes)
        left_s = (self._request_until_ms - self._clock.monotonic_ms()) / 1000
        with trio.move_on_after(max(0.0, left_s)):
            return await self._stream.receive_some(max_bytes)
        return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send within the bound; BrokenResourceError when the peer does not read (M4)."""
        reason = "the peer does not read"
        with trio.move_on_after(self._send_s):
            await self._stream.send_all(data)
            if self._outgoing is None:
                return
            # Streams that we reset, as the peer made us: as cheap for it as its own resets.
            exceeded = self._outgoing.spend(bytes(data), only=RST_STREAM)
            if exceeded is None:
                return
            reason = "the peer provoked too many resets"
        log.warning("connection cut reason=%r", reason)
        # Hypercorn goes on reading after a failed send: the end has to be seen there too.
        await trio.aclose_forcefully(self._stream)
        raise trio.BrokenResourceError(reason)

    async def wait_send_all_might_not_block(self) -> None:
        """As of the wrapped stream."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Close the sending side where the stream can."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            with trio.move_on_after(self._send_s):
                await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def _refuse(self, exceeded: str) -> bytes:
        log.warning("peer exceeded a budget frames=%s", exceeded.replace(" ", "_"))
        try:
            with trio.move_on_after(1):
                await self._stream.send_all(GOAWAY_ENHANCE_YOUR_CALM)
        except (trio.BusyResourceError, trio.BrokenResourceError, trio.ClosedResourceError):
            return b""  # the courtesy is not owed
        return b""


async def serve_stream(  # noqa: PLR0913 - one parameter each for what the two listeners choose
    app: ASGIApp,
    stream: trio.abc.Stream,
    caller: Caller,
    limits: StreamLimits,
    *,
    clock: Clock,
    received: bytes = b"",
    stopping: trio.Event | None = None,
) -> None:
    """Serve one accepted connection until it is closed; closes it, raises nothing of the peer's.

    `received` are bytes that were read already. Once `stopping` is set the requests in progress
    are answered and the connection is closed.
    """
    from restated.engine.hypercorn_server import hypercorn_server

    server = hypercorn_server(
        app,
        ServedStream(stream, received, limits, clock),
        caller,
        limits,
        trio.Event() if stopping is None else stopping,
    )
    try:
        await server.run()
    except* StoreFailedError:
        raise  # fail-stop: nothing may be answered any more
    except* Exception as errors:  # noqa: BLE001 - the top of one connection
        # Hypercorn trips over some protocol violations; the connection is closed already.
        log.info("connection ended by %s", "; ".join(repr(error) for error in errors.exceptions))
