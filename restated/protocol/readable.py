"""Journal entries and awaited futures as operators read them: names and JSON.

Lives here: what `sys_journal.entry_type`, `entry_json`, `entry_lite_json` and
`suspended_waiting_future_json` show.
Does not: bytes to messages (messages.py), which rows there are (store/views.py).

The lite form leaves payloads, headers and names out; web UI and CLI list journals with it.
Source: sql.md and journal_cases.json, which hold one of each kind.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec
from google.protobuf.message import DecodeError

from restated.model.ids import partition_key
from restated.model.records import Await, Combinator
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb

# Generated classes have no common supertype with fields: the table of messages knows which it is.
Body: TypeAlias = Any
Json = dict[str, Any] | list[Any] | str | int | msgspec.Raw | None

PAYLOAD_BYTES_MAX: Final = (
    4 * 1024 * 1024
)  # beyond it entry_json is null: it takes 4 characters a byte
_NUMBERS: Final = tuple(str(byte) for byte in range(256))

_COMBINATORS: Final[dict[Combinator, str]] = {
    "unknown": "Unknown",
    "first_completed": "FirstCompleted",
    "all_completed": "AllCompleted",
    "first_succeeded": "FirstSucceededOrAllFailed",
    "all_succeeded": "AllSucceededOrFirstFailed",
}


class Callee(msgspec.Struct, frozen=True):
    """The invocation that a Call or OneWayCall created; retentions are None once it is gone."""

    id: str | None = None
    service_type: str | None = None
    handler_type: str | None = None
    completion_retention_ms: int | None = None
    journal_retention_ms: int | None = None


def entry_type(code: int) -> str:
    """`Command: Sleep`, `Notification: Call`; the number itself for an unknown code."""
    message = messages.BY_CODE.get(code)
    return f"Unknown: {code}" if message is None else message.entry_type


def entry_json(code: int, payload: bytes, callee: str | None, facts: str | None) -> str | None:
    """Everything in the entry; None for one too large to be read, or that cannot be decoded.

    `facts`: service type, handler type and both retentions of the callee, separated by spaces.
    """
    if len(payload) > PAYLOAD_BYTES_MAX:
        return None
    return _entry(code, payload, _callee(callee, facts), is_lite=False)


def entry_lite_json(code: int, payload: bytes, callee: str | None, facts: str | None) -> str | None:
    """The entry without payloads; None if it cannot be decoded."""
    return _entry(code, payload, _callee(callee, facts), is_lite=True)


def completion_id_of_call(code: int, payload: bytes) -> int | None:
    """Under which completion the callee of a Call or OneWayCall is kept."""
    message = messages.BY_CODE.get(code)
    if message is None or code not in (messages.CALL_COMMAND, messages.ONE_WAY_CALL_COMMAND):
        return None
    try:
        body: Body = message.body.FromString(payload)
    except DecodeError:
        return None
    return int(body.invocation_id_notification_idx)


def awaited_json(tree: Await) -> str:
    """The future that a suspended invocation waits for; trees may be 1,000 levels deep."""
    parents_first: list[Await] = []
    stack = [tree]
    while stack:
        node = stack.pop()
        parents_first.append(node)
        stack.extend(node.nested)
    done: list[str] = []
    for node in reversed(parents_first):
        first = len(done) - len(node.nested)
        children = [msgspec.json.encode({"Single": _leaf(name)}).decode() for name in node.on]
        children += done[first:]
        del done[first:]
        done.append(f'{{"{_COMBINATORS[node.combinator]}":[{",".join(children)}]}}')
    return done[0]


def _leaf(name: str) -> Json:
    if name.startswith("n:"):
        return {"SignalName": name[2:]}
    return {"CompletionId" if name[0] == "c" else "SignalIndex": int(name[1:])}


def _callee(id_: str | None, facts: str | None) -> Callee:
    if facts is None:
        return Callee(id_)
    service_type, handler_type, completion_ms, journal_ms = facts.split(" ")
    return Callee(id_, service_type, handler_type, int(completion_ms), int(journal_ms))


def _entry(code: int, payload: bytes, callee: Callee, *, is_lite: bool) -> str | None:
    message = messages.BY_CODE.get(code)
    if message is None:
        return None
    try:
        body: Body = message.body.FromString(payload)
    except DecodeError:
        return None
    shown: Json
    if message.kind == "command":
        shown = {"Command": {message.name: _command(message.name, body, callee, is_lite=is_lite)}}
    elif is_lite:
        shown = {"Notification": _lite_notification(message, body)}
    else:
        shown = {"Notification": _notification(message, body)}
    return msgspec.json.encode(shown).decode()


# -- values


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _octets(raw: bytes) -> msgspec.Raw:
    numbers = _NUMBERS
    return msgspec.Raw(f"[{','.join([numbers[byte] for byte in raw])}]".encode())


def _failure(failure: pb.Failure) -> Json:
    shown: dict[str, Any] = {"code": failure.code, "message": failure.message}
    if failure.metadata:
        shown["metadata"] = [{"key": m.key, "value": m.value} for m in failure.metadata]
    return shown


def _result(body: Body, oneof: str, *, is_lite: bool = False) -> Json:
    which = body.WhichOneof(oneof)
    if which is None or which == "void":
        return "Void"
    if "failure" in which:
        return "Failure" if is_lite else {"Failure": _failure(getattr(body, which))}
    return "Success" if is_lite else {"Success": _octets(getattr(body, which).content)}


def _duration(milliseconds: int | None) -> Json:
    seconds, rest = divmod(milliseconds or 0, 1_000)
    return {"secs": seconds, "nanos": rest * 1_000_000}


# -- commands

_SPAN: Final[dict[str, Any]] = {
    "span_context": {
        "trace_id": [0] * 16, "span_id": [0] * 8, "trace_flags": 0, "is_remote": False,
        "trace_state": "",
    },
    "cause": None,
}  # fmt: skip


def _target(body: Body, callee: Callee) -> Json:
    scope = body.scope if body.HasField("scope") else None
    service_type = callee.service_type or ("virtual_object" if body.key else "service")
    if service_type == "service":
        return {"Service": {
            "name": body.service_name, "handler": body.handler_name, "scope": scope,
        }}  # fmt: skip
    kind = "Workflow" if service_type == "workflow" else "VirtualObject"
    return {kind: {
        "name": body.service_name, "key": body.key, "handler": body.handler_name,
        "handler_ty": (callee.handler_type or "exclusive").capitalize(), "scope": scope,
    }}  # fmt: skip


def _request(body: Body, callee: Callee, *, is_lite: bool) -> dict[str, Any]:
    named = {"invocation_id": callee.id, "invocation_target": _target(body, callee)}
    if is_lite:
        return named
    request = named | {
        "span_context": _SPAN,
        "parameter": _octets(body.parameter),
        "headers": [{"name": h.key, "value": h.value} for h in body.headers],
        "idempotency_key": body.idempotency_key if body.HasField("idempotency_key") else None,
        "completion_retention_duration": _duration(callee.completion_retention_ms),
        "journal_retention_duration": _duration(callee.journal_retention_ms),
    }
    return {"request": request}


def _attached(body: Body) -> Json:
    match body.WhichOneof("target"):
        case "invocation_id":
            return {"InvocationId": body.invocation_id}
        case "workflow_target":
            target = body.workflow_target
            return {"Workflow": {
                "service_name": target.workflow_name, "key": target.workflow_key,
                "partition_key": _place(target, target.workflow_name, target.workflow_key),
                "scope": target.scope or None,
            }}  # fmt: skip
        case _:
            target = body.idempotent_request_target
            key = target.service_key if target.HasField("service_key") else None
            return {"IdempotentRequest": {
                "service_name": target.service_name, "service_key": key,
                "service_handler": target.handler_name, "idempotency_key": target.idempotency_key,
                "scope": target.scope or None,
                "partition_key": _place(target, target.service_name, key, target.idempotency_key),
            }}  # fmt: skip


def _place(target: Body, service: str, key: str | None, idempotency_key: str | None = None) -> int:
    return partition_key(
        service=service, key=key, scope=target.scope, idempotency_key=idempotency_key, bucket=0
    )


def _signal_id(body: Body, oneof: str) -> Json:
    return {"Name": body.name} if body.WhichOneof(oneof) == "name" else {"Index": body.idx}


Shown = Callable[[Any, bool], dict[str, Any]]

_COMMANDS: Final[dict[str, Shown]] = {
    "Input": lambda b, lite: {} if lite else {
        "headers": [{"name": h.key, "value": h.value} for h in b.headers],
        "payload": _octets(b.value.content),
    },
    "Output": lambda b, lite: {"result": _result(b, "result", is_lite=lite)},
    "GetLazyState": lambda b, _: {
        "key": _text(b.key), "completion_id": b.result_completion_id,
    },
    "SetState": lambda b, lite: {"key": _text(b.key)} if lite else {
        "key": _text(b.key), "value": _octets(b.value.content),
    },
    "ClearState": lambda b, _: {"key": _text(b.key)},
    "ClearAllState": lambda _, __: {},
    "GetLazyStateKeys": lambda b, _: {"completion_id": b.result_completion_id},
    "GetEagerState": lambda b, lite: {
        "key": _text(b.key), "result": _result(b, "result", is_lite=lite),
    },
    "GetEagerStateKeys": lambda b, lite: {} if lite else {
        "state_keys": [_text(key) for key in b.value.keys],
    },
    "GetPromise": lambda b, _: {"key": b.key, "completion_id": b.result_completion_id},
    "PeekPromise": lambda b, _: {"key": b.key, "completion_id": b.result_completion_id},
    "CompletePromise": lambda b, lite: {
        "key": b.key,
        **({} if lite else {"value": _completion_value(b)}),
        "completion_id": b.result_completion_id,
    },
    "Sleep": lambda b, _: {
        "wake_up_time": b.wake_up_time, "completion_id": b.result_completion_id,
    },
    "SendSignal": lambda b, lite: {
        "target_invocation_id": b.target_invocation_id,
        "signal_id": _signal_id(b, "signal_id"),
        "result": _result(b, "result", is_lite=lite),
    },
    "Run": lambda b, _: {"completion_id": b.result_completion_id},
    "AttachInvocation": lambda b, _: {
        "target": _attached(b), "completion_id": b.result_completion_id,
    },
    "GetInvocationOutput": lambda b, _: {
        "target": _attached(b), "completion_id": b.result_completion_id,
    },
    "CompleteAwakeable": lambda b, lite: {
        "id": b.awakeable_id, "result": _result(b, "result", is_lite=lite),
    },
}  # fmt: skip


def _completion_value(body: pb.CompletePromiseCommandMessage) -> Json:
    if body.WhichOneof("completion") == "completion_failure":
        return {"Failure": _failure(body.completion_failure)}
    return {"Success": _octets(body.completion_value.content)}


def _command(name: str, body: Body, callee: Callee, *, is_lite: bool) -> dict[str, Any]:
    if name == "Call":
        shown = _request(body, callee, is_lite=is_lite) | {
            "invocation_id_completion_id": body.invocation_id_notification_idx,
            "result_completion_id": body.result_completion_id,
        }
    elif name == "OneWayCall":
        shown = _request(body, callee, is_lite=is_lite) | {
            "invoke_time": body.invoke_time,
            "invocation_id_completion_id": body.invocation_id_notification_idx,
        }
    else:
        shown = _COMMANDS[name](body, is_lite)
    if not is_lite or name == "Run":  # the name of a run is what tells one from another
        shown["name"] = body.entry_name if name == "SendSignal" else body.name
    return shown


# -- notifications


def _notification(message: messages.Message, body: pb.NotificationMessage) -> Json:
    if message.kind == "signal":
        return {"Signal": {"id": _signal_id(body, "id"), "result": _result(body, "result")}}
    shown: dict[str, Any] = {"completion_id": body.completion_id}
    match body.WhichOneof("result"):
        case "invocation_id":
            shown["invocation_id"] = body.invocation_id
        case "state_keys":
            shown["state_keys"] = [_text(key) for key in body.state_keys.keys]
        case _ if message.name != "Sleep":
            shown["result"] = _result(body, "result")
        case _:
            pass  # a sleep has nothing to say but that it is over
    return {"Completion": {message.name: shown}}


_LITE_RESULTS: Final = {
    "value": "Success", "failure": "Failure", "invocation_id": "InvocationId",
    "state_keys": "StateKeys",
}  # fmt: skip


def _lite_notification(message: messages.Message, body: pb.NotificationMessage) -> Json:
    ids = {"completion_id": "CompletionId", "idx": "SignalIndex", "name": "SignalName"}
    which = body.WhichOneof("id") or "completion_id"
    return {
        "ty": "Signal" if message.kind == "signal" else {"Completion": message.name},
        "id": {ids[which]: getattr(body, which)},
        "result": _LITE_RESULTS.get(body.WhichOneof("result") or "void", "Void"),
    }
