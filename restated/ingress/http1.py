"""HTTP/1.0 and 1.1 on one accepted connection.

Lives here: the loop over requests, bodies within limits, answers, the watch for clients that leave.
Does not: parse bytes (head.py), answer (respond.py), accept connections or know when a deadline has
passed (listener.py looks at `deadline_ms` twice a second: no timer is set for a request).
Rules: M4 bounded memory for peers that do not read; N2, N4, N5; C55 a client that leaves while it
waits frees its waiter.
One task serves a connection. Only where an answer takes long (`watch_after_ms`) a second one reads,
to notice that the client is gone: an ordinary request needs no switch between tasks.
"""

import logging
import os
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import trio

from restated.engine.hypercorn_stream import PREFACE
from restated.ingress.exchange import PeerGoneError, Request, Response, Share
from restated.ingress.head import (
    ChunkedDecoder,
    ChunkError,
    Head,
    HeadError,
    find_head_end,
    parse_head,
)
from restated.ingress.paths import RequestError
from restated.ingress.respond import Ingress
from restated.model.errors import IngressError
from restated.protocol.gathered import Gathered
from restated.seams import Clock

RECEIVE_BYTES: Final = 65_536
SEND_BYTES: Final = 262_144
AHEAD_BYTES_MAX: Final = 65_536  # of pipelined requests read while an answer is awaited
LINGER_S: Final = 2.0  # so that the answer is not lost with what the client still sends
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
NEVER_MS: Final = float("inf")
REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip

log = logging.getLogger("restated.ingress")


class Dates:
    """The `date` header, written once a second."""

    __slots__ = ("_clock", "_second", "_text")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._text = ""

    def now(self) -> str:
        """The header line with its end."""
        second = self._clock.wall_ms() // 1000
        if second != self._second:
            self._second = second
            self._text = f"date: {http_date(second)}\r\n"
        return self._text


def http_date(second: int) -> str:
    """Seconds since the epoch as RFC 9110 writes them."""
    moment = datetime.fromtimestamp(second, UTC)
    day, month = DAYS[moment.weekday()], MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02} {month} {moment.year} {moment:%H:%M:%S} GMT"


class Connection:
    """One accepted connection. `serve` returns when it is over; the caller closes it."""

    __slots__ = (
        "_buffer", "_dates", "_descriptor", "_head", "_head_bytes", "_ingress", "_limits",
        "_stream", "_watch_ended", "_watch_scope", "deadline_ms", "is_idle", "is_stopping",
        "now_ms", "scope", "waiting_since_ms",
    )  # fmt: skip

    def __init__(self, stream: trio.abc.Stream, ingress: Ingress, dates: Dates) -> None:
        self._stream = stream
        self._ingress = ingress
        self._limits = ingress.limits
        self.now_ms = ingress.clock.monotonic_ms
        self._dates = dates
        self._descriptor = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else -1
        self._buffer = b""
        self._head_bytes = b""  # of the last request: clients repeat themselves
        self._head: Head | None = None
        self._watch_scope: trio.CancelScope | None = None
        self._watch_ended: trio.Event | None = None
        self.scope = trio.CancelScope()
        self.deadline_ms = NEVER_MS  # the listener cancels `scope` behind it
        self.waiting_since_ms = NEVER_MS  # since when an answer is awaited and nobody reads
        self.is_idle = False  # between two requests
        self.is_stopping = False

    async def serve(self) -> bytes:
        """Answer requests in order until one side closes. StoreFailedError passes through.

        b"", or what was received when the client speaks HTTP/2: nothing was answered then.
        """
        with self.scope:
            try:
                if await self._is_http2():
                    self.deadline_ms = NEVER_MS
                    return self._buffer
                await self._serve_all()
            except (PeerGoneError, trio.BrokenResourceError, trio.ClosedResourceError):
                return b""
        return b""

    def stop(self) -> None:
        """Finish the request in progress, take no other."""
        self.is_stopping = True
        if self.is_idle:
            self.scope.cancel()

    def begin_watch(self) -> None:
        """Claim the stream for `watch`, which the caller starts."""
        self.waiting_since_ms = NEVER_MS
        self._watch_scope = trio.CancelScope()
        self._watch_ended = trio.Event()

    async def watch(self) -> None:
        """Read while an answer is awaited: pipelined bytes are kept, the end cancels everything.

        A half-close counts as gone: who closes its side before the answer does not wait for it.
        """
        assert self._watch_scope is not None
        assert self._watch_ended is not None
        ended = self._watch_ended
        try:
            with self._watch_scope:
                while len(self._buffer) < AHEAD_BYTES_MAX:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                    if not data:
                        self.scope.cancel()
                        return
                    self._buffer += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.scope.cancel()
        finally:
            ended.set()

    # -- one request

    async def _is_http2(self) -> bool:
        """Receive enough to tell; also whether nothing came at all is left to the caller."""
        self.is_idle = True
        self.deadline_ms = self.now_ms() + self._limits.keep_alive_idle_s * 1000
        while len(self._buffer) < len(PREFACE) and PREFACE.startswith(self._buffer):
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise PeerGoneError
            self._buffer += data
        return self._buffer.startswith(PREFACE)

    async def _serve_all(self) -> None:
        try:
            while await self._serve_one():
                pass
        except HeadError as error:
            await self._send(self._bare(error.status))
            await self._linger()

    async def _serve_one(self) -> bool:
        """Whether another request may follow."""
        head = await self._next_head()
        if head is None:
            return False
        body = _Http1Body(self, head)
        request = Request(head.method, head.path, head.query, head.headers, body)
        self.waiting_since_ms = self.now_ms()
        response = await self._ingress.respond(request)
        if self._watch_ended is not None:
            await self._end_watch()
        self.waiting_since_ms = NEVER_MS
        keeps_alive = head.keeps_alive and not self.is_stopping and body.skip()
        await self._send(self._rendered(response, head, keeps_alive=keeps_alive))
        if _goes_apart(response, head):
            await self._send(response.body)
        if not keeps_alive and not body.is_complete:
            await self._linger()
        return keeps_alive

    async def _next_head(self) -> Head | None:
        """The next head; None when the peer closed between requests."""
        limits = self._limits
        self.is_idle = not self._buffer
        seconds = limits.keep_alive_idle_s if self.is_idle else limits.head_s
        self.deadline_ms = self.now_ms() + seconds * 1000
        searched = 0
        while True:
            if self._buffer[:1] == b"\r":  # RFC 9112 2.2: an empty line before the request line
                self._buffer = self._buffer.lstrip(b"\r\n")
                searched = 0
            end = find_head_end(self._buffer, searched, limits)
            if end >= 0:
                break
            searched = len(self._buffer)
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                return None
            if self.is_idle:
                self.is_idle = False
                self.deadline_ms = self.now_ms() + limits.head_s * 1000
            self._buffer += data
        self.is_idle = False
        self.deadline_ms = NEVER_MS
        octets, self._buffer = self._buffer[:end], self._buffer[end:]
        if octets != self._head_bytes or self._head is None:
            self._head = parse_head(octets, limits)
            self._head_bytes = octets
        return self._head

    # -- for the body

    def take(self, count: int) -> bytes:
        """Up to `count` bytes that have arrived already."""
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def put_back(self, data: bytes) -> None:
        """Return bytes that belong to the next request."""
        self._buffer = data + self._buffer

    @property
    def arrived(self) -> int:
        """How many bytes `take` has."""
        return len(self._buffer)

    async def receive_body(self, started_ms: float, count: int) -> bytes:
        """More of a body of which `count` bytes came since `started_ms`; PeerGoneError at the end.

        Neither a pause nor a trickle keeps the connection busy for long (N4).
        """
        if self._buffer:
            return self.take(len(self._buffer))
        limits, now_ms = self._limits, self.now_ms()
        idle_ms = limits.body_idle_s * 1000
        slowest_ms = started_ms + idle_ms + count * 1000 / limits.body_bytes_per_s_min
        self.deadline_ms = min(now_ms + idle_ms, slowest_ms)
        self.waiting_since_ms = NEVER_MS  # nobody else may read now
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PeerGoneError from None
        self.deadline_ms = NEVER_MS
        if not data:
            raise PeerGoneError
        self.waiting_since_ms = now_ms
        return bytes(data)

    async def send_continue(self) -> None:
        """Ask for the body."""
        self.waiting_since_ms = NEVER_MS
        try:
            await self._send(CONTINUE)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PeerGoneError from None

    # -- answers

    async def _send(self, data: bytes) -> None:
        """Send all; the deadline of a peer that does not read starts again each 256 KiB (M4)."""
        sent = 0
        if self._descriptor >= 0 and not self._buffer:
            sent = self._send_now(data)
            if sent == len(data):
                return
        send_ms = self._limits.send_s * 1000
        self.deadline_ms = self.now_ms() + send_ms
        view = memoryview(data)
        for start in range(sent, len(data), SEND_BYTES):
            await self._stream.send_all(view[start : start + SEND_BYTES])
            self.deadline_ms = self.now_ms() + send_ms

    def _send_now(self, data: bytes) -> int:
        """Write what the socket takes at once; 0 when it is full.

        Trio's own send yields to the scheduler even when it need not wait: 10 us an answer.
        Receiving the next request yields anyway.
        """
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    def _rendered(self, response: Response, head: Head, *, keeps_alive: bool) -> bytes:
        status = response.status
        lines = [f"HTTP/1.{head.minor} {status} {REASONS.get(status, '')}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in response.headers]
        lines.append(f"content-length: {len(response.body)}\r\n")
        lines.append(self._dates.now())
        if not keeps_alive:
            lines.append("connection: close\r\n")
        elif head.minor == 0:
            lines.append("connection: keep-alive\r\n")
        lines.append("\r\n")
        octets = "".join(lines).encode("latin-1", "replace")
        if head.method == "HEAD" or _goes_apart(response, head):
            return octets
        return octets + response.body

    def _bare(self, status: int) -> bytes:
        return (
            f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-length: 0\r\n{self._dates.now()}"
            "connection: close\r\n\r\n"
        ).encode()

    async def _linger(self) -> None:
        """Take what the client still sends: closing at once could destroy the answer."""
        with trio.move_on_after(LINGER_S):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            while await self._stream.receive_some(RECEIVE_BYTES):
                pass

    async def _end_watch(self) -> None:
        assert self._watch_ended is not None
        if self._watch_scope is not None:
            self._watch_scope.cancel()
        await self._watch_ended.wait()
        self._watch_ended = self._watch_scope = None


def _goes_apart(response: Response, head: Head) -> bool:
    """A large body is not copied behind its head (M3)."""
    return len(response.body) > SEND_BYTES and head.method != "HEAD"


class _Http1Body:
    """The body of the current request."""

    __slots__ = ("_connection", "_head", "is_complete")

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection = connection
        self._head = head
        self.is_complete = not head.has_body

    async def read(self, bytes_max: int, share: Share) -> bytes:
        """All of it; RequestError when too large or broken, PeerGoneError when cut off."""
        if self.is_complete:
            return b""
        connection, head = self._connection, self._head
        if head.expects_continue and connection.arrived == 0:
            await connection.send_continue()
        if head.is_chunked:
            body = await self._read_chunked(bytes_max, share)
        else:
            body = await self._read_counted(bytes_max, share)
        self.is_complete = True
        return body

    def skip(self) -> bool:
        """Drop an unread body if all of it is here; whether the connection can go on."""
        count = self._head.content_length
        if not self.is_complete and not self._head.is_chunked and self._connection.arrived >= count:
            self._connection.take(count)
            self.is_complete = True
        return self.is_complete

    async def _read_counted(self, bytes_max: int, share: Share) -> bytes:
        count = self._head.content_length
        if count > bytes_max:
            raise RequestError(IngressError.BODY_TOO_LARGE)
        share.take(count)
        connection = self._connection
        if connection.arrived >= count:
            return connection.take(count)
        started_ms = connection.now_ms()
        body = Gathered()
        while body.size < count:
            piece = await connection.receive_body(started_ms, body.size)
            if len(piece) > count - body.size:
                connection.put_back(piece[count - body.size :])
                piece = piece[: count - body.size]
            body.add(piece)
        return body.value()

    async def _read_chunked(self, bytes_max: int, share: Share) -> bytes:
        connection = self._connection
        started_ms = connection.now_ms()
        decoder = ChunkedDecoder()
        body = bytearray()
        while not decoder.is_complete:
            data = await connection.receive_body(started_ms, len(body))
            before = len(body)
            try:
                used = decoder.feed(data, body)
            except ChunkError as error:
                raise RequestError(IngressError.BAD_BODY, str(error)) from None
            if len(body) > bytes_max:
                raise RequestError(IngressError.BODY_TOO_LARGE)
            share.take(len(body) - before)
            if used < len(data):
                connection.put_back(data[used:])
        return bytes(body)
