"""Encoding and decoding of values by the deployment that knows how.

Lives here: the request to a deployment's own serde endpoint, its bounds, what is relayed.
Does not: what a serde is; connections (invoker/).
Source: admin.md 7.2. The web interface shows values that are no JSON with it.
"""

from http import HTTPStatus
from typing import Final, Literal
from urllib.parse import quote

import trio
from starlette.requests import Request
from starlette.responses import Response

from restated.admin.exchange import RequestError, bad_query, body, deps_of, failure, refusal
from restated.admin.registry import service_in_path
from restated.core.effects import Refused
from restated.invoker.transport import Exchange, ExchangeRequest, Transport, TransportError
from restated.model import ids
from restated.model.errors import ErrorCode
from restated.model.records import Deployment

SERDES_SECONDS_MAX: Final = 30.0
ANSWER_BYTES_MAX: Final = 33_554_432  # as a body that may be sent
SHOWN_BODY_BYTES_MAX: Final = 4_096  # of an answer that is no success
PROTOCOL: Final = ("x-restate-serdes-protocol", "v1")
# What is sent, and what is asked for: a stored value is bytes, a shown one JSON.
DECODING: Final = (("content-type", "application/octet-stream"), ("accept", "application/json"))
ENCODING: Final = (("content-type", "application/json"), ("accept", "*/*"))

Headers = tuple[tuple[str, str], ...]


async def decode(request: Request) -> Response:
    """A stored value as JSON."""
    return await _relay(request, "decode", DECODING)


async def encode(request: Request) -> Response:
    """JSON as a value to store."""
    return await _relay(request, "encode", ENCODING)


async def _relay(
    request: Request, operation: Literal["decode", "encode"], headers: Headers
) -> Response:
    deployment = _deployment_of(request)
    service = quote(str(request.path_params["service"]), safe="")
    # Names may have slashes; what no URI may have is escaped.
    name = quote(str(request.path_params["name"]), safe="/!$&'()*+,;=:@~")
    if not name:
        return Response(status_code=404)
    asked = ExchangeRequest(
        deployment=deployment,
        method="POST",
        path=f"/serdes/{service}/{operation}/{name}",
        headers=(*headers, PROTOCOL),
        streams=False,
    )
    value = await body(request)
    try:
        answer = await _ask(deps_of(request).transport, asked, value)
    except TransportError as error:
        return _failed(f"error when calling the serdes endpoint: {error}")
    if not 200 <= answer.status < 300:
        return _failed(answer.description())
    # Without content type, as the reference: nobody but the reader knows what it is.
    return Response(b"".join(answer.body))


def _deployment_of(request: Request) -> Deployment:
    """The one asked for, else that of the latest revision; RequestError with 400 or 404."""
    wanted = request.query_params.get("deployment")
    if wanted is None:
        return service_in_path(request).deployment
    try:
        deployment_id = ids.parse_deployment_id(wanted)
    except ids.IdError as error:
        raise bad_query(f"deployment: {error}") from error
    found = deps_of(request).catalog.current.deployments.get(deployment_id)
    if found is None:
        raise RequestError(refusal(Refused(ErrorCode.DEPLOYMENT_NOT_FOUND, deployment_id)))
    return found


def _failed(reason: str) -> Response:
    return failure(500, f"Internal server error: {reason}")


class _Answer:
    """Receives one answer, at most ANSWER_BYTES_MAX of it."""

    __slots__ = ("body", "done", "error", "exchange", "headers", "size", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.body: list[bytes] = []
        self.size = 0
        self.error: TransportError | None = None
        self.exchange: Exchange | None = None
        self.done = trio.Event()

    def on_response(self, status: int, headers: Headers) -> None:
        """See Receiver."""
        self.status, self.headers = status, headers

    def on_data(self, data: bytes) -> None:
        """See Receiver."""
        self.size += len(data)
        if self.size > ANSWER_BYTES_MAX:
            self.on_failed(TransportError(f"the answer is larger than {ANSWER_BYTES_MAX} bytes"))
            return
        self.body.append(data)
        if self.exchange is not None:
            self.exchange.consumed(len(data))

    def on_end(self) -> None:
        """See Receiver."""
        self.done.set()

    def on_failed(self, error: TransportError) -> None:
        """See Receiver."""
        self.error = error
        self.done.set()

    def description(self) -> str:
        """An answer that is no success, in the words of the reference."""
        code = f"{self.status}"
        if self.status == HTTPStatus.NOT_FOUND:
            hint = (
                "'404'. This might indicate the SDK doesn't support the serdes endpoint, or the "
                "serde name doesn't exist"
            )
        else:
            phrase = next((one.phrase for one in HTTPStatus if one == self.status), "")
            hint = f"'{f'{code} {phrase}'.rstrip()}'"
        fields = ", ".join(f'"{name}": "{value}"' for name, value in self.headers)
        shown = b"".join(self.body)[:SHOWN_BODY_BYTES_MAX].decode("utf-8", "replace")
        return f"got status code {hint}. Response headers: {{{fields}}}. Body: {shown}"


async def _ask(transport: Transport, asked: ExchangeRequest, value: bytes) -> _Answer:
    """The whole answer; raises TransportError when there is none in time."""
    answer = _Answer()
    answer.exchange = transport.open(asked, iter((value,) if value else ()), answer)
    with trio.move_on_after(SERDES_SECONDS_MAX) as scope:
        try:
            await answer.done.wait()
        finally:
            answer.exchange.abort()
    if answer.error is not None:
        raise answer.error
    if scope.cancelled_caught:
        raise TransportError(f"no complete answer within {SERDES_SECONDS_MAX:g} seconds")
    return answer
