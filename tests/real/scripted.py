"""A deployment over HTTP/2 whose attempts are played by a script, byte for byte.

Lives here: Scripted (the deployment, on a thread of its own), Attempt (one exchange).
Does not: what is played (test_transcripts.py, test_malformed.py).
"""

import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import trio

from restated.protocol.wire import Frame, FrameDecoder
from tests.daemon.running import ANSWER_S

MANIFEST_TYPE = "application/vnd.restate.endpointmanifest.v4+json"
END_STREAM = "END_STREAM"
RST_STREAM = "RST_STREAM"
RECEIVE_BYTES = 65_536
ITEMS_MAX = 100_000

Headers = list[tuple[str, str]]
Item = Frame | str  # a message of the server, or the end of its side: END_STREAM, RST_STREAM
Manifest = Mapping[str, Any]


class Attempt:
    """One exchange as the deployment sees it."""

    def __init__(self, connection: "_Connection", stream_id: int, headers: Headers) -> None:
        self.path = dict(headers)[":path"]
        self.headers = [(name, value) for name, value in headers if not name.startswith(":")]
        self.invocation_id = dict(headers).get("x-restate-invocation-id", "")
        self.received: list[Item] = []
        self._connection = connection
        self._stream_id = stream_id
        self._decoder = FrameDecoder()
        self._send, self._receive = trio.open_memory_channel[Item](ITEMS_MAX)

    async def next(self) -> Item:
        """The next thing that the server sends; AssertionError if nothing comes."""
        try:
            with trio.fail_after(ANSWER_S):
                return await self._receive.receive()
        except trio.TooSlowError:
            raise AssertionError(f"nothing follows {self.received} of {self.path}") from None

    async def respond(self, headers: Headers) -> None:
        """The head of the answer, `:status` first."""
        await self._connection.act(lambda h2: h2.send_headers(self._stream_id, headers))

    async def write(self, octets: bytes) -> None:
        """Bytes of the answer's body, within the window that the server opened."""
        await self._connection.act(lambda h2: h2.send_data(self._stream_id, octets))

    async def pour(self, octets: bytes) -> None:
        """Bytes of the answer's body, as the server opens the window; dropped once it resets."""
        await self._connection.pour(self._stream_id, octets)

    async def finish(self) -> None:
        """End the answer."""
        await self._connection.act(lambda h2: h2.end_stream(self._stream_id))

    def take(self, octets: bytes) -> None:
        """Bytes of the request's body have come."""
        for frame in self._decoder.receive(octets):
            self.take_item(frame)

    def take_item(self, item: Item) -> None:
        """Keep it, and give it to the script."""
        self.received.append(item)
        self._send.send_nowait(item)


Script = Callable[[Attempt], Awaitable[None]]


class Scripted:
    """The deployment; `script` runs once for each attempt. A script that fails is remembered."""

    def __init__(self, manifest: Manifest, script: Script) -> None:
        self.failures: list[BaseException] = []
        self.script = script
        self._manifest = json.dumps(manifest).encode()
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)
        self._thread.start()
        assert self._started.wait(ANSWER_S)

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(ANSWER_S)

    async def _run(self) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.uri = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._started.set()
                while True:
                    stream = await listener.accept()
                    nursery.start_soon(_Connection(stream, self, nursery).run)

    async def play(self, attempt: Attempt) -> None:
        """Answer one request."""
        if attempt.path == "/discover":
            await attempt.respond([(":status", "200"), ("content-type", MANIFEST_TYPE)])
            await attempt.write(self._manifest)
            await attempt.finish()
            return
        try:
            await self.script(attempt)
        except (Exception, BaseExceptionGroup) as failure:  # noqa: BLE001 - for the test to see
            self.failures.append(failure)


class _Connection:
    """One connection of the server."""

    def __init__(self, stream: trio.SocketStream, owner: Scripted, nursery: trio.Nursery) -> None:
        self._stream = stream
        self._owner = owner
        self._nursery = nursery
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self._attempts: dict[int, Attempt] = {}
        self._sending = trio.Lock()
        self._widened = trio.Event()

    async def run(self) -> None:
        """Until the server closes it."""
        self._h2.initiate_connection()
        await self._flush()
        while octets := await self._receive():
            for event in self._h2.receive_data(octets):
                self._on_event(event)
            await self._flush()

    async def act(self, what: Callable[[Any], None]) -> None:
        """Do something on a stream; nothing if the server reset it meanwhile."""
        try:
            what(self._h2)
        except (h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
            return
        await self._flush()

    async def pour(self, stream_id: int, octets: bytes) -> None:
        """Send all of it, however small the window is."""
        rest = memoryview(octets)
        try:
            while rest:
                room = self._h2.local_flow_control_window(stream_id)
                room = min(room, self._h2.max_outbound_frame_size)
                if room > 0:
                    self._h2.send_data(stream_id, bytes(rest[:room]))
                    rest = rest[room:]
                    await self._flush()
                else:
                    await self._widened.wait()
        except (h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
            return

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _flush(self) -> None:
        async with self._sending:
            try:
                await self._stream.send_all(self._h2.data_to_send())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    def _on_event(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            attempt = Attempt(
                self, event.stream_id, [(str(name), str(value)) for name, value in event.headers]
            )
            self._attempts[event.stream_id] = attempt
            self._nursery.start_soon(self._owner.play, attempt)
        elif isinstance(event, h2.events.DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._attempts[event.stream_id].take(event.data)
        elif isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            self._widened.set()
            self._widened = trio.Event()
        elif isinstance(event, h2.events.StreamEnded):
            self._attempts[event.stream_id].take_item(END_STREAM)
        elif isinstance(event, h2.events.StreamReset):
            assert event.error_code == h2.errors.ErrorCodes.CANCEL
            self._attempts[event.stream_id].take_item(RST_STREAM)
