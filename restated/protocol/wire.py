"""Frames of the service protocol: 8 bytes of header, then one message body.

Lives here: `frame` (encode), `FrameDecoder` (bytes in any pieces -> frames, with a size limit).
Does not: what a body holds (messages.py), sockets (invoker/).

Header, big-endian: type code u16, flags u16, body length u32 (service-protocol.md 3.1). The borders
of the pieces mean nothing. Work and memory are linear in the bytes received, however they are cut.
"""

import struct
from typing import Final

from restated.model.records import Record
from restated.protocol.gathered import Gathered

HEADER_BYTES: Final = 8
MESSAGE_BYTES_MAX: Final = 33_816_576  # 32 MiB of payload and 256 KiB for what surrounds it
_HEADER: Final = struct.Struct(">HHI")
_REQUESTED_ACK: Final = 0x8000


class Frame(Record):
    """One message as it travels. `requested_ack`: the sender wants to know when it is stored."""

    type: int
    requested_ack: bool
    body: bytes


class MessageTooLargeError(ValueError):
    """A header announces more than the limit; the attempt fails with RT0003.

    `frames` are those that the same piece of the stream completed before that header.
    """

    def __init__(self, body_bytes: int, message_bytes_max: int, frames: tuple[Frame, ...]) -> None:
        super().__init__(
            f"message encoding error: hit message size limit: {body_bytes} >= {message_bytes_max}"
        )
        self.frames = frames


def frame(type_code: int, body: bytes, *, requested_ack: bool = False) -> bytes:
    """Put the header in front of a message body."""
    flags = _REQUESTED_ACK if requested_ack else 0
    return _HEADER.pack(type_code, flags, len(body)) + body


class FrameDecoder:
    """Cuts a stream into frames. After a `MessageTooLargeError` the stream cannot go on."""

    __slots__ = ("_body", "_body_bytes", "_flags", "_header", "_message_bytes_max", "_type")

    def __init__(self, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        """Refuse messages whose body has `message_bytes_max` bytes or more."""
        self._message_bytes_max = message_bytes_max
        self._header = b""  # of the frame that has begun, as long as it is not complete
        self._body: Gathered | None = None  # of the frame that has begun, behind its header
        self._type = self._flags = self._body_bytes = 0  # what that header says

    @property
    def has_partial(self) -> bool:
        """Whether a frame has begun and is not complete: the stream must not end here."""
        return bool(self._header) or self._body is not None

    @property
    def announced_bytes(self) -> int:
        """The size of the body that has begun and is not complete; 0 between two bodies."""
        return self._body_bytes if self._body is not None else 0

    def receive(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the stream; return the frames they complete, in order.

        Raises `MessageTooLargeError` as soon as a header says so, before its body is kept.
        """
        frames: list[Frame] = []
        offset = 0
        if self._body is not None:
            offset = self._complete_body(self._body, data, frames)
        elif self._header:
            data, self._header = self._header + data, b""
        end = len(data)
        while end - offset >= HEADER_BYTES:
            type_code, flags, body_bytes = _HEADER.unpack_from(data, offset)
            if body_bytes >= self._message_bytes_max:
                raise MessageTooLargeError(body_bytes, self._message_bytes_max, tuple(frames))
            offset += HEADER_BYTES
            next_offset = offset + body_bytes
            if next_offset > end:
                self._type, self._flags, self._body_bytes = type_code, flags, body_bytes
                self._body = Gathered()
                self._body.add(data[offset:])
                return frames
            body = data[offset:next_offset]
            frames.append(Frame(type_code, bool(flags & _REQUESTED_ACK), body))
            offset = next_offset
        self._header = data[offset:]
        return frames

    def _complete_body(self, body: Gathered, data: bytes, frames: list[Frame]) -> int:
        """Add to the body that has begun what it lacks; return how much of `data` it took."""
        lacking = self._body_bytes - body.size
        if len(data) < lacking:
            body.add(data)
            return len(data)
        body.add(data[:lacking])
        self._body = None
        frames.append(Frame(self._type, bool(self._flags & _REQUESTED_ACK), body.value()))
        return lacking
