"""A Store in plain Python dictionaries, for every test that does not need a disk.

Lives here: MemoryStore, with the guarantees of store/store.py and a switch that makes it fail.
Does not: durability (nothing survives the object); SQL (restated/store/sqlite.py).
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, cast

from restated.core.effects import Clear, Delete, Put, Write
from restated.core.events import Event
from restated.core.view import View
from restated.model.records import Column, Entry, Invocation, Row, Timer
from restated.store.store import Committed, StoreFailedError, Usage

R = TypeVar("R", bound=Row)
Key = tuple[Column, ...]


class _Table:
    """Rows by key, and the keys in order."""

    __slots__ = ("keys", "rows")

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self.keys: list[Key] = []

    def put(self, row: Row) -> None:
        key = row.primary_key()
        if key not in self.rows:
            insort(self.keys, key)
        self.rows[key] = row

    def delete(self, key: Key) -> None:
        if self.rows.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]

    def span(self, prefix: Key, after: Column) -> tuple[int, int]:
        """The slice of `keys` below `prefix` and behind `after`."""
        depth = len(prefix)
        end = bisect_right(self.keys, prefix, key=lambda key: key[:depth])
        if after is None:
            return bisect_left(self.keys, prefix), end
        bound = (*prefix, after)
        return bisect_right(self.keys, bound, key=lambda key: key[: depth + 1]), end


class MemoryStore:
    """Implements `Store`. `fail_next_commit` and `usage_now` are knobs for tests."""

    def __init__(self) -> None:
        self._tables: dict[type[Row], _Table] = {}
        self._numbers: dict[str, int] = {}
        self._sequence = 0
        self._failure: StoreFailedError | None = None
        self.fail_next_commit = False
        self.usage_now = Usage(free_bytes=1 << 40, wal_bytes=0, database_bytes=0)
        self.closed = False

    @property
    def is_full(self) -> bool:
        """Whether new work must be refused."""
        return False

    # -- View

    def get(self, table: type[R], *key: Column) -> R | None:
        self._check()
        found = self._table(table).rows.get(key)
        return cast("R | None", found)  # rows of `table` only

    def scan(
        self, table: type[R], *prefix: Column, after: Column = None, limit: int | None = None
    ) -> Iterator[R]:
        self._check()
        found = self._table(table)
        start, end = found.span(prefix, after)
        keys = found.keys[start : end if limit is None else min(end, start + limit)]
        return iter([cast("R", found.rows[key]) for key in keys])  # rows of `table` only

    def by_id(self, invocation_id: str) -> Invocation | None:
        self._check()
        number = self._numbers.get(invocation_id)
        return None if number is None else self.get(Invocation, number)

    def sizes(self, number: int, limit: int) -> list[tuple[int, int]]:
        entries = self.scan(Entry, number, limit=limit)
        return [(entry.index, len(entry.payload)) for entry in entries]

    def fail_reads(self) -> None:
        """From now on every call raises, as after a failed commit."""
        self._failure = StoreFailedError("the store failed before (injected)")

    # -- Store

    async def prefetch(self, events: Sequence[Event]) -> None:  # noqa: ARG002 - nothing to load
        self._check()

    async def commit(self, writes: Sequence[Write]) -> Committed:
        return self.apply(writes)

    def apply(self, writes: Sequence[Write]) -> Committed:
        """`commit` for tests without an event loop."""
        self._check()
        if not writes:
            return Committed(self._sequence)
        if self.fail_next_commit:
            self._failure = StoreFailedError("commit failed: disk I/O error (injected)")
            raise self._failure
        for write in writes:
            self._write(write)
        self._sequence += 1
        return Committed(self._sequence)

    def snapshot(self) -> AbstractContextManager[View]:
        self._check()
        return nullcontext(self)

    def due(self, now_ms: int, limit: int) -> list[Timer]:
        timers = [timer for timer in self.scan(Timer) if timer.at_ms <= now_ms]
        return sorted(timers, key=lambda timer: timer.at_ms)[:limit]

    def expired(self, now_ms: int, limit: int) -> list[int]:
        numbers = []
        for row in self.scan(Invocation):
            ends = (row.expires_at_ms, row.journal_expires_at_ms)
            if row.status == "completed" and any(at is not None and at <= now_ms for at in ends):
                numbers.append(row.number)
        return numbers[:limit]

    def next_deadline_ms(self) -> int | None:
        return min((timer.at_ms for timer in self.scan(Timer)), default=None)

    def open_invocations(self, after: int, limit: int) -> list[Invocation]:
        rows = self.scan(Invocation, after=after)
        return [row for row in rows if row.status == "invoked"][:limit]

    async def checkpoint(self) -> Usage:
        return self.usage()

    def usage(self) -> Usage:
        self._check()
        return self.usage_now

    async def aclose(self) -> None:
        self.closed = True

    # -- for assertions

    def rows(self) -> dict[str, list[Row]]:
        """Every row of every table that is not empty, in key order."""
        tables = sorted(self._tables.items(), key=lambda item: item[0].TABLE)
        return {
            table.TABLE: [found.rows[key] for key in found.keys]
            for table, found in tables
            if found.keys
        }

    def _write(self, write: Write) -> None:
        match write:
            case Put(row):
                if isinstance(row, Invocation):
                    owner = self._numbers.setdefault(row.id, row.number)
                    assert owner == row.number, f"two invocations with id {row.id}"
                self._table(type(row)).put(row)
            case Delete(table, key):
                self._forget(table, key)
            case Clear(table, prefix):
                found = self._table(table)
                start, end = found.span(prefix, None)
                for key in found.keys[start:end]:
                    self._forget(table, key)

    def _forget(self, table: type[Row], key: Key) -> None:
        found = self._table(table)
        row = found.rows.get(key)
        if isinstance(row, Invocation):
            del self._numbers[row.id]
        found.delete(key)

    def _table(self, table: type[Row]) -> _Table:
        found = self._tables.get(table)
        if found is None:
            found = self._tables[table] = _Table()
        return found

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
