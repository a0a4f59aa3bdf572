"""Python twins of the S-invariants: what must hold between rows, whatever happened before.

Lives here: `violations`, one function for each invariant of reliability.md 3 that rows can show.
Does not: whether the rows are the right ones (oracle.py); S2 and A5 (no outbox, no crash here);
B11 (deployments are not in these programs).
The same rules stand as SQL in `store/doctor.sql`.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from typing import Final

from restated.core.awaits import restored
from restated.model.records import (
    Await,
    Completion,
    Counter,
    Entry,
    InboxItem,
    Invocation,
    JournalEvent,
    Lock,
    Promise,
    PromiseWaiter,
    Result,
    Row,
    SignalRow,
    Timer,
    Waiter,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.sim.memory_store import MemoryStore

HOLDING = ("invoked", "suspended", "paused")


def violations(store: MemoryStore) -> list[str]:
    """Every violation, as `id: what`; empty when all is well."""
    return [f"{name}: {text}" for name, check in CHECKS.items() for text in check(store)]


def journal_is_whole(store: MemoryStore) -> Iterator[str]:
    """B4: indices contiguous from 0, lengths as counted, input first and only there."""
    for row in store.scan(Invocation):
        entries = list(store.scan(Entry, row.number))
        if [entry.index for entry in entries] != list(range(row.journal_length)):
            yield f"{row.id} has entries {[entry.index for entry in entries]}"
        commands = [entry for entry in entries if entry.type in messages.COMMAND_CODES]
        if row.command_count != len(commands):
            yield f"{row.id} counts {row.command_count} commands of {len(commands)}"
        inputs = [entry.index for entry in entries if entry.type == messages.INPUT_COMMAND]
        if inputs != ([0] if entries else []):
            yield f"{row.id} has its input at {inputs}"
        outputs = [entry.index for entry in entries if entry.type == messages.OUTPUT_COMMAND]
        if entries and row.output_index != (outputs[-1] if outputs else None):
            yield f"{row.id} has output {row.output_index} of {outputs}"


def completions_match_entries(store: MemoryStore) -> Iterator[str]:
    """B4: a completion belongs to a stored command, its notification stands behind it, once."""
    settled: Tally[tuple[int, int]] = Tally()
    for one in store.scan(Completion):
        command = store.get(Entry, one.number, one.command_index)
        if command is None or command.type not in messages.COMMAND_CODES:
            yield f"{one} belongs to no command"
        if one.entry_index is None:
            continue
        settled[one.number, one.entry_index] += 1
        entry = store.get(Entry, one.number, one.entry_index)
        if entry is None or entry.type != messages.COMPLETION_CODES[one.kind]:
            yield f"{one} is settled by {entry}"
        elif one.entry_index <= one.command_index:
            yield f"{one} was settled before it was asked for"
    for entry in store.scan(Entry):
        if entry.type in COMPLETIONS and settled[entry.number, entry.index] != 1:
            yield f"{entry} settles {settled[entry.number, entry.index]} completions"


def signals_match_entries(store: MemoryStore) -> Iterator[str]:
    """B4: a signal row names the newest entry of its signal; an awakeable has one entry."""
    newest: dict[tuple[int, str], int] = {}
    for entry in store.scan(Entry):
        if entry.type == messages.SIGNAL_NOTIFICATION:
            body = messages.BY_CODE[entry.type].body.FromString(entry.payload)
            assert isinstance(body, pb.NotificationMessage)
            name = f"s{body.idx}" if body.HasField("idx") else f"n:{body.name}"
            if (entry.number, name) in newest and name[0] == "s" and body.idx >= 17:
                yield f"P1: awakeable {name} of {entry.number} settled twice"
            newest[entry.number, name] = entry.index
    stored = {(row.number, row.name): row.entry_index for row in store.scan(SignalRow)}
    if stored != newest:
        yield f"signal rows {stored}, entries {newest}"


def status_has_its_driver(store: MemoryStore) -> Iterator[str]:
    """B7, B8: whatever is not at its end has something that will move it."""
    for row in store.scan(Invocation):
        timers = [(timer.kind, timer.at_ms) for timer in store.scan(Timer, row.number)]
        if (row.awaiting_on is not None) != (row.status == "suspended"):
            yield f"B7 {row.id} is {row.status} and awaits {row.awaiting_on!r}"
        elif row.awaiting_on is not None:
            yield from _awaits_something_open(store, row, restored(row.awaiting_on))
        retries = [at for kind, at in timers if kind == "retry"]
        if retries != ([] if row.next_retry_at_ms is None else [row.next_retry_at_ms]):
            yield f"B8 {row.id} retries at {row.next_retry_at_ms}, timers {retries}"
        starts = [at for kind, at in timers if kind == "start"]
        if starts != ([row.scheduled_for_ms] if row.status == "scheduled" else []):
            yield f"B8 {row.id} is {row.status}, start timers {starts}"
        if row.status == "inboxed" and row.inbox_sequence is None:
            yield f"B8 {row.id} is inboxed without a place"
        if row.status != "invoked" and (row.next_retry_at_ms is not None or row.pause_requested):
            yield f"B8 {row.id} is {row.status} and still on its way"


def _awaits_something_open(store: MemoryStore, row: Invocation, tree: Await) -> Iterator[str]:
    names = _leaves(tree)
    if not names:
        yield f"B7 {row.id} awaits nothing"
    for name in names:
        if name[0] == "c":
            found = store.get(Completion, row.number, int(name[1:]))
            if found is None or found.entry_index is not None:
                yield f"B7 {row.id} still awaits {name}: {found}"
        else:
            signal = store.get(SignalRow, row.number, name)
            if signal is not None and signal.entry_index >= (row.awaiting_floor or 0):
                yield f"B7 {row.id} still awaits {name}: {signal}"


def _leaves(tree: Await) -> list[str]:
    return [*tree.on, *(name for inner in tree.nested for name in _leaves(inner))]


def key_has_one_holder(store: MemoryStore) -> Iterator[str]:
    """K1: the lock exists exactly while an exclusive invocation of the key is at work."""
    holders = {(lock.scope, lock.service, lock.key): lock.holder for lock in store.scan(Lock)}
    working = [row for row in store.scan(Invocation) if row.is_exclusive and row.status in HOLDING]
    if sorted((row.lock_key, row.number) for row in working) != sorted(holders.items()):
        yield f"locks {holders}, at work {[(row.lock_key, row.number) for row in working]}"


def inbox_is_exact(store: MemoryStore) -> Iterator[str]:
    """K2: places are exactly the inboxed invocations (and patches), and only behind a lock."""
    places = {}
    for item in store.scan(InboxItem):
        if store.get(Lock, item.scope, item.service, item.key) is None:
            yield f"{item} waits for a free key"
        if (item.number is None) == (item.patch is None):
            yield f"{item} is neither one thing nor the other"
        if item.number is not None:
            places[item.number] = (item.scope, item.service, item.key, item.sequence)
    rows = {
        row.number: (*row.lock_key, row.inbox_sequence)
        for row in store.scan(Invocation)
        if row.status == "inboxed"
    }
    if places != rows:
        yield f"places {places}, inboxed {rows}"


def identity_is_unique(store: MemoryStore) -> Iterator[str]:
    """I3: each text id finds its one invocation; numbers were drawn from the counter."""
    rows = list(store.scan(Invocation))
    for row in rows:
        if store.by_id(row.id) != row:
            yield f"{row.id} finds {store.by_id(row.id)}"
    if len({row.id for row in rows}) != len(rows):
        yield "an id occurs twice"
    counter = max((one.value for one in store.scan(Counter)), default=0)
    if any(row.number > counter for row in rows):
        yield f"a number above the counter {counter}"


def timers_are_stored(store: MemoryStore) -> Iterator[str]:
    """T3: each open sleep has its timer, each timer its open sleep."""
    sleeps = {
        (one.number, one.completion_id)
        for one in store.scan(Completion)
        if one.kind == "sleep" and one.entry_index is None and _status(store, one) != "completed"
    }
    timers = {(one.number, one.token) for one in store.scan(Timer) if one.kind == "sleep"}
    if sleeps != timers:
        yield f"open sleeps {sleeps}, timers {timers}"


def _status(store: MemoryStore, row: Completion) -> str | None:
    owner = store.get(Invocation, row.number)
    return None if owner is None else owner.status


def settled_promises_have_no_waiters(store: MemoryStore) -> Iterator[str]:
    """P3; and who listens is open and still owed that completion."""
    for waiter in store.scan(PromiseWaiter):
        if store.get(Promise, waiter.scope, waiter.service, waiter.key, waiter.name) is not None:
            yield f"{waiter} waits for a settled promise"
        owed = store.get(Completion, waiter.caller, waiter.completion_id)
        if owed is None or owed.kind != "promise" or owed.entry_index is not None:
            yield f"{waiter} is owed {owed}"


def waiters_wait_for_an_end(store: MemoryStore) -> Iterator[str]:
    """S1, C48: nobody waits for what has ended or never was."""
    for waiter in store.scan(Waiter):
        target = store.get(Invocation, waiter.number)
        if target is None or target.status == "completed":
            yield f"{waiter} waits for {target}"


def open_calls_are_answered_by_somebody(store: MemoryStore) -> Iterator[str]:
    """S1, B8: an open call or attach of a working invocation is in somebody's list of waiters."""
    waiting = {(one.caller, one.completion_id) for one in store.scan(Waiter)}
    listening = {(one.caller, one.completion_id) for one in store.scan(PromiseWaiter)}
    for one in store.scan(Completion):
        owner = store.get(Invocation, one.number)
        if owner is None or owner.status not in HOLDING or one.entry_index is not None:
            continue
        key = (one.number, one.completion_id)
        if one.kind in {"call", "attach"} and key not in waiting:
            yield f"nobody answers {one}"
        elif one.kind == "promise" and key not in listening:
            yield f"no promise answers {one}"
        elif one.kind not in {"call", "attach", "promise", "sleep", "run"}:
            yield f"{one} is settled with its command"


def nothing_is_orphaned(store: MemoryStore) -> Iterator[str]:
    """S1: every owned row has its invocation, and one in a status that may own it."""
    owned: tuple[type[Row], ...] = (
        Entry, Completion, SignalRow, JournalEvent, Timer, Waiter, Result,
    )  # fmt: skip
    for table in owned:
        for row in store.scan(table):
            number = row.primary_key()[0]
            owner = store.get(Invocation, number)
            if owner is None:
                yield f"{row} has no invocation"
            elif owner.status == "completed" and table in {Timer, Waiter}:
                yield f"{row} outlived the end of {owner.id}"


def result_exactly_at_the_end(store: MemoryStore) -> Iterator[str]:
    """B1, S3: completed means result and expiry, and nothing else has them."""
    results = {row.number for row in store.scan(Result)}
    for row in store.scan(Invocation):
        is_completed = row.status == "completed"
        if is_completed != (row.number in results):
            yield f"{row.id} is {row.status}, result: {row.number in results}"
        if is_completed != (row.expires_at_ms is not None):
            yield f"{row.id} is {row.status}, expires at {row.expires_at_ms}"


COMPLETIONS: Final = frozenset(messages.COMPLETION_CODES.values())
CHECKS: Final[dict[str, Callable[[MemoryStore], Iterator[str]]]] = {
    "B4 journal": journal_is_whole,
    "B4 completions": completions_match_entries,
    "B4 signals": signals_match_entries,
    "B7 B8": status_has_its_driver,
    "K1": key_has_one_holder,
    "K2": inbox_is_exact,
    "I3": identity_is_unique,
    "T3": timers_are_stored,
    "P3": settled_promises_have_no_waiters,
    "C48": waiters_wait_for_an_end,
    "S1 answers": open_calls_are_answered_by_somebody,
    "S1 owners": nothing_is_orphaned,
    "B1 S3": result_exactly_at_the_end,
}
