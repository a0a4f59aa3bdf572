"""Frames of the service protocol: 8 bytes of header, then one message body.

Lives here: `frame` (encode), `FrameDecoder` (bytes in any pieces -> frames, with a size limit).
Does not: what a body holds (messages.py), sockets (invoker/).

Header, big-endian: type code u16, flags u16, body length u32 (service-protocol.md 3.1). The borders
of the pieces mean nothing. Work and memory are linear in the bytes received, however they are cut.
"""

import struct
from typing import Final

from restated.model.records import Record

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

    __slots__ = ("_body_bytes", "_message_bytes_max", "_partial")

    def __init__(self, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        """Refuse messages whose body has `message_bytes_max` bytes or more."""
        self._message_bytes_max = message_bytes_max
        self._partial = bytearray()  # header and body of the frame that has begun
        self._body_bytes: int | None = None  # of that frame, once its header is complete

    @property
    def has_partial(self) -> bool:
        """Whether a frame has begun and is not complete: the stream must not end here."""
        return bool(self._partial)

    def receive(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the stream; return the frames they complete, in order.

        Raises `MessageTooLargeError` as soon as a header says so, before its body is kept.
        """
        frames: list[Frame] = []
        offset = self._complete_partial(data, frames) if self._partial else 0
        end = len(data)
        while end - offset >= HEADER_BYTES:
            type_code, flags, body_bytes = _HEADER.unpack_from(data, offset)
            if body_bytes >= self._message_bytes_max:
                raise MessageTooLargeError(body_bytes, self._message_bytes_max, tuple(frames))
            body_offset = offset + HEADER_BYTES
            next_offset = body_offset + body_bytes
            if next_offset > end:
                self._body_bytes = body_bytes
                break
            body = data[body_offset:next_offset]
            frames.append(Frame(type_code, bool(flags & _REQUESTED_ACK), body))
            offset = next_offset
        if offset < end:
            self._partial += data[offset:]
        return frames

    def _complete_partial(self, data: bytes, frames: list[Frame]) -> int:
        """Add to the frame that has begun what it lacks; return how much of `data` it took."""
        partial = self._partial
        offset = 0
        if self._body_bytes is None:
            offset = HEADER_BYTES - len(partial)
            partial += data[:offset]
            if len(partial) < HEADER_BYTES:
                return len(data)
            self._body_bytes = _HEADER.unpack_from(partial)[2]
            if self._body_bytes >= self._message_bytes_max:
                raise MessageTooLargeError(self._body_bytes, self._message_bytes_max, ())
        lacking = HEADER_BYTES + self._body_bytes - len(partial)
        partial += data[offset : offset + lacking]
        offset += lacking
        if offset > len(data):
            return len(data)
        type_code, flags, _ = _HEADER.unpack_from(partial)
        with memoryview(partial) as view:
            body = bytes(view[HEADER_BYTES:])
        frames.append(Frame(type_code, bool(flags & _REQUESTED_ACK), body))
        self._partial = bytearray()
        self._body_bytes = None
        return offset
