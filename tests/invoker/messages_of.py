"""Builders of rows and wire messages for tests of sessions and attempts."""

from typing import Any

import pytest
from google.protobuf.message import Message as Body

from restated.invoker.checks import ProtocolViolationError
from restated.invoker.session import Session, SessionEvent
from restated.model.ids import invocation_id_of_raw
from restated.model.records import AttemptError, Invocation
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import frame

ID = invocation_id_of_raw(bytes(range(24)))
NOW_MS = 1_700_000_000_000


def invocation(**fields: Any) -> Invocation:
    defaults: dict[str, Any] = {
        "number": 1, "id": ID, "service": "Greeter", "object_key": None, "handler": "greet",
        "service_type": "service", "handler_type": "shared", "scope": "", "limit_key": None,
        "status": "invoked", "source": "ingress", "caller_id": None, "caller_target": None,
        "created_at_ms": NOW_MS, "modified_at_ms": NOW_MS, "random_seed": 7,
        "completion_retention_ms": 0, "journal_retention_ms": 0, "attempt": 1,
        "journal_length": 1, "command_count": 1, "last_entry_at_ms": NOW_MS,
    }  # fmt: skip
    return Invocation(**{**defaults, **fields})


def keyed(service_type: str = "virtual_object", handler_type: str = "exclusive") -> Invocation:
    return invocation(object_key="k", service_type=service_type, handler_type=handler_type)


def message(type_code: int, body: Body, *, ack: bool = False) -> bytes:
    return frame(type_code, body.SerializeToString(), requested_ack=ack)


def events_of(session: Session, data: bytes) -> list[SessionEvent]:
    session.receive(data)
    return list(iter(session.next_event, None))


def refusal_of(session: Session, data: bytes) -> AttemptError:
    with pytest.raises(ProtocolViolationError) as caught:
        events_of(session, data)
    return caught.value.error


OUTPUT = message(messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=pb.Value(content=b"1")))
END = message(messages.END, pb.EndMessage())
