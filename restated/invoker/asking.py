"""One request to a deployment outside any attempt, and its whole answer.

Lives here: waiting for an answer of bounded size, describing one that is no success.
Does not: when to ask again, how long to wait (whoever asks); connections (transport.py).
"""

from http import HTTPStatus
from typing import Final

import trio

from restated.invoker.transport import Exchange, ExchangeRequest, Transport, TransportError

SHOWN_BODY_BYTES_MAX: Final = 4_096  # of an answer that is no success

Headers = tuple[tuple[str, str], ...]


class WholeAnswer:
    """Receives one answer, at most `bytes_max` of its body."""

    __slots__ = ("_bytes_max", "_pieces", "_size", "done", "error", "exchange", "headers", "status")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._size = 0
        self.status = 0
        self.headers: Headers = ()
        self.error: TransportError | None = None
        self.exchange: Exchange | None = None
        self.done = trio.Event()

    @property
    def body(self) -> bytes:
        """What was received."""
        return b"".join(self._pieces)

    @property
    def is_too_large(self) -> bool:
        """Whether there was more than `bytes_max`; `body` is then only the beginning."""
        return self._size > self._bytes_max

    def on_response(self, status: int, headers: Headers) -> None:
        """See Receiver."""
        self.status, self.headers = status, headers

    def on_data(self, data: bytes) -> None:
        """See Receiver."""
        self._size += len(data)
        if self.is_too_large:
            self.done.set()
            return
        self._pieces.append(data)
        if self.exchange is not None:
            self.exchange.consumed(len(data))

    def on_end(self) -> None:
        """See Receiver."""
        self.done.set()

    def on_failed(self, error: TransportError) -> None:
        """See Receiver."""
        self.error = error
        self.done.set()

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key == name), None)

    def description(self, what: str | None = None) -> str:
        """Status, headers and the beginning of the body; `what` stands for the status."""
        fields = ", ".join(f"{quoted(name)}: {quoted(value)}" for name, value in self.headers)
        shown = self.body
        body = shown[:SHOWN_BODY_BYTES_MAX].decode("utf-8", "replace")
        if len(shown) > SHOWN_BODY_BYTES_MAX:
            body += f"... ({len(shown)} bytes)"
        status = what or f"'{_status_line(self.status)}'"
        return f"got status code {status}. Response headers: {{{fields}}}. Body: {body}"


async def ask(
    transport: Transport, request: ExchangeRequest, body: bytes = b"", *, bytes_max: int
) -> WholeAnswer:
    """Send a request and wait for its whole answer; raises TransportError.

    When the caller is cancelled, or the answer too large, the exchange is aborted.
    """
    answer = WholeAnswer(bytes_max)
    answer.exchange = transport.open(request, iter((body,) if body else ()), answer)
    try:
        await answer.done.wait()
    finally:
        answer.exchange.abort()
    if answer.error is not None:
        raise answer.error
    return answer


def quoted(text: str) -> str:
    """In double quotes; bytes that are no printable ASCII are escaped, for one line of a log."""
    escaped = text.encode("latin-1", "backslashreplace").replace(b"\\", b"\\\\")
    plain = escaped.replace(b'"', b'\\"')
    return '"' + "".join(chr(x) if 0x20 <= x < 0x7F else f"\\x{x:02x}" for x in plain) + '"'


def _status_line(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        return str(status)
    return f"{status} {_PHRASES.get(status, phrase)}"


# Where Python's names differ from those that every other tool prints.
_PHRASES: Final = {413: "Payload Too Large", 414: "URI Too Long", 418: "I'm a teapot"}
