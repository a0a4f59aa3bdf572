"""Which transport carries the requests of a deployment."""

from pathlib import Path

import h2.events
import pytest
import trio
from trio.abc import Stream

from restated.invoker.identity import load_identity
from restated.invoker.routes import DeploymentTransport
from restated.invoker.targets import Targets
from restated.invoker.transport import ExchangeRequest
from restated.model.records import Transport as TransportName
from tests.invoker.peers import FakeNet, Http2Peer, Recorder, deployment, run_virtually, start
from tests.invoker.test_identity import SetClock, key_file


def test_a_deployment_is_spoken_to_as_it_was_registered() -> None:
    """Deployment.transport; service-protocol.md 1.1: no fallback from one to the other."""

    async def test(nursery: trio.Nursery) -> None:
        net = FakeNet()
        transport = DeploymentTransport(nursery, net, Targets())
        start(transport, iter((b"x",)), to=deployment("http://127.0.0.1:1", "http2"))
        peer = await Http2Peer(await net.accept()).greet()
        await peer.next(h2.events.RequestReceived)
        start(transport, iter((b"x",)), to=deployment("http://127.0.0.1:1", "http1"))
        stream = await net.accept()
        assert bytes(await stream.receive_some(100)).startswith(b"POST /invoke/S/h HTTP/1.1\r\n")

    run_virtually(test)


def test_a_deployment_that_cannot_be_reached_fails_later() -> None:
    """Lambda: a clear text, never an exception of `open`."""

    async def test(nursery: trio.Nursery) -> None:
        transport = DeploymentTransport(nursery, FakeNet(), Targets())
        to = deployment("arn:aws:lambda:eu:1:function:f:1", "lambda")
        recorder, given_up = (start(transport, iter(()), to=to) for _ in range(2))
        assert given_up.exchange is not None
        given_up.exchange.abort()
        assert not recorder.over.is_set()
        assert "over lambda" in str(await recorder.failure())
        assert not given_up.over.is_set()

    run_virtually(test)


@pytest.mark.parametrize(("version", "path"), [("http1", "/invoke/S/h"), ("http2", "/discover")])
def test_every_request_is_signed_behind_its_own_headers(
    tmp_path: Path, version: TransportName, path: str
) -> None:
    """service-protocol.md 2.1: invocation, signature, cluster name; 2.3 the base path is not told.

    What an answer to an unsigned request looks like is tests/real/test_identity.py.
    """

    async def test(nursery: trio.Nursery) -> None:
        identity = load_identity(key_file(tmp_path), SetClock(5_000))
        net = FakeNet()
        transport = DeploymentTransport(nursery, net, Targets(), identity=identity)
        headers = (("x-restate-invocation-id", "inv_1"),)
        to = deployment("http://127.0.0.1:1/below", version)
        request = ExchangeRequest(to, "POST", path, headers, streams=False, object_key="k 1")
        transport.open(request, iter(()), Recorder())
        names, values = await head_of(await net.accept(), version)
        signed = identity.headers(path, "k 1")
        assert [name for name in names if name.startswith("x-")] == [
            "x-restate-invocation-id", "x-restate-signature-scheme", "x-restate-jwt-v1",
            "x-restate-cluster-name",
        ]  # fmt: skip
        assert [values[name] for name, _ in signed] == [value for _, value in signed]

    run_virtually(test)


async def head_of(stream: Stream, version: str) -> tuple[list[str], dict[str, str]]:
    """Names in order, and values, of the fields of a request."""
    if version == "http2":
        peer = await Http2Peer(stream).greet()
        fields = (await peer.next(h2.events.RequestReceived)).headers
    else:
        head = bytes(await stream.receive_some(4_096)).decode().partition("\r\n\r\n")[0]
        fields = [line.split(": ", 1) for line in head.split("\r\n")[1:]]
    return [name for name, _ in fields], dict(fields)
