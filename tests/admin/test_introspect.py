"""`POST /query` and the live tail as HTTP and websocket clients see them (admin.md 11)."""

import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio
import trio.testing

from restated.admin.app import AdminDeps, build_admin
from restated.core.effects import Changed, ChangeKind
from restated.engine.dispatch import TAIL_CLIENTS_MAX, TAIL_EVENTS_MAX, TailClient
from restated.model.records import StateValue
from restated.store.query import STATEMENTS_MAX
from tests.admin.world import AdminWorld, run_admin
from tests.sim.clock import SeededRng
from tests.store.querying import QueryWorld, invocation, run_queries

JSON = {"accept": "application/json"}


def with_queries(
    body: Callable[[QueryWorld, httpx.AsyncClient, Any], Awaitable[None]], path: Path
) -> None:
    """Run `body` with an admin app whose queries go to a real store."""

    async def main(world: QueryWorld) -> None:
        admin = AdminWorld()
        app = build_admin(
            AdminDeps(
                writer=admin.writer, catalog=admin.catalog, store=admin.store,
                transport=admin.transport, clock=admin.clock, rng=SeededRng(),
                tail=admin.tail, version="0", query=world.runner,
            )
        )  # fmt: skip
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await body(world, client, app)

    run_queries(main, path)


async def ask(client: httpx.AsyncClient, sql: str, **headers: str) -> httpx.Response:
    return await client.post("/query", json={"query": sql}, headers=headers or JSON)


def test_rows_are_answered_as_json(tmp_path: Path) -> None:
    """Null members are left out; the content type is JSON's."""

    async def body(world: QueryWorld, client: httpx.AsyncClient, _app: Any) -> None:
        await world.put(invocation())
        response = await ask(client, "SELECT status, scope FROM sys_invocation")
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.json() == {"rows": [{"status": "ready"}]}

    with_queries(body, tmp_path)


def test_only_the_exact_accept_header_gives_json(tmp_path: Path) -> None:
    """admin.md 11: anything else is an Arrow stream."""

    async def body(_world: QueryWorld, client: httpx.AsyncClient, _app: Any) -> None:
        for accept in ("*/*", "application/json, text/plain", "application/vnd.apache.arrow"):
            response = await ask(client, "SELECT 1 AS one", accept=accept)
            assert response.headers["content-type"] == "application/vnd.apache.arrow.stream"
            assert response.content.startswith(b"\xff\xff\xff\xff")

    with_queries(body, tmp_path)


def test_errors_are_messages_without_a_code(tmp_path: Path) -> None:
    """admin.md 11; decided differences: the query is wrong, not the server."""

    async def body(_world: QueryWorld, client: httpx.AsyncClient, _app: Any) -> None:
        response = await ask(client, "SELECT * FROM nope")
        assert response.status_code == 400
        assert response.json() == {
            "message": "Datafusion error: Error during planning: "
            "table 'restate.public.nope' not found"
        }
        refused = await client.post("/query", json={}, headers=JSON)
        assert (refused.status_code, refused.headers["content-type"]) == (
            422, "text/plain; charset=utf-8",
        )  # fmt: skip
        assert (await client.post("/query", content=b"{}", headers=JSON)).status_code == 415
        assert (await client.get("/query")).status_code == 405

    with_queries(body, tmp_path)


def test_without_a_runner_queries_are_unavailable() -> None:
    """Never a crash: 503 with a hint when to come back."""

    async def body(world: AdminWorld) -> None:
        response = await ask(world.client, "SELECT 1")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")

    run_admin(body)


class Browser:
    """A client below HTTP: it may stop reading, and leave."""

    def __init__(self, sql: str, *, reads: bool) -> None:
        self._body = json.dumps({"query": sql}).encode()
        self._reads = reads
        self._has_asked = False
        self._left = trio.Event()
        self.received: list[dict[str, Any]] = []

    async def run(self, app: Any) -> None:
        scope = {
            "type": "http", "method": "POST", "path": "/query", "raw_path": b"/query",
            "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "headers": [(b"content-type", b"application/json"), (b"accept", b"application/json")],
        }  # fmt: skip
        await app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._has_asked:
            self._has_asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.received.append(message)
        if message["type"] == "http.response.body" and not self._reads:
            self._left.set()
            await trio.sleep_forever()  # its socket takes nothing more


def test_a_failure_behind_the_first_piece_cuts_the_body_off(tmp_path: Path) -> None:
    """admin.md 11: the head is out; the client must not take the rest for complete."""

    async def body(_world: QueryWorld, _client: httpx.AsyncClient, app: Any) -> None:
        browser = Browser(
            "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 50000) "
            "SELECT CAST(CASE WHEN n = 50000 THEN 'x' ELSE '1' END AS INT) AS i,"
            " repeat('f', 100) AS f FROM t",
            reads=True,
        )
        await browser.run(app)
        start, *bodies = browser.received
        assert start["status"] == 200
        assert bodies[0]["body"].startswith(b'{"rows":[{')
        assert bodies[-1]["more_body"] is True

    with_queries(body, tmp_path)


def test_a_client_that_leaves_stops_its_statement(tmp_path: Path) -> None:
    """C91: the place of an abandoned query is free at once."""

    async def body(world: QueryWorld, _client: httpx.AsyncClient, app: Any) -> None:
        await world.put(*(StateValue("", "S", "k", str(n), b"x" * 50_000) for n in range(100)))
        with trio.fail_after(5):
            await Browser("SELECT value FROM state", reads=False).run(app)
        child = world.runner._child
        assert child is not None
        assert not child.statements
        assert world.runner._places.value == STATEMENTS_MAX

    with_queries(body, tmp_path)


# -- live tail


class Follower:
    """One websocket client of `/tail`, as ASGI messages."""

    def __init__(self, app: Any, query: str = "") -> None:
        self._app = app
        self._query = query
        self.sent: list[dict[str, Any]] = []
        self.leaves = trio.Event()
        self.may_send = trio.Event()
        self.may_send.set()
        self._connected = False

    async def run(self) -> None:
        scope = {
            "type": "websocket", "path": "/tail", "raw_path": b"/tail", "root_path": "",
            "scheme": "ws", "query_string": self._query.encode(), "headers": [], "subprotocols": [],
        }  # fmt: skip
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        await self.leaves.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.may_send.wait()
        self.sent.append(message)

    def texts(self) -> list[dict[str, Any]]:
        return [json.loads(m["text"]) for m in self.sent if m["type"] == "websocket.send"]


def change(number: int = 1, kind: ChangeKind = "accepted", **fields: Any) -> Changed:
    defaults: dict[str, Any] = {"service": "Counter", "object_key": "k", "handler": "add"}
    values = {**defaults, **fields}
    return Changed(
        f"inv_{number}", number, values["service"], values["object_key"], values["handler"],
        1_000 + number, kind, 1, (("error", "boom"),),
    )  # fmt: skip


@asynccontextmanager
async def following(*followers: Follower) -> Any:
    async with trio.open_nursery() as nursery:
        for follower in followers:
            nursery.start_soon(follower.run)
        await trio.testing.wait_all_tasks_blocked()
        yield
        for follower in followers:
            follower.may_send.set()
            follower.leaves.set()


def test_each_change_is_one_json_text() -> None:
    """Design 3.9: what the writer committed, in order; details stand beside the fixed members."""

    async def body(world: AdminWorld) -> None:
        follower = Follower(world.app)
        async with following(follower):
            world.tail.publish(change(1))
            world.tail.publish(change(2, "completed"))
            await trio.testing.wait_all_tasks_blocked()
        assert follower.texts() == [
            {
                "kind": kind, "id": f"inv_{number}", "service": "Counter", "key": "k",
                "handler": "add", "attempt": 1, "at_ms": 1_000 + number, "error": "boom",
            }
            for number, kind in ((1, "accepted"), (2, "completed"))
        ]  # fmt: skip

    run_admin(body)


def test_filters_narrow_what_is_sent() -> None:
    """Values of one filter are alternatives, filters together narrow."""

    async def body(world: AdminWorld) -> None:
        follower = Follower(world.app, "service=Counter&service=Other&key=k&id=inv_1&id=inv_2")
        async with following(follower):
            world.tail.publish(change(1))
            world.tail.publish(change(2, service="Other"))
            world.tail.publish(change(1, service="Third"))
            world.tail.publish(change(2, object_key="x"))
            world.tail.publish(change(3))
            await trio.testing.wait_all_tasks_blocked()
        assert [text["id"] for text in follower.texts()] == ["inv_1", "inv_2"]

    run_admin(body)


def test_a_stalled_client_loses_changes_and_nobody_else_does() -> None:
    """Design 3.15: 1,024 changes a client, then a gap marker; the writer never waits."""

    async def body(world: AdminWorld) -> None:
        stalled, lively = Follower(world.app), Follower(world.app)
        count = TAIL_EVENTS_MAX + 10
        async with following(stalled, lively):
            stalled.may_send = trio.Event()
            world.tail.publish(change(0))
            await trio.testing.wait_all_tasks_blocked()  # it is inside its send now
            for number in range(1, count + 1):
                world.tail.publish(change(number))
                if number % 100 == 0:
                    await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked()
            assert len(lively.texts()) == count + 1
            stalled.may_send.set()
            await trio.testing.wait_all_tasks_blocked()
        texts = stalled.texts()
        assert texts[-1] == {"kind": "gap", "lost": 10}
        assert [text["id"] for text in texts[:-1]] == [f"inv_{n}" for n in range(count - 9)]

    run_admin(body)


def test_a_client_that_left_is_no_longer_fed() -> None:
    """Nothing is built for the tail when nobody listens."""

    async def body(world: AdminWorld) -> None:
        follower = Follower(world.app)
        async with following(follower):
            assert world.tail.is_observed
        assert not world.tail.is_observed

    run_admin(body)


def test_one_client_too_many_is_told_to_come_back() -> None:
    """1013 is `try again later`."""

    async def body(world: AdminWorld) -> None:
        for _ in range(TAIL_CLIENTS_MAX):
            assert world.tail.attach(TailClient(lambda _change: False))
        follower = Follower(world.app)
        await follower.run()
        assert [message["type"] for message in follower.sent] == [
            "websocket.accept",
            "websocket.close",
        ]
        assert follower.sent[-1]["code"] == 1013

    run_admin(body)


def test_what_the_writer_commits_reaches_the_tail(tmp_path: Path) -> None:
    """The whole way: event, commit, dispatch, websocket."""
    del tmp_path

    async def body(world: AdminWorld) -> None:
        world.dispatch._routes[Changed] = world.tail.publish
        follower = Follower(world.app)
        async with following(follower):
            from tests.builders import invoke

            await world.writer.submit(invoke("inv_1dEgTuXYK5tF0KR0A3AVG4k5lw3YODSZyW"))
            await trio.testing.wait_all_tasks_blocked()
        kinds = [text["kind"] for text in follower.texts()]
        assert kinds[0] == "accepted"

    run_admin(body)
