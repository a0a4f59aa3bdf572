"""Discovery: ask a deployment for its manifest.

Lives here: the GET request, its retries and limits, the check of status and content type, the
texts of what went wrong.
Does not: what the manifest says (core/registry.py), how the answer to the operator looks (admin).
Sources: service-protocol.md 1.1-1.3, admin.md 4.2; C89 a peer of the other HTTP version is named
as such, C90 nothing but trouble on the way is tried again, Z3 redirects are not followed.
"""

from http import HTTPStatus
from typing import Final

import msgspec
import trio

from restated.invoker.asking import Headers, WholeAnswer, ask, quoted
from restated.invoker.targets import InvalidUriError, parse_uri
from restated.invoker.transport import (
    ExchangeRequest,
    Transport,
    TransportError,
    UnsendableError,
    WrongHttpVersionError,
)
from restated.model.records import Deployment, Record
from restated.model.records import Transport as TransportName

MANIFEST_TYPES: Final = tuple(
    f"application/vnd.restate.endpointmanifest.v{version}+json" for version in (1, 2, 3, 4)
)
ACCEPT: Final = ", ".join(MANIFEST_TYPES)
RETRIED_STATUSES: Final = frozenset((408, 429, 500, 502, 503, 504))
RETRY_COUNT_MAX: Final = 4
RETRY_SECONDS: Final = 0.1
RETRY_FACTOR: Final = 2
DISCOVERY_SECONDS_MAX: Final = 60.0  # all tries together
MANIFEST_BYTES_MAX: Final = 16 << 20
SDK_CHARS_MAX: Final = 256
SERVER_HEADER: Final = "x-restate-server"


class DiscoveryAnswer(Record):
    """What a deployment said about itself; `manifest` is JSON that nobody has checked yet."""

    manifest: bytes
    content_type: str
    sdk: str | None  # its x-restate-server header
    transport: TransportName  # the version that was spoken, to be stored and used


class DiscoveryError(Exception):
    """A deployment could not be discovered; `message` is what the operator sees, complete."""

    def __init__(self, status: int, restate_code: str | None, text: str) -> None:
        # The prefix stands twice, as clients of the admin API know it (service-protocol.md 1.3).
        prefix = f"[{restate_code}] [{restate_code}] " if restate_code else ""
        self.status = status
        self.restate_code = restate_code
        self.message = prefix + text
        super().__init__(self.message)


async def discover(
    transport: Transport, deployment: Deployment, headers: Headers = ()
) -> DiscoveryAnswer:
    """Ask for the manifest of a deployment that need not be registered yet.

    Of `deployment` only `uri`, `transport` and `headers` matter. `headers` are further ones of
    this request, such as the request identity. Tries five times within about two seconds when
    the network or a temporary status is in the way. Raises DiscoveryError.
    """
    address = deployment.uri
    if deployment.transport != "lambda":
        try:
            address = parse_uri(deployment.uri).display
        except InvalidUriError as error:
            raise DiscoveryError(
                400, None, f"The request field 'uri' is invalid. Reason: {error}"
            ) from error
    with trio.move_on_after(DISCOVERY_SECONDS_MAX):
        return await _ask_until_answered(transport, deployment, headers, address)
    limit = f"no complete answer within {DISCOVERY_SECONDS_MAX:g} seconds"
    raise _unreachable(address, TransportError(limit))


async def _ask_until_answered(
    transport: Transport, deployment: Deployment, headers: Headers, address: str
) -> DiscoveryAnswer:
    retries = 0
    while True:
        try:
            answer = await _ask(transport, deployment, headers)
            if answer.status not in RETRIED_STATUSES or retries == RETRY_COUNT_MAX:
                return _checked(answer, deployment.transport)
        except WrongHttpVersionError as error:
            if deployment.transport != "http2":
                raise _unreachable(address, error) from error
            if not address.startswith("https:"):
                raise _unreachable(address, error, "META0014") from error
            # TLS lets the server choose: it prefers HTTP/1.1 (1.1), without costing a retry.
            deployment = msgspec.structs.replace(deployment, transport="http1")
            continue
        except TransportError as error:
            if retries == RETRY_COUNT_MAX or isinstance(error, UnsendableError):
                raise _unreachable(address, error) from error
        await trio.sleep(RETRY_SECONDS * RETRY_FACTOR**retries)
        retries += 1


async def _ask(transport: Transport, deployment: Deployment, headers: Headers) -> WholeAnswer:
    request = ExchangeRequest(
        deployment=deployment,
        method="GET",
        path="/discover",
        headers=(("accept", ACCEPT), *headers),
        streams=False,
    )
    return await ask(transport, request, bytes_max=MANIFEST_BYTES_MAX)


def _checked(answer: WholeAnswer, spoken: TransportName) -> DiscoveryAnswer:
    if not 200 <= answer.status < 300:
        raise DiscoveryError(500, "META0003", _status_text(answer))
    if answer.is_too_large:
        raise _bad_answer(f"The manifest is larger than {MANIFEST_BYTES_MAX} bytes")
    content_type = answer.header("content-type")
    expected = f"Expected one of '\"{ACCEPT}\"'"
    if content_type is None:
        raise _bad_answer(f"No content type header was specified. {expected} content type.")
    if content_type not in MANIFEST_TYPES:
        raise _bad_answer(f"Bad content type header: {quoted(content_type)}. {expected}")
    return DiscoveryAnswer(
        manifest=answer.body,
        content_type=content_type,
        sdk=_sdk(answer),
        transport=spoken,
    )


def _sdk(answer: WholeAnswer) -> str | None:
    name = answer.header(SERVER_HEADER)
    return name[:SDK_CHARS_MAX] if name else None


def _status_text(answer: WholeAnswer) -> str:
    if answer.status == HTTPStatus.NOT_FOUND:
        return answer.description(
            "'404'. Make sure the provided URI has the correct path where the Restate SDK "
            "endpoint is mounted"
        )
    return answer.description()


def _bad_answer(text: str) -> DiscoveryError:
    return DiscoveryError(500, "META0013", f"received a bad response from the SDK: {text}")


def _unreachable(address: str, error: TransportError, code: str = "META0003") -> DiscoveryError:
    return DiscoveryError(500, code, f"error when calling '{address}': {error}")
