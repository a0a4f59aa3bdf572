"""One request on an HTTP/2 connection: what is still to be sent, what the windows allow.

Lives here: `Http2Exchange`, the Exchange of HTTP/2 deployments.
Does not: frames on the wire and the order among streams (http2_connection.py), which connection
it runs on (http2.py).
"""

import logging
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from restated.invoker.frames import CANCEL, DEFAULT_WINDOW
from restated.invoker.transport import Receiver, TransportError
from restated.store.store import StoreFailedError

log = logging.getLogger(__name__)


class Carrier(Protocol):
    """What an exchange asks of its connection."""

    def mark(self, exchange: "Http2Exchange") -> None:
        """It has something to send."""
        ...

    def reset(self, exchange: "Http2Exchange", code: int) -> None:
        """Close the stream at once; the receiver is told nothing."""
        ...

    def credit_stream(self, exchange: "Http2Exchange", count: int) -> None:
        """Let the peer send `count` more bytes on the stream."""
        ...

    def credit_connection(self, count: int) -> None:
        """Let the peer send `count` more bytes on the connection."""
        ...


class Http2Exchange:
    """A stream, from the moment it is asked for; without a connection it waits for one.

    The connection reads and writes the public attributes; everybody else uses the methods of
    the Exchange protocol.
    """

    __slots__ = (
        "_body",
        "_head",
        "_queue",
        "block",
        "body_left",
        "carrier",
        "ends",
        "has_responded",
        "id",
        "is_closed",
        "is_local_ended",
        "is_marked",
        "is_moved",
        "is_remote_ended",
        "kept",
        "owed",
        "receive_window",
        "receiver",
        "unconsumed",
        "window",
    )

    def __init__(
        self, block: bytes, body: Iterator[bytes], receiver: Receiver, *, streams: bool
    ) -> None:
        self.block = block  # the encoded request header block
        self.receiver: Receiver | None = receiver  # None: wants to hear nothing more
        self.carrier: Carrier | None = None
        self.id = 0  # 0: no frame sent yet
        self.ends = not streams  # END_STREAM follows the bytes that are here
        self.is_local_ended = False
        self.is_remote_ended = False
        self.is_closed = False
        self.is_marked = False  # stands in the connection's list of senders
        self.is_moved = False  # was handed back once by a connection that closed
        self.has_responded = False
        self.body_left: int | None = None  # of the announced content length
        self.window = DEFAULT_WINDOW  # bytes that we may send
        self.receive_window = 0  # bytes that the peer may send
        self.unconsumed = 0  # received, and not yet given back by `consumed`
        self.kept = 0  # of these, what the connection was given back by `keep`
        self.owed = 0  # given back, and not yet announced to the peer
        self._body: Iterator[bytes] | None = body
        self._head: bytes | memoryview | None = None
        self._queue: deque[bytes | Iterator[bytes]] = deque()

    # -- the Exchange protocol

    def send(self, data: bytes) -> None:
        """Queue bytes; dropped once our side has ended or the exchange is over."""
        if self.ends or self.is_closed or not data:
            return
        self._queue.append(data)
        if self.carrier is not None:
            self.carrier.mark(self)

    def send_lazily(self, pieces: Iterator[bytes]) -> None:
        """Queue bytes that are made when their turn comes; dropped like those of `send`."""
        if self.ends or self.is_closed:
            return
        self._queue.append(pieces)
        if self.carrier is not None:
            self.carrier.mark(self)

    def end(self) -> None:
        """Half-close behind everything queued. Idempotent."""
        if self.ends or self.is_closed:
            return
        self.ends = True
        if self.carrier is not None:
            self.carrier.mark(self)

    def abort(self) -> None:
        """Give up at once. Idempotent."""
        self.receiver = None
        if self.is_closed:
            return
        if self.carrier is not None:
            self.carrier.reset(self, CANCEL)
        self.close()

    def consumed(self, count: int) -> None:
        """Give `count` bytes of window back to the peer, at most what it has sent."""
        if self.is_closed or self.is_remote_ended or self.carrier is None:
            return
        count = min(count, self.unconsumed)
        kept = min(count, self.kept)
        self.unconsumed -= count
        self.kept -= kept
        self.carrier.credit_stream(self, count)
        self.carrier.credit_connection(count - kept)

    def keep(self, count: int) -> None:
        """Give the connection back what stays unconsumed on the stream (C83)."""
        if self.is_closed or self.is_remote_ended or self.carrier is None:
            return
        count = min(count, self.unconsumed - self.kept)
        self.kept += count
        self.carrier.credit_connection(count)

    # -- for the connection and the pool

    def advance(self) -> bool:
        """Whether there are bytes to send now; pulls at most one piece from the body."""
        if self._head is not None:
            return True
        while True:
            while self._body is not None:
                piece = next(self._body, None)
                if piece is None:
                    self._body = None
                elif piece:
                    self._head = piece
                    return True
            if not self._queue:
                return False
            queued = self._queue.popleft()
            if isinstance(queued, bytes):
                self._head = queued
                return True
            self._body = queued

    def take(self, budget: int, into: list[bytes | memoryview]) -> int:
        """Append at most `budget` bytes to `into`; returns how many."""
        room = budget
        while room and self.advance():
            head = self._head
            assert head is not None
            if len(head) <= room:
                into.append(head)
                room -= len(head)
                self._head = None
            else:
                view = memoryview(head)
                into.append(view[:room])
                self._head = view[room:]
                room = 0
        return budget - room

    def forget_unconsumed(self) -> int:
        """Nothing more is consumed; what the connection is still to be given back."""
        left = self.unconsumed - self.kept
        self.unconsumed = self.kept = 0
        return left

    def discard(self) -> bool:
        """Drop what is queued; returns whether bytes of the request are missing by that."""
        is_cut = self._head is not None or self._body is not None or bool(self._queue)
        self._head = self._body = None
        self._queue.clear()
        return is_cut

    def close(self) -> None:
        """The stream is over: release what it holds."""
        self.is_closed = True
        self.carrier = None
        self.discard()

    def fail(self, error: TransportError) -> None:
        """The stream is over because of `error`; the receiver hears it once."""
        self.close()
        receiver, self.receiver = self.receiver, None
        if receiver is None:
            return
        try:
            receiver.on_failed(error)
        except StoreFailedError:
            raise
        except Exception:  # a defect of one attempt must not take the others along
            log.exception("event=receiver_failed stream=%d", self.id)
