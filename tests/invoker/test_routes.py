"""Which transport carries the requests of a deployment."""

import h2.events
import trio

from restated.invoker.routes import DeploymentTransport
from restated.invoker.targets import Targets
from tests.invoker.peers import FakeNet, Http2Peer, deployment, run_virtually, start


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
