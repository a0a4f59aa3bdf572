"""SQL for clients, in a child process: `QueryRunner`.

Lives here: the child's life (started by the first query, ended when idle, killed when it obeys no
deadline), statements under way, pacing by the client.
Does not: SQL (query_child.py and what it uses), HTTP (admin/introspect.py).

The child is started here and not in daemon/system.py: it is a part of the store, as a connection
is, needs nothing but the path of the database, and no other room starts a process. What a
simulator replaces is the whole runner.

Bounds: 4 statements at once, 64 more wait, 30 s each, 5 s of grace before SIGKILL, 512 MiB (the
child's own limits), 30 s without a query until the child ends. Z2, C91, C93, G18.
"""

import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

import restated
from restated.seams import Clock
from restated.store.query_wire import (
    LIVE_MAX,
    Credit,
    End,
    Failed,
    Form,
    Frames,
    LiveAttempt,
    Message,
    Piece,
    Response,
    Run,
    Started,
    Stop,
    frame,
    responses,
)

STATEMENTS_MAX: Final = 4
WAITING_MAX: Final = 64
TIMEOUT_MS: Final = 30_000
GRACE_S: Final = 5.0  # from a statement's deadline to SIGKILL
IDLE_S: Final = 30.0
RECEIVE_BYTES: Final = 256 * 1024

Live = Callable[[], Sequence[LiveAttempt]]


class QueryError(Exception):
    """A query is refused; `status` is the HTTP status, the text is the client's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Limits(msgspec.Struct, frozen=True):
    """Times of a runner, as tests shorten them."""

    timeout_ms: int = TIMEOUT_MS
    grace_s: float = GRACE_S
    idle_s: float = IDLE_S


class Rows:
    """The answer of one query, piece by piece. Iterate it, and `aclose` it whatever happens."""

    __slots__ = ("_child", "_is_open", "_number", "_receive", "_runner")

    def __init__(
        self, runner: "QueryRunner", child: "_Child", number: int,
        receive: trio.MemoryReceiveChannel[Response],
    ) -> None:  # fmt: skip
        self._runner = runner
        self._child = child
        self._number = number
        self._receive = receive
        self._is_open = True

    def __aiter__(self) -> "Rows":
        return self

    async def __anext__(self) -> bytes:
        response = await self._response()
        match response:
            case Piece():
                self._child.post(Credit(self._number))
                return response.content
            case End():
                raise StopAsyncIteration
            case Failed():
                raise QueryError(response.status, response.message)
            case Started():
                raise AssertionError("a statement starts once")

    async def started(self) -> None:
        """Wait until the child runs the statement; QueryError when it is refused."""
        response = await self._response()
        if isinstance(response, Failed):
            raise QueryError(response.status, response.message)
        assert isinstance(response, Started), "a statement starts before it answers"

    async def _response(self) -> Response:
        limits = self._runner.limits
        with trio.move_on_after(limits.timeout_ms / 1_000 + limits.grace_s):
            try:
                return await self._receive.receive()
            except trio.EndOfChannel:
                raise QueryError(500, "the query process ended; try again") from None
        self._child.kill()  # it missed its own deadline: nothing in it can be trusted to stop
        raise QueryError(400, "Resources exhausted: the statement took too long and was killed")

    async def aclose(self) -> None:
        """Stop the statement if it still runs, and give its place to the next. Idempotent."""
        if self._is_open:
            self._is_open = False
            self._child.forget(self._number)
            self._runner.release()


class _Child:
    """One child process: its socket, the statements it runs."""

    def __init__(self, process: trio.Process, link: trio.SocketStream) -> None:
        self.process = process
        self._link = link
        self._outgoing: trio.MemorySendChannel[bytes]
        self._outgoing, self._to_send = trio.open_memory_channel[bytes](math.inf)
        self.statements: dict[int, trio.MemorySendChannel[Response]] = {}
        self.is_gone = False

    def post(self, message: Message) -> None:
        """Queue a message; what is under way is bounded by statements and credits."""
        if not self.is_gone:
            self._outgoing.send_nowait(frame(message))

    def forget(self, number: int) -> None:
        """Nobody waits for this statement any more; it is stopped if it has not ended."""
        if self.statements.pop(number, None) is not None:
            self.post(Stop(number))

    def kill(self) -> None:
        """End the process at once; its statements end with an error, the next gets another."""
        self.is_gone = True
        self.process.kill()

    async def serve(self) -> None:
        """Carry messages until the process or the runner ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send)
                await self._receive()
                nursery.cancel_scope.cancel()
        finally:
            self.is_gone = True
            for responses_of in self.statements.values():
                responses_of.close()
            self.statements.clear()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._link)
                self.process.kill()
                await self.process.wait()

    async def _send(self) -> None:
        async for content in self._to_send:
            try:
                await self._link.send_all(content)
            except trio.BrokenResourceError:
                return  # `_receive` sees the end too

    async def _receive(self) -> None:
        frames = Frames()
        while True:
            try:
                received = await self._link.receive_some(RECEIVE_BYTES)
            except trio.BrokenResourceError:
                return
            if not received:
                return
            for body in frames.feed(received):
                response = responses.decode(body)
                channel = self.statements.get(response.number)
                if channel is not None:  # else the client left while this was under way
                    channel.send_nowait(response)

    def end(self) -> None:
        """Nothing more will be asked of it: close, it ends by itself."""
        self._link.socket.shutdown(socket.SHUT_WR)


class QueryRunner:
    """Runs statements in a child process. Give `serve` a task for as long as it is used."""

    def __init__(
        self, database_path: str, *, live: Live, clock: Clock, limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._path = database_path
        self._live = live
        self._clock = clock
        self._places = trio.Semaphore(STATEMENTS_MAX)
        self._nursery: trio.Nursery | None = None
        self._child: _Child | None = None
        self._starting = trio.Lock()
        self._number = 0  # of the newest statement
        self._encoder = msgspec.msgpack.Encoder()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Host the child processes; cancel it to end them."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    @property
    def process_id(self) -> int | None:
        """The child's process id, while there is one."""
        return None if self._child is None else self._child.process.pid

    async def run(self, sql: str, form: Form) -> Rows:
        """Start a statement; its rows follow when it is known to be right.

        QueryError 400 when it is wrong or too expensive, 429 when too many wait, 503 while the
        daemon stops. Whoever gets the rows closes them.
        """
        if self._places.statistics().tasks_waiting >= WAITING_MAX:
            raise QueryError(429, f"{WAITING_MAX} queries wait already; try again later")
        await self._places.acquire()
        try:
            child = await self._running_child()
        except BaseException:
            self._places.release()
            raise
        self._number += 1
        send, receive = trio.open_memory_channel[Response](math.inf)  # credits bound it
        child.statements[self._number] = send
        rows = Rows(self, child, self._number, receive)
        child.post(self._request(self._number, sql, form))
        try:
            await rows.started()
        except BaseException:
            await rows.aclose()
            raise
        return rows

    def release(self) -> None:
        """A statement's place is free."""
        self._places.release()

    def _request(self, number: int, sql: str, form: Form) -> Run:
        live = self._encoder.encode(self._live()[:LIVE_MAX])
        return Run(number, sql, form, self._clock.wall_ms(), self.limits.timeout_ms, live)

    async def _running_child(self) -> _Child:
        async with self._starting:
            if self._child is None or self._child.is_gone:
                if self._nursery is None:
                    raise QueryError(503, "the server is starting or stopping")
                self._child = await _start(self._path)
                self._nursery.start_soon(self._host, self._child)
            return self._child

    async def _host(self, child: _Child) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_idle, child)
            await child.serve()
            nursery.cancel_scope.cancel()
        if self._child is child:
            self._child = None

    async def _end_when_idle(self, child: _Child) -> None:
        while True:
            newest = self._number
            await trio.sleep(self.limits.idle_s)
            if self._number == newest and not child.statements:
                break
        if self._child is child:
            self._child = None
        child.end()


async def _start(path: str) -> _Child:
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", "restated.store.query_child", path],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            cwd="/",
            env=_environment(),
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return _Child(process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)))


def _environment() -> dict[str, str]:
    """What the child needs to find this package, and nothing that is secret in ours."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    package = str(Path(restated.__file__).parent.parent)
    # One heap for all threads: each further one would reserve 64 MiB of the address space.
    return kept | {"PYTHONPATH": package, "MALLOC_ARENA_MAX": "1"}
