"""core/view.py against a plain dictionary: same reads, same final rows, for random programs."""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from restated.core.effects import Clear, Delete, Put
from restated.core.view import Overlay, Step
from restated.model.records import (
    Column,
    Completion,
    Entry,
    Invocation,
    Row,
    StateValue,
    Timer,
    Waiter,
)
from tests.sim.memory_store import MemoryStore

Key = tuple[Column, ...]

SMALL = st.integers(0, 2)  # few keys: programs must hit what is stored
NAMES = st.sampled_from(["", "a", "\uffff", "\U0001f600"])


def invocation(number: int, status: str = "invoked", *, generation: int = 0) -> Invocation:
    return Invocation(
        number=number, id=f"inv_{number}_{generation}", service="S", object_key=None, handler="h",
        service_type="service", handler_type="shared", scope="", limit_key=None,
        status=status,  # type: ignore[arg-type]  # drawn from the words
        source="ingress", caller_id=None, caller_target=None, created_at_ms=1, modified_at_ms=1,
        random_seed=0, completion_retention_ms=0, journal_retention_ms=0,
    )  # fmt: skip


ROWS = (
    st.builds(lambda n, i, p: Entry(n, i, 1, p, 0), SMALL, SMALL, st.binary(max_size=2)),
    st.builds(Waiter, SMALL, SMALL, st.just(1)),
    st.builds(Timer, SMALL, st.sampled_from(["start", "sleep"]), st.just(7), SMALL),
    st.builds(StateValue, st.just(""), st.just("S"), NAMES, NAMES, st.binary(max_size=2)),
    st.builds(Completion, SMALL, SMALL, SMALL, st.just("run")),
    st.builds(invocation, SMALL, st.sampled_from(["invoked", "suspended", "completed"])),
)
TABLES = (Entry, Waiter, Timer, StateValue, Completion, Invocation)


@dataclass(frozen=True)
class Part:
    """What a scan or a clear reaches."""

    table: type[Row]
    prefix: Key = ()
    after: Column = None
    limit: int | None = None

    def covers(self, key: Key) -> bool:
        depth = len(self.prefix)
        if key[:depth] != self.prefix:
            return False
        return self.after is None or key[depth] > self.after  # type: ignore[operator]  # one type


@dataclass
class Model:
    """One level: a full copy of all rows, which is what an overlay must look like."""

    rows: dict[tuple[type[Row], Key], Row] = field(default_factory=dict)

    def scan(self, part: Part) -> list[Row]:
        keys = sorted(key for table, key in self.rows if table is part.table and part.covers(key))
        return [self.rows[part.table, key] for key in keys][: part.limit]


@st.composite
def part(draw: st.DrawFn, rows: st.SearchStrategy[Row]) -> Part:
    """A prefix of some row's key, sometimes with the column behind it, sometimes with a limit."""
    row = draw(rows)
    key = row.primary_key()
    depth = draw(st.integers(0, len(key)))
    after = key[depth] if depth < len(key) and draw(st.booleans()) else None
    return Part(type(row), key[:depth], after, draw(st.none() | st.integers(1, 4)))


def operation(rows: st.SearchStrategy[Row]) -> st.SearchStrategy[tuple[str, object]]:
    return st.one_of(
        st.tuples(st.just("put"), rows),
        st.tuples(st.just("delete"), rows),
        st.tuples(st.just("clear"), part(rows)),
        st.tuples(st.just("scan"), part(rows)),
        st.tuples(st.just("get"), rows),
        st.tuples(st.just("by_id"), SMALL),
        st.tuples(st.sampled_from(["push", "merge", "drop"]), st.none()),
    )


@st.composite
def program(draw: st.DrawFn) -> tuple[list[Row], list[tuple[str, object]]]:
    """Rows to begin with, and operations on one table or on all."""
    rows = draw(st.sampled_from([*ROWS, st.one_of(*ROWS)]))
    stored = st.lists(rows, max_size=12, unique_by=lambda row: (type(row), row.primary_key()))
    return draw(stored), draw(st.lists(operation(rows), min_size=draw(st.integers(0, 30))))


class Pair:
    """A stack of overlays over a store, and the same stack of plain copies."""

    def __init__(self, stored: list[Row]) -> None:
        self.store = MemoryStore()
        self.store.apply([Put(row) for row in stored])
        self.models = [Model({(type(row), row.primary_key()): row for row in stored})]
        self.overlays: list[Overlay] = []
        self.push()

    def push(self) -> None:
        if len(self.overlays) < 3:
            below = self.overlays[-1] if self.overlays else self.store
            self.overlays.append(Step(below, 0))
            self.models.append(Model(dict(self.models[-1].rows)))

    def merge(self) -> None:
        if len(self.overlays) > 1:
            upper = self.overlays.pop()
            self.overlays[-1].merge(upper)
            del self.models[-2]

    def drop(self) -> None:
        if len(self.overlays) > 1:
            self.overlays.pop()
            self.models.pop()

    def run(self, name: str, argument: object) -> None:
        overlay, model = self.overlays[-1], self.models[-1]
        match name, argument:
            case "put", Row() as row:
                overlay.put(row)
                model.rows[type(row), row.primary_key()] = row
            case "delete", Row() as row:
                overlay.delete(type(row), *row.primary_key())
                model.rows.pop((type(row), row.primary_key()), None)
            case "clear", Part(table, prefix) if table is not Invocation:
                overlay.clear(table, *prefix)
                for row in model.scan(Part(table, prefix)):
                    del model.rows[table, row.primary_key()]
            case "get", Row() as row:
                assert overlay.get(type(row), *row.primary_key()) == model.rows.get(
                    (type(row), row.primary_key())
                )
            case "by_id", int(number):
                expected = model.rows.get((Invocation, (number,)))
                assert overlay.by_id(f"inv_{number}_0") == expected
            case "scan", Part() as part:
                found = overlay.scan(part.table, *part.prefix, after=part.after, limit=part.limit)
                assert list(found) == model.scan(part)
            case (("push" | "merge" | "drop"), None):
                getattr(self, name)()

    def finish(self) -> None:
        """Merge all the way down, commit, and compare every row."""
        while len(self.overlays) > 1:
            self.merge()
        writes = self.overlays[0].writes()
        changed = [(type(w.row), w.row.primary_key()) for w in writes if isinstance(w, Put)]
        changed += [(w.table, w.key) for w in writes if isinstance(w, Delete)]
        assert len(changed) == len(set(changed)), "one write for each key"
        others = [not isinstance(write, Clear) for write in writes]
        assert others == sorted(others), "clears come first"
        self.store.apply(writes)
        for table in TABLES:
            assert list(self.store.scan(table)) == self.models[-1].scan(Part(table))


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program())
def test_an_overlay_reads_like_a_dictionary(
    drawn: tuple[list[Row], list[tuple[str, object]]],
) -> None:
    """Design 3.6: puts, deletes, clears, merges, scans in any order, up to three levels."""
    stored, operations = drawn
    pair = Pair(stored)
    for name, argument in operations:
        event(name)
        pair.run(name, argument)
    pair.finish()


def test_a_scan_survives_changes_of_what_it_visits() -> None:
    """Rules delete and replace rows while they walk over them; none is lost or seen twice."""
    store = MemoryStore()
    store.apply([Put(Timer(1, "sleep", token, 0)) for token in range(6)])
    step = Step(store, 0)
    step.put(Timer(1, "sleep", 3, 7))
    seen = []
    for timer in step.scan(Timer, 1):
        seen.append((timer.token, timer.at_ms))
        step.delete(Timer, 1, "sleep", timer.token)
        step.put(Timer(1, "sleep", 5, 9))
    assert seen == [(0, 0), (1, 0), (2, 0), (3, 7), (4, 0), (5, 9)]


def test_an_invocation_can_be_deleted_and_made_anew_in_one_event() -> None:
    """C73: the id of a purged invocation finds the new one, under its new number."""
    store = MemoryStore()
    store.apply([Put(invocation(1))])
    batch = Overlay(store)
    step = Step(batch, 0)
    step.delete(Invocation, 1)
    assert step.by_id("inv_1_0") is None
    assert batch.by_id("inv_1_0") == invocation(1)
    again = replace(invocation(1), number=2)
    step.put(again)
    batch.merge(step)
    assert batch.by_id("inv_1_0") == again
    store.apply(batch.writes())
    assert store.by_id("inv_1_0") == again
    assert list(store.scan(Invocation)) == [again]


def test_a_defect_in_one_event_leaves_the_batch_as_it_was() -> None:
    """Design 3.6: a dropped step has changed nothing."""
    batch = Overlay(MemoryStore())
    batch.put(Waiter(1, 2, 3))
    step = Step(batch, 0)
    step.clear(Waiter, 1)
    step.put(Waiter(1, 5, 5))
    assert list(batch.scan(Waiter)) == [Waiter(1, 2, 3)]
    assert batch.writes() == [Put(Waiter(1, 2, 3))]
