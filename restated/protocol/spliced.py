"""Messages around one large value, put together and taken apart with a single copy of it.

Lives here: `around` (value -> body), `inside` (body -> value).
Does not: everything else about bodies (messages.py): what these two produce and accept is exactly
what the generated classes do, which keep up to three copies of a value while they are at it (M3).
"""

from typing import Final

LARGE_BYTES: Final = 64 * 1024  # below it, copies cost less than care
_LENGTH_DELIMITED: Final = 2
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

    Whoever gets None asks protobuf. `body` has been decoded once before, so it is well-formed.
    """
    start, end = 0, len(body)
    for field in path:
        found = _only(body, start, end, field)
        if found is None:
            return None
        start, end = found
    return body[start:end]


def _only(body: bytes, at: int, end: int, field: int) -> tuple[int, int] | None:
    """Where the content of the only field with this number is; None for anything unusual."""
    found: tuple[int, int] | None = None
    while at < end:
        tag, at = _read_varint(body, at, end)
        if tag & 7 != _LENGTH_DELIMITED:
            return None
        size, at = _read_varint(body, at, end)
        if at + size > end:
            return None
        if tag >> 3 == field:
            if found is not None:
                return None
            found = at, at + size
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
