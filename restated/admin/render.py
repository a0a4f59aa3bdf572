"""Deployments, services and handlers as the admin API shows them.

Lives here: JSON objects, timestamps, the descriptions of inputs and outputs.
Does not: which of them are shown (registry.py), durations as texts (durations.py).
Source: admin.md 1, 4.1, 4.3, 5. Members stand in the order of the reference; what is unset or
empty is left out.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import msgspec

from restated.admin.durations import friendly
from restated.engine.catalog import Catalog, HandlerEntry, ServiceEntry, Settings
from restated.invoker.targets import parse_uri
from restated.model.records import Deployment
from restated.model.services import Handler, Options, Payload, RetryOptions

Json: TypeAlias = dict[str, object]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SERVICE_TYPES: Final = {
    "service": "Service", "virtual_object": "VirtualObject", "workflow": "Workflow",
}  # fmt: skip
_HANDLER_TYPES: Final = {"exclusive": "Exclusive", "shared": "Shared", "workflow": "Workflow"}
_AT_MOST: Final = {"pause": "Pause", "kill": "Kill"}


def timestamp(at_ms: int) -> str:
    """RFC 3339 with nine fraction digits."""
    at = _EPOCH + timedelta(milliseconds=at_ms)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06}000Z"


# -- deployments


def deployment_item(deployment: Deployment, catalog: Catalog) -> Json:
    """A deployment in a list: its services by name and revision."""
    entries = services_of(catalog, deployment.id)
    services = [{"name": entry.name, "revision": entry.revision} for entry in entries]
    return {**_deployment(deployment), "services": services}


def deployment_detail(deployment: Deployment, entries: list[ServiceEntry]) -> Json:
    """A deployment with its services in full."""
    return {**_deployment(deployment), "services": [service(entry) for entry in entries]}


def registered(deployment: Deployment, entries: list[ServiceEntry]) -> Json:
    """The answer to a registration."""
    shown: Json = {
        "id": deployment.id,
        "services": [service(entry) for entry in entries],
        "min_protocol_version": deployment.protocol_version_min,
        "max_protocol_version": deployment.protocol_version_max,
    }
    if deployment.sdk:
        shown["sdk_version"] = deployment.sdk
    return shown


def services_of(catalog: Catalog, deployment_id: str) -> list[ServiceEntry]:
    """The services that a deployment serves, by name."""
    return [entry for (owner, _), entry in catalog.pinned.items() if owner == deployment_id]


def _deployment(deployment: Deployment) -> Json:
    shown: Json = {"id": deployment.id}
    if deployment.transport == "lambda":
        shown["arn"] = deployment.uri
        if deployment.assume_role_arn:
            shown["assume_role_arn"] = deployment.assume_role_arn
        if deployment.compression:
            shown["compression"] = deployment.compression.title()
    else:
        is_bidi = deployment.mode == "bidi_stream"
        shown["uri"] = parse_uri(deployment.uri).display
        shown["protocol_type"] = "BidiStream" if is_bidi else "RequestResponse"
        shown["http_version"] = "HTTP/1.1" if deployment.transport == "http1" else "HTTP/2.0"
    for name, raw in (
        ("additional_headers", deployment.headers),
        ("metadata", deployment.metadata),
    ):
        if raw not in {b"", b"{}"}:
            shown[name] = msgspec.Raw(raw)
    shown["created_at"] = timestamp(deployment.created_at_ms)
    shown["min_protocol_version"] = deployment.protocol_version_min
    shown["max_protocol_version"] = deployment.protocol_version_max
    if deployment.sdk:
        shown["sdk_version"] = deployment.sdk
    return shown


# -- services


def service(entry: ServiceEntry) -> Json:
    """One revision of a service."""
    definition, settings = entry.definition, entry.settings
    is_request_response = entry.deployment.mode == "request_response"
    shown: Json = {
        "name": entry.name,
        "ty": _SERVICE_TYPES[definition.type],
        "handlers": [handler(inner, entry) for inner in entry.handlers.values()],
    }
    _add_words(shown, definition.documentation, definition.metadata)
    shown |= {
        "deployment_id": entry.deployment.id,
        "revision": entry.revision,
        "public": settings.public,
        "idempotency_retention": friendly(settings.idempotency_retention_ms),
    }
    if definition.type == "workflow":
        shown["workflow_completion_retention"] = friendly(settings.workflow_retention_ms)
    shown |= {
        "journal_retention": friendly(settings.journal_retention_ms),
        "inactivity_timeout": friendly(
            0 if is_request_response else settings.inactivity_timeout_ms
        ),
        "abort_timeout": friendly(settings.abort_timeout_ms),
        "enable_lazy_state": settings.lazy_state,
        "retry_policy": _policy(settings),
    }
    _add_hint(shown, definition.options, "service", applies=is_request_response)
    return shown


def handler(entry: HandlerEntry, owner: ServiceEntry) -> Json:
    """One handler: what it says itself, and whether it can be reached."""
    own = entry.handler
    options = own.options
    is_request_response = owner.deployment.mode == "request_response"
    shown: Json = {"name": own.name}
    if owner.type != "service":
        shown["ty"] = _HANDLER_TYPES[own.type]
    _add_words(shown, own.documentation, own.metadata)
    for name, duration_ms in (
        ("idempotency_retention", options.idempotency_retention_ms),
        ("journal_retention", options.journal_retention_ms),
        ("inactivity_timeout", options.inactivity_timeout_ms),
        ("abort_timeout", options.abort_timeout_ms),
    ):
        if duration_ms is not None:
            is_void = is_request_response and name == "inactivity_timeout"
            shown[name] = friendly(0 if is_void else duration_ms)
    if options.lazy_state is not None:
        shown["enable_lazy_state"] = options.lazy_state
    shown["public"] = entry.settings.public
    shown["input_description"] = _input_description(own)
    shown["output_description"] = _output_description(own)
    for name, payload in (("input_json_schema", own.input), ("output_json_schema", own.output)):
        if payload is not None and payload.schema is not None:
            shown[name] = msgspec.Raw(payload.schema)
    shown["retry_policy"] = _own_policy(options.retry)
    _add_hint(shown, options, "handler", applies=is_request_response)
    return shown


def _add_words(
    shown: Json, documentation: str | None, metadata: tuple[tuple[str, str], ...]
) -> None:
    if documentation is not None:
        shown["documentation"] = documentation
    if metadata:
        shown["metadata"] = dict(metadata)


def _add_hint(shown: Json, options: Options, what: str, *, applies: bool) -> None:
    if applies and options.inactivity_timeout_ms:
        duration = friendly(options.inactivity_timeout_ms)
        message = (
            f"The configured inactivity_timeout {duration} will not be applied because the {what} "
            "is exposed in Request/Response mode."
        )
        shown["info"] = [{"code": "RT0021", "message": message}]


def _policy(settings: Settings) -> Json:
    retry = settings.retry
    return {
        "initial_interval": friendly(retry.interval_ms),
        "exponentiation_factor": float(retry.factor),
        "max_attempts": retry.attempts_max,
        "max_interval": friendly(retry.interval_ms_max),
        "on_max_attempts": _AT_MOST[retry.at_most],
    }


def _own_policy(retry: RetryOptions) -> Json:
    shown: Json = {}
    if retry.interval_ms is not None:
        shown["initial_interval"] = friendly(retry.interval_ms)
    if retry.factor is not None:
        shown["exponentiation_factor"] = float(retry.factor)
    shown["max_attempts"] = retry.attempts_max
    if retry.interval_ms_max is not None:
        shown["max_interval"] = friendly(retry.interval_ms_max)
    if retry.at_most is not None:
        shown["on_max_attempts"] = _AT_MOST[retry.at_most]
    return shown


def _input_description(own: Handler) -> str:
    payload = own.input
    if payload is None:
        return "*/*"
    is_typed = payload.content_type is not None or payload.schema is not None
    if is_typed:
        # Of two rules of which one is "none", the other one is printed.
        return _content(payload)
    return "<invalid rules>" if payload.required else "none"


def _output_description(own: Handler) -> str:
    payload = own.output
    if payload is None:
        return "application/json"
    if payload.schema is not None:
        return _content(payload)
    if payload.content_type is None:
        return "none"
    prefix = "optional " if payload.set_content_type_if_empty else ""
    return prefix + payload.content_type


def _content(payload: Payload) -> str:
    if payload.schema is None:
        return payload.content_type or "*/*"
    schema = msgspec.json.decode(payload.schema)
    if isinstance(schema, dict) and isinstance(schema.get("title"), str):
        return f"JSON '{schema['title']}'"
    if isinstance(schema, dict) and isinstance(schema.get("type"), str):
        return f"JSON {schema['type']}"
    return payload.content_type or "application/json"
