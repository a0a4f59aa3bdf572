"""Connecting: addresses in turn, their check, TLS."""

import datetime as dt
import ssl
from pathlib import Path

import h2.events
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from trio.abc import Stream

from restated.invoker.dial import Dialer
from restated.invoker.http1 import Http1Transport
from restated.invoker.http2 import Http2Transport
from restated.invoker.targets import Targets, parse_uri
from restated.invoker.transport import TransportError, TransportLimits, WrongHttpVersionError
from tests.invoker.peers import FakeNet, Http2Peer, deployment, run_virtually, start


class Picky(FakeNet):
    """Refuses all addresses but one."""

    async def connect(self, address: str, port: int) -> Stream:
        if address != "10.0.0.3":
            raise ConnectionRefusedError(111, address)
        return await super().connect(address, port)


def test_addresses_are_tried_in_turn() -> None:
    """A refused one, by the peer or by us, does not hide a good one."""

    async def test(_: trio.Nursery) -> None:
        net = Picky(addresses=[("10.0.0.1", 1), ("169.254.0.1", 1), ("10.0.0.3", 1)])
        wire = await Dialer(net, Targets(), 10).dial(parse_uri("http://many"), ())
        await wire.aclose()
        assert net.connects == 1

    run_virtually(test)


def test_a_name_without_addresses_is_an_error() -> None:
    """Nothing to try."""

    async def test(_: trio.Nursery) -> None:
        dialer = Dialer(FakeNet(addresses=[]), Targets(), 10)
        with pytest.raises(TransportError, match="'none' has no address"):
            await dialer.dial(parse_uri("http://none"), ())

    run_virtually(test)


def test_a_listener_of_ours_is_recognised_by_the_addresses_of_the_connection() -> None:
    """Z3: real sockets, a listener on all addresses."""

    class Real(FakeNet):
        async def connect(self, address: str, port: int) -> Stream:
            return await trio.open_tcp_stream(address, port)

    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        uri = parse_uri(f"http://127.0.0.1:{port}")
        wire = await Dialer(Real(), Targets(), 10).dial(uri, ())
        await wire.aclose()
        with pytest.raises(TransportError, match="this server itself"):
            await Dialer(Real(), Targets([("0.0.0.0", port)]), 10).dial(uri, ())
        await listener.aclose()

    trio.run(main)


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context and a client's that trusts it, for the name `localhost`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    path.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=pem.decode())
    return server, client


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


async def secured(net: FakeNet, server: ssl.SSLContext, *alpn: str) -> trio.SSLStream[Stream]:
    server.set_alpn_protocols(list(alpn))
    stream = trio.SSLStream(await net.accept(), server, server_side=True, https_compatible=True)
    await stream.do_handshake()
    return stream


def test_https_agrees_on_http_2(contexts: Contexts) -> None:
    """service-protocol.md 1.1: ALPN, h2 preferred."""

    async def test(nursery: trio.Nursery) -> None:
        net = FakeNet(addresses=[("127.0.0.1", 443)])
        transport = Http2Transport(nursery, net, Targets(), TransportLimits(), contexts[1])
        recorder = start(transport, iter((b"x",)), to=deployment("https://localhost"))
        peer = await Http2Peer(await secured(net, contexts[0], "h2", "http/1.1")).greet()
        request = await peer.next(h2.events.RequestReceived)
        assert (":scheme", "https") in request.headers
        await peer.answer(1, b"z" * 16_000)
        await recorder.over.wait()
        assert recorder.body == b"z" * 16_000

    run_virtually(test)


@pytest.mark.parametrize("alpn", [("http/1.1",), ()])
def test_https_without_http_2_is_told_apart(contexts: Contexts, alpn: tuple[str, ...]) -> None:
    """C89: discovery then asks again over HTTP/1.1."""

    async def test(nursery: trio.Nursery) -> None:
        net = FakeNet(addresses=[("127.0.0.1", 443)])
        transport = Http2Transport(nursery, net, Targets(), TransportLimits(), contexts[1])
        recorder = start(transport, iter((b"x",)), to=deployment("https://localhost"))
        await secured(net, contexts[0], *alpn)
        assert isinstance(await recorder.failure(), WrongHttpVersionError)

    run_virtually(test)


def test_https_with_http_1(contexts: Contexts) -> None:
    """A deployment registered with HTTP/1.1 behind TLS."""

    async def test(nursery: trio.Nursery) -> None:
        net = FakeNet(addresses=[("127.0.0.1", 443)])
        transport = Http1Transport(nursery, net, Targets(), TransportLimits(), contexts[1])
        to = deployment("https://localhost", "http1")
        for _ in range(2):
            recorder = start(transport, iter((b"x",)), to=to, streams=False)
            if not net.connects:
                stream = await secured(net, contexts[0], "h2", "http/1.1")
            await stream.receive_some(10_000)
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await recorder.over.wait()
            assert recorder.body == b"ok"
            await trio.testing.wait_all_tasks_blocked()
        assert net.connects == 1

    run_virtually(test)


def test_a_certificate_nobody_trusts_is_an_error(contexts: Contexts) -> None:
    """TLS is verified by default."""

    async def test(nursery: trio.Nursery) -> None:
        net = FakeNet(addresses=[("127.0.0.1", 443)])
        transport = Http2Transport(nursery, net, Targets(), TransportLimits())
        recorder = start(transport, iter((b"x",)), to=deployment("https://localhost"))
        with pytest.raises(trio.BrokenResourceError):
            await secured(net, contexts[0], "h2")
        assert "TLS failed: CERTIFICATE_VERIFY_FAILED" in str(await recorder.failure())

    run_virtually(test)
