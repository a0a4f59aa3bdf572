"""A handler issued a command.

Lives here: one function for each command type, and the table that names them.
Does not: validation (invoker/checks: a command that arrives here is allowed), replay.
Rules: B6 each command's effect is applied once, in the transaction that stores it; the notification
that it causes at once stands right behind it; state-machine.md 5.
"""

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from restated.core.accept import TIME_MS_MAX
from restated.core.effects import AckCommand, ArmTimer, Done, Ignored, Reply
from restated.core.events import Attach, CommandReceived, Result, Signal
from restated.core.journal import (
    append,
    expect,
    notification,
    settle,
    state_keys,
)
from restated.core.pausing import COMMAND_ENTRIES, has_room, stop_full
from restated.core.pieces import answer_all
from restated.core.view import Step, current
from restated.model.ids import parse_awakeable_id
from restated.model.records import (
    PROMISE_ALREADY_COMPLETED,
    CompletionKind,
    Failure,
    Invocation,
    Outcome,
    Promise,
    PromiseWaiter,
    StateValue,
    Timer,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.failures import failure_of, wire_failure


def on_command(step: Step, event: CommandReceived) -> Reply:
    """Store a command and apply what it means."""
    invocation = current(step, event)
    if invocation is None:
        return Ignored("stale attempt")
    if not has_room(step, invocation, COMMAND_ENTRIES):
        stop_full(step, invocation)
        return Ignored("the journal is full")
    command_index = invocation.command_count
    invocation = append(
        step,
        replace(
            invocation,
            command_count=command_index + 1,
            failures_since_command=0,
            last_failure=None,  # this attempt came further
        ),
        event.type,
        event.payload,
        _name(event),
    )
    COMMANDS[event.type](step, invocation, event)
    if event.ack:
        step.emit(AckCommand(event.number, event.attempt, command_index))
    if step.observed:
        step.changed(
            invocation, "command", type=messages.BY_CODE[event.type].name, index=command_index
        )
    return Done()


def _name(event: CommandReceived) -> str | None:
    body = event.body
    if isinstance(body, pb.SendSignalCommandMessage):
        return body.entry_name or None
    name = getattr(body, "name", "")  # every other command has the field
    return name or None


# -- output


def on_output(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Note where the result is; it becomes the result at the end of the attempt."""
    step.put(replace(invocation, output_index=invocation.journal_length - 1))


# -- state


def on_get_lazy_state(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Read one state entry."""
    body = event.body
    assert isinstance(body, pb.GetLazyStateCommandMessage)
    row = step.get(StateValue, *invocation.lock_key, body.key.decode())
    result = None if row is None else row.value
    _settle_now(step, invocation, body.result_completion_id, "state", notification(result))


def on_get_lazy_state_keys(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Read the names of all state entries, sorted."""
    body = event.body
    assert isinstance(body, pb.GetLazyStateKeysCommandMessage)
    names = [row.name for row in step.scan(StateValue, *invocation.lock_key)]
    _settle_now(step, invocation, body.result_completion_id, "state_keys", state_keys(names))


def on_set_state(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Write one state entry; shared handlers see it from now on."""
    body = event.body
    assert isinstance(body, pb.SetStateCommandMessage)
    step.put(StateValue(*invocation.lock_key, body.key.decode(), body.value.content))


def on_clear_state(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Remove one state entry."""
    body = event.body
    assert isinstance(body, pb.ClearStateCommandMessage)
    step.delete(StateValue, *invocation.lock_key, body.key.decode())


def on_clear_all_state(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Remove the whole state of the key."""
    step.clear(StateValue, *invocation.lock_key)


def on_stored_only(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Eager reads: the handler answered itself; the entry is kept for the replay."""


# -- promises


def on_get_promise(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Wait for a durable promise, or get it now."""
    body = event.body
    assert isinstance(body, pb.GetPromiseCommandMessage)
    key = (*invocation.lock_key, body.key)
    promise = step.get(Promise, *key)
    if promise is None:
        expect(step, invocation, body.result_completion_id, "promise")
        step.put(PromiseWaiter(*key, invocation.number, body.result_completion_id))
        return
    result = notification(_promise_result(promise))
    _settle_now(step, invocation, body.result_completion_id, "promise", result)


def on_peek_promise(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Look at a durable promise; void while it is open."""
    body = event.body
    assert isinstance(body, pb.PeekPromiseCommandMessage)
    promise = step.get(Promise, *invocation.lock_key, body.key)
    result = None if promise is None else _promise_result(promise)
    _settle_now(step, invocation, body.result_completion_id, "peek", notification(result))


def on_complete_promise(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Settle a durable promise; the first one wins, later ones are told (P1)."""
    body = event.body
    assert isinstance(body, pb.CompletePromiseCommandMessage)
    key = (*invocation.lock_key, body.key)
    result: Outcome
    if step.get(Promise, *key) is not None:
        answer = pb.NotificationMessage(failure=wire_failure(PROMISE_ALREADY_COMPLETED))
    else:
        answer = notification(None)
        if body.HasField("completion_failure"):
            failure = failure_of(body.completion_failure)
            step.put(Promise(*key, None, msgspec.msgpack.encode(failure)))
            result = failure
        else:
            step.put(Promise(*key, body.completion_value.content))
            result = body.completion_value.content
        waiters = [(row.caller, row.completion_id) for row in step.scan(PromiseWaiter, *key)]
        answer_all(step, waiters, result)
        step.clear(PromiseWaiter, *key)
    _settle_now(step, invocation, body.result_completion_id, "complete_promise", answer)


def _promise_result(promise: Promise) -> bytes | Failure:
    if promise.value is not None:
        return promise.value
    assert promise.failure is not None
    return msgspec.msgpack.decode(promise.failure, type=Failure)


# -- time, runs


def on_sleep(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Store the deadline; a past one fires at once."""
    body = event.body
    assert isinstance(body, pb.SleepCommandMessage)
    at_ms = min(body.wake_up_time, TIME_MS_MAX)
    expect(step, invocation, body.result_completion_id, "sleep")
    step.put(Timer(invocation.number, "sleep", body.result_completion_id, at_ms))
    step.emit(ArmTimer(at_ms))


def on_run(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """The handler executes; its proposal completes the run."""
    body = event.body
    assert isinstance(body, pb.RunCommandMessage)
    expect(step, invocation, body.result_completion_id, "run")


# -- other invocations


def on_call(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Invoke another handler and wait for its end."""
    body = event.body
    assert isinstance(body, pb.CallCommandMessage)
    assert event.child is not None
    _tell_child_id(step, invocation, body.invocation_id_notification_idx, event.child.id)
    expect(step, invocation, body.result_completion_id, "call", event.child.id)
    step.send(event.child)


def on_one_way_call(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Invoke another handler, now or later, and go on."""
    body = event.body
    assert isinstance(body, pb.OneWayCallCommandMessage)
    assert event.child is not None
    _tell_child_id(step, invocation, body.invocation_id_notification_idx, event.child.id)
    step.send(event.child)


def on_send_signal(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Signal another invocation; index 1 cancels it. The sender always succeeds."""
    body = event.body
    assert isinstance(body, pb.SendSignalCommandMessage)
    assert event.peer is not None
    name = f"s{body.idx}" if body.HasField("idx") else f"n:{body.name}"
    result: Result = None
    if body.HasField("value"):
        result = body.value.content
    elif body.HasField("failure"):
        result = failure_of(body.failure)
    step.send(Signal(event.peer, name, result))


def on_complete_awakeable(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Complete an awakeable of another invocation."""
    body = event.body
    assert isinstance(body, pb.CompleteAwakeableCommandMessage)
    awakeable = parse_awakeable_id(body.awakeable_id)
    result: Result = failure_of(body.failure) if body.HasField("failure") else body.value.content
    step.send(Signal(awakeable.invocation_id, f"s{awakeable.index}", result))


def on_attach(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Wait for the end of another invocation."""
    body = event.body
    assert isinstance(body, pb.AttachInvocationCommandMessage)
    assert event.peer is not None
    expect(step, invocation, body.result_completion_id, "attach")
    step.send(Attach(event.peer, invocation.number, body.result_completion_id, wait=True))


def on_get_output(step: Step, invocation: Invocation, event: CommandReceived) -> None:
    """Look at the end of another invocation; void while it runs."""
    body = event.body
    assert isinstance(body, pb.GetInvocationOutputCommandMessage)
    assert event.peer is not None
    expect(step, invocation, body.result_completion_id, "output")
    step.send(Attach(event.peer, invocation.number, body.result_completion_id, wait=False))


def _tell_child_id(
    step: Step, invocation: Invocation, completion_id: int, child_id: str
) -> Invocation:
    completion = expect(step, invocation, completion_id, "call_id", child_id)
    answer = pb.NotificationMessage(invocation_id=child_id)
    return settle(step, invocation, completion, answer)


def _settle_now(
    step: Step,
    invocation: Invocation,
    completion_id: int,
    kind: CompletionKind,
    answer: pb.NotificationMessage,
) -> Invocation:
    return settle(step, invocation, expect(step, invocation, completion_id, kind), answer)


OnCommand = Callable[[Step, Invocation, CommandReceived], None]

COMMANDS: dict[int, OnCommand] = {
    messages.OUTPUT_COMMAND: on_output,
    messages.GET_LAZY_STATE_COMMAND: on_get_lazy_state,
    messages.SET_STATE_COMMAND: on_set_state,
    messages.CLEAR_STATE_COMMAND: on_clear_state,
    messages.CLEAR_ALL_STATE_COMMAND: on_clear_all_state,
    messages.GET_LAZY_STATE_KEYS_COMMAND: on_get_lazy_state_keys,
    messages.GET_EAGER_STATE_COMMAND: on_stored_only,
    messages.GET_EAGER_STATE_KEYS_COMMAND: on_stored_only,
    messages.GET_PROMISE_COMMAND: on_get_promise,
    messages.PEEK_PROMISE_COMMAND: on_peek_promise,
    messages.COMPLETE_PROMISE_COMMAND: on_complete_promise,
    messages.SLEEP_COMMAND: on_sleep,
    messages.CALL_COMMAND: on_call,
    messages.ONE_WAY_CALL_COMMAND: on_one_way_call,
    messages.SEND_SIGNAL_COMMAND: on_send_signal,
    messages.RUN_COMMAND: on_run,
    messages.ATTACH_INVOCATION_COMMAND: on_attach,
    messages.GET_INVOCATION_OUTPUT_COMMAND: on_get_output,
    messages.COMPLETE_AWAKEABLE_COMMAND: on_complete_awakeable,
}
