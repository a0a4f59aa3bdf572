"""Deployments and services: /deployments, /services.

Lives here: reading registrations and updates, having deployments discovered, showing what is
registered.
Does not: which registration is allowed (core/registry.py), discovery (invoker/discovery.py), what
objects look like (render.py).
Source: admin.md 4, 5.
"""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from restated.admin import render
from restated.admin.app import AdminDeps
from restated.admin.bodies import (
    PatchServiceBody,
    RegisterHttp,
    RegisterLambda,
    UpdateDeploymentBody,
)
from restated.admin.durations import DurationError, parse_duration_ms
from restated.admin.exchange import (
    UNFIT,
    RequestError,
    answer,
    deployment_in_path,
    deps_of,
    empty,
    failure,
    flag,
    json_body,
    refusal,
    shape_reason,
    text,
    unfit,
)
from restated.core.effects import Done, Planned, Refused, Reply
from restated.core.events import (
    Event,
    PatchService,
    RegisterDeployment,
    RemoveDeployment,
    UpdateDeployment,
)
from restated.core.manifest import Manifest, ManifestError, parse_manifest
from restated.engine.catalog import ServiceEntry
from restated.invoker.discovery import DiscoveryError, discover
from restated.invoker.targets import InvalidUriError, UnsupportedSchemeError, parse_uri
from restated.model import ids
from restated.model.addresses import AddressError, identity, lambda_arn
from restated.model.errors import ErrorCode
from restated.model.records import Deployment, Transport
from restated.model.services import Options

replace = msgspec.structs.replace

NO_VARIANT: Final = "data did not match any variant of untagged enum RegisterDeploymentRequest"
NO_AUTH: Final = (
    "The request field 'auth' is invalid. Reason: identity tokens of a cloud cannot be made here; "
    "give credentials in additional_headers"
)


# -- deployments


async def list_deployments(request: Request) -> Response:
    """Every deployment with the names and revisions of its services."""
    catalog = deps_of(request).catalog.current
    items = [render.deployment_item(one, catalog) for one in catalog.deployments.values()]
    return answer({"deployments": items})


async def get_deployment(request: Request) -> Response:
    """One deployment with its services in full."""
    deps = deps_of(request)
    deployment = _known(deps, deployment_in_path(request))
    return _detail(deps, deployment)


async def register_deployment(request: Request) -> Response:
    """Discover a deployment and register its services.

    A known address is left as it is, unless `force`; version 2 of the API forces by default.
    """
    deps = deps_of(request)
    raw = await json_body(request, msgspec.Raw)
    asked = _registration(raw)
    is_v2 = _is_v2(request)
    force = is_v2 if asked.force is None else asked.force
    draft = _draft(deps, asked)
    existing = _with_identity(deps, draft)
    if existing is not None and not force:
        if is_v2:
            return refusal(Refused(ErrorCode.DEPLOYMENT_EXISTS, existing.id))
        return _registered(deps, existing, 200)
    if isinstance(asked, RegisterHttp) and asked.auth is not None:
        return failure(400, NO_AUTH)
    deployment, manifest = await _discover(deps, draft)
    event = RegisterDeployment(
        deployment=deployment,
        services=manifest.services,
        force=force,
        breaking=asked.breaking,
        dry_run=asked.dry_run,
    )
    reply = await _submitted(deps, event)
    if isinstance(reply, Planned):
        status = 201 if reply.deployment.id == draft.id else 200
        shown = render.registered(reply.deployment, _planned(deps, reply))
        return _created(shown, status)
    assert isinstance(reply, Done)
    assert reply.id is not None
    is_new = reply.id == draft.id
    return _registered(deps, _known(deps, reply.id), 201 if is_new or is_v2 else 200)


async def update_deployment(request: Request) -> Response:
    """Change a deployment in place: its address, its headers."""
    deps = deps_of(request)
    stored = _known(deps, deployment_in_path(request))
    asked = await json_body(request, UpdateDeploymentBody)
    _check_kind(stored, asked)
    draft = _updated(stored, asked)
    manifest = None
    if asked.uri is not None or asked.arn is not None:
        draft, manifest = await _discover(deps, draft)
    event = UpdateDeployment(
        deployment=draft,
        services=None if manifest is None else manifest.services,
        overwrite=asked.overwrite,
        dry_run=asked.dry_run,
    )
    reply = await _submitted(deps, event)
    if isinstance(reply, Planned):
        return answer(render.deployment_detail(reply.deployment, _planned(deps, reply)))
    return _detail(deps, _known(deps, stored.id))


async def put_deployment(request: Request) -> Response:
    """The old form of an update; only version 2 of the API has it."""
    if not _is_v2(request):
        refused = failure(405, "PUT deployment is deprecated, use PATCH instead")
        refused.headers["allow"] = "GET,HEAD,PATCH,DELETE"
        return refused
    return await update_deployment(request)


async def remove_deployment(request: Request) -> Response:
    """Forget a deployment; without `force=true` it would have to be drained first."""
    deployment_id = deployment_in_path(request)
    if not flag(request, "force"):
        return empty(501)
    await _submitted(deps_of(request), RemoveDeployment(deployment_id))
    return empty(202)


# -- services


async def list_services(request: Request) -> Response:
    """The latest revision of every service."""
    services = deps_of(request).catalog.current.services
    return answer({"services": [render.service(entry) for entry in services.values()]})


async def get_service(request: Request) -> Response:
    """The latest revision of one service."""
    return answer(render.service(service_in_path(request)))


async def patch_service(request: Request) -> Response:
    """Change settings of the latest revision of a service."""
    deps = deps_of(request)
    asked = await json_body(request, PatchServiceBody)
    name = str(request.path_params["service"])
    options = Options(
        public=asked.public,
        idempotency_retention_ms=_duration_ms(asked, "idempotency_retention"),
        workflow_retention_ms=_duration_ms(asked, "workflow_completion_retention"),
        journal_retention_ms=_duration_ms(asked, "journal_retention"),
        inactivity_timeout_ms=_duration_ms(asked, "inactivity_timeout"),
        abort_timeout_ms=_duration_ms(asked, "abort_timeout"),
    )
    if options != Options():
        await _submitted(deps, PatchService(name, options))
    return answer(render.service(service_in_path(request)))


async def list_handlers(request: Request) -> Response:
    """The handlers of the latest revision of a service."""
    entry = service_in_path(request)
    return answer(
        {"handlers": [render.handler(inner, entry) for inner in entry.handlers.values()]}
    )  # fmt: skip


async def get_handler(request: Request) -> Response:
    """One handler of the latest revision of a service."""
    service, name = request.path_params["service"], request.path_params["handler"]
    entry = deps_of(request).catalog.current.services.get(service)
    found = None if entry is None else entry.handlers.get(name)
    if entry is None or found is None:
        return failure(
            404, f"The requested handler '{name}' on service '{service}' does not exist"
        )  # fmt: skip
    return answer(render.handler(found, entry))


# -- reading


def _registration(raw: msgspec.Raw) -> RegisterHttp | RegisterLambda:
    """The HTTP form is tried first, then the Lambda form; what fits neither is 422."""
    try:
        return msgspec.json.decode(raw, type=RegisterHttp)
    except msgspec.ValidationError as error:
        reason, path = shape_reason(str(error))
        if path.startswith("additional_headers"):
            # Naming what does not fit says more than the reference's fixed text.
            raise unfit(reason, path) from error
    try:
        return msgspec.json.decode(raw, type=RegisterLambda)
    except msgspec.ValidationError as error:
        raise _no_variant() from error


def _no_variant() -> RequestError:
    return RequestError(text(422, UNFIT + NO_VARIANT))


def _draft(deps: AdminDeps, asked: RegisterHttp | RegisterLambda) -> Deployment:
    """The deployment under a new id, before anybody asked it."""
    now_ms = deps.clock.wall_ms()
    is_http = isinstance(asked, RegisterHttp)
    return Deployment(
        id=ids.deployment_id(now_ms, deps.rng.bytes(ids.ULID_ENTROPY_BYTES)),
        uri=_http_uri(asked.uri) if isinstance(asked, RegisterHttp) else _arn(asked.arn),
        transport=_transport(asked.use_http_11) if isinstance(asked, RegisterHttp) else "lambda",
        mode="bidi_stream" if is_http else "request_response",
        protocol_version_min=0,
        protocol_version_max=0,
        headers=msgspec.json.encode(asked.additional_headers or {}),
        metadata=msgspec.json.encode(asked.metadata or {}),
        created_at_ms=now_ms,
        assume_role_arn=asked.assume_role_arn if isinstance(asked, RegisterLambda) else None,
    )


def _updated(stored: Deployment, asked: UpdateDeploymentBody) -> Deployment:
    """The stored deployment with what is asked for; without `uri` only headers count."""
    draft = stored
    if asked.additional_headers is not None:
        draft = replace(draft, headers=msgspec.json.encode(asked.additional_headers))
    if asked.uri is not None:
        draft = replace(draft, uri=_http_uri(asked.uri))
        if asked.use_http_11 is not None:
            draft = replace(draft, transport=_transport(asked.use_http_11))
    if asked.arn is not None:
        draft = replace(draft, uri=_arn(asked.arn))
    if asked.assume_role_arn is not None:
        draft = replace(draft, assume_role_arn=asked.assume_role_arn)
    return draft


def _transport(use_http_11: bool) -> Transport:  # noqa: FBT001 - a member of the request
    return "http1" if use_http_11 else "http2"


def _check_kind(stored: Deployment, asked: UpdateDeploymentBody) -> None:
    is_lambda = stored.transport == "lambda"
    wants_lambda = asked.arn is not None or asked.assume_role_arn is not None
    if is_lambda and asked.uri is not None:
        kinds = ("lambda", "http")
    elif not is_lambda and wants_lambda:
        kinds = ("http", "lambda")
    else:
        return
    raise RequestError(
        failure(
            400,
            f"cannot update the deployment, as the deployment type is {kinds[0]} while the update "
            f"options are for type {kinds[1]}",
        )
    )


def _http_uri(uri: str) -> str:
    if not uri.isascii() or not uri.isprintable() or " " in uri or not uri:
        raise _no_variant()
    try:
        parsed = parse_uri(uri)
    except UnsupportedSchemeError as error:
        raise _uncallable(uri, str(error)) from error
    except InvalidUriError as error:
        message = f"The request field 'uri' is invalid. Reason: {error}"
        raise RequestError(failure(400, message)) from error
    return f"{parsed.scheme}://{parsed.authority}{parsed.target('')}"


def _uncallable(uri: str, reason: str) -> RequestError:
    code = "META0003"
    message = f"[{code}] [{code}] error when calling '{uri}': {reason}"
    return RequestError(failure(500, message, code))


def _arn(arn: str) -> str:
    try:
        return lambda_arn(arn)
    except AddressError as error:
        message = f"The request field 'arn' is invalid. Reason: {error}"
        raise RequestError(failure(400, message)) from error


def _duration_ms(asked: PatchServiceBody, member: str) -> int | None:
    value: str | None = getattr(asked, member)
    if value is None:
        return None
    try:
        return parse_duration_ms(value)
    except DurationError as error:
        raise unfit(str(error), member) from error


def _is_v2(request: Request) -> bool:
    return request.url.path.startswith("/v2/")


# -- asking deployments and the core


async def _discover(deps: AdminDeps, draft: Deployment) -> tuple[Deployment, Manifest]:
    """The deployment as it describes itself, and its checked manifest."""
    try:
        found = await discover(deps.transport, draft)
        manifest = parse_manifest(found.manifest)
    except (DiscoveryError, ManifestError) as error:
        raise RequestError(failure(error.status, error.message, error.restate_code)) from error
    if draft.transport == "lambda" and manifest.mode == "bidi_stream":
        code = "META0015"
        reason = "a Lambda function cannot stream, its manifest must say REQUEST_RESPONSE"
        raise RequestError(failure(500, f"[{code}] [{code}] {reason}", code))
    deployment = replace(
        draft,
        mode=manifest.mode,
        protocol_version_min=manifest.protocol_version_min,
        protocol_version_max=manifest.protocol_version_max,
        transport="http1" if found.transport == "http1" else draft.transport,
        sdk=found.sdk,
        compression=manifest.compression,
    )
    return deployment, manifest


async def _submitted(deps: AdminDeps, event: Event) -> Reply:
    reply = await deps.writer.submit(event)
    if isinstance(reply, Refused):
        raise RequestError(refusal(reply))
    return reply


# -- showing


def _with_identity(deps: AdminDeps, draft: Deployment) -> Deployment | None:
    wanted = identity(draft)
    stored = deps.catalog.current.deployments.values()
    found = [deployment for deployment in stored if identity(deployment) == wanted]
    return min(found, key=lambda one: (one.created_at_ms, one.id), default=None)


def _known(deps: AdminDeps, deployment_id: str) -> Deployment:
    deployment = deps.catalog.current.deployments.get(deployment_id)
    if deployment is None:
        raise RequestError(refusal(Refused(ErrorCode.DEPLOYMENT_NOT_FOUND, deployment_id)))
    return deployment


def service_in_path(request: Request) -> ServiceEntry:
    """The latest revision of the service in the path; RequestError with 404."""
    name = str(request.path_params["service"])
    entry = deps_of(request).catalog.current.services.get(name)
    if entry is None:
        raise RequestError(refusal(Refused(ErrorCode.SERVICE_NOT_FOUND, name)))
    return entry


def _planned(deps: AdminDeps, planned: Planned) -> list[ServiceEntry]:
    return [deps.catalog.entry(row, planned.deployment) for row in planned.revisions]


def _detail(deps: AdminDeps, deployment: Deployment) -> Response:
    entries = render.services_of(deps.catalog.current, deployment.id)
    return answer(render.deployment_detail(deployment, entries))


def _registered(deps: AdminDeps, deployment: Deployment, status: int) -> Response:
    entries = render.services_of(deps.catalog.current, deployment.id)
    return _created(render.registered(deployment, entries), status)


def _created(shown: render.Json, status: int) -> Response:
    return answer(shown, status, location=f"deployments/{shown['id']}")
