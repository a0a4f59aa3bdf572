"""restated/store/schema.py: files of older versions open. Source: C71, D8."""

from pathlib import Path

import apsw
import trio

from restated.core.effects import Put
from restated.model.records import (
    INDEX_BITS,
    Counter,
    Entry,
    KafkaCluster,
    LimitRule,
    Result,
    Subscription,
)
from restated.store.schema import (
    APPLICATION_ID,
    DATABASE_NAME,
    MIGRATIONS,
    SCHEMA_VERSION,
    STATISTICS,
    create_statements,
)
from tests.store.opening import on_files

ADDED_BY_VERSION_2 = {table.TABLE for table in (KafkaCluster, Subscription, LimitRule)}
ADDED_BY_VERSION_4 = {"invocation_service", "invocation_object"}


def schema_of(path: Path) -> list[tuple[str, str]]:
    """(name, statement) of every table and index of a file, by name."""
    connection = apsw.Connection(str(path))
    found = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name")
    listed = [(str(name), str(sql)) for name, sql in found]
    connection.close()
    return listed


def statistics_of(path: Path) -> list[tuple[object, ...]]:
    """What the planner is told."""
    connection = apsw.Connection(str(path))
    found = list(connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY idx"))
    connection.close()
    return found


def make_first_version(path: Path) -> None:
    """A file of version 1, which had everything but what later versions create.

    No release made one, so it is made from the tables of today.
    """
    connection = apsw.Connection(str(path))
    for statement in create_statements():
        is_later = any(f'"{name}' in statement for name in ADDED_BY_VERSION_2 | ADDED_BY_VERSION_4)
        if not is_later and statement not in STATISTICS:
            connection.execute(statement)
    connection.execute("INSERT INTO counter VALUES ('invocation', 7)")
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", 1)
    connection.close()


def test_a_file_of_the_first_version_gets_the_tables_of_today(tmp_path: Path) -> None:
    """C71, D8: what migrations make is what a fresh file has; rows stay as they were."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    make_first_version(old / DATABASE_NAME)
    assert ADDED_BY_VERSION_2 & {name for name, _ in schema_of(old / DATABASE_NAME)} == set()

    async def use() -> None:
        async with on_files(old) as store:
            assert store.get(Counter, "invocation") == Counter("invocation", 7)
            await store.commit([Put(LimitRule("desk/*", 1, 0, 5, 3))])
            assert list(store.scan(LimitRule)) == [LimitRule("desk/*", 1, 0, 5, 3)]
        async with on_files(new):
            pass

    trio.run(use)
    assert schema_of(old / DATABASE_NAME) == schema_of(new / DATABASE_NAME)
    assert statistics_of(old / DATABASE_NAME) == statistics_of(new / DATABASE_NAME)
    assert len(statistics_of(new / DATABASE_NAME)) > 3


def make_fourth_version(path: Path) -> None:
    """A file of version 4, where columns lay behind large values, with a row of each such table."""
    connection = apsw.Connection(str(path))
    for statement in create_statements():
        if not statement.startswith(('CREATE TABLE "journal"', 'CREATE TABLE "result"')):
            connection.execute(statement)
    connection.execute(
        'CREATE TABLE "journal" ("position" INTEGER PRIMARY KEY, "type" INTEGER NOT NULL, "payload"'
        ' BLOB NOT NULL, "appended_at_ms" INTEGER NOT NULL, "name" TEXT, "protocol_version"'
        " INTEGER) STRICT"
    )
    connection.execute(
        'CREATE TABLE "result" ("number" INTEGER PRIMARY KEY, "value" BLOB, "failure_code" INTEGER,'
        ' "failure_message" TEXT, "failure_metadata" BLOB) STRICT'
    )
    row = (7 << INDEX_BITS | 1, 2, b"body", 3, "first", 6)
    connection.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.execute("INSERT INTO result VALUES (7, NULL, 500, 'no', x'80')")
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", 4)
    connection.close()


def test_large_values_move_behind_all_other_columns(tmp_path: Path) -> None:
    """C71, D8: version 5; every value stays in its column."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    make_fourth_version(old / DATABASE_NAME)

    async def use() -> None:
        async with on_files(old) as store:
            assert list(store.scan(Entry)) == [Entry(7, 1, 2, b"body", 3, "first", 6)]
            assert store.get(Result, 7) == Result(7, None, 500, "no", b"\x80")
        async with on_files(new):
            pass

    trio.run(use)
    assert schema_of(old / DATABASE_NAME) == schema_of(new / DATABASE_NAME)


def test_migrations_lead_from_each_version_to_the_next() -> None:
    """A version without its migration would leave older files behind."""
    versions = [migration.version for migration in MIGRATIONS]
    assert versions == list(range(2, SCHEMA_VERSION + 1))
