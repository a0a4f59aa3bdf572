"""Looking into the running server: SQL queries and the live tail.

Lives here: `query` (`POST /query`, JSON or Arrow) and `tail` (`GET /tail`, a websocket with one
JSON text a change), their limits and error texts.
Does not: SQL (store/query.py), which changes there are (core), routing and access (app.py).

Both take what they need from the application's state: `query`, the QueryRunner or None while there
is none, and `tail`, the Tail. Source: admin.md 11, sql.md; N6, C91.
"""

import logging
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import trio
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from restated.core.effects import Changed
from restated.engine.dispatch import Tail, TailClient
from restated.store.query import QueryError, QueryRunner, Rows

BODY_BYTES_MAX: Final = 2 * 1024 * 1024
ARROW_TYPE: Final = "application/vnd.apache.arrow.stream"
JSON_TYPE: Final = "application/json"
RETRY_AFTER_S: Final = "1"

TAIL_FULL_CODE: Final = 1013  # websocket: try again later
TAIL_BATCH: Final = 256  # texts sent before the client's close is looked for again
FILTER_VALUES_MAX: Final = 100

log = logging.getLogger("restated.admin")


class Question(msgspec.Struct, frozen=True):
    """The body of `POST /query`; other members are ignored."""

    query: str


_questions: Final = msgspec.json.Decoder(Question)


# -- queries


async def query(request: Request) -> Response:
    """Run one statement. JSON only for `accept: application/json` to the letter, else Arrow."""
    if not _is_json(request.headers.get("content-type", "")):
        return PlainTextResponse("Expected request with `Content-Type: application/json`", 415)
    body = await _body(request)
    if body is None:
        return PlainTextResponse(f"the body is longer than {BODY_BYTES_MAX} bytes", 413)
    try:
        question = _questions.decode(body)
    except msgspec.ValidationError as error:
        reason = str(error)
        return PlainTextResponse(
            f"Failed to deserialize the JSON body into the target type: {_reason(reason)}", 422
        )
    except msgspec.DecodeError as error:
        return PlainTextResponse(f"Failed to parse the request body as JSON: {error}", 400)
    runner: QueryRunner | None = request.app.state.query
    as_json = request.headers.get("accept") == JSON_TYPE
    try:
        if runner is None:
            raise QueryError(503, "queries are not available")
        rows = await runner.run(question.query, "json" if as_json else "arrow")
    except QueryError as error:
        return _refusal(error)
    return await _answer(rows, JSON_TYPE if as_json else ARROW_TYPE)


async def _answer(rows: Rows, media_type: str) -> Response:
    """The first piece decides: what fails before it is still an error answer."""
    try:
        first = await anext(aiter(rows), b"")
    except QueryError as error:
        await rows.aclose()
        return _refusal(error)
    except BaseException:
        await rows.aclose()
        raise
    return StreamingResponse(_pieces(rows, first), media_type=media_type)


async def _pieces(rows: Rows, first: bytes) -> AsyncIterator[bytes]:
    """Stop the statement whatever ends the answer: its end, an error, a client that left."""
    try:
        yield first
        async for piece in rows:
            yield piece
    finally:
        await rows.aclose()


def _refusal(error: QueryError) -> Response:
    content = msgspec.json.encode({"message": f"Datafusion error: {error.message}"})
    headers = {"retry-after": RETRY_AFTER_S} if error.status in {429, 503} else None
    return Response(content, error.status, headers, JSON_TYPE)


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON_TYPE or (kind.startswith("application/") and kind.endswith("+json"))


def _reason(text: str) -> str:
    """Msgspec's reason with the member in the reference's notation."""
    if "required field `query`" in text:
        return "missing field `query`"
    reason, _, path = text.partition(" - at `$.")
    return f"{path.rstrip('`')}: {reason}" if path else reason


async def _body(request: Request) -> bytes | None:
    """The whole body, or None when it is too long."""
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > BODY_BYTES_MAX:
            return None
    return bytes(received)


# -- live tail


async def tail(websocket: WebSocket) -> None:
    """Send each change that the filters let through, until the client leaves.

    Filters: `service`, `key`, `id`, each may be repeated; values of one are alternatives. A client
    that falls behind loses changes and gets `{"kind":"gap","lost":N}` in their place; it never
    holds up the writer. With too many clients: close code 1013.
    """
    source: Tail = websocket.app.state.tail
    client = TailClient(_wanted(websocket.query_params))
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


def _wanted(params: QueryParams) -> _Filter:
    return _Filter(params)
