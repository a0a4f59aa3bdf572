"""restated/store/sqlite.py and startup.py: start-up, refusals, faults, power cuts."""

import os
import stat
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest
import trio
import trio.testing
from msgspec.structs import replace

from restated.core.effects import Put
from restated.model.records import Counter, Entry
from restated.store import sqlite, startup
from restated.store.schema import DATABASE_NAME, SCHEMA_VERSION, Migration
from restated.store.sqlite import SqliteStore, StoreLimits
from restated.store.store import StoreFailedError, StoreRefusedError
from tests.sim.disk import Disk, PowerCutError
from tests.store.opening import LIMITS, RealClock, on_files, on_simulated_disk

COMMITS = 12


def on_path(
    path: Path, body: Callable[[SqliteStore], Awaitable[None]], limits: StoreLimits = LIMITS
) -> None:
    async def run() -> None:
        async with on_files(path, limits) as store:
            await body(store)

    trio.run(run)


async def nothing(_store: SqliteStore) -> None:
    """Only open and close."""


async def commit_some(store: SqliteStore) -> None:
    for value in range(5):
        await store.commit([Put(Counter("a", value)), Put(Entry(1, value, 1, bytes(3000), 1))])


def refusal(path: Path) -> str:
    with pytest.raises(StoreRefusedError) as caught:
        on_path(path, nothing)
    return str(caught.value)


# -- start-up


def test_every_setting_reads_back(tmp_path: Path) -> None:
    """A4, A.4: on all three connections, or 45 % of power cuts lose acknowledged work."""
    wanted = {
        "journal_mode": "wal", "synchronous": 2, "wal_autocheckpoint": 0, "cell_size_check": 1,
        "trusted_schema": 0, "foreign_keys": 1, "page_size": 2048,
    }  # fmt: skip

    async def check(store: SqliteStore) -> None:
        writer, reader = store._writer.connection, store._reader.connection
        for connection in (writer, reader, store._checkpointer):
            assert {name: connection.pragma(name) for name in wanted} == wanted
            cache_kib = 65_536 if connection is writer else 16_384
            assert connection.pragma("cache_size") == -cache_kib
            assert connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, -1) == 0
            assert connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, -1) == 0

    on_path(tmp_path, check)


def test_a_setting_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    """4.7: a pragma may silently not apply."""
    connection = apsw.Connection(":memory:")
    with pytest.raises(StoreRefusedError, match="journal_mode=wal: it says memory"):
        startup._set(connection, "journal_mode", "wal")


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C80: before 3.51.3 a WAL reset can lose commits."""
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    assert "SQLite 3.51.2 can lose commits" in refusal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_directory_is_private(tmp_path: Path) -> None:
    """Z7: 0700 and 0600, whatever the umask; also of files that were there."""
    before = os.umask(0)
    try:
        on_path(tmp_path / "state", commit_some)
        (tmp_path / "state" / DATABASE_NAME).chmod(0o644)
        on_path(tmp_path / "state", commit_some)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "state").iterdir()}
    assert modes == {0o600}


@pytest.mark.parametrize("spelling", ["same", "link", "relative", "dots"])
def test_a_second_daemon_is_refused(
    tmp_path: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D7, C77: one daemon for a directory, however its path is written."""
    state = tmp_path / "state"
    (tmp_path / "link").symlink_to(state)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    spellings = {
        "same": state, "link": tmp_path / "link", "relative": Path("state"),
        "dots": tmp_path / "other" / ".." / "state",
    }  # fmt: skip

    async def check(store: SqliteStore) -> None:
        await commit_some(store)
        with pytest.raises(StoreRefusedError) as caught:
            async with on_files(spellings[spelling]):
                pass
        assert f"{state} is in use by another restated (process {os.getpid()})" in str(caught.value)
        await store.commit([Put(Counter("a", 7))])
        assert store.get(Counter, "a") == Counter("a", 7)

    on_path(state, check)
    on_path(spellings[spelling], nothing)


def test_a_linked_database_is_refused(tmp_path: Path) -> None:
    """1.4: another name for the file means another WAL."""
    on_path(tmp_path / "one", commit_some)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / DATABASE_NAME).symlink_to(tmp_path / "one" / DATABASE_NAME)
    assert "is a symbolic link" in refusal(tmp_path / "two")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """D8."""
    on_path(tmp_path, commit_some)
    newer = SCHEMA_VERSION + 1
    edit(tmp_path, f"PRAGMA user_version = {newer}")
    assert f"the database has schema {newer}, this restated knows up to" in refusal(tmp_path)


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    """Nothing is created in somebody else's file."""
    edit(tmp_path, "CREATE TABLE theirs (a)")
    assert "is not a database of restated" in refusal(tmp_path)


def test_a_table_that_differs_from_its_row_is_refused(tmp_path: Path) -> None:
    """D8: a half-made migration is seen at start, not at the first write."""
    on_path(tmp_path, commit_some)
    edit(tmp_path, "ALTER TABLE counter ADD COLUMN more INTEGER")
    assert "table counter has columns" in refusal(tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """D5: bit rot is reported, never served."""
    on_path(tmp_path, commit_some)
    file = tmp_path / DATABASE_NAME
    content = bytearray(file.read_bytes())
    content[2048 * 2 : 2048 * 12] = b"\xa5" * (2048 * 10)
    file.write_bytes(content)
    (tmp_path / f"{DATABASE_NAME}-wal").unlink()  # it still has the intact pages and would heal it
    assert "the database is damaged" in refusal(tmp_path)


def test_migrations_run_in_one_transaction() -> None:
    """D8: older schemas are migrated, in order, all or nothing."""
    connection = apsw.Connection(":memory:")
    startup.migrate(connection)
    connection.execute("INSERT INTO counter VALUES ('a', 1)")
    newest = SCHEMA_VERSION + 2
    second = Migration(SCHEMA_VERSION + 1, ("UPDATE counter SET value = value + 1",))
    third = Migration(newest, ("UPDATE counter SET value = value * 10", "CREATE nonsense"))
    with pytest.raises(apsw.SQLError):
        startup.migrate(connection, newest, (second, third))
    assert connection.pragma("user_version") == SCHEMA_VERSION
    assert connection.execute("SELECT value FROM counter").get == 1
    startup.migrate(connection, newest, (second, replace(third, statements=third.statements[:1])))
    assert connection.pragma("user_version") == newest
    assert connection.execute("SELECT value FROM counter").get == 20
    startup.migrate(connection, newest, (second, third))
    assert connection.execute("SELECT value FROM counter").get == 20


def test_start_up_moves_the_log_of_a_killed_daemon(tmp_path: Path) -> None:
    """4.3: frames that survived in the page cache only are written again before any work."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    copy.mkdir()

    async def kill(store: SqliteStore) -> None:
        await commit_some(store)
        for file in source.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())

    on_path(source, kill)
    assert (copy / DATABASE_NAME).stat().st_size == 2048
    directory, lock = startup.lock_directory(copy)
    writer = startup.connect(str(directory / DATABASE_NAME), LIMITS, exclusive=False, vfs=None)
    startup.recover_log(writer)
    assert (copy / f"{DATABASE_NAME}-wal").stat().st_size == 0
    assert (copy / DATABASE_NAME).stat().st_size > 2048
    assert writer.execute("SELECT value FROM counter").get == 4
    writer.close()
    os.close(lock)


def test_start_up_waits_for_no_other_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A.4: the first checkpoint must succeed; who stands in its way is said."""
    on_path(tmp_path, commit_some)
    edit(tmp_path, "INSERT INTO counter VALUES ('b', 1)")
    monkeypatch.setattr(startup, "BUSY_MS", 10)
    other = apsw.Connection(str(tmp_path / DATABASE_NAME))
    other.execute("INSERT INTO counter VALUES ('c', 1)")
    other.execute("BEGIN")
    assert other.execute("SELECT count(*) FROM counter").get == 3
    assert "another process reads the database" in refusal(tmp_path)
    other.close()
    on_path(tmp_path, nothing)


def test_the_log_keeps_its_reserve(tmp_path: Path) -> None:
    """4.6: commits still fit when the disk is full; kept over a clean close."""

    async def check(store: SqliteStore) -> None:
        size = (tmp_path / f"{DATABASE_NAME}-wal").stat().st_size
        assert size > 1 << 20
        await commit_some(store)
        assert (tmp_path / f"{DATABASE_NAME}-wal").stat().st_size == size
        assert store.usage().wal_bytes < size

    on_path(tmp_path, check, replace(LIMITS, wal_reserve_bytes=1 << 20))
    assert (tmp_path / f"{DATABASE_NAME}-wal").stat().st_size > 1 << 20
    assert (tmp_path / DATABASE_NAME).stat().st_size < 200_000, "the reserve is not in the database"


# -- the WAL


def test_the_log_starts_over_with_checkpoints_beside_commits(tmp_path: Path) -> None:
    """D6: they keep it bounded; rows of both sides survive."""
    limits = replace(LIMITS, inline_writes_max=0)

    async def keep_short(store: SqliteStore) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            if store.wal_bytes >= 200_000:
                await store.checkpoint()

    async def check(store: SqliteStore) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_short, store)
            for value in range(400):
                await store.commit([Put(Entry(1, value, 1, bytes(4000), 1))])
            nursery.cancel_scope.cancel()
        assert store.checkpoint_count > 2
        assert (tmp_path / f"{DATABASE_NAME}-wal").stat().st_size < 1_500_000
        assert len(list(store.scan(Entry, 1))) == 400

    on_path(tmp_path, check, limits)


def test_a_reader_that_pins_the_log_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """D6: warned at the alarm, new work refused at the bound; commits go on."""
    limits = replace(LIMITS, alarm_wal_bytes=50_000, stop_wal_bytes=100_000)

    async def check(store: SqliteStore) -> None:
        with apsw.Connection(str(store.path)) as reader:
            assert reader.execute("SELECT count(*) FROM counter").get == 0
            for value in range(50):
                await store.commit([Put(Entry(1, value, 1, bytes(4000), 1))])
            await store.checkpoint()
            assert store.is_full
            await store.commit([Put(Counter("a", 1))])
            assert reader.execute("SELECT count(*) FROM counter").get == 0
        reader.close()
        await store.checkpoint()
        await store.commit([Put(Counter("a", 2))])
        assert not store.is_full

    on_path(tmp_path, check, limits)
    assert "a reader pins the WAL" in caplog.text


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
        monkeypatch.setattr(sqlite, "_move_log", move)
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


def edit(path: Path, statement: str) -> None:
    """What somebody else does to the file while no daemon runs."""
    connection = apsw.Connection(str(path / DATABASE_NAME))
    connection.execute(statement)
    connection.close()
