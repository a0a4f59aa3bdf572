"""OpenAPI documents: of this API, and of the ingress routes of one service.

Lives here: the documents, built from the table of routes and from what is registered.
Does not: the routes (routes.py), descriptions in the admin view (render.py).
Source: admin.md 2, 5; ingress.md 1.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from restated.admin.app import ADMIN_API_VERSION
from restated.admin.exchange import answer, deps_of
from restated.admin.introspect import ARROW_TYPE
from restated.admin.registry import service_in_path
from restated.admin.render import Json
from restated.core.schema_check import rebase_references
from restated.engine.catalog import HandlerEntry, ServiceEntry
from restated.model.services import Payload

if TYPE_CHECKING:
    from restated.admin.routes import AdminRoute

OPENAPI_VERSION: Final = "3.1.0"
_JSON: Final = "application/json"


def _place(name: str) -> str:
    return f"#/components/schemas/{name}"


def _schema(name: str) -> Json:
    return {"$ref": _place(name)}


def _response(name: str) -> Json:
    return {"$ref": f"#/components/responses/{name}"}


def _parameter(name: str) -> Json:
    return {"$ref": f"#/components/parameters/{name}"}


# -- this API


async def admin_document(_request: Request) -> Response:
    """The OpenAPI document of the admin API."""
    from restated.admin.routes import ROUTES

    return answer(document_of([route for route in ROUTES if route.summary]))


def document_of(routes: "Iterable[AdminRoute]") -> Json:
    """The document of these routes; its schemas are those of the bodies that are decoded."""
    listed = list(routes)
    bodies = [
        body for route in listed for body in (*route.request, route.response) if body is not None
    ]
    unique = list(dict.fromkeys(bodies))
    shapes, components = msgspec.json.schema_components(
        unique, schema_hook=_any_json, ref_template=_place("{name}")
    )
    schemas = dict(zip(unique, shapes, strict=True))
    paths: dict[str, Json] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    error = {
        "type": "object",
        "required": ["message"],
        "properties": {
            "message": {"type": "string"},
            "restate_code": {"type": ["string", "null"]},
        },
    }
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Admin API",
            "description": "Deployments, services, invocations and state of a restated daemon.",
            "version": ADMIN_API_VERSION,
        },
        "paths": paths,
        "components": {"schemas": {**components, "ErrorDescriptionResponse": error}},
    }


def _any_json(_type: type) -> Json:
    """Members that are `object` hold any JSON; an empty schema would count as none."""
    return {"description": "Any JSON value."}


def _operation(route: "AdminRoute", schemas: dict[type, Json]) -> Json:
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    operation: Json = {
        "summary": route.summary,
        "operationId": route.endpoint.__name__.strip("_"),
        "tags": [route.path.split("/")[1]],
    }
    parameters = [_given(name, "path") for name in names]
    parameters += [_given(name, "query") for name in route.query]
    if parameters:
        operation["parameters"] = parameters
    if route.request:
        shapes = [schemas[body] for body in route.request]
        shape = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": shape}}}
    content: Json = {}
    if route.response is not None:
        content[_JSON] = {"schema": schemas[route.response]}
    if route.path == "/query":
        content[ARROW_TYPE] = {"schema": {"type": "string", "format": "binary"}}
    done: Json = {"description": "Done", **({"content": content} if content else {})}
    statuses = sorted((route.status, *route.also))
    operation["responses"] = {**{str(status): done for status in statuses}, "default": _REFUSED}
    return operation


_REFUSED: Final[Json] = {
    "description": "Refused; plain text where the request could not be read",
    "content": {
        _JSON: {"schema": _schema("ErrorDescriptionResponse")},
        "text/plain": {"schema": {"type": "string"}},
    },
}
_BOOLEAN: Final[Json] = {"type": "boolean", "default": False}
_GIVEN: Final[dict[tuple[str, str], Json]] = {
    ("path", "deployment"): {"type": "string", "pattern": "^dp_1[0-9A-Za-z]+$"},
    ("path", "invocation_id"): {"type": "string", "pattern": "^inv_1[0-9A-Za-z]+$"},
    ("path", "subscription"): {"type": "string", "pattern": "^sub_1[0-9A-Za-z]+$"},
    ("path", "vqueue_id"): {"type": "string", "pattern": "^vq_1[0-9A-Za-z]+$"},
    ("query", "deployment"): {
        "type": "string",
        "pattern": "^(?:[Kk]eep|[Ll]atest|dp_1[0-9A-Za-z]+)$",
        "description": "`keep` the deployment, take the `latest`, or the one with this id",
    },
    ("query", "mode"): {"type": "string", "enum": ["cancel", "kill", "purge"]},
    ("query", "from"): {"type": "integer", "minimum": 0, "description": "Index in the journal"},
    ("query", "force"): _BOOLEAN,
    ("query", "include_subscriptions"): _BOOLEAN,
}
"""What parameters look like; the others are any text."""


def _given(name: str, where: str) -> Json:
    schema = _GIVEN.get((where, name), {"type": "string"})
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


# -- the ingress routes of one service


async def service_document(request: Request) -> Response:
    """The OpenAPI document of a service, for its clients."""
    entry = service_in_path(request)
    return answer(service_document_of(entry, deps_of(request).advertised_ingress))


def service_document_of(entry: ServiceEntry, ingress: str | None) -> Json:
    """Routes, inputs and outputs of the public handlers of a service."""
    info: Json = {"title": entry.name, "version": str(entry.revision)}
    if entry.definition.documentation is not None:
        info["description"] = entry.definition.documentation
    if entry.definition.metadata:
        info["x-restate-extensions"] = dict(entry.definition.metadata)
    paths: dict[str, Json] = {}
    schemas: dict[str, object] = {"RestateError": _RESTATE_ERROR}
    for handler in entry.handlers.values():
        if handler.settings.public:
            paths |= _paths(entry, handler)
            schemas |= _payload_schemas(handler)
    document: Json = {
        "openapi": OPENAPI_VERSION,
        "info": info,
        "tags": [{"name": name} for name in ("Request Response", "Send", "Attach", "Get Output")],
        "paths": paths,
        "components": {
            "parameters": _PARAMETERS,
            "responses": _RESPONSES,
            "schemas": schemas,
        },
    }
    if ingress is not None:
        servers = [{"url": f"{ingress.rstrip('/')}/", "description": "Restate Ingress URL"}]
        document["servers"] = servers
    return document


def _paths(entry: ServiceEntry, handler: HandlerEntry) -> dict[str, Json]:
    name = handler.handler.name
    is_run = handler.handler.type == "workflow"
    target = f"{entry.name}/{{key}}/{name}" if entry.is_keyed else f"{entry.name}/{name}"
    key = [_parameter("key")] if entry.is_keyed else []
    idempotency = [] if is_run else [_parameter("idempotencyKeyHeader")]
    words = _words(handler)
    call = {
        **words, "operationId": name, "tags": ["Request Response"],
        "parameters": [*key, *idempotency], **_request_body(handler),
        "responses": {"200": _success(handler), "default": _response("GenericError")},
    }  # fmt: skip
    send = {
        **words, "operationId": f"{name}Send", "tags": ["Send"],
        "parameters": [*key, _parameter("delay"), *idempotency], **_request_body(handler),
        "responses": {
            "200": _response("Send"), "202": _response("Send"),
            "default": _response("GenericError"),
        },
    }  # fmt: skip
    paths: dict[str, Json] = {
        f"/restate/call/{target}": {"post": call},
        f"/restate/send/{target}": {"post": send},
    }
    if is_run:
        base, prefix, parameters = f"/restate/workflow/{entry.name}/{{key}}", "run", key
    elif entry.type == "workflow":
        return paths
    else:
        base, prefix = f"/restate/invocation/{target}/{{idempotencyKey}}", name
        parameters = [*key, _parameter("idempotencyKeyPath")]
    paths[f"{base}/attach"] = {"get": _retrieval(handler, f"{prefix}Attach", "Attach", parameters)}
    paths[f"{base}/output"] = {
        "get": _retrieval(handler, f"{prefix}Output", "Get Output", parameters)
    }
    return paths


def _retrieval(handler: HandlerEntry, operation: str, tag: str, parameters: list[Json]) -> Json:
    responses = {
        "200": _success(handler),
        "404": _response("InvocationNotFoundError"),
        "default": _response("GenericError"),
    }
    if tag == "Get Output":
        responses["470"] = _response("InvocationNotReadyError")
    return {
        **_words(handler), "deprecated": True, "operationId": operation, "tags": [tag],
        "parameters": parameters, "responses": responses,
    }  # fmt: skip


def _words(handler: HandlerEntry) -> Json:
    words: Json = {"summary": handler.handler.name}
    if handler.handler.documentation is not None:
        words["description"] = handler.handler.documentation
    if handler.handler.metadata:
        words["x-restate-extensions"] = dict(handler.handler.metadata)
    return words


def _request_body(handler: HandlerEntry) -> Json:
    payload = handler.handler.input
    if payload is None:
        return {"requestBody": {"required": False, "content": {"*/*": {}}}}
    if payload.content_type is None and payload.schema is None:
        return {}
    content = _content(payload, f"{handler.handler.name}Request")
    return {"requestBody": {"required": payload.required, "content": content}}


def _success(handler: HandlerEntry) -> Json:
    payload = handler.handler.output
    if payload is None:
        return {"description": "Successful response", "content": {_JSON: {}}}
    if payload.content_type is None and payload.schema is None:
        return {"description": "Empty"}
    content = _content(payload, f"{handler.handler.name}Response")
    return {"description": "Successful response", "content": content}


def _content(payload: Payload, name: str) -> Json:
    shape = {} if payload.schema is None else {"schema": _schema(name)}
    return {payload.content_type or _JSON: shape}


def _payload_schemas(handler: HandlerEntry) -> dict[str, object]:
    own = handler.handler
    schemas: dict[str, object] = {}
    for suffix, payload in (("Request", own.input), ("Response", own.output)):
        if payload is not None and payload.schema is not None:
            name = f"{own.name}{suffix}"
            schemas[name] = msgspec.json.decode(payload.schema)
            rebase_references(schemas[name], _place(name))
    return schemas


def _error_response(description: str, example: Json) -> Json:
    content = {_JSON: {"schema": _schema("RestateError"), "example": example}}
    return {"description": description, "content": content}


_RESTATE_ERROR: Final[Json] = {
    "type": "object",
    "title": "RestateError",
    "required": ["message", "source"],
    "properties": {
        "code": {"type": "number", "title": "error code"},
        "message": {"type": "string", "title": "error message"},
        "source": {"type": "string", "enum": ["ingress", "invocation"]},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "stacktrace": {"type": "string"},
    },
}
_PARAMETERS: Final[Json] = {
    "key": {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}},
    "delay": {
        "name": "delay",
        "in": "query",
        "required": False,
        "description": "How long to wait before the invocation starts: `10s` or ISO 8601 `PT10S`.",
        "example": "10s",
        "schema": {"type": "string"},
    },
    "idempotencyKeyHeader": {
        "name": "idempotency-key",
        "in": "header",
        "required": False,
        "description": "Requests with the same key are one invocation.",
        "schema": {"type": "string"},
    },
    "idempotencyKeyPath": {
        "name": "idempotencyKey",
        "in": "path",
        "required": True,
        "description": "The idempotency key of the original request.",
        "schema": {"type": "string"},
    },
}
_RESPONSES: Final[Json] = {
    "GenericError": _error_response(
        "Error response",
        {"code": 500, "message": "Internal server error", "source": "invocation"},
    ),
    "InvocationNotFoundError": _error_response(
        "Invocation not found", {"message": "invocation not found", "source": "ingress"}
    ),
    "InvocationNotReadyError": _error_response(
        "Invocation still running, output is not ready yet",
        {"message": "the invocation exists but has not completed yet", "source": "ingress"},
    ),
    "Send": {
        "description": "Accepted, or known already under its idempotency key",
        "content": {
            _JSON: {
                "example": {
                    "invocationId": "inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz",
                    "status": "Accepted",
                },
                "schema": {
                    "type": "object",
                    "required": ["invocationId", "status"],
                    "properties": {
                        "invocationId": {"type": "string"},
                        "status": {"type": "string", "enum": ["Accepted", "PreviouslyAccepted"]},
                        "executionTime": {"type": "string", "format": "date-time"},
                    },
                    "additionalProperties": False,
                },
            }
        },
    },
}
