"""restated/ingress/retrieve.py: outcomes that are read from the store."""

from pathlib import Path

import pytest

from restated.core.effects import Delete, Put
from restated.engine.catalog import LiveCatalog
from restated.engine.dispatch import Waiters
from restated.ingress.retrieve import SHARED_BYTES_MIN, Retrieval
from restated.model.records import Invocation, Result
from restated.store.sqlite import SqliteStore
from tests.ingress.world import IngressWorld
from tests.sim.clock import VirtualClock
from tests.store.opening import on_path
from tests.store.querying import invocation


def catalog() -> LiveCatalog:
    """The services of the ingress tests."""
    return IngressWorld().catalog


@pytest.mark.parametrize(
    ("size", "is_shared"), [(SHARED_BYTES_MIN, True), (SHARED_BYTES_MIN - 1, False)]
)
def test_a_large_outcome_is_in_memory_once_however_many_read_it(
    tmp_path: Path, size: int, *, is_shared: bool
) -> None:
    """M1: answers that are still being sent share it; the next reader has it from the store."""
    value = b"v" * size

    async def check(store: SqliteStore) -> None:
        row = invocation(status="completed", service="Svc", handler="raw")
        await store.commit([Put(row), Put(Result(row.number, value))])
        retrieval = Retrieval(store, Waiters(), catalog(), VirtualClock())
        first = retrieval.output(row.id)
        second = await retrieval.attach(row.id)
        assert (first.body, second.body) == (value, value)
        assert (first.body is second.body) == is_shared
        body = first.body
        del first, second
        third = retrieval.output(row.id)
        assert third.body == value
        assert third.body is not body

    on_path(tmp_path, check)


def test_a_shared_outcome_goes_with_its_invocation(tmp_path: Path) -> None:
    """I4: an id that was purged and used again has another number, and its own outcome."""

    async def check(store: SqliteStore) -> None:
        rows = [
            invocation(number, status="completed", service="Svc", handler="raw")
            for number in (1, 2)
        ]
        values = [bytes([number]) * SHARED_BYTES_MIN for number in (1, 2)]
        retrieval = Retrieval(store, Waiters(), catalog(), VirtualClock())
        await store.commit([Put(rows[0]), Put(Result(1, values[0]))])
        first = retrieval.output(rows[0].id)
        await store.commit([Delete(Invocation, (1,)), Delete(Result, (1,))])
        await store.commit([Put(rows[1]), Put(Result(2, values[1]))])
        assert [first.body, retrieval.output(rows[1].id).body] == values

    on_path(tmp_path, check)
