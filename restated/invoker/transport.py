"""What carries an attempt to its deployment: the Transport and Exchange protocols.

Lives here: the request and answer of one exchange, the callbacks of its receiver, targets that
are never connected to.
Does not: HTTP/2 (http2.py), HTTP/1.1 (http1.py), discovery (discovery.py), what the bytes mean
(session.py).

Everything about an exchange is a synchronous call in the event loop: a connection's reader calls
the receiver, the receiver answers at once. An attempt therefore needs no task of its own; bodies
too large for the window are pulled from an iterator as the window opens.
"""

from collections.abc import Iterator
from typing import Protocol

from restated.model.records import Deployment, Record


class TransportError(Exception):
    """The peer or the network failed; the text is for operators, `code` an RT code."""

    def __init__(self, message: str, code: str = "RT0010") -> None:
        super().__init__(message)
        self.code = code


class ExchangeRequest(Record):
    """One request to a deployment. `path` is below the base URI, e.g. `/invoke/Greeter/greet`."""

    deployment: Deployment
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    streams: bool  # the request stays open for more bytes after `body`


class Receiver(Protocol):
    """Who gets the answer. Called in byte order; nothing after on_end or on_failed."""

    def on_response(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        """The head of the answer; header names in lower case."""
        ...

    def on_data(self, data: bytes) -> None:
        """A piece of the answer's body. Call `Exchange.consumed` when it has been dealt with."""
        ...

    def on_end(self) -> None:
        """The answer is complete."""
        ...

    def on_failed(self, error: TransportError) -> None:
        """Connecting, sending or receiving failed; there will be nothing more."""
        ...


class Exchange(Protocol):
    """One request in progress."""

    def send(self, data: bytes) -> None:
        """Queue bytes behind everything queued before; sent as the peer's window allows."""
        ...

    def end(self) -> None:
        """Half-close: no more bytes of ours. Idempotent."""
        ...

    def abort(self) -> None:
        """Give up at once (RST_STREAM CANCEL); the receiver is not called again. Idempotent."""
        ...

    def consumed(self, count: int) -> None:
        """Let the peer send `count` more body bytes."""
        ...


class Transport(Protocol):
    """Opens exchanges."""

    def open(self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver) -> Exchange:
        """Start an exchange; never raises, failures go to `receiver.on_failed`.

        `body` is pulled lazily; when it is exhausted and `request.streams` is False the request
        is half-closed.
        """
        ...
