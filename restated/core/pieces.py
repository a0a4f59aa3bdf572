"""Work that is too large for one event is stored and goes on in pieces.

Lives here: messages between invocations beyond a bound (the outbox), journals removed a thousand
rows or some megabytes at a time; both are driven by a stored `continue` timer that is due at once.
Does not: what the messages do (machine.py sends them through the table of events).
Why: an event of 10,000 rows would hold the loop for 100 ms, a hundred entries of 20 MiB, all of
whose pages SQLite visits, for 5 s. A crash between two pieces changes
nothing: the timer and the rest are rows like everything else.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from restated.core.effects import ArmTimer
from restated.core.events import Attach, Cancel, Complete, Event, Invoke, Kill, Signal
from restated.core.view import Step, next_number
from restated.model.records import (
    Completion,
    Entry,
    JournalEvent,
    OutboxMessages,
    Row,
    SignalRow,
    Timer,
)

MESSAGES_MAX: Final = 100  # of one event, its messages' messages included
ROWS_MAX: Final = 1_000  # removed by one event
REMOVED_BYTES_MAX: Final = 4 << 20  # of payloads, by one event; one entry may have more
ENTRIES_UNWEIGHED: Final = 2
PIECE_BYTES_MAX: Final = 1 << 20  # of messages in one row of the outbox

OUTBOX_OWNER: Final = 0  # invocations are numbered from 1

_KINDS: Final[dict[str, type[Event]]] = {
    kind.__name__: kind for kind in (Invoke, Attach, Complete, Signal, Cancel, Kill)
}
_SMALL_TABLES: Final[tuple[type[Row], ...]] = (Completion, SignalRow, JournalEvent)
_JOURNAL_TABLES: Final[tuple[type[Row], ...]] = (Entry, *_SMALL_TABLES)


def postpone(step: Step, messages: Sequence[Event]) -> None:
    """Store messages, in order; they are sent in later events, in order."""
    piece: list[tuple[str, bytes]] = []
    piece_bytes = 0
    for message in messages:
        encoded = msgspec.msgpack.encode(message)
        if piece and (len(piece) == MESSAGES_MAX or piece_bytes + len(encoded) > PIECE_BYTES_MAX):
            _store(step, piece)
            piece, piece_bytes = [], 0
        piece.append((type(message).__name__, encoded))
        piece_bytes += len(encoded)
    _store(step, piece)
    go_on(step, OUTBOX_OWNER)


def send_postponed(step: Step) -> None:
    """Send the oldest piece of the outbox; the next one is due at once."""
    piece = next(step.scan(OutboxMessages, limit=1), None)
    if piece is None:
        return
    step.delete(OutboxMessages, piece.sequence)
    for kind, encoded in msgspec.msgpack.decode(piece.messages, type=list[tuple[str, bytes]]):
        step.send(msgspec.msgpack.decode(encoded, type=_KINDS[kind]))
    if next(step.scan(OutboxMessages, limit=1), None) is not None:
        go_on(step, OUTBOX_OWNER)


def remove_journal_rows(step: Step, number: int, journal_length: int) -> None:
    """Remove a journal: now if it is short, else in pieces that begin at once.

    The invocation's number is never used again, so a new one with the same id meets none of it.
    """
    if journal_length > ROWS_MAX or _is_heavy(step, number, journal_length):
        go_on(step, number)
        return
    for table in _JOURNAL_TABLES:
        step.clear(table, number)


def _is_heavy(step: Step, number: int, journal_length: int) -> bool:
    """Spare short journals, of an input and an output, the look."""
    if journal_length <= ENTRIES_UNWEIGHED:
        return False
    return sum(size for _, size in step.sizes(number, journal_length)) > REMOVED_BYTES_MAX


def remove_more(step: Step, number: int) -> None:
    """Remove the next piece of a journal."""
    left, bytes_left = ROWS_MAX, REMOVED_BYTES_MAX
    for index, size in step.sizes(number, left):
        step.delete(Entry, number, index)
        left -= 1
        bytes_left -= size
        if left == 0 or bytes_left <= 0:
            go_on(step, number)
            return
    for table in _SMALL_TABLES:
        for row in step.scan(table, number, limit=left):
            step.delete(table, *row.primary_key())
            left -= 1
            bytes_left -= len(row.payload) if isinstance(row, JournalEvent) else 0
            if left == 0 or bytes_left <= 0:
                go_on(step, number)
                return


def go_on(step: Step, number: int) -> None:
    """Have the owner's `continue` timer fire in the next turn."""
    step.put(Timer(number, "continue", 0, step.now_ms))
    step.emit(ArmTimer(step.now_ms))


def _store(step: Step, piece: list[tuple[str, bytes]]) -> None:
    step.put(OutboxMessages(next_number(step, "outbox"), msgspec.msgpack.encode(piece)))
