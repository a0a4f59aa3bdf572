"""Whom a command is about: the child of a call, the peer of a signal, an attach, an awakeable.

Lives here: resolving targets through the catalog into a complete `Invoke`, deriving peers' ids,
every refusal that this can end in.
Does not: what a service type may do (checks.py), what happens to child or peer (core/).
Source: service-protocol.md 4.4, 4.8, 4.9. Nothing is stored of a command that is refused here.
"""

from collections.abc import Callable
from typing import Final

from google.protobuf.message import Message as Body

from restated.core.events import Invoke
from restated.engine.catalog import (
    PROTOCOL_VERSION_MIN,
    Catalog,
    HandlerEntry,
    ServiceEntry,
    retentions_ms,
)
from restated.invoker.checks import ProtocolViolationError, precondition_error
from restated.invoker.session import CommandSent
from restated.model.errors import AttemptCode
from restated.model.ids import (
    INVOCATION_ENTROPY_BYTES,
    IdError,
    invocation_id_for,
    parse_awakeable_id,
    random_seed_for,
    raw_invocation_id,
)
from restated.model.records import Invocation, Target
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb

CHILD_COMMANDS: Final = frozenset({messages.CALL_COMMAND, messages.ONE_WAY_CALL_COMMAND})
SIGNALS_RESERVED: Final = 17  # 1 is cancel, 2 to 16 are reserved: no awakeable has them


def child_of(
    catalog: Catalog,
    caller: Invocation,
    command: CommandSent,
    now_ms: int,
    entropy: Callable[[int], bytes],
) -> Invoke:
    """The invocation that a Call or OneWayCall makes; raises ProtocolViolationError."""
    body = command.body
    assert isinstance(body, pb.CallCommandMessage | pb.OneWayCallCommandMessage)
    service, handler = _resolve(catalog, command, body)
    idempotency_key = body.idempotency_key if body.HasField("idempotency_key") else None
    if idempotency_key == "":
        cause = "the idempotency key provided in the request is empty"
        raise precondition_error(command.type, command.index, cause)
    target = Target(
        service.name,
        handler.handler.name,
        service.type,
        handler.handler.type,
        body.key if service.is_keyed else None,
    )
    child_id = invocation_id_for(
        service=target.service,
        handler=target.handler,
        handler_type=target.handler_type,
        key=target.key,
        scope="",
        idempotency_key=idempotency_key,
        now_ms=now_ms,
        entropy=entropy(INVOCATION_ENTROPY_BYTES),
    )
    completion_retention_ms, journal_retention_ms = retentions_ms(
        handler,
        is_workflow_run=target.handler_type == "workflow",
        has_idempotency_key=idempotency_key is not None,
    )
    return Invoke(
        id=child_id,
        target=target,
        payload=body.parameter,
        headers=tuple((header.key, header.value) for header in body.headers),
        source="service",
        random_seed=random_seed_for(child_id),
        completion_retention_ms=completion_retention_ms,
        journal_retention_ms=journal_retention_ms,
        idempotency_key=idempotency_key,
        scheduled_for_ms=_time_of(body),
        caller=caller.number,
        caller_id=caller.id,
        caller_target=caller.target.text(),
        caller_completion_id=_completion_id_of(body),
        trace_parent=caller.trace_parent,
    )


def peer_of(command: CommandSent) -> str | None:
    """The invocation that a command addresses, None for most; raises ProtocolViolationError."""
    resolve = _PEERS.get(command.type)
    return None if resolve is None else resolve(command, command.body)


def _resolve(
    catalog: Catalog,
    command: CommandSent,
    body: pb.CallCommandMessage | pb.OneWayCallCommandMessage,
) -> tuple[ServiceEntry, HandlerEntry]:
    type_code, index = command.type, command.index
    if body.scope or body.limit_key:
        cause = "scope and limit key need flow control, which this server does not have"
        raise precondition_error(type_code, index, cause, AttemptCode.FLOW_CONTROL)
    service = catalog.services.get(body.service_name)
    handler = None if service is None else service.handlers.get(body.handler_name)
    if service is None or handler is None:
        cause = f"the service handler {body.service_name}/{body.handler_name} was not found"
        raise precondition_error(type_code, index, cause, AttemptCode.TARGET_NOT_FOUND)
    if service.deployment.protocol_version_max < PROTOCOL_VERSION_MIN:
        cause = (
            f"the service {service.name} is served by deployment {service.deployment.id}, whose "
            "protocol versions are no longer supported; register it with a newer SDK"
        )
        raise precondition_error(type_code, index, cause, AttemptCode.DEPRECATED_DEPLOYMENT)
    if body.key and not service.is_keyed:
        cause = (
            f"a key was provided, but the callee '{service.name}' is a Service. "
            "Only VirtualObjects or Workflows accept a key"
        )
        raise precondition_error(type_code, index, cause)
    return service, handler


def _time_of(body: pb.CallCommandMessage | pb.OneWayCallCommandMessage) -> int | None:
    if isinstance(body, pb.CallCommandMessage):
        return None
    return body.invoke_time or None  # 0 is now; a past time goes through its timer as well


def _completion_id_of(body: pb.CallCommandMessage | pb.OneWayCallCommandMessage) -> int | None:
    return body.result_completion_id if isinstance(body, pb.CallCommandMessage) else None


def _peer_of_signal(command: CommandSent, body: Body) -> str:
    assert isinstance(body, pb.SendSignalCommandMessage)
    target = body.target_invocation_id
    try:
        raw_invocation_id(target)
    except IdError as error:
        raise _unreadable(command, f"target_invocation_id '{target}': {error}") from error
    return target


def _peer_of_awakeable(command: CommandSent, body: Body) -> str:
    assert isinstance(body, pb.CompleteAwakeableCommandMessage)
    text = body.awakeable_id
    try:
        awakeable = parse_awakeable_id(text)
    except IdError as error:
        raise _unreadable(command, f"awakeable_id '{text}': {error}") from error
    if awakeable.is_old or awakeable.index < SIGNALS_RESERVED:
        raise _unreadable(command, f"awakeable_id '{text}': it is no awakeable of this server")
    return awakeable.invocation_id


def _peer_of_target(command: CommandSent, body: Body) -> str:
    assert isinstance(
        body, pb.AttachInvocationCommandMessage | pb.GetInvocationOutputCommandMessage
    )
    match body.WhichOneof("target"):
        case "invocation_id":
            try:
                raw_invocation_id(body.invocation_id)
            except IdError as error:
                cause = f"invalid invocation id '{body.invocation_id}': {error}"
                raise precondition_error(command.type, command.index, cause) from error
            return body.invocation_id
        case "idempotent_request_target":
            target = body.idempotent_request_target
            return _derived_id(
                command,
                Target(
                    target.service_name,
                    target.handler_name,
                    "service",
                    "shared",
                    target.service_key if target.HasField("service_key") else None,
                    target.scope,
                ),
                target.idempotency_key,
            )
        case _:
            workflow = body.workflow_target
            return _derived_id(
                command,
                Target(
                    workflow.workflow_name, "", "workflow", "workflow",
                    workflow.workflow_key, workflow.scope,
                ),
                None,
            )  # fmt: skip


def _derived_id(command: CommandSent, target: Target, idempotency_key: str | None) -> str:
    """The id that an identity hashes to; `target` needs no more than what is hashed."""
    if target.scope:
        cause = "a scope needs flow control, which this server does not have"
        raise precondition_error(command.type, command.index, cause, AttemptCode.FLOW_CONTROL)
    if idempotency_key == "":
        cause = "the idempotency key provided in the request is empty"
        raise precondition_error(command.type, command.index, cause)
    return invocation_id_for(
        service=target.service,
        handler=target.handler,
        handler_type=target.handler_type,
        key=target.key,
        scope="",
        idempotency_key=idempotency_key,
        now_ms=0,
        entropy=bytes(INVOCATION_ENTROPY_BYTES),  # not part of a derived id
    )


def _unreadable(command: CommandSent, what: str) -> ProtocolViolationError:
    return ProtocolViolationError(
        f"malformed {messages.BY_CODE[command.type].full_name}Message, {what}",
        command=(command.index, command.type),
    )


_PEERS: Final[dict[int, Callable[[CommandSent, Body], str]]] = {
    messages.SEND_SIGNAL_COMMAND: _peer_of_signal,
    messages.COMPLETE_AWAKEABLE_COMMAND: _peer_of_awakeable,
    messages.ATTACH_INVOCATION_COMMAND: _peer_of_target,
    messages.GET_INVOCATION_OUTPUT_COMMAND: _peer_of_target,
}
