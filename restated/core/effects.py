"""Writes, effects and replies: the only way out of the core.

Lives here: what is written (Put, Delete, Clear), what must happen outside after the commit
(effects), what the sender of the event is told (replies).
Does not: how it happens (engine/dispatch.py routes effects to rooms).
"""

from typing import Final, Literal, TypeAlias

from restated.model.errors import ErrorCode
from restated.model.records import (
    Column,
    Deployment,
    Entry,
    Invocation,
    Outcome,
    Record,
    Row,
    ServiceRevision,
)

# -- writes


class Put(Record):
    """Insert the row, or replace the one with its key."""

    row: Row


class Delete(Record):
    """Remove the row with this key, if there is one."""

    table: type[Row]
    key: tuple[Column, ...]


class Clear(Record):
    """Remove every row whose key starts with `prefix`."""

    table: type[Row]
    prefix: tuple[Column, ...]


Write: TypeAlias = Put | Delete | Clear

# -- effects


class Effect(Record):
    """Something outside the store that is due once the commit is durable."""


PAYLOAD_BYTES_MAX: Final = 1 << 20
"""Of an entry in an effect. A larger one is read again, not held while it is being stored (M3)."""


class StartAttempt(Effect):
    """Begin attempt `invocation.attempt`. `entries` is the whole journal where it is known."""

    invocation: Invocation
    entries: tuple[Entry, ...] = ()


class StopAttempt(Effect):
    """End an attempt: `half_close` for a requested pause, `abort` at once."""

    number: int
    attempt: int
    how: Literal["half_close", "abort"]


class AckCommand(Effect):
    """A command that asked for it is stored; `command_index` counts commands only."""

    number: int
    attempt: int
    command_index: int


class PushNotification(Effect):
    """A stored notification for the live attempt, `index` its place in the journal.

    `payload` is None when it is large: it is read from there.
    """

    number: int
    attempt: int
    index: int
    type: int
    payload: bytes | None


class Settled(Effect):
    """An invocation ended: for waiters of ingress and admin. It carries the outcome, as with
    retention 0 there is no row left to read. `expires_at_ms` is None when nothing is retained.
    """

    id: str
    outcome: Outcome
    stacktrace: str = ""  # only for those who waited; not stored


class ArmTimer(Effect):
    """A deadline was stored."""

    at_ms: int


class RegistryChanged(Effect):
    """Deployments or services changed."""


ChangeKind = Literal[
    "accepted", "scheduled", "inboxed", "attempt_started", "command", "notification", "suspended",
    "resumed", "retrying", "paused", "completed", "killed", "cancelled", "purged",
]  # fmt: skip


class Changed(Effect):
    """One change of an invocation, for the live tail, metrics and traces."""

    id: str
    number: int
    service: str
    object_key: str | None
    handler: str
    at_ms: int
    kind: ChangeKind
    attempt: int
    detail: tuple[tuple[str, str | int | None], ...] = ()


# -- replies


class Reply(Record):
    """What the sender of an event learns, after the commit."""


class Accepted(Reply):
    """An invocation is durable (or was already). `outcome` is set when it has ended already."""

    id: str
    is_new: bool
    scheduled_for_ms: int | None = None  # only while it has not been started
    outcome: Outcome | None = None
    expires_at_ms: int | None = None


class Done(Reply):
    """Applied. `is_final` False: an operation that takes effect later (202)."""

    is_final: bool = True
    id: str | None = None  # a created thing: restarted invocation, deployment


class Planned(Reply):
    """What a dry run of a registration or update would store; nothing changed."""

    deployment: Deployment
    revisions: tuple[ServiceRevision, ...]


class Affected(Reply):
    """Applied to these rows, in the order asked for: as stored, or as they were when removed."""

    rows: tuple[Row, ...]


class Ignored(Reply):
    """Stale or repeated; nothing changed."""

    reason: str


class Refused(Reply):
    """A rule forbids it; nothing changed. `subject` fills the error's text."""

    code: ErrorCode
    subject: str = ""
