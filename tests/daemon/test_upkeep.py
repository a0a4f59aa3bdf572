"""When the log is shortened; when new work is refused for want of disk, and taken again."""

from pathlib import Path

import trio
import trio.testing

from restated.core.effects import Put
from restated.daemon.system import SystemClock
from restated.daemon.upkeep import LOOK_S, MEASURE_LOOKS, Upkeep
from restated.model.records import Entry
from restated.store.sqlite import open_sqlite

MIB = 1 << 20


class Disk:
    """A file system whose free space the test sets."""

    def __init__(self) -> None:
        self.free = 100 * MIB

    def free_bytes(self, path: str) -> int:  # noqa: ARG002 - one disk
        """As set."""
        return self.free

    def file_bytes(self, path: str) -> int:  # noqa: ARG002 - one disk
        """Nobody asks."""
        return 0


def test_new_work_is_refused_on_a_full_disk_until_there_is_room_again(tmp_path: Path) -> None:
    """D4: refused before the disk is full, not after; taken again at the next look."""
    seen: list[str | None] = []

    async def main() -> None:
        disk = Disk()
        store = await open_sqlite(tmp_path / "data", clock=SystemClock(), fs=disk)
        upkeep = Upkeep(store, 16 * MIB, 50 * MIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run)
            for free, looks in (
                (100 * MIB, MEASURE_LOOKS),
                (40 * MIB, MEASURE_LOOKS),
                (60 * MIB, 1),
            ):
                disk.free = free
                await trio.sleep(LOOK_S * (looks + 0.5))
                seen.append(upkeep.admits())
            nursery.cancel_scope.cancel()
        await store.aclose()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert seen[0] is None
    assert seen[1] is not None
    assert "40 MiB" in seen[1]
    assert seen[2] is None


def test_the_log_of_a_busy_daemon_starts_over(tmp_path: Path) -> None:
    """D6: checkpoints between commits keep it bounded; every row survives."""

    async def main() -> None:
        store = await open_sqlite(tmp_path / "data", clock=SystemClock(), fs=Disk())
        upkeep = Upkeep(store, MIB, 0)
        largest = 0
        for index in range(40):
            await store.commit([Put(Entry(1, index, 1, bytes(MIB // 4), 1))])
            largest = max(largest, store.wal_bytes)
            await upkeep.shorten_wal()
        assert store.checkpoint_count > 2
        assert largest < 3 * MIB, "of 10 MiB written"
        assert len(list(store.scan(Entry, 1))) == 40
        await store.aclose()

    trio.run(main)


def test_a_pinned_log_is_moved_again_after_growth_only(tmp_path: Path) -> None:
    """D6: no checkpoint at each look while a reader pins the log; it is short again after it."""

    async def main() -> None:
        store = await open_sqlite(tmp_path / "data", clock=SystemClock(), fs=Disk())
        upkeep = Upkeep(store, MIB, 0)

        async def commit_and_look(index: int, size: int) -> int:
            await store.commit([Put(Entry(1, index, 1, bytes(size), 1))])
            for _ in range(5):
                await upkeep.shorten_wal()
            return store.checkpoint_count

        with store.snapshot() as view:
            assert list(view.scan(Entry, 1)) == []
            assert await commit_and_look(0, 2 * MIB) == 1
            assert await commit_and_look(1, 1000) == 1
            assert await commit_and_look(2, MIB) == 2
        await commit_and_look(3, MIB)
        await commit_and_look(4, 1000)
        assert store.wal_bytes < 2 * MIB, "of 5 MiB: it started over"
        await store.aclose()

    trio.run(main)
