"""Messages around one large value, put together and taken apart with a single copy of it.

Lives here: `around` (value -> body), `inside` (body -> value), `hollow` (body -> body without it).
Does not: everything else about bodies (messages.py): what these produce and accept is exactly
what the generated classes do, which keep up to three copies of a value while they are at it (M3).
"""

from typing import Final

from restated.model.records import Record

LARGE_BYTES: Final = 64 * 1024  # below it, copies cost less than care
_VARINT: Final = 0
_LENGTH_DELIMITED: Final = 2
_FIELD_MAX: Final = (1 << 29) - 1
_VARINT_BYTES_MAX: Final = 5  # tags and lengths below 2**32


def around(prefix: bytes, path: tuple[int, ...], value: bytes) -> bytes:
    """`prefix` (whole fields), then the value nested in the fields of `path`.

    `path` ends with a field of type bytes that protobuf leaves out when it is empty.
    """
    heads: list[bytes] = []
    size = len(value)
    for depth, field in enumerate(reversed(path)):
        if depth == 0 and not size:
            continue
        head = _varint(field << 3 | _LENGTH_DELIMITED) + _varint(size)
        heads.append(head)
        size += len(head)
    return b"".join((prefix, *reversed(heads), value))


def inside(body: bytes, path: tuple[int, ...]) -> bytes | None:
    """The value nested in the fields of `path`; None when it is not there exactly once.

    Whoever gets None asks protobuf. `body`, or what is `hollow` of it, has been decoded before, so
    it is well-formed.
    """
    place = _place(body, path)
    return None if place is None else body[place.start : place.end]


def hollow(body: bytes, path: tuple[int, ...]) -> bytes | None:
    """`body` with nothing in the first field of `path`; None where `inside` is None.

    Protobuf makes of it what it makes of `body`, but for that field's content.
    """
    if _place(body, path) is None:
        return None
    outer = _only(body, _Place(0, 0, len(body)), path[0])
    assert outer is not None
    return b"".join((body[: outer.size_at], b"\0", body[outer.end :]))


class _Place(Record):
    """Where the content of a field is, and where its size is told."""

    size_at: int
    start: int
    end: int


def _place(body: bytes, path: tuple[int, ...]) -> _Place | None:
    place = _Place(0, 0, len(body))
    for field in path:
        found = _only(body, place, field)
        if found is None:
            return None
        place = found
    return place


def _only(body: bytes, around: _Place, field: int) -> _Place | None:
    """The only field with this number; None for anything unusual."""
    found: _Place | None = None
    at, end = around.start, around.end
    while at < end:
        tag, size_at = _read_varint(body, at, end)
        size, at = _read_varint(body, size_at, end)
        if at > end or not 0 < tag >> 3 <= _FIELD_MAX:
            return None
        if tag & 7 == _VARINT and tag >> 3 != field:
            continue
        if tag & 7 != _LENGTH_DELIMITED or at + size > end:
            return None
        if tag >> 3 == field:
            if found is not None:
                return None
            found = _Place(size_at, at, at + size)
        at += size
    return found


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """A number and the place behind it; a place behind the end for what is no number."""
    value = 0
    for shift in range(_VARINT_BYTES_MAX):
        if at >= end:
            break
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at
    return 0, end + 1
