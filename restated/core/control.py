"""What operators do to an invocation: cancel, kill, pause, resume, restart, purge, patch state.

Lives here: one function for each operation, with the answers of state-machine.md 3 and 4.
Does not: HTTP statuses (model/errors.py), batches (admin/), the end itself (finish.py).
Rules: X1 kill ends the whole tree; X3 the requester learns which side of a race won; X6 repeated
operations are idempotent; C22 none of them needs the deployment.
"""

import msgspec
from msgspec.structs import replace

from restated.core.accept import has_expired, start_or_enqueue
from restated.core.attempts import resume, retry_now
from restated.core.awaits import signal_of
from restated.core.effects import Done, Refused, Reply, StopAttempt
from restated.core.events import (
    Cancel,
    Kill,
    PatchState,
    Pause,
    Purge,
    PurgeJournal,
    RestartAsNew,
    Resume,
)
from restated.core.finish import apply_patch, end_unstarted, finish, purge
from restated.core.notifications import CANCEL_SIGNAL, receive_signal
from restated.core.pausing import has_room, pause, stop_full
from restated.core.removal import remove_journal
from restated.core.view import Step, next_number
from restated.model.errors import ErrorCode
from restated.model.records import (
    CANCELED,
    KILLED,
    AttemptError,
    Completion,
    Entry,
    InboxItem,
    Invocation,
    Lock,
    SignalRow,
)
from restated.protocol import messages

RESTART_PREFIX_PROTOCOL_MIN = 6


def on_cancel(step: Step, event: Cancel) -> Reply:
    """Ask the handler to stop; what has not started ends at once."""
    invocation = _find(step, event.id)
    if invocation is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if not has_room(step, invocation) and invocation.status != "completed":
        stop_full(step, invocation)
        return Refused(ErrorCode.JOURNAL_FULL, event.id)
    match invocation.status:
        case "completed":
            return Refused(ErrorCode.INVOCATION_COMPLETED, event.id)
        case "scheduled" | "inboxed":
            end_unstarted(step, invocation, CANCELED, kind="cancelled")
            return Done()
        case "paused":
            resume(step, receive_signal(step, invocation, CANCEL_SIGNAL, None))
        case _:
            receive_signal(step, invocation, CANCEL_SIGNAL, None)
    return Done(is_final=False)


def on_kill(step: Step, event: Kill) -> Reply:
    """End it and everything it called or sent, without asking anybody."""
    invocation = _find(step, event.id)
    if invocation is None or event.caller_id not in (None, invocation.caller_id):
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if invocation.status == "completed":
        return Refused(ErrorCode.INVOCATION_COMPLETED, event.id)
    if invocation.status in ("scheduled", "inboxed"):
        end_unstarted(step, invocation, KILLED, kind="killed")
        return Done()
    _kill_children(step, invocation)
    if invocation.status == "invoked":
        step.emit(StopAttempt(invocation.number, invocation.attempt, "abort"))
    finish(step, invocation, KILLED, kind="killed")
    return Done()


def _kill_children(step: Step, invocation: Invocation) -> None:
    """Kill what it sent or called; what an open call has joined, whoever invoked that."""
    completions = list(step.scan(Completion, invocation.number))
    open_calls = {
        completion.callee
        for completion in completions
        if completion.kind == "call" and completion.entry_index is None
    }
    for completion in completions:
        if completion.kind == "call_id" and completion.callee is not None:
            # The callee may have ended, and its id may be somebody else's by now (C32).
            caller_id = None if completion.callee in open_calls else invocation.id
            step.send(Kill(completion.callee, caller_id))


def on_pause(step: Step, event: Pause) -> Reply:
    """Stop attempting; a live attempt is asked to suspend first."""
    invocation = _find(step, event.id)
    if invocation is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    match invocation.status:
        case "scheduled" | "inboxed" | "completed":
            return Refused(ErrorCode.PAUSE_NOT_RUNNING, event.id)
        case "suspended" | "paused":
            return Done()
        case "invoked":
            if invocation.next_retry_at_ms is not None:
                pause(step, invocation, _last_failure(invocation))
            else:
                step.put(replace(invocation, pause_requested=1))
                step.emit(StopAttempt(invocation.number, invocation.attempt, "half_close"))
    return Done(is_final=False)


def on_resume(step: Step, event: Resume) -> Reply:
    """Attempt again, now; on another deployment if one is given."""
    invocation = _find(step, event.id)
    if invocation is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    match invocation.status:
        case "completed":
            return Refused(ErrorCode.RESUME_COMPLETED, event.id)
        case "scheduled" | "inboxed":
            return Refused(ErrorCode.RESUME_NOT_STARTED, event.id)
        case "invoked":
            if event.deployment_id is not None:
                return Refused(ErrorCode.RESUME_RUNNING, event.id)
            if invocation.next_retry_at_ms is not None:
                retry_now(step, invocation)
            return Done()
        case "suspended" | "paused":
            resume(step, _repinned(invocation, event))
    return Done()


def on_restart_as_new(step: Step, event: RestartAsNew) -> Reply:
    """The input, or a prefix of the journal, of a completed invocation under a new id."""
    origin = _find(step, event.id)
    refusal = _refuses_restart(origin, event)
    if origin is None or refusal is not None:
        return refusal or Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    prefix = _prefix(step, origin, event.from_index)
    if prefix is None:
        return Refused(ErrorCode.RESTART_PREFIX, event.id)
    entries, completions, signals = prefix
    number = next_number(step, "invocation")
    keeps_prefix = event.from_index > 0
    pin = _restarted_pin(origin, event)
    outputs = [entry.index for entry in entries if entry.type == messages.OUTPUT_COMMAND]
    invocation = Invocation(
        number=number,
        id=event.new_id,
        service=origin.service,
        object_key=origin.object_key,
        handler=origin.handler,
        service_type=origin.service_type,
        handler_type=origin.handler_type,
        scope=origin.scope,
        limit_key=origin.limit_key,
        status="scheduled",
        source="restart_as_new",
        caller_id=None,
        caller_target=None,
        created_at_ms=step.now_ms,
        modified_at_ms=step.now_ms,
        # C35: what the prefix drew must replay equal.
        random_seed=origin.random_seed if keeps_prefix else event.random_seed,
        completion_retention_ms=origin.completion_retention_ms,
        journal_retention_ms=origin.journal_retention_ms,
        journal_length=len(entries),
        command_count=sum(messages.BY_CODE[entry.type].kind == "command" for entry in entries),
        last_entry_at_ms=step.now_ms,
        deployment_id=pin[0],
        service_revision=pin[1],
        protocol_version=pin[2],
        restarted_from=origin.id,
        output_index=outputs[-1] if outputs else None,
    )
    for row in (*entries, *completions, *signals):
        step.put(replace(row, number=number))
    step.changed(invocation, "accepted", restarted_from=origin.id)
    start_or_enqueue(step, invocation)
    return Done(id=event.new_id)


def on_purge(step: Step, event: Purge) -> Reply:
    """Forget a completed invocation; its id may be used again."""
    invocation = _find(step, event.id)
    if invocation is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if invocation.status != "completed":
        return Refused(ErrorCode.INVOCATION_NOT_COMPLETED, event.id)
    purge(step, invocation)
    return Done()


def on_purge_journal(step: Step, event: PurgeJournal) -> Reply:
    """Forget the journal of a completed invocation and keep its result."""
    invocation = _find(step, event.id)
    if invocation is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if invocation.status != "completed":
        return Refused(ErrorCode.INVOCATION_NOT_COMPLETED, event.id)
    remove_journal(step, invocation)
    return Done()


def on_patch_state(step: Step, event: PatchState) -> Reply:
    """Replace a key's state now, or behind the exclusive handler that holds the key."""
    key = (event.scope, event.service, event.key)
    if step.get(Lock, *key) is None:
        apply_patch(step, key, event.patch)
        return Done()
    sequence = next_number(step, "inbox")
    step.put(InboxItem(*key, sequence, None, msgspec.msgpack.encode(event.patch)))
    return Done(is_final=False)


def _find(step: Step, invocation_id: str) -> Invocation | None:
    """The invocation, unless it is one whose retention has passed."""
    invocation = step.by_id(invocation_id)
    if invocation is None or has_expired(invocation, step.now_ms):
        return None
    return invocation


def _last_failure(invocation: Invocation) -> AttemptError | None:
    if invocation.last_failure is None:
        return None
    return msgspec.msgpack.decode(invocation.last_failure, type=AttemptError)


def _repinned(invocation: Invocation, event: Resume) -> Invocation:
    if event.deployment_id is None or invocation.deployment_id is None:
        return invocation
    return replace(
        invocation, deployment_id=event.deployment_id, service_revision=event.service_revision
    )


def _restarted_pin(
    origin: Invocation, event: RestartAsNew
) -> tuple[str | None, int | None, int | None]:
    """Deployment, revision, version: pinned together or not at all (4.6, 4.7)."""
    if event.deployment_id is not None and origin.protocol_version is not None:
        return event.deployment_id, event.service_revision, origin.protocol_version
    if event.from_index > 0:
        return origin.deployment_id, origin.service_revision, origin.protocol_version
    return None, None, None


def _refuses_restart(origin: Invocation | None, event: RestartAsNew) -> Refused | None:
    """Status, journal, workflow, protocol: in this order (state-machine.md 4.7)."""
    if origin is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if origin.status in ("scheduled", "inboxed"):
        return Refused(ErrorCode.RESTART_NOT_STARTED, event.id)
    if origin.status != "completed":
        return Refused(ErrorCode.RESTART_RUNNING, event.id)
    if origin.journal_length == 0:
        return Refused(ErrorCode.RESTART_NO_INPUT, event.id)
    if origin.service_type == "workflow":
        return Refused(ErrorCode.RESTART_UNSUPPORTED, event.id)
    is_old = (origin.protocol_version or 0) < RESTART_PREFIX_PROTOCOL_MIN
    if event.from_index > 0 and is_old:
        return Refused(ErrorCode.RESTART_UNSUPPORTED, event.id)
    return None


def _prefix(
    step: Step, origin: Invocation, from_index: int
) -> tuple[list[Entry], list[Completion], list[SignalRow]] | None:
    """Entries 0..from_index, then the completions of their commands in the order in which they
    came, with their index rows; None if a command has none.
    """
    if from_index >= origin.journal_length:
        return None
    entries = list(step.scan(Entry, origin.number, limit=from_index + 1))
    completions: list[Completion] = []
    later: list[Completion] = []
    for completion in step.scan(Completion, origin.number):
        if completion.command_index > from_index:
            continue
        if completion.entry_index is None:
            return None
        (completions if completion.entry_index <= from_index else later).append(completion)
    # A race in the prefix must be won again by what won it (C35).
    for completion in sorted(later, key=lambda one: one.entry_index or 0):
        assert completion.entry_index is not None
        entry = step.get(Entry, origin.number, completion.entry_index)
        assert entry is not None, "B4: a completion names its entry"
        completions.append(replace(completion, entry_index=len(entries)))
        entries.append(replace(entry, index=len(entries)))
    return entries, completions, _signals(entries)


def _signals(entries: list[Entry]) -> list[SignalRow]:
    """The newest entry of each signal: a copied awakeable stays completed (P1)."""
    newest: dict[str, SignalRow] = {}
    for entry in entries:
        if entry.type == messages.SIGNAL_NOTIFICATION:
            name, polarity = signal_of(entry)
            newest[name] = SignalRow(entry.number, name, entry.index, polarity)
    return list(newest.values())
