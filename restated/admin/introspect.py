"""Looking into the running server: SQL queries and the live tail.

Lives here: `query` (`POST /query`, JSON or Arrow) and `tail` (`GET /tail`, a websocket with one
JSON text a change), their error texts.
Does not: SQL (store/query.py), which changes there are (core), routing and access (app.py).

Both find what they need in the dependencies of the application: `query`, the QueryRunner or None
where there is none, and `tail`. Source: admin.md 11, sql.md; N6, C91.
"""

import logging
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import trio
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from restated.admin.exchange import deps_of, json_body
from restated.core.effects import Changed
from restated.engine.dispatch import Tail, TailClient
from restated.store.query import QueryError, QueryRunner, Rows

ARROW_TYPE: Final = "application/vnd.apache.arrow.stream"
JSON_TYPE: Final = "application/json"
RETRY_AFTER_S: Final = "1"

TAIL_FULL_CODE: Final = 1013  # websocket: try again later
FILTER_VALUES_MAX: Final = 100

log = logging.getLogger("restated.admin")


class Question(msgspec.Struct, frozen=True):
    """The body of `POST /query`; other members are ignored."""

    query: str


class Answer(msgspec.Struct, frozen=True):
    """What it is answered with in JSON; columns that are null are left out of a row."""

    rows: list[dict[str, object]]


# -- queries


async def query(request: Request) -> Response:
    """Run one statement. JSON only for `accept: application/json` to the letter, else Arrow."""
    question = await json_body(request, Question)
    runner = deps_of(request).query
    if not isinstance(runner, QueryRunner):
        return _refusal(QueryError(503, "queries are not available here"))
    as_json = request.headers.get("accept") == JSON_TYPE
    try:
        rows = await runner.run(question.query, "json" if as_json else "arrow")
    except QueryError as error:
        return _refusal(error)
    try:
        # What fails before the first piece is still an error answer, not a truncated one.
        first = await anext(rows, b"")
    except QueryError as error:
        await rows.aclose()
        return _refusal(error)
    except BaseException:
        await rows.aclose()
        raise
    return _RowsResponse(rows, first, JSON_TYPE if as_json else ARROW_TYPE)


class _RowsResponse(StreamingResponse):
    """Streams the rows; whatever ends it, a client that left too, ends the statement."""

    def __init__(self, rows: Rows, first: bytes, media_type: str) -> None:
        super().__init__(_pieces(rows, first), media_type=media_type)
        self._rows = rows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except* QueryError as errors:
            # The head is out: the client sees a body that was cut off.
            log.warning("query cut off reason=%r", str(errors.exceptions[0]))
        finally:
            await self._rows.aclose()


async def _pieces(rows: Rows, first: bytes) -> AsyncIterator[bytes]:
    yield first
    async for piece in rows:
        yield piece


def _refusal(error: QueryError) -> Response:
    content = msgspec.json.encode({"message": f"Datafusion error: {error.message}"})
    headers = {"retry-after": RETRY_AFTER_S} if error.status in {429, 503} else None
    return Response(content, error.status, headers, JSON_TYPE)


# -- live tail


async def tail(websocket: WebSocket) -> None:
    """Send each change that the filters let through, until the client leaves.

    Filters: `service`, `key`, `id`, each may be repeated; values of one are alternatives. A client
    that falls behind loses changes and gets `{"kind":"gap","lost":N}` in their place; it never
    holds up the writer. With too many clients: close code 1013.
    """
    source: Tail = deps_of(websocket).tail
    client = TailClient(_Filter(websocket.query_params))
    await websocket.accept()
    if not source.attach(client):
        await websocket.close(TAIL_FULL_CODE, "too many clients follow the live tail")
        return
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_left, websocket, nursery.cancel_scope)
            await _send_changes(websocket, client)
    except* (WebSocketDisconnect, ClientDisconnect):
        pass  # it left while we were sending
    finally:
        source.detach(client)


async def _until_left(websocket: WebSocket, scope: trio.CancelScope) -> None:
    """Read what the client sends, which means nothing, to see it leave."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
    scope.cancel()


async def _send_changes(websocket: WebSocket, client: TailClient) -> None:
    encoder = msgspec.json.Encoder()
    while True:
        changes, lost = await client.take()
        for change in changes:
            await websocket.send_text(encoder.encode(shown(change)).decode())
        if lost:
            await websocket.send_text(encoder.encode({"kind": "gap", "lost": lost}).decode())


def shown(change: Changed) -> dict[str, str | int | None]:
    """A change as clients read it; `detail` members stand beside the others."""
    known: dict[str, str | int | None] = {
        "kind": change.kind,
        "id": change.id,
        "service": change.service,
        "key": change.object_key,
        "handler": change.handler,
        "attempt": change.attempt,
        "at_ms": change.at_ms,
    }
    return dict(change.detail) | known


class _Filter:
    """What a client wants to hear of; empty sets let everything through."""

    __slots__ = ("ids", "keys", "services")

    def __init__(self, params: QueryParams) -> None:
        self.services = frozenset(params.getlist("service")[:FILTER_VALUES_MAX])
        self.keys = frozenset(params.getlist("key")[:FILTER_VALUES_MAX])
        self.ids = frozenset(params.getlist("id")[:FILTER_VALUES_MAX])

    def __call__(self, change: Changed) -> bool:
        return (
            (not self.services or change.service in self.services)
            and (not self.keys or change.object_key in self.keys)
            and (not self.ids or change.id in self.ids)
        )
