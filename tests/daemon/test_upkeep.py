"""When new work is refused for want of disk, and taken again."""

from pathlib import Path

import trio
import trio.testing

from restated.daemon.system import SystemClock
from restated.daemon.upkeep import LOOK_S, MEASURE_LOOKS, Upkeep
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
    """D4: refused before the disk is full, not after; what was accepted goes on."""
    seen: list[str | None] = []

    async def main() -> None:
        disk = Disk()
        store = await open_sqlite(tmp_path / "data", clock=SystemClock(), fs=disk)
        upkeep = Upkeep(store, 16 * MIB, 50 * MIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run)
            for free in (100 * MIB, 40 * MIB, 60 * MIB):
                disk.free = free
                await trio.sleep(LOOK_S * (MEASURE_LOOKS + 1))
                seen.append(upkeep.admits())
            nursery.cancel_scope.cancel()
        await store.aclose()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert seen[0] is None
    assert seen[1] is not None
    assert "40 MiB" in seen[1]
    assert seen[2] is None
