"""What an HTTP/2 connection sends: frames of exchanges within their windows, in one write a burst.

Lives here: the writer task, the order among exchanges, the windows that we have, the bound on
bytes that the kernel has not taken yet (M4).
Does not: what comes in (http2_connection.py), the bytes of frames (frames.py).

Bytes leave in two places. The reader calls `flush` after a burst, so that everything caused by it
is one write. Else the writer task wakes up when an exchange is marked, after all who run in the
same turn of the loop had their say, so that their frames are one write too.
"""

import logging
from collections import deque
from typing import Protocol

import trio

from restated.invoker import frames as h2
from restated.invoker.dial import Wire
from restated.invoker.http2_exchange import Http2Exchange
from restated.store.store import StoreFailedError

log = logging.getLogger(__name__)


class Sending(Protocol):
    """What the sender tells its connection."""

    def on_headers_sent(self, exchange: Http2Exchange) -> None:
        """The exchange has an id now."""
        ...

    def on_end_sent(self, exchange: Http2Exchange) -> None:
        """END_STREAM is on its way."""
        ...

    def on_body_failed(self, exchange: Http2Exchange) -> None:
        """Its body raised."""
        ...

    def on_send_failed(self, error: OSError) -> None:
        """The connection is of no more use."""
        ...


class Http2Sender:
    """The outgoing half of a connection."""

    __slots__ = (
        "_bytes_max", "_out", "_out_bytes", "_owner", "_parked", "_ready", "_sending", "_starved",
        "_wire", "is_held", "next_id", "stream_window", "window", "work",
    )  # fmt: skip

    def __init__(self, wire: Wire, bytes_max: int, owner: Sending) -> None:
        self.next_id = 1
        self.window = h2.DEFAULT_WINDOW  # of the connection
        self.stream_window = h2.DEFAULT_WINDOW  # of each new stream, by the peer's SETTINGS
        self.work = 0  # HEADERS and DATA frames sent
        self.is_held = False  # the reader is at work and will flush
        self._wire = wire
        self._bytes_max = bytes_max
        self._owner = owner
        self._out: list[bytes | memoryview] = []
        self._out_bytes = 0  # of `_out` and of what the writer is sending
        self._ready: deque[Http2Exchange] = deque()  # may have something to send
        self._starved: deque[Http2Exchange] = deque()  # wait for the connection's window
        self._sending = False
        self._parked: trio.lowlevel.Task | None = None

    @property
    def opened(self) -> int:
        """How many streams were opened, those that are over included."""
        return self.next_id >> 1

    def mark(self, exchange: Http2Exchange) -> None:
        """Let an exchange have its turn."""
        if not exchange.is_marked:
            exchange.is_marked = True
            self._ready.append(exchange)
            self._wake()

    def emit(self, octets: bytes) -> None:
        """Send a frame that no window restricts."""
        self._out.append(octets)
        self._out_bytes += len(octets)
        self._wake()

    def widen(self, increment: int) -> None:
        """The peer enlarged the connection's window."""
        self.window += increment
        if self._starved:
            self._ready += self._starved
            self._starved.clear()
            self._wake()

    def forget(self, exchanges: list[Http2Exchange]) -> None:
        """Take exchanges out of their turn."""
        for exchange in exchanges:
            exchange.is_marked = False
            self._ready.remove(exchange)

    def flush(self) -> None:
        """Send without waiting; what the kernel does not take is left to the writer."""
        if self._wire.sends_directly and not self._sending:
            octets = self._collect()
            if octets:
                try:
                    sent = self._wire.send_now(octets)
                except OSError as error:
                    self._owner.on_send_failed(error)
                    return
                self._out_bytes -= sent
                if sent < len(octets):
                    self._out.append(memoryview(octets)[sent:])
        if self._out or self._ready:
            self._wake()

    async def run(self) -> None:
        """The writer task."""
        while True:
            if not self._out and not self._ready:
                await self._park()
            octets = self._collect()
            self._sending = True
            try:
                sent = self._wire.send_now(octets)
                if sent < len(octets):
                    await self._wire.send_all(memoryview(octets)[sent:])
                elif self._ready:
                    await trio.lowlevel.checkpoint()  # a long request must not hold the loop
            except OSError as error:
                self._owner.on_send_failed(error)
                return
            self._sending = False  # not when cancelled: `last_words` must know
            self._out_bytes -= len(octets)

    def last_words(self, octets: bytes) -> bytes:
        """What may still be sent at the end; nothing once a write was cut in the middle."""
        return b"" if self._sending else b"".join((*self._out, octets))

    def _wake(self) -> None:
        if self._parked is not None and not self.is_held:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None

    async def _park(self) -> None:
        def give_up(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(give_up)

    def _collect(self) -> bytes:
        """Frames of ready exchanges behind those of the connection, within the bound."""
        ready = self._ready
        while ready and self._out_bytes < self._bytes_max:
            exchange = ready.popleft()
            exchange.is_marked = False
            if exchange.is_closed or exchange.is_local_ended:
                continue
            try:
                self._send(exchange)
            except StoreFailedError:
                raise
            except Exception:  # the body is a generator of the attempt
                log.exception("event=request_body_failed stream=%d", exchange.id)
                self._owner.on_body_failed(exchange)
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def _send(self, exchange: Http2Exchange) -> None:
        """One turn: HEADERS if they are due, then at most one DATA frame."""
        has_more = exchange.advance()
        if not exchange.id:
            self._send_headers(exchange, is_last=exchange.ends and not has_more)
            if exchange.is_local_ended:
                return
        budget = min(exchange.window, self.window, h2.FRAME_BYTES_MAX)
        pieces: list[bytes | memoryview] = []
        size = 0
        if has_more and budget > 0:
            size = exchange.take(budget, pieces)
            has_more = exchange.advance()
        is_last = exchange.ends and not has_more
        if size or is_last:
            # C88: the end of the request is a flag of DATA, never trailers.
            flags = h2.END_STREAM if is_last else 0
            self._out.append(h2.frame_head(h2.DATA, flags, exchange.id, size))
            self._out += pieces
            self._out_bytes += 9 + size
            self.work += 1
            exchange.window -= size
            self.window -= size
        if is_last:
            self._owner.on_end_sent(exchange)
        elif has_more:
            self._queue(exchange)

    def _queue(self, exchange: Http2Exchange) -> None:
        """Another turn, as soon as a window allows one; a stream's own window marks it itself."""
        if self.window <= 0:
            exchange.is_marked = True
            self._starved.append(exchange)
        elif exchange.window > 0:
            exchange.is_marked = True
            self._ready.append(exchange)

    def _send_headers(self, exchange: Http2Exchange, *, is_last: bool) -> None:
        exchange.id = stream_id = self.next_id
        self.next_id += 2
        exchange.window = self.stream_window
        flags = h2.END_STREAM if is_last else 0
        block = exchange.block
        if len(block) <= h2.FRAME_BYTES_MAX:
            octets = h2.frame(h2.HEADERS, flags | h2.END_HEADERS, stream_id, block)
        else:
            octets = h2.long_block(flags, stream_id, block)
        exchange.block = b""
        self._out.append(octets)
        self._out_bytes += len(octets)
        self.work += 1
        self._owner.on_headers_sent(exchange)
        if is_last:
            self._owner.on_end_sent(exchange)
