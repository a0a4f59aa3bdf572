"""Every stored row and the values inside rows, events and effects.

Lives here: `Record`, `Row`, rows in the order of their columns, `Target`, `Failure`, `Await`.
A row's fields are its table's columns; the store derives its SQL from them.
Does not: what a manifest says (services.py), rules (core/), SQL (store/), wire (protocol/).

Keys are integers: an invocation has a `number`, its text id stands in one unique index. A journal
entry's key (number, index) is packed into one integer by the store (`PACKED`).
Completions are found in `Completion`, signals in `SignalRow`: a run or a call writes one index row,
not two. Timers are keyed by owner, so that clearing an invocation's timers is one prefix; the
store keeps the second order, by deadline.
"""

from typing import ClassVar, Literal, TypeAlias, dataclass_transform

import msgspec

Column: TypeAlias = int | str | bytes | None

ServiceType = Literal["service", "virtual_object", "workflow"]
HandlerType = Literal["exclusive", "shared", "workflow"]
Status = Literal["scheduled", "inboxed", "invoked", "suspended", "paused", "completed"]
Source = Literal["ingress", "service", "subscription", "restart_as_new"]
TimerKind = Literal["start", "sleep", "retry", "continue"]
CompletionKind = Literal[
    "state", "state_keys", "promise", "peek", "complete_promise", "sleep", "call", "call_id", "run",
    "attach", "output",
]  # fmt: skip
JournalEventKind = Literal["TransientError", "Paused", "Suspended"]
Polarity = Literal["success", "failure"]
Combinator = Literal[
    "unknown", "first_completed", "all_completed", "first_succeeded", "all_succeeded"
]
Transport = Literal["http1", "http2", "lambda"]
ProtocolMode = Literal["bidi_stream", "request_response"]
AtMostAttempts = Literal["pause", "kill"]

INDEX_BITS = 24
JOURNAL_ENTRIES_MAX = 1 << INDEX_BITS


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Record(msgspec.Struct, frozen=True, gc=False):
    """A value: immutable, compared by content, never part of a cycle."""


class Row(Record):
    """One row of one table. Fields are the columns in order, each int | str | bytes | None."""

    TABLE: ClassVar[str]
    KEY: ClassVar[tuple[str, ...]]  # primary key, also the order of scans
    PACKED: ClassVar[bool] = False  # the key (number, index) is stored as one integer

    def primary_key(self) -> tuple[Column, ...]:
        """The values of `KEY`, in order."""
        return tuple(getattr(self, name) for name in self.KEY)


# -- values inside rows, events and effects


class Target(Record):
    """What is invoked. `key` is None for plain services; scope '' means none."""

    service: str
    handler: str
    service_type: ServiceType
    handler_type: HandlerType
    key: str | None = None
    scope: str = ""

    def text(self) -> str:
        """The target as SQL and logs show it: `Service/handler` or `Object/key/handler`."""
        if self.key is None:
            return f"{self.service}/{self.handler}"
        return f"{self.service}/{self.key}/{self.handler}"


class Failure(Record):
    """A terminal failure: what a caller gets instead of a value."""

    code: int
    message: str
    metadata: tuple[tuple[str, str], ...] = ()


Outcome: TypeAlias = bytes | Failure
KILLED = Failure(409, "killed")
CANCELED = Failure(409, "canceled")  # before it ever started; one l, as the reference
WORKFLOW_ALREADY_INVOKED = Failure(409, "the workflow method was already invoked")
PROMISE_ALREADY_COMPLETED = Failure(409, "promise was already completed")
NOT_FOUND = Failure(404, "not found")


class Await(Record):
    """What a suspended invocation waits for: `on` are leaves, `nested` are inner trees.

    Leaf names: `c7` completion 7, `s17` signal 17, `n:name` named signal.
    """

    combinator: Combinator = "first_completed"
    on: tuple[str, ...] = ()
    nested: tuple["Await", ...] = ()


class RetryPolicy(Record):
    """Resolved policy of one handler. `attempts_max` counts the first attempt; None = no bound."""

    interval_ms: int = 500
    factor: float = 2.0
    interval_ms_max: int = 60_000
    attempts_max: int | None = 70
    at_most: AtMostAttempts = "pause"


class AttemptError(Record):
    """Why an attempt failed, as `last_failure` and the event TransientError show it.

    `code` is the HTTP-like code of the SDK's Error message (500 when the server found it);
    `restate_code` is the RT code.
    """

    code: int
    message: str
    restate_code: str
    stacktrace: str = ""
    command_index: int | None = None
    command_name: str | None = None
    command_type: int | None = None  # wire type code


# -- rows


class Invocation(Row):
    """One invocation. Written at most twice in a plain call: accepted, completed."""

    TABLE = "invocation"
    KEY = ("number",)

    number: int
    id: str
    service: str
    object_key: str | None
    handler: str
    service_type: ServiceType
    handler_type: HandlerType
    scope: str
    limit_key: str | None
    status: Status
    source: Source
    caller_id: str | None  # id of the invoking invocation
    caller_target: str | None
    created_at_ms: int
    modified_at_ms: int
    random_seed: int  # 64 bit, signed as SQLite stores it
    completion_retention_ms: int
    journal_retention_ms: int
    idempotency_key: str | None = None
    scheduled_for_ms: int | None = None
    inboxed_at_ms: int | None = None
    running_at_ms: int | None = None
    completed_at_ms: int | None = None
    attempt: int = 0  # fencing number of the newest attempt
    journal_length: int = 0
    command_count: int = 0
    deployment_id: str | None = None  # pinned by the first stored command
    service_revision: int | None = None
    protocol_version: int | None = None
    inbox_sequence: int | None = None
    awaiting_on: bytes | None = None  # msgpack of Await
    awaiting_floor: int | None = None  # journal length that the suspended attempt replayed
    pause_requested: int = 0
    failures_since_command: int = 0
    policy_attempts: int = 0
    last_entry_at_ms: int | None = None
    last_start_at_ms: int | None = None
    next_retry_at_ms: int | None = None
    last_failure: bytes | None = None  # msgpack of AttemptError
    expires_at_ms: int | None = None
    journal_expires_at_ms: int | None = None
    trace_parent: str | None = None
    restarted_from: str | None = None
    output_index: int | None = None  # journal index of the newest Output command
    has_waiters: int = 0  # there may be Waiter rows: spares the plain call a scan at its end

    @property
    def is_exclusive(self) -> bool:
        """Whether it needs its key's lock: only exclusive handlers of virtual objects do."""
        return self.handler_type == "exclusive"

    @property
    def is_workflow_run(self) -> bool:
        """Whether it is the run of a workflow."""
        return self.handler_type == "workflow"

    @property
    def target(self) -> Target:
        """What is invoked."""
        return Target(
            self.service, self.handler, self.service_type, self.handler_type,
            self.object_key, self.scope,
        )  # fmt: skip

    @property
    def lock_key(self) -> tuple[str, str, str]:
        """(scope, service, key) of keyed targets; the key of Lock, StateValue and Promise."""
        assert self.object_key is not None
        return self.scope, self.service, self.object_key


class Result(Row):
    """How an invocation ended; apart from it, so that a status change does not rewrite it."""

    TABLE = "result"
    KEY = ("number",)

    number: int
    value: bytes | None  # None: a failure
    failure_code: int | None = None
    failure_message: str | None = None
    failure_metadata: bytes | None = None  # msgpack of the pairs; None when empty

    @classmethod
    def of(cls, number: int, outcome: Outcome) -> "Result":
        """The row that keeps `outcome`."""
        if isinstance(outcome, bytes):
            return cls(number, outcome)
        metadata = msgspec.msgpack.encode(outcome.metadata) if outcome.metadata else None
        return cls(number, None, outcome.code, outcome.message, metadata)

    @property
    def outcome(self) -> Outcome:
        """The kept outcome."""
        if self.value is not None:
            return self.value
        assert self.failure_code is not None
        assert self.failure_message is not None
        if self.failure_metadata is None:
            return Failure(self.failure_code, self.failure_message)
        metadata = msgspec.msgpack.decode(self.failure_metadata, type=tuple[tuple[str, str], ...])
        return Failure(self.failure_code, self.failure_message, metadata)


class Entry(Row):
    """One journal entry. `payload` is the protobuf body as received, without frame header."""

    TABLE = "journal"
    KEY = ("number", "index")
    PACKED = True

    number: int
    index: int
    type: int
    payload: bytes
    appended_at_ms: int
    name: str | None = None
    protocol_version: int | None = None


class Completion(Row):
    """A command that will be, or was, completed; put with the command, completed in place."""

    TABLE = "completion"
    KEY = ("number", "completion_id")

    number: int
    completion_id: int
    command_index: int  # journal index of the command
    kind: CompletionKind
    entry_index: int | None = None  # journal index of the notification
    polarity: Polarity | None = None
    callee: str | None = None  # id of the called or sent invocation (kinds call, call_id)


class SignalRow(Row):
    """The newest entry that carries a signal; `name` as in Await (`s17`, `n:name`)."""

    TABLE = "signal"
    KEY = ("number", "name")

    number: int
    name: str
    entry_index: int
    polarity: Polarity


class JournalEvent(Row):
    """A transient error, a pause, a suspension: seen in sys_journal_events, never replayed."""

    TABLE = "journal_event"
    KEY = ("number", "index")
    PACKED = True

    number: int
    index: int
    at_ms: int
    kind: JournalEventKind
    payload: bytes  # JSON
    after_journal_index: int


class Lock(Row):
    """The exclusive invocation that holds a key (K1)."""

    TABLE = "lock"
    KEY = ("scope", "service", "key")

    scope: str
    service: str
    key: str
    holder: int


class InboxItem(Row):
    """One place in the queue of a key: an invocation, or a patch of the key's state."""

    TABLE = "inbox"
    KEY = ("scope", "service", "key", "sequence")

    scope: str
    service: str
    key: str
    sequence: int
    number: int | None
    patch: bytes | None = None  # msgpack of StatePatch


class StatePatch(Record):
    """An operator's replacement of a key's state, applied when no exclusive handler runs."""

    values: tuple[tuple[str, bytes], ...]
    expected_version: str | None = None


class StateValue(Row):
    """One state entry of a virtual object or workflow key."""

    TABLE = "state"
    KEY = ("scope", "service", "key", "name")

    scope: str
    service: str
    key: str
    name: str
    value: bytes


class Promise(Row):
    """A settled durable promise of a workflow key; open ones have only waiters."""

    TABLE = "promise"
    KEY = ("scope", "service", "key", "name")

    scope: str
    service: str
    key: str
    name: str
    value: bytes | None
    failure: bytes | None = None  # msgpack of Failure


class Waiter(Row):
    """Invocation `caller` waits for the end of invocation `number`."""

    TABLE = "waiter"
    KEY = ("number", "caller", "completion_id")

    number: int
    caller: int
    completion_id: int


class PromiseWaiter(Row):
    """Invocation `caller` waits for a promise to be settled."""

    TABLE = "promise_waiter"
    KEY = ("scope", "service", "key", "name", "caller", "completion_id")

    scope: str
    service: str
    key: str
    name: str
    caller: int
    completion_id: int


class Timer(Row):
    """A deadline. Due ones come back as TimerFired, earliest first, ties in key order.

    kind `start`: a delayed invocation; `sleep`: token is the completion id; `retry`: token is the
    attempt that failed; `continue`: the rest of a piece of work too large for one event.
    """

    TABLE = "timer"
    KEY = ("number", "kind", "token")

    number: int
    kind: TimerKind
    token: int
    at_ms: int


class Counter(Row):
    """A named sequence: invocation numbers, inbox places, the store's process epoch."""

    TABLE = "counter"
    KEY = ("name",)

    name: str
    value: int


class OutboxMessages(Row):
    """A piece of the messages that one event could not send itself; core/pieces.py."""

    TABLE = "outbox"
    KEY = ("sequence",)

    sequence: int
    messages: bytes  # msgpack of pairs: a class, its msgpack; or an outcome that Answers name


class Deployment(Row):
    """Where services live."""

    TABLE = "deployment"
    KEY = ("id",)

    id: str
    uri: str  # base URI without trailing slash, or the ARN
    transport: Transport
    mode: ProtocolMode
    protocol_version_min: int
    protocol_version_max: int
    headers: bytes  # JSON object of additional headers
    metadata: bytes  # JSON object
    created_at_ms: int
    sdk: str | None = None
    assume_role_arn: str | None = None
    compression: str | None = None


class ServiceRevision(Row):
    """One revision of a service. The latest is the highest whose deployment exists."""

    TABLE = "service_revision"
    KEY = ("name", "revision")

    name: str
    revision: int
    deployment_id: str
    definition: bytes  # msgpack of ServiceDefinition


class KafkaCluster(Row):
    """Brokers that subscriptions read from. `properties` as given, secrets included."""

    TABLE = "kafka_cluster"
    KEY = ("name",)

    name: str
    properties: bytes  # JSON object of texts, by name
    created_at_ms: int


class Subscription(Row):
    """A topic whose records become invocations. Its cluster may be gone, when that was forced."""

    TABLE = "subscription"
    KEY = ("id",)

    id: str
    cluster: str
    topic: str
    service: str
    handler: str
    options: bytes  # JSON object of texts, by name
    created_at_ms: int


class LimitRule(Row):
    """How many invocations of the scopes and keys that fit a pattern may run at once."""

    TABLE = "limit_rule"
    KEY = ("pattern",)

    pattern: str
    version: int
    disabled: int
    modified_at_ms: int
    concurrency: int | None = None  # None: no bound
    description: str | None = None


ROWS: tuple[type[Row], ...] = (
    Invocation, Result, Entry, Completion, SignalRow, JournalEvent, Lock, InboxItem, StateValue,
    Promise, Waiter, PromiseWaiter, Timer, Counter, OutboxMessages,
    Deployment, ServiceRevision, KafkaCluster, Subscription, LimitRule,
)  # fmt: skip
