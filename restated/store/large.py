"""Rows with a large value, written and read with the fewest copies that SQLite allows.

Lives here: putting such a row, reading such a value, a small cache while either is done.
Does not: every other row (sqlite.py, reading.py).
Rule: M3. A statement copies what it is bound, and once more into the record that it stores; a
result is copied out of the record, and once more into Python. The blob interface reads and writes
in place, one copy is all there is, where the record is found by a number (`LARGE` in schema.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final

import apsw

from restated.core.effects import Put, Write
from restated.model.records import INDEX_BITS, Column, Row
from restated.store.schema import LARGE, LARGE_BYTES, TABLES

HUGE_BYTES: Final = 8 << 20  # its pages would fill the cache, and are seldom read again
HUGE_CACHE_KIB: Final = 2_048


def payload_bytes(writes: Iterable[Write]) -> int:
    """What the rows to be put carry in blobs."""
    total = 0
    for write in writes:
        if type(write) is Put:
            row = write.row
            for blob in TABLES[type(row)].blobs:
                value = blob(row)
                if value is not None:
                    total += len(value)
    return total


def is_large(write: Write) -> bool:
    """Whether a write is to be put on its own."""
    return payload_bytes((write,)) >= LARGE_BYTES


def put(connection: apsw.Connection, table: type[Row], values: list[Column]) -> None:
    """Insert or replace a row within a transaction; `values` is empty afterwards."""
    place = TABLES[table].large_place
    value = None if place is None else values[place]
    if place is None or not isinstance(value, bytes):
        _put_bound(connection, table, values)
        return
    rowid = _rowid(values[: len(table.KEY)])
    room: list[Column | apsw.zeroblob] = [*values]
    room[place] = apsw.zeroblob(len(value))
    values.clear()
    connection.execute(TABLES[table].put, room)
    with connection.blob_open("main", table.TABLE, LARGE[table], rowid, writeable=True) as blob:
        blob.write(value)


def _put_bound(connection: apsw.Connection, table: type[Row], values: list[Column]) -> None:
    """A value that nobody else holds is freed before SQLite makes its second copy."""
    bindings = [*values]
    values.clear()

    def forget(_cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
        # Called between binding and running: now SQLite has a copy of its own.
        bindings[:] = [None] * len(bindings)
        return True

    cursor = connection.cursor()
    cursor.exec_trace = forget
    # A statement that is kept would keep its last bindings, too.
    cursor.execute(TABLES[table].put, bindings, can_cache=False)
    cursor.close()


def read(connection: apsw.Connection, table: type[Row], key: tuple[Column, ...]) -> bytes:
    """The large value of the stored row with this key."""
    rowid = _rowid(key)
    opened = connection.blob_open("main", table.TABLE, LARGE[table], rowid, writeable=False)
    with closing(opened) as blob, small_cache(connection, blob.length()):
        return blob.read()


def _rowid(key: Sequence[Column]) -> int:
    rowid = 0
    for column in key:
        assert isinstance(column, int), "tables with large values have keys of integers"
        rowid = rowid << INDEX_BITS | column
    return rowid


@contextmanager
def small_cache(connection: apsw.Connection, size: int) -> Iterator[None]:
    """What is read or written meanwhile, if huge, goes through little of the cache."""
    before = connection.pragma("cache_size")
    if size >= HUGE_BYTES:
        connection.pragma("cache_size", -HUGE_CACHE_KIB)
    try:
        yield
    finally:
        connection.pragma("cache_size", before)
