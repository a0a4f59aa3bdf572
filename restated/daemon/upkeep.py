"""Keeping the disk in order beside the work.

Lives here: when the WAL is moved into the database, when new work is refused for want of disk.
Does not: how (store/sqlite.py), what a refused caller is told beyond the reason (ingress).
Rules: D4 what was accepted can still be finished when the disk is almost full; D6 a WAL that
something pins must not grow for ever.
"""

import logging
from typing import Final, NoReturn

import trio

from restated.store.sqlite import SqliteStore

LOOK_S: Final = 0.25  # a WAL grows by at most some tens of MiB between two looks
MEASURE_LOOKS: Final = 8  # free space is asked for every so many looks

log = logging.getLogger("restated.daemon")


class Upkeep:
    """Looks after the store while the daemon runs."""

    __slots__ = (
        "_checkpoint_at_bytes",
        "_checkpoint_wal_bytes",
        "_free_bytes_min",
        "_store",
        "refusal",
    )

    def __init__(self, store: SqliteStore, checkpoint_wal_bytes: int, free_bytes_min: int) -> None:
        self._store = store
        self._checkpoint_wal_bytes = checkpoint_wal_bytes
        self._checkpoint_at_bytes = checkpoint_wal_bytes
        self._free_bytes_min = free_bytes_min
        self.refusal: str | None = None  # why no new work is taken
        self._measure()

    def admits(self) -> str | None:
        """Why no new invocation is accepted; None while they are."""
        return self.refusal

    async def run(self) -> NoReturn:
        """Look, for ever. StoreFailedError leaves it: fail-stop."""
        looks = 0
        while True:
            await trio.sleep(LOOK_S)
            looks += 1
            await self.shorten_wal()
            if looks % MEASURE_LOOKS == 0 or self._store.is_full or self.refusal is not None:
                self._measure()

    async def shorten_wal(self) -> None:
        """One look: move the WAL into the database when it is long enough."""
        store, bytes_max = self._store, self._checkpoint_wal_bytes
        if store.wal_bytes < bytes_max:
            self._checkpoint_at_bytes = bytes_max
        elif store.wal_bytes >= self._checkpoint_at_bytes or store.is_full:
            await store.checkpoint()
            # Next after some growth, not at each look: something may pin the WAL.
            self._checkpoint_at_bytes = store.wal_bytes + bytes_max // 4

    def _measure(self) -> None:
        free_bytes = self._store.usage().free_bytes
        refusal = None
        if self._store.is_full:
            refusal = "the write-ahead log cannot be shortened; end what reads the database"
        elif free_bytes < self._free_bytes_min:
            refusal = f"{free_bytes >> 20} MiB of disk are free; make room on it"
        if refusal != self.refusal:
            if refusal is None:
                log.info("new invocations are accepted again")
            else:
                log.error("new invocations are refused reason=%s", refusal)
        self.refusal = refusal
