"""Removing an invocation with everything it owns.

Lives here: `remove`, `remove_journal`.
Does not: when (retention and purge in finish.py and control.py, reuse of an id in accept.py).
Rules: I4 and C72: nothing of a removed invocation stays, no index row, no timer, no waiter.
"""

from msgspec.structs import replace

from restated.core.pieces import remove_journal_rows
from restated.core.view import Step
from restated.model.records import (
    Completion,
    Invocation,
    Promise,
    PromiseWaiter,
    Result,
    StateValue,
    Timer,
    Waiter,
)


def remove(step: Step, invocation: Invocation) -> None:
    """Forget an invocation: row, result, journal, timers, waiters."""
    number = invocation.number
    step.delete(Invocation, number)
    step.delete(Result, number)
    step.clear(Waiter, number)
    step.clear(Timer, number)
    remove_journal_rows(step, number, invocation.journal_length)


def remove_promise_waiters(step: Step, invocation: Invocation) -> None:
    """An ended handler of a workflow listens to no promise any more (S1)."""
    own = step.scan(Completion, invocation.number)
    if not any(each.kind == "promise" and each.entry_index is None for each in own):
        return  # 500 handlers that end one after the other must not look at 500 waiters each
    for waiter in list(step.scan(PromiseWaiter, *invocation.lock_key)):
        if waiter.caller == invocation.number:
            step.delete(PromiseWaiter, *waiter.primary_key())


def remove_workflow(step: Step, invocation: Invocation) -> None:
    """Forget the state and promises of a workflow key; its run is gone or never retained.

    Handlers that still wait for an open promise go on waiting: it can be settled yet (B8).
    """
    key = invocation.lock_key
    step.clear(StateValue, *key)
    step.clear(Promise, *key)


def remove_journal(step: Step, invocation: Invocation) -> Invocation:
    """Forget only the journal of a completed invocation; the invocation as stored now."""
    assert invocation.status == "completed"
    remove_journal_rows(step, invocation.number, invocation.journal_length)
    changed = replace(
        invocation,
        journal_length=0,
        command_count=0,
        output_index=None,
        journal_expires_at_ms=None,
        modified_at_ms=step.now_ms,
    )
    step.put(changed)
    return changed
