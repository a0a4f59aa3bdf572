"""Discovery: ask a deployment for its manifest.

Lives here: the GET request, its retries and limits, the check of status and content type, the
texts of what went wrong.
Does not: what the manifest says (core/registry.py), how the answer to the operator looks (admin).
Sources: service-protocol.md 1.1-1.3, admin.md 4.2; C89 a peer of the other HTTP version is named
as such, C90 nothing but trouble on the way is tried again, Z3 redirects are not followed.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

import msgspec
import trio

from restated.invoker.targets import BaseUri, InvalidUriError, parse_uri
from restated.invoker.transport import (
    Exchange,
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
SHOWN_BODY_BYTES_MAX: Final = 4_096  # of an answer that is no manifest
SDK_CHARS_MAX: Final = 256
SERVER_HEADER: Final = "x-restate-server"

Headers = tuple[tuple[str, str], ...]


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
    try:
        uri = parse_uri(deployment.uri)
    except InvalidUriError as error:
        raise DiscoveryError(
            400, None, f"The request field 'uri' is invalid. Reason: {error}"
        ) from error
    if deployment.transport == "lambda":
        raise DiscoveryError(
            500, "META0003", f"error when calling '{deployment.uri}': Lambda is not supported"
        )
    with trio.move_on_after(DISCOVERY_SECONDS_MAX):
        return await _ask_until_answered(transport, deployment, headers, uri)
    limit = f"no complete answer within {DISCOVERY_SECONDS_MAX:g} seconds"
    raise _unreachable(uri, TransportError(limit))


async def _ask_until_answered(
    transport: Transport, deployment: Deployment, headers: Headers, uri: BaseUri
) -> DiscoveryAnswer:
    retries = 0
    while True:
        try:
            answer = await _ask(transport, deployment, headers)
            if answer.status not in RETRIED_STATUSES or retries == RETRY_COUNT_MAX:
                return _checked(answer)
        except WrongHttpVersionError as error:
            if deployment.transport != "http2":
                raise _unreachable(uri, error) from error
            if uri.scheme != "https":
                raise _unreachable(uri, error, "META0014") from error
            # TLS lets the server choose: it prefers HTTP/1.1 (1.1), without costing a retry.
            deployment = msgspec.structs.replace(deployment, transport="http1")
            continue
        except TransportError as error:
            if retries == RETRY_COUNT_MAX or isinstance(error, UnsendableError):
                raise _unreachable(uri, error) from error
        await trio.sleep(RETRY_SECONDS * RETRY_FACTOR**retries)
        retries += 1


class _Answer:
    """Receives one answer, at most MANIFEST_BYTES_MAX of it."""

    __slots__ = ("body", "done", "error", "exchange", "headers", "size", "status", "transport")

    def __init__(self, transport: TransportName) -> None:
        self.transport: TransportName = transport
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
        if self.size > MANIFEST_BYTES_MAX:
            self.done.set()
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

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key == name), None)


async def _ask(transport: Transport, deployment: Deployment, headers: Headers) -> _Answer:
    request = ExchangeRequest(
        deployment=deployment,
        method="GET",
        path="/discover",
        headers=(("accept", ACCEPT), *headers),
        streams=False,
    )
    answer = _Answer(deployment.transport)
    nothing: Iterator[bytes] = iter(())
    answer.exchange = transport.open(request, nothing, answer)
    try:
        await answer.done.wait()
    finally:
        answer.exchange.abort()
    if answer.error is not None:
        raise answer.error
    return answer


def _checked(answer: _Answer) -> DiscoveryAnswer:
    if not 200 <= answer.status < 300:
        raise DiscoveryError(500, "META0003", _status_text(answer))
    if answer.size > MANIFEST_BYTES_MAX:
        raise _bad_answer(f"The manifest is larger than {MANIFEST_BYTES_MAX} bytes")
    content_type = answer.header("content-type")
    expected = f"Expected one of '\"{ACCEPT}\"'"
    if content_type is None:
        raise _bad_answer(f"No content type header was specified. {expected} content type.")
    if content_type not in MANIFEST_TYPES:
        raise _bad_answer(f"Bad content type header: {_quoted(content_type)}. {expected}")
    return DiscoveryAnswer(
        manifest=b"".join(answer.body),
        content_type=content_type,
        sdk=_sdk(answer),
        transport=answer.transport,
    )


def _sdk(answer: _Answer) -> str | None:
    name = answer.header(SERVER_HEADER)
    return name[:SDK_CHARS_MAX] if name else None


def _status_text(answer: _Answer) -> str:
    fields = ", ".join(f"{_quoted(name)}: {_quoted(value)}" for name, value in answer.headers)
    shown = b"".join(answer.body)
    body = shown[:SHOWN_BODY_BYTES_MAX].decode("utf-8", "replace")
    if len(shown) > SHOWN_BODY_BYTES_MAX:
        body += f"... ({len(shown)} bytes)"
    if answer.status == HTTPStatus.NOT_FOUND:
        what = (
            "'404'. Make sure the provided URI has the correct path where the Restate SDK "
            "endpoint is mounted"
        )
    else:
        what = f"'{_status_line(answer.status)}'"
    return f"got status code {what}. Response headers: {{{fields}}}. Body: {body}"


def _status_line(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        return str(status)
    return f"{status} {_PHRASES.get(status, phrase)}"


# Where Python's names differ from those that every other tool prints.
_PHRASES: Final = {413: "Payload Too Large", 414: "URI Too Long", 418: "I'm a teapot"}


def _quoted(text: str) -> str:
    """In double quotes; bytes that are no printable ASCII are escaped, for one line of a log."""
    escaped = text.encode("latin-1", "backslashreplace").replace(b"\\", b"\\\\")
    plain = escaped.replace(b'"', b'\\"')
    return '"' + "".join(chr(x) if 0x20 <= x < 0x7F else f"\\x{x:02x}" for x in plain) + '"'


def _bad_answer(text: str) -> DiscoveryError:
    return DiscoveryError(500, "META0013", f"received a bad response from the SDK: {text}")


def _unreachable(uri: BaseUri, error: TransportError, code: str = "META0003") -> DiscoveryError:
    return DiscoveryError(500, code, f"error when calling '{uri.display}': {error}")
