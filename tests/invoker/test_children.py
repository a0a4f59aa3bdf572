"""Targets of commands: the child of a call, the peer of everything else that names one."""

from typing import Any

import pytest
from google.protobuf.message import Message as Body
from msgspec.structs import replace

from restated.core.events import Invoke
from restated.engine.catalog import Catalog, LiveCatalog
from restated.invoker.checks import ProtocolViolationError
from restated.invoker.children import child_of, peer_of
from restated.invoker.session import CommandSent
from restated.model.ids import awakeable_id, invocation_id_for, random_seed_for
from restated.model.records import Target
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.invoker.messages_of import ID, NOW_MS, invocation
from tests.invoker.world import DAY_MS, deployment, registered_store

CALL = messages.CALL_COMMAND
SEND = messages.ONE_WAY_CALL_COMMAND


def catalog(**fields: Any) -> Catalog:
    live = LiveCatalog()
    live.load(registered_store(deployment(**fields)))
    return live.current


def sent(type_code: int, body: Body) -> CommandSent:
    return CommandSent(type_code, body.SerializeToString(), body, ack=False, index=4)


def call(service: str = "Greeter", handler: str = "greet", **fields: Any) -> CommandSent:
    body = pb.CallCommandMessage(
        service_name=service, handler_name=handler, parameter=b"x",
        invocation_id_notification_idx=1, result_completion_id=2, **fields,
    )  # fmt: skip
    return sent(CALL, body)


def send(service: str = "Greeter", handler: str = "greet", **fields: Any) -> CommandSent:
    body = pb.OneWayCallCommandMessage(service_name=service, handler_name=handler, **fields)
    return sent(SEND, body)


def child(command: CommandSent, **fields: Any) -> Invoke:
    return child_of(catalog(**fields), invocation(), command, NOW_MS, lambda count: b"\x07" * count)


def refusal(command: CommandSent, **fields: Any) -> ProtocolViolationError:
    with pytest.raises(ProtocolViolationError) as caught:
        child(command, **fields)
    return caught.value


def id_of(**fields: Any) -> str:
    defaults: dict[str, Any] = {
        "service": "Greeter", "handler": "greet", "handler_type": "shared", "key": None,
        "scope": "", "idempotency_key": None, "now_ms": NOW_MS, "entropy": b"\x07" * 12,
    }  # fmt: skip
    return invocation_id_for(**{**defaults, **fields})


def test_a_call_becomes_a_complete_invocation() -> None:
    """service-protocol.md 4.9; headers are the command's, duplicates kept (4.3)."""
    headers = [pb.Header(key="a", value="1"), pb.Header(key="a", value="2")]
    assert child(call(headers=headers)) == Invoke(
        id=id_of(),
        target=Target("Greeter", "greet", "service", "shared"),
        payload=b"x",
        headers=(("a", "1"), ("a", "2")),
        source="service",
        random_seed=random_seed_for(id_of()),
        completion_retention_ms=DAY_MS,
        journal_retention_ms=DAY_MS,
        caller=1,
        caller_id=ID,
        caller_target="Greeter/greet",
        caller_completion_id=2,
    )


def test_a_one_way_call_waits_for_nothing() -> None:
    """service-protocol.md 4.9."""
    made = child(send("Counter", "add", key="k"))
    assert made.target == Target("Counter", "add", "virtual_object", "exclusive", "k")
    assert (made.caller_completion_id, made.scheduled_for_ms) == (None, None)


def test_a_delayed_one_way_call_keeps_its_time() -> None:
    """service-protocol.md 4.9: a past time too, it goes through the timer."""
    assert child(send(invoke_time=5)).scheduled_for_ms == 5


def test_identity_comes_from_idempotency_key_or_workflow_key() -> None:
    """service-protocol.md 4.8."""
    assert child(call(idempotency_key="i")).id == id_of(idempotency_key="i")
    run = child(call("Flow", "run", key="w", idempotency_key="i"))
    assert run.id == id_of(service="Flow", handler="run", handler_type="workflow", key="w")
    assert run.idempotency_key == "i"


def test_a_keyed_callee_without_a_key_has_the_empty_one() -> None:
    """service-protocol.md 4.4."""
    assert child(call("Counter", "add")).target.key == ""


@pytest.mark.parametrize(
    ("command", "restate_code", "cause"),
    [
        (call("Nope", "x"), "RT0018", "the service handler Nope/x was not found"),
        (call("Greeter", "x"), "RT0018", "the service handler Greeter/x was not found"),
        (
            call(key="k"), "RT0017",
            "a key was provided, but the callee 'Greeter' is a Service. Only VirtualObjects or "
            "Workflows accept a key",
        ),
        (
            call(idempotency_key=""), "RT0017",
            "the idempotency key provided in the request is empty",
        ),
        (
            call(scope="s"), "RT0024",
            "scope and limit key need flow control, which this server does not have",
        ),
        (
            send(limit_key="s"), "RT0024",
            "scope and limit key need flow control, which this server does not have",
        ),
    ],
)  # fmt: skip
def test_refused_targets(command: CommandSent, restate_code: str, cause: str) -> None:
    """service-protocol.md 4.4: full message form, the command, the code."""
    violation = refusal(command)
    kind = "Call" if command.type == CALL else "OneWayCall"
    assert str(violation) == (
        f"cannot process command Command: {kind} (command index 4) because of a failed "
        f"precondition: {cause}"
    )
    assert violation.restate_code == restate_code
    assert violation.command == (4, command.type)


def test_a_deprecated_deployment_is_not_called() -> None:
    """service-protocol.md 4.4: RT0020."""
    violation = refusal(call(), protocol_version_min=1, protocol_version_max=4)
    assert violation.restate_code == "RT0020"


# -- peers


def test_most_commands_have_no_peer() -> None:
    """Nothing to resolve."""
    assert peer_of(sent(messages.SLEEP_COMMAND, pb.SleepCommandMessage())) is None


@pytest.mark.parametrize(
    ("type_code", "body", "expected"),
    [
        (
            messages.SEND_SIGNAL_COMMAND,
            pb.SendSignalCommandMessage(target_invocation_id=ID, idx=1, void=pb.Void()),
            ID,
        ),
        (
            messages.COMPLETE_AWAKEABLE_COMMAND,
            pb.CompleteAwakeableCommandMessage(awakeable_id=awakeable_id(ID, 17)),
            ID,
        ),
        (
            messages.ATTACH_INVOCATION_COMMAND,
            pb.AttachInvocationCommandMessage(invocation_id=ID),
            ID,
        ),
        (
            messages.GET_INVOCATION_OUTPUT_COMMAND,
            pb.GetInvocationOutputCommandMessage(
                idempotent_request_target=pb.IdempotentRequestTarget(
                    service_name="Counter", service_key="k", handler_name="add",
                    idempotency_key="i",
                )
            ),
            id_of(service="Counter", handler="add", key="k", idempotency_key="i"),
        ),
        (
            messages.ATTACH_INVOCATION_COMMAND,
            pb.AttachInvocationCommandMessage(
                workflow_target=pb.WorkflowTarget(workflow_name="Flow", workflow_key="w")
            ),
            id_of(service="Flow", handler="run", handler_type="workflow", key="w"),
        ),
    ],
)  # fmt: skip
def test_peers_are_resolved_to_ids(type_code: int, body: Body, expected: str) -> None:
    """service-protocol.md 4.8, 4.9."""
    assert peer_of(sent(type_code, body)) == expected


@pytest.mark.parametrize(
    ("type_code", "body", "restate_code"),
    [
        (
            messages.SEND_SIGNAL_COMMAND,
            pb.SendSignalCommandMessage(target_invocation_id="inv_1x", idx=1, void=pb.Void()),
            "RT0012",
        ),
        (
            messages.COMPLETE_AWAKEABLE_COMMAND,
            pb.CompleteAwakeableCommandMessage(awakeable_id="sign_1x"),
            "RT0012",
        ),
        (
            messages.COMPLETE_AWAKEABLE_COMMAND,
            pb.CompleteAwakeableCommandMessage(awakeable_id=awakeable_id(ID, 1)),
            "RT0012",
        ),
        (
            messages.COMPLETE_AWAKEABLE_COMMAND,
            pb.CompleteAwakeableCommandMessage(
                awakeable_id=awakeable_id(ID, 17).replace("sign_", "prom_")
            ),
            "RT0012",
        ),
        (
            messages.ATTACH_INVOCATION_COMMAND,
            pb.AttachInvocationCommandMessage(invocation_id="nonsense"),
            "RT0017",
        ),
        (
            messages.ATTACH_INVOCATION_COMMAND,
            pb.AttachInvocationCommandMessage(
                workflow_target=pb.WorkflowTarget(workflow_name="Flow", scope="s")
            ),
            "RT0024",
        ),
        (
            messages.ATTACH_INVOCATION_COMMAND,
            pb.AttachInvocationCommandMessage(
                idempotent_request_target=pb.IdempotentRequestTarget(service_name="Greeter")
            ),
            "RT0017",
        ),
    ],
)
def test_refused_peers(type_code: int, body: Body, restate_code: str) -> None:
    """service-protocol.md 4.4."""
    with pytest.raises(ProtocolViolationError) as caught:
        peer_of(sent(type_code, body))
    assert caught.value.restate_code == restate_code
    assert caught.value.command == (4, type_code)


def test_a_child_remembers_the_trace_of_its_caller() -> None:
    """Traces follow calls."""
    caller = replace(invocation(), trace_parent="00-a-b-01")
    made = child_of(catalog(), caller, call(), NOW_MS, bytes)
    assert made.trace_parent == "00-a-b-01"
