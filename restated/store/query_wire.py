"""What the daemon and its query child say to each other.

Lives here: the messages, their frames (length, msgpack), the reading of frames.
Does not: who sends what when (query.py, query_child.py).

An answer is paced by credits: the child sends a piece for each credit it was given, so a slow
client fills neither process. A statement ends with `End` or `Failed`, also after `Stop`.
"""

from typing import Final, Literal, TypeAlias

import msgspec

from restated.model.records import Record

Form = Literal["json", "arrow"]
LiveAttempt: TypeAlias = tuple[str, bool, int | None, str | None, str | None]
"""(invocation id, in flight, started at, deployment id, server) of an attempt in memory."""

CREDITS_AT_START: Final = 4  # pieces under way before the client takes the first
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
LIVE_MAX: Final = 10_000


class Message(Record, array_like=True, tag=True):
    """One message; `number` is the statement's."""

    number: int


class Run(Message, tag="run"):
    """Run a statement. `live` is the msgpack of a list of LiveAttempt."""

    sql: str
    form: Form
    now_ms: int
    timeout_ms: int
    live: bytes


class Credit(Message, tag="credit"):
    """The client took a piece: send one more."""


class Stop(Message, tag="stop"):
    """The client is gone: end the statement at once."""


class Started(Message, tag="started"):
    """The statement is right; pieces follow."""


class Piece(Message, tag="piece"):
    """The next part of the answer."""

    content: bytes


class End(Message, tag="end"):
    """The answer is complete."""


class Failed(Message, tag="failed"):
    """The statement is wrong (400), too expensive (400) or could not be run (500)."""

    status: int
    message: str


Request: TypeAlias = Run | Credit | Stop
Response: TypeAlias = Started | Piece | End | Failed

_encoder: Final = msgspec.msgpack.Encoder()
requests: Final = msgspec.msgpack.Decoder(Request)
responses: Final = msgspec.msgpack.Decoder(Response)


def frame(message: Message) -> bytes:
    """The bytes of one message on the socket."""
    body = _encoder.encode(message)
    assert len(body) <= FRAME_BYTES_MAX, "pieces are bounded"
    return len(body).to_bytes(4, "big") + body


class Frames:
    """Cuts received bytes into the bodies of frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """The bodies that are complete now, in order."""
        self._buffer += received
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= 4:
            length = int.from_bytes(self._buffer[start : start + 4], "big")
            assert length <= FRAME_BYTES_MAX, "both ends are ours"
            if len(self._buffer) - start - 4 < length:
                break
            bodies.append(bytes(self._buffer[start + 4 : start + 4 + length]))
            start += 4 + length
        del self._buffer[:start]
        return bodies
