"""How an attempt goes: pinned, suspended, failed, yielded, ended; and when the next one starts.

Lives here: retry policy with stored deadlines, pausing, suspension, the end a handler asked for.
Does not: what the end releases (finish.py), commands (commands.py), talking to deployments.
Rules: B9 retry counts and deadlines are stored and survive a restart; C03, C05; C13 a failure is
posted behind everything its attempt sent, so the retry replays all of it.
"""

import msgspec
from msgspec.structs import replace

from restated.core.accept import TIME_MS_MAX, start
from restated.core.awaits import evaluate, leaves, stored
from restated.core.effects import ArmTimer, Done, Ignored, Reply
from restated.core.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptSuspended,
    AttemptYielded,
    DeploymentPinned,
)
from restated.core.finish import finish
from restated.core.journal import error_event, output_of, record_event, record_suspension
from restated.core.notifications import CANCEL_SIGNAL
from restated.core.pausing import pause
from restated.core.view import Step, current
from restated.model.errors import AttemptCode
from restated.model.records import (
    AttemptError,
    Await,
    Completion,
    Entry,
    Failure,
    Invocation,
    RetryPolicy,
    Timer,
)
from restated.protocol.failures import FAILURE_CODE_MAX, UNKNOWN_CODE

JITTER_SHARE = 0.3  # of the delay, at most
JITTER_MS_MIN = 3
GROWTH_STEPS_MAX = 1_000  # a policy that has not met its cap by then grows no further
ERROR_CHARS_MAX = 65_536  # of each text: the row is written anew at every change, each event kept
FUTURES_SINCE = 7  # the protocol version whose suspensions are kept as events
STALE = Ignored("stale attempt")


def on_deployment_pinned(step: Step, event: DeploymentPinned) -> Reply:
    """From now on every attempt goes to this deployment with this protocol version."""
    invocation = current(step, event)
    if invocation is None:
        return STALE
    step.put(
        replace(
            invocation,
            deployment_id=event.deployment_id,
            service_revision=event.service_revision,
            protocol_version=event.protocol_version,
        )
    )
    return Done()


def on_suspended(step: Step, event: AttemptSuspended) -> Reply:
    """The handler waits: resume at once if it need not, else keep what it waits for."""
    invocation = current(step, event)
    if invocation is None:
        return STALE
    invocation = replace(invocation, awaiting_floor=event.known_entries)
    verdict, rest = evaluate(step, invocation, event.awaiting_on)
    problem = _impossible_await(step, invocation, event.awaiting_on, is_ready=verdict is not None)
    if problem is not None:
        _fail(step, _counted(invocation, problem), problem, event.policy, event.jitter)
        return Done()
    invocation = replace(invocation, policy_attempts=0, failures_since_command=0, last_failure=None)
    if invocation.pause_requested:
        pause(step, invocation, None)
    elif verdict is not None:
        start(step, invocation)
    else:
        _suspend(step, invocation, rest, event.protocol_version)
    return Done()


def _suspend(step: Step, invocation: Invocation, awaiting: Await, protocol_version: int) -> None:
    suspended = replace(
        invocation,
        status="suspended",
        awaiting_on=stored(awaiting),
        modified_at_ms=step.now_ms,
    )
    step.put(suspended)
    if protocol_version >= FUTURES_SINCE:
        record_suspension(step, suspended, awaiting)
    step.changed(suspended, "suspended", awaiting=", ".join(leaves(awaiting)[:16]))


def on_failed(step: Step, event: AttemptFailed) -> Reply:
    """Retry, pause or end, by what the SDK asks for and the policy allows."""
    invocation = current(step, event)
    if invocation is None:
        return STALE
    error = _bounded(event.error)
    if event.counts:
        invocation = _counted(invocation, error)
    else:
        invocation = replace(invocation, last_failure=msgspec.msgpack.encode(error))
    started_at_ms = step.now_ms if event.started_at_ms is None else event.started_at_ms
    invocation = replace(invocation, last_start_at_ms=started_at_ms)
    if invocation.pause_requested or event.behavior == "pause":
        pause(step, invocation, error)  # whatever the SDK asks for: its next attempt may ask again
    elif event.behavior == "fail":
        _end_with_error(step, invocation, error)
    elif event.retry_after_ms is not None:
        record_event(step, invocation, "TransientError", error_event(error))
        _retry_in(step, invocation, event.retry_after_ms, error)
    else:
        _fail(step, invocation, error, event.policy, event.jitter)
    return Done()


def on_ended(step: Step, event: AttemptEnded) -> Reply:
    """The last Output command is the result."""
    invocation = current(step, event)
    if invocation is None:
        return STALE
    output = (
        None
        if invocation.output_index is None
        else step.get(Entry, invocation.number, invocation.output_index)
    )
    assert output is not None, "the session refuses an End without Output"
    finish(step, invocation, output_of(output))
    return Done()


def on_yielded(step: Step, event: AttemptYielded) -> Reply:
    """The invoker gave the attempt's place back: a failure of nobody."""
    invocation = current(step, event)
    if invocation is None:
        return STALE
    if invocation.pause_requested:
        pause(step, invocation, None)
    else:
        start(step, invocation)
    return Done()


def resume(step: Step, invocation: Invocation) -> None:
    """Attempt again with a fresh retry budget."""
    start(step, replace(invocation, policy_attempts=0, failures_since_command=0, last_failure=None))


def retry_now(step: Step, invocation: Invocation) -> None:
    """Cut a back-off short; its budget and delays go on where they were."""
    step.clear(Timer, invocation.number, "retry")
    start(step, invocation)


def retry_delay_ms(policy: RetryPolicy, attempt: int, jitter: int) -> int:
    """Delay after failed attempt number `attempt` (from 1); jitter 0..1000 is the event's.

    The first is the policy's interval, also where that is above the cap; each later one is the one
    before times the factor, capped. Plus 3 ms to 30 %; service-protocol.md 4.5.
    """
    cap = float(policy.interval_ms_max)
    delay = float(policy.interval_ms)
    for _ in range(min(attempt - 1, GROWTH_STEPS_MAX)):
        following = delay * policy.factor
        if not 0 <= following <= cap:
            following = cap
        if following == delay:
            break
        delay = following
    return int(delay + max(JITTER_MS_MIN, JITTER_SHARE * delay * jitter / 1000))


def _bounded(error: AttemptError) -> AttemptError:
    """The failure with texts of a length that rows and events can keep (M2)."""
    texts = (error.message, error.stacktrace, error.command_name or "")
    if max(map(len, texts)) <= ERROR_CHARS_MAX:
        return error
    message, stacktrace, cut_name = map(_cut, texts)
    name = None if error.command_name is None else cut_name
    return replace(error, message=message, stacktrace=stacktrace, command_name=name)


def _cut(text: str) -> str:
    left_out = len(text) - ERROR_CHARS_MAX
    return text if left_out <= 0 else f"{text[:ERROR_CHARS_MAX]}… ({left_out} more characters)"


def _counted(invocation: Invocation, error: AttemptError) -> Invocation:
    return replace(
        invocation,
        failures_since_command=invocation.failures_since_command + 1,
        last_failure=msgspec.msgpack.encode(error),
    )


def _fail(
    step: Step, invocation: Invocation, error: AttemptError, policy: RetryPolicy, jitter: int
) -> None:
    """Retry, pause or end, by the policy; a requested pause comes first."""
    if invocation.pause_requested:
        pause(step, invocation, error)
        return
    invocation = replace(invocation, policy_attempts=invocation.policy_attempts + 1)
    if policy.attempts_max is not None and invocation.policy_attempts >= policy.attempts_max:
        if policy.at_most == "kill":
            _end_with_error(step, invocation, error)
        else:
            pause(step, invocation, error)
        return
    record_event(step, invocation, "TransientError", error_event(error))
    _retry_in(step, invocation, retry_delay_ms(policy, invocation.policy_attempts, jitter), error)


def _retry_in(step: Step, invocation: Invocation, delay_ms: int, error: AttemptError) -> None:
    at_ms = min(step.now_ms + delay_ms, TIME_MS_MAX)
    waiting = replace(invocation, next_retry_at_ms=at_ms, modified_at_ms=step.now_ms)
    step.put(waiting)
    step.put(Timer(invocation.number, "retry", invocation.attempt, at_ms))
    step.emit(ArmTimer(at_ms))
    step.changed(
        waiting, "retrying", error=error.message, error_code=error.restate_code, at_ms=at_ms
    )


def _end_with_error(step: Step, invocation: Invocation, error: AttemptError) -> None:
    code = error.code if 0 <= error.code <= FAILURE_CODE_MAX else UNKNOWN_CODE
    finish(step, invocation, Failure(code, error.message), stacktrace=error.stacktrace)


def _impossible_await(
    step: Step, invocation: Invocation, awaiting: Await, *, is_ready: bool
) -> AttemptError | None:
    """Why nothing could ever resume this: no command has the id, or only own open runs (C05)."""
    only_open_runs = True
    for name in leaves(awaiting):
        if not name.startswith("c"):
            only_open_runs = only_open_runs and name == CANCEL_SIGNAL
            continue
        completion = step.get(Completion, invocation.number, int(name[1:]))
        if completion is None:
            return AttemptError(
                500,
                f"suspended on completion {name[1:]}, which no command of the journal has",
                AttemptCode.PROTOCOL_VIOLATION,
            )
        if completion.kind != "run" or completion.entry_index is not None:
            only_open_runs = False
    if not is_ready and only_open_runs and any(name != CANCEL_SIGNAL for name in leaves(awaiting)):
        return AttemptError(
            500,
            "suspended on the result of its own run, which only a new attempt can produce",
            AttemptCode.HANDLER,
        )
    return None
