"""restated/invoker/asking.py: one request, its whole answer. Source: admin.md 7.2, design 3.15."""

from collections.abc import Iterator

import pytest
import trio
import trio.testing

from restated.invoker.asking import SHOWN_BODY_BYTES_MAX, WholeAnswer, ask
from restated.invoker.transport import ExchangeRequest, Receiver, TransportError
from restated.model.records import Deployment

DEPLOYMENT = Deployment("dp_1", "http://h:9080", "http2", "bidi_stream", 5, 7, b"{}", b"{}", 1_000)
REQUEST = ExchangeRequest(DEPLOYMENT, "POST", "/x", (), streams=False)


class Scripted:
    """Implements Transport and Exchange: answers with pieces, ends unless told otherwise."""

    def __init__(self, *pieces: bytes, ends: bool = True, error: str | None = None) -> None:
        self.pieces = pieces
        self.ends = ends
        self.error = error
        self.sent = b""
        self.is_aborted = False

    def open(
        self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver
    ) -> "Scripted":
        assert request == REQUEST
        self.sent = b"".join(body)
        if self.error is not None:
            receiver.on_failed(TransportError(self.error))
            return self
        receiver.on_response(200, (("a", 'b"'),))
        for piece in self.pieces:
            receiver.on_data(piece)
        if self.ends:
            receiver.on_end()
        return self

    def send(self, data: bytes) -> None:
        """Nobody does."""

    def send_lazily(self, pieces: Iterator[bytes]) -> None:
        """Nobody does."""

    def end(self) -> None:
        """Nobody does."""

    def abort(self) -> None:
        self.is_aborted = True

    def consumed(self, count: int) -> None:
        """Nobody waits."""

    def keep(self, count: int) -> None:
        """Nobody else is there."""


def asked(transport: Scripted, bytes_max: int = 100) -> WholeAnswer:
    async def main() -> WholeAnswer:
        return await ask(transport, REQUEST, b"value", bytes_max=bytes_max)

    return trio.run(main)


def test_pieces_become_one_body() -> None:
    """In the order in which they came."""
    transport = Scripted(b"ab", b"c")
    answer = asked(transport)
    assert (transport.sent, answer.status, answer.body) == (b"value", 200, b"abc")
    assert answer.header("a") == 'b"'
    assert not answer.is_too_large


def test_more_than_the_bound_is_not_kept() -> None:
    """An answer without end costs no more than its bound."""
    transport = Scripted(b"abcd", b"e" * 100, b"f" * 100, ends=False)
    answer = asked(transport, bytes_max=10)
    assert answer.is_too_large
    assert answer.body == b"abcd"
    assert transport.is_aborted


def test_trouble_on_the_way_is_raised() -> None:
    """Whoever asks knows whether to ask again."""
    with pytest.raises(TransportError, match="refused"):
        asked(Scripted(error="refused"))


def test_giving_up_aborts_the_exchange() -> None:
    """A stream that nobody reads must not stay open."""
    transport = Scripted(ends=False)

    async def main() -> bool:
        with trio.move_on_after(5) as scope:
            await ask(transport, REQUEST, bytes_max=10)
        return scope.cancelled_caught

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert transport.is_aborted


def test_a_description_is_one_line_of_bounded_length() -> None:
    """It stands in a log and in an answer to the operator."""
    answer = asked(Scripted(b"x" * 5_000), bytes_max=10_000)
    assert answer.description() == (
        'got status code \'200 OK\'. Response headers: {"a": "b\\""}. Body: '
        + "x" * SHOWN_BODY_BYTES_MAX
        + "... (5000 bytes)"
    )
