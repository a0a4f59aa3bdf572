"""The whole way of an invocation in virtual time: real core, writer and invoker, a fake SDK."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio
import trio.testing

from restated.core.effects import (
    Accepted,
    AckCommand,
    ArmTimer,
    Changed,
    Effect,
    PushNotification,
    Put,
    RegistryChanged,
    Settled,
    StartAttempt,
    StopAttempt,
)
from restated.core.events import Invoke
from restated.engine.catalog import LiveCatalog
from restated.engine.dispatch import Dispatch, Tail
from restated.engine.timers import Timers
from restated.engine.writer import Writer
from restated.invoker.invoker import Invoker, InvokerLimits
from restated.model.ids import invocation_id_for, random_seed_for
from restated.model.records import (
    Deployment,
    Entry,
    Invocation,
    JournalEvent,
    Outcome,
    Result,
    Row,
    ServiceRevision,
    Target,
)
from restated.model.services import Handler, Options, RetryOptions, ServiceDefinition
from tests.sim.clock import SeededRng, VirtualClock
from tests.sim.memory_store import MemoryStore
from tests.sim.sdk import FakeSdk, Peer

DAY_MS = 86_400_000
GREET = "/invoke/Greeter/greet"
ADD = "/invoke/Counter/add"
RUN = "/invoke/Flow/run"


def deployment(deployment_id: str = "dp_1", **fields: Any) -> Deployment:
    """A bidirectional HTTP/2 deployment of protocol 5 to 7."""
    defaults: dict[str, Any] = {
        "uri": f"http://{deployment_id}",
        "transport": "http2",
        "mode": "bidi_stream",
        "protocol_version_min": 5,
        "protocol_version_max": 7,
        "headers": b"{}",
        "metadata": b"{}",
        "created_at_ms": 0,
    }
    return Deployment(deployment_id, **{**defaults, **fields})


RETRY_AT_ONCE = RetryOptions(interval_ms=50, factor=1.0, interval_ms_max=50, attempts_max=5)
DEFINITIONS: dict[str, ServiceDefinition] = {
    "Greeter": ServiceDefinition(
        "service",
        (
            Handler("greet", "shared"),
            Handler("nap", "shared", Options(inactivity_timeout_ms=100)),
            Handler(
                "impatient", "shared", Options(inactivity_timeout_ms=100, abort_timeout_ms=200)
            ),
            Handler("never_streams", "shared", Options(inactivity_timeout_ms=0)),
        ),
        Options(retry=RETRY_AT_ONCE),
    ),
    "Counter": ServiceDefinition(
        "virtual_object",
        (
            Handler("add", "exclusive"),
            Handler("lazy", "exclusive", Options(lazy_state=True)),
            Handler("read", "shared"),
        ),
        Options(retry=RETRY_AT_ONCE),
    ),
    "Flow": ServiceDefinition(
        "workflow",
        (Handler("run", "workflow"), Handler("tell", "shared")),
        Options(retry=RETRY_AT_ONCE),
    ),
}


def seed(store: MemoryStore, *rows: Row) -> None:
    """Put rows into a store."""
    store.apply([Put(row) for row in rows])


def registered_store(row: Deployment | None = None) -> MemoryStore:
    """A store with one deployment that serves all of `DEFINITIONS`."""
    store = MemoryStore()
    register(store, deployment() if row is None else row)
    return store


def register(store: MemoryStore, row: Deployment, revision: int = 1) -> None:
    """Serve every service of `DEFINITIONS` from a deployment."""
    seed(store, row)
    for name, definition in DEFINITIONS.items():
        encoded = msgspec.msgpack.encode(definition)
        seed(store, ServiceRevision(name, revision, row.id, encoded))


class InvokerWorld:
    """Everything between an `Invoke` event and a deployment."""

    def __init__(self, limits: InvokerLimits | None = None) -> None:
        self.store = MemoryStore()
        self.clock = VirtualClock()
        self.rng = SeededRng()
        self.dispatch = Dispatch()
        self.catalog = LiveCatalog()
        self.effects: list[Effect] = []
        self.writer = Writer(self.store, self.dispatch, Tail(), self.clock)
        self.timers = Timers(self.store, self.writer, self.clock, cleanup_interval_ms=60_000)
        self.sdk = FakeSdk(trio.lowlevel.current_trio_token().run_sync_soon)
        self.invoker = self.new_invoker(limits)
        self._route(StartAttempt, self._start)
        self._route(StopAttempt, self._stop)
        self._route(AckCommand, self._acknowledge)
        self._route(PushNotification, self._push)
        self._route(ArmTimer, self.timers.arm)
        for ignored in (Settled, RegistryChanged, Changed):
            self._route(ignored, _forget)
        self.dispatch.check()
        self.register(deployment())

    def new_invoker(self, limits: InvokerLimits | None = None) -> Invoker:
        """An invoker that knows nothing, as after a start."""
        invoker = Invoker(
            self.writer, self.catalog, self.store, self.sdk, self.clock, self.rng, limits
        )
        invoker.recovered()
        return invoker

    def restart_invoker(self) -> None:
        """Go on with a new invoker; the old one was stopped by the test."""
        self.invoker = self.new_invoker()

    def forbid(self) -> Any:
        """Stands in for what a test wants never to be called."""
        raise AssertionError("the store was read")

    # Late binding: a test may replace the invoker.

    def _start(self, effect: StartAttempt) -> None:
        self.invoker.start(effect)

    def _stop(self, effect: StopAttempt) -> None:
        self.invoker.stop(effect)

    def _acknowledge(self, effect: AckCommand) -> None:
        self.invoker.acknowledge(effect)

    def _push(self, effect: PushNotification) -> None:
        self.invoker.push(effect)

    def _route(self, effect: type[Effect], room: Callable[[Any], None]) -> None:
        def remember(given: Effect) -> None:
            self.effects.append(given)
            room(given)

        self.dispatch.route(effect, remember)

    def register(self, row: Deployment, revision: int = 1) -> None:
        """Serve every service of `DEFINITIONS` from a deployment."""
        register(self.store, row, revision)
        self.catalog.load(self.store)

    async def invoke(
        self,
        handler: str = "greet",
        service: str = "Greeter",
        key: str | None = None,
        payload: bytes = b'"Ada"',
    ) -> str:
        """Submit an invocation; its id, once it is durable."""
        definition = DEFINITIONS[service]
        types = {each.name: each.type for each in definition.handlers}
        target = Target(service, handler, definition.type, types[handler], key)
        invocation_id = invocation_id_for(
            service=service,
            handler=handler,
            handler_type=target.handler_type,
            key=key,
            scope="",
            idempotency_key=None,
            now_ms=self.clock.wall_ms(),
            entropy=self.rng.bytes(12),
        )
        reply = await self.writer.submit(
            Invoke(
                invocation_id,
                target,
                payload,
                (("content-type", "application/json"),),
                "ingress",
                random_seed_for(invocation_id),
                DAY_MS,
                DAY_MS,
            )
        )
        assert isinstance(reply, Accepted)
        return invocation_id

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
        number = self.row(invocation_id).number
        return [
            msgspec.json.decode(event.payload) for event in self.store.scan(JournalEvent, number)
        ]

    @property
    def peers(self) -> list[Peer]:
        """Every exchange so far."""
        return self.sdk.peers


def run_world(
    body: Callable[[InvokerWorld], Awaitable[None]], limits: InvokerLimits | None = None
) -> None:
    """Run `body` beside writer, timers and invoker, in virtual time."""

    async def main() -> None:
        world = InvokerWorld(limits)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.writer.run)
            nursery.start_soon(world.timers.run)
            nursery.start_soon(world.invoker.run)
            await body(world)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def _forget(_: Effect) -> None:
    """Nobody listens to this effect here."""
