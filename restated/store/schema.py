"""Tables and statements, derived from the rows of model/records.py.

Lives here: the SQL of every table (create, upsert, select, scan, delete, clear), its indexes,
the schema version and its migrations.
Does not: connections, transactions, pragmas (sqlite.py, startup.py); what the rows mean (core/).

A row is its columns, in the order of its fields: a SELECT decodes as `table(*columns)`, an upsert
binds `astuple(row)`. Three shapes, because random keys dirty a whole page each:
* one integer key: INTEGER PRIMARY KEY;
* `PACKED`: (number, index) as one INTEGER PRIMARY KEY `position` = number << 24 | index, so that
  the entries of one invocation are neighbours; SQL packs and unpacks, Python binds plain columns;
* others: a rowid table in order of arrival and a unique index over the key.
Tables are STRICT: a value of the wrong type is an error, never silently another value.
"""

import types
from collections.abc import Callable
from operator import attrgetter
from typing import Final, Literal, Union, get_args, get_origin, get_type_hints

from restated.model.records import (
    INDEX_BITS,
    ROWS,
    Entry,
    Invocation,
    Record,
    Result,
    Row,
    Timer,
)

APPLICATION_ID: Final = 0x52535444  # "RSTD": tells our files from other SQLite databases
SCHEMA_VERSION: Final = 5
DATABASE_NAME: Final = "restated.db"

LARGE_BYTES: Final = 1 << 20
LARGE: Final[dict[type[Row], str]] = {Entry: "payload", Result: "value"}
"""Table -> its column whose large values are read and written apart (large.py).

In the file it is the last one: SQLite reaches what lies behind a value by way of all its pages, and
fills a record with zeros before the value can be written in place.
"""

_INDEX_MASK: Final = (1 << INDEX_BITS) - 1

_INVARIABLE: Final = frozenset({
    "id", "service", "object_key", "handler", "service_type", "handler_type", "scope", "limit_key",
    "source", "caller_id", "caller_target", "created_at_ms", "random_seed", "idempotency_key",
    "restarted_from",
})  # fmt: skip
"""Columns of an invocation that no update changes.

An upsert that sets an indexed column rewrites its index entry, even with an equal value: leaving
`id` out saves one dirty page of the largest random index at every status change.
"""

INDEXES: Final = (
    'CREATE UNIQUE INDEX "invocation_id" ON "invocation"("id")',
    # One index for recovery and for lists of what is going on; empty again when all work is done.
    'CREATE INDEX "invocation_open" ON "invocation"("status") WHERE "status" <> \'completed\'',
    # For operators. Both columns never change; a plain call pays for the first only, whose entries
    # come in order of arrival.
    'CREATE INDEX "invocation_service" ON "invocation"("service")',
    'CREATE INDEX "invocation_object" ON "invocation"("object_key", "service")'
    ' WHERE "object_key" IS NOT NULL',
    'CREATE INDEX "invocation_expires" ON "invocation"("expires_at_ms")'
    ' WHERE "expires_at_ms" IS NOT NULL',
    'CREATE INDEX "invocation_journal_expires" ON "invocation"("journal_expires_at_ms")'
    ' WHERE "journal_expires_at_ms" IS NOT NULL',
    'CREATE INDEX "timer_deadline" ON "timer"("at_ms", "number", "kind", "token")',
)

STATISTICS: Final = (
    'ANALYZE "counter"',  # makes the table of statistics, at the price of a few rows
    'DELETE FROM "sqlite_stat1"',
    'INSERT INTO "sqlite_stat1" VALUES'
    " ('invocation', 'invocation_id', '1000000 1'),"
    " ('invocation', 'invocation_open', '1000 200'),"
    " ('invocation', 'invocation_service', '1000000 100000'),"
    " ('invocation', 'invocation_object', '500000 10 10')",
)
"""What the planner is told of invocations: few are open, a service has many, a key has some.

Written down, not measured: an empty or half-filled file would tell it something else, and plans
would depend on when somebody measured.
"""

DUE: Final = (
    'SELECT "number", "kind", "token", "at_ms" FROM "timer" WHERE "at_ms" <= ?1'
    ' ORDER BY "at_ms", "number", "kind", "token" LIMIT ?2'
)
NEXT_DEADLINE: Final = 'SELECT min("at_ms") FROM "timer"'
EXPIRED: Final = (
    'SELECT "number" FROM (SELECT "number" FROM "invocation" INDEXED BY "invocation_expires"'
    ' WHERE "expires_at_ms" <= ?1 AND "status" = \'completed\' ORDER BY "expires_at_ms" LIMIT ?2)'
    ' UNION SELECT "number" FROM (SELECT "number" FROM "invocation"'
    ' INDEXED BY "invocation_journal_expires" WHERE "journal_expires_at_ms" <= ?1'
    ' AND "status" = \'completed\' ORDER BY "journal_expires_at_ms" LIMIT ?2) LIMIT ?2'
)  # left alone, the planner merges two walks over the whole table


class Migration(Record):
    """Statements that turn the schema before `version` into `version`."""

    version: int
    statements: tuple[str, ...]


# Written out: what a migration makes must not change with the rows. A fresh file needs none.
MIGRATIONS: Final[tuple[Migration, ...]] = (
    Migration(
        2,
        (
            'CREATE TABLE "kafka_cluster" ("name" TEXT NOT NULL, "properties" BLOB NOT NULL,'
            ' "created_at_ms" INTEGER NOT NULL) STRICT',
            'CREATE UNIQUE INDEX "kafka_cluster_key" ON "kafka_cluster"("name")',
            'CREATE TABLE "subscription" ("id" TEXT NOT NULL, "cluster" TEXT NOT NULL,'
            ' "topic" TEXT NOT NULL, "service" TEXT NOT NULL, "handler" TEXT NOT NULL,'
            ' "options" BLOB NOT NULL, "created_at_ms" INTEGER NOT NULL) STRICT',
            'CREATE UNIQUE INDEX "subscription_key" ON "subscription"("id")',
            'CREATE TABLE "limit_rule" ("pattern" TEXT NOT NULL, "version" INTEGER NOT NULL,'
            ' "disabled" INTEGER NOT NULL, "modified_at_ms" INTEGER NOT NULL,'
            ' "concurrency" INTEGER, "description" TEXT) STRICT',
            'CREATE UNIQUE INDEX "limit_rule_key" ON "limit_rule"("pattern")',
        ),
    ),
    Migration(  # the scope behind what it scopes
        3,
        (
            'DROP INDEX "lock_key"',
            'CREATE UNIQUE INDEX "lock_key" ON "lock"("service", "key", "scope")',
            'DROP INDEX "inbox_key"',
            'CREATE UNIQUE INDEX "inbox_key" ON "inbox"("service", "key", "scope", "sequence")',
            'DROP INDEX "state_key"',
            'CREATE UNIQUE INDEX "state_key" ON "state"("service", "key", "scope", "name")',
            'DROP INDEX "promise_key"',
            'CREATE UNIQUE INDEX "promise_key" ON "promise"("service", "key", "scope", "name")',
            'DROP INDEX "promise_waiter_key"',
            'CREATE UNIQUE INDEX "promise_waiter_key"'
            ' ON "promise_waiter"("service", "key", "scope", "name", "caller", "completion_id")',
        ),
    ),
    Migration(  # invocations by service and by key
        4,
        (
            'CREATE INDEX "invocation_service" ON "invocation"("service")',
            'CREATE INDEX "invocation_object" ON "invocation"("object_key", "service")'
            ' WHERE "object_key" IS NOT NULL',
            'ANALYZE "counter"',
            'DELETE FROM "sqlite_stat1"',
            'INSERT INTO "sqlite_stat1" VALUES'
            " ('invocation', 'invocation_id', '1000000 1'),"
            " ('invocation', 'invocation_open', '1000 200'),"
            " ('invocation', 'invocation_service', '1000000 100000'),"
            " ('invocation', 'invocation_object', '500000 10 10')",
        ),
    ),
    Migration(  # large values behind all other columns
        5,
        (
            'ALTER TABLE "journal" RENAME TO "journal_4"',
            'CREATE TABLE "journal" ("position" INTEGER PRIMARY KEY, "type" INTEGER NOT NULL,'
            ' "appended_at_ms" INTEGER NOT NULL, "name" TEXT, "protocol_version" INTEGER,'
            ' "payload" BLOB NOT NULL) STRICT',
            'INSERT INTO "journal" SELECT "position", "type", "appended_at_ms", "name",'
            ' "protocol_version", "payload" FROM "journal_4"',
            'DROP TABLE "journal_4"',
            'ALTER TABLE "result" RENAME TO "result_4"',
            'CREATE TABLE "result" ("number" INTEGER PRIMARY KEY, "failure_code" INTEGER,'
            ' "failure_message" TEXT, "failure_metadata" BLOB, "value" BLOB) STRICT',
            'INSERT INTO "result" SELECT "number", "failure_code", "failure_message",'
            ' "failure_metadata", "value" FROM "result_4"',
            'DROP TABLE "result_4"',
        ),
    ),
)


def column_types(table: type[Row]) -> dict[str, tuple[str, bool]]:
    """Column name -> (SQL type, may be NULL), in the order of the fields."""
    hints = get_type_hints(table)
    return {name: _column_type(hints[name]) for name in table.__struct_fields__}


def stored_columns(table: type[Row]) -> tuple[str, ...]:
    """The columns that the table of the current version has in the file, in order."""
    names = table.__struct_fields__
    if table.PACKED:
        assert names[:2] == table.KEY, "a packed key stands first"
        names = ("position", *names[2:])
    return tuple(sorted(names, key=LARGE.get(table, "").__eq__))


def _column_type(hint: object) -> tuple[str, bool]:
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        members = [member for member in get_args(hint) if member is not type(None)]
        kinds = {_column_type(member)[0] for member in members}
        assert len(kinds) == 1, f"a column has one type, not {hint}"
        return kinds.pop(), type(None) in get_args(hint)
    if origin is Literal:
        return "TEXT", False
    if isinstance(hint, type):
        return {int: "INTEGER", str: "TEXT", bytes: "BLOB"}[hint], False
    msg = f"no column type for {hint}"
    raise TypeError(msg)


class TableSql:
    """The statements of one table. Bindings are the plain columns, numbered from ?1.

    A SELECT answers with the size of a large value in its place, at `large_place` of the columns.

    Scans and clears exist for each length of prefix and are built on first use: the vocabulary is
    bounded by the number of key columns, and APSW caches statements by the identity of their text.
    """

    __slots__ = (
        "_clears", "_scans", "_select", "blobs", "create", "delete", "get", "large_place", "put",
        "table",
    )  # fmt: skip

    def __init__(self, table: type[Row]) -> None:
        self.table = table
        self.create = _create(table)
        self.put = _upsert(table)
        self._select = _select(table)
        self.large_place = table.__struct_fields__.index(LARGE[table]) if table in LARGE else None
        where = _exact(table)
        self.get = f"{self._select} WHERE {where}"
        self.delete = f'DELETE FROM "{table.TABLE}" WHERE {where}'  # noqa: S608 - own identifiers
        self.blobs: tuple[Callable[[Row], bytes | None], ...] = tuple(
            attrgetter(name) for name, (kind, _) in column_types(table).items() if kind == "BLOB"
        )
        self._scans: dict[tuple[int, bool, bool], str] = {}
        self._clears: dict[int, str] = {}

    def scan(self, depth: int, *, after: bool, limited: bool) -> str:
        """SELECT in key order; binds the prefix, then `after`, then the limit, where present."""
        shape = depth, after, limited
        sql = self._scans.get(shape)
        if sql is None:
            sql = f"{self._select}{_below(self.table, depth, after=after)} ORDER BY " + (
                '"position"' if self.table.PACKED else _names(self.table.KEY)
            )
            if limited:
                sql += f" LIMIT ?{depth + after + 1}"
            self._scans[shape] = sql
        return sql

    def clear(self, depth: int) -> str:
        """DELETE of everything below a prefix of `depth` columns."""
        sql = self._clears.get(depth)
        if sql is None:
            below = _below(self.table, depth, after=False)
            sql = f'DELETE FROM "{self.table.TABLE}"{below}'  # noqa: S608 - own identifiers
            self._clears[depth] = sql
        return sql


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _is_rowid(table: type[Row], name: str) -> bool:
    return (name,) == table.KEY and column_types(table)[name][0] == "INTEGER"


def _create(table: type[Row]) -> tuple[str, ...]:
    columns = []
    column_type = column_types(table)
    for name in stored_columns(table):
        if name == "position" or _is_rowid(table, name):
            columns.append(f'"{name}" INTEGER PRIMARY KEY')
        else:
            kind, nullable = column_type[name]
            columns.append(f'"{name}" {kind}' + ("" if nullable else " NOT NULL"))
    statement = f'CREATE TABLE "{table.TABLE}" ({", ".join(columns)}) STRICT'
    if table.PACKED or _is_rowid(table, table.KEY[0]):
        return (statement,)
    columns_of_key = _names(_indexed(table.KEY))
    index = f'CREATE UNIQUE INDEX "{table.TABLE}_key" ON "{table.TABLE}"({columns_of_key})'
    return statement, index


def _indexed(key: tuple[str, ...]) -> tuple[str, ...]:
    """Columns of a key as its index has them.

    The scope stands behind what it scopes: the store always knows all three, operators who ask
    by service and key rarely name a scope.
    """
    scoped = ("scope", "service", "key")
    return ("service", "key", "scope", *key[3:]) if key[:3] == scoped else key


def _upsert(table: type[Row]) -> str:
    fields = table.__struct_fields__
    values = [f"?{place}" for place in range(1, len(fields) + 1)]
    columns, conflict = fields, table.KEY
    if table.PACKED:
        columns, conflict = ("position", *fields[2:]), ("position",)
        values = [f"?1 << {INDEX_BITS} | ?2", *values[2:]]
    fixed = {*conflict, *(_INVARIABLE if table is Invocation else ())}
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in fixed)
    action = f"UPDATE SET {changes}" if changes else "NOTHING"
    return (
        f'INSERT INTO "{table.TABLE}" ({_names(columns)}) VALUES ({", ".join(values)})'  # noqa: S608 - own identifiers
        f" ON CONFLICT ({_names(conflict)}) DO {action}"
    )


def _select(table: type[Row]) -> str:
    columns = _names(table.__struct_fields__)
    if table.PACKED:
        number, index = table.KEY
        columns = f'"position" >> {INDEX_BITS} AS "{number}", "position" & {_INDEX_MASK}'
        columns += f' AS "{index}", {_names(table.__struct_fields__[2:])}'
    if table in LARGE:
        name = f'"{LARGE[table]}"'
        size = f"length({name})"  # known from the record's head
        columns = columns.replace(
            name, f"CASE WHEN {size} < {LARGE_BYTES} THEN {name} ELSE {size} END"
        )
    return f'SELECT {columns} FROM "{table.TABLE}"'  # noqa: S608 - own identifiers


def _exact(table: type[Row]) -> str:
    if table.PACKED:
        return f'"position" = ?1 << {INDEX_BITS} | ?2'
    return " AND ".join(f'"{name}" = ?{place}' for place, name in enumerate(table.KEY, 1))


def _below(table: type[Row], depth: int, *, after: bool) -> str:
    """The WHERE clause of a prefix and an exclusive lower bound of the next column."""
    assert depth + after <= len(table.KEY), f"{table.TABLE} has no key column {depth + after}"
    if table.PACKED:
        return _below_packed(table, depth, after=after)
    terms = [f'"{name}" = ?{place}' for place, name in enumerate(table.KEY[:depth], 1)]
    if after:
        terms.append(f'"{table.KEY[depth]}" > ?{depth + 1}')
    return f" WHERE {' AND '.join(terms)}" if terms else ""


def _below_packed(table: type[Row], depth: int, *, after: bool) -> str:
    first, last = f"?1 << {INDEX_BITS}", f"?1 << {INDEX_BITS} | {_INDEX_MASK}"
    if depth == 0:
        return f' WHERE "position" > ({last})' if after else ""
    if depth == 2:
        return f" WHERE {_exact(table)}"
    lower = f'"position" > ({first} | ?2)' if after else f'"position" >= {first}'
    return f' WHERE {lower} AND "position" <= ({last})'


TABLES: Final[dict[type[Row], TableSql]] = {table: TableSql(table) for table in ROWS}

SELECT_BY_ID: Final = (
    TABLES[Invocation]
    .scan(0, after=False, limited=False)
    .replace(' ORDER BY "number"', ' WHERE "id" = ?1')
)
SELECT_OPEN: Final = (
    TABLES[Invocation]
    .scan(0, after=False, limited=False)
    .replace(
        ' ORDER BY "number"',
        ' WHERE "status" = \'invoked\' AND "status" <> \'completed\' AND "number" > ?1'
        ' ORDER BY "number" LIMIT ?2',
    )
)


SELECT_SIZES: Final = (
    f'SELECT "position" & {_INDEX_MASK}, length("payload") FROM "journal"'  # noqa: S608 - own identifiers
    f'{_below_packed(Entry, 1, after=False)} ORDER BY "position" LIMIT ?2'
)


def create_statements() -> tuple[str, ...]:
    """Everything that a fresh database file needs, in order."""
    tables = tuple(statement for sql in TABLES.values() for statement in sql.create)
    return tables + INDEXES + STATISTICS


assert Timer.KEY == ("number", "kind", "token"), "DUE promises ties in key order"
