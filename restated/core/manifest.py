"""A discovery manifest, decoded and checked.

Lives here: the JSON shape of manifests v1 to v4, every rule about one manifest alone, the mapping
to service definitions.
Does not: fetching it (invoker/discovery.py), rules that need stored revisions (registry.py).
Source: service-protocol.md 1.2, 1.3. One shape decodes all four versions; unknown members are
refused at every level, so that a misspelt option is never silently without effect.
"""

import re
from typing import Annotated, Final, Literal

import msgspec

from restated.core.events import DiscoveredService
from restated.core.schema_check import schema_defect
from restated.model.records import HandlerType, ProtocolMode, Record, ServiceType
from restated.model.services import Handler, Options, Payload, RetryOptions, ServiceDefinition

PROTOCOL_VERSION_MIN: Final = 5
PROTOCOL_VERSION_MAX: Final = 7
DURATION_MS_MAX: Final = 36_525 * 86_400_000  # a century; keeps every sum of times far from 2**63
QUOTED_MAX: Final = 4_096  # characters of a manifest that an error text repeats

SERVICE_NAME: Final = r"^([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*\Z"
HANDLER_NAME: Final = r"^([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*\Z"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e\t]+\Z")

_ABSENT: Final = msgspec.Raw(b"")
_Milliseconds = Annotated[int, msgspec.Meta(ge=0)]
_Version = Annotated[int, msgspec.Meta(ge=1)]
_ServiceName = Annotated[str, msgspec.Meta(pattern=SERVICE_NAME)]
_HandlerName = Annotated[str, msgspec.Meta(pattern=HANDLER_NAME)]
_ManifestServiceType = Literal["SERVICE", "VIRTUAL_OBJECT", "WORKFLOW"]
_ManifestHandlerType = Literal["EXCLUSIVE", "SHARED", "WORKFLOW"]

_SERVICE_TYPES: Final[dict[str, ServiceType]] = {
    "SERVICE": "service", "VIRTUAL_OBJECT": "virtual_object", "WORKFLOW": "workflow",
}  # fmt: skip
_HANDLER_TYPES: Final[dict[tuple[str, str | None], HandlerType]] = {
    ("SERVICE", None): "shared",
    ("SERVICE", "SHARED"): "shared",
    ("VIRTUAL_OBJECT", None): "exclusive",
    ("VIRTUAL_OBJECT", "EXCLUSIVE"): "exclusive",
    ("VIRTUAL_OBJECT", "SHARED"): "shared",
    ("WORKFLOW", None): "shared",
    ("WORKFLOW", "SHARED"): "shared",
    ("WORKFLOW", "WORKFLOW"): "workflow",
}
SHOWN_SERVICE_TYPES: Final[dict[ServiceType, str]] = {
    "service": "Service", "virtual_object": "VirtualObject", "workflow": "Workflow",
}  # fmt: skip


class ManifestError(Exception):
    """The manifest cannot be accepted; what the admin API answers."""

    def __init__(self, status: int, restate_code: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.restate_code = restate_code
        self.message = message


class Manifest(Record):
    """A checked manifest. `services` has unique names and may be empty."""

    mode: ProtocolMode
    protocol_version_min: int
    protocol_version_max: int
    services: tuple[DiscoveredService, ...]
    compression: str | None = None


class _Shape(
    msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, rename="camel", kw_only=True
):
    """What every object of the manifest has in common: no member beyond the listed ones."""


class _Settings(_Shape, frozen=True, kw_only=True):
    """Members that a service and a handler share."""

    documentation: str | None = None
    metadata: dict[str, str] | None = None
    inactivity_timeout: _Milliseconds | None = None
    abort_timeout: _Milliseconds | None = None
    journal_retention: _Milliseconds | None = None
    idempotency_retention: _Milliseconds | None = None
    enable_lazy_state: bool | None = None
    ingress_private: bool | None = None
    retry_policy_initial_interval: _Milliseconds | None = None
    retry_policy_max_interval: _Milliseconds | None = None
    retry_policy_max_attempts: _Milliseconds | None = None
    retry_policy_exponentiation_factor: float | None = None
    retry_policy_on_max_attempts: Literal["PAUSE", "KILL"] | None = None


class _Input(_Shape, frozen=True, kw_only=True):
    required: bool | None = None
    content_type: str | None = None
    json_schema: msgspec.Raw = _ABSENT


class _Output(_Shape, frozen=True, kw_only=True):
    content_type: str | None = None
    set_content_type_if_empty: bool | None = None
    json_schema: msgspec.Raw = _ABSENT


class _Handler(_Settings, frozen=True, kw_only=True):
    name: _HandlerName
    ty: _ManifestHandlerType | None = None
    input: _Input | None = None
    output: _Output | None = None
    workflow_completion_retention: _Milliseconds | None = None


class _Service(_Settings, frozen=True, kw_only=True):
    name: _ServiceName
    ty: _ManifestServiceType
    handlers: tuple[_Handler, ...]


class _Manifest(_Shape, frozen=True, kw_only=True):
    protocol_mode: Literal["BIDI_STREAM", "REQUEST_RESPONSE"] | None = None
    min_protocol_version: _Version
    max_protocol_version: _Version
    lambda_compression: Literal["zstd"] | None = None
    services: tuple[_Service, ...]


_DECODER: Final = msgspec.json.Decoder(_Manifest)


def parse_manifest(raw: bytes) -> Manifest:
    """Decode and check a manifest; raise ManifestError with what the admin API answers.

    Of services or handlers with one name the last counts, in the place of the first.
    """
    try:
        shape = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        quoted = raw[: QUOTED_MAX * 4].decode(errors="replace")[:QUOTED_MAX]
        raise ManifestError(
            500, None,
            f"received a bad response from the SDK that cannot be decoded: {error}. "
            f"Discovery response: {quoted}",
        ) from error  # fmt: skip
    mode = _checked_mode(shape)
    services = {service.name: _service(service) for service in shape.services}
    return Manifest(
        mode=mode,
        protocol_version_min=shape.min_protocol_version,
        protocol_version_max=shape.max_protocol_version,
        services=tuple(services.values()),
        compression=shape.lambda_compression,
    )


def _checked_mode(shape: _Manifest) -> ProtocolMode:
    lowest, highest = shape.min_protocol_version, shape.max_protocol_version
    if shape.protocol_mode is None:
        raise _bad_response("missing protocol mode")
    for name, version in (("min", lowest), ("max", highest)):
        if version > 2**31 - 1:
            raise _bad_response(
                f"{name} protocol version must be in [1, {2**31 - 1}], but was {version}"
            )
    if lowest > highest:
        raise _bad_response(
            "Expected min protocol version to be <= max protocol version. Received min protocol "
            f"version '{lowest}', max protocol version '{highest}'"
        )
    if lowest > PROTOCOL_VERSION_MAX or highest < PROTOCOL_VERSION_MIN:
        raise ManifestError(
            500, "META0012",
            f"[META0012] [META0012] unsupported service protocol versions: [{lowest}, {highest}]. "
            f"Supported versions by this runtime are [{PROTOCOL_VERSION_MIN}, "
            f"{PROTOCOL_VERSION_MAX}]. Please upgrade the SDK and try registering again.",
        )  # fmt: skip
    return "bidi_stream" if shape.protocol_mode == "BIDI_STREAM" else "request_response"


def _bad_response(reason: str) -> ManifestError:
    return ManifestError(
        500, "META0013", f"[META0013] [META0013] received a bad response from the SDK: {reason}"
    )


def _refusal(message: str) -> ManifestError:
    return ManifestError(400, None, message)


def _service(service: _Service) -> DiscoveredService:
    lower = service.name.lower()
    if lower.startswith("restate") or lower == "openapi":
        raise ManifestError(
            400, "META0005",
            f"[META0005] cannot insert/modify service '{service.name}' as it contains a reserved "
            "name",
        )  # fmt: skip
    handlers = {handler.name: _handler(service, handler) for handler in service.handlers}
    options = _options(service)
    for handler in service.handlers:
        if handler.workflow_completion_retention is not None:
            # One run per key: the operator sees and patches this as the service's own setting.
            options = msgspec.structs.replace(
                options, workflow_retention_ms=_bounded(handler.workflow_completion_retention)
            )
    definition = ServiceDefinition(
        type=_SERVICE_TYPES[service.ty],
        handlers=tuple(handlers.values()),
        options=options,
        documentation=service.documentation,
        metadata=_pairs(service.metadata),
    )
    return DiscoveredService(service.name, definition)


def _handler(service: _Service, handler: _Handler) -> Handler:
    type_ = _HANDLER_TYPES.get((service.ty, handler.ty))
    if type_ is None:
        shown_service = SHOWN_SERVICE_TYPES[_SERVICE_TYPES[service.ty]]
        shown_handler = "None" if handler.ty is None else f"Some({handler.ty.title()})"
        raise _refusal(
            "invalid combination of service type and handler type "
            f"'({shown_service}, {shown_handler})'"
        )
    if handler.workflow_completion_retention is not None and type_ != "workflow":
        raise _refusal(
            f"{handler.name} sets the workflow_completion_retention, but it's not a WORKFLOW "
            "handler"
        )
    if handler.idempotency_retention is not None and type_ == "workflow":
        raise _refusal(
            f"{handler.name} sets the idempotency_retention, but it's a WORKFLOW handler: a "
            "workflow run is kept for its workflow_completion_retention"
        )
    if service.ingress_private and handler.ingress_private is False:
        raise _refusal(
            f"The service {service.name} is private, but the {handler.name} is explicitly set as "
            "public. This is not supported. Please make the service public, and hide the "
            "individual handlers"
        )
    return Handler(
        name=handler.name,
        type=type_,
        options=_options(handler),
        input=_input(service.name, handler),
        output=_output(service.name, handler),
        documentation=handler.documentation,
        metadata=_pairs(handler.metadata),
    )


def _input(service: str, handler: _Handler) -> Payload | None:
    given = handler.input
    if given is None:
        return None
    if given.content_type is not None:
        defect = _range_defect(given.content_type)
        if defect is not None:
            raise _refusal(
                f"the handler '{handler.name}' input content-type is not valid: can't parse the "
                f"content-type '{given.content_type}': {defect}"
            )
    return Payload(
        required=bool(given.required),
        content_type=given.content_type,
        schema=_schema(given.json_schema, f"{service}/{handler.name} input"),
    )


def _output(service: str, handler: _Handler) -> Payload | None:
    given = handler.output
    if given is None:
        return None
    if given.content_type is not None and not _HEADER_VALUE.match(given.content_type):
        raise _refusal(
            f"the handler '{handler.name}' output content-type is not valid: "
            f"{given.content_type!r} is no header value"
        )
    return Payload(
        content_type=given.content_type,
        set_content_type_if_empty=bool(given.set_content_type_if_empty),
        schema=_schema(given.json_schema, f"{service}/{handler.name} output"),
    )


def _range_defect(content_type: str) -> str | None:
    """Why this is no content type or range like `*/*`, `text/*`; None if it is one."""
    parts = content_type.split(";", 1)[0].strip().split("/")
    if len(parts) != 2:
        return "must contain one /"
    if not all(_TOKEN.match(part) for part in parts):
        return "type and subtype must be tokens"
    if parts[0] == "*" and parts[1] != "*":
        return "a subtype needs a type"
    return None


def _schema(raw: msgspec.Raw, where: str) -> bytes | None:
    schema = bytes(raw)
    if schema in {b"", b"null"}:
        return None
    defect = schema_defect(msgspec.json.decode(schema))
    if defect is not None:
        raise _refusal(f"the json schema for {where} is invalid: {defect}")
    return schema


def _options(given: _Settings) -> Options:
    attempts = given.retry_policy_max_attempts
    at_most = given.retry_policy_on_max_attempts
    return Options(
        public=None if given.ingress_private is None else not given.ingress_private,
        inactivity_timeout_ms=_bounded(given.inactivity_timeout),
        abort_timeout_ms=_bounded(given.abort_timeout),
        journal_retention_ms=_bounded(given.journal_retention),
        idempotency_retention_ms=_bounded(given.idempotency_retention),
        lazy_state=given.enable_lazy_state,
        retry=RetryOptions(
            interval_ms=_bounded(given.retry_policy_initial_interval),
            factor=given.retry_policy_exponentiation_factor,
            interval_ms_max=_bounded(given.retry_policy_max_interval),
            attempts_max=None if attempts is None else min(max(attempts, 1), 2**31 - 1),
            at_most=None if at_most is None else "pause" if at_most == "PAUSE" else "kill",
        ),
    )


def _bounded(duration_ms: int | None) -> int | None:
    return None if duration_ms is None else min(duration_ms, DURATION_MS_MAX)


def _pairs(metadata: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(metadata.items()) if metadata else ()
