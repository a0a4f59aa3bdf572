"""The whole daemon in virtual time: a store that outlives crashes, rooms that do not.

Lives here: SimWorld (a machine: store, clock, deployments), Rooms (one process on it), Crash.
Does not: sockets, processes (tests/daemon, tests/real); faults of the disk (tests/sim/disk.py).

A crash is the end of every task at its checkpoint (`crash`), or right before or behind a commit
(`crash_at`): what was durable stays, every connection is gone, nobody was told.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, cast

import msgspec
import trio
import trio.testing

from restated.core.effects import Accepted, Reply, Write
from restated.core.events import Event, Invoke
from restated.daemon.build import Daemon, route_effects
from restated.daemon.daemon import recover_first, recover_rest
from restated.engine.catalog import LiveCatalog
from restated.engine.dispatch import Dispatch, Tail, Waiters
from restated.engine.timers import Timers
from restated.engine.writer import Writer
from restated.ingress.exchange import IngressLimits
from restated.ingress.listener import IngressServer
from restated.ingress.respond import Ingress
from restated.invoker.invoker import Invoker, InvokerLimits
from restated.model.ids import invocation_id_for, random_seed_for
from restated.model.records import Entry, Invocation, JournalEvent, Outcome, Result, Target
from restated.store.store import Committed
from tests.ingress.http import Answer, Client
from tests.invoker.world import DEFINITIONS, deployment, register
from tests.sim.clock import SeededRng, VirtualClock
from tests.sim.memory_store import MemoryStore
from tests.sim.sdk import FakeSdk, Peer

DAY_MS = 86_400_000
CLEANUP_MS = 1_000
When = Literal["before", "behind"]


class Crash(Exception):  # noqa: N818 - nobody handles it but the machine
    """The process is gone."""


class _Listener(trio.abc.Listener[trio.abc.Stream]):
    """Hands over streams that clients make."""

    def __init__(self) -> None:
        self.send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        await self._receive.aclose()


class Rooms:
    """One life of the process: made over the store, wired by daemon/build.py."""

    def __init__(self, world: "SimWorld") -> None:
        store, clock, rng = world.store, world.clock, world.rng
        dispatch, tail = Dispatch(), Tail()
        self.store = store
        self.waiters = Waiters()
        self.catalog = LiveCatalog()
        self.writer = Writer(store, dispatch, tail, clock)
        self.timers = Timers(store, self.writer, clock, CLEANUP_MS)
        self.invoker = Invoker(
            self.writer, self.catalog, store, world.sdk, clock, rng, world.limits
        )
        ingress = Ingress(
            self.writer, self.waiters, self.catalog, store, clock, rng, IngressLimits(),
            lambda: None,
        )  # fmt: skip
        self.server = IngressServer(ingress)
        self.listener = _Listener()
        self.scope = trio.CancelScope()
        self.up = trio.Event()
        self.gone = trio.Event()
        route_effects(
            dispatch, invoker=self.invoker, waiters=self.waiters, timers=self.timers, tail=tail,
            reload=lambda: self.catalog.load(store),
        )  # fmt: skip
        self.catalog.load(store)

    async def live(self) -> None:
        """Start in the daemon's order, then run until the crash."""
        daemon = cast("Daemon", self)  # recovery knows no more of it than store, writer, invoker
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.writer.run)
                recovered = recover_first(daemon)
                nursery.start_soon(self.timers.run)
                nursery.start_soon(self.timers.run_cleanup)
                nursery.start_soon(self.invoker.run)
                await nursery.start(self.server.run, [self.listener])
                self.up.set()
                await recover_rest(daemon, recovered)


class SimWorld:
    """The machine that the process runs on, and everybody around it."""

    def __init__(self, limits: InvokerLimits | None = None) -> None:
        self.limits = limits
        self.store = MemoryStore()
        self.clock = VirtualClock()
        self.rng = SeededRng()
        self.sdk = FakeSdk(trio.lowlevel.current_trio_token().run_sync_soon)
        self.commits = 0
        self.crashes = 0
        self.down_s = 0.0  # how long the next crash lasts
        self.told_late_s = 0.0  # how long after it is durable a commit returns
        self._crash_at: tuple[int, When] | None = None
        register(self.store, deployment())
        self._commit = self.store.commit
        self.store.commit = self._counted  # type: ignore[method-assign]  # a fault, injected
        self.rooms = Rooms(self)

    # -- the process

    async def run(self) -> None:
        """Let it live, and live again after each crash, for ever."""
        while True:
            try:
                await self.rooms.live()
            except* Crash:
                pass
            self._cut_connections()
            self.crashes += 1
            gone, self.rooms = self.rooms, Rooms(self)
            gone.gone.set()
            await trio.sleep(self.down_s)
            self.rooms.catalog.load(self.store)

    async def crash(self, down_s: float = 0) -> None:
        """Kill the process; return when the next one serves, after `down_s`."""
        rooms = self.rooms
        self.down_s = down_s
        rooms.scope.cancel()
        await rooms.gone.wait()
        await self.rooms.up.wait()
        self.down_s = 0

    def crash_at(self, commit: int, when: When) -> None:
        """Kill the process before or behind its commit number `commit` from now on (from 1)."""
        self._crash_at = (self.commits + commit, when)

    async def _counted(self, writes: Sequence[Write]) -> Committed:
        if not writes:
            return await self._commit(writes)
        self.commits += 1
        is_now = self._crash_at is not None and self._crash_at[0] == self.commits
        if is_now and self._crash_at == (self.commits, "before"):
            raise Crash
        committed = await self._commit(writes)
        if is_now:
            raise Crash
        if self.told_late_s:
            await trio.sleep(self.told_late_s)
        return committed

    def _cut_connections(self) -> None:
        for peer in self.sdk.peers:
            peer.abort()

    # -- clients

    async def submit(self, event: Event) -> Reply:
        """The reply to an event; sent again to the next process when this one dies over it."""
        while True:
            rooms = self.rooms
            await rooms.up.wait()
            replies: list[Reply] = []

            async def send(rooms: Rooms = rooms, replies: list[Reply] = replies) -> None:
                replies.append(await rooms.writer.submit(event))
                scope.cancel()

            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send)
                    await rooms.gone.wait()
                    scope.cancel()
            if replies:
                return replies[0]

    async def invoke(
        self,
        handler: str = "greet",
        service: str = "Greeter",
        key: str | None = None,
        **fields: Any,
    ) -> str:
        """Submit an invocation; its id, once it is durable."""
        event = self.request(handler, service, key, **fields)
        reply = await self.submit(event)
        assert isinstance(reply, Accepted)
        return event.id

    def request(
        self,
        handler: str = "greet",
        service: str = "Greeter",
        key: str | None = None,
        **fields: Any,
    ) -> Invoke:
        """What the ingress makes of a request."""
        definition = DEFINITIONS[service]
        types = {each.name: each.type for each in definition.handlers}
        target = Target(service, handler, definition.type, types[handler], key)
        invocation_id = invocation_id_for(
            service=service, handler=handler, handler_type=target.handler_type, key=key, scope="",
            idempotency_key=fields.get("idempotency_key"), now_ms=self.clock.wall_ms(),
            entropy=self.rng.bytes(12),
        )  # fmt: skip
        defaults: dict[str, Any] = {
            "payload": b'"Ada"',
            "headers": (("content-type", "application/json"),),
            "source": "ingress",
            "random_seed": random_seed_for(invocation_id),
            "completion_retention_ms": DAY_MS,
            "journal_retention_ms": DAY_MS,
        }
        return Invoke(invocation_id, target, **{**defaults, **fields})

    async def connect(self) -> Client:
        """A connection to the ingress."""
        ours, theirs = trio.testing.memory_stream_pair()
        await self.rooms.listener.send.send(theirs)
        return Client(ours)

    async def ask(self, data: bytes) -> Answer:
        """The answer to one request on a connection of its own."""
        client = await self.connect()
        try:
            return await client.ask(data)
        finally:
            await client.stream.aclose()

    # -- what there is

    def row(self, invocation_id: str) -> Invocation:
        """The stored invocation."""
        found = self.store.by_id(invocation_id)
        assert found is not None
        return found

    def outcome(self, invocation_id: str) -> Outcome:
        """The stored result."""
        result = self.store.get(Result, self.row(invocation_id).number)
        assert result is not None, f"no result, status {self.row(invocation_id).status}"
        return result.outcome

    def journal(self, invocation_id: str) -> list[int]:
        """Type codes of the stored journal."""
        return [entry.type for entry in self.store.scan(Entry, self.row(invocation_id).number)]

    def events(self, invocation_id: str) -> list[dict[str, Any]]:
        """Journal events, decoded."""
        rows = self.store.scan(JournalEvent, self.row(invocation_id).number)
        return [msgspec.json.decode(row.payload) for row in rows]

    @property
    def peers(self) -> list[Peer]:
        """Every exchange with a deployment so far, those of dead processes too."""
        return self.sdk.peers


def run_sim(
    body: Callable[[SimWorld], Awaitable[None]], limits: InvokerLimits | None = None
) -> None:
    """Run `body` beside a machine, in virtual time."""

    async def main() -> None:
        world = SimWorld(limits)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await world.rooms.up.wait()
            await body(world)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
