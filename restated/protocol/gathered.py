"""A large value that arrives in pieces.

Lives here: Gathered.
Does not: how large it may become (whoever adds to it knows).
Why not a bytearray: its bytes are had by a copy only, so that a value is in memory twice (M3).
"""

from io import BytesIO
from typing import Final

APART_BYTES: Final = 1 << 20


class Gathered:
    """Bytes that grow; `value` gives them away without a copy."""

    __slots__ = ("_buffer", "_is_apart", "size")

    def __init__(self) -> None:
        self.size = 0
        self._buffer = BytesIO()
        self._is_apart = False

    def add(self, piece: bytes | memoryview) -> None:
        """Append a piece."""
        self.size += self._buffer.write(piece)
        if self.size >= APART_BYTES and not self._is_apart:
            # A block that grows from small to large stays on the heap, under whatever comes to
            # lie above it; one that begins large is on its own and goes back to the system.
            self._is_apart = True
            small, self._buffer = self._buffer, BytesIO()
            self._buffer.write(small.getbuffer())

    def value(self) -> bytes:
        """All of it; nothing may be added any more."""
        return self._buffer.getvalue()
