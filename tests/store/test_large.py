"""Large values are written and read in place."""

import weakref
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from restated.core.effects import Clear, Delete, Put, Write
from restated.model.records import Entry, Failure, Result, Row, StateValue
from restated.store import large
from restated.store.schema import LARGE, LARGE_BYTES, TABLES, stored_columns
from restated.store.sqlite import SqliteStore
from tests.store.opening import on_files, on_path

SIZES = [LARGE_BYTES - 1, LARGE_BYTES, large.HUGE_BYTES, large.HUGE_BYTES + 1]


def value_of(size: int) -> bytes:
    """Bytes that tell their place."""
    pattern = b"".join(number.to_bytes(4, "big") for number in range(16_384))
    return (pattern * (size // len(pattern) + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
def test_large_values_are_read_as_they_were_written(tmp_path: Path, size: int) -> None:
    """M3: by key, in a scan, over both connections, and before and behind rows of other sizes."""
    payload = value_of(size)
    entries = [
        Entry(7, 0, 1, b"small", 5, "first", 6),
        Entry(7, 1, 2, payload, 6, "second", 7),
        Entry(7, 2, 3, b"", 7),
    ]
    result = Result(7, payload)

    async def run() -> None:
        async with on_files(tmp_path) as store:
            await store.commit([Put(entries[0]), Put(entries[1]), Put(result), Put(entries[2])])
            assert store.get(Entry, 7, 1) == entries[1]
            assert store.get(Result, 7) == result
            assert list(store.scan(Entry, 7)) == entries
            with store.snapshot() as view:
                assert list(view.scan(Entry, 7, after=0, limit=1)) == entries[1:2]
        async with on_files(tmp_path) as again:
            assert list(again.scan(Entry, 7)) == entries
            assert again.get(Result, 7) == result

    trio.run(run)


def test_large_rows_replace_and_are_replaced(tmp_path: Path) -> None:
    """The row that is put is the row that is there, whatever was there before."""
    huge = value_of(large.HUGE_BYTES)
    batches: list[list[Write]] = [
        [Put(Result(1, huge)), Put(Entry(1, 0, 1, huge, 1))],
        [Put(Result(1, huge[::-1])), Put(Entry(1, 0, 2, huge[::-1], 2, "again"))],
        [Put(Result.of(1, Failure(500, "no"))), Put(Entry(1, 0, 3, b"", 3))],
        [
            Put(Result(1, huge)),
            Clear(Entry, (1,)),
            Put(Entry(1, 1, 1, huge, 1)),
            Delete(Result, (1,)),
        ],
    ]

    async def run() -> list[tuple[Result | None, list[Entry]]]:
        seen = []
        async with on_files(tmp_path) as store:
            for batch in batches:
                await store.commit(batch)
                seen.append((store.get(Result, 1), list(store.scan(Entry, 1))))
        return seen

    assert trio.run(run) == [
        (Result(1, huge), [Entry(1, 0, 1, huge, 1)]),
        (Result(1, huge[::-1]), [Entry(1, 0, 2, huge[::-1], 2, "again")]),
        (Result.of(1, Failure(500, "no")), [Entry(1, 0, 3, b"", 3)]),
        (None, [Entry(1, 1, 1, huge, 1)]),
    ]


def test_cache_is_as_large_as_before_behind_a_huge_value(tmp_path: Path) -> None:
    """M3: the small cache is for the one read or commit only."""
    huge = value_of(large.HUGE_BYTES)

    async def check(store: SqliteStore) -> None:
        connection = store._writer.connection
        before = connection.pragma("cache_size")
        await store.commit([Put(Entry(1, 0, 1, huge, 1))])
        store.get(Entry, 1, 0)
        assert connection.pragma("cache_size") == before

    on_path(tmp_path, check)


class Tracked(bytearray):
    """A value whose end can be watched."""


def test_row_is_forgotten_before_sqlite_runs_the_statement(tmp_path: Path) -> None:
    """M3: else the value would be there three times while the record is made."""
    connection = apsw.Connection(str(tmp_path / "file"))
    for statement in TABLES[StateValue].create:
        connection.execute(statement)
    value = Tracked(value_of(LARGE_BYTES))
    known = weakref.ref(value)
    seen: list[bool] = []
    connection.create_scalar_function("look", lambda *_: seen.append(known() is None), 0)
    connection.execute("CREATE TEMP TRIGGER watch BEFORE INSERT ON state BEGIN SELECT look(); END")
    values: list[Any] = ["", "Counter", "key", "name", value]
    del value
    large.put(connection, StateValue, values)
    assert seen == [True]
    assert connection.execute("SELECT name, value FROM state").fetchall() == [
        ("name", value_of(LARGE_BYTES))
    ]


@pytest.mark.parametrize("table", LARGE)
def test_large_value_is_the_last_column(table: type[Row]) -> None:
    """M3: what lies behind it is reached by way of all its pages only."""
    assert stored_columns(table)[-1] == LARGE[table]
