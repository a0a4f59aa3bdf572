"""What the oracle remembers: plain objects, one for each thing the documents name.

Lives here: `Life` (an invocation), `Place` (one key of a virtual object or workflow), `Expected`
(what one event must cause), the meaning of an Await tree.
Does not: rules (oracle.py). Shares no code with `restated.core` but events and records.
"""

from dataclasses import dataclass, field

from restated.core.effects import Reply
from restated.model.records import AttemptError, Await, Failure, Outcome, StatePatch, Target

Verdict = tuple[str, int]  # success, failure or undetermined; the journal index that made it so
Sink = tuple[int, int]  # number of the calling invocation, its completion id
NOT_STARTED = ("scheduled", "inboxed")
OPEN = ("invoked", "suspended", "paused")
FOREVER_MS = 2**63 - 1  # the latest time that a row can keep


@dataclass
class Item:
    """One journal entry."""

    type: int
    payload: bytes
    at_ms: int


@dataclass
class Awaited:
    """A completion that a command promised; `index` is the entry that settled it."""

    kind: str
    command_index: int
    index: int | None = None
    failed: bool = False
    callee: str | None = None


@dataclass
class Pin:
    """The deployment and protocol version that an invocation stays with."""

    deployment_id: str
    revision: int
    version: int


@dataclass
class Life:
    """Everything about one invocation."""

    number: int
    id: str
    target: Target
    source: str
    seed: int
    completion_retention_ms: int
    journal_retention_ms: int
    idempotency_key: str | None = None
    invoked_by: str | None = None
    scheduled_for_ms: int | None = None
    restarted_from: str | None = None
    status: str = "invoked"
    attempt: int = 0
    started_with: int = 0  # journal length that the newest attempt replayed
    journal: list[Item] = field(default_factory=list)
    commands: int = 0
    completions: dict[int, Awaited] = field(default_factory=dict)
    signals: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)  # index, failed
    timers: dict[tuple[str, int], int] = field(default_factory=dict)
    sinks: list[Sink] = field(default_factory=list)
    pin: Pin | None = None
    output: Outcome | None = None
    awaiting: Await | None = None
    floor: int = 0
    pause_requested: bool = False
    retry_at_ms: int | None = None
    last_error: AttemptError | None = None
    failures: int = 0
    budget_used: int = 0
    events: list[tuple[str, str]] = field(default_factory=list)  # kind, message of the error
    result: Outcome | None = None
    expires_at_ms: int | None = None
    journal_expires_at_ms: int | None = None

    @property
    def is_live(self) -> bool:
        """Whether an attempt is in flight."""
        return self.status == "invoked" and self.retry_at_ms is None

    @property
    def place(self) -> tuple[str, str, str] | None:
        """The key it belongs to, if its service has keys."""
        if self.target.key is None:
            return None
        return self.target.scope, self.target.service, self.target.key


@dataclass
class Place:
    """One key: who holds it, who waits for it, what is stored under it."""

    holder: int | None = None
    inbox: list[int | StatePatch] = field(default_factory=list)
    state: dict[str, bytes] = field(default_factory=dict)
    promises: dict[str, Outcome] = field(default_factory=dict)
    listeners: list[tuple[str, Sink]] = field(default_factory=list)


@dataclass
class Expected:
    """What one event must cause. Lists of attempts are (number, attempt, ...)."""

    reply: Reply
    started: list[tuple[int, int]] = field(default_factory=list)
    stopped: list[tuple[int, int, str]] = field(default_factory=list)
    acknowledged: list[tuple[int, int, int]] = field(default_factory=list)
    pushed: list[tuple[int, int, int, int, bytes | None]] = field(default_factory=list)
    settled: list[tuple[str, Outcome]] = field(default_factory=list)


def failed(outcome: Outcome | None) -> bool:
    """Whether an outcome is a failure; void is a success."""
    return isinstance(outcome, Failure)


# -- Await trees


def leaf(life: Life, name: str) -> Verdict | None:
    """How one leaf is settled for the suspended attempt, or None.

    A completion counts once it exists. A signal counts if an entry of it is new to the attempt
    that suspended, and then as the first such entry: it is the one that the handler reads next.
    """
    if name.startswith("c"):
        found = life.completions.get(int(name[1:]))
        if found is None or found.index is None:
            return None
        return ("failure" if found.failed else "success"), found.index
    for index, is_failure in life.signals.get(name, []):
        if index >= life.floor:
            return ("failure" if is_failure else "success"), index
    return None


def judge(life: Life, tree: Await) -> tuple[Verdict | None, Await]:
    """How the tree is settled, or None and what is left of it."""
    leaves = [(name, leaf(life, name)) for name in tree.on]
    nested = [judge(life, inner) for inner in tree.nested]
    rest = Await(
        tree.combinator,
        tuple(name for name, verdict in leaves if verdict is None),
        tuple(inner for verdict, inner in nested if verdict is None),
    )
    verdicts = [verdict for _, verdict in leaves] + [verdict for verdict, _ in nested]
    return _combine(tree.combinator, verdicts), rest


def _combine(combinator: str, verdicts: list[Verdict | None]) -> Verdict | None:
    """The table of service-protocol.md 4.6; a race is won by what stands first in the journal."""
    done = sorted((one for one in verdicts if one is not None), key=lambda one: one[1])
    everything = len(done) == len(verdicts)
    if not done:
        return None
    if combinator == "unknown":
        return "undetermined", done[0][1]
    if combinator == "first_completed":
        return done[0]
    if combinator == "all_completed":
        return ("success", done[-1][1]) if everything else None
    decisive = "failure" if combinator == "all_succeeded" else "success"
    for kind in (decisive, "undetermined"):
        for one in done:
            if one[0] == kind:
                return one
    return done[-1] if everything else None


def names_in(tree: Await) -> list[str]:
    """Every leaf of the tree."""
    names = list(tree.on)
    for inner in tree.nested:
        names += names_in(inner)
    return names
