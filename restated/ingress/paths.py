"""Request paths to routes.

Lives here: normalisation, the routes of the ingress, decoding of keys and scopes, the query.
Does not: know what is registered (it asks `is_keyed`), check methods or values (respond.py).
Pure. Everything is decided on the raw, still encoded path: decoding first would lose `%2F` in keys
(N7). Source: ingress.md 2, 3.
"""

from collections.abc import Callable
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from restated.model.errors import IngressError
from restated.model.records import Record

SLASHES_MIN: Final = 2
SLASHES_MAX: Final = 7

IsKeyed: TypeAlias = Callable[[str], bool | None]
"""Whether targets of a service have a key; None when it is not registered."""


class RequestError(Exception):
    """The request is refused; `subjects` fill the error's text."""

    def __init__(self, error: IngressError, *subjects: str) -> None:
        super().__init__(error.name, *subjects)
        self.error = error
        self.subjects = subjects

    @property
    def message(self) -> str:
        """The text a client sees."""
        return self.error.message(*self.subjects)


class ToHandler(Record):
    """Invoke a handler. `key` is decoded and None for plain services; scope None means none."""

    service: str
    handler: str
    key: str | None
    waits: bool  # a call; a send otherwise
    scope: str | None = None


class ToInvocation(Record):
    """Attach to an invocation, or get its output now, by its id as the client wrote it."""

    id: str
    waits: bool


class ToIdempotent(Record):
    """The same by idempotency key; `handler` and `idempotency_key` are not decoded."""

    service: str
    key: str | None
    handler: str
    idempotency_key: str
    waits: bool


class ToWorkflow(Record):
    """The same by workflow key; the workflow need not be registered."""

    workflow: str
    key: str
    waits: bool


class ToBody(Record):
    """The request's body names the invocation."""

    wants: Literal["attach", "output", "lookup"]


class ToAwakeable(Record):
    """Complete an awakeable, by its id as the client wrote it."""

    id: str
    succeeds: bool


class ToHealth(Record):
    """The names of all services."""


Route: TypeAlias = (
    ToHandler | ToInvocation | ToIdempotent | ToWorkflow | ToBody | ToAwakeable | ToHealth
)

WAITS: Final = {"attach": True, "output": False}
SUCCEEDS: Final = {"resolve": True, "reject": False}


def normalised(path: str) -> str:
    """The path without outer slashes, one in front; inner ones stay and make empty segments."""
    if path.endswith("/") or path.startswith("//"):
        return "/" + path.strip("/")
    return path


def parse_path(path: str, is_keyed: IsKeyed) -> Route:
    """The route of a normalised path without query; raises RequestError."""
    if not SLASHES_MIN <= path.count("/") <= SLASHES_MAX:
        raise RequestError(IngressError.BAD_PATH, path)
    first, *segments = path[1:].split("/")
    if first == "openapi":
        raise RequestError(IngressError.NOT_FOUND)
    if first != "restate":
        return _service_route(first, segments, is_keyed)
    route = RESTATE_ROUTES.get(segments[0])
    if route is None:
        raise RequestError(IngressError.NOT_FOUND)
    return route(segments, is_keyed)


def decoded(segment: str) -> str:
    """A key or scope: escapes resolved once, invalid ones kept; must be UTF-8 then."""
    if "%" not in segment:
        return segment
    octets = unquote_to_bytes(segment)
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise RequestError(IngressError.BAD_KEY, _utf8_error(octets, error)) from None


def parse_query(query: str, name: str) -> str | None:
    """The first value of a form-encoded parameter, its name in any case; None when absent."""
    for field in query.split("&"):
        written, _, value = field.partition("=")
        if len(written) >= len(name) and _form_decoded(written).lower() == name:
            return _form_decoded(value)
    return None


def _form_decoded(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode(errors="replace")


def _utf8_error(octets: bytes, error: UnicodeDecodeError) -> str:
    """As the reference prints it: every byte, the valid prefix, the length of the bad sequence."""
    ends_early = error.reason == "unexpected end of data"
    length = "None" if ends_early else f"Some({error.end - error.start})"
    listed = ", ".join(map(str, octets))
    return (
        f"FromUtf8Error {{ bytes: [{listed}], error: "
        f"Utf8Error {{ valid_up_to: {error.start}, error_len: {length} }} }}"
    )


def _service_route(service: str, rest: list[str], is_keyed: IsKeyed) -> ToHandler:
    """`/{service}[/{key}]/{handler}[/send]`."""
    keyed = _keyed(service, is_keyed)
    count = 2 if keyed else 1
    if len(rest) == count + 1 and rest[count] == "send":
        waits = False
    elif len(rest) == count:
        waits = True
    else:
        raise RequestError(IngressError.BAD_SERVICE_PATH)
    return ToHandler(service, rest[count - 1], decoded(rest[0]) if keyed else None, waits)


def _keyed(service: str, is_keyed: IsKeyed) -> bool:
    keyed = is_keyed(service)
    if keyed is None:
        raise RequestError(IngressError.SERVICE_NOT_FOUND, service)
    return keyed


# -- /restate/...: each gets the segments behind `restate`, its own name first


def _health(_segments: list[str], _is_keyed: IsKeyed) -> Route:
    return ToHealth()


def _awakeables(segments: list[str], _is_keyed: IsKeyed) -> Route:
    if len(segments) < 3:
        raise RequestError(IngressError.BAD_AWAKEABLES_PATH)
    return ToAwakeable(segments[1], _verb(SUCCEEDS, segments[2]))


def _invocation(segments: list[str], is_keyed: IsKeyed) -> Route:
    rest = segments[1:]
    if len(rest) < 2:
        raise RequestError(IngressError.BAD_INVOCATION_PATH)
    if len(rest) == 2:
        return ToInvocation(rest[0], _verb(WAITS, rest[1]))
    keyed = _keyed(rest[0], is_keyed)
    count = 5 if keyed else 4
    if len(rest) < count:
        raise RequestError(IngressError.BAD_INVOCATION_PATH)
    return ToIdempotent(
        service=rest[0],
        key=decoded(rest[1]) if keyed else None,
        handler=rest[count - 3],
        idempotency_key=rest[count - 2],
        waits=_verb(WAITS, rest[count - 1]),
    )


def _workflow(segments: list[str], _is_keyed: IsKeyed) -> Route:
    if len(segments) < 4:
        raise RequestError(IngressError.BAD_WORKFLOW_PATH)
    return ToWorkflow(segments[1], decoded(segments[2]), _verb(WAITS, segments[3]))


def _attach_or_output(segments: list[str], _is_keyed: IsKeyed) -> Route:
    if len(segments) > 2:
        raise RequestError(IngressError.BAD_API_PATH)
    if len(segments) == 2:
        return ToInvocation(segments[1], WAITS[segments[0]])
    return ToBody("attach" if segments[0] == "attach" else "output")


def _lookup(segments: list[str], _is_keyed: IsKeyed) -> Route:
    if len(segments) > 1:
        raise RequestError(IngressError.BAD_API_PATH)
    return ToBody("lookup")


def _call_or_send(segments: list[str], is_keyed: IsKeyed) -> Route:
    return _api_route(segments, is_keyed, None)


def _scope(segments: list[str], is_keyed: IsKeyed) -> Route:
    if len(segments) < 3 or segments[2] not in ("call", "send"):
        raise RequestError(IngressError.BAD_API_PATH)
    return _api_route(segments[2:], is_keyed, decoded(segments[1]))


def _api_route(segments: list[str], is_keyed: IsKeyed, scope: str | None) -> ToHandler:
    """`call|send/{service}[/{key}]/{handler}`."""
    if len(segments) < 2:
        raise RequestError(IngressError.BAD_API_PATH)
    service, *rest = segments[1:]
    keyed = _keyed(service, is_keyed)
    if len(rest) != (2 if keyed else 1):
        raise RequestError(IngressError.BAD_API_PATH)
    key = decoded(rest[0]) if keyed else None
    return ToHandler(service, rest[-1], key, segments[0] == "call", scope)


def _verb(verbs: dict[str, bool], word: str) -> bool:
    found = verbs.get(word)
    if found is None:
        raise RequestError(IngressError.NOT_FOUND)
    return found


RESTATE_ROUTES: Final[dict[str, Callable[[list[str], IsKeyed], Route]]] = {
    "health": _health,
    "awakeables": _awakeables,
    "a": _awakeables,
    "invocation": _invocation,
    "workflow": _workflow,
    "attach": _attach_or_output,
    "output": _attach_or_output,
    "lookup": _lookup,
    "call": _call_or_send,
    "send": _call_or_send,
    "scope": _scope,
}
