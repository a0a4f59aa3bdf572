"""Accepting, HTTP/2 on the same port, bounds, shutdown."""

import errno
import json
from collections.abc import Sequence

import h2.config
import h2.connection
import h2.events
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from restated.ingress.exchange import IngressLimits
from tests.ingress.http import get, post
from tests.ingress.world import IngressWorld, run_ingress

HEALTH = get("/restate/health")


class Http2Client:
    """One HTTP/2 connection; `answers` by stream."""

    def __init__(self, stream: trio.StapledStream) -> None:  # type: ignore[type-arg]
        self.stream = stream
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.status: dict[int, int] = {}
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()

    async def flush(self) -> None:
        await self.stream.send_all(self.h2.data_to_send())

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        end: bool = True,
        fields: Sequence[tuple[str, str]] = (),
    ) -> int:
        number: int = self.h2.get_next_available_stream_id()
        head = [
            (":method", method), (":scheme", "http"), (":authority", "t"), (":path", path),
            ("content-type", "application/json"), *fields,
        ]  # fmt: skip
        self.h2.send_headers(number, head, end_stream=end and not body)
        if body:
            self.h2.send_data(number, body, end_stream=end)
        await self.flush()
        return number

    async def until_ended(self, number: int) -> bytes:
        while number not in self.ended:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            for event in self.h2.receive_data(data):
                self._take(event)
            await self.flush()
        return self.bodies.get(number, b"")

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            fields = {str(name): str(value) for name, value in event.headers}
            self.status[event.stream_id] = int(fields[":status"])
            self.headers[event.stream_id] = fields
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
            self.ended.add(event.stream_id)


async def connect(world: IngressWorld) -> Http2Client:
    """An HTTP/2 connection with prior knowledge."""
    return Http2Client((await world.connect()).stream)


def test_http2_and_http1_share_the_port() -> None:
    """ingress.md 1: the preface decides, however it is cut."""

    async def body(world: IngressWorld) -> None:
        client = await connect(world)
        preface = client.h2.data_to_send()
        for start in range(0, len(preface), 5):
            await client.stream.send_all(preface[start : start + 5])
            await wait_all_tasks_blocked()
        number = await client.send("POST", "/Svc/echo", b'"Ada"')
        assert await client.until_ended(number) == b'"Ada"'
        assert client.headers[number]["content-length"] == "5"
        assert "server" not in client.headers[number]
        assert "date" in client.headers[number]
        assert (await world.ask(HEALTH)).status == 200

    run_ingress(body)


def test_of_cookie_crumbs_the_first_is_kept() -> None:
    """ingress.md 5: as of any repeated header; a client that sends one header loses nothing."""

    async def body(world: IngressWorld) -> None:
        client = await connect(world)
        crumbs = [("cookie", "a=1"), ("cookie", "b=2")]
        await client.until_ended(await client.send("POST", "/Svc/echo", b"1", fields=crumbs))
        cookies = [value for name, value in world.headers(world.started[0]) if name == "cookie"]
        assert cookies == ["a=1"]
        whole = [("cookie", "a=1; b=2")]
        await client.until_ended(await client.send("POST", "/Svc/echo", b"1", fields=whole))
        assert ("cookie", "a=1; b=2") in world.headers(world.started[1])

    run_ingress(body)


def test_http2_settings_are_the_announced_ones() -> None:
    """ingress.md 1."""

    async def body(world: IngressWorld) -> None:
        client = await connect(world)
        await client.until_ended(await client.send("GET", "/restate/health"))
        settings = client.h2.remote_settings
        assert settings.max_concurrent_streams == 200
        assert settings.max_header_list_size == 16_384
        assert settings.initial_window_size == 65_535
        assert settings.max_frame_size == 16_384

    run_ingress(body)


def test_a_stream_whose_body_nobody_reads_holds_up_no_other() -> None:
    """The answer comes at the end of the body, the connection goes on."""

    async def body(world: IngressWorld) -> None:
        client = await connect(world)
        unread = await client.send("POST", "/Nope/x", b"x" * 16_000, end=False)
        other = await client.send("POST", "/Svc/echo", b"1")
        assert await client.until_ended(other) == b"1"
        client.h2.send_data(unread, b"x" * 16_000, end_stream=True)
        await client.flush()
        await client.until_ended(unread)
        assert client.status[unread] == 404

    run_ingress(body)


def test_http2_bodies_are_bounded() -> None:
    """N5."""

    async def body(world: IngressWorld) -> None:
        client = await connect(world)
        number = await client.send("POST", "/Svc/echo", b"1" * 101)
        text = json.loads(await client.until_ended(number))["message"]
        assert (client.status[number], text) == (413, "cannot read body: LengthLimitError")
        assert world.ingress.bodies.used == 0

    run_ingress(body, IngressLimits(body_bytes_max=100))


def test_a_reset_stream_frees_its_waiter() -> None:
    """C55."""

    async def body(world: IngressWorld) -> None:
        client = await connect(world)
        number = await client.send("POST", "/Svc/hang", b"1")
        await wait_all_tasks_blocked()
        assert world.waiters.count == 1
        client.h2.reset_stream(number)
        await client.flush()
        await wait_all_tasks_blocked()
        assert world.waiters.count == 0

    run_ingress(body)


def test_beyond_the_bound_connections_wait_to_be_accepted() -> None:
    """M2: the kernel keeps them; nobody is refused."""

    async def body(world: IngressWorld) -> None:
        first, second, third = [await world.connect() for _ in range(3)]
        await first.ask(HEALTH)
        await second.ask(HEALTH)
        await third.send(HEALTH)
        await wait_all_tasks_blocked()
        assert world.server.connections == 2
        await first.stream.aclose()
        assert (await third.answer()).status == 200

    run_ingress(body, IngressLimits(connections_max=2))


def test_without_descriptors_accepting_goes_on_later() -> None:
    """M6."""

    async def body(world: IngressWorld) -> None:
        world.listener.failures = [OSError(errno.EMFILE, "too many")] * 3
        for _ in range(2):  # one may be accepted by a call that began before
            assert (await world.ask(HEALTH)).status == 200
        assert world.listener.failures == []

    run_ingress(body)


@pytest.mark.parametrize("is_http2", [False, True])
def test_a_shutdown_lets_calls_finish_and_takes_no_other(is_http2: bool) -> None:
    """C56: idle connections close at once, answers say so."""

    async def body(world: IngressWorld) -> None:
        idle, fresh, busy = [await world.connect() for _ in range(3)]
        await idle.ask(HEALTH)
        other = Http2Client(busy.stream)
        if is_http2:
            number = await other.send("POST", "/Svc/hang", b"1")
        else:
            await busy.send(post("/Svc/hang", b"1"))
        await wait_all_tasks_blocked()
        finished: list[bool] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop, world, finished)
            assert await idle.rest() == b""
            assert await fresh.rest() == b""
            world.finish(world.started[0])
            if is_http2:
                assert await other.until_ended(number) == b"1"
            else:
                answer = await busy.answer()
                assert (answer.body, answer.headers["connection"]) == (b"1", "close")
            await busy.rest()
        assert finished == [True]
        assert trio.current_time() < 1

    run_ingress(body)


def test_a_call_that_outlasts_the_grace_is_told_its_id() -> None:
    """design.md 3.10: 503, source ingress, x-restate-id; attach finds it later."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        await client.send(post("/Svc/hang", b"1"))
        await wait_all_tasks_blocked()
        assert await world.server.stop(5) is False
        assert trio.current_time() == pytest.approx(5)
        world.waiters.stop()
        await world.server.aclose()
        answer = await client.answer()
        assert answer.status == 503
        assert answer.headers["x-restate-id"] == world.started[0].id
        assert answer.headers["x-restate-error-source"] == "ingress"
        assert await client.rest() == b""

    run_ingress(body)


async def _stop(world: IngressWorld, finished: list[bool]) -> None:
    finished.append(await world.server.stop(5))
