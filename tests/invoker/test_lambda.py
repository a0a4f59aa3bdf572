"""Requests to Lambda functions and what their answers become."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import trio
from trio.abc import Stream

from restated.invoker.http1 import Http1Transport
from restated.invoker.lambda_ import (
    ANSWER_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    Call,
    LambdaTransport,
    answer,
    endpoint_of_arn,
    envelope,
)
from restated.invoker.targets import Targets
from restated.invoker.transport import (
    ExchangeRequest,
    Headers,
    TransportError,
    TransportLimits,
    UnsendableError,
)
from tests.invoker.peers import FakeNet, Recorder, deployment, run_virtually, settle, start

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:greeter:1"
FUNCTION = deployment(ARN, "lambda", b'{"X-Api-Key":"k"}')
PATH = (
    "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Agreeter%3A1"
)


class FakeSigner:
    """Adds one header; refuses when told to."""

    def __init__(self, endpoint: str | None = "http://127.0.0.1:1") -> None:
        self.endpoint = endpoint
        self.calls: list[Call] = []
        self.refusal: TransportError | None = None
        self.is_slow = False

    async def sign(self, call: Call) -> Headers:
        await trio.lowlevel.checkpoint()
        self.calls.append(call)
        if self.is_slow:
            await trio.sleep_forever()
        if self.refusal is not None:
            raise self.refusal
        return (*call.headers, ("authorization", "signed"))


class FunctionBench:
    """A transport of functions on a fake network."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.net = FakeNet()
        self.signer = FakeSigner()
        limits = TransportLimits()
        http = Http1Transport(nursery, self.net, Targets(), limits)
        self.transport = LambdaTransport(nursery, http, limits, self.signer)

    def start(self, *pieces: bytes) -> Recorder:
        return start(self.transport, iter(pieces), to=FUNCTION, streams=False)


async def request_of(stream: Stream) -> tuple[str, dict[str, str], Any]:
    """First line, headers and decoded body of the request on a connection."""
    octets = b""
    while b"\r\n\r\n" not in octets:
        octets += await stream.receive_some(65_536)
    head, _, body = octets.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    while len(body) < int(headers["content-length"]):
        body += await stream.receive_some(65_536)
    return first, headers, json.loads(body)


async def reply(stream: Stream, payload: bytes, *fields: str, status: str = "200 OK") -> None:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(payload)}", *fields, "\r\n"]
    await stream.send_all("\r\n".join(head).encode() + payload)


async def pour(stream: Stream, size: int) -> None:
    for _ in range(size // 1_000_000):
        await stream.send_all(b"a" * 1_000_000)
        await settle()


def told(**members: Any) -> bytes:
    return json.dumps({"statusCode": 200, **members}).encode()


def test_a_request_travels_in_an_envelope_with_its_length() -> None:
    """service-protocol.md 2.4; AWS takes no chunked requests."""

    async def test(nursery: trio.Nursery) -> None:
        bench = FunctionBench(nursery)
        bench.start(b"start", b"", b"input")
        first, headers, event = await request_of(await bench.net.accept())
        assert first == f"POST {PATH}/invocations HTTP/1.1"
        assert (headers["host"], headers["authorization"]) == ("127.0.0.1:1", "signed")
        assert "transfer-encoding" not in headers
        assert event == {
            "path": "/invoke/S/h",
            "httpMethod": "POST",
            "headers": {
                "content-type": "application/x",
                "x-restate-cluster-name": "localcluster",
                "x-api-key": "k",
            },
            "body": base64.b64encode(b"startinput").decode(),
            "isBase64Encoded": True,
        }
        assert bench.signer.calls[0].region == "eu-west-1"

    run_virtually(test)


def test_the_answer_is_taken_out_of_its_envelope_and_the_connection_is_kept() -> None:
    """service-protocol.md 2.4: status, headers, body; names in lower case."""

    async def test(nursery: trio.Nursery) -> None:
        bench = FunctionBench(nursery)
        first = bench.start(b"x")
        stream = await bench.net.accept()
        await request_of(stream)
        body = base64.b64encode(b"\0\xff").decode()
        payload = told(headers={"X-Restate-Server": "s"}, body=body, isBase64Encoded=True)
        await reply(stream, payload)
        await first.over.wait()
        assert (first.status, first.headers, first.body, first.ended) == (
            200, (("x-restate-server", "s"),), b"\0\xff", True,
        )  # fmt: skip
        second = bench.start(b"y")
        await request_of(stream)
        await reply(stream, told(statusCode=415, body="no"))
        await second.over.wait()
        assert (second.status, second.body, bench.net.connects) == (415, b"no", 1)

    run_virtually(test)


def test_a_large_answer_arrives_whole() -> None:
    """M4: the connection reads on as the pieces are taken."""

    async def test(nursery: trio.Nursery) -> None:
        bench = FunctionBench(nursery)
        recorder = bench.start(b"x")
        stream = await bench.net.accept()
        await request_of(stream)
        await reply(stream, told(body="a" * 3_000_000))
        await recorder.over.wait()
        assert recorder.body == b"a" * 3_000_000

    run_virtually(test)


def test_an_endless_answer_is_cut_off() -> None:
    """A limit on everything."""

    async def test(nursery: trio.Nursery) -> None:
        bench = FunctionBench(nursery)
        recorder = bench.start(b"x")
        stream = await bench.net.accept()
        await request_of(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await pour(stream, 2 * ANSWER_BYTES_MAX)
        assert "larger than" in str(await recorder.failure())

    run_virtually(test)


def test_trouble_before_the_request_is_the_failure_of_the_exchange() -> None:
    """Credentials, a header that cannot be sent: told once, nothing is connected to."""

    async def test(nursery: trio.Nursery) -> None:
        bench = FunctionBench(nursery)
        bench.signer.refusal = TransportError("no AWS credentials")
        assert str(await bench.start(b"x").failure()) == "no AWS credentials"
        broken = deployment(ARN, "lambda", b'{"host":"x"}')
        recorder = start(bench.transport, iter(()), to=broken)
        assert isinstance(await recorder.failure(), UnsendableError)
        assert bench.net.connects == 0

    run_virtually(test)


def test_who_gave_up_hears_nothing() -> None:
    """Exchange.abort, before and after the request has been sent."""

    async def test(nursery: trio.Nursery) -> None:
        bench = FunctionBench(nursery)
        waiting = bench.start(b"x")
        stream = await bench.net.accept()
        await request_of(stream)
        bench.signer.is_slow = True
        unsigned = bench.start(b"y")
        for recorder in (waiting, unsigned):
            await settle()
            assert recorder.exchange is not None
            recorder.exchange.abort()
        await settle()
        assert await stream.receive_some(1) == b""
        assert not waiting.over.is_set()
        assert not unsigned.over.is_set()

    run_virtually(test)


@pytest.mark.parametrize(
    ("status", "headers", "payload", "words"),
    [
        (429, (), b'{"Message":"Rate exceeded"}', "status 429: .*Rate exceeded"),
        (200, (("x-amz-function-error", "Unhandled"),), b'{"errorMessage":"boom"}', "boom"),
        (200, (), b"", "without a payload"),
        (200, (), b"null", "something else"),
        (200, (), b"{}", "something else"),
        (200, (), told(body="$", isBase64Encoded=True), "something else"),
        (200, (), told(body="ä", isBase64Encoded=True), "something else"),
        (200, (), told(statusCode=20), "status 20"),
        (200, (), told(statusCode=1_000), "status 1000"),
    ],
)
def test_other_answers_are_failures(
    status: int, headers: Headers, payload: bytes, words: str
) -> None:
    """service-protocol.md 2.4: RT0010, with what AWS or the function said."""
    with pytest.raises(TransportError, match=words) as failed:
        answer(status, headers, payload)
    assert failed.value.code == "RT0010"


def test_a_journal_that_does_not_fit_is_refused_at_the_bound() -> None:
    """AWS takes 6 MiB; more is not even read."""
    request = ExchangeRequest(FUNCTION, "POST", "/invoke/S/h", (), streams=False)
    room = PAYLOAD_BYTES_MAX - len(envelope(request, (), iter(())))
    fitting = b"x" * (room // 4 * 3)
    assert PAYLOAD_BYTES_MAX - 4 < len(envelope(request, (), iter((fitting,)))) <= PAYLOAD_BYTES_MAX
    with pytest.raises(UnsendableError, match="6,291,456 bytes"):
        envelope(request, (), iter((fitting, b"123")))
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 1_000_000

    with pytest.raises(UnsendableError):
        envelope(request, (), endless())
    assert read <= 7


@pytest.mark.parametrize(
    ("partition", "endpoint"),
    [
        ("aws", "https://lambda.eu-west-1.amazonaws.com"),
        ("aws-us-gov", "https://lambda.eu-west-1.amazonaws.com"),
        ("aws-cn", "https://lambda.eu-west-1.amazonaws.com.cn"),
    ],
)
def test_the_api_is_where_the_function_is(partition: str, endpoint: str) -> None:
    """The ARN names partition and region."""
    assert endpoint_of_arn(ARN.replace("aws", partition, 1)) == endpoint


def test_an_unknown_partition_is_named() -> None:
    """Nothing is sent to a guessed address."""
    with pytest.raises(UnsendableError, match=r"'aws-moon'.*AWS_ENDPOINT_URL_LAMBDA"):
        endpoint_of_arn(ARN.replace("aws", "aws-moon", 1))


def test_the_envelope_keeps_the_order_that_was_read() -> None:
    """service-protocol.md 2.4."""
    request = ExchangeRequest(FUNCTION, "GET", "/discover", (), streams=False)
    members = msgspec.json.decode(envelope(request, (), iter(())))
    assert list(members) == ["path", "httpMethod", "headers", "body", "isBase64Encoded"]
