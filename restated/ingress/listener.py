"""Accept connections of the ingress and hand each to the protocol that its first bytes name.

Lives here: the accept loop, the bound on connections, deadlines of HTTP/1 connections, shutdown.
Does not: speak HTTP (http1.py; engine/hypercorn_stream.py for HTTP/2), answer (respond.py), open
sockets (daemon/).
Rules: M2, M6 at the bound, or without descriptors, it waits instead of failing; C56 finished
answers are never cut off by a shutdown.
"""

import errno
import logging
import socket
from collections.abc import Sequence
from typing import Final

import trio

from restated.engine.hypercorn_stream import Caller, StreamLimits, serve_stream
from restated.ingress.asgi import IngressApp
from restated.ingress.http1 import Connection, Dates
from restated.ingress.respond import Ingress
from restated.store.store import StoreFailedError

SWEEP_S: Final = 0.5  # how exactly deadlines are kept
WATCH_AFTER_MS: Final = 250.0
NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPT_PAUSE_S: Final = 0.1
FLUSH_S: Final = 1.0

log = logging.getLogger("restated.ingress")


class IngressServer:
    """All listeners of the ingress. `run` serves until `stop` and `aclose`."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress
        self._limits = ingress.limits
        self._app = IngressApp(ingress)
        self._dates = Dates(ingress.clock)
        self._http1: dict[Connection, None] = {}  # in order of arrival
        self._occupied = trio.Event()
        self._stopping = trio.Event()
        self._accepting = trio.CancelScope()
        self._serving = trio.CancelScope()
        self._slots = trio.Semaphore(self._limits.connections_max)
        self._vacant = trio.Event()
        self._vacant.set()
        self.connections = 0

    async def run(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `aclose`; closes the listeners. StoreFailedError passes through."""
        with self._serving:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep, nursery)
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        for listener in listeners:
                            accepting.start_soon(self._accept, listener, nursery)
                        task_status.started()
                await trio.sleep_forever()

    async def stop(self, grace_s: float) -> bool:
        """Accept no more, finish what is in progress; whether all was finished in time."""
        self._stopping.set()
        self._accepting.cancel()
        for connection in list(self._http1):
            connection.stop()
        with trio.move_on_after(grace_s):
            await self._vacant.wait()
        return self.connections == 0

    async def aclose(self) -> None:
        """Give answers that are ready a moment to go out, then cut every connection."""
        with trio.move_on_after(FLUSH_S):
            await self._vacant.wait()
        self._serving.cancel()

    # -- accepting

    async def _accept(
        self, listener: trio.abc.Listener[trio.abc.Stream], nursery: trio.Nursery
    ) -> None:
        async with listener:
            while True:
                try:
                    self._slots.acquire_nowait()  # without giving up the turn
                except trio.WouldBlock:
                    await self._slots.acquire()
                stream = await self._next(listener)
                if stream is None:
                    self._slots.release()
                    return
                if self.connections == 0:
                    self._vacant = trio.Event()
                self.connections += 1
                nursery.start_soon(self._serve, stream)

    async def _next(self, listener: trio.abc.Listener[trio.abc.Stream]) -> trio.abc.Stream | None:
        """The next connection; None when the listener is closed."""
        while True:
            try:
                return await listener.accept()
            except trio.ClosedResourceError:
                return None
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS:
                    raise
                # The kernel keeps the connection in its queue; descriptors come back (M6).
                log.error("cannot accept error=%s", errno.errorcode[error.errno])  # noqa: TRY400
                await trio.sleep(ACCEPT_PAUSE_S)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        try:
            await self._serve_protocol(stream)
        except* StoreFailedError:
            raise  # fail-stop
        except* Exception:
            log.exception("connection failed")
        finally:
            self.connections -= 1
            self._slots.release()
            if self.connections == 0:
                self._vacant.set()
            await trio.aclose_forcefully(stream)

    async def _serve_protocol(self, stream: trio.abc.Stream) -> None:
        connection = Connection(stream, self._ingress, self._dates)
        self._http1[connection] = None
        self._occupied.set()
        try:
            if self._stopping.is_set():
                connection.stop()
            received = await connection.serve()
        finally:
            del self._http1[connection]
        if received:
            await self._serve_http2(stream, received)

    async def _serve_http2(self, stream: trio.abc.Stream, received: bytes) -> None:
        limits = StreamLimits(
            head_bytes_max=self._limits.head_bytes_max,
            streams_max=self._limits.streams_max,
            idle_s=self._limits.keep_alive_idle_s,
            send_s=self._limits.send_s,
        )
        await serve_stream(
            self._app,
            stream,
            _caller(stream),
            limits,
            clock=self._ingress.clock,
            received=received,
            stopping=self._stopping,
        )

    # -- deadlines

    async def _sweep(self, nursery: trio.Nursery) -> None:
        """Enforce deadlines and start watching where an answer takes long."""
        while True:
            if not self._http1:
                self._occupied = trio.Event()
                await self._occupied.wait()
            await trio.sleep(SWEEP_S)
            now_ms = self._ingress.clock.monotonic_ms()
            for connection in list(self._http1):
                if now_ms > connection.deadline_ms:
                    connection.scope.cancel()
                elif now_ms > connection.waiting_since_ms + WATCH_AFTER_MS:
                    connection.begin_watch()
                    nursery.start_soon(connection.watch)


def _caller(stream: trio.abc.Stream) -> Caller:
    is_tcp = isinstance(stream, trio.SocketStream) and stream.socket.family != socket.AF_UNIX
    return Caller("tcp" if is_tcp else "unix")
