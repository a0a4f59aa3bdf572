"""What operators may do, as the oracle understands it (admin.md 6 and 7).

Lives here: cancel, kill, pause, resume, restart as new, purge, state patches; `OPERATORS`.
Does not: everything else (oracle.py).
"""

import base64
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from restated.core import events as ev
from restated.core.effects import Done, Refused, Reply
from restated.model.errors import ErrorCode
from restated.model.records import CANCELED, KILLED, StatePatch
from restated.protocol import messages
from tests.core.oracle_commands import last_output
from tests.core.oracle_state import NOT_STARTED, OPEN, Awaited, Life, Pin, Place

if TYPE_CHECKING:
    from tests.core.oracle import Oracle


def on_cancel(oracle: "Oracle", event: ev.Cancel) -> Reply:
    life = oracle.find(event.id)
    if life is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if life.status in NOT_STARTED:
        oracle.end_unstarted(life, CANCELED)
        return Done()
    if life.status == "completed":
        return Refused(ErrorCode.INVOCATION_COMPLETED, event.id)
    oracle.store_signal(life, "s1", None)
    if life.status == "paused":
        life.failures = life.budget_used = 0
        oracle.start(life)
    oracle.wake(life)
    return Done(is_final=False)


def on_kill(oracle: "Oracle", event: ev.Kill) -> Reply:
    life = oracle.find(event.id)
    if life is None or event.caller_id not in (None, life.invoked_by):
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if life.status == "completed":
        return Refused(ErrorCode.INVOCATION_COMPLETED, event.id)
    if life.status in NOT_STARTED:
        oracle.end_unstarted(life, KILLED)
        return Done()
    if life.is_live:
        oracle.out.stopped.append((life.number, life.attempt, "abort"))
    for awaited in life.completions.values():
        if awaited.callee is not None and awaited.kind == "call_id":
            waits = any(
                other.kind == "call" and other.callee == awaited.callee and other.index is None
                for other in life.completions.values()
            )
            oracle.messages.append(ev.Kill(awaited.callee, None if waits else life.id))
    oracle.finish(life, KILLED)
    return Done()


def on_pause(oracle: "Oracle", event: ev.Pause) -> Reply:
    life = oracle.find(event.id)
    if life is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if life.status not in OPEN:
        return Refused(ErrorCode.PAUSE_NOT_RUNNING, event.id)
    if life.status != "invoked":
        return Done()
    if life.is_live:
        life.pause_requested = True
        oracle.out.stopped.append((life.number, life.attempt, "half_close"))
    else:
        oracle.pause(life, life.last_error)  # out of a back-off: seen on the reference
    return Done(is_final=False)


def on_resume(oracle: "Oracle", event: ev.Resume) -> Reply:
    life = oracle.find(event.id)
    if life is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if life.status in NOT_STARTED:
        return Refused(ErrorCode.RESUME_NOT_STARTED, event.id)
    if life.status == "completed":
        return Refused(ErrorCode.RESUME_COMPLETED, event.id)
    if life.status == "invoked" and event.deployment_id is not None:
        return Refused(ErrorCode.RESUME_RUNNING, event.id)
    if life.is_live:
        return Done()
    if life.pin is not None and event.deployment_id is not None:
        assert event.service_revision is not None
        life.pin = Pin(event.deployment_id, event.service_revision, life.pin.version)
    if life.status != "invoked":  # a back-off goes on where it was: seen on the reference
        life.failures = life.budget_used = 0
    oracle.start(life)
    return Done()


def on_restart_as_new(oracle: "Oracle", event: ev.RestartAsNew) -> Reply:
    old = oracle.find(event.id)
    refusal = restart_refusal(old, event)
    if refusal is not None:
        return Refused(refusal, event.id)
    assert old is not None
    prefix = range(event.from_index + 1)
    awaited = {
        key: found for key, found in old.completions.items() if found.command_index in prefix
    }
    later = sorted(
        found.index for found in awaited.values()
        if found.index is not None and found.index not in prefix
    )  # fmt: skip
    oracle.numbers += 1
    new = Life(
        oracle.numbers, event.new_id, old.target, "restart_as_new",
        old.seed if event.from_index else event.random_seed,
        old.completion_retention_ms, old.journal_retention_ms, restarted_from=old.id,
    )  # fmt: skip
    moved = {index: place for place, index in enumerate([*prefix, *later])}
    new.journal = [old.journal[index] for index in moved]
    new.commands = sum(item.type in messages.COMMAND_CODES for item in new.journal)
    for completion_id, found in awaited.items():
        new.completions[completion_id] = Awaited(
            found.kind, found.command_index, moved[found.index or 0], found.failed, found.callee
        )
    for name, entries in old.signals.items():
        kept = [(index, is_failure) for index, is_failure in entries if index in prefix]
        if kept:
            new.signals[name] = kept
    new.pin = restarted_pin(old, event)
    new.output = last_output(new.journal)
    oracle.lives[new.number] = new
    oracle.start_or_enqueue(new)
    return Done(id=event.new_id)


def on_purge(oracle: "Oracle", event: ev.Purge) -> Reply:
    life = oracle.find(event.id)
    if life is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if life.status != "completed":
        return Refused(ErrorCode.INVOCATION_NOT_COMPLETED, event.id)
    oracle.remove(life)
    return Done()


def on_purge_journal(oracle: "Oracle", event: ev.PurgeJournal) -> Reply:
    life = oracle.find(event.id)
    if life is None:
        return Refused(ErrorCode.INVOCATION_NOT_FOUND, event.id)
    if life.status != "completed":
        return Refused(ErrorCode.INVOCATION_NOT_COMPLETED, event.id)
    oracle.drop_journal(life)
    return Done()


def on_patch_state(oracle: "Oracle", event: ev.PatchState) -> Reply:
    place = oracle.places.setdefault((event.scope, event.service, event.key), Place())
    if place.holder is None:
        patch_state(place, event.patch)
        return Done()
    place.inbox.append(event.patch)
    return Done(is_final=False)


def restart_refusal(old: Life | None, event: ev.RestartAsNew) -> ErrorCode | None:
    """Why it cannot be restarted: the checks of state-machine.md 4.7, in that order."""
    if old is None:
        return ErrorCode.INVOCATION_NOT_FOUND
    if old.status in NOT_STARTED:
        return ErrorCode.RESTART_NOT_STARTED
    if old.status != "completed":
        return ErrorCode.RESTART_RUNNING
    if not old.journal:
        return ErrorCode.RESTART_NO_INPUT
    if old.target.service_type == "workflow":
        return ErrorCode.RESTART_UNSUPPORTED
    if event.from_index > 0 and (old.pin is None or old.pin.version < 6):
        return ErrorCode.RESTART_UNSUPPORTED
    open_commands = [
        found for found in old.completions.values()
        if found.index is None and found.command_index <= event.from_index
    ]  # fmt: skip
    if event.from_index >= len(old.journal) or open_commands:
        return ErrorCode.RESTART_PREFIX
    return None


def restarted_pin(old: Life, event: ev.RestartAsNew) -> Pin | None:
    """Where the new one runs: the chosen deployment, with the version that wrote the prefix."""
    if old.pin is None:
        return None
    if event.deployment_id is not None:
        assert event.service_revision is not None
        return Pin(event.deployment_id, event.service_revision, old.pin.version)
    return old.pin if event.from_index > 0 else None


def patch_state(place: Place, patch: StatePatch) -> None:
    """Replace the whole state, if it is still the expected one; silently not, otherwise."""
    if patch.expected_version in {None, version_of(place.state)}:
        place.state = dict(patch.values)


def version_of(state: dict[str, bytes]) -> str:
    """The digest of admin.md 6."""
    text = b""
    for index, (key, value) in enumerate(sorted((k.encode(), v) for k, v in state.items())):
        text += index.to_bytes(8, "big") + b"\x01" + key + b"\x02" + value + b"\x03"
    return base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip("=")


OPERATORS: Final[dict[type[ev.Event], Callable[["Oracle", Any], Reply]]] = {
    ev.Cancel: on_cancel,
    ev.Kill: on_kill,
    ev.Pause: on_pause,
    ev.Resume: on_resume,
    ev.RestartAsNew: on_restart_as_new,
    ev.Purge: on_purge,
    ev.PurgeJournal: on_purge_journal,
    ev.PatchState: on_patch_state,
}
