"""Work that is too large for one event is stored and goes on in pieces.

Lives here: messages between invocations beyond a bound (the outbox), an outcome for many who wait
for it, journals removed a thousand rows or some megabytes at a time; all are driven by a stored
`continue` timer that is due at once.
Does not: what the messages do (machine.py sends them through the table of events).
Why: an event of 10,000 rows would hold the loop for 100 ms, a hundred entries of 20 MiB, all of
whose pages SQLite visits, for 5 s. Every waiter's journal gets a copy of the outcome: forty of
20 MiB in one event took 7 s and 900 MiB. A crash between two pieces changes nothing: the timer and
the rest are rows like everything else.
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
    Failure,
    JournalEvent,
    OutboxMessages,
    Outcome,
    Record,
    Row,
    SignalRow,
    Timer,
)

MESSAGES_MAX: Final = 100  # of one event, its messages' messages included
ROWS_MAX: Final = 1_000  # removed by one event
REMOVED_BYTES_MAX: Final = 4 << 20  # of payloads, by one event; one entry may have more
ENTRIES_UNWEIGHED: Final = 2
PIECE_BYTES_MAX: Final = 1 << 20  # of messages in one row of the outbox
ANSWERED_BYTES_MAX: Final = 4 << 20  # of copies of an outcome, by one event; one may have more

OUTBOX_OWNER: Final = 0  # invocations are numbered from 1

_KINDS: Final[dict[str, type[Event]]] = {
    kind.__name__: kind for kind in (Invoke, Attach, Complete, Signal, Cancel, Kill)
}
_SMALL_TABLES: Final[tuple[type[Row], ...]] = (Completion, SignalRow, JournalEvent)
_JOURNAL_TABLES: Final[tuple[type[Row], ...]] = (Entry, *_SMALL_TABLES)


class Answers(Record):
    """Who of those that wait for an outcome is told next."""

    waiters: tuple[tuple[int, int], ...]  # invocation, completion id
    outcome_sequence: int  # the row of the outbox, behind all of these, that keeps the outcome
    is_failure: bool
    is_last: bool


def answer_all(step: Step, waiters: Sequence[tuple[int, int]], outcome: Outcome) -> None:
    """Give an outcome to everybody who waits: (invocation, completion id), in order.

    To as many as one event may now, to the others in later events; the outcome is stored once.
    """
    size = _size(outcome)
    count = max(1, min(MESSAGES_MAX, ANSWERED_BYTES_MAX // max(size, 1)))
    for caller, completion_id in waiters[:count]:
        step.send(Complete(caller, completion_id, outcome))
    later = [tuple(waiters[at : at + count]) for at in range(count, len(waiters), count)]
    if not later:
        return
    *sequences, outcome_sequence = [next_number(step, "outbox") for _ in range(len(later) + 1)]
    kept = outcome if isinstance(outcome, bytes) else msgspec.msgpack.encode(outcome)
    is_failure = isinstance(outcome, Failure)
    for sequence, piece in zip(sequences, later, strict=True):
        answers = Answers(piece, outcome_sequence, is_failure, piece is later[-1])
        step.put(OutboxMessages(sequence, _encoded([_packed(answers)])))
    step.put(OutboxMessages(outcome_sequence, kept))
    go_on(step, OUTBOX_OWNER)


def _size(outcome: Outcome) -> int:
    if isinstance(outcome, bytes):
        return len(outcome)
    return len(outcome.message) + sum(len(key) + len(value) for key, value in outcome.metadata)


def _answer_more(step: Step, answers: Answers) -> None:
    kept = step.get(OutboxMessages, answers.outcome_sequence)
    assert kept is not None, "the last to be answered takes the outcome along"
    outcome: Outcome = kept.messages
    if answers.is_failure:
        outcome = msgspec.msgpack.decode(kept.messages, type=Failure)
    for caller, completion_id in answers.waiters:
        step.send(Complete(caller, completion_id, outcome))
    if answers.is_last:
        step.delete(OutboxMessages, answers.outcome_sequence)


def postpone(step: Step, messages: Sequence[Event]) -> None:
    """Store messages, in order; they are sent in later events, in order."""
    piece: list[tuple[str, bytes]] = []
    piece_bytes = 0
    for message in messages:
        packed = _packed(message)
        size = len(packed[1])
        if piece and (len(piece) == MESSAGES_MAX or piece_bytes + size > PIECE_BYTES_MAX):
            _store(step, piece)
            piece, piece_bytes = [], 0
        piece.append(packed)
        piece_bytes += size
    _store(step, piece)
    go_on(step, OUTBOX_OWNER)


def send_postponed(step: Step) -> None:
    """Send the oldest piece of the outbox; the next one is due at once."""
    piece = next(step.scan(OutboxMessages, limit=1), None)
    if piece is None:
        return
    step.delete(OutboxMessages, piece.sequence)
    for kind, encoded in msgspec.msgpack.decode(piece.messages, type=list[tuple[str, bytes]]):
        if kind == Answers.__name__:
            _answer_more(step, msgspec.msgpack.decode(encoded, type=Answers))
        else:
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
    step.put(OutboxMessages(next_number(step, "outbox"), _encoded(piece)))


def _packed(message: Event | Answers) -> tuple[str, bytes]:
    return type(message).__name__, msgspec.msgpack.encode(message)


def _encoded(piece: list[tuple[str, bytes]]) -> bytes:
    return msgspec.msgpack.encode(piece)
