"""What an attempt reads of the store: the journal in pages, the state within its limit.

Lives here: short reads of the store, each in a snapshot of its own.
Does not: bytes (session.py). Stored entries never change, so pages of several snapshots fit
together; a journal that is shorter than the invocation's row says ends the attempt (C14).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from restated.core.view import View
from restated.model.records import Completion, Entry, Invocation, StateValue
from restated.store.store import Store

PAGE_ENTRIES_MAX: Final = 256
PAGE_BYTES_MAX: Final = 1024 * 1024


def read_page(view: View, number: int, after: int | None) -> tuple[list[Entry], int]:
    """The next entries behind index `after`, and their bytes; at least one if there is any."""
    page: list[Entry] = []
    page_bytes = 0
    for entry in view.scan(Entry, number, after=after, limit=PAGE_ENTRIES_MAX):
        page.append(entry)
        page_bytes += len(entry.payload)
        if page_bytes >= PAGE_BYTES_MAX:
            break
    return page, page_bytes


def read_state(
    view: View, invocation: Invocation, bytes_max: int
) -> tuple[list[tuple[str, bytes]] | None, int]:
    """The whole state of the invocation's key and its bytes; None when it exceeds the limit."""
    state: list[tuple[str, bytes]] = []
    state_bytes = 0
    for row in view.scan(StateValue, *invocation.lock_key):
        state_bytes += len(row.name.encode()) + len(row.value)
        if state_bytes > bytes_max:
            return None, 0
        state.append((row.name, row.value))
    return state, state_bytes


def payload_of(store: Store, number: int, index: int) -> bytes | None:
    """The body of an entry; None when the journal went with the invocation meanwhile."""
    with store.snapshot() as view:
        entry = view.get(Entry, number, index)
    return None if entry is None else entry.payload


def is_open_run(store: Store, number: int, completion_id: int) -> bool:
    """Whether an older attempt declared the run; its command is stored, as it was replayed."""
    with store.snapshot() as view:
        completion = view.get(Completion, number, completion_id)
    return completion is not None and completion.kind == "run" and completion.entry_index is None


class Pages:
    """The entries of a journal, read ahead by one page; `first` has been read already."""

    __slots__ = ("_first", "_known", "_number", "_on_page", "_on_short", "_store")

    def __init__(self, store: Store, invocation: Invocation, first: Sequence[Entry]) -> None:
        self._store = store
        self._number = invocation.number
        self._known = invocation.journal_length
        self._first = first
        self._on_page: Callable[[int], None] | None = None
        self._on_short: Callable[[], None] | None = None

    def listen(self, on_page: Callable[[int], None], on_short: Callable[[], None]) -> None:
        """`on_page(bytes)` after each further read, and at the end with 0; `on_short` (C14)."""
        self._on_page = on_page
        self._on_short = on_short

    def __iter__(self) -> Iterator[Entry]:
        """Exactly the known entries in order; fewer only after `on_short` was called."""
        page, self._first = self._first, ()
        index = 0
        while index < self._known:
            for entry in page[: self._known - index]:
                if entry.index != index:
                    page = ()
                    break
                yield entry
                index += 1
            if index == self._known:
                break
            if page:
                page = ()
                del entry  # both before more is read: no large entry beside the next one (M3)
                with self._store.snapshot() as view:
                    page, page_bytes = read_page(view, self._number, index - 1 if index else None)
                if self._on_page is not None:
                    self._on_page(page_bytes)
            if not page:
                if self._on_short is not None:
                    self._on_short()
                return
        if self._on_page is not None:
            self._on_page(0)
