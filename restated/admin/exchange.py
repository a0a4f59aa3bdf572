"""Reading admin requests and writing answers.

Lives here: JSON bodies and query parameters with the texts of their errors, ids in paths, answers,
the mapping of replies of the core to answers, the path-and-method dispatch of one resource.
Does not: what a route does.
Source: admin.md 1. Errors that the framework finds are plain text, those of the application JSON.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final, Literal, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from restated.admin import json_text
from restated.admin.app import AdminDeps
from restated.admin.bodies import MEANINGS
from restated.core.effects import Refused
from restated.engine.hypercorn_stream import Receive, Scope, Send
from restated.model import ids
from restated.model.errors import InternalError, OverloadedError
from restated.store.store import StoreFailedError

BODY_BYTES_MAX: Final = 33_554_432  # as the ingress: the state of one key may be that large

UNFIT: Final = "Failed to deserialize the JSON body into the target type: "

T = TypeVar("T")
D = TypeVar("D", str, None)
Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
Endpoint = Callable[[Request], Awaitable[Response]]

log = logging.getLogger("restated.admin")


class RequestError(Exception):
    """The request cannot be served; what is answered instead."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class UnfitError(Exception):
    """The body is JSON of another shape; `path` is the value that does not fit."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


class Resource:
    """All methods of one path, as an ASGI app."""

    __slots__ = ("_allowed", "_deps", "_endpoints")

    def __init__(self, endpoints: Mapping[Method, Endpoint], deps: AdminDeps) -> None:
        self._endpoints = endpoints
        self._deps = deps
        shown = [f"{method},HEAD" if method == "GET" else method for method in endpoints]
        self._allowed = ",".join(shown)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a defect is logged and answered with 500."""
        request = Request(scope, receive, send)
        request.state.deps = self._deps
        method = "GET" if request.method == "HEAD" else request.method
        endpoint = next((call for name, call in self._endpoints.items() if name == method), None)
        if endpoint is None:
            await empty(405, allow=self._allowed)(scope, receive, send)
            return
        response = await self._respond(endpoint, request)
        if response is not None:
            await response(scope, receive, send)

    async def _respond(self, endpoint: Endpoint, request: Request) -> Response | None:
        try:
            return await endpoint(request)
        except RequestError as error:
            return error.response
        except UnfitError as error:
            return _misfit(error, request)
        except OverloadedError as error:
            return failure(503, str(error))
        except InternalError:
            return failure(500, "An internal error occurred; nothing was changed. See the log.")
        except StoreFailedError:
            raise  # the process stops; nobody may be told anything (A3)
        except ClientDisconnect:
            return None
        except Exception:
            log.exception("admin defect method=%s path=%s", request.method, request.url.path)
            return failure(500, "An internal error occurred. See the log.")


def deps_of(connection: HTTPConnection) -> AdminDeps:
    """What the routes, and websockets, work with."""
    deps = connection.state.deps
    assert isinstance(deps, AdminDeps)
    return deps


# -- answers


def empty(status: int, **headers: str) -> Response:
    """An answer without body and content type."""
    return Response(status_code=status, headers=headers)


def text(status: int, message: str) -> Response:
    """What the framework found wrong."""
    return Response(message, status, media_type="text/plain")


def answer(value: object, status: int = 200, **headers: str) -> Response:
    """`value` as JSON."""
    return Response(
        msgspec.json.encode(value), status, headers, media_type="application/json"
    )  # fmt: skip


def failure(status: int, message: str, restate_code: str | None = None) -> Response:
    """An error of the application."""
    return answer({"message": message, "restate_code": restate_code}, status)


def refusal(refused: Refused) -> Response:
    """What a rule of the core forbids, in the words of the catalogue."""
    code = refused.code
    return failure(code.status, code.message(refused.subject), code.restate_code)


# -- requests


async def json_body(request: Request, type_: type[T]) -> T:
    """The decoded body; raises RequestError with 415, 413, 400 or 422, or UnfitError."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = content_type == "application/json" or (
        content_type.startswith("application/") and content_type.endswith("+json")
    )
    if not is_json:
        raise RequestError(text(415, "Expected request with `Content-Type: application/json`"))
    raw = await body(request)
    request.state.json_text = raw
    try:
        raw.decode()
        value = msgspec.json.decode(raw, type=type_)
    except msgspec.ValidationError as error:
        raise unfit(*shape_reason(str(error))) from error
    except UnicodeDecodeError as error:
        raise _no_json(json_text.encoding_reason(error, raw)) from error
    except msgspec.DecodeError as error:
        raise _no_json(json_text.syntax_reason(str(error), raw)) from error
    except RecursionError as error:
        raise _no_json("it is nested too deeply") from error
    repeated = json_text.repeated_member(raw)
    if repeated is not None:
        raise RequestError(text(422, UNFIT + repeated))
    return value


async def body(request: Request) -> bytes:
    """The whole body, bounded; raises RequestError with 413."""
    chunks = bytearray()
    async with aclosing(request.stream()) as stream:
        async for chunk in stream:
            chunks += chunk
            if len(chunks) > BODY_BYTES_MAX:
                raise RequestError(text(413, f"The body exceeds {BODY_BYTES_MAX} bytes"))
    return bytes(chunks)


def unfit(reason: str, path: str = "") -> UnfitError:
    """A body that is JSON of another shape: at `path`, such as `[0].pattern`, for this reason."""
    return UnfitError(reason, path)


def shape_reason(error: str) -> tuple[str, str]:
    """The reason and the path of a decoder's complaint."""
    reason, _, path = error.partition(" - at `")
    reason = reason.replace("Object missing required field", "missing field")
    # A bad key stands as "key` in `$.member".
    path = path.rstrip("`").removeprefix("key` in `").removeprefix("$").removeprefix(".")
    for pattern, meaning in MEANINGS:
        reason = reason.replace(f"Expected `str` matching regex {pattern!r}", meaning)
    return reason, path


def _no_json(reason: str) -> RequestError:
    return RequestError(text(400, f"Failed to parse the request body as JSON: {reason}"))


def _misfit(error: UnfitError, request: Request) -> Response:
    """422, with the place of what does not fit where it can be told."""
    raw: bytes = getattr(request.state, "json_text", b"")
    is_missing = error.reason.startswith("missing field")
    path = error.path if error.path.startswith("[") else f".{error.path}"
    place = json_text.place_of(raw, path, at_end=is_missing)
    at = f" at {place}" if place is not None else ""
    where = f"{error.path}: " if error.path else ""
    return text(422, f"{UNFIT}{where}{error.reason}{at}")


def parameter(request: Request, name: str, default: D) -> str | D:
    """A query parameter; raises RequestError with 400 when it is repeated."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise bad_query(f"duplicate field `{name}`")
    return values[0] if values else default


def flag(request: Request, name: str) -> bool | None:
    """A query parameter `true` or `false`; None when absent; raises RequestError with 400."""
    value = parameter(request, name, None)
    if value is None:
        return None
    if value not in {"true", "false"}:
        raise bad_query(f"{name}: provided string was not `true` or `false`")
    return value == "true"


def bad_query(reason: str) -> RequestError:
    """A query parameter that cannot be read."""
    return RequestError(text(400, f"Failed to deserialize query string: {reason}"))


def deployment_in_path(request: Request) -> str:
    """The deployment id of the path; raises RequestError with 400."""
    value = str(request.path_params["deployment"])
    try:
        return ids.parse_deployment_id(value)
    except ids.IdError as error:
        reason = bad_id_reason(error)
        message = f"Invalid URL: Cannot parse `deployment` with value `{value}`: {reason}"
        raise RequestError(text(400, message)) from error


def bad_id_reason(error: ids.IdError) -> str:
    """How this API words a malformed id: as every other place that reads ids does."""
    return str(error)
