"""A clock whose wall time is Trio's virtual time, and may be stepped; a seeded Rng."""

import hashlib

import trio

EPOCH_MS = 1_700_000_000_000


class VirtualClock:
    """Implements `Clock` over trio.testing.MockClock; `step_ms` moves the wall, not the time."""

    def __init__(self) -> None:
        self.step_ms = 0

    def wall_ms(self) -> int:
        """Wall time."""
        return EPOCH_MS + self.step_ms + int(trio.current_time() * 1000)

    def monotonic_ms(self) -> float:
        """Monotonic time."""
        return trio.current_time() * 1000

    async def sleep_until_ms(self, wall_ms: int) -> None:
        """Sleep, looking at the wall again at least each second (T4)."""
        while (left_ms := wall_ms - self.wall_ms()) > 0:  # noqa: ASYNC110 - this is the clock
            await trio.sleep(min(left_ms / 1000, 1.0))


class SeededRng:
    """Implements `Rng`: the same seed draws the same."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._drawn = 0

    def bytes(self, count: int) -> bytes:
        """`count` bytes of a hash chain."""
        drawn = b""
        while len(drawn) < count:
            self._drawn += 1
            drawn += hashlib.sha256(f"{self._seed}:{self._drawn}".encode()).digest()
        return drawn[:count]

    def below(self, bound: int) -> int:
        """A number below `bound`."""
        return int.from_bytes(self.bytes(8), "big") % bound
