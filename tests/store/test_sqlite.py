"""restated/store/sqlite.py: snapshots, faults, power cuts."""

import stat
import threading
from pathlib import Path

import apsw
import pytest
import trio
import trio.testing
from msgspec.structs import replace

from restated.core.effects import Put
from restated.model.records import Counter, Entry
from restated.store import startup, wal
from restated.store.schema import DATABASE_NAME
from restated.store.sqlite import SqliteStore
from restated.store.store import StoreFailedError, StoreRefusedError
from tests.sim.disk import Disk, PowerCutError
from tests.store.opening import (
    LIMITS,
    RealClock,
    commit_some,
    nothing,
    on_path,
    on_simulated_disk,
)

COMMITS = 12


# -- snapshots and batches


def test_a_snapshot_is_taken_beside_the_rest_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's connection is another thread's while that moves frames."""
    may_move = threading.Event()

    def hold(*_: object) -> int:
        assert may_move.wait(2), "the snapshot waited for the checkpoint"
        return 0

    def move(connection: apsw.Connection) -> int:
        connection.create_scalar_function("hold", hold)
        connection.execute("SELECT hold()")
        return 0

    async def check(store: SqliteStore) -> None:
        await store.commit([Put(Counter("a", 1))])
        store._has_rest = True
        monkeypatch.setattr(wal, "move", move)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.prefetch, [])
            await trio.testing.wait_all_tasks_blocked(0.01)
            with store.snapshot() as view:
                assert view.get(Counter, "a") == Counter("a", 1)
            may_move.set()
        await store.commit([Put(Counter("a", 2))])

    on_path(tmp_path, check)


def test_a_snapshot_does_not_show_what_is_being_committed(tmp_path: Path) -> None:
    """A1: what COMMIT has not made durable yet may be lost, so nobody may see it."""

    async def check(store: SqliteStore) -> None:
        may_commit = threading.Event()
        store._writer.connection.set_commit_hook(lambda: not may_commit.wait(60))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.commit, [Put(Counter("a", 1))])
            await trio.testing.wait_all_tasks_blocked()
            with store.snapshot() as view:
                assert view.get(Counter, "a") is None
            may_commit.set()
        with store.snapshot() as view:
            assert view.get(Counter, "a") == Counter("a", 1)

    on_path(tmp_path, check, replace(LIMITS, inline_writes_max=0))


def test_only_inline_commits_tell_how_fast_the_disk_is(tmp_path: Path) -> None:
    """D3: in a thread COMMIT waits for the interpreter, too; and a slow disk is tried again."""

    async def check(store: SqliteStore) -> None:
        store._mean_ms = 2.0
        ways = []
        for value in range(64):
            ways.append(store._commits_inline(1))
            await store.commit([Put(Counter("a", value))])
        assert (ways.count(True), store._thread_until_ms) == (2, 0.0)
        assert 1.0 < store._mean_ms < 2.0
        store._mean_ms, before = 0.5, store._thread_until_ms
        store._limits = replace(store._limits, inline_writes_max=0)
        store._clock = Ticking(30.0)
        await store.commit([Put(Counter("a", 64))])
        assert (store._mean_ms, store._thread_until_ms) == (0.5, before)

    on_path(tmp_path, check)


class Ticking(RealClock):
    """Every look at it takes a while."""

    def __init__(self, step_ms: float) -> None:
        self._step_ms = step_ms
        self._now_ms = 0.0

    def monotonic_ms(self) -> float:
        self._now_ms += self._step_ms
        return self._now_ms


def test_a_batch_that_wrote_nothing_leaves_no_transaction_open(tmp_path: Path) -> None:
    """D6: an open one would pin the log, and lock out repairs with the sqlite3 shell."""

    async def check(store: SqliteStore) -> None:
        await store.prefetch([])
        assert store._writer.connection.in_transaction
        await store.commit([])
        assert not store._writer.connection.in_transaction

    on_path(tmp_path, check)


def test_a_batch_reads_and_commits_beside_checkpoints(tmp_path: Path) -> None:
    """D6: what a checkpoint left over is moved before a transaction, never inside one."""

    async def check(store: SqliteStore) -> None:
        await commit_some(store)
        await store.prefetch([])
        store._has_rest = True
        await store.checkpoint()
        store._has_rest = True
        await store.commit([Put(Counter("a", 9))])
        await store.prefetch([])
        assert store.get(Counter, "a") == Counter("a", 9)
        await store.commit([])

    on_path(tmp_path, check)


def test_a_backup_holds_one_commit(tmp_path: Path) -> None:
    """C79: complete, verified, private, never over an existing file."""

    async def check(store: SqliteStore) -> None:
        await commit_some(store)
        await store.backup(tmp_path / "backup.db")
        await store.commit([Put(Counter("a", 99))])
        with pytest.raises(StoreRefusedError, match="exists"):
            await store.backup(tmp_path / "backup.db")
        with pytest.raises(StoreRefusedError, match="failed"):
            await store.backup(tmp_path / "missing" / "backup.db")

    on_path(tmp_path / "state", check)
    restored = tmp_path / "restored"
    restored.mkdir()
    assert stat.S_IMODE((tmp_path / "backup.db").stat().st_mode) == 0o600
    (tmp_path / "backup.db").rename(restored / DATABASE_NAME)

    async def look(store: SqliteStore) -> None:
        assert store.get(Counter, "a") == Counter("a", 4)
        assert len(list(store.scan(Entry))) == 5

    on_path(restored, look)


# -- failures


def test_a_failed_commit_is_final(tmp_path: Path) -> None:
    """A3: whatever raised, nobody may read or write afterwards."""

    async def check(store: SqliteStore) -> None:
        await store.commit([Put(Counter("a", 1))])
        with pytest.raises(StoreFailedError):
            await store.commit([Put(Counter("a", 1 << 63))])
        with pytest.raises(StoreFailedError):
            await store.commit([])
        for read in (
            lambda: store.get(Counter, "a"), lambda: store.scan(Counter), store.snapshot,
            lambda: store.by_id("x"), store.usage, store.next_deadline_ms,
            lambda: store.due(0, 1), lambda: store.expired(0, 1),
            lambda: store.open_invocations(0, 1),
        ):  # fmt: skip
            with pytest.raises(StoreFailedError):
                read()

    on_path(tmp_path, check)
    on_path(tmp_path, nothing)


async def scenario(disk: Disk, acknowledged: list[int]) -> None:
    """Open, commit, checkpoint in the middle, close."""
    async with on_simulated_disk(disk) as store:
        for value in range(len(acknowledged), COMMITS):
            await store.commit(
                [Put(Counter(f"c{value}", value)), Put(Entry(value, 0, 1, bytes(700), 1))]
            )
            acknowledged.append(value)
            if value == COMMITS // 2:
                await store.checkpoint()


async def stored(disk: Disk) -> list[int]:
    async with on_simulated_disk(disk) as store:
        assert store._writer.connection.execute("PRAGMA integrity_check").get == "ok"
        counters = sorted(row.value for row in store.scan(Counter))
        assert [row.number for row in store.scan(Entry)] == counters, "commits are atomic"
        return counters


def calls_of_a_run() -> int:
    disk = Disk(seed=0)
    trio.run(scenario, disk, [])
    return disk.calls


def cut_and_recover(cut_at: int, seed: int) -> tuple[list[int], list[int]]:
    """What was acknowledged before the power cut, and what is there after it."""
    disk = Disk(seed)
    acknowledged: list[int] = []
    disk.cut_at = cut_at
    with pytest.raises((StoreFailedError, StoreRefusedError, PowerCutError)):
        trio.run(scenario, disk, acknowledged)
    disk.lose_power()
    return acknowledged, trio.run(stored, disk)


@pytest.mark.slow
def test_a_power_cut_at_any_call_loses_nothing_acknowledged() -> None:
    """A1, A4: un-synced writes are lost in any order, torn by sector."""
    for cut_at in range(1, calls_of_a_run() + 1):
        acknowledged, found = cut_and_recover(cut_at, seed=cut_at)
        assert found[: len(acknowledged)] == acknowledged, f"cut at call {cut_at}"
        assert len(found) <= len(acknowledged) + 1, "at most the commit in flight"


@pytest.mark.slow
def test_the_simulated_disk_sees_what_is_not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """4.1: with synchronous=NORMAL the same cuts must lose acknowledged commits."""
    connect = startup.connect

    def careless(*arguments: object, **options: object) -> apsw.Connection:
        connection = connect(*arguments, **options)  # type: ignore[arg-type]  # passed through
        connection.pragma("synchronous", 1)
        return connection

    monkeypatch.setattr(startup, "connect", careless)
    lost = 0
    for cut_at in range(1, calls_of_a_run() + 1):
        acknowledged, found = cut_and_recover(cut_at, seed=cut_at)
        lost += found[: len(acknowledged)] != acknowledged
    assert lost > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [apsw.IOError, apsw.FullError],
    ids=["io_error", "disk_full"],
)
@pytest.mark.parametrize("lasts", [False, True], ids=["once", "for_ever"])
def test_a_fault_at_any_call_loses_nothing_acknowledged(
    fault: type[Exception], lasts: bool
) -> None:
    """D1, D2: fail-stop, then a restart on the same kernel heals; no answer was wrong."""
    failures = 0
    for call in range(1, calls_of_a_run() + 1):
        disk = Disk(seed=call)
        acknowledged: list[int] = []
        disk.faults = dict.fromkeys(range(call, call + (10_000 if lasts else 1)), fault)
        try:
            trio.run(scenario, disk, acknowledged)
        except (StoreFailedError, StoreRefusedError):
            failures += 1
        disk.faults = {}
        found = trio.run(stored, disk)
        assert found[: len(acknowledged)] == acknowledged, f"fault at call {call}"
        trio.run(scenario, disk, found)  # work goes on after the restart ...
        disk.lose_power()  # ... and is as durable as ever (4.3)
        assert trio.run(stored, disk) == list(range(COMMITS)), f"fault at call {call}"
    assert failures > COMMITS
