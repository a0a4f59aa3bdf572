"""Pausing: no attempt begins until an operator asks for one.

Lives here: `pause`; an invocation whose journal is full, which cannot go on at all.
Does not: policies that lead here (attempts.py), the operator's request (control.py).
Rules: X4 journal and lock stay; M2 a journal has a bound, and nothing is written beyond it: a
packed key would name the first row of the next invocation.
"""

from typing import Final

from msgspec.structs import replace

from restated.core.effects import StopAttempt
from restated.core.journal import error_event, record_event
from restated.core.view import Step
from restated.model.errors import AttemptCode
from restated.model.records import AttemptError, Invocation, Timer

COMMAND_ENTRIES: Final = 2  # a command and the notification that it causes at once


def pause(step: Step, invocation: Invocation, error: AttemptError | None) -> None:
    """Stop attempting until an operator resumes it; journal and lock stay (X4).

    Only out of a back-off it keeps its failure, which queries go on to show, as the reference does;
    of any other pause the event tells why.
    """
    paused = replace(
        invocation,
        status="paused",
        pause_requested=0,
        next_retry_at_ms=None,
        last_failure=None if invocation.next_retry_at_ms is None else invocation.last_failure,
        awaiting_on=None,
        modified_at_ms=step.now_ms,
    )
    step.clear(Timer, invocation.number, "retry")
    step.put(paused)
    payload: dict[str, object] = {} if error is None else {"last_failure": error_event(error)}
    record_event(step, paused, "Paused", payload)
    step.changed(paused, "paused", error=None if error is None else error.message)


def has_room(step: Step, invocation: Invocation, entries: int = 1) -> bool:
    """Whether the journal takes so many more entries."""
    return invocation.journal_length + entries <= step.entries_max


def stop_full(step: Step, invocation: Invocation) -> None:
    """Pause an invocation that needs an entry its journal has no room for.

    What was to be appended is dropped: a result that the handler could read, but not act upon,
    as any command needs an entry. An operator kills it, or restarts it from an earlier entry.
    """
    if invocation.status == "paused":
        return
    error = AttemptError(
        500,
        f"the journal has reached its limit of {step.entries_max} entries, nothing can be added; "
        "kill the invocation, or kill it and restart it as new from an earlier entry",
        AttemptCode.MESSAGE_TOO_LARGE,
    )
    if invocation.status == "invoked" and invocation.next_retry_at_ms is None:
        step.emit(StopAttempt(invocation.number, invocation.attempt, "abort"))
    pause(step, invocation, error)
