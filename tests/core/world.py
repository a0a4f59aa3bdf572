"""StepWorld: the core over a MemoryStore, one event at a time, with a clock that tests move."""

from typing import Any

from google.protobuf.message import Message

from restated.core.effects import Effect, Reply, Settled, StartAttempt
from restated.core.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptSuspended,
    Event,
    TimerFired,
)
from restated.core.machine import step
from restated.model.records import (
    JOURNAL_ENTRIES_MAX,
    ROWS,
    Await,
    Entry,
    Invocation,
    Outcome,
    RetryPolicy,
    Row,
    Target,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests import builders
from tests.sim.memory_store import MemoryStore


class StepWorld:
    """Applies events and remembers the effects of the newest one."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.now_ms = 1_000_000
        self.effects: list[Effect] = []
        self.all_effects: list[Effect] = []
        self.entries_max = JOURNAL_ENTRIES_MAX
        self._ids = 0

    def apply(self, event: Event) -> Reply:
        """Step one event and commit it."""
        outcome, reply = step(self.store, event, self.now_ms, entries_max=self.entries_max)
        self.store.apply(outcome.writes())
        self.effects = outcome.effects
        self.all_effects += outcome.effects
        return reply

    # -- events

    def invoke(self, target: Target = builders.SERVICE, **fields: Any) -> str:
        """Accept a new invocation; its id."""
        self._ids += 1
        invocation_id = fields.pop("id", f"inv_{self._ids}")
        self.apply(builders.invoke(invocation_id, target, **fields))
        return str(invocation_id)

    def command(self, invocation_id: str, type_code: int, body: Message, **fields: Any) -> Reply:
        """Receive a command from the newest attempt (or from `attempt`)."""
        row = self.row(invocation_id)
        attempt = fields.pop("attempt", row.attempt)
        return self.apply(builders.command(row.number, attempt, type_code, body, **fields))

    def output(self, invocation_id: str, value: bytes = b'"done"') -> None:
        """Output and End."""
        body = pb.OutputCommandMessage(value=pb.Value(content=value))
        self.command(invocation_id, messages.OUTPUT_COMMAND, body)
        row = self.row(invocation_id)
        self.apply(AttemptEnded(row.number, row.attempt))

    def suspend(self, invocation_id: str, *names: str, known: int | None = None) -> Reply:
        """Suspend the newest attempt on a flat list of names."""
        row = self.row(invocation_id)
        entries = row.journal_length if known is None else known
        version = row.protocol_version or 0
        return self.apply(
            AttemptSuspended(
                row.number, row.attempt, Await(on=names), entries, protocol_version=version
            )
        )

    def fail(self, invocation_id: str, **fields: Any) -> Reply:
        """Fail the newest attempt."""
        row = self.row(invocation_id)
        error = fields.pop("error", builders.attempt_error())
        policy = fields.pop("policy", RetryPolicy())
        attempt = fields.pop("attempt", row.attempt)
        return self.apply(AttemptFailed(row.number, attempt, error, policy, 0, **fields))

    def advance(self, milliseconds: int) -> None:
        """Move the clock and fire everything that is due, in order."""
        self.now_ms += milliseconds
        while due := self.store.due(self.now_ms, 1):
            timer = due[0]
            self.apply(TimerFired(timer.number, timer.kind, timer.token))

    # -- what there is

    def row(self, invocation_id: str) -> Invocation:
        """The stored invocation."""
        row = self.store.by_id(invocation_id)
        assert row is not None
        return row

    def status(self, invocation_id: str) -> str | None:
        """Stored status; None when there is no such invocation."""
        row = self.store.by_id(invocation_id)
        return None if row is None else row.status

    def journal(self, invocation_id: str) -> list[str]:
        """Entry types, in order."""
        rows = self.store.scan(Entry, self.row(invocation_id).number)
        return [messages.BY_CODE[row.type].entry_type for row in rows]

    def rows(self) -> list[Row]:
        """Everything stored."""
        return [row for table in ROWS for row in self.store.scan(table)]

    def started(self) -> list[tuple[str, int]]:
        """(id, attempt) of every attempt that the newest event started."""
        return [
            (effect.invocation.id, effect.invocation.attempt)
            for effect in self.effects
            if isinstance(effect, StartAttempt)
        ]

    def outcomes(self) -> dict[str, Outcome]:
        """Every end so far, by id."""
        return {
            effect.id: effect.outcome for effect in self.all_effects if isinstance(effect, Settled)
        }
