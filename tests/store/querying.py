"""A store with rows and a query runner over it, for tests of SQL."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from restated.core.effects import Put
from restated.model.records import Invocation, Row
from restated.store.query import Limits, QueryError, QueryRunner
from restated.store.query_wire import Form, LiveAttempt
from restated.store.schema import DATABASE_NAME
from restated.store.sqlite import SqliteStore
from tests.store.opening import on_files

NOW_MS = 1_795_631_298_123  # 2026-11-25T18:28:18.123Z
ID = "inv_1hOQaMCBzoR74AYYCKBoG6ezeawrY8cAFX"
DAY_MS = 86_400_000


class FixedClock:
    def wall_ms(self) -> int:
        return NOW_MS

    def monotonic_ms(self) -> float:
        raise NotImplementedError

    async def sleep_until_ms(self, wall_ms: int) -> None:
        raise NotImplementedError


def invocation(number: int = 1, id_: str = ID, **fields: Any) -> Invocation:
    """An invocation of a plain service that was just accepted."""
    defaults: dict[str, Any] = {
        "service": "Greeter",
        "object_key": None,
        "handler": "greet",
        "service_type": "service",
        "handler_type": "shared",
        "scope": "",
        "limit_key": None,
        "status": "invoked",
        "source": "ingress",
        "caller_id": None,
        "caller_target": None,
        "created_at_ms": NOW_MS - 10_000,
        "modified_at_ms": NOW_MS - 5_000,
        "random_seed": 7,
        "completion_retention_ms": DAY_MS,
        "journal_retention_ms": DAY_MS,
    }
    return Invocation(number, id_, **{**defaults, **fields})


class QueryWorld:
    """What a test does with SQL."""

    def __init__(self, store: SqliteStore, runner: QueryRunner, live: list[LiveAttempt]) -> None:
        self.store = store
        self.runner = runner
        self.live = live

    async def put(self, *rows: Row) -> None:
        await self.store.commit([Put(row) for row in rows])

    async def raw(self, sql: str, form: Form = "json") -> bytes:
        """The whole answer."""
        rows = await self.runner.run(sql, form)
        try:
            return b"".join([piece async for piece in rows])
        finally:
            await rows.aclose()

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(await self.raw(sql))["rows"]
        return found

    async def row(self, sql: str) -> dict[str, Any]:
        (only,) = await self.rows(sql)
        return only

    async def refusal(self, sql: str) -> QueryError:
        try:
            answer = await self.raw(sql)
        except QueryError as error:
            return error
        raise AssertionError(f"{sql} was answered: {answer[:200]!r}")


@asynccontextmanager
async def querying(
    path: Path, live: Sequence[LiveAttempt] = (), limits: Limits | None = None
) -> AsyncIterator[QueryWorld]:
    async with on_files(path / "state") as store, trio.open_nursery() as nursery:
        attempts = list(live)
        database = str(path / "state" / DATABASE_NAME)
        runner = QueryRunner(database, live=lambda: attempts, clock=FixedClock(), limits=limits)
        await nursery.start(runner.serve)
        yield QueryWorld(store, runner, attempts)
        nursery.cancel_scope.cancel()


def run_queries(
    body: Callable[[QueryWorld], Awaitable[None]], path: Path, limits: Limits | None = None
) -> None:
    async def main() -> None:
        async with querying(path, limits=limits) as world:
            await body(world)

    trio.run(main)
