"""One request and its answer on an HTTP/1.1 connection (RFC 9112).

Lives here: `Http1Exchange`: chunks of the request, parsing and limits of the answer.
Does not: which connection it runs on (http1.py).

Request and answer are independent of each other: an answer may come while the request is still
being sent. llhttp (httptools) parses; it has no limits of its own, so they are here.
"""

import logging
from collections import deque
from collections.abc import Iterator
from typing import Final

import httptools
import trio

from restated.invoker.dial import Wire, describe
from restated.invoker.transport import (
    Receiver,
    TransportError,
    TransportLimits,
    WrongHttpVersionError,
)
from restated.store.store import StoreFailedError

log = logging.getLogger(__name__)

ONLY_HTTP2: Final = (
    "server possibly supports only HTTP/2, consider discovering without --use-http1.1."
)
BURST_BYTES: Final = 65_536  # chunks that are sent together
UNCONSUMED_BYTES_MAX: Final = 262_144  # read ahead of the receiver (M4)
INFORMATIONAL_MAX: Final = 16  # answers 1xx in front of the answer
# Bytes that are no body: chunk sizes, extensions, trailers.
OVERHEAD_BYTES_MAX: Final = 65_536
OVERHEAD_PER_BODY_BYTE: Final = 16


class Http1Exchange:
    """An Exchange; `run` sends the request and reads the answer."""

    __slots__ = (
        "_answer", "_body", "_consumed", "_has_body", "_head", "_is_ended", "_is_sent", "_limits",
        "_queue", "_receiver", "_scope", "_unconsumed", "_wake", "is_closed",
    )  # fmt: skip

    def __init__(
        self,
        head: bytes,
        body: Iterator[bytes],
        receiver: Receiver,
        limits: TransportLimits,
        *,
        streams: bool = False,
        has_body: bool = True,
    ) -> None:
        self.is_closed = False  # nothing more will happen
        self._head = head
        self._body = body
        self._receiver: Receiver | None = receiver
        self._limits = limits
        self._has_body = has_body
        self._queue: deque[bytes | Iterator[bytes]] = deque()
        self._is_ended = not streams
        self._is_sent = False
        self._unconsumed = 0
        self._wake = trio.Event()
        self._consumed = trio.Event()
        self._scope = trio.CancelScope()
        self._answer = Answer(limits.header_list_bytes_max)

    # -- the Exchange protocol

    def send(self, data: bytes) -> None:
        """See Exchange; dropped once our side has ended or the exchange is over."""
        if data and not self._is_ended and not self.is_closed:
            self._queue.append(data)
            self._wake.set()

    def send_lazily(self, pieces: Iterator[bytes]) -> None:
        """See Exchange; dropped once our side has ended or the exchange is over."""
        if not self._is_ended and not self.is_closed:
            self._queue.append(pieces)
            self._wake.set()

    def end(self) -> None:
        """See Exchange."""
        self._is_ended = True
        self._wake.set()

    def abort(self) -> None:
        """See Exchange; HTTP/1.1 can only close the connection."""
        self._receiver = None
        self.is_closed = True
        self._scope.cancel()

    def consumed(self, count: int) -> None:
        """See Exchange."""
        self._unconsumed = max(0, self._unconsumed - count)
        self._consumed.set()

    def keep(self, count: int) -> None:
        """See Exchange; nobody else is on this connection."""

    # -- for the connection

    def fail(self, error: TransportError) -> None:
        """End the exchange; the receiver hears it once."""
        self.is_closed = True
        self._queue.clear()
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        try:
            receiver.on_failed(error)
        except StoreFailedError:
            raise
        except Exception:  # a defect of one attempt must not take others along
            log.exception("event=receiver_failed")

    async def run(self, wire: Wire) -> bool:
        """Send and receive; returns whether the connection may carry another exchange."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_request, wire)
                    await self._read_answer(wire)
                    nursery.cancel_scope.cancel()
        finally:
            self.fail(TransportError("the connection was closed"))
        return self._answer.is_complete and self._answer.keeps_alive and self._is_sent

    async def _send_request(self, wire: Wire) -> None:
        octets = self._head
        try:
            while True:
                octets += self._chunks()
                is_last = self._is_ended and not self._queue and self._body is _NOTHING
                if is_last and self._has_body:
                    octets += b"0\r\n\r\n"
                if octets:
                    await wire.send_all(octets)
                    octets = b""
                if is_last:
                    self._is_sent = True
                    return
                if self._body is _NOTHING and not self._queue and not self._is_ended:
                    self._wake = trio.Event()
                    await self._wake.wait()
        except OSError as error:
            # An answer may have come before the peer stopped to listen: the reader decides.
            log.debug("event=request_cut error=%s", describe(error))
        except StoreFailedError:
            raise
        except Exception:
            log.exception("event=request_body_failed")
            self.fail(TransportError("the exchange was broken off: no request could be produced"))
            self._scope.cancel()

    def _chunks(self) -> bytes:
        """One chunk per piece, so that each message arrives as one; a burst at a time."""
        chunks: list[bytes] = []
        size = 0
        while size < BURST_BYTES:
            piece = next(self._body, None)
            if piece is None:
                self._body = _NOTHING
                if not self._queue:
                    break
                queued = self._queue.popleft()
                if not isinstance(queued, bytes):
                    self._body = queued
                    continue
                piece = queued
            if piece and self._has_body:
                chunks += (b"%x\r\n" % len(piece), piece, b"\r\n")
                size += len(piece)
        return b"".join(chunks)

    async def _read_answer(self, wire: Wire) -> None:
        while not self.is_closed:
            if self._unconsumed > UNCONSUMED_BYTES_MAX:
                self._consumed = trio.Event()
                await self._consumed.wait()
                continue
            try:
                octets = await wire.receive()
                events = self._answer.feed(octets)
            except OSError as error:
                self.fail(TransportError(f"receiving failed: {describe(error)}"))
                return
            except TransportError as error:
                self.fail(error)
                return
            try:
                self._deliver(events)
            except StoreFailedError:
                raise
            except Exception:
                log.exception("event=receiver_failed")
                self._receiver = None
                return

    def _deliver(self, events: "list[Event]") -> None:
        for event in events:
            if self._receiver is None:
                return
            if isinstance(event, bytes):
                self._unconsumed += len(event)
                self._receiver.on_data(event)
            elif event is None:
                receiver, self._receiver = self._receiver, None
                self.is_closed = True
                receiver.on_end()
            else:
                self._receiver.on_response(*event)


Headers = tuple[tuple[str, str], ...]
Event = bytes | tuple[int, Headers] | None  # a piece of the body, the head, the end

_NOTHING: Final[Iterator[bytes]] = iter(())


class Answer:
    """Parses one answer; the public attributes say how it went."""

    __slots__ = (
        "_body_bytes", "_events", "_fields", "_has_head", "_has_length", "_head_bytes_max",
        "_informational", "_is_first", "_overhead", "_parser", "is_complete", "keeps_alive",
    )  # fmt: skip

    def __init__(self, head_bytes_max: int) -> None:
        self.is_complete = False
        self.keeps_alive = False
        self._parser = httptools.HttpResponseParser(self)
        self._head_bytes_max = head_bytes_max
        self._events: list[Event] = []
        self._fields: list[tuple[str, str]] = []
        self._has_head = False
        self._has_length = False  # the end of the body is marked by something but EOF
        self._is_first = True
        self._informational = 0
        self._overhead = 0
        self._body_bytes = 0

    def feed(self, octets: bytes) -> list[Event]:
        """What the next bytes mean; empty bytes are the end of the stream.

        Raises TransportError when they are no HTTP/1.1 or exceed a limit.
        """
        if not octets:
            return self._end_of_stream()
        if self._is_first and octets[:7] != b"HTTP/1."[: len(octets)]:
            raise WrongHttpVersionError(ONLY_HTTP2)
        self._is_first = False
        self._events = []
        before = self._body_bytes
        try:
            self._parser.feed_data(octets)
        except httptools.HttpParserUpgrade as error:
            raise TransportError("the service changed the protocol unasked") from error
        except httptools.HttpParserError as error:
            if not self.is_complete:
                raise TransportError(f"its answer is no valid HTTP/1.1: {error}") from error
            self.keeps_alive = False
        self._check_limits(len(octets) - (self._body_bytes - before))
        return self._events

    def _check_limits(self, overhead: int) -> None:
        if self._informational > INFORMATIONAL_MAX:
            raise TransportError("the service sends 1xx answers without end")
        self._overhead += overhead
        allowed = OVERHEAD_BYTES_MAX + OVERHEAD_PER_BODY_BYTE * self._body_bytes
        if not self._has_head:
            allowed = self._head_bytes_max
        if self._overhead > allowed:
            raise TransportError(
                f"its answer has too large a head or too many bytes around its body ({allowed})"
            )

    def _end_of_stream(self) -> list[Event]:
        if self._has_head and not self._has_length and not self.is_complete:
            self.is_complete = True
            return [None]
        where = "in the middle of its answer" if self._has_head else "before it answered"
        raise TransportError(f"the service closed the connection {where}")

    # -- called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one field; trailers are dropped."""
        if self._has_head:
            return
        key = name.decode("latin-1").lower()
        self._has_length |= key in {"content-length", "transfer-encoding"}
        self._fields.append((key, value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        """The head of an answer is there."""
        if self.is_complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._informational += 1
            return
        self._has_head = True
        self._has_length |= status in {204, 304}
        self._events.append((status, tuple(self._fields)))

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self.is_complete:
            self._body_bytes += len(body)
            self._events.append(bytes(body))

    def on_message_complete(self) -> None:
        """An answer, perhaps only one of 1xx, is complete."""
        if not self._has_head:
            self._fields.clear()
            self._has_length = False
        elif self.is_complete:
            self.keeps_alive = False  # more than was asked for
        else:
            self.is_complete = True
            self.keeps_alive = self._parser.should_keep_alive()
            self._events.append(None)
