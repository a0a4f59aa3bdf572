"""Entries as operators read them, for what the recorded journals do not hold (sql.md)."""

import json

import pytest
from google.protobuf.message import Message

from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.readable import (
    PAYLOAD_BYTES_MAX,
    completion_id_of_call,
    entry_json,
    entry_lite_json,
    entry_type,
)

CALL = pb.CallCommandMessage(
    service_name="S", handler_name="h", key="k", parameter=b"\x01",
    headers=[pb.Header(key="a", value="b")], idempotency_key="once",
    invocation_id_notification_idx=3, result_completion_id=4,
)  # fmt: skip


def shown(code: int, body: Message, callee: str | None = None, facts: str | None = None) -> object:
    text = entry_json(code, body.SerializeToString(), callee, facts)
    assert text is not None
    return json.loads(text)


@pytest.mark.parametrize(
    ("facts", "kind", "handler_type"),
    [
        ("virtual_object exclusive 1500 0", "VirtualObject", "Exclusive"),
        ("virtual_object shared 1500 0", "VirtualObject", "Shared"),
        ("workflow workflow 1500 0", "Workflow", "Workflow"),
        (None, "VirtualObject", "Exclusive"),
    ],
)
def test_the_target_of_a_call_is_what_its_callee_says(
    facts: str | None, kind: str, handler_type: str
) -> None:
    """The command names service, key and handler; the type is known from the callee's row."""
    text = entry_lite_json(messages.CALL_COMMAND, CALL.SerializeToString(), "inv_1", facts)
    assert text is not None
    assert json.loads(text)["Command"]["Call"] == {
        "invocation_id": "inv_1",
        "invocation_target": {
            kind: {
                "name": "S", "key": "k", "handler": "h", "handler_ty": handler_type, "scope": None,
            }
        },
        "invocation_id_completion_id": 3,
        "result_completion_id": 4,
    }  # fmt: skip


def test_a_call_with_everything() -> None:
    """Headers, idempotency key, retentions in seconds and nanoseconds."""
    call = shown(messages.CALL_COMMAND, CALL, "inv_1", "virtual_object exclusive 1500 0")
    assert isinstance(call, dict)
    request = call["Command"]["Call"]["request"]
    assert request["parameter"] == [1]
    assert request["headers"] == [{"name": "a", "value": "b"}]
    assert request["idempotency_key"] == "once"
    assert request["completion_retention_duration"] == {"secs": 1, "nanos": 500_000_000}
    assert request["journal_retention_duration"] == {"secs": 0, "nanos": 0}


def test_failures_and_named_signals() -> None:
    """Metadata is shown where there is some; a signal by name."""
    failure = pb.Failure(
        code=500, message="late", metadata=[pb.FailureMetadata(key="a", value="b")]
    )
    body = pb.SendSignalCommandMessage(
        target_invocation_id="inv_1", name="go", failure=failure, entry_name="ring"
    )
    assert shown(messages.SEND_SIGNAL_COMMAND, body) == {
        "Command": {
            "SendSignal": {
                "target_invocation_id": "inv_1",
                "signal_id": {"Name": "go"},
                "result": {
                    "Failure": {
                        "code": 500,
                        "message": "late",
                        "metadata": [{"key": "a", "value": "b"}],
                    }
                },
                "name": "ring",
            }
        }
    }


@pytest.mark.parametrize("message", [m for m in messages.MESSAGES if m.is_journaled])
def test_every_kind_of_entry_is_shown(message: messages.Message) -> None:
    """A new message type must not be forgotten here."""
    assert message.name in (entry_json(message.code, b"", None, None) or "")
    assert message.name in (entry_lite_json(message.code, b"", None, None) or "")
    assert entry_type(message.code) == message.entry_type


def test_what_cannot_be_read_is_null_and_breaks_nothing() -> None:
    """A journal of a later version, or a broken one: the other columns still answer."""
    assert entry_json(messages.SLEEP_COMMAND, b"\xff", None, None) is None
    assert entry_lite_json(0x0999, b"", None, None) is None
    assert entry_type(0x0999) == "Unknown: 2457"
    assert completion_id_of_call(messages.CALL_COMMAND, b"\xff") is None
    assert completion_id_of_call(messages.SLEEP_COMMAND, b"") is None


def test_a_payload_too_large_to_be_read_is_left_out() -> None:
    """It would take four characters a byte; the lite form still shows the entry."""
    body = pb.OutputCommandMessage(value=pb.Value(content=bytes(PAYLOAD_BYTES_MAX)))
    payload = body.SerializeToString()
    assert entry_json(messages.OUTPUT_COMMAND, payload, None, None) is None
    lite = '{"Command":{"Output":{"result":"Success"}}}'
    assert entry_lite_json(messages.OUTPUT_COMMAND, payload, None, None) == lite


def test_what_is_attached_to_is_shown_with_its_place() -> None:
    """sql.md: the target's partition key and scope, as the reference shows them [seen]."""
    run = pb.AttachInvocationCommandMessage(
        workflow_target=pb.WorkflowTarget(workflow_name="F", workflow_key="w1"),
        result_completion_id=1,
    )
    request = pb.GetInvocationOutputCommandMessage(
        idempotent_request_target=pb.IdempotentRequestTarget(
            service_name="IngSvc", handler_name="h", idempotency_key="k1"
        ),
        result_completion_id=2,
    )
    assert shown(messages.ATTACH_INVOCATION_COMMAND, run) == {
        "Command": {"AttachInvocation": {
            "target": {"Workflow": {
                "service_name": "F", "key": "w1", "partition_key": 0x5164C775648D211B,
                "scope": None,
            }},
            "completion_id": 1, "name": "",
        }}
    }  # fmt: skip
    assert shown(messages.GET_INVOCATION_OUTPUT_COMMAND, request) == {
        "Command": {"GetInvocationOutput": {
            "target": {"IdempotentRequest": {
                "service_name": "IngSvc", "service_key": None, "service_handler": "h",
                "idempotency_key": "k1", "scope": None, "partition_key": 0x3B71E8E8E89CA0A3,
            }},
            "completion_id": 2, "name": "",
        }}
    }  # fmt: skip
