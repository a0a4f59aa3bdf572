"""Encoding and decoding of values by the deployment that knows how.

Lives here: the request to a deployment's own serde endpoint, its bounds, what is relayed.
Does not: what a serde is; connections (invoker/).
Source: admin.md 7.2. The web interface shows values that are no JSON with it.
"""

from typing import Final, Literal
from urllib.parse import quote

import trio
from starlette.requests import Request
from starlette.responses import Response

from restated.admin.exchange import (
    RequestError,
    bad_query,
    body,
    deps_of,
    failure,
    parameter,
    refusal,
)
from restated.admin.registry import service_in_path
from restated.core.effects import Refused
from restated.invoker.asking import Headers, ask
from restated.invoker.transport import ExchangeRequest, TransportError
from restated.model import ids
from restated.model.errors import ErrorCode
from restated.model.records import Deployment

SERDES_SECONDS_MAX: Final = 30.0
ANSWER_BYTES_MAX: Final = 33_554_432  # as a body that may be sent
NOT_FOUND: Final = (
    "'404'. This might indicate the SDK doesn't support the serdes endpoint, or the serde name "
    "doesn't exist"
)
PROTOCOL: Final = ("x-restate-serdes-protocol", "v1")
# What is sent, and what is asked for: a stored value is bytes, a shown one JSON.
DECODING: Final = (("content-type", "application/octet-stream"), ("accept", "application/json"))
ENCODING: Final = (("content-type", "application/json"), ("accept", "*/*"))


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
        with trio.fail_after(SERDES_SECONDS_MAX):
            answer = await ask(deps_of(request).transport, asked, value, bytes_max=ANSWER_BYTES_MAX)
    except TransportError as error:
        return _failed(f"error when calling the serdes endpoint: {error}")
    except trio.TooSlowError:
        return _failed(f"no complete answer within {SERDES_SECONDS_MAX:g} seconds")
    if not 200 <= answer.status < 300:
        return _failed(answer.description(NOT_FOUND if answer.status == 404 else None))
    if answer.is_too_large:
        return _failed(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
    # Without content type, as the reference: nobody but the reader knows what it is.
    return Response(answer.body)


def _deployment_of(request: Request) -> Deployment:
    """The one asked for, else that of the latest revision; RequestError with 400 or 404."""
    wanted = parameter(request, "deployment", None)
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
