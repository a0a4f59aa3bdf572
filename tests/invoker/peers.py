"""The other side of transports, in memory: a network, HTTP/2 services, receivers that record."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import trio
from trio.abc import Stream
from trio.testing import MockClock, memory_stream_pair

from restated.invoker.http2 import Http2Transport
from restated.invoker.targets import Targets
from restated.invoker.transport import (
    Exchange,
    ExchangeRequest,
    Transport,
    TransportError,
    TransportLimits,
)
from restated.model.records import Deployment
from restated.model.records import Transport as TransportName

Headers = tuple[tuple[str, str], ...]
PATIENCE_SECONDS = 100_000.0  # virtual: only a test that hangs gets there


def run_virtually(test: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    """Run a test on a virtual clock, with a nursery that is cancelled at its end."""

    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                await test(nursery)
                nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


class FakeNet:
    """Every connection becomes a pair of memory streams; `accept` gives the far end."""

    def __init__(
        self,
        pair: Callable[[], tuple[Stream, Stream]] = memory_stream_pair,
        addresses: Sequence[tuple[str, int]] | None = None,
    ) -> None:
        self._pair = pair
        self._addresses = addresses
        self._send, self._receive = trio.open_memory_channel[Stream](100)
        self.refusal: OSError | None = None
        self.is_silent = False
        self.connects = 0

    async def resolve(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        await trio.lowlevel.checkpoint()
        return [(host, port)] if self._addresses is None else self._addresses

    async def connect(self, address: str, port: int) -> Stream:  # noqa: ARG002  a seam's shape
        await trio.lowlevel.checkpoint()
        self.connects += 1
        if self.refusal is not None:
            raise self.refusal
        if self.is_silent:
            await trio.sleep_forever()
        ours, theirs = self._pair()
        self._send.send_nowait(theirs)
        return ours

    async def connect_unix(self, path: str) -> Stream:
        raise NotImplementedError

    async def listen(self, host: str, port: int) -> Sequence[trio.SocketListener]:
        raise NotImplementedError

    async def listen_unix(self, path: str, mode: int) -> trio.SocketListener:
        raise NotImplementedError

    async def accept(self) -> Stream:
        return await self._receive.receive()


class Recorder:
    """A receiver that keeps what it gets, and consumes at once unless told not to."""

    def __init__(self, *, consumes: bool = True) -> None:
        self.consumes = consumes
        self.exchange: Exchange | None = None
        self.status: int | None = None
        self.headers: Headers = ()
        self.pieces: list[bytes] = []
        self.ended = False
        self.error: TransportError | None = None
        self.over = trio.Event()
        self.answered = trio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def on_response(self, status: int, headers: Headers) -> None:
        assert self.status is None
        self.status, self.headers = status, headers
        self.answered.set()

    def on_data(self, data: bytes) -> None:
        assert self.status is not None
        assert not self.over.is_set()
        self.pieces.append(data)
        if self.consumes and self.exchange is not None:
            self.exchange.consumed(len(data))

    def on_end(self) -> None:
        assert not self.over.is_set()
        self.ended = True
        self.over.set()

    def on_failed(self, error: TransportError) -> None:
        assert not self.over.is_set()
        self.error = error
        self.over.set()

    async def failure(self) -> TransportError:
        await self.over.wait()
        assert self.error is not None
        return self.error


def deployment(
    uri: str = "http://service:9080",
    transport: TransportName = "http2",
    headers: bytes = b"{}",
) -> Deployment:
    return Deployment(
        id="dp_1", uri=uri, transport=transport, mode="bidi_stream", protocol_version_min=5,
        protocol_version_max=7, headers=headers, metadata=b"{}", created_at_ms=0,
    )  # fmt: skip


def start(
    transport: Transport,
    body: Iterator[bytes],
    *,
    to: Deployment | None = None,
    receiver: Recorder | None = None,
    streams: bool = True,
    method: str = "POST",
    headers: Headers = (("content-type", "application/x"),),
) -> Recorder:
    """Open an exchange; the recorder knows it."""
    receiver = receiver or Recorder()
    request = ExchangeRequest(to or deployment(), method, "/invoke/S/h", headers, streams)
    receiver.exchange = transport.open(request, body, receiver)
    return receiver


class Http2Peer:
    """A service on one connection: the h2 library in server role, driven step by step."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.log: list[Any] = []
        self.acknowledges = True
        self._taken = 0

    async def greet(self, **settings: int) -> "Http2Peer":
        if settings:
            codes = {getattr(h2.settings.SettingCodes, key): settings[key] for key in settings}
            self.h2.local_settings = h2.settings.Settings(client=False, initial_values=codes)
        self.h2.initiate_connection()
        await self.flush()
        return self

    async def flush(self) -> None:
        octets = self.h2.data_to_send()
        if octets:
            await self.stream.send_all(octets)

    async def send_raw(self, octets: bytes) -> None:
        await self.flush()
        await self.stream.send_all(octets)

    async def next(self, kind: type[Any]) -> Any:
        """The next event of a kind, in order; events between are kept in `log`."""
        while True:
            while self._taken < len(self.log):
                event = self.log[self._taken]
                self._taken += 1
                if isinstance(event, kind):
                    return event
            octets = await self.stream.receive_some(1 << 20)
            events = self.h2.receive_data(bytes(octets)) if octets else ["closed"]
            self.log += events
            for event in events:
                if isinstance(event, h2.events.DataReceived) and self.acknowledges:
                    size = event.flow_controlled_length
                    self.h2.acknowledge_received_data(size, event.stream_id)
            if events == ["closed"] and kind is not str:
                raise AssertionError(f"closed while waiting for {kind.__name__}: {self.log}")
            await self.flush()

    async def request(self) -> int:
        """Wait for a request; returns its stream id."""
        return int((await self.next(h2.events.RequestReceived)).stream_id)

    async def body(self, stream_id: int, size: int) -> bytes:
        """The next `size` bytes of a request."""
        octets = b""
        while len(octets) < size:
            event = await self.next(h2.events.DataReceived)
            assert event.stream_id == stream_id
            octets += event.data
        return octets

    async def answer(
        self, stream_id: int, body: bytes = b"", *, ends: bool = True, **headers: str
    ) -> None:
        fields = [(":status", "200"), *((k.replace("_", "-"), v) for k, v in headers.items())]
        self.h2.send_headers(stream_id, fields)
        if body or ends:
            self.h2.send_data(stream_id, body, end_stream=ends)
        await self.flush()


async def settle() -> None:
    """Until nobody has anything to do."""
    await trio.testing.wait_all_tasks_blocked()


class Bench:
    """A transport on a fake network."""

    def __init__(self, nursery: trio.Nursery, net: FakeNet | None = None, **limits: Any) -> None:
        self.net = net or FakeNet()
        self.limits = TransportLimits(**limits)
        self.transport = Http2Transport(nursery, self.net, Targets(), self.limits)

    async def peer(self, **options: int) -> Http2Peer:
        return await Http2Peer(await self.net.accept()).greet(**options)


def address() -> Any:
    return deployment(uri="http://127.0.0.1:9080")


def begin(bench: Bench, *pieces: bytes, **options: Any) -> Recorder:
    return start(bench.transport, iter(pieces), to=options.pop("to", address()), **options)
