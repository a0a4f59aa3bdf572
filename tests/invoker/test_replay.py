"""Pages of a journal, and state within its limit."""

import pytest

from restated.invoker.replay import (
    PAGE_BYTES_MAX,
    PAGE_ENTRIES_MAX,
    Pages,
    read_page,
    read_state,
)
from restated.model.records import Entry, StateValue
from restated.protocol import messages
from tests.invoker.messages_of import invocation, keyed
from tests.invoker.world import seed
from tests.sim.memory_store import MemoryStore


def journal(*sizes: int) -> MemoryStore:
    store = MemoryStore()
    seed(
        store,
        *(
            Entry(1, index, messages.SLEEP_COMMAND, bytes(size), 0)
            for index, size in enumerate(sizes)
        ),
    )
    return store


class Heard:
    """What a replay told."""

    def __init__(self) -> None:
        self.pages: list[int] = []
        self.short = 0

    def on_short(self) -> None:
        self.short += 1


def replayed(store: MemoryStore, known: int) -> tuple[list[int], Heard]:
    first, _ = read_page(store, 1, None)
    pages = Pages(store, invocation(journal_length=known), first)
    heard = Heard()
    pages.listen(heard.pages.append, heard.on_short)
    return [entry.index for entry in pages], heard


def test_a_page_ends_at_its_bounds() -> None:
    """Design 3.9: 256 entries or 1 MiB, and always one."""
    assert len(read_page(journal(*[1] * 300), 1, None)[0]) == PAGE_ENTRIES_MAX
    large = journal(PAGE_BYTES_MAX * 2, 1, PAGE_BYTES_MAX // 2, PAGE_BYTES_MAX // 2, 5)
    assert read_page(large, 1, None)[1] == PAGE_BYTES_MAX * 2
    assert [entry.index for entry in read_page(large, 1, 0)[0]] == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_every_known_entry_is_replayed_once(count: int) -> None:
    """B5: exactly the known entries, in order, however many pages they take."""
    indices, heard = replayed(journal(*[3] * count), count)
    assert indices == list(range(count))
    assert heard.short == 0
    assert heard.pages[-1] == 0


def test_entries_that_came_later_are_left_to_pushes() -> None:
    """Design 3.9: known_entries was fixed with Start."""
    indices, heard = replayed(journal(*[3] * 300), 258)
    assert indices == list(range(258))
    assert heard.short == 0


@pytest.mark.parametrize("count", [0, 1, 256, 299])
def test_a_missing_entry_is_noticed(count: int) -> None:
    """C14."""
    indices, heard = replayed(journal(*[3] * count), 300)
    assert indices == list(range(count))
    assert heard.short == 1


def test_a_hole_is_noticed() -> None:
    """C14: what follows it must not be taken for it."""
    store = MemoryStore()
    seed(store, Entry(1, 0, 0x0400, b"", 0), Entry(1, 2, 0x0400, b"", 0))
    indices, heard = replayed(store, 3)
    assert indices == [0]
    assert heard.short == 1


def test_state_is_all_or_nothing() -> None:
    """Design 3.15: beyond the limit nothing is kept."""
    store = MemoryStore()
    seed(
        store,
        StateValue("", "Greeter", "k", "a", b"12"),
        StateValue("", "Greeter", "k", "ä", b"3"),
        StateValue("", "Greeter", "other", "a", b"4"),
    )
    whole = [("a", b"12"), ("ä", b"3")]
    assert read_state(store, keyed(), 6) == (whole, 6)
    assert read_state(store, keyed(), 5) == (None, 0)
    assert read_state(MemoryStore(), keyed(), 0) == ([], 0)
