"""The Store on SQLite.

Lives here: SqliteStore, its three connections and two threads, commit, checkpoint.
Does not: opening and checking the file (startup.py), statements (schema.py), rules (core/).

Three connections: one writes, one reads what is committed (loop thread), one moves the WAL in its
own thread. Where COMMIT runs was measured (two cores, page 2,048, one echo = two events = 4 rows,
beside a busy event loop): inline it takes 0.35 ms for one event, 0.48 for 32, 1.2 for 128; in a
thread the same COMMIT waits for the interpreter lock: p95 5 ms instead of 0.6. So up to 64 writes
run inline while the disk answers within a millisecond; what is larger or slower goes to the
thread, where it does not hold up timers (D3).
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Final, TypeVar

import apsw
from msgspec.structs import astuple, replace

from restated.core.effects import Clear, Delete, Put, Write
from restated.core.events import Event
from restated.core.view import View
from restated.model.records import Column, Invocation, Row, Timer
from restated.seams import Clock, Fs
from restated.store import backup, large, startup, wal
from restated.store.reading import Rows, Snapshot
from restated.store.schema import (
    DATABASE_NAME,
    DUE,
    EXPIRED,
    NEXT_DEADLINE,
    SELECT_OPEN,
    TABLES,
)
from restated.store.startup import Finding, StoreLimits, doctor
from restated.store.store import Committed, StoreFailedError, StoreRefusedError, Usage
from restated.store.worker import Worker

__all__ = ["Finding", "SqliteStore", "StoreLimits", "doctor", "open_sqlite"]

R = TypeVar("R", bound=Row)
T = TypeVar("T")

_log = logging.getLogger("restated.store")

INLINE_COMMIT_MS_MAX: Final = 1.0  # mean of the last commits
SLOW_COMMIT_MS: Final = 20.0  # one such commit sends the following to the thread
SLOW_PERIOD_MS: Final = 10_000.0
LARGE_BATCH_BYTES: Final = 1 << 20  # statements of a larger batch run in the thread, too
_MEAN_OVER: Final = 32


class SqliteStore:
    """Implements `Store`. Opened by `open_sqlite`; belongs to one event loop."""

    def __init__(
        self,
        connections: tuple[apsw.Connection, apsw.Connection, apsw.Connection],
        *,
        clock: Clock,
        fs: Fs,
        limits: StoreLimits,
        directory: Path,
        lock: int | None,
    ) -> None:
        writer, reader, checkpointer = connections
        self._writer = Rows(writer)
        self._reader = Rows(reader)
        self._checkpointer = checkpointer
        self._snapshot = Snapshot(self._reader)
        self._latest: AbstractContextManager[View] = nullcontext(self._writer)
        self._has_begun = False  # the transaction of the next commit is open, nothing written yet
        self._is_writing = False  # its connection is a thread's, or shows what is not committed
        self._is_single = writer is checkpointer
        self._clock = clock
        self._fs = fs
        self._limits = limits
        self._lock = lock
        self.path = directory / DATABASE_NAME
        self._failure: StoreFailedError | None = None
        self._is_closed = False
        self._commit_thread: Worker | None = None
        self._checkpoint_thread: Worker | None = None
        self._mean_ms = 0.0
        self._thread_until_ms = 0.0
        self._wal_frames = 0
        self._has_rest = False  # the last checkpoint left frames that were just being written
        self._warn_at_bytes = limits.alarm_wal_bytes
        self._page_bytes = int(writer.pragma("page_size"))
        self.sequence = 0
        self.commit_count = 0  # the next four are read by telemetry
        self.commit_seconds = 0.0
        self.checkpoint_count = 0
        self.checkpoint_seconds = 0.0
        writer.set_wal_hook(self._on_wal)

    # -- View: the latest commit, for the writer only

    def get(self, table: type[R], *key: Column) -> R | None:
        """The row with this key, or None."""
        self._check()
        return self._writer.get(table, *key)

    def scan(
        self, table: type[R], *prefix: Column, after: Column = None, limit: int | None = None
    ) -> Iterator[R]:
        """Rows whose key starts with `prefix`, in key order; drop it before the next commit."""
        self._check()
        return self._writer.scan(table, *prefix, after=after, limit=limit)

    def by_id(self, invocation_id: str) -> Invocation | None:
        """The invocation with this text id, or None."""
        self._check()
        return self._writer.by_id(invocation_id)

    def sizes(self, number: int, limit: int) -> list[tuple[int, int]]:
        """See View."""
        self._check()
        return self._writer.sizes(number, limit)

    # -- Store: reading beside the writer

    async def prefetch(self, events: Sequence[Event]) -> None:  # noqa: ARG002 - it reads at once
        """Begin the transaction of the batch: each read outside of one locks and unlocks the file.

        Until `commit` nothing is written, so every view still shows the last commit.
        """
        self._check()
        if self._is_single or self._has_begun:
            return  # a single connection could not checkpoint meanwhile
        try:
            await self._begin()
        except BaseException as error:
            raise self._fail("begin", error) from error

    def snapshot(self) -> AbstractContextManager[View]:
        """A consistent view at the last commit, for one short synchronous block.

        While nothing is being written it is the writer's connection: the other one drops its cache
        at each commit that it has not made, and reads every page anew.
        """
        self._check()
        return self._snapshot if self._is_writing else self._latest

    def due(self, now_ms: int, limit: int) -> list[Timer]:
        """Committed timers with `at_ms <= now_ms`, earliest first, ties in key order."""
        return list(starmap(Timer, self._read(DUE, (now_ms, limit))))

    def expired(self, now_ms: int, limit: int) -> list[int]:
        """Numbers of completed invocations whose result or journal outlived its retention."""
        return [number for (number,) in self._read(EXPIRED, (now_ms, limit))]

    def next_deadline_ms(self) -> int | None:
        """Earliest committed timer, or None."""
        for (at_ms,) in self._read(NEXT_DEADLINE, ()):
            return None if at_ms is None else int(at_ms)
        return None

    def open_invocations(self, after: int, limit: int) -> list[Invocation]:
        """Invocations with status `invoked` and number > `after`, by number."""
        return list(starmap(Invocation, self._read(SELECT_OPEN, (after, limit))))

    def _read(self, sql: str, bindings: tuple[Column, ...]) -> apsw.Cursor:
        self._check()
        return self._reader.connection.execute(sql, bindings)

    # -- Store: writing

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """All writes in one transaction, durable at return; any exception is StoreFailedError.

        Inline it does not yield: the answers leave in the same turn of the loop. That starves
        nobody, because only small batches run inline and a queue that nobody fills runs empty.
        """
        self._check()
        try:
            if not writes:
                self._end_unused()
                return Committed(self.sequence)
            if not self._has_begun:
                await self._begin()
            self._is_writing = True
            if self._is_single:
                self._apply_and_commit(writes)
            elif (payload_bytes := large.payload_bytes(writes)) > LARGE_BATCH_BYTES:
                work = partial(self._commit_large, deque(writes), payload_bytes)
                del writes
                await self._in_commit_thread(work)
            else:
                self._apply(writes)
                if self._commits_inline(len(writes)):
                    self._finish_inline()
                else:
                    await self._in_commit_thread(self._finish)
        except BaseException as error:
            raise self._fail("commit", error) from error
        self._has_begun = self._is_writing = False
        self.sequence += 1
        return Committed(self.sequence)

    async def _begin(self) -> None:
        if self._has_rest:
            await self._move_rest()
        self._writer.connection.execute("BEGIN IMMEDIATE")
        self._has_begun = True

    def _end_unused(self) -> None:
        if self._has_begun:
            self._writer.connection.execute("ROLLBACK")
            self._has_begun = False

    def _commit_large(self, writes: deque[Write], payload_bytes: int) -> None:
        """One row after the other, each forgotten once SQLite has it (M3)."""
        connection = self._writer.connection
        if payload_bytes >= large.HUGE_BYTES:
            connection.execute("PRAGMA shrink_memory")
        with large.small_cache(connection, payload_bytes):
            small: list[Write] = []
            while writes:
                write = writes.popleft()
                if not large.is_large(write):
                    small.append(write)
                    continue
                self._apply(small)
                small.clear()
                assert type(write) is Put
                table, values = type(write.row), list(astuple(write.row))
                del write
                large.put(connection, table, values)
            self._apply(small)
            self._finish()

    def _apply(self, writes: Sequence[Write]) -> None:
        execute_many = self._writer.connection.executemany
        statement = ""
        bindings: list[tuple[Column, ...]] = []
        for write in writes:
            if type(write) is Put:
                row = write.row
                sql, values = TABLES[type(row)].put, astuple(row)
            elif type(write) is Delete:
                sql, values = TABLES[write.table].delete, write.key
            else:
                assert type(write) is Clear
                sql, values = TABLES[write.table].clear(len(write.prefix)), write.prefix
            if sql is not statement:
                if bindings:
                    execute_many(statement, bindings)
                statement, bindings = sql, []
            bindings.append(values)
        execute_many(statement, bindings)

    def _finish(self) -> float:
        started_ms = self._clock.monotonic_ms()
        self._writer.connection.execute("COMMIT")
        took_ms = self._clock.monotonic_ms() - started_ms
        self.commit_count += 1
        self.commit_seconds += took_ms / 1000
        return took_ms

    def _finish_inline(self) -> None:
        """Only this tells the disk's speed: in a thread COMMIT also waits for the interpreter."""
        took_ms = self._finish()
        self._mean_ms += (took_ms - self._mean_ms) / _MEAN_OVER
        if took_ms > SLOW_COMMIT_MS:
            self._thread_until_ms = self._clock.monotonic_ms() + SLOW_PERIOD_MS

    def _apply_and_commit(self, writes: Sequence[Write]) -> None:
        self._apply(writes)
        self._finish()

    def _commits_inline(self, write_count: int) -> bool:
        return (
            write_count <= self._limits.inline_writes_max
            and (self._mean_ms < INLINE_COMMIT_MS_MAX or self.commit_count % _MEAN_OVER == 0)
            and self._clock.monotonic_ms() >= self._thread_until_ms
        )

    async def _in_commit_thread(self, work: Callable[[], object]) -> None:
        if self._commit_thread is None:
            self._commit_thread = Worker("commit")
        await self._commit_thread.run(work)

    # -- the WAL

    @property
    def wal_bytes(self) -> int:
        """Bytes of the WAL that the last commit left in use; 0 once known to start over."""
        return self._wal_frames * (self._page_bytes + 24)

    @property
    def is_full(self) -> bool:
        """Whether new work must be refused: something pins the WAL (D6)."""
        return self.wal_bytes >= self._limits.stop_wal_bytes

    def _on_wal(self, _connection: apsw.Connection, _name: str, frames: int) -> int:
        self._wal_frames = frames
        return apsw.SQLITE_OK

    async def checkpoint(self) -> Usage:
        """Move the WAL into the database file, beside commits; errors are StoreFailedError.

        Frames that commits append meanwhile stay; the next commit moves them first. Without that
        a busy daemon never reaches the end of its WAL, and the file never starts over.
        """
        self._check()
        started_ms = self._clock.monotonic_ms()
        try:
            if self._is_single:
                moved = wal.move(self._checkpointer)
            else:
                moved = await self._in_checkpoint_thread(lambda: wal.move(self._checkpointer))
        except BaseException as error:
            raise self._fail("checkpoint", error) from error
        self.checkpoint_count += 1
        self.checkpoint_seconds += (self._clock.monotonic_ms() - started_ms) / 1000
        left = self._wal_frames > moved
        self._has_rest = left
        if not left and self.is_full:
            self._start_over()
        self._warn_of_a_pin(is_pinned=left)
        return self.usage()

    def _warn_of_a_pin(self, *, is_pinned: bool) -> None:
        """At the alarm, and again whenever the WAL has doubled."""
        if not is_pinned:
            self._warn_at_bytes = self._limits.alarm_wal_bytes
        elif self.wal_bytes >= self._warn_at_bytes:
            self._warn_at_bytes = 2 * self.wal_bytes
            _log.warning("a reader pins the WAL wal_bytes=%d", self.wal_bytes)

    def _start_over(self) -> None:
        """Know that a full log is free without a commit: while new work is refused, none may come.

        Between two transactions of the writer, in one turn of the loop: no BEGIN meets the lock.
        """
        if self._has_begun or self._is_writing:
            return
        try:
            if wal.starts_over(self._writer.connection):
                self._wal_frames = 0
        except BaseException as error:
            raise self._fail("checkpoint", error) from error

    async def _move_rest(self) -> None:
        self._has_rest = False
        self._is_writing = True  # the connection is the thread's meanwhile
        await self._in_commit_thread(lambda: wal.move(self._writer.connection))
        self._is_writing = False

    async def _in_checkpoint_thread(self, work: Callable[[], T]) -> T:
        if self._checkpoint_thread is None:
            self._checkpoint_thread = Worker("checkpoint")
        return await self._checkpoint_thread.run(work)

    async def backup(self, target: Path) -> None:
        """Write a verified copy of the last commit to a new file, beside commits.

        StoreRefusedError: `target` exists, cannot be written, or the copy is not intact; the store
        itself goes on. Checkpoints wait meanwhile.
        """
        self._check()
        if self._is_single:
            backup.copy(self._checkpointer, target)
        else:
            await self._in_checkpoint_thread(lambda: backup.copy(self._checkpointer, target))

    def usage(self) -> Usage:
        """Disk use, for low-water refusal (D4) and metrics."""
        self._check()
        path = str(self.path)
        return Usage(
            free_bytes=self._fs.free_bytes(str(self.path.parent)),
            wal_bytes=self.wal_bytes,
            database_bytes=self._fs.file_bytes(path),
        )

    # -- the end

    async def aclose(self) -> None:
        """Move the WAL into the database file, keep the WAL file, close; idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._failure is None:
                await self.checkpoint()
        finally:
            for worker in (self._commit_thread, self._checkpoint_thread):
                if worker is not None:
                    worker.stop()
            self._close_files()

    def _close_files(self) -> None:
        had_failed = self._failure is not None
        writer, reader = self._writer.connection, self._reader.connection
        try:
            for connection in (reader, self._checkpointer, writer):
                connection.close(force=True)
        except apsw.Error as error:
            if not had_failed:  # else it is told already
                raise self._fail("close", error) from error
        finally:
            if self._lock is not None:
                os.close(self._lock)
            self._failure = self._failure or StoreFailedError("the store is closed")

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self, what: str, error: BaseException) -> StoreFailedError:
        """The outcome is unknown (A3): from here on nobody may read or write anything."""
        self._failure = StoreFailedError(f"{what} failed: {error}")
        return self._failure


async def open_sqlite(
    path: Path,
    *,
    clock: Clock,
    fs: Fs,
    limits: StoreLimits | None = None,
    single_connection: bool = False,
    vfs: str | None = None,
) -> SqliteStore:
    """Open the data directory `path`, creating it if needed; StoreRefusedError says why not.

    `single_connection` and `vfs` are the simulator's: all files then belong to that VFS, the
    directory need not exist and is not locked.
    """
    limits = limits or StoreLimits()
    startup.require_sqlite()
    directory, lock = (path, None) if vfs is not None else startup.lock_directory(path)
    opened: list[apsw.Connection] = []
    try:
        filename = str(directory / DATABASE_NAME)
        writer = startup.connect(filename, limits, exclusive=single_connection, vfs=vfs)
        beside = replace(limits, cache_bytes=limits.reader_cache_bytes)
        opened.append(writer)
        startup.recover_log(writer)
        startup.check_file(writer, limits)
        startup.migrate(writer)
        startup.reserve_log(writer, limits)
        for finding in doctor(writer, fast=True):
            _log.error("invariant violated name=%s rows=%d", finding.name, len(finding.rows))
        while len(opened) < 3:
            opened.append(
                writer
                if single_connection
                else startup.connect(filename, beside, exclusive=False, vfs=vfs)
            )
    except (apsw.Error, OSError, StoreRefusedError) as error:
        for connection in opened:
            startup.abandon(connection)
        if lock is not None:
            os.close(lock)
        if isinstance(error, StoreRefusedError):
            raise
        msg = f"cannot open the database in {directory}: {error}"
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            msg = f"the database is damaged ({error}); restore a backup into {directory}"
        raise StoreRefusedError(msg) from error
    return SqliteStore(
        (opened[0], opened[1], opened[2]),
        clock=clock, fs=fs, limits=limits, directory=directory, lock=lock,
    )  # fmt: skip
