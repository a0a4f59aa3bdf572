"""Reading rows and collecting changes: View, Overlay, Step, and the two ways to find an invocation.

Lives here: the ordered-table view that every rule reads, uncommitted changes over it, everything
one event changes and causes, the fence against stale attempts.
Does not: rules (accept, commands, ...), SQL (store/).
Why two levels: a defect in one event drops its Step and leaves the batch intact; reads see the
event's own writes; several changes of one row in a batch become one write.
"""

from collections.abc import Iterator
from typing import Protocol, TypeVar

from restated.core.effects import Changed, ChangeKind, Clear, Delete, Effect, Put, Write
from restated.core.events import AttemptEvent, Event
from restated.model.records import Column, Counter, Invocation, Row

R = TypeVar("R", bound=Row)
Key = tuple[Column, ...]


class View(Protocol):
    """Ordered tables of rows. Sees everything applied before, in this transaction too."""

    def get(self, table: type[R], *key: Column) -> R | None:
        """The row with this key, or None."""
        ...

    def scan(
        self, table: type[R], *prefix: Column, after: Column = None, limit: int | None = None
    ) -> Iterator[R]:
        """Rows whose key starts with `prefix`, in key order; `after` excludes up to and including
        that next key column.
        """
        ...

    def by_id(self, invocation_id: str) -> Invocation | None:
        """The invocation with this text id, or None."""
        ...


class _Changes:
    """What an overlay knows about one table: rows by key, and prefixes hidden below it."""

    __slots__ = ("cleared", "rows")

    def __init__(self) -> None:
        self.rows: dict[Key, Row | None] = {}  # None: deleted
        self.cleared: set[Key] = set()

    def hides(self, key: Key) -> bool:
        """Whether a row of the base with this key is no longer there."""
        return bool(self.cleared) and any(key[: len(prefix)] == prefix for prefix in self.cleared)


class Overlay:
    """Uncommitted changes over a view: reads see them, the base does not change."""

    __slots__ = ("_base", "_ids", "_tables")

    def __init__(self, base: View) -> None:
        self._base = base
        self._tables: dict[type[Row], _Changes] = {}
        self._ids: dict[str, int | None] = {}  # text id -> number of changed invocations

    def get(self, table: type[R], *key: Column) -> R | None:
        """The row with this key, or None."""
        changes = self._tables.get(table)
        if changes is not None:
            if key in changes.rows:
                row = changes.rows[key]
                assert row is None or isinstance(row, table)
                return row
            if changes.hides(key):
                return None
        return self._base.get(table, *key)

    def scan(
        self, table: type[R], *prefix: Column, after: Column = None, limit: int | None = None
    ) -> Iterator[R]:
        """Rows whose key starts with `prefix`, in key order."""
        changes = self._tables.get(table)
        if changes is None:
            return self._base.scan(table, *prefix, after=after, limit=limit)
        return self._merged(changes, table, prefix, after, limit)

    def _merged(
        self, changes: _Changes, table: type[R], prefix: Key, after: Column, limit: int | None
    ) -> Iterator[R]:
        depth = len(prefix)
        own = sorted(
            (key, row)
            for key, row in changes.rows.items()
            if key[:depth] == prefix and (after is None or key[depth] > after)  # type: ignore[operator]  # one column, one type
        )
        count = 0
        position = 0
        for row in self._base.scan(table, *prefix, after=after):
            key = row.primary_key()
            while position < len(own) and own[position][0] < key:
                mine = own[position][1]
                position += 1
                if mine is not None:
                    yield mine  # type: ignore[misc]  # rows of `table` only
                    count += 1
                    if count == limit:
                        return
            if key in changes.rows or changes.hides(key):
                continue
            yield row
            count += 1
            if count == limit:
                return
        for _, mine in own[position:]:
            if mine is not None:
                yield mine  # type: ignore[misc]  # rows of `table` only
                count += 1
                if count == limit:
                    return

    def by_id(self, invocation_id: str) -> Invocation | None:
        """The invocation with this text id, or None."""
        if invocation_id in self._ids:
            number = self._ids[invocation_id]
            return None if number is None else self.get(Invocation, number)
        found = self._base.by_id(invocation_id)
        if found is None:
            return None
        return self.get(Invocation, found.number)

    def put(self, row: Row) -> None:
        """Insert the row, or replace the one with its key."""
        table = type(row)
        changes = self._tables.get(table)
        if changes is None:
            changes = self._tables[table] = _Changes()
        changes.rows[row.primary_key()] = row
        if table is Invocation:
            assert isinstance(row, Invocation)
            self._ids[row.id] = row.number

    def delete(self, table: type[Row], *key: Column) -> None:
        """Remove the row with this key, if there is one."""
        if table is Invocation:
            gone = self.get(Invocation, *key)
            if gone is not None:
                self._ids[gone.id] = None
        self._changes(table).rows[key] = None

    def clear(self, table: type[Row], *prefix: Column) -> None:
        """Remove every row whose key starts with `prefix`."""
        assert table is not Invocation, "invocations are deleted one by one, their id goes too"
        changes = self._changes(table)
        depth = len(prefix)
        for key in [key for key in changes.rows if key[:depth] == prefix]:
            del changes.rows[key]
        changes.cleared.add(prefix)

    def merge(self, other: "Overlay") -> None:
        """Take over the changes of an overlay whose base is this one."""
        for table, theirs in other._tables.items():  # noqa: SLF001 - another of the same class
            for prefix in theirs.cleared:
                self.clear(table, *prefix)
            self._changes(table).rows.update(theirs.rows)
        self._ids.update(other._ids)  # noqa: SLF001 - another of the same class

    def writes(self) -> list[Write]:
        """The changes as writes: clears first, then one put or delete for each key."""
        clears: list[Write] = []
        others: list[Write] = []
        for table, changes in self._tables.items():
            clears.extend(Clear(table, prefix) for prefix in sorted(changes.cleared, key=repr))
            others.extend(
                Delete(table, key) if row is None else Put(row) for key, row in changes.rows.items()
            )
        return clears + others

    def _changes(self, table: type[Row]) -> _Changes:
        changes = self._tables.get(table)
        if changes is None:
            changes = self._tables[table] = _Changes()
        return changes


class Step(Overlay):
    """Everything one event changes and causes.

    `observed`: someone listens to `Changed`; it is built only then.
    """

    __slots__ = ("effects", "messages", "now_ms", "observed")

    def __init__(self, base: View, now_ms: int, *, observed: bool = False) -> None:
        super().__init__(base)
        self.now_ms = now_ms
        self.observed = observed
        self.effects: list[Effect] = []
        self.messages: list[Event] = []

    def emit(self, effect: Effect) -> None:
        """Have something done outside, once this is durable."""
        self.effects.append(effect)

    def send(self, message: Event) -> None:
        """Post to another invocation: stepped next, in the same transaction."""
        self.messages.append(message)

    def changed(self, invocation: Invocation, kind: ChangeKind, **detail: str | int | None) -> None:
        """Tell the live tail, if somebody listens."""
        if self.observed:
            self.effects.append(
                Changed(
                    invocation.id, invocation.number, invocation.service, invocation.object_key,
                    invocation.handler, self.now_ms, kind, invocation.attempt,
                    tuple(detail.items()),
                )
            )  # fmt: skip


def current(step: Step, event: AttemptEvent) -> Invocation | None:
    """The invocation if `event` comes from its newest attempt and it is still invoked, else None.

    This is the fence of B3, C10 and C11: whatever an older attempt still says changes nothing.
    """
    invocation = step.get(Invocation, event.number)
    if invocation is None or invocation.status != "invoked" or invocation.attempt != event.attempt:
        return None
    if invocation.next_retry_at_ms is not None:
        return None  # this attempt has failed, the next one has not begun
    return invocation


def next_number(step: Step, name: str) -> int:
    """Draw the next value of a stored sequence, from 1."""
    counter = step.get(Counter, name)
    value = 1 if counter is None else counter.value + 1
    step.put(Counter(name, value))
    return value
