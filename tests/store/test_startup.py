"""restated/store/startup.py: settings, refusals, migrations, the log at start."""

import os
import stat
from pathlib import Path

import apsw
import pytest
from msgspec.structs import replace

from restated.core.effects import Put
from restated.model.records import Counter
from restated.store import startup
from restated.store.schema import DATABASE_NAME, SCHEMA_VERSION, Migration
from restated.store.sqlite import SqliteStore
from restated.store.store import StoreRefusedError
from tests.store.opening import (
    LIMITS,
    commit_some,
    nothing,
    on_files,
    on_path,
)


def refusal(path: Path) -> str:
    with pytest.raises(StoreRefusedError) as caught:
        on_path(path, nothing)
    return str(caught.value)


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


def edit(path: Path, statement: str) -> None:
    """What somebody else does to the file while no daemon runs."""
    connection = apsw.Connection(str(path / DATABASE_NAME))
    connection.execute(statement)
    connection.close()
