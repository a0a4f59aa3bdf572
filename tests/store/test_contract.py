"""The contract of the store, over every implementation (design 3.7)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from restated.store.store import Store
from tests.sim.disk import Disk
from tests.sim.memory_store import MemoryStore
from tests.store.contract import CONTRACT
from tests.store.opening import LIMITS, on_files, on_simulated_disk

Opening = Callable[[Path], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def in_memory(_path: Path) -> AsyncIterator[Store]:
    yield MemoryStore()


@asynccontextmanager
async def commits_in_thread(path: Path) -> AsyncIterator[Store]:
    async with on_files(path, replace(LIMITS, inline_writes_max=0)) as store:
        yield store


@asynccontextmanager
async def simulated(_path: Path) -> AsyncIterator[Store]:
    async with on_simulated_disk(Disk(seed=0)) as store:
        yield store


@pytest.mark.parametrize("opening", [in_memory, on_files, commits_in_thread, simulated])
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_every_store_keeps_the_contract(
    opening: Opening, check: Callable[[Store], Awaitable[None]], tmp_path: Path
) -> None:
    """Each check says which promise it is about."""

    async def run() -> None:
        async with opening(tmp_path / "state") as store:
            await check(store)

    trio.run(run)
