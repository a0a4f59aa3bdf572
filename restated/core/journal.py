"""The journal of an invocation: appending entries, settling its own commands.

Lives here: `append`, open commands (`expect`), their completion (`settle`), wire form of outcomes.
Does not: what a command does (commands.py), who wakes up (notifications.py).
Rules: B4 indices are contiguous and a completion is attached once; notifications reach the live
attempt as effects, in journal order, after the commit.
"""

import json
from collections.abc import Sequence

from msgspec.structs import replace

from restated.core.effects import PAYLOAD_BYTES_MAX, PushNotification
from restated.core.events import Result
from restated.core.view import Step
from restated.model.records import (
    AttemptError,
    Await,
    Completion,
    CompletionKind,
    Entry,
    Failure,
    Invocation,
    JournalEvent,
    JournalEventKind,
    Outcome,
    Polarity,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.failures import failure_of, wire_failure
from restated.protocol.readable import awaited_json
from restated.protocol.spliced import LARGE_BYTES, around, inside

NOTIFICATION_VALUE = (5, 1)  # the fields around the content of NotificationMessage
OUTPUT_VALUE = (14, 1)  # and of OutputCommandMessage

COMPLETION_TYPES: dict[CompletionKind, int] = {
    message.completion: message.code
    for message in messages.MESSAGES
    if message.completion is not None
}


def append(
    step: Step, invocation: Invocation, type_code: int, payload: bytes, name: str | None = None
) -> Invocation:
    """Add the next journal entry, for which there is room; the invocation as stored now."""
    assert invocation.journal_length < step.entries_max, "M2: the packed key has no room for more"
    step.put(
        Entry(invocation.number, invocation.journal_length, type_code, payload, step.now_ms, name)
    )
    changed = replace(
        invocation,
        journal_length=invocation.journal_length + 1,
        last_entry_at_ms=step.now_ms,
        modified_at_ms=step.now_ms,
    )
    step.put(changed)
    return changed


def notify(step: Step, invocation: Invocation, type_code: int, payload: bytes) -> Invocation:
    """Append a notification and forward it to the live attempt, if there is one."""
    index = invocation.journal_length
    changed = append(step, invocation, type_code, payload)
    if changed.status == "invoked":
        told = payload if len(payload) < PAYLOAD_BYTES_MAX else None
        step.emit(PushNotification(changed.number, changed.attempt, index, type_code, told))
    return changed


def expect(
    step: Step,
    invocation: Invocation,
    completion_id: int,
    kind: CompletionKind,
    callee: str | None = None,
) -> Completion:
    """Note that the command just appended will be completed."""
    completion = Completion(
        invocation.number, completion_id, invocation.journal_length - 1, kind, callee=callee
    )
    step.put(completion)
    return completion


def settle(
    step: Step, invocation: Invocation, completion: Completion, result: pb.NotificationMessage
) -> Invocation:
    """Complete an open command. The caller has checked that it is open."""
    result.completion_id = completion.completion_id
    polarity: Polarity = "failure" if result.HasField("failure") else "success"
    return _settle(step, invocation, completion, result.SerializeToString(), polarity)


def settle_with(
    step: Step, invocation: Invocation, completion: Completion, result: Result
) -> Invocation:
    """Complete an open command with what a run, a callee or a promise gave."""
    if isinstance(result, bytes) and len(result) >= LARGE_BYTES:
        head = pb.NotificationMessage(completion_id=completion.completion_id).SerializeToString()
        payload = around(head, NOTIFICATION_VALUE, result)
        return _settle(step, invocation, completion, payload, "success")
    return settle(step, invocation, completion, notification(result))


def _settle(
    step: Step, invocation: Invocation, completion: Completion, payload: bytes, polarity: Polarity
) -> Invocation:
    assert completion.entry_index is None, "B4: a completion is attached once"
    index = invocation.journal_length
    changed = notify(step, invocation, COMPLETION_TYPES[completion.kind], payload)
    step.put(replace(completion, entry_index=index, polarity=polarity))
    return changed


def notification(result: Result) -> pb.NotificationMessage:
    """The wire form of a result: value, failure or void; its id is filled by the caller."""
    if result is None:
        return pb.NotificationMessage(void=pb.Void())
    if isinstance(result, Failure):
        return pb.NotificationMessage(failure=wire_failure(result))
    return pb.NotificationMessage(value=pb.Value(content=result))


def output_of(entry: Entry) -> Outcome:
    """What an Output command says."""
    if len(entry.payload) >= LARGE_BYTES:
        value = inside(entry.payload, OUTPUT_VALUE)
        if value is not None:
            return value
    output = pb.OutputCommandMessage.FromString(entry.payload)
    if output.HasField("failure"):
        return failure_of(output.failure)
    return output.value.content


def record_event(
    step: Step, invocation: Invocation, kind: JournalEventKind, payload: dict[str, object]
) -> None:
    """Keep an event that operators see and SDKs never do; a repeated error is not kept (C75)."""
    encoded = json.dumps({"ty": kind, **payload}, separators=(",", ":")).encode()
    _put_event(step, invocation, kind, encoded)


def record_suspension(step: Step, invocation: Invocation, awaiting: Await) -> None:
    """Keep what an attempt of protocol version 7 suspended on, as the reference does."""
    encoded = f'{{"ty":"Suspended","awaiting_on":{awaited_json(awaiting)}}}'.encode()
    _put_event(step, invocation, "Suspended", encoded)


def _put_event(step: Step, invocation: Invocation, kind: JournalEventKind, encoded: bytes) -> None:
    newest = _newest_event(step, invocation)
    is_repeated = newest is not None and newest.kind == kind and newest.payload == encoded
    if is_repeated and kind == "TransientError":
        return
    step.put(
        JournalEvent(
            invocation.number,
            # At the bound the newest makes way: a packed key must stay the invocation's own (M2).
            0 if newest is None else min(newest.index + 1, step.entries_max - 1),
            step.now_ms,
            kind,
            encoded,
            invocation.journal_length - 1,
        )
    )


def error_event(error: AttemptError) -> dict[str, object]:
    """An attempt's failure as journal events show it; absent members are left out."""
    event: dict[str, object] = {"error_code": error.code, "error_message": error.message}
    if error.stacktrace:
        event["error_stacktrace"] = error.stacktrace
    event["restate_doc_error_code"] = error.restate_code
    if error.command_index is not None:
        event["related_command_index"] = error.command_index
    if error.command_name is not None:
        event["related_command_name"] = error.command_name
    if error.command_type is not None:
        event["related_command_type"] = messages.BY_CODE[error.command_type].name
    return event


def state_keys(names: Sequence[str]) -> pb.NotificationMessage:
    """The wire form of a list of state keys."""
    return pb.NotificationMessage(state_keys=pb.StateKeys(keys=[name.encode() for name in names]))


def _newest_event(step: Step, invocation: Invocation) -> JournalEvent | None:
    """Found by doubling and halving: a handler may have failed very often."""
    first = step.get(JournalEvent, invocation.number, 0)
    if first is None:
        return None
    newest, span = first, 1
    while (event := step.get(JournalEvent, invocation.number, newest.index + span)) is not None:
        newest, span = event, span * 2
    while span > 1:
        span //= 2
        event = step.get(JournalEvent, invocation.number, newest.index + span)
        newest = newest if event is None else event
    return newest
