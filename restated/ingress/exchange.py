"""Requests and answers as every protocol of the ingress sees them.

Lives here: Request, Response, limits, CORS headers, error answers, times in answers.
Does not: bytes on a connection (http1.py, asgi.py), what is answered (respond.py).
Rules: C54 an error of the ingress can be told from one of an invocation by header and body.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Protocol

import msgspec

from restated.ingress.paths import RequestError
from restated.model.errors import IngressError, OverloadedError
from restated.model.records import Failure, Record

Headers = tuple[tuple[str, str], ...]

JSON: Final = ("content-type", "application/json")
VARY: Final = ("vary", "origin, access-control-request-method, access-control-request-headers")
CREDENTIALS: Final = ("access-control-allow-credentials", "true")
CORS: Final[Headers] = (VARY, CREDENTIALS)
FAILURE_STATUS_MIN: Final = 400  # a failure never looks like a success (scenario F08)
FAILURE_STATUS_MAX: Final = 999
YEAR_10000_MS: Final = 253_402_300_800_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class IngressLimits(Record):
    """Bounds of the ingress; design.md 3.15. None: no bound."""

    body_bytes_max: int = 33_554_432
    target_body_bytes_max: int = 1_048_576  # JSON bodies of attach, output and lookup
    requests_max: int | None = None  # in progress, waiting ones included; 429 beyond
    bodies_bytes_max: int = 268_435_456  # of all requests together, until they are stored
    body_bytes_per_s_min: int = 512  # slower on average, behind `body_idle_s`, is cut off
    connections_max: int = 10_000
    head_bytes_max: int = 131_072
    target_bytes_max: int = 65_534
    fields_max: int = 100
    head_s: float = 10.0
    body_idle_s: float = 60.0
    send_s: float = 60.0  # for each 256 KiB
    keep_alive_idle_s: float = 75.0
    streams_max: int = 200  # HTTP/2 requests in progress on a connection


class Response(Record):
    """A complete answer. `kept` lives as long as it does: what others share the body by."""

    status: int
    headers: Headers
    body: bytes = b""
    kept: object = None


class PeerGoneError(Exception):
    """The peer left in the middle of a request: nothing is invoked, nothing is sent."""


class BodyPool:
    """Bytes of request bodies that are in memory and not yet durable (M1)."""

    __slots__ = ("bytes_max", "used")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0

    def take(self, count: int) -> None:
        """Count bytes that are about to be received; OverloadedError when there is no room."""
        if self.used + count > self.bytes_max:
            raise OverloadedError(f"{self.used} bytes of other requests are not yet stored")
        self.used += count


class Body(Protocol):
    """The rest of a request."""

    async def read(self, bytes_max: int, share: "Share") -> bytes:
        """All bytes, counted in `share` before they are received.

        RequestError when there are more than allowed, or what came is no body; PeerGoneError;
        OverloadedError of the share.
        """
        ...


class Share:
    """What one request has taken from the pool."""

    __slots__ = ("_pool", "_taken")

    def __init__(self, pool: BodyPool) -> None:
        self._pool = pool
        self._taken = 0

    def take(self, count: int) -> None:
        """See BodyPool.take."""
        self._pool.take(count)
        self._taken += count

    def give_back(self) -> None:
        """The body is stored, or dropped. Idempotent."""
        self._pool.used -= self._taken
        self._taken = 0


class Request:
    """A request. `headers` holds the first value of each name, lower case, in order of arrival.

    Values are decoded as Latin-1, so that bytes beyond ASCII are seen and refused where it matters.
    """

    __slots__ = ("body", "headers", "method", "path", "query")

    def __init__(
        self, method: str, path: str, query: str | None, headers: dict[str, str], body: Body
    ) -> None:
        self.method = method
        self.path = path  # normalised, still encoded
        self.query = query
        self.headers = headers
        self.body = body

    @property
    def target(self) -> str:
        """Path and query, as handlers see it."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def ascii_header(self, name: str) -> str | None:
        """The value, None when absent; RequestError unless it is visible ASCII."""
        value = self.headers.get(name)
        if value is not None and not value.isascii():
            raise RequestError(IngressError.BAD_HEADER, name)
        return value

    def require_method(self, *methods: str) -> None:
        """RequestError unless the method is one of these."""
        if self.method not in methods:
            raise RequestError(IngressError.METHOD_NOT_ALLOWED)


class _ErrorBody(msgspec.Struct, omit_defaults=True):
    """The JSON of every error, in the reference's order of fields."""

    code: int
    message: str
    stacktrace: str = ""
    metadata: dict[str, str] = {}
    source: Literal["ingress", "invocation", ""] = ""


def json_response(status: int, value: object, *headers: tuple[str, str]) -> Response:
    """An answer with a JSON body."""
    return Response(status, (JSON, *headers), msgspec.json.encode(value))


def refusal(error: RequestError) -> Response:
    """The answer to a request that is refused before an invocation is involved."""
    return ingress_error(error.error, error.message)


def ingress_error(error: IngressError, message: str, *headers: tuple[str, str]) -> Response:
    """An error of source ingress."""
    body = _ErrorBody(error.status, message, source="ingress")
    return json_response(error.status, body, ("x-restate-error-source", "ingress"), *headers)


def failure_response(failure: Failure, stacktrace: str, *headers: tuple[str, str]) -> Response:
    """The terminal failure of an invocation; its code is the status where that makes an error."""
    body = _ErrorBody(
        failure.code, failure.message, stacktrace, dict(failure.metadata), source="invocation"
    )
    is_status = FAILURE_STATUS_MIN <= failure.code <= FAILURE_STATUS_MAX
    status = failure.code if is_status else 500
    return json_response(status, body, ("x-restate-error-source", "invocation"), *headers)


def cors_headers(headers: dict[str, str]) -> Headers:
    """The CORS headers of every answer: everything is allowed and mirrored (ingress.md 17)."""
    origin = headers.get("origin")
    if origin is None:
        return CORS
    return (VARY, CREDENTIALS, ("access-control-allow-origin", origin))


def preflight(headers: dict[str, str]) -> Response:
    """The answer to any OPTIONS request; the CORS headers of every answer are added later."""
    asked = (
        ("access-control-allow-methods", headers.get("access-control-request-method")),
        ("access-control-allow-headers", headers.get("access-control-request-headers")),
    )
    return Response(200, tuple((name, value) for name, value in asked if value is not None))


def execution_time(at_ms: int) -> str:
    """As sends show it: nine digits of a second, or none."""
    moment = _written(at_ms)
    return f"{moment}.{at_ms % 1000:03}000000Z" if at_ms % 1000 else f"{moment}Z"


def expiry_time(at_ms: int) -> str:
    """As `idempotency-expires` shows it: three digits of a second, or none."""
    moment = _written(at_ms)
    return f"{moment}.{at_ms % 1000:03}+00:00" if at_ms % 1000 else f"{moment}+00:00"


def _written(at_ms: int) -> str:
    bounded_ms = min(at_ms, YEAR_10000_MS - 1)  # a retention may reach beyond what can be written
    moment = _EPOCH + timedelta(milliseconds=bounded_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")
