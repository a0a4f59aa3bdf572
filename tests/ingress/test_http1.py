"""One HTTP/1 connection: order, framing, deadlines, clients that leave."""

import json
from contextlib import suppress

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from restated.ingress.exchange import IngressLimits
from tests.ingress.http import get, post, request
from tests.ingress.world import IngressWorld, run_ingress

CHUNKED = (("content-type", "application/json"), ("transfer-encoding", "chunked"))
HEALTH = get("/restate/health")


def chunked(*chunks: bytes, path: str = "/Svc/echo", end: bytes = b"0\r\n\r\n") -> bytes:
    """A request with a chunked body."""
    head = request("POST", path, b"", (*CHUNKED, ("content-length", "")))
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head.replace(b"content-length: \r\n", b"") + framed + end


def test_an_answer_is_byte_for_byte_what_it_should_be() -> None:
    """ingress.md 1, 17: no server header, date, length, CORS."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        await client.send(request("GET", "/restate/health", headers=(("connection", "close"),)))
        assert await client.rest() == (
            b"HTTP/1.1 200 OK\r\n"
            b"content-type: application/json\r\n"
            b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
            b"access-control-allow-credentials: true\r\n"
            b"content-length: 33\r\n"
            b"date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
            b"connection: close\r\n"
            b"\r\n"
            b'{"services":["Flow","Obj","Svc"]}'
        )

    run_ingress(body)


def test_pipelined_requests_are_answered_in_order() -> None:
    """ingress.md 1."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        bodies = [b"%d" % n for n in range(20)]
        await client.send(b"".join(post("/Svc/echo", value) for value in bodies))
        assert [(await client.answer()).body for _ in bodies] == bodies

    run_ingress(body)


def test_requests_that_arrive_while_an_answer_is_awaited_are_not_lost() -> None:
    """C55: the watch for a leaving client reads them."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        await client.send(post("/Svc/hang", b"1"))
        await trio.sleep(2)
        await client.send(post("/Svc/echo", b"2") + post("/Svc/echo", b"3"))
        await trio.sleep(2)
        world.finish(world.started[0])
        assert [(await client.answer()).body for _ in range(3)] == [b"1", b"2", b"3"]

    run_ingress(body)


def test_bytes_may_arrive_one_by_one() -> None:
    """N1."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        for data in (post("/Svc/echo", b"12"), chunked(b"3", b"4")):
            for octet in data:
                await client.send(bytes([octet]))
        assert [(await client.answer()).body for _ in range(2)] == [b"12", b"34"]

    run_ingress(body)


@pytest.mark.parametrize(
    ("data", "keeps", "line"),
    [
        (get("/restate/health"), True, "HTTP/1.1 200 OK"),
        (get("/restate/health", connection="Close"), False, "HTTP/1.1 200 OK"),
        (get("/restate/health", connection="x, close"), False, "HTTP/1.1 200 OK"),
        (request("GET", "/restate/health", version="1.0"), False, "HTTP/1.0 200 OK"),
        (
            request("GET", "/restate/health", b"", (("connection", "keep-alive"),), "1.0"),
            True,
            "HTTP/1.0 200 OK",
        ),
        (b"\r\n\r\n" + HEALTH, True, "HTTP/1.1 200 OK"),
        (request("HEAD", "/restate/health"), True, "HTTP/1.1 405 Method Not Allowed"),
        (get("/restate/health", upgrade="websocket"), True, "HTTP/1.1 200 OK"),
        (get("/restate/health", upgrade="h2c", connection="upgrade"), True, "HTTP/1.1 200 OK"),
        (request("CONNECT", "h:80"), True, "HTTP/1.1 400 Bad Request"),
        (request("OPTIONS", "*"), True, "HTTP/1.1 200 OK"),
    ],
)  # fmt: skip
def test_a_connection_is_kept_where_both_sides_may(data: bytes, keeps: bool, line: str) -> None:
    """ingress.md 1."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        answer = await client.ask(data)
        assert answer.line == line
        assert ("connection" in answer.headers) == (not keeps or line.startswith("HTTP/1.0"))
        if keeps:
            assert (await client.ask(HEALTH)).status == 200
        else:
            assert await client.rest() == b""

    run_ingress(body)


def test_a_refused_head_closes_the_connection_without_a_body() -> None:
    """N2; what follows a doubtful head is not looked at."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        await client.send(b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n")
        await client.send(HEALTH)
        answer = await client.answer()
        assert (answer.status, answer.body) == (400, b"")
        assert set(answer.headers) == {"content-length", "date", "connection"}
        await client.stream.send_eof()
        assert await client.rest() == b""

    run_ingress(body)


def test_the_body_is_asked_for_only_when_it_is_read() -> None:
    """ingress.md 1: Expect."""

    async def body(world: IngressWorld) -> None:
        client, refused = await world.connect(), await world.connect()
        head = post("/Svc/echo", b"12345", expect="100-continue").removesuffix(b"12345")
        await client.send(head)
        assert (await client.answer()).status == 100
        assert (await client.ask(b"12345")).body == b"12345"
        await refused.send(head.replace(b"/Svc/echo", b"/Nope/echo"))
        answer = await refused.answer()
        assert answer.status == 404
        assert answer.headers["connection"] == "close"

    run_ingress(body)


@pytest.mark.parametrize("excess", [0, 1])
def test_a_chunked_body_is_bounded_while_it_is_read(excess: int) -> None:
    """N5: 413 as soon as more than the limit has come; unknown paths are 404 first."""

    async def body(world: IngressWorld) -> None:
        client, unknown = await world.connect(), await world.connect()
        big = b"1" * (100 + excess)
        answer = await client.ask(chunked(big, end=b"" if excess else b"0\r\n\r\n"))
        assert answer.status == (413 if excess else 200)
        assert (await unknown.ask(chunked(big, path="/Nope/x", end=b""))).status == 404
        assert world.ingress.bodies.used == 0

    run_ingress(body, IngressLimits(body_bytes_max=100))


def test_a_broken_chunk_is_an_error_of_the_body() -> None:
    """ingress.md 1."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        answer = await client.ask(chunked(end=b"zz\r\n"))
        text = json.loads(answer.body)["message"]
        assert (answer.status, text) == (500, "cannot read body: invalid chunk size")
        assert answer.headers["connection"] == "close"

    run_ingress(body)


def test_a_client_that_leaves_during_its_upload_invokes_nothing() -> None:
    """ingress.md 1."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        await client.send(post("/Svc/echo", b"12345").removesuffix(b"5"))
        await wait_all_tasks_blocked()
        await client.stream.send_eof()
        assert await client.rest() == b""
        assert world.started == []

    run_ingress(body)


def test_waiters_of_ten_thousand_clients_that_left_are_freed() -> None:
    """C55: and the invocations go on."""

    async def body(world: IngressWorld) -> None:
        sent = await world.ask(post("/Svc/hang/send"))
        invocation_id = sent.headers["x-restate-id"]
        for _ in range(100):
            clients = [await world.connect() for _ in range(100)]
            for client in clients:
                await client.send(get(f"/restate/attach/{invocation_id}"))
            await wait_all_tasks_blocked()
            assert world.waiters.count == 100
            for client in clients:
                await client.stream.aclose()
            await trio.sleep(2)
            assert world.waiters.count == 0
        assert world.server.connections == 0
        assert world.store.by_id(invocation_id).status == "invoked"  # type: ignore[union-attr]

    run_ingress(body)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (b"", 75),
        (HEALTH[:-2], 10),
        (b"\r\n", 10),
        (HEALTH + HEALTH[:5], 10),
        (HEALTH, 75),
        (post("/Svc/echo", b"12345")[:-1], 60),
        (chunked(b"1", end=b""), 60),
    ],
)
def test_a_client_that_stops_sending_is_cut_off_in_time(data: bytes, seconds: int) -> None:
    """N4, M5: head 10 s, body 60 s, idle 75 s."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        await client.send(data)
        started = trio.current_time()
        await client.rest()
        assert seconds <= trio.current_time() - started <= seconds + 1.1

    run_ingress(body)


def test_a_client_that_trickles_is_cut_off_too() -> None:
    """N4: a byte now and then neither extends the head's deadline nor the body's for long."""

    async def trickle(world: IngressWorld, data: bytes, pause_s: float) -> float:
        client = await world.connect()
        await client.send(data)
        started = trio.current_time()
        with suppress(trio.BrokenResourceError):
            for _ in range(100):
                await trio.sleep(pause_s)
                await client.send(b"1")
        return trio.current_time() - started

    async def body(world: IngressWorld) -> None:
        assert await trickle(world, b"GET /", 1) < 13
        large = post("/Svc/echo", content_length="9000").removesuffix(b'"Ada"')
        assert await trickle(world, large, 5) < 70

    run_ingress(body)


def test_a_client_that_does_not_read_is_cut_off() -> None:
    """M4."""

    async def body(world: IngressWorld) -> None:
        ours, theirs = trio.testing.lockstep_stream_pair()
        await world.listener.send(theirs)
        await ours.send_all(post("/Svc/echo", b"1" * 1_000_000))
        await trio.sleep(59)
        assert world.server.connections == 1
        await trio.sleep(3)
        assert world.server.connections == 0

    run_ingress(body)


def test_large_bodies_go_through_both_ways() -> None:
    """M3: more than one receive, more than one send."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        value = b"1" * 3_000_000
        assert (await client.ask(post("/Svc/echo", value))).body == value
        assert (await client.ask(chunked(value))).body == value

    run_ingress(body)
