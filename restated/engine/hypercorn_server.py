"""Hypercorn's server of one connection, set up for what both listeners promise.

Lives here: its settings, when it learns of a shutdown, what it must not make of header fields.
Does not: bound the peer (hypercorn_stream.py), know what the app answers.
`TCPServer` is not public: pinned in pyproject.toml, tests/engine/ hold the contract.
"""

from typing import Final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from restated.engine.hypercorn_stream import ASGIApp, Caller, ServedStream, StreamLimits, log

REQUESTS_MAX: Final = 2**62  # Hypercorn would cut the requests in progress at its own bound
LAST_FRAMES_S: Final = 0.05  # for frames that stand behind the end of an answer


class _Server(TCPServer):
    """Hands on HTTP/2 header fields as they were sent."""

    async def protocol_send(self, event: Event) -> None:
        """Send; the first thing sent are our settings, before any header field is read."""
        protocol = self.protocol.protocol
        if isinstance(protocol, H2Protocol):
            # Cookie crumbs stay apart: of a repeated field the first one counts (ingress.md 5).
            protocol.connection.config.normalize_inbound_headers = False
        await super().protocol_send(event)


class _Stopping:
    """Hypercorn's event interface over the event of our shutdown.

    Told that it is set, Hypercorn ends an HTTP/2 connection between the last bytes of an answer
    and the frame that closes its stream: the client sees a broken answer (C56). So it only learns
    of it where it waits for it, with a connection that is idle.
    """

    def __init__(self, event: trio.Event) -> None:
        self._event = event

    async def clear(self) -> None:
        raise AssertionError("a shutdown is never taken back")

    async def wait(self) -> None:
        await self._event.wait()
        await trio.sleep(LAST_FRAMES_S)

    async def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return False


def hypercorn_server(
    app: ASGIApp,
    stream: ServedStream,
    caller: Caller,
    limits: StreamLimits,
    stopping: trio.Event,
) -> TCPServer:
    """The server of one connection, for `run`; it ends the connection once `stopping` is set."""
    return _Server(
        ASGIWrapper(app),  # type: ignore[arg-type]  # its ASGI types are closed TypedDicts
        _config(limits),
        _context(stopping),
        ConnectionState({"caller": caller}),
        stream,  # type: ignore[arg-type]  # says SSLStream
    )


def _config(limits: StreamLimits) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.head_bytes_max
    config.h2_max_concurrent_streams = limits.streams_max
    config.h2_max_header_list_size = limits.header_list_bytes_max
    config.keep_alive_max_requests = REQUESTS_MAX
    config.keep_alive_timeout = limits.idle_s
    config.websocket_max_message_size = limits.websocket_message_bytes_max
    return config


def _context(stopping: trio.Event) -> WorkerContext:
    context = WorkerContext(None)
    context.terminated = _Stopping(stopping)
    return context
