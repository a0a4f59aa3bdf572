"""Reading rows over one SQLite connection.

Lives here: Rows, a View over a connection; Snapshot, a read transaction as a `with` block.
Does not: statements (schema.py); which connection is whose (sqlite.py).

Where a row has a large value its SELECT tells the size instead, and the value is read apart
(large.py).
"""

from collections.abc import Iterator
from itertools import starmap
from types import TracebackType
from typing import TypeVar

import apsw

from restated.core.view import View
from restated.model.records import Column, Invocation, Row
from restated.store import large
from restated.store.schema import SELECT_BY_ID, SELECT_SIZES, TABLES, TableSql

R = TypeVar("R", bound=Row)


class Rows:
    """A View over one connection."""

    __slots__ = ("connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection

    def get(self, table: type[R], *key: Column) -> R | None:
        """The row with this key, or None."""
        sql = TABLES[table]
        for columns in self._columns(sql, sql.get, key):
            return table(*columns)
        return None

    def scan(
        self, table: type[R], *prefix: Column, after: Column = None, limit: int | None = None
    ) -> Iterator[R]:
        """Rows whose key starts with `prefix`, in key order, read as they are asked for."""
        bindings = prefix
        if after is not None:
            bindings = (*bindings, after)
        if limit is not None:
            bindings = (*bindings, limit)
        sql = TABLES[table]
        scan = sql.scan(len(prefix), after=after is not None, limited=limit is not None)
        return starmap(table, self._columns(sql, scan, bindings))

    def _columns(
        self, sql: TableSql, select: str, bindings: tuple[Column, ...]
    ) -> Iterator[tuple[Column, ...]]:
        rows = self.connection.execute(select, bindings)
        return rows if sql.large_place is None else self._whole(sql, sql.large_place, rows)

    def _whole(
        self, sql: TableSql, place: int, rows: Iterator[tuple[Column, ...]]
    ) -> Iterator[tuple[Column, ...]]:
        for columns in rows:
            if type(columns[place]) is int:
                key = columns[: len(sql.table.KEY)]
                # Not by a name: who asked must be the only one who holds it.
                yield (
                    *columns[:place],
                    large.read(self.connection, sql.table, key),
                    *columns[place + 1 :],
                )
            else:
                yield columns

    def by_id(self, invocation_id: str) -> Invocation | None:
        """The invocation with this text id, or None."""
        for columns in self.connection.execute(SELECT_BY_ID, (invocation_id,)):
            return Invocation(*columns)
        return None

    def sizes(self, number: int, limit: int) -> list[tuple[int, int]]:
        """See View."""
        rows = self.connection.execute(SELECT_SIZES, (number, limit))
        return [(int(index), int(size)) for index, size in rows]


class Snapshot:
    """A read transaction on the reader; one inside another sees the same rows."""

    __slots__ = ("_depth", "_rows")

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._depth = 0

    def __enter__(self) -> View:
        if self._depth == 0:
            self._rows.connection.execute("BEGIN")
        self._depth += 1
        return self._rows

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._rows.connection.execute("COMMIT")
