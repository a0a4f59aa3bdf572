"""The events: the only way into the core.

Lives here: one class per fact. Ids, seeds and times were drawn by the sender.
Does not: what an event does (`machine.HANDLERS` names the function).
"""

from typing import Literal, TypeAlias

from google.protobuf.message import Message

from restated.model.records import (
    AttemptError,
    Await,
    Deployment,
    Outcome,
    Record,
    RetryPolicy,
    Source,
    StatePatch,
    Target,
)
from restated.model.services import Options, ServiceDefinition
from restated.model.uris import ResourceUri


class Event(Record):
    """One fact. Ids, seeds and times were drawn by the sender: the core draws nothing."""


Result: TypeAlias = Outcome | None
"""How a completion or signal is settled; None is void."""


# -- from clients and other invocations


class Invoke(Event):
    """A request to execute a handler. Retentions were resolved from the latest revision."""

    id: str
    target: Target
    payload: bytes
    headers: tuple[tuple[str, str], ...]
    source: Source
    random_seed: int  # 64 bit, signed
    completion_retention_ms: int
    journal_retention_ms: int
    idempotency_key: str | None = None
    scheduled_for_ms: int | None = None
    wants_result: bool = False  # an ingress call: reply with the stored outcome if there is one
    caller: int | None = None  # number of the calling invocation
    caller_id: str | None = None
    caller_target: str | None = None
    caller_completion_id: int | None = None  # set for a call, None for a one-way call
    trace_parent: str | None = None
    limit_key: str | None = None


class Attach(Event):
    """Invocation `caller` wants the outcome of `id`: at its end, or now if not `wait`."""

    id: str
    caller: int
    completion_id: int
    wait: bool


class Complete(Event):
    """A completion of invocation `number` is settled by a callee, a promise or an attach."""

    number: int
    completion_id: int
    result: Result


class Signal(Event):
    """A signal for invocation `id`; `name` as in Await (`s1` is cancel, `s17`, `n:name`)."""

    id: str
    name: str
    result: Result


# -- from attempts


class AttemptEvent(Event):
    """Base of what one attempt tells; a stale attempt number is ignored (B3)."""

    number: int
    attempt: int


class DeploymentPinned(AttemptEvent):
    """Precedes the first stored command of an unpinned invocation."""

    deployment_id: str
    service_revision: int
    protocol_version: int


class CommandReceived(AttemptEvent):
    """The handler issued a command. Already validated; `body` is the decoded `payload`.

    `child` is the complete invocation of a Call or OneWayCall command; `peer` the target id of
    SendSignal, CompleteAwakeable, AttachInvocation and GetInvocationOutput.
    """

    type: int
    payload: bytes
    body: Message
    ack: bool = False
    child: Invoke | None = None
    peer: str | None = None


class RunProposed(AttemptEvent):
    """The handler executed a run and proposes its result."""

    completion_id: int
    result: Outcome


class AttemptSuspended(AttemptEvent):
    """The handler waits; `known_entries` is the journal length that it had seen at its start.

    `policy` and `jitter` as in AttemptFailed: a wait that nothing can end is a failure (C05).
    `protocol_version` is the attempt's: one that stored nothing has pinned none.
    """

    awaiting_on: Await
    known_entries: int
    policy: RetryPolicy = RetryPolicy()
    jitter: int = 0
    protocol_version: int = 0


class AttemptFailed(AttemptEvent):
    """The attempt failed. `policy` is the handler's; `jitter` is 0..1000.

    `retry_after_ms` (Error.next_retry_delay, Retry-After) is used as is and spends no budget.
    `counts` is False for failures before the deployment was reached (RT0011, RT0013): they are
    not counted in Start.retry_count_since_last_stored_entry. `started_at_ms` is when the attempt
    began; None when it did not get so far.
    """

    error: AttemptError
    policy: RetryPolicy
    jitter: int
    behavior: Literal["retry", "pause", "fail"] = "retry"
    retry_after_ms: int | None = None
    counts: bool = True
    started_at_ms: int | None = None


class AttemptEnded(AttemptEvent):
    """The SDK sent End; the last Output command is the result."""


class AttemptYielded(AttemptEvent):
    """The attempt gave its place back without a failure: start it again."""

    reason: str


# -- from timers


class TimerFired(Event):
    """A stored deadline has passed."""

    number: int
    kind: str
    token: int


class Expired(Event):
    """Retention of a completed invocation's result or journal has passed."""

    number: int


# -- from operators


class Cancel(Event):
    """Append the cancel signal, or end it at once if it never started."""

    id: str


class Kill(Event):
    """End it and everything it called; with `caller_id` only if that one invoked it (C32)."""

    id: str
    caller_id: str | None = None


class Pause(Event):
    """Stop attempting until resumed."""

    id: str


class Resume(Event):
    """Attempt again; `deployment_id` repins (its range was checked by the sender)."""

    id: str
    deployment_id: str | None = None
    service_revision: int | None = None


class RestartAsNew(Event):
    """A completed invocation's input (and journal prefix up to `from_index`) under a new id."""

    id: str
    new_id: str
    random_seed: int
    from_index: int = 0
    deployment_id: str | None = None
    service_revision: int | None = None


class Purge(Event):
    """Remove a completed invocation with everything it owns."""

    id: str


class PurgeJournal(Event):
    """Remove only the journal of a completed invocation."""

    id: str


class PatchState(Event):
    """Replace the state of one key, behind the running exclusive handler of the key."""

    service: str
    key: str
    patch: StatePatch
    scope: str = ""


class DiscoveredService(Record):
    """One service of a discovery manifest, checked."""

    name: str
    definition: ServiceDefinition


class RegisterDeployment(Event):
    """A discovered deployment. `force` replaces one of the same identity and implies `breaking`."""

    deployment: Deployment
    services: tuple[DiscoveredService, ...]
    force: bool = False
    breaking: bool = False
    dry_run: bool = False  # check everything, store nothing, reply Planned


class UpdateDeployment(Event):
    """Change a deployment in place; `services` only when it was discovered again."""

    deployment: Deployment
    services: tuple[DiscoveredService, ...] | None = None
    overwrite: bool = False
    dry_run: bool = False


class RemoveDeployment(Event):
    """Forget a deployment; its services fall back to their next older revision."""

    id: str


class PatchService(Event):
    """An operator's settings for the latest revision of a service; None = leave as is."""

    name: str
    options: Options


Pairs = tuple[tuple[str, str], ...]


class CreateKafkaCluster(Event):
    """Brokers under a new name. `properties` in the order of their names."""

    name: str
    properties: Pairs


class UpdateKafkaCluster(Event):
    """Other properties for a cluster: all of them, not only those that differ."""

    name: str
    properties: Pairs


class RemoveKafkaCluster(Event):
    """Forget a cluster; `force` although subscriptions name it."""

    name: str
    force: bool = False


class CreateSubscription(Event):
    """Records of a topic as invocations of a handler, under a new id."""

    id: str
    source: ResourceUri
    sink: ResourceUri
    options: Pairs


class RemoveSubscription(Event):
    """Forget a subscription."""

    id: str


class RuleAbsent(Record):
    """There must be no rule with the pattern."""


class RuleVersion(Record):
    """The rule with the pattern must have this version."""

    version: int


RulePrecondition = RuleAbsent | RuleVersion | None


class RuleChange(Record):
    """What a limit rule shall say."""

    pattern: str
    concurrency: int | None
    description: str | None
    disabled: bool
    precondition: RulePrecondition = None


class PutLimitRules(Event):
    """Store rules: all of them, or none when a precondition does not hold."""

    changes: tuple[RuleChange, ...]


class RemoveLimitRules(Event):
    """Forget rules by (pattern, precondition): all that are there, or none, see PutLimitRules."""

    patterns: tuple[tuple[str, RulePrecondition], ...]
