"""Completions, signals and timers reach an invocation, and may wake it.

Lives here: settling open commands, storing signals, due timers, wake-up.
Does not: whether an await holds (awaits.py), cancel as an operation (control.py).
Rules: C01, C02 only what is awaited wakes; C38, C39 an awakeable settles once, whenever;
a signal that the suspended attempt had already replayed wakes nobody again (`awaiting_floor`).
"""

from typing import Literal

from msgspec.structs import replace

from restated.core.accept import start, start_or_enqueue
from restated.core.awaits import evaluate, restored, stored
from restated.core.effects import Done, Ignored, Reply
from restated.core.events import Cancel, Complete, Result, RunProposed, Signal, TimerFired
from restated.core.journal import notification, notify, settle_with
from restated.core.pausing import has_room, stop_full
from restated.core.pieces import OUTBOX_OWNER, remove_more, send_postponed
from restated.core.view import Step, current
from restated.model.records import (
    Completion,
    Failure,
    Invocation,
    SignalRow,
    Timer,
)
from restated.protocol import messages

CANCEL_SIGNAL = f"s{messages.SIGNAL_CANCEL}"


def on_complete(step: Step, event: Complete) -> Reply:
    """A callee, a promise or an attached invocation settles a command."""
    invocation = step.get(Invocation, event.number)
    if invocation is None or invocation.status == "completed":
        return Ignored("the caller has ended")
    completion = step.get(Completion, event.number, event.completion_id)
    if completion is None or completion.entry_index is not None:
        return Ignored("no such open command")
    if not has_room(step, invocation):
        stop_full(step, invocation)
        return Ignored("the journal is full")
    changed = settle_with(step, invocation, completion, event.result)
    step.changed(changed, "notification", completion_id=event.completion_id)
    wake_if_ready(step, changed)
    return Done()


def on_run_proposed(step: Step, event: RunProposed) -> Reply:
    """The result of a run becomes its completion."""
    invocation = current(step, event)
    if invocation is None:
        return Ignored("stale attempt")
    completion = step.get(Completion, event.number, event.completion_id)
    if completion is None or completion.kind != "run" or completion.entry_index is not None:
        return Ignored("no such open run")
    if not has_room(step, invocation):
        stop_full(step, invocation)
        return Ignored("the journal is full")
    further = replace(invocation, last_failure=None)
    changed = settle_with(step, further, completion, event.result)
    step.changed(changed, "notification", completion_id=event.completion_id)
    return Done()


def on_signal(step: Step, event: Signal) -> Reply:
    """A signal for an invocation that can still read it; it is dropped otherwise."""
    if event.name == CANCEL_SIGNAL:  # whoever sends it and however, an awakeable's id too
        step.send(Cancel(event.id))
        return Done()
    invocation = step.by_id(event.id)
    if invocation is None or invocation.status in ("completed", "scheduled", "inboxed"):
        return Ignored("nobody can read the signal")
    settled = step.get(SignalRow, invocation.number, event.name)
    if settled is not None and is_awakeable(event.name):
        return Ignored("the awakeable was completed before")
    if not has_room(step, invocation):
        stop_full(step, invocation)
        return Ignored("the journal is full")
    receive_signal(step, invocation, event.name, event.result)
    return Done()


def receive_signal(step: Step, invocation: Invocation, name: str, result: Result) -> Invocation:
    """Append a signal, forward it, wake a suspended invocation that awaits it."""
    message = notification(result)
    if name.startswith("s"):
        message.idx = int(name[1:])
    else:
        message.name = name[2:]
    index = invocation.journal_length
    changed = notify(step, invocation, messages.SIGNAL_NOTIFICATION, message.SerializeToString())
    polarity: Literal["success", "failure"] = (
        "failure" if isinstance(result, Failure) else "success"
    )
    step.put(SignalRow(invocation.number, name, index, polarity))
    step.changed(changed, "notification", signal=name)
    return wake_if_ready(step, changed)


def is_awakeable(name: str) -> bool:
    """Whether a signal name belongs to an awakeable: those settle once (P1)."""
    return name.startswith("s") and int(name[1:]) >= messages.SIGNAL_FIRST_AWAKEABLE


def on_timer(step: Step, event: TimerFired) -> Reply:
    """A stored deadline has passed; one that was removed or moved meanwhile is stale (C10)."""
    timer = step.get(Timer, event.number, event.kind, event.token)
    if timer is None or timer.at_ms > step.now_ms:
        return Ignored("stale timer")
    step.delete(Timer, event.number, event.kind, event.token)
    if timer.kind == "continue":
        _continue(step, event.number)
        return Done()
    invocation = step.get(Invocation, event.number)
    if invocation is None:
        return Ignored("the owner is gone")
    match timer.kind:
        case "start":
            if invocation.status != "scheduled":
                return Ignored("started before")
            start_or_enqueue(step, invocation)
        case "sleep":
            return on_complete(step, Complete(event.number, event.token, None))
        case "retry":
            if invocation.status != "invoked" or invocation.attempt != event.token:
                return Ignored("stale retry")
            start(step, invocation)
    return Done()


def _continue(step: Step, number: int) -> None:
    if number == OUTBOX_OWNER:
        send_postponed(step)
    else:
        remove_more(step, number)


def wake_if_ready(step: Step, invocation: Invocation) -> Invocation:
    """Start a suspended invocation whose await holds; otherwise keep what is still awaited."""
    if invocation.status != "suspended":
        return invocation
    assert invocation.awaiting_on is not None, "B7: suspended means waiting for something"
    awaiting = restored(invocation.awaiting_on)
    verdict, rest = evaluate(step, invocation, awaiting)
    if verdict is not None:
        start(step, invocation)
        step.changed(invocation, "resumed")
    elif (kept := stored(rest)) != invocation.awaiting_on:
        # Satisfied branches are cut out: 10,000 children must not cost 10,000 squared reads.
        step.put(replace(invocation, awaiting_on=kept))
    return step.get(Invocation, invocation.number) or invocation
