"""The accept loops of the admin API.

Lives here: accepting without falling over when descriptors run out, one task a connection, their
bound.
Does not: the ingress's loop (ingress/listener.py), HTTP (engine/hypercorn_stream.py).
M6: at 100 % use of descriptors the loop waits and goes on; it never ends because of a connection.
"""

import errno
import logging
import socket
from typing import Final

import trio

from restated.engine.hypercorn_stream import ASGIApp, Caller, StreamLimits, serve_stream
from restated.seams import Clock

CONNECTIONS_MAX: Final = 1_000
ACCEPT_PAUSE_S: Final = 0.1  # until descriptors may be free again
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

log = logging.getLogger("restated.daemon")


class AdminListeners:
    """Serves one ASGI app on any number of listeners."""

    def __init__(
        self, app: ASGIApp, limits: StreamLimits, clock: Clock, stopping: trio.Event
    ) -> None:
        self._app = app
        self._limits = limits
        self._clock = clock
        self._stopping = stopping
        self._free = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def serve(self, listener: trio.SocketListener) -> None:
        """Accept until the daemon stops; return when the last connection is closed."""
        async with trio.open_nursery() as connections:
            with trio.CancelScope() as accepting:
                connections.start_soon(self._stop_accepting, accepting)
                while True:
                    stream = await self._accept(listener)
                    connections.start_soon(self._serve_stream, stream)

    async def _stop_accepting(self, accepting: trio.CancelScope) -> None:
        await self._stopping.wait()
        accepting.cancel()

    async def _accept(self, listener: trio.SocketListener) -> trio.SocketStream:
        while True:
            try:
                return await listener.accept()
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                log.warning("cannot accept reason=%s", error.strerror)
                await trio.sleep(ACCEPT_PAUSE_S)

    async def _serve_stream(self, stream: trio.SocketStream) -> None:
        if self._free.available_tokens == 0:
            await trio.aclose_forcefully(stream)
            return
        async with self._free:
            await serve_stream(
                self._app,
                stream,
                _caller(stream),
                self._limits,
                clock=self._clock,
                stopping=self._stopping,
            )


def _caller(stream: trio.SocketStream) -> Caller:
    if stream.socket.family == socket.AF_UNIX:
        return Caller("unix")
    try:
        host, port, *_ = stream.socket.getpeername()
    except OSError:
        return Caller("tcp")  # gone already
    return Caller("tcp", host, port)
