"""The admin API over a real engine, and deployments that only have a manifest."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import trio
import trio.testing

from restated.admin.app import AdminDeps, build_admin
from restated.core.effects import RegistryChanged
from restated.core.events import Event
from restated.engine.catalog import LiveCatalog
from restated.engine.dispatch import EFFECTS, Dispatch, Tail
from restated.engine.hypercorn_stream import Caller
from restated.engine.writer import Writer
from restated.invoker.transport import Exchange, ExchangeRequest, Receiver, TransportError
from tests.repository.tree import ROOT
from tests.sim.clock import SeededRng, VirtualClock
from tests.sim.memory_store import MemoryStore

DATA = ROOT / "tests" / "data"
HOST = "http://tickets.test:9480"


class Silent:
    """An exchange that has been answered already."""

    def send(self, data: bytes) -> None:
        """See Exchange."""

    def send_lazily(self, pieces: Iterator[bytes]) -> None:
        """See Exchange."""

    def end(self) -> None:
        """See Exchange."""

    def abort(self) -> None:
        """See Exchange."""

    def consumed(self, count: int) -> None:
        """See Exchange."""

    def keep(self, count: int) -> None:
        """See Exchange."""


class Manifests:
    """Implements `Transport`: answers discovery below HOST with recorded manifests.

    `scripted`: what other paths answer, (status, headers, body); without a body, never.
    """

    def __init__(self) -> None:
        self.scripted: dict[str, tuple[int, dict[str, str], bytes | None]] = {}
        self.bodies: list[bytes] = []
        self.answers = json.loads((DATA / "admin_manifests.json").read_text())
        self.requests: list[ExchangeRequest] = []

    def open(self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver) -> Exchange:
        """See Transport."""
        self.requests.append(request)
        if request.path in self.scripted:
            return self._scripted(request.path, body, receiver)
        uri = request.deployment.uri
        if request.deployment.transport == "lambda":
            uri = f"{HOST}/{uri.split(':')[6]}"  # the name of the function
        if not uri.startswith(HOST):
            receiver.on_failed(TransportError("Connection refused (os error 111)"))
            return Silent()
        answer = self.answers[uri.removeprefix(HOST)]
        if json.loads(request.deployment.headers).get("x-api-key") == "s3cret":
            answer = self.answers["/only-one"]
            locked = answer["body"].replace("TicketDesk", "TicketLocked")
            answer = {**self.answers["/no-mode"], "body": locked}
        receiver.on_response(answer["status"], tuple(answer["headers"].items()))
        receiver.on_data(answer["body"].encode())
        receiver.on_end()
        return Silent()

    def _scripted(self, path: str, body: Iterator[bytes], receiver: Receiver) -> Exchange:
        self.bodies.append(b"".join(body))
        status, headers, content = self.scripted[path]
        receiver.on_response(status, tuple(headers.items()))
        if content is not None:
            receiver.on_data(content)
            receiver.on_end()
        return Silent()


class AdminWorld:
    """Writer, catalog and the app; `client` speaks to it as a program on this machine."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = VirtualClock()
        self.dispatch = Dispatch()
        self.tail = Tail()
        self.catalog = LiveCatalog()
        self.transport = Manifests()
        self.writer = Writer(self.store, self.dispatch, self.tail, self.clock)
        self.dispatch.route(RegistryChanged, self._load)
        for effect in EFFECTS:
            if effect is not RegistryChanged:
                self.dispatch.route(effect, lambda _effect: None)
        self.app = build_admin(
            AdminDeps(
                writer=self.writer,
                catalog=self.catalog,
                store=self.store,
                transport=self.transport,
                clock=self.clock,
                rng=SeededRng(),
                tail=self.tail,
                version="0.0.1",
                advertised_ingress="http://127.0.0.1:8080",
                allowed_hosts=("admin.example",),
            )
        )
        self.client = self.client_of(Caller("tcp", "127.0.0.1", 50_000))

    def _load(self, _effect: RegistryChanged) -> None:
        self.catalog.load(self.store)

    def client_of(self, caller: Caller) -> httpx.AsyncClient:
        """A client at the other end of a connection of `caller`."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope, "state": {"caller": caller}}, receive, send)

        transport = httpx.ASGITransport(app=app)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9070")

    async def register(self, path: str = "", **members: Any) -> httpx.Response:
        """Register the deployment at this path of HOST."""
        return await self.client.post("/deployments", json={"uri": HOST + path, **members})

    async def post(self, event: Event) -> None:
        """Apply an event of another room."""
        await self.writer.submit(event)


def run_admin(body: Callable[[AdminWorld], Awaitable[None]]) -> None:
    """Run `body` beside a running writer, in virtual time."""

    async def main() -> None:
        world = AdminWorld()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.writer.run)
            await body(world)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
