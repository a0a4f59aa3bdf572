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

Headers = tuple[tuple[str, str], ...]


class TransportError(Exception):
    """The peer or the network failed; the text is for operators, `code` an RT code."""

    def __init__(self, message: str, code: str = "RT0010") -> None:
        super().__init__(message)
        self.code = code


class WrongHttpVersionError(TransportError):
    """The peer speaks another version of HTTP than the one the deployment was registered with."""


class UnsendableError(TransportError):
    """A rule of ours forbids the request; asking again changes nothing."""


class TransportLimits(Record):
    """Bounds of the connections to deployments (design 3.15; service-protocol.md 2.1).

    `requests_max` has a reason in the field: hypercorn, under most Python services, answers
    request 1,001 of an HTTP/2 connection with GOAWAY and sends nothing more on it, so that every
    attempt in progress there fails and what it did is done again.
    """

    streams_max: int = 128  # per HTTP/2 connection, unless the peer allows fewer
    requests_max: int = 1_000  # per HTTP/2 connection in all; it is closed when they are over
    connections_max: int = 1_024  # per scheme, host and port
    waiting_max: int = 10_000  # exchanges without a connection, per scheme, host and port
    connect_timeout_seconds: float = 10.0  # TCP, TLS and the first SETTINGS of HTTP/2
    idle_seconds: float = 300.0
    ping_interval_seconds: float = 40.0
    ping_timeout_seconds: float = 20.0
    stream_window_bytes: int = 2 << 20
    connection_window_bytes: int = 5 << 20
    header_list_bytes_max: int = 16 << 10
    outgoing_bytes_max: int = 256 << 10  # per connection, not yet taken by the kernel (M4)
    cluster_name: str = "localcluster"  # sent as x-restate-cluster-name with every request


class ExchangeRequest(Record):
    """One request to a deployment. `path` is below the base URI, e.g. `/invoke/Greeter/greet`.

    `headers` are those of this exchange only: the transport adds the deployment's registered
    additional headers and `x-restate-cluster-name` behind them.
    """

    deployment: Deployment
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    streams: bool  # the request stays open for more bytes after `body`
    object_key: str | None = None  # of the target, for request identity


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

    def send_lazily(self, pieces: Iterator[bytes]) -> None:
        """Queue bytes that are made when their turn comes."""
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

    def keep(self, count: int) -> None:
        """`count` more bytes are not consumed for long: that must not hold up other exchanges."""
        ...


class Transport(Protocol):
    """Opens exchanges."""

    def open(self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver) -> Exchange:
        """Start an exchange; never raises, failures go to `receiver.on_failed`.

        `body` is pulled lazily; when it is exhausted and `request.streams` is False the request
        is half-closed.
        """
        ...
