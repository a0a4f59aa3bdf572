"""The ingress over a real writer and a MemoryStore in virtual time; handlers are played by tests.

Services: `Svc` (plain), `Obj` (virtual object), `Flow` (workflow), each with handlers of which
`echo` and `run` answer at once with their input and `hang` when the test says so.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing

from restated.core.effects import ArmTimer, Put, Settled, StartAttempt
from restated.core.events import AttemptEnded, CommandReceived, DeploymentPinned, Kill
from restated.engine.catalog import LiveCatalog
from restated.engine.dispatch import EFFECTS, Dispatch, Tail, Waiters
from restated.engine.timers import Timers
from restated.engine.writer import Writer
from restated.ingress.exchange import IngressLimits
from restated.ingress.listener import IngressServer
from restated.ingress.respond import Ingress
from restated.model.records import (
    Deployment,
    Entry,
    HandlerType,
    Invocation,
    ServiceRevision,
    ServiceType,
)
from restated.model.services import Handler, Options, Payload, ServiceDefinition
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.ingress.http import Answer, Client
from tests.sim.clock import SeededRng, VirtualClock
from tests.sim.memory_store import MemoryStore

DATA = Path(__file__).parent.parent / "data"
DEPLOYMENT = Deployment("dp_1", "http://d", "http2", "bidi_stream", 5, 7, b"{}", b"{}", 0)
JSON_IN = Payload(content_type="application/json", schema=b"true")
JSON_OUT = Payload(content_type="application/json")


def handler(name: str, kind: HandlerType = "shared", **fields: Any) -> Handler:
    """A handler with JSON on both sides."""
    return Handler(name, kind, **{"input": JSON_IN, "output": JSON_OUT, **fields})


Services = dict[str, tuple[ServiceType, tuple[Handler, ...]]]
SERVICES: Services = {
    "Svc": (
        "service",
        (
            handler("echo"),
            handler("hang"),
            handler("raw", input=Payload(content_type="*/*"), output=None),
            handler("hidden", options=Options(public=False)),
            handler("brief", options=Options(idempotency_retention_ms=0)),
        ),
    ),
    "Obj": ("virtual_object", (handler("echo", "exclusive"), handler("hang", "exclusive"))),
    "Flow": ("workflow", (handler("run", "workflow"), handler("hang"))),
}


def recorded_cases(*groups: str) -> list[dict[str, Any]]:
    """Recorded cases of the reference whose group is one of these."""
    cases = json.loads((DATA / "ingress_cases.json").read_text())["cases"]
    return [case for case in cases if case["name"].split("/")[0] in groups]


class IngressWorld:
    """Everything a request passes, without sockets."""

    def __init__(
        self, limits: IngressLimits | None = None, services: Services | None = None
    ) -> None:
        self.limits = limits or IngressLimits()
        self.store = MemoryStore()
        self.clock = VirtualClock()
        self.waiters = Waiters()
        self.refuses: str | None = None
        self.started: list[Invocation] = []
        dispatch = Dispatch()
        self.writer = Writer(self.store, dispatch, Tail(), self.clock)
        self.timers = Timers(self.store, self.writer, self.clock, cleanup_interval_ms=1_000)
        dispatch.route(Settled, self.waiters.settle)
        dispatch.route(StartAttempt, self._start)
        dispatch.route(ArmTimer, self.timers.arm)
        for effect in EFFECTS:
            if effect not in (Settled, StartAttempt, ArmTimer):
                dispatch.route(effect, lambda _effect: None)
        self.catalog = LiveCatalog()
        self._register(SERVICES if services is None else services)
        self.ingress = Ingress(
            self.writer,
            self.waiters,
            self.catalog,
            self.store,
            self.clock,
            SeededRng(),
            self.limits,
            lambda: self.refuses,
        )
        self.server = IngressServer(self.ingress)
        self.listener = _Listener()

    def _register(self, services: Services) -> None:
        rows = [
            ServiceRevision(
                name, 1, "dp_1", msgspec.msgpack.encode(ServiceDefinition(kind, handlers))
            )
            for name, (kind, handlers) in services.items()
        ]
        self.store.apply([Put(DEPLOYMENT), *(Put(row) for row in rows)])
        self.catalog.load(self.store)

    def _start(self, effect: StartAttempt) -> None:
        self.started.append(effect.invocation)
        if effect.invocation.handler != "hang":
            self.finish(effect.invocation)

    # -- handlers

    def finish(self, invocation: Invocation, value: bytes | None = None) -> None:
        """Let the handler end with `value`, or its input."""
        if value is None:
            value = self.payload(invocation)
        body = pb.OutputCommandMessage(value=pb.Value(content=value))
        number, attempt = invocation.number, invocation.attempt
        self.writer.post(DeploymentPinned(number, attempt, "dp_1", 1, 6))
        octets = body.SerializeToString()
        self.writer.post(CommandReceived(number, attempt, messages.OUTPUT_COMMAND, octets, body))
        self.writer.post(AttemptEnded(number, attempt))

    def kill(self, invocation_id: str) -> None:
        """An operator kills it."""
        self.writer.post(Kill(invocation_id))

    def input(self, invocation: Invocation) -> pb.InputCommandMessage:
        """What the handler got."""
        entry = self.store.get(Entry, invocation.number, 0)
        assert entry is not None
        return pb.InputCommandMessage.FromString(entry.payload)

    def payload(self, invocation: Invocation) -> bytes:
        """The bytes of the request."""
        return self.input(invocation).value.content

    def headers(self, invocation: Invocation) -> list[tuple[str, str]]:
        """The headers of the request, as the handler sees them."""
        return [(header.key, header.value) for header in self.input(invocation).headers]

    # -- clients

    async def connect(self) -> Client:
        """A connection to the ingress."""
        ours, theirs = trio.testing.memory_stream_pair()
        await self.listener.send(theirs)
        return Client(ours)

    async def ask(self, data: bytes) -> Answer:
        """The answer to one request on a connection of its own."""
        client = await self.connect()
        try:
            return await client.ask(data)
        finally:
            await client.stream.aclose()


class _Listener(trio.abc.Listener[trio.abc.Stream]):
    """Hands over streams that tests make."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)
        self.send = self._send.send
        self.failures: list[OSError] = []  # raised by the next `accept`s

    async def accept(self) -> trio.abc.Stream:
        if self.failures:
            raise self.failures.pop()
        return await self._receive.receive()

    async def aclose(self) -> None:
        await self._receive.aclose()


def run_ingress(
    body: Callable[[IngressWorld], Awaitable[None]],
    limits: IngressLimits | None = None,
    services: Services | None = None,
) -> None:
    """Run `body` beside a running server, in virtual time."""

    async def main() -> None:
        world = IngressWorld(limits, services)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.writer.run)
            nursery.start_soon(world.timers.run)
            await nursery.start(world.server.run, [world.listener])
            await body(world)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
