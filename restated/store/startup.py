"""From a path to connections that can be trusted: the start-up sequence of the store.

Lives here: limits, the directory and its lock, settings set and read back, the first checkpoint,
checks of the file, schema creation and migration, the WAL reserve, the doctor.
Does not: reading, writing, committing (sqlite.py); statements of tables (schema.py).

Order (reliability.md A.4): SQLite version, directory, lock, settings, checkpoint, file check,
migrations, reserve, fast doctor. The checkpoint comes before any work: after a failed fsync the
kernel serves WAL frames that are not on the disk, and everything appended behind them is lost with
the next power cut (4.3: 280 of 280 runs without it, 0 with it).
"""

import ctypes
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Final

import apsw

from restated.model.records import ROWS, Record
from restated.store.schema import (
    APPLICATION_ID,
    DATABASE_NAME,
    MIGRATIONS,
    SCHEMA_VERSION,
    Migration,
    create_statements,
    stored_columns,
)
from restated.store.store import StoreRefusedError

_log = logging.getLogger("restated.store")

BUSY_MS: Final = 5_000  # how long another connection may stand in the way at start
SQLITE_VERSION_MIN: Final = 3_051_003  # older ones can lose commits at a WAL reset (C80)
PAGE_BYTES: Final = 2048
"""Measured, 64 echoes at once (two commits each), 96,000 stored, with checkpoints, per echo:
1,024: 4.6 KB to storage and 46 us of CPU; 2,048: 5.6 KB, 40 us; 4,096: 7.6 KB, 42 us.
"""
_LOCK_NAME: Final = "lock"


class StoreLimits(Record):
    """Bounds of the store; what happens at each is said where it is used."""

    alarm_wal_bytes: int = 256 << 20  # beyond it somebody should look: a reader pins the WAL
    stop_wal_bytes: int = 1 << 30  # beyond it new work is refused
    wal_reserve_bytes: int = 4 << 20  # written at start: room for commits on a full disk (D4)
    quick_check_bytes_max: int = 64 << 20  # a larger file is checked by `restated doctor` only
    cache_bytes: int = 64 << 20
    reader_cache_bytes: int = 16 << 20  # journals are read once, SQL reads in a process of its own
    page_bytes: int = PAGE_BYTES
    inline_writes_max: int = 64  # a larger batch commits in a thread (sqlite.py says why)


class Finding(Record):
    """One violated invariant: its name in doctor.sql and the offending rows, at most 20."""

    name: str
    rows: tuple[tuple[object, ...], ...]


def require_sqlite() -> None:
    """Refuse an SQLite that loses commits (StoreRefusedError)."""
    version = apsw.sqlite_lib_version()
    parts = tuple(int(part) for part in version.split("."))
    if parts[0] * 1_000_000 + parts[1] * 1_000 + parts[2] < SQLITE_VERSION_MIN:
        msg = (
            f"SQLite {version} can lose commits when its write-ahead log starts over;"
            " 3.51.3 or newer is needed: upgrade the apsw package"
        )
        raise StoreRefusedError(msg)


def lock_directory(path: Path) -> tuple[Path, int]:
    """Make the directory private and hold its lock: its real path, and a descriptor to keep open.

    The lock belongs to the directory, not to the spelling of its path (C77, D7). It ends with the
    process. StoreRefusedError names the directory and, if known, the owner's process id.
    """
    real = path.resolve()
    try:
        real.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(real.stat().st_mode) != 0o700:
            real.chmod(0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(real / _LOCK_NAME, flags, 0o600)
    except OSError as error:
        msg = f"cannot use data directory {real}: {error.strerror}"
        raise StoreRefusedError(msg) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
        os.close(descriptor)
        msg = (
            f"data directory {real} is in use by another restated (process {owner or 'unknown'});"
            " stop it first, or choose another directory"
        )
        raise StoreRefusedError(msg) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    _make_private(real)
    return real, descriptor


def _make_private(directory: Path) -> None:
    """Create the database file before SQLite does: its other files inherit the mode (Z7)."""
    for suffix in ("", "-wal", "-shm"):
        file = directory / f"{DATABASE_NAME}{suffix}"
        if file.is_symlink():
            # Another name for a file means another name for its locks and its WAL.
            msg = f"{file} is a symbolic link; move the file itself into the data directory"
            raise StoreRefusedError(msg)
        if file.exists():
            file.chmod(0o600)
        elif not suffix:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def connect(
    filename: str, limits: StoreLimits, *, exclusive: bool, vfs: str | None
) -> apsw.Connection:
    """One connection with every setting made and read back (StoreRefusedError if one did not hold).

    A pragma that is not read back may silently not apply: 45 % of power cuts lose acknowledged
    work under `synchronous=NORMAL` (4.1).
    """
    connection = apsw.Connection(filename, vfs=vfs, statementcachesize=512)
    try:
        _configure(connection, limits, exclusive=exclusive)
    except BaseException:
        abandon(connection)
        raise
    return connection


def abandon(connection: apsw.Connection) -> None:
    """Close after an error that is about to be raised; never leave it to garbage collection (4.7).

    Closing may meet the same fault again, and the first error is the one to tell.
    """
    with suppress(apsw.Error, OSError):
        connection.close(force=True)


def _configure(connection: apsw.Connection, limits: StoreLimits, *, exclusive: bool) -> None:
    connection.set_busy_timeout(BUSY_MS)
    for option in (
        apsw.SQLITE_DBCONFIG_DQS_DML,
        apsw.SQLITE_DBCONFIG_DQS_DDL,
        apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA,
    ):
        _expect(option, connection.config(option, 0), 0)
    if exclusive:  # first of all: without shared memory WAL is possible only so (4.1)
        _set(connection, "locking_mode", "exclusive")
    if not connection.pragma("page_count"):
        _set(connection, "page_size", limits.page_bytes)
    _set(connection, "journal_mode", "wal")
    _set(connection, "synchronous", 2)
    _set(connection, "wal_autocheckpoint", 0)
    _set(connection, "cell_size_check", 1)
    _set(connection, "trusted_schema", 0)
    _set(connection, "foreign_keys", 1)
    _set(connection, "cache_size", -(limits.cache_bytes >> 10))
    _set(connection, "temp_store", 2)
    keep = ctypes.c_int(1)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(keep))


def _set(connection: apsw.Connection, name: str, value: int | str) -> None:
    connection.pragma(name, value)
    _expect(name, connection.pragma(name), value)


def _expect(name: object, actual: object, wanted: object) -> None:
    if actual != wanted:
        msg = f"SQLite did not accept setting {name}={wanted}: it says {actual}"
        raise StoreRefusedError(msg)


def recover_log(connection: apsw.Connection) -> None:
    """Move what an earlier process left in the WAL to the database file, before any other work."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").get
    if busy:
        msg = "another process reads the database; close it (sqlite3, a backup) and start again"
        raise StoreRefusedError(msg)


def check_file(connection: apsw.Connection, limits: StoreLimits) -> None:
    """Refuse a damaged file (D5). A large one is left to `restated doctor`, which takes minutes."""
    size = connection.pragma("page_count") * connection.pragma("page_size")
    if size > limits.quick_check_bytes_max:
        _log.info("quick check skipped database_bytes=%d; run `restated doctor`", size)
        return
    answer = connection.execute("PRAGMA quick_check(1)").get
    if answer != "ok":
        msg = f"the database is damaged ({answer}); restore a backup"
        raise StoreRefusedError(msg)


def migrate(
    connection: apsw.Connection,
    version: int = SCHEMA_VERSION,
    migrations: tuple[Migration, ...] = MIGRATIONS,
) -> None:
    """Create the schema in an empty file, or bring an older one to `version`, in one transaction.

    StoreRefusedError: not our file, a newer schema (D8), or tables that differ from the rows.
    """
    with _immediate(connection):
        found = connection.pragma("user_version")
        owner = connection.pragma("application_id")
        if found == 0 and not connection.execute("SELECT count(*) FROM sqlite_schema").get:
            _run(connection, create_statements())
            connection.pragma("application_id", APPLICATION_ID)
        elif owner != APPLICATION_ID:
            msg = f"{DATABASE_NAME} is not a database of restated (application id {owner})"
            raise StoreRefusedError(msg)
        elif found > version:
            msg = (
                f"the database has schema {found}, this restated knows up to {version};"
                " install the newer restated again, or restore a backup made before the upgrade"
            )
            raise StoreRefusedError(msg)
        else:
            for migration in migrations:
                if found < migration.version <= version:
                    _run(connection, migration.statements)
        connection.pragma("user_version", version)
        _expect_columns(connection)


def _expect_columns(connection: apsw.Connection) -> None:
    for table in ROWS:
        listed = connection.execute("SELECT name FROM pragma_table_info(?)", (table.TABLE,))
        columns = tuple(name for (name,) in listed)
        if columns != stored_columns(table):
            msg = f"table {table.TABLE} has columns {columns}, not {stored_columns(table)}"
            raise StoreRefusedError(msg)


def _run(connection: apsw.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        connection.execute(statement)


class _immediate:  # noqa: N801 - reads like the statement it issues
    """One transaction that locks at its beginning: a deferred one could fail half-way (1.4)."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_rest: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def reserve_log(connection: apsw.Connection, limits: StoreLimits) -> None:
    """Grow the WAL file, so that commits still fit on a disk that is full (4.6).

    A transaction larger than a tiny cache spills into the WAL and is rolled back: the file keeps
    its length, the database does not grow, and nothing of it is ever read.
    """
    if not limits.wal_reserve_bytes:
        return
    connection.pragma("cache_size", 16)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute('CREATE TABLE "reserve" ("filler" BLOB)')
    connection.execute('INSERT INTO "reserve" VALUES (zeroblob(?))', (limits.wal_reserve_bytes,))
    connection.execute("ROLLBACK")
    _set(connection, "cache_size", -(limits.cache_bytes >> 10))


def doctor_queries() -> Iterator[tuple[str, bool, str]]:
    """(name, is fast, SQL) of each invariant in doctor.sql."""
    text = resources.files("restated.store").joinpath("doctor.sql").read_text("utf-8")
    for block in text.split("-- name: ")[1:]:
        title, _, sql = block.partition("\n")
        name, _, mark = title.strip().partition(" ")
        yield name, mark == "(fast)", sql.strip().rstrip(";")


def doctor(connection: apsw.Connection, *, fast: bool = False) -> list[Finding]:
    """Every violated invariant with its first rows; empty when all is well.

    `fast`: only those that cost nothing on a large database.
    """
    findings = []
    for name, is_fast, sql in doctor_queries():
        if fast and not is_fast:
            continue
        rows = tuple(connection.execute(f"SELECT * FROM ({sql}) LIMIT 20"))  # noqa: S608 - our file
        if rows:
            findings.append(Finding(name, rows))
    return findings
