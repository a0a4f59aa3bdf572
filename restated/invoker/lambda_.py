"""Exchanges with deployments that are AWS Lambda functions (service-protocol.md 2.4).

Lives here: `LambdaTransport`, the envelope around a request and around its answer, the address of
a function.
Does not: signatures and credentials (the Signer that the daemon brings), HTTP (http1.py).

One exchange is one Invoke call: the request is complete before it is sent, the answer before it is
delivered. Compression is not offered to functions: their answers are at most 6 MB either way, and
the standard library has no zstd.
"""

import base64
import binascii
import logging
from collections.abc import Iterator
from typing import Final, Protocol
from urllib.parse import quote

import msgspec
import trio

from restated.invoker.endpoint import additional_headers, checked
from restated.invoker.http1 import Http1Transport
from restated.invoker.targets import BaseUri, InvalidUriError, parse_uri
from restated.invoker.transport import (
    Exchange,
    ExchangeRequest,
    Headers,
    Receiver,
    TransportError,
    TransportLimits,
    UnsendableError,
)
from restated.model.records import Record
from restated.store.store import StoreFailedError

PAYLOAD_BYTES_MAX: Final = 6 * 1024 * 1024  # of a synchronous Invoke, set by AWS
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
SHOWN_BYTES_MAX: Final = 1_024  # of an error's body
FUNCTION_ERROR: Final = "x-amz-function-error"
SUFFIXES: Final = {  # of host names, by partition of the ARN
    "aws": "amazonaws.com",
    "aws-us-gov": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
    "aws-iso": "c2s.ic.gov",
    "aws-iso-b": "sc2s.sgov.gov",
}

log = logging.getLogger(__name__)


class Call(Record):
    """One request to the API of AWS Lambda, before it is signed."""

    region: str
    url: str
    body: bytes
    headers: Headers
    role: str | None  # ARN of the role to invoke it as


class Signer(Protocol):
    """Credentials of this machine, and where the API is."""

    endpoint: str | None  # a base URI that replaces the one of AWS

    async def sign(self, call: Call) -> Headers:
        """The call's headers and those of its signature. Raises TransportError."""
        ...


class LambdaTransport:
    """The Transport of Lambda functions; its tasks run in `nursery`."""

    __slots__ = ("_http", "_limits", "_nursery", "_signer")

    def __init__(
        self, nursery: trio.Nursery, http: Http1Transport, limits: TransportLimits, signer: Signer
    ) -> None:
        self._nursery = nursery
        self._http = http
        self._limits = limits
        self._signer = signer

    def open(self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver) -> Exchange:
        """See Transport."""
        exchange = _LambdaExchange(receiver)
        self._nursery.start_soon(self._invoke, request, body, exchange)
        return exchange

    async def _invoke(
        self, request: ExchangeRequest, body: Iterator[bytes], exchange: "_LambdaExchange"
    ) -> None:
        try:
            with exchange.scope:
                call = self._call(request, body)
                headers = await self._signer.sign(call)
                uri, target = _split(call.url)
                message = _message(uri, target, headers, call.body)
                exchange.inner = self._http.send(uri, message, exchange)
                try:
                    await exchange.answered.wait()
                finally:
                    exchange.inner.abort()
        except TransportError as error:
            exchange.on_failed(error)
        except StoreFailedError:
            raise
        except Exception:  # a defect of one attempt must not take others along
            log.exception("event=lambda_failed arn=%s", request.deployment.uri)
            exchange.on_failed(TransportError("the function could not be invoked, see the log"))

    def _call(self, request: ExchangeRequest, body: Iterator[bytes]) -> Call:
        deployment = request.deployment
        registered = additional_headers(deployment.headers, self._limits.cluster_name)
        payload = envelope(request, (*checked(request.headers), *registered), body)
        arn = deployment.uri
        region = arn.split(":")[3]
        endpoint = self._signer.endpoint or endpoint_of_arn(arn)
        url = f"{endpoint.rstrip('/')}/2015-03-31/functions/{quote(arn, safe='')}/invocations"
        headers = (("content-type", "application/json"),)
        return Call(region, url, payload, headers, deployment.assume_role_arn)


class _LambdaExchange:
    """An Exchange, and the receiver of the API's answer inside of which the function's stands."""

    __slots__ = (
        "_body", "_body_bytes", "_headers", "_receiver", "_status", "answered", "inner", "scope",
    )  # fmt: skip

    def __init__(self, receiver: Receiver) -> None:
        self.inner: Exchange | None = None  # the one with the API
        self.scope = trio.CancelScope()
        self.answered = trio.Event()
        self._receiver: Receiver | None = receiver
        self._status = 0
        self._headers: Headers = ()
        self._body: list[bytes] = []
        self._body_bytes = 0

    # -- the Exchange protocol

    def send(self, data: bytes) -> None:
        """See Exchange; a function is told nothing behind its request."""

    def send_lazily(self, pieces: Iterator[bytes]) -> None:
        """See Exchange; a function is told nothing behind its request."""

    def end(self) -> None:
        """See Exchange; the request is complete already."""

    def abort(self) -> None:
        """See Exchange; the function runs on, nobody listens."""
        self._receiver = None
        self.scope.cancel()

    def consumed(self, count: int) -> None:
        """See Exchange; the answer is here as a whole."""

    def keep(self, count: int) -> None:
        """See Exchange."""

    # -- the answer of the API

    def on_response(self, status: int, headers: Headers) -> None:
        """See Receiver."""
        self._status, self._headers = status, headers

    def on_data(self, data: bytes) -> None:
        """See Receiver."""
        self._body_bytes += len(data)
        if self._body_bytes > ANSWER_BYTES_MAX:
            self.on_failed(TransportError(f"its answer is larger than {ANSWER_BYTES_MAX:,} bytes"))
            return
        self._body.append(data)
        if self.inner is not None:
            self.inner.consumed(len(data))

    def on_end(self) -> None:
        """See Receiver."""
        try:
            status, headers, body = answer(self._status, self._headers, b"".join(self._body))
        except TransportError as error:
            self.on_failed(error)
            return
        self.answered.set()
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        receiver.on_response(status, headers)
        if body:
            receiver.on_data(body)
        receiver.on_end()

    def on_failed(self, error: TransportError) -> None:
        """See Receiver."""
        self.answered.set()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.on_failed(error)


# -- the envelope


class _Request(msgspec.Struct, rename="camel"):
    path: str
    http_method: str
    headers: dict[str, str]
    body: str
    is_base64_encoded: bool


class _Answer(msgspec.Struct, rename="camel"):
    status_code: int
    headers: dict[str, str] | None = None
    body: str | None = None
    is_base64_encoded: bool = False


def envelope(request: ExchangeRequest, headers: Headers, body: Iterator[bytes]) -> bytes:
    """The payload of an Invoke. Raises UnsendableError when it is larger than AWS takes."""
    pieces: list[bytes] = []
    size = 0
    for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size > PAYLOAD_BYTES_MAX:
            break  # the check below names it
    text = base64.b64encode(b"".join(pieces)).decode("ascii")
    payload = msgspec.json.encode(
        _Request(request.path, request.method, dict(headers), text, is_base64_encoded=True)
    )
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise UnsendableError(
            f"the journal does not fit the {PAYLOAD_BYTES_MAX:,} bytes that a Lambda function can "
            "be given; serve the handler over HTTP, or keep its journal shorter"
        )
    return payload


def answer(status: int, headers: Headers, payload: bytes) -> tuple[int, Headers, bytes]:
    """Status, headers and body that a function answered. Raises TransportError (RT0010)."""
    shown = payload[:SHOWN_BYTES_MAX].decode("utf-8", "replace")
    if not 200 <= status < 300:
        raise TransportError(f"AWS Lambda refused the invocation with status {status}: {shown}")
    kind = next((value for name, value in headers if name == FUNCTION_ERROR), None)
    if kind is not None:
        raise TransportError(f"the function failed ({kind}): {shown}")
    if not payload:
        raise TransportError("the function answered without a payload")
    try:
        told = msgspec.json.decode(payload, type=_Answer)
        body = (told.body or "").encode()
        if told.is_base64_encoded:
            body = base64.b64decode(body, validate=True)
    except (msgspec.DecodeError, binascii.Error) as error:
        raise TransportError(
            f"the function answered something else than an HTTP response: {error}; "
            "check that its handler is that of a Restate SDK"
        ) from error
    if not 200 <= told.status_code <= 599:
        raise TransportError(f"the function answered with status {told.status_code}")
    fields = tuple((name.lower(), value) for name, value in (told.headers or {}).items())
    return told.status_code, fields, body


# -- the request to the API


def endpoint_of_arn(arn: str) -> str:
    """The base URI of the API for a function. Raises UnsendableError."""
    _, partition, _, region, *_ = arn.split(":")
    suffix = SUFFIXES.get(partition)
    if suffix is None:
        raise UnsendableError(
            f"the address of AWS Lambda in the partition '{partition}' is not known; "
            "set AWS_ENDPOINT_URL_LAMBDA"
        )
    return f"https://lambda.{region}.{suffix}"


def _split(url: str) -> tuple[BaseUri, str]:
    try:
        uri = parse_uri(url)
    except InvalidUriError as error:
        raise UnsendableError(f"the address of AWS Lambda cannot be used: {error}") from error
    return uri, uri.target("")


def _message(uri: BaseUri, target: str, headers: Headers, body: bytes) -> bytes:
    """A whole HTTP/1.1 request; AWS wants to know its length before."""
    lines = [f"POST {target} HTTP/1.1", f"host: {uri.authority}"]
    lines += [f"{name}: {value}" for name, value in checked(headers)]
    lines += [f"content-length: {len(body)}", "\r\n"]
    return "\r\n".join(lines).encode() + body
