"""Reading rows over one SQLite connection.

Lives here: Rows, a View over a connection; Snapshot, a read transaction as a `with` block.
Does not: statements (schema.py); which connection is whose (sqlite.py).

A statement that may meet a large value asks for its size instead, and the value is read apart
(large.py): whether it is large is known to SQLite from the record's head.
"""

from collections.abc import Iterator
from itertools import starmap
from types import TracebackType
from typing import Final, TypeVar

import apsw

from restated.core.view import View
from restated.model.records import Column, Entry, Invocation, Row
from restated.store import large
from restated.store.schema import SELECT_BY_ID, TABLES

R = TypeVar("R", bound=Row)


def _sparing(table: type[Row], sql: str) -> str:
    """The same SELECT with the size of a large value in its place."""
    name = f'"{large.VALUES[table][0]}"'
    head, _, rest = sql.partition(name)
    size = f"length({name})"
    return f"{head}CASE WHEN {size} < {large.LARGE_BYTES} THEN {name} ELSE {size} END{rest}"


_GET: Final[dict[type[Row], str]] = {
    table: _sparing(table, sql.get) if table in large.VALUES else sql.get
    for table, sql in TABLES.items()
}


class Rows:
    """A View over one connection."""

    __slots__ = ("_entry_scans", "connection")

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._entry_scans: dict[str, str] = {}  # one for each shape of scan

    def get(self, table: type[R], *key: Column) -> R | None:
        """The row with this key, or None."""
        for columns in self.connection.execute(_GET[table], key):
            if table in large.VALUES:
                return self._whole(table, columns)
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
        sql = TABLES[table].scan(len(prefix), after=after is not None, limited=limit is not None)
        if table is Entry:
            sparing = self._entry_scans.get(sql)
            if sparing is None:
                sparing = self._entry_scans[sql] = _sparing(table, sql)
            rows = self.connection.execute(sparing, bindings)
            return (self._whole(table, columns) for columns in rows)
        return starmap(table, self.connection.execute(sql, bindings))

    def _whole(self, table: type[R], columns: tuple[Column, ...]) -> R:
        place = large.VALUES[table][1]
        if type(columns[place]) is int:
            value = large.read(self.connection, table, columns[: len(table.KEY)])
            columns = (*columns[:place], value, *columns[place + 1 :])
        return table(*columns)

    def by_id(self, invocation_id: str) -> Invocation | None:
        """The invocation with this text id, or None."""
        for columns in self.connection.execute(SELECT_BY_ID, (invocation_id,)):
            return Invocation(*columns)
        return None


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
