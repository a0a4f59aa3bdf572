"""A request becomes an invocation.

Lives here: identity and deduplication, delay, the inbox, the lock, the start of an attempt.
Does not: what ends it (finish.py), how it is retried (attempts.py). Flow control (scopes, limit
keys, rates) will decide here, in `start_or_enqueue`.
Rules: I1 one execution per identity until its retention ends; K1-K3 one exclusive invocation holds
a key, the others wait in order; C44, C50 an id that belongs to another target is refused.
"""

from msgspec.structs import replace

from restated.core.effects import (
    PAYLOAD_BYTES_MAX,
    Accepted,
    ArmTimer,
    Refused,
    Reply,
    StartAttempt,
)
from restated.core.events import Complete, Invoke
from restated.core.removal import remove, remove_workflow
from restated.core.view import Step, next_number
from restated.model.errors import ErrorCode
from restated.model.records import (
    WORKFLOW_ALREADY_INVOKED,
    Entry,
    Failure,
    InboxItem,
    Invocation,
    Lock,
    Outcome,
    Result,
    Timer,
    Waiter,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.spliced import LARGE_BYTES, around

INPUT_VALUE = (14, 1)  # the fields around the content of InputCommandMessage
TIME_MS_MAX = 2**63 - 1  # what a row can keep; later deadlines never come (C58)


def on_invoke(step: Step, event: Invoke) -> Reply:
    """Create the invocation, or join the one that has this identity already."""
    existing = step.by_id(event.id)
    if existing is not None and has_expired(existing, step.now_ms):
        # On time is better than at the next clean-up: the id is free from its expiry on.
        remove(step, existing)
        if existing.is_workflow_run:
            remove_workflow(step, existing)
        existing = None
    if existing is None:
        return _create(step, event)
    if not _is_same_target(existing, event):
        _answer_caller(step, event, Failure(500, f"invocation id {event.id} is taken"))
        return Refused(ErrorCode.IDENTITY_TAKEN, event.id)
    return _join(step, event, existing)


def has_expired(invocation: Invocation, now_ms: int) -> bool:
    """Whether the retention of a completed invocation is over."""
    return (
        invocation.status == "completed"
        and invocation.expires_at_ms is not None
        and invocation.expires_at_ms <= now_ms
    )


def add_waiter(step: Step, invocation: Invocation, caller: int, completion_id: int) -> None:
    """Have invocation `caller` told how this one, which has not ended, ends."""
    step.put(Waiter(invocation.number, caller, completion_id))
    if not invocation.has_waiters:
        step.put(replace(invocation, has_waiters=1))


def start_or_enqueue(step: Step, invocation: Invocation, entries: tuple[Entry, ...] = ()) -> None:
    """Start it, or queue it behind the holder of its key (K1-K3)."""
    if not invocation.is_exclusive:
        start(step, invocation, entries)
        return
    key = invocation.lock_key
    if step.get(Lock, *key) is None:
        step.put(Lock(*key, holder=invocation.number))
        start(step, invocation, entries)
        return
    sequence = next_number(step, "inbox")
    step.put(InboxItem(*key, sequence, invocation.number))
    waiting = replace(
        invocation,
        status="inboxed",
        inbox_sequence=sequence,
        inboxed_at_ms=step.now_ms,
        modified_at_ms=step.now_ms,
    )
    step.put(waiting)
    step.changed(waiting, "inboxed")


def start(step: Step, invocation: Invocation, entries: tuple[Entry, ...] = ()) -> None:
    """Begin a new attempt. Its number fences off everything an older one may still say (B3)."""
    started = replace(
        invocation,
        status="invoked",
        attempt=invocation.attempt + 1,
        awaiting_on=None,
        awaiting_floor=None,
        inbox_sequence=None,
        next_retry_at_ms=None,
        running_at_ms=step.now_ms if invocation.running_at_ms is None else invocation.running_at_ms,
        modified_at_ms=step.now_ms,
    )
    step.put(started)
    step.emit(StartAttempt(started, entries))
    step.changed(started, "attempt_started")


def _create(step: Step, event: Invoke) -> Reply:
    number = next_number(step, "invocation")
    target = event.target
    invocation = Invocation(
        number=number,
        id=event.id,
        service=target.service,
        object_key=target.key,
        handler=target.handler,
        service_type=target.service_type,
        handler_type=target.handler_type,
        scope=target.scope,
        limit_key=event.limit_key,
        status="scheduled",
        source=event.source,
        caller_id=event.caller_id,
        caller_target=event.caller_target,
        created_at_ms=step.now_ms,
        modified_at_ms=step.now_ms,
        random_seed=event.random_seed,
        completion_retention_ms=event.completion_retention_ms,
        journal_retention_ms=event.journal_retention_ms,
        idempotency_key=event.idempotency_key,
        scheduled_for_ms=event.scheduled_for_ms,
        journal_length=1,
        command_count=1,
        last_entry_at_ms=step.now_ms,
        trace_parent=event.trace_parent,
    )
    entry = Entry(number, 0, messages.INPUT_COMMAND, _input(event), step.now_ms)
    step.put(entry)
    if event.caller is not None and event.caller_completion_id is not None:
        step.put(Waiter(number, event.caller, event.caller_completion_id))
        invocation = replace(invocation, has_waiters=1)
    step.changed(invocation, "accepted")
    if event.scheduled_for_ms is None:
        known = (entry,) if len(entry.payload) < PAYLOAD_BYTES_MAX else ()
        start_or_enqueue(step, invocation, known)
        return Accepted(event.id, is_new=True)
    at_ms = min(event.scheduled_for_ms, TIME_MS_MAX)
    step.put(replace(invocation, scheduled_for_ms=at_ms))
    step.put(Timer(number, "start", 0, at_ms))
    step.emit(ArmTimer(at_ms))
    step.changed(invocation, "scheduled", at_ms=at_ms)
    return Accepted(event.id, is_new=True, scheduled_for_ms=at_ms)


def _input(event: Invoke) -> bytes:
    message = pb.InputCommandMessage(
        headers=[pb.Header(key=key, value=value) for key, value in event.headers]
    )
    if len(event.payload) >= LARGE_BYTES:
        return around(message.SerializeToString(), INPUT_VALUE, event.payload)
    message.value.CopyFrom(pb.Value(content=event.payload))
    return message.SerializeToString()


def _is_same_target(existing: Invocation, event: Invoke) -> bool:
    target = event.target
    if (existing.service, existing.object_key, existing.scope) != (
        target.service,
        target.key,
        target.scope,
    ):
        return False
    # A workflow's run is one per key, also when a later revision gives its handler another name.
    is_run = existing.is_workflow_run and target.handler_type == "workflow"
    return is_run or existing.handler == target.handler


def _join(step: Step, event: Invoke, existing: Invocation) -> Reply:
    wants_result = event.wants_result or event.caller_completion_id is not None
    if existing.is_workflow_run and wants_result:
        _answer_caller(step, event, WORKFLOW_ALREADY_INVOKED)
        return Refused(ErrorCode.WORKFLOW_ALREADY_INVOKED, existing.id)
    not_started = existing.status in ("scheduled", "inboxed")
    scheduled_for_ms = existing.scheduled_for_ms if not_started else None
    if existing.status == "completed":
        result = step.get(Result, existing.number)
        assert result is not None, "a retained invocation has its result"
        _answer_caller(step, event, result.outcome)
        return Accepted(
            existing.id,
            is_new=False,
            outcome=result.outcome,
            expires_at_ms=existing.expires_at_ms,
        )
    if event.caller is not None and event.caller_completion_id is not None:
        add_waiter(step, existing, event.caller, event.caller_completion_id)
    return Accepted(existing.id, is_new=False, scheduled_for_ms=scheduled_for_ms)


def _answer_caller(step: Step, event: Invoke, outcome: Outcome) -> None:
    if event.caller is not None and event.caller_completion_id is not None:
        step.send(Complete(event.caller, event.caller_completion_id, outcome))
