"""The Store protocol: what every store promises, method by method.

Lives here: Store, Committed, Usage, StoreFailedError.
Does not: how (sqlite.py); the same contract test runs against every implementation.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from restated.core.effects import Write
from restated.core.events import Event
from restated.core.view import View
from restated.model.records import Invocation, Record, Timer


class StoreFailedError(Exception):
    """A commit raised: its outcome is unknown (A3). The process must stop; nobody may be told
    anything.
    """


class StoreRefusedError(Exception):
    """The data directory cannot be opened as it is; the text says why and what to do."""


class Committed(Record):
    """Proof of a durable commit. Only the store makes one; Dispatch.release demands it."""

    sequence: int


class Usage(Record):
    """Bytes of disk."""

    free_bytes: int
    wal_bytes: int
    database_bytes: int


class Store(View, Protocol):
    """Rows, durable. `get`, `scan`, `by_id` see the latest commit and belong to the writer."""

    async def prefetch(self, events: Sequence[Event]) -> None:
        """Afterwards everything that these events can read is available without waiting."""
        ...

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """All writes in order in one transaction, or none; returns only when durable.

        Any exception is StoreFailedError, after which every further call raises it. Empty
        `writes` returns at once without I/O. Not cancellable.
        """
        ...

    def snapshot(self) -> AbstractContextManager[View]:
        """A read-only consistent view at the last commit, whatever is being written.

        Never blocks the writer; hold it for one short synchronous block, never across an await.
        """
        ...

    def due(self, now_ms: int, limit: int) -> list[Timer]:
        """Committed timers with `at_ms <= now_ms`, earliest first, ties in key order."""
        ...

    def expired(self, now_ms: int, limit: int) -> list[int]:
        """Numbers of completed invocations whose result or journal outlived its retention."""
        ...

    def next_deadline_ms(self) -> int | None:
        """Earliest committed timer, or None."""
        ...

    def open_invocations(self, after: int, limit: int) -> list[Invocation]:
        """Invocations with status `invoked` and number > `after`, by number."""
        ...

    async def checkpoint(self) -> Usage:
        """Move the WAL into the database file, beside commits; errors are StoreFailedError."""
        ...

    def usage(self) -> Usage:
        """Disk use, for low-water refusal (D4) and metrics."""
        ...

    async def aclose(self) -> None:
        """Final checkpoint kept in the WAL file, connections closed; idempotent."""
        ...
