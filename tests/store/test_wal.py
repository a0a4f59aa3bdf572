"""The write-ahead log: it starts over, tells who pins it, and when it is free again."""

from pathlib import Path

import apsw
import pytest
import trio
from msgspec.structs import replace

from restated.core.effects import Put
from restated.model.records import Counter, Entry
from restated.store.schema import DATABASE_NAME
from restated.store.sqlite import SqliteStore
from tests.store.opening import LIMITS, on_path


def test_the_log_starts_over_with_checkpoints_beside_commits(tmp_path: Path) -> None:
    """D6: they keep it bounded; rows of both sides survive."""
    limits = replace(LIMITS, inline_writes_max=0)

    async def keep_short(store: SqliteStore) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            if store.wal_bytes >= 200_000:
                await store.checkpoint()

    async def check(store: SqliteStore) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_short, store)
            for value in range(400):
                await store.commit([Put(Entry(1, value, 1, bytes(4000), 1))])
            nursery.cancel_scope.cancel()
        assert store.checkpoint_count > 2
        assert (tmp_path / f"{DATABASE_NAME}-wal").stat().st_size < 1_500_000
        assert len(list(store.scan(Entry, 1))) == 400

    on_path(tmp_path, check, limits)


def test_a_reader_that_pins_the_log_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """D6: warned at the alarm, new work refused at the bound; commits go on."""
    limits = replace(LIMITS, alarm_wal_bytes=50_000, stop_wal_bytes=100_000)

    async def check(store: SqliteStore) -> None:
        with apsw.Connection(str(store.path)) as reader:
            assert reader.execute("SELECT count(*) FROM counter").get == 0
            for value in range(50):
                await store.commit([Put(Entry(1, value, 1, bytes(4000), 1))])
            await store.checkpoint()
            assert store.is_full
            await store.commit([Put(Counter("a", 1))])
            assert reader.execute("SELECT count(*) FROM counter").get == 0
        reader.close()
        await store.checkpoint()
        await store.commit([Put(Counter("a", 2))])
        assert not store.is_full

    on_path(tmp_path, check, limits)
    assert "a reader pins the WAL" in caplog.text


def test_a_pin_is_reported_at_the_alarm_and_when_the_log_has_doubled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at every checkpoint of a query that takes seconds; the next pin is a new one."""
    limits = replace(LIMITS, alarm_wal_bytes=50_000)

    async def grow(store: SqliteStore, values: range) -> None:
        for value in values:
            await store.commit([Put(Entry(1, value, 1, bytes(4000), 1))])
            await store.checkpoint()

    async def check(store: SqliteStore) -> None:
        for values in (range(30), range(30, 60)):
            caplog.clear()
            with apsw.Connection(str(store.path)) as reader:
                assert reader.execute("SELECT count(*) >= 0 FROM journal").get == 1
                await grow(store, values)
                assert 100_000 < store.wal_bytes < 400_000
                assert caplog.text.count("a reader pins the WAL") in {2, 3}
            reader.close()
            await store.checkpoint()
            await store.commit([Put(Counter("a", 1))])

    on_path(tmp_path, check, limits)


def test_a_full_log_is_known_to_be_free_without_a_commit(tmp_path: Path) -> None:
    """D6: while new work is refused no commit may come; its size is not what the last said."""
    limits = replace(LIMITS, stop_wal_bytes=100_000)

    async def check(store: SqliteStore) -> None:
        for value in range(50):
            await store.commit([Put(Entry(1, value, 1, bytes(4000), 1))])
        with apsw.Connection(str(store.path)) as reader:
            assert reader.execute("SELECT count(*) FROM journal").get == 50
            await store.checkpoint()
            assert store.is_full, "a reader stands at its end"
        reader.close()
        await store.prefetch(())
        await store.checkpoint()
        assert store.is_full, "a transaction is open, its commit will tell"
        await store.commit([])
        await store.checkpoint()
        assert store.usage().wal_bytes == 0
        await store.commit([Put(Counter("a", 1))])
        assert 0 < store.wal_bytes < 10_000, "it did start over"

    on_path(tmp_path, check, limits)


def test_commits_go_on_beside_checkpoints_of_a_full_log(tmp_path: Path) -> None:
    """D6, A3: the look whether a full log is free never meets a transaction of the writer."""
    limits = replace(LIMITS, stop_wal_bytes=1)

    async def check(store: SqliteStore) -> None:
        async def commit() -> None:
            for value in range(200):
                await store.prefetch(())
                await trio.lowlevel.checkpoint()
                await store.commit([Put(Counter("a", value))])
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit)
            for _ in range(100):
                await store.checkpoint()
        assert store.get(Counter, "a") == Counter("a", 199)
        await store.checkpoint()
        assert not store.is_full

    on_path(tmp_path, check, limits)
