"""Reading rows and collecting changes: View, Overlay, Step, and the two ways to find an invocation.

Lives here: the ordered-table view that every rule reads, uncommitted changes over it, everything
one event changes and causes, the fence against stale attempts.
Does not: rules (accept, commands, ...), SQL (store/).
Why two levels: a defect in one event drops its Step and leaves the batch intact; reads see the
event's own writes; several changes of one row in a batch become one write.
An overlay indexes its changed keys only for the lengths of prefix that somebody scans or clears,
and keeps each bucket sorted: a scan costs its result, not the batch, and a put that nobody scans
costs one dictionary entry.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import islice
from operator import attrgetter
from typing import Final, Protocol, TypeVar

from restated.core.effects import Changed, ChangeKind, Clear, Delete, Effect, Put, Write
from restated.core.events import AttemptEvent, Event
from restated.model.records import JOURNAL_ENTRIES_MAX, ROWS, Column, Counter, Invocation, Row

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

    def sizes(self, number: int, limit: int) -> list[tuple[int, int]]:
        """(index, bytes of the payload) of the first entries of a journal, as last committed.

        No payload is read. What this transaction has changed may be missing.
        """
        ...


def _key_of(table: type[Row]) -> Callable[[Row], Key]:
    """A faster `primary_key`: it runs at every put and for every row of a merged scan."""
    get: Callable[[Row], Key] = attrgetter(*table.KEY)
    if len(table.KEY) > 1:
        return get
    return lambda row: (get(row),)  # type: ignore[return-value]  # one name gives the bare column


_KEY_OF: Final = {table: _key_of(table) for table in ROWS}


class _Changes:
    """What an overlay knows about one table: rows by key, and prefixes hidden below it.

    `buckets[depth][prefix]`: sorted keys with that prefix, some of them no longer in `rows`.
    """

    __slots__ = ("buckets", "cleared", "rows")

    def __init__(self) -> None:
        self.rows: dict[Key, Row | None] = {}  # None: deleted
        self.cleared: dict[int, dict[Key, None]] = {}  # by depth; in order of clearing
        self.buckets: dict[int, dict[Key, list[Key]]] = {}

    def set(self, key: Key, row: Row | None) -> None:
        """Remember what the row with this key is now."""
        self.rows[key] = row
        for depth, buckets in self.buckets.items():
            bucket = buckets.setdefault(key[:depth], [])
            place = bisect_left(bucket, key)
            if place == len(bucket) or bucket[place] != key:
                bucket.insert(place, key)

    def below(self, prefix: Key) -> list[Key]:
        """The bucket of a prefix; belongs to this object."""
        depth = len(prefix)
        buckets = self.buckets.get(depth)
        if buckets is None:
            buckets = self.buckets[depth] = {}
            for key in sorted(self.rows):
                buckets.setdefault(key[:depth], []).append(key)
        return buckets.get(prefix, [])

    def behind(self, prefix: Key, after: Column) -> list[Key]:
        """A copy of what the bucket has behind that next key column; None: all of it."""
        bucket = self.below(prefix)
        if after is None:
            return bucket[:]
        depth = len(prefix) + 1
        return bucket[bisect_right(bucket, (*prefix, after), key=lambda key: key[:depth]) :]

    def instead(self, key: Key, row: Row) -> Row | None:
        """What a row of the base is now."""
        if key in self.rows:
            return self.rows[key]
        return None if self.cleared and self.hides(key) else row

    def clear(self, prefix: Key) -> None:
        """Forget the rows below a prefix and hide those of the base."""
        rows = self.rows
        for key in self.below(prefix):
            rows.pop(key, None)
        self.cleared.setdefault(len(prefix), {})[prefix] = None

    def hides(self, key: Key) -> bool:
        """Whether a row of the base with this key, or with this prefix, is no longer there."""
        for depth, prefixes in self.cleared.items():
            if depth <= len(key) and key[:depth] in prefixes:
                return True
        return False


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
            if changes.cleared and changes.hides(key):
                return None
        return self._base.get(table, *key)

    def scan(
        self, table: type[R], *prefix: Column, after: Column = None, limit: int | None = None
    ) -> Iterator[R]:
        """Rows whose key starts with `prefix`, in key order.

        The table may change meanwhile: a row that is there from the first to the last step is seen
        once, as it was or as it is; new and removed ones may or may not be seen.
        """
        changes = self._tables.get(table)
        if changes is None:
            return self._base.scan(table, *prefix, after=after, limit=limit)
        return islice(self._merged(changes, table, prefix, after), limit)

    def _merged(self, changes: _Changes, table: type[R], prefix: Key, after: Column) -> Iterator[R]:
        own = changes.behind(prefix, after)
        place, end = 0, len(own)
        rows, key_of = changes.rows, _KEY_OF[table]
        there = () if changes.hides(prefix) else self._base.scan(table, *prefix, after=after)
        for row in there:
            key = key_of(row)
            while place < end and own[place] < key:
                mine = rows.get(own[place])
                place += 1
                if mine is not None:
                    yield mine  # type: ignore[misc]  # rows of `table` only
            if place < end and own[place] == key:
                continue  # the next turn, or the end, tells what became of it
            mine = changes.instead(key, row)
            if mine is not None:
                yield mine  # type: ignore[misc]  # rows of `table` only
        for key in own[place:]:
            mine = rows.get(key)
            if mine is not None:
                yield mine  # type: ignore[misc]  # rows of `table` only

    def by_id(self, invocation_id: str) -> Invocation | None:
        """The invocation with this text id, or None."""
        if invocation_id in self._ids:
            number = self._ids[invocation_id]
            return None if number is None else self.get(Invocation, number)
        found = self._base.by_id(invocation_id)
        if found is None:
            return None
        return self.get(Invocation, found.number)

    def sizes(self, number: int, limit: int) -> list[tuple[int, int]]:
        """See View: of the base."""
        return self._base.sizes(number, limit)

    def put(self, row: Row) -> None:
        """Insert the row, or replace the one with its key."""
        table = type(row)
        changes = self._tables.get(table)
        if changes is None:
            changes = self._tables[table] = _Changes()
        key = _KEY_OF[table](row)
        if changes.buckets:
            changes.set(key, row)
        else:
            changes.rows[key] = row
        if table is Invocation:
            assert isinstance(row, Invocation)
            self._ids[row.id] = row.number

    def delete(self, table: type[Row], *key: Column) -> None:
        """Remove the row with this key, if there is one."""
        assert len(key) == len(table.KEY), "a part of a key is for clear"
        if table is Invocation:
            gone = self.get(Invocation, *key)
            if gone is not None:
                self._ids[gone.id] = None
        self._changes(table).set(key, None)

    def clear(self, table: type[Row], *prefix: Column) -> None:
        """Remove every row whose key starts with `prefix`."""
        assert table is not Invocation, "invocations are deleted one by one, their id goes too"
        self._changes(table).clear(prefix)

    def merge(self, other: "Overlay") -> None:
        """Take over the changes of an overlay whose base is this one."""
        for table, theirs in other._tables.items():  # noqa: SLF001 - another of the same class
            mine = self._changes(table)
            for prefixes in theirs.cleared.values():
                for prefix in prefixes:
                    mine.clear(prefix)
            if mine.buckets:
                for key, row in theirs.rows.items():
                    mine.set(key, row)
            else:
                mine.rows.update(theirs.rows)
        self._ids.update(other._ids)  # noqa: SLF001 - another of the same class

    def writes(self) -> list[Write]:
        """The changes as writes: clears first, then one put or delete for each key."""
        clears: list[Write] = []
        others: list[Write] = []
        for table, changes in self._tables.items():
            for prefixes in changes.cleared.values():
                clears.extend([Clear(table, prefix) for prefix in prefixes])
            others.extend(
                [
                    Delete(table, key) if row is None else Put(row)
                    for key, row in changes.rows.items()
                ]
            )
        return clears + others

    def _changes(self, table: type[Row]) -> _Changes:
        changes = self._tables.get(table)
        if changes is None:
            changes = self._tables[table] = _Changes()
        return changes


class Step(Overlay):
    """Everything one event changes and causes.

    `observed`: someone listens to `Changed`; it is built only then. `entries_max`: of a journal.
    """

    __slots__ = ("effects", "entries_max", "messages", "now_ms", "observed")

    def __init__(
        self,
        base: View,
        now_ms: int,
        *,
        observed: bool = False,
        entries_max: int = JOURNAL_ENTRIES_MAX,
    ) -> None:
        super().__init__(base)
        self.now_ms = now_ms
        self.entries_max = entries_max
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
