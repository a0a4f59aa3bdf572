"""The end of an invocation and everything it releases.

Lives here: output or failure becomes the result; waiters, timers, lock hand-over, retention,
expiry, attaching to an end, state patches that wait for the lock.
Does not: why it ended (attempts.py, control.py), how callers learn of it (engine/dispatch.py).
Rules: K7 every terminal path releases the key and starts exactly one successor; I4 retention never
ends early; X2 a detached send is not a child.
"""

import base64
import hashlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from restated.core.accept import TIME_MS_MAX, add_waiter, has_expired, start
from restated.core.effects import ChangeKind, Done, Ignored, Reply, Settled
from restated.core.events import Attach, Complete, Expired
from restated.core.pieces import answer_all, remove_journal_rows
from restated.core.removal import (
    remove,
    remove_journal,
    remove_promise_waiters,
    remove_workflow,
)
from restated.core.view import Step
from restated.model.records import (
    NOT_FOUND,
    Failure,
    InboxItem,
    Invocation,
    Lock,
    Outcome,
    Result,
    StatePatch,
    StateValue,
    Timer,
    Waiter,
)


def finish(
    step: Step,
    invocation: Invocation,
    outcome: Outcome,
    *,
    kind: ChangeKind = "completed",
    stacktrace: str = "",
) -> None:
    """End a started invocation: answer, release, retain."""
    number = invocation.number
    # Waiters first: a parent resumed below must already find our result (C48).
    answer_waiters(step, invocation, outcome)
    if _may_have_timers(invocation):
        step.clear(Timer, number)
    if invocation.service_type == "workflow":
        remove_promise_waiters(step, invocation)
    expires_at_ms = None
    if invocation.completion_retention_ms > 0:
        expires_at_ms = _retain(step, invocation, outcome)
    else:
        remove(step, invocation)
        if invocation.is_workflow_run:
            remove_workflow(step, invocation)
    step.emit(Settled(invocation.id, outcome, stacktrace))
    step.changed(
        invocation,
        kind,
        result="failure" if isinstance(outcome, Failure) else "success",
        expires_at_ms=expires_at_ms,
    )
    if invocation.is_exclusive:
        hand_over(step, invocation.lock_key)


def _may_have_timers(invocation: Invocation) -> bool:
    """Spare the plain call a statement: Input and Output alone set no timer."""
    return (
        invocation.output_index is None
        or invocation.command_count > 2
        or invocation.attempt > 1
        or invocation.next_retry_at_ms is not None
    )


def end_unstarted(
    step: Step, invocation: Invocation, outcome: Failure, *, kind: ChangeKind
) -> None:
    """End a scheduled or inboxed invocation: nothing is left of it (ingress.md 15, C23)."""
    assert invocation.status in ("scheduled", "inboxed")
    if invocation.inbox_sequence is not None:
        step.delete(InboxItem, *invocation.lock_key, invocation.inbox_sequence)
    answer_waiters(step, invocation, outcome)
    remove(step, invocation)
    step.emit(Settled(invocation.id, outcome))
    step.changed(invocation, kind)


def answer_waiters(step: Step, invocation: Invocation, outcome: Outcome) -> None:
    """Give the outcome to every invocation that waits for it."""
    if not invocation.has_waiters:
        return
    waiters = step.scan(Waiter, invocation.number)
    answer_all(step, [(waiter.caller, waiter.completion_id) for waiter in waiters], outcome)
    step.clear(Waiter, invocation.number)


def hand_over(step: Step, key: tuple[str, str, str]) -> None:
    """Pass a key's lock to the next in line; state patches on the way are applied (4.3)."""
    while (item := next(step.scan(InboxItem, *key, limit=1), None)) is not None:
        step.delete(InboxItem, *item.primary_key())
        if item.patch is not None:
            apply_patch(step, key, msgspec.msgpack.decode(item.patch, type=StatePatch))
            continue
        assert item.number is not None
        successor = step.get(Invocation, item.number)
        assert successor is not None, "K2: the inbox names existing invocations"
        step.put(Lock(*key, holder=successor.number))
        start(step, successor)
        return
    step.delete(Lock, *key)


def apply_patch(step: Step, key: tuple[str, str, str], patch: StatePatch) -> bool:
    """Replace a key's state; False when it is not in the expected version any more."""
    if patch.expected_version is not None:
        version = state_version(step.scan(StateValue, *key))
        if version != patch.expected_version:
            return False
    step.clear(StateValue, *key)
    for name, value in patch.values:
        step.put(StateValue(*key, name, value))
    return True


def state_version(values: Iterable[StateValue]) -> str:
    """The digest by which operators name a state; admin.md 6."""
    digest = hashlib.sha256()
    for index, entry in enumerate(sorted(values, key=lambda row: row.name.encode())):
        digest.update(index.to_bytes(8, "big"))
        digest.update(b"\x01" + entry.name.encode() + b"\x02" + entry.value + b"\x03")
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def on_attach(step: Step, event: Attach) -> Reply:
    """A handler wants the outcome of another invocation."""
    target = step.by_id(event.id)
    if target is None or has_expired(target, step.now_ms):
        step.send(Complete(event.caller, event.completion_id, NOT_FOUND))
        return Done()
    if target.status == "completed":
        result = step.get(Result, target.number)
        assert result is not None, "a retained invocation has its result"
        step.send(Complete(event.caller, event.completion_id, result.outcome))
        return Done()
    if event.wait:
        add_waiter(step, target, event.caller, event.completion_id)
    else:
        step.send(Complete(event.caller, event.completion_id, None))
    return Done(is_final=False)


def on_expired(step: Step, event: Expired) -> Reply:
    """A result or a journal has outlived its retention."""
    invocation = step.get(Invocation, event.number)
    if invocation is None or invocation.status != "completed":
        return Ignored("not completed")
    if has_expired(invocation, step.now_ms):
        purge(step, invocation)
        return Done()
    expires_at_ms = invocation.journal_expires_at_ms
    if expires_at_ms is None or expires_at_ms > step.now_ms:
        return Ignored("still retained")
    remove_journal(step, invocation)
    return Done()


def purge(step: Step, invocation: Invocation) -> None:
    """Remove a completed invocation; a workflow run takes state and promises with it."""
    remove(step, invocation)
    if invocation.is_workflow_run:
        remove_workflow(step, invocation)
    step.changed(invocation, "purged")


def _retain(step: Step, invocation: Invocation, outcome: Outcome) -> int:
    expires_at_ms = _sum_ms(step.now_ms, invocation.completion_retention_ms)
    journal_expires_at_ms = None
    if invocation.journal_retention_ms == 0:
        remove_journal_rows(step, invocation.number, invocation.journal_length)
    elif invocation.journal_retention_ms < invocation.completion_retention_ms:
        journal_expires_at_ms = _sum_ms(step.now_ms, invocation.journal_retention_ms)
    step.put(Result.of(invocation.number, outcome))
    step.put(
        replace(
            invocation,
            status="completed",
            completed_at_ms=step.now_ms,
            modified_at_ms=step.now_ms,
            awaiting_on=None,
            awaiting_floor=None,
            pause_requested=0,
            next_retry_at_ms=None,
            last_failure=None,
            journal_length=0 if invocation.journal_retention_ms == 0 else invocation.journal_length,
            command_count=0 if invocation.journal_retention_ms == 0 else invocation.command_count,
            expires_at_ms=expires_at_ms,
            journal_expires_at_ms=journal_expires_at_ms,
        )
    )
    return expires_at_ms


def _sum_ms(now_ms: int, retention_ms: int) -> int:
    return min(now_ms + retention_ms, TIME_MS_MAX)  # C60: an overflow must not stop the cleaner
