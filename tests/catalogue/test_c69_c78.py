"""Catalogue C69-C78, stored records and clean-up: what the tests of the rooms do not show."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
import trio
import trio.testing
from msgspec.structs import replace

from restated.core.awaits import stored
from restated.core.effects import Accepted, Clear, Put, Write
from restated.core.events import (
    Attach,
    AttemptEnded,
    Cancel,
    Complete,
    Event,
    Expired,
    Invoke,
    Kill,
    Purge,
    RunProposed,
    Signal,
)
from restated.core.pieces import postpone, send_postponed
from restated.core.view import Step
from restated.engine.dispatch import EFFECTS, Dispatch, Tail
from restated.engine.writer import Writer
from restated.invoker.replay import Pages, read_page
from restated.invoker.session import CHUNK_BYTES, Session
from restated.model.records import (
    ROWS,
    AttemptError,
    Await,
    Completion,
    Counter,
    Entry,
    Failure,
    Record,
    Row,
    StatePatch,
    Target,
)
from restated.model.services import Handler, ServiceDefinition
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import MESSAGE_BYTES_MAX, FrameDecoder
from restated.store.startup import doctor
from restated.store.store import Committed, Store, StoreFailedError, StoreRefusedError
from tests.builders import DAY_MS, SERVICE, command, invoke, workflow_target
from tests.catalogue.test_c21_c37 import call
from tests.core.world import StepWorld
from tests.engine.world import EngineWorld, run_engine
from tests.invoker.handlers import echo
from tests.invoker.world import ADD, GREET
from tests.sim.clock import VirtualClock
from tests.sim.disk import Disk, PowerCutError
from tests.sim.memory_store import MemoryStore
from tests.sim.sdk import Peer, Wait
from tests.sim.world import SimWorld, run_sim
from tests.store.contract import invocation
from tests.store.opening import on_files, on_simulated_disk

INT64 = 2**63 - 1
CALLS_OF_CLOSING = 20  # of the disk, at most; opening is cut in tests/store/test_sqlite.py
OUTPUT = pb.OutputCommandMessage(value=pb.Value(content=b"1"))

# -- records


@pytest.mark.parametrize("size", [0, 1, 100, CHUNK_BYTES + 1])
def test_c69_every_kind_of_entry_is_replayed_as_it_came(size: int, tmp_path: Path) -> None:
    """C69, B5: type and bytes, through the store, the pages and the session."""
    codes = sorted(messages.COMMAND_CODES | messages.NOTIFICATION_CODES)
    sent = [(code, bytes([index]) * size) for index, code in enumerate(codes)]

    async def body() -> None:
        async with on_files(tmp_path / "state") as store:
            text = "inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz"
            row = replace(invocation(1), id=text, journal_length=len(codes))
            entries = [Entry(1, index, code, payload, 1) for index, (code, payload) in
                       enumerate(sent)]  # fmt: skip
            await store.commit([Put(row), *map(Put, entries)])
            with store.snapshot() as view:
                first, _ = read_page(view, 1, None)
            replayed = Session(row, 7).begin(None, 1, Pages(store, row, first))
            _, *frames = FrameDecoder().receive(b"".join(replayed))
            assert [(each.type, each.body) for each in frames] == sent

    trio.run(body)


def values(annotation: Any, seed: int) -> list[Any]:
    """Some values of a column, an absent one first where it may be absent."""
    origin = get_origin(annotation)
    if origin is Literal:
        return [get_args(annotation)[seed % len(get_args(annotation))]]
    if origin in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return [None, *(value for kind in kinds for value in values(kind, seed))]
    plain: dict[Any, list[Any]] = {
        int: [seed + 1],
        str: ["", f"text {seed} \u00e9\0"],
        bytes: [b"", b"\0\xff" * seed],
    }
    return plain[annotation]


def variants(table: type[Row], number: int) -> Iterator[Row]:
    """Rows with everything absent, with one field present at a time, and with everything."""
    hints = get_type_hints(table)
    names = table.__struct_fields__
    choices = {name: values(hints[name], seed) for seed, name in enumerate(names)}
    nothing = {name: found[0] for name, found in choices.items()}
    everything = {name: found[-1] for name, found in choices.items()}
    one_each = [{**nothing, name: value} for name in names for value in choices[name]]
    for fields in (nothing, everything, *one_each):
        yield table(**{**fields, "number": number} if "number" in fields else fields)


@pytest.mark.parametrize("table", ROWS, ids=lambda table: table.TABLE)
def test_c70_absent_and_present_fields_survive_the_disk(table: type[Row], tmp_path: Path) -> None:
    """C70: each optional field of each table, absent, empty and filled."""

    async def body() -> None:
        async with on_files(tmp_path / "state") as store:
            for number, row in enumerate(variants(table, 1), 1):
                await store.commit([Clear(table, ()), Put(row)])
                assert store.get(table, *row.primary_key()) == row, number

    trio.run(body)


def test_c70_absent_and_present_fields_survive_the_outbox() -> None:
    """C70: messages between invocations that had to wait for their turn."""
    full = Invoke(
        "inv_a", Target("S", "h", "workflow", "workflow", "", "scope"), b"\0", (("a", "b"),),
        "service", -INT64 - 1, INT64, 0, "", 0, True, 1, "", "S/h", 0, "", "limit",
    )  # fmt: skip
    sent: Sequence[Event] = [
        invoke("inv_a"), full, Attach("inv_a", 1, 2, wait=True), Attach("inv_a", 1, 2, wait=False),
        Complete(1, 2, None), Complete(1, 2, b""), Complete(1, 2, Failure(1, "", (("a", ""),))),
        Signal("inv_a", "n:", None), Signal("inv_a", "s17", b""), Cancel("inv_a"), Kill("inv_a"),
        Kill("inv_a", "inv_b"),
    ]  # fmt: skip
    store = MemoryStore()
    postponing = Step(store, 1)
    postpone(postponing, sent)
    store.apply(postponing.writes())
    sending = Step(store, 2)
    send_postponed(sending)
    assert sending.messages == sent


KEPT: list[tuple[Record, dict[str, Any]]] = [
    (ServiceDefinition("service", ()), {"type": "service", "handlers": []}),
    (
        ServiceDefinition("service", (Handler("h", "shared"),)),
        {"type": "service", "handlers": [{"name": "h", "type": "shared"}]},
    ),
    (AttemptError(500, "m", "RT0001"), {"code": 500, "message": "m", "restate_code": "RT0001"}),
    (StatePatch(()), {"values": []}),
    (Failure(500, "m"), {"code": 500, "message": "m"}),
    (Kill("inv_a"), {"id": "inv_a"}),
]


@pytest.mark.parametrize(("record", "kept"), KEPT, ids=lambda one: type(one).__name__)
def test_c71_records_without_the_newer_fields_decode_with_their_defaults(
    record: Record, kept: dict[str, Any]
) -> None:
    """C71: what lies inside of columns; also with a field that an older version had."""
    for older in (kept, {**kept, "gone": 1}):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(older), type=type(record)) == record


# -- clean-up


def test_c72_after_a_purge_of_everything_every_table_is_as_before() -> None:
    """C72, S4: one of each kind of row, ended in every way."""
    world = StepWorld()
    run, teller = world.invoke(workflow_target()), world.invoke(workflow_target(handler="tell"))
    promise = pb.GetPromiseCommandMessage(key="p", result_completion_id=1)
    for one in (run, teller):
        world.command(one, messages.GET_PROMISE_COMMAND, promise)
    state = pb.SetStateCommandMessage(key=b"n", value=pb.Value(content=b"1"))
    world.command(run, messages.SET_STATE_COMMAND, state)
    told = pb.CompletePromiseCommandMessage(
        key="p", completion_value=pb.Value(content=b"1"), result_completion_id=2
    )
    world.command(teller, messages.COMPLETE_PROMISE_COMMAND, told)
    parent = world.invoke()
    call(world, parent, "inv_child")
    call(world, parent, "inv_killed", SERVICE, 3)
    world.command(
        parent, messages.ATTACH_INVOCATION_COMMAND,
        pb.AttachInvocationCommandMessage(invocation_id=run, result_completion_id=5), peer=run,
    )  # fmt: skip
    sleep = pb.SleepCommandMessage(wake_up_time=INT64, result_completion_id=6)
    world.command(parent, messages.SLEEP_COMMAND, sleep)
    for name in ("s17", "n:go"):
        world.apply(Signal(parent, name, b"1"))
    world.apply(Kill("inv_killed"))
    world.fail("inv_child")
    world.suspend(parent, "c2", "c6")
    delayed = world.invoke(scheduled_for_ms=world.now_ms + 1)
    world.apply(Cancel(delayed))
    world.advance(600_000)
    for one in ("inv_child", parent, run, teller):
        world.output(one)
    ended = (run, teller, parent, "inv_child", "inv_killed")
    world.apply(Purge(run))
    world.now_ms += DAY_MS
    for one in ended[1:]:
        world.apply(Expired(world.row(one).number))
    assert [row for row in world.rows() if not isinstance(row, Counter)] == []


async def reusing(disk: Disk, told: list[str]) -> None:
    """An execution with a step; its clean-up; its id again."""
    async with on_simulated_disk(disk) as store, trio.open_nursery() as nursery:
        writer = quiet_writer(store)
        nursery.start_soon(writer.run)
        run = pb.RunCommandMessage(result_completion_id=1)
        reply = await writer.submit(invoke("inv_a"))
        if reply == Accepted("inv_a", is_new=True):
            number = number_of(store)
            writer.post(command(number, 1, messages.RUN_COMMAND, run))
            writer.post(RunProposed(number, 1, 1, b"stale"))
            writer.post(command(number, 1, messages.OUTPUT_COMMAND, OUTPUT))
            await writer.submit(AttemptEnded(number, 1))
        await writer.submit(Purge("inv_a"))
        told.append("purged")
        await store.checkpoint()
        await writer.submit(invoke("inv_a"))
        told.append("invoked again")
        nursery.cancel_scope.cancel()


def quiet_writer(store: Store) -> Writer:
    """A writer whose effects nobody wants."""
    dispatch = Dispatch()
    for effect in EFFECTS:
        dispatch.route(effect, lambda _: None)
    return Writer(store, dispatch, Tail(), VirtualClock())


def number_of(store: Store) -> int:
    """The number of the invocation."""
    row = store.by_id("inv_a")
    assert row is not None
    return row.number


async def inspect(disk: Disk) -> tuple[str | None, list[int], int]:
    """Status, journal and completions of the id, where the doctor finds nothing."""
    async with on_simulated_disk(disk) as store:
        assert doctor(store._writer.connection) == []
        row = store.by_id("inv_a")
        if row is None:
            return None, [], 0
        entries = [entry.type for entry in store.scan(Entry, row.number)]
        return row.status, entries, len(list(store.scan(Completion, row.number)))


NEW = ("invoked", [messages.INPUT_COMMAND], 0)
OLD = (
    "completed",
    [
        messages.INPUT_COMMAND, messages.RUN_COMMAND, messages.RUN_COMPLETION,
        messages.OUTPUT_COMMAND,
    ],
    1,
)  # fmt: skip


@pytest.mark.slow
def test_c74_a_clean_up_cut_short_leaves_no_step_for_the_next_with_the_id() -> None:
    """C74, I4: a power cut at every call to the disk; all of the old one, or none of it."""
    opened, whole = Disk(seed=0), Disk(seed=0)
    trio.run(inspect, opened)
    trio.run(reusing, whole, [])
    for cut_at in range(opened.calls - CALLS_OF_CLOSING, whole.calls + 1):
        disk, told = Disk(seed=cut_at), list[str]()
        disk.cut_at = cut_at
        try:
            trio.run(reusing, disk, told)
        except* (StoreFailedError, StoreRefusedError, PowerCutError):
            pass
        disk.lose_power()
        found = trio.run(inspect, disk)
        if told == ["purged", "invoked again"]:
            assert found == NEW, cut_at
        elif told == ["purged"]:
            assert found in ((None, [], 0), NEW), cut_at
        else:
            assert found in ((None, [], 0), NEW, OLD), cut_at


def test_c76_an_entry_over_the_limit_fails_its_attempt_and_nobody_else() -> None:
    """C76, B10: the announced size is enough; nothing of it is stored, others go on."""

    def too_large(peer: Peer) -> Wait:
        peer.write(struct.pack(">HHI", messages.SET_STATE_COMMAND, 0, MESSAGE_BYTES_MAX))
        while True:
            yield

    async def body(world: SimWorld) -> None:
        world.sdk.script(GREET, too_large)
        world.sdk.serve(ADD, echo)
        large = await world.invoke()
        other = await world.invoke("add", "Counter", "k")
        await trio.sleep(0.01)
        assert world.outcome(other) == b'"Ada"'
        assert world.journal(large) == [messages.INPUT_COMMAND]
        assert world.events(large)[0]["restate_doc_error_code"] == "RT0003"
        await trio.sleep(60)
        assert world.row(large).status == "paused"

    run_sim(body)


def test_c78_a_request_that_is_cancelled_leaves_the_store_to_the_others() -> None:
    """C78: its client goes in the middle of the commit; the commit is one, the next works."""

    async def body(world: EngineWorld) -> None:
        commit, gate = world.store.commit, trio.Event()

        async def slow(writes: Sequence[Write]) -> Committed:
            await gate.wait()
            return await commit(writes)

        world.store.commit = slow  # type: ignore[method-assign]  # a slow disk
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def gone() -> None:
                with scope:
                    await world.writer.submit(invoke("inv_a"))

            nursery.start_soon(gone)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            gate.set()
        assert await world.writer.submit(invoke("inv_b")) == Accepted("inv_b", is_new=True)
        assert (world.status("inv_a"), world.status("inv_b")) == ("invoked", "invoked")

    run_engine(body)


def test_c71_a_stored_await_has_no_shape_that_depends_on_a_version() -> None:
    """C71: each node says how many children it has, so that a new field can follow."""
    nodes = msgspec.msgpack.decode(stored(Await("all_completed", ("c1",), (Await(on=("c2",)),))))
    assert [sorted(node) for node in nodes] == [["combinator", "nested_count", "on"]] * 2
