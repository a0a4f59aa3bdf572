# ruff: noqa: ARG002 - a disk without a size
"""How tests open a store: real clock and files, or a simulated disk."""

import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from restated.core.effects import Put
from restated.model.records import Counter, Entry
from restated.store.sqlite import SqliteStore, StoreLimits, open_sqlite
from tests.sim.disk import Disk, SimulatedVfs

LIMITS = StoreLimits(wal_reserve_bytes=64 << 10)
_names = itertools.count()


class RealClock:
    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        return time.monotonic_ns() / 1_000_000

    async def sleep_until_ms(self, wall_ms: int) -> None:
        raise NotImplementedError


class RealFs:
    def free_bytes(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def file_bytes(self, path: str) -> int:
        return Path(path).stat().st_size if Path(path).exists() else 0


class SimulatedFs:
    def free_bytes(self, path: str) -> int:
        return 1 << 40

    def file_bytes(self, path: str) -> int:
        return 0


@asynccontextmanager
async def on_files(path: Path, limits: StoreLimits = LIMITS) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(path, clock=RealClock(), fs=RealFs(), limits=limits)
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def on_simulated_disk(disk: Disk) -> AsyncIterator[SqliteStore]:
    """On failure the connections are only dropped, as by a process that was killed."""
    name = f"simulated-{next(_names)}"
    vfs = SimulatedVfs(name, disk)
    try:
        store = await open_sqlite(
            Path("/simulated"), clock=RealClock(), fs=SimulatedFs(), limits=LIMITS,
            single_connection=True, vfs=name,
        )  # fmt: skip
        try:
            yield store
        finally:
            await store.aclose()
    finally:
        vfs.unregister()


def on_path(
    path: Path, body: Callable[[SqliteStore], Awaitable[None]], limits: StoreLimits = LIMITS
) -> None:
    """Run `body` with a store in a directory."""

    async def run() -> None:
        async with on_files(path, limits) as store:
            await body(store)

    trio.run(run)


async def commit_some(store: SqliteStore) -> None:
    """Some rows, and some of the log."""
    for value in range(5):
        await store.commit([Put(Counter("a", value)), Put(Entry(1, value, 1, bytes(3000), 1))])


async def nothing(_store: SqliteStore) -> None:
    """Only open and close."""
