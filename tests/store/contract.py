"""What every Store promises (store/store.py, design 3.7), as checks over an open, empty store.

Lives here: CONTRACT. test_contract.py runs each check against each implementation.
"""

from collections.abc import Awaitable, Callable

import trio
from msgspec.structs import replace

from restated.core.effects import Clear, Delete, Put, Write
from restated.model.records import (
    Completion,
    Counter,
    Entry,
    Invocation,
    JournalEvent,
    Lock,
    Result,
    Row,
    SignalRow,
    StateValue,
    Status,
    Timer,
    Waiter,
)
from restated.store.store import Store

INT64 = (1 << 63) - 1
LAST_INDEX = (1 << 24) - 1


def invocation(number: int, status: Status = "invoked") -> Invocation:
    return Invocation(
        number=number, id=f"inv_{number}", service="S", object_key=None, handler="h",
        service_type="service", handler_type="shared", scope="", limit_key=None, status=status,
        source="ingress", caller_id=None, caller_target=None, created_at_ms=1, modified_at_ms=1,
        random_seed=-INT64 - 1, completion_retention_ms=0, journal_retention_ms=0,
    )  # fmt: skip


def entry(number: int, index: int, payload: bytes = b"x") -> Entry:
    return Entry(number, index, 0x0400, payload, 1)


async def put(store: Store, *rows: Row) -> None:
    await store.commit([Put(row) for row in rows])


async def a_row_comes_back_as_it_was(store: Store) -> None:
    """C69, C70: bytes, text outside ASCII, NUL, absent values, 64-bit integers, long values."""
    text = "\u00e9\U0001f600\x00'\"%_"
    rows = [
        invocation(INT64 >> 24),
        replace(invocation(2), object_key=text, idempotency_key="", awaiting_on=b"", attempt=INT64),
        Result(1, b""),
        Result(2, None, 500, text, None),
        entry(3, 0, bytes(range(256))),
        Entry(3, 1, 1, bytes(3 << 20), INT64, text, None),
        Entry((1 << 39) - 1, LAST_INDEX, 1, b"", 0, "", 7),
        StateValue("", text, text, text, b"\x00"),
        Counter(text, -INT64 - 1),
        Completion(1, 2, 3, "call", None, None, text),
    ]
    await put(store, *rows)
    assert [store.get(type(row), *row.primary_key()) for row in rows] == rows


async def a_put_replaces_the_whole_row(store: Store) -> None:
    """Put is an upsert: columns go back to NULL, too."""
    first = replace(
        invocation(1, "invoked"), awaiting_on=b"x", next_retry_at_ms=5, deployment_id="d"
    )
    last = replace(first, status="suspended", awaiting_on=None, next_retry_at_ms=None, attempt=9)
    await put(store, first, Waiter(1, 2, 3), entry(1, 1, b"old"), Lock("", "S", "k", 1))
    await put(store, last, Waiter(1, 2, 3), entry(1, 1, b"new"), Lock("", "S", "k", 2))
    assert list(store.scan(Invocation)) == [last]
    assert list(store.scan(Waiter)) == [Waiter(1, 2, 3)]
    assert list(store.scan(Entry)) == [entry(1, 1, b"new")]
    assert list(store.scan(Lock)) == [Lock("", "S", "k", 2)]


async def writes_apply_in_order(store: Store) -> None:
    """A later write of a commit wins over an earlier one, whatever its kind."""
    writes: list[Write] = [
        Put(Counter("a", 1)), Delete(Counter, ("a",)), Put(Counter("a", 2)), Put(Counter("b", 1)),
        Delete(Counter, ("b",)), Put(Waiter(1, 1, 1)), Put(Waiter(1, 2, 1)), Clear(Waiter, (1,)),
        Put(Waiter(1, 3, 1)),
    ]  # fmt: skip
    await store.commit(writes)
    assert list(store.scan(Counter)) == [Counter("a", 2)]
    assert list(store.scan(Waiter)) == [Waiter(1, 3, 1)]


async def a_scan_is_in_key_order(store: Store) -> None:
    """Integers by value, text by code point, whatever the order of arrival."""
    words = ["", "B", "a", "aa", "\u00e9", "\uffff", "\U0001f600"]
    await put(store, *[StateValue("", "S", "k", word, b"") for word in reversed(words)])
    await put(store, *[Waiter(1, caller, 1) for caller in (256, 2, 10, 1 << 40)])
    assert [row.name for row in store.scan(StateValue, "", "S", "k")] == words
    assert [row.caller for row in store.scan(Waiter, 1)] == [2, 10, 256, 1 << 40]


async def a_scan_keeps_to_its_prefix(store: Store) -> None:
    """No neighbour shows: keys that only share characters are not below a prefix."""
    keys = [("S", "k"), ("S", "k1"), ("S", ""), ("S1", "k"), ("", "k")]
    await put(store, *[StateValue("", service, key, "n", b"") for service, key in keys])
    await put(store, *[Timer(number, "sleep", 1, 5) for number in (1, 10, 11)])
    found = [(row.service, row.key) for row in store.scan(StateValue, "", "S")]
    assert found == [("S", ""), ("S", "k"), ("S", "k1")]
    assert [row.key for row in store.scan(StateValue, "", "S", "k")] == ["k"]
    assert [row.number for row in store.scan(Timer, 1)] == [1]
    assert list(store.scan(Timer, 2)) == []


async def a_scan_starts_behind_after(store: Store) -> None:
    """`after` excludes up to and including the next key column, with everything below it."""
    await put(store, *[Waiter(n, c, i) for n in (1, 2) for c in (1, 2, 3) for i in (1, 2)])
    assert [(row.caller, row.completion_id) for row in store.scan(Waiter, 1, after=2)] == [
        (3, 1), (3, 2),
    ]  # fmt: skip
    assert [row.number for row in store.scan(Waiter, after=1)] == [2] * 6
    assert list(store.scan(Waiter, 2, after=3)) == []
    assert [row.caller for row in store.scan(Waiter, 2, after=0, limit=3)] == [1, 1, 2]


async def a_scan_stops_at_its_limit(store: Store) -> None:
    """A limit larger than what is there is no limit."""
    await put(store, *[Counter(name, 1) for name in "abc"])
    assert [row.name for row in store.scan(Counter, limit=2)] == ["a", "b"]
    assert [row.name for row in store.scan(Counter, limit=9)] == ["a", "b", "c"]


async def packed_rows_scan_like_others(store: Store) -> None:
    """Journals: one invocation's entries, pages of them, never those of a neighbour."""
    places = [(1, 0), (1, 1), (1, LAST_INDEX), (2, 0), (2, 5), (3, 0)]
    await put(store, *[entry(*place) for place in places])
    seen = [(row.number, row.index) for row in store.scan(Entry)]
    assert seen == places
    assert [row.index for row in store.scan(Entry, 1)] == [0, 1, LAST_INDEX]
    assert [row.index for row in store.scan(Entry, 1, after=0)] == [1, LAST_INDEX]
    assert [row.index for row in store.scan(Entry, 1, after=LAST_INDEX)] == []
    assert [row.index for row in store.scan(Entry, 1, limit=2)] == [0, 1]
    assert [row.number for row in store.scan(Entry, after=1)] == [2, 2, 3]
    assert [row.index for row in store.scan(Entry, 2, 5)] == [5]
    assert store.get(Entry, 2, 1) is None


async def a_clear_removes_exactly_its_prefix(store: Store) -> None:
    """Packed and plain tables, one column, several, a whole table."""
    await put(store, entry(1, LAST_INDEX), entry(2, 0), entry(2, LAST_INDEX), entry(3, 0))
    await put(store, *[StateValue("", "S", k, n, b"") for k in ("k", "k1") for n in "ab"])
    await put(store, *[JournalEvent(n, 0, 1, "Paused", b"{}", 0) for n in (1, 2)])
    await put(store, *[SignalRow(n, "s1", 1, "success") for n in (1, 2)])
    await store.commit(
        [Clear(Entry, (2,)), Clear(StateValue, ("", "S", "k")), Clear(JournalEvent, ())]
    )
    await store.commit([Clear(SignalRow, (1,)), Clear(SignalRow, (7,))])
    assert [(row.number, row.index) for row in store.scan(Entry)] == [(1, LAST_INDEX), (3, 0)]
    assert [row.key for row in store.scan(StateValue)] == ["k1", "k1"]
    assert list(store.scan(JournalEvent)) == []
    assert [row.number for row in store.scan(SignalRow)] == [2]


async def a_delete_removes_one_row(store: Store) -> None:
    """Deleting what is not there is nothing."""
    await put(store, entry(1, 0), entry(1, 1), Waiter(1, 1, 1), Waiter(1, 1, 2), invocation(1))
    await store.commit(
        [Delete(Entry, (1, 0)), Delete(Waiter, (1, 1, 2)), Delete(Entry, (9, 9)),
         Delete(Invocation, (1,))]
    )  # fmt: skip
    assert list(store.scan(Entry)) == [entry(1, 1)]
    assert list(store.scan(Waiter)) == [Waiter(1, 1, 1)]
    assert store.get(Invocation, 1) is None


async def an_id_finds_its_invocation(store: Store) -> None:
    """C73: the id of a deleted invocation finds nothing, then the new one."""
    await put(store, invocation(1), invocation(2))
    assert store.by_id("inv_2") == invocation(2)
    assert store.by_id("inv_") is None
    again = replace(invocation(7), id="inv_1")
    await store.commit([Delete(Invocation, (1,))])
    assert store.by_id("inv_1") is None
    await put(store, again)
    assert store.by_id("inv_1") == again


async def timers_are_due_earliest_first(store: Store) -> None:
    """T3, C61: equal deadlines are all kept, ties in key order; nothing early."""
    timers = [Timer(2, "sleep", 1, 5), Timer(1, "start", 0, 7), Timer(1, "sleep", 2, 5)]
    await put(store, *timers, Timer(3, "retry", 1, 8))
    assert store.due(4, 9) == []
    assert store.due(7, 9) == [timers[2], timers[0], timers[1]]
    assert store.due(7, 2) == [timers[2], timers[0]]
    assert store.next_deadline_ms() == 5
    await put(store, Timer(2, "sleep", 1, 1 << 60), Timer(1, "sleep", 2, -1))
    assert store.next_deadline_ms() == -1
    await store.commit([Clear(Timer, ())])
    assert store.next_deadline_ms() is None


async def retention_ends_when_it_has_passed(store: Store) -> None:
    """I4: never early; a result's and a journal's retention both count; once each."""
    done = invocation(1, "completed")
    await put(
        store,
        replace(done, expires_at_ms=10, journal_expires_at_ms=9),
        replace(done, number=2, id="b", expires_at_ms=11),
        replace(done, number=3, id="c", journal_expires_at_ms=5),
        replace(done, number=4, id="d"),
        replace(invocation(5), expires_at_ms=1, journal_expires_at_ms=1),
    )
    assert store.expired(4, 9) == []
    assert sorted(store.expired(10, 9)) == [1, 3]
    assert sorted(store.expired(11, 9)) == [1, 2, 3]
    assert len(store.expired(11, 2)) == 2


async def open_invocations_come_in_pages(store: Store) -> None:
    """Recovery: only `invoked`, by number, each once; a status change moves it in and out."""
    await put(store, *[invocation(number) for number in (5, 1, 3)], invocation(2, "suspended"))
    await put(store, invocation(4, "completed"), invocation(6, "scheduled"))
    assert [row.number for row in store.open_invocations(0, 2)] == [1, 3]
    assert store.open_invocations(3, 2) == [invocation(5)]
    await put(store, invocation(2), invocation(5, "completed"))
    assert [row.number for row in store.open_invocations(0, 9)] == [1, 2, 3]


async def a_snapshot_reads_the_last_commit(store: Store) -> None:
    """The view has the same three reads; one inside another is allowed."""
    await put(store, Counter("a", 1), entry(1, 0), invocation(1))
    with store.snapshot() as view, store.snapshot() as inner:
        assert view.get(Counter, "a") == inner.get(Counter, "a") == Counter("a", 1)
        assert list(view.scan(Entry, 1)) == [entry(1, 0)]
        assert view.by_id("inv_1") == invocation(1)
    await put(store, Counter("a", 2))
    with store.snapshot() as view:
        assert view.get(Counter, "a") == Counter("a", 2)


async def a_dropped_scan_does_not_disturb_commits(store: Store) -> None:
    """An iterator that was left in the middle pins nothing."""
    await put(store, *[Counter(str(number), 1) for number in range(50)])
    scan = store.scan(Counter)
    next(scan)
    del scan
    await put(store, Counter("x", 1))
    await store.checkpoint()
    assert store.get(Counter, "x") == Counter("x", 1)


async def commits_are_numbered(store: Store) -> None:
    """Empty ones are not commits."""
    first = await store.commit([Put(Counter("a", 1))])
    empty = await store.commit([])
    second = await store.commit([Put(Counter("a", 2))])
    assert (empty.sequence, second.sequence) == (first.sequence, first.sequence + 1)


async def a_cancelled_commit_is_a_commit(store: Store) -> None:
    """C78: once asked for, it happens and its outcome is known; large ones too."""
    for size in (1, 2 << 20):
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.commit([Put(entry(size, 0, bytes(size)))])
        assert store.get(Entry, size, 0) == entry(size, 0, bytes(size))


async def sizes_are_those_of_the_first_entries(store: Store) -> None:
    """Of one journal, in order; large ones too (M3: no payload is read for them)."""
    sizes = [3, 0, 2 << 20, 5]
    await store.commit([Put(entry(7, index, bytes(size))) for index, size in enumerate(sizes)])
    await put(store, entry(8, 0, b"of another"))
    assert store.sizes(7, 3) == [(0, 3), (1, 0), (2, 2 << 20)]
    assert store.sizes(7, 9) == list(enumerate(sizes))
    assert store.sizes(6, 9) == []
    with store.snapshot() as view:
        assert view.sizes(7, 1) == [(0, 3)]


async def usage_is_plausible(store: Store) -> None:
    """D4, D6: three numbers, none negative; a checkpoint returns the same."""
    await put(store, entry(1, 0, bytes(100_000)))
    usage = await store.checkpoint()
    assert min(usage.free_bytes, usage.wal_bytes, usage.database_bytes) >= 0
    assert usage.free_bytes > 0


async def closing_twice_is_closing(store: Store) -> None:
    """Idempotent."""
    await put(store, Counter("a", 1))
    await store.aclose()
    await store.aclose()


CONTRACT: tuple[Callable[[Store], Awaitable[None]], ...] = (
    a_row_comes_back_as_it_was, a_put_replaces_the_whole_row, writes_apply_in_order,
    a_scan_is_in_key_order, a_scan_keeps_to_its_prefix, a_scan_starts_behind_after,
    a_scan_stops_at_its_limit, packed_rows_scan_like_others, a_clear_removes_exactly_its_prefix,
    a_delete_removes_one_row, an_id_finds_its_invocation, timers_are_due_earliest_first,
    retention_ends_when_it_has_passed, open_invocations_come_in_pages,
    a_snapshot_reads_the_last_commit, a_dropped_scan_does_not_disturb_commits,
    commits_are_numbered, a_cancelled_commit_is_a_commit, sizes_are_those_of_the_first_entries,
    usage_is_plausible, closing_twice_is_closing,
)  # fmt: skip
