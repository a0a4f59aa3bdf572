"""Catalogue C38-C57, awakeables, promises, signals, identity and ingress."""

import json
from itertools import combinations
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from restated.core.effects import Accepted, Done, Ignored, Put
from restated.core.events import Cancel, Kill, Purge, Signal
from restated.engine.dispatch import EFFECTS, Dispatch, Tail
from restated.engine.writer import Writer
from restated.model.ids import awakeable_id, invocation_id_for
from restated.model.records import (
    Counter,
    Deployment,
    Entry,
    Failure,
    Promise,
    PromiseWaiter,
    Row,
    ServiceRevision,
    SignalRow,
    Status,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.store.store import StoreFailedError, StoreRefusedError
from tests.builders import invoke, workflow_target
from tests.core.world import StepWorld
from tests.ingress.http import get, post, request
from tests.ingress.world import IngressWorld, run_ingress
from tests.invoker.handlers import NAP, Output
from tests.invoker.world import ADD, GREET
from tests.sim.clock import EPOCH_MS, VirtualClock
from tests.sim.disk import Disk, PowerCutError
from tests.sim.sdk import Context, Peer, Wait
from tests.sim.world import SimWorld, When, run_sim
from tests.store.opening import on_simulated_disk

AWAKEABLE = "s17"
CALLS_OF_CLOSING = 20  # of the disk, at most; opening is cut in tests/store/test_sqlite.py


def awaits(context: Context) -> Output:
    """Ends with what its awakeable is completed with."""
    return (yield from context.result(AWAKEABLE)).value.content


def resolve(invocation_id: str, value: bytes) -> bytes:
    """The request that resolves the first awakeable of an invocation."""
    path = f"/restate/awakeables/{awakeable_id(invocation_id, 17)}/resolve"
    return request("POST", path, value)


@pytest.mark.parametrize("is_machine", [False, True])
def test_c38_c39_an_awakeable_completed_before_it_is_awaited_arrives_once(
    is_machine: bool,
) -> None:
    """C38, C39: after a crash of the endpoint, or ours; a second completion changes nothing."""

    def breaks(peer: Peer) -> Wait:
        peer.fail()
        yield

    async def body(world: SimWorld) -> None:
        world.sdk.script(GREET, breaks)
        invocation = await world.invoke()
        assert (await world.ask(resolve(invocation, b"1"))).status == 202
        if is_machine:
            await world.crash()
        assert (await world.ask(resolve(invocation, b"2"))).status == 202
        world.sdk.serve(GREET, awaits)
        await trio.sleep(1)
        assert world.outcome(invocation) == b"1"
        received = [message.type for message in world.peers[-1].received]
        assert received.count(messages.SIGNAL_NOTIFICATION) == 1

    run_sim(body)


def test_c39_a_live_attempt_gets_a_completion_exactly_once() -> None:
    """C39: pushed, not replayed as well; the second one is nowhere."""

    def handler(context: Context) -> Output:
        got = yield from context.result(AWAKEABLE)
        yield from context.result("s18")
        return got.value.content

    async def body(world: SimWorld) -> None:
        world.sdk.serve(GREET, handler)
        invocation = await world.invoke()
        await trio.sleep(0.1)
        for value in (b"1", b"2"):
            await world.ask(resolve(invocation, value))
        await world.submit(Signal(invocation, "s18", b""))
        await trio.sleep(0.1)
        assert world.outcome(invocation) == b"1"
        received = [message.type for message in world.peers[0].received]
        assert received.count(messages.SIGNAL_NOTIFICATION) == 2
        assert world.journal(invocation).count(messages.SIGNAL_NOTIFICATION) == 2

    run_sim(body)


async def resolving(disk: Disk, told: list[str]) -> None:
    """Invoke, resolve, checkpoint, close; `told` is what was acknowledged."""
    async with on_simulated_disk(disk) as store:
        dispatch = Dispatch()
        for effect in EFFECTS:
            dispatch.route(effect, lambda _: None)
        writer = Writer(store, dispatch, Tail(), VirtualClock())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            await writer.submit(invoke("inv_a"))
            told.append("invoked")
            if await writer.submit(Signal("inv_a", AWAKEABLE, b"1")) == Done():
                told.append("resolved")
            await store.checkpoint()
            nursery.cancel_scope.cancel()


async def look(disk: Disk) -> list[str]:
    """What the same requests are told after a restart."""
    async with on_simulated_disk(disk) as store:
        row = store.by_id("inv_a")
        if row is None:
            return []
        signal = store.get(SignalRow, row.number, AWAKEABLE)
        if signal is None:
            return ["invoked"]
        entry = store.get(Entry, row.number, signal.entry_index)
        assert entry is not None
        assert pb.NotificationMessage.FromString(entry.payload).value.content == b"1"
        return ["invoked", "resolved"]


@pytest.mark.slow
def test_c40_an_acknowledged_resolve_survives_a_power_cut_at_every_point() -> None:
    """C40, A1: every call to the disk; and a request that was not acknowledged can be repeated."""
    opened, whole = Disk(seed=0), Disk(seed=0)
    trio.run(look, opened)
    trio.run(resolving, whole, [])
    cuts = 0
    first = opened.calls - CALLS_OF_CLOSING
    for cut_at in range(first, whole.calls + 1):
        disk, told = Disk(seed=cut_at), list[str]()
        disk.cut_at = cut_at
        try:
            trio.run(resolving, disk, told)
        except* (StoreFailedError, StoreRefusedError, PowerCutError):
            cuts += 1
        disk.lose_power()
        found = trio.run(look, disk)
        assert found[: len(told)] == told, f"cut at call {cut_at}"
        again: list[str] = []
        trio.run(resolving, disk, again)
        assert trio.run(look, disk) == ["invoked", "resolved"]
        assert ("resolved" in again) == ("resolved" not in found)
    assert cuts == whole.calls + 1 - first > 10


def complete_promise(world: StepWorld, invocation_id: str, value: bytes) -> None:
    """A CompletePromise command for promise `p`."""
    body = pb.CompletePromiseCommandMessage(
        key="p", completion_value=pb.Value(content=value), result_completion_id=1
    )
    world.command(invocation_id, messages.COMPLETE_PROMISE_COMMAND, body)


def get_promise(world: StepWorld, invocation_id: str, completion_id: int = 1) -> None:
    """A GetPromise command for promise `p`."""
    body = pb.GetPromiseCommandMessage(key="p", result_completion_id=completion_id)
    world.command(invocation_id, messages.GET_PROMISE_COMMAND, body)


def test_c41_a_promise_completed_before_the_run_exists_is_there_for_it() -> None:
    """C41: it is kept under the key, the run reads it at once, and takes it along at its end."""
    world = StepWorld()
    teller = world.invoke(workflow_target(handler="tell"))
    complete_promise(world, teller, b"1")
    world.output(teller)
    world.apply(Purge(teller))
    assert [row.value for row in world.store.scan(Promise)] == [b"1"]
    run = world.invoke(workflow_target())
    get_promise(world, run)
    assert world.journal(run)[-1] == "Notification: GetPromise"
    world.output(run)
    world.apply(Purge(run))
    assert list(world.store.scan(Promise)) == []


@pytest.mark.parametrize("how", ["killed", "cancelled before it starts"])
def test_c41_a_run_that_never_starts_leaves_nobody_listening(how: str) -> None:
    """C41: what was completed stays under the key, as state does; who listened is forgotten."""
    world = StepWorld()
    waiting = world.invoke(workflow_target(handler="tell"))
    get_promise(world, waiting)
    run = world.invoke(workflow_target(), scheduled_for_ms=world.now_ms + 1_000)
    world.apply(Kill(run) if how == "killed" else Cancel(run))
    assert world.status(run) is None
    assert [row.caller for row in world.store.scan(PromiseWaiter)] == [world.row(waiting).number]
    world.apply(Kill(waiting))
    assert list(world.store.scan(PromiseWaiter)) == []
    teller = world.invoke(workflow_target(handler="tell"))
    complete_promise(world, teller, b"1")
    assert world.invoke(workflow_target(), id="inv_next") == "inv_next"
    get_promise(world, "inv_next")
    assert world.journal("inv_next")[-1] == "Notification: GetPromise"


def race(peer: Peer) -> Wait:
    """Ends with the name of what came first, an awakeable or a sleep of half a second."""
    context = Context(peer)
    sleep = pb.SleepCommandMessage(wake_up_time=EPOCH_MS + 500, result_completion_id=1)
    context.command(messages.SLEEP_COMMAND, sleep)
    while True:
        found = [each for each in peer.received if each.type in messages.NOTIFICATION_CODES]
        if found:
            is_sleep = found[0].type == messages.SLEEP_COMPLETION
            value = pb.Value(content=b"slept" if is_sleep else b"received")
            peer.message(messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=value))
            peer.message(messages.END, pb.EndMessage())
            peer.finish()
            return
        if peer.is_ended:
            awaiting = pb.SuspensionMessage(waiting_signals=[1, 17], waiting_completions=[1])
            peer.message(messages.SUSPENSION, awaiting)  # as version 6 has it
            peer.finish()
            return
        yield


@pytest.mark.parametrize("commit", [1, 2, 3, 4])
@pytest.mark.parametrize("when", ["before", "behind"])
def test_c42_a_receive_and_its_timeout_cannot_both_win_in_recovery(commit: int, when: When) -> None:
    """C42: both are due while the process is down, it dies once more over it, and so does each
    attempt that sees only one of them.
    """

    def script(peer: Peer) -> Wait:
        codes = [each.type for each in peer.received if each.type in messages.NOTIFICATION_CODES]
        if len(codes) == 1:
            peer.fail()
        else:
            yield from race(peer)

    async def body(world: SimWorld) -> None:
        world.sdk.script(NAP, script)
        invocation = await world.invoke("nap")
        await trio.sleep(0.3)
        assert world.row(invocation).status == "suspended"
        world.crash_at(commit, when)
        world.down_s = 2
        world.rooms.scope.cancel()
        await trio.sleep(2)
        await world.submit(Signal(invocation, AWAKEABLE, b"1"))
        await trio.sleep(5)
        first = [code for code in world.journal(invocation) if code in messages.NOTIFICATION_CODES]
        expected = b"slept" if first[0] == messages.SLEEP_COMPLETION else b"received"
        assert world.outcome(invocation) == expected
        assert sorted(first) == sorted([messages.SLEEP_COMPLETION, messages.SIGNAL_NOTIFICATION])

    run_sim(body)


def test_c43_a_signal_that_arrives_while_the_execution_closes_is_not_left_behind() -> None:
    """C43: between Output and End it is stored, at the end it goes with everything else."""
    world = StepWorld()
    found = world.invoke(completion_retention_ms=0, journal_retention_ms=0)
    body = pb.OutputCommandMessage(value=pb.Value(content=b"1"))
    world.command(found, messages.OUTPUT_COMMAND, body)
    assert world.apply(Signal(found, "n:go", b"x")) == Done()
    world.output(found)
    assert world.apply(Signal(found, "n:go", b"x")) == Ignored("nobody can read the signal")
    assert [row for row in world.rows() if not isinstance(row, Counter)] == []


IDENTITY: dict[str, Any] = {
    "service": "S", "key": "k", "handler": "h", "idempotency_key": "i", "scope": "",
}  # fmt: skip


def identity(**changes: str | None) -> str:
    """The id of a request to an object, the same at any time and with any entropy."""
    return invocation_id_for(
        **{**IDENTITY, **changes}, handler_type="exclusive", now_ms=0, entropy=bytes(12)
    )


def test_c44_no_field_of_an_identity_is_dropped_or_swapped() -> None:
    """C44: (service, key, handler, idempotency key), each alone and in each other's place."""
    fields = ("service", "key", "handler", "idempotency_key")
    changed = [identity(**{field: "x"}) for field in fields]
    swapped = [
        identity(**{one: IDENTITY[other], other: IDENTITY[one]})
        for one, other in combinations(fields, 2)
    ]
    moved = [identity(service="Sk", key=""), identity(key="kh", handler=""), identity(key="")]
    everything = [identity(), *changed, *swapped, *moved]
    assert len(set(everything)) == len(everything)


def test_c49_an_empty_key_is_an_identity_of_its_own() -> None:
    """C49: the protocol allows empty keys, so none is taken for an absent one (ingress.md 4, 5)."""
    assert identity(idempotency_key="") == identity(idempotency_key="")
    assert identity(idempotency_key="") != identity()
    assert identity(key="") != identity()

    async def body(world: IngressWorld) -> None:
        first = await world.ask(post("/Svc/echo", b"1", idempotency_key=""))
        second = await world.ask(post("/Svc/echo", b"2", idempotency_key=""))
        plain = await world.ask(post("/Svc/echo", b"3"))
        keyed = await world.ask(post("/Obj//echo", b"4"))
        assert [each.body for each in (first, second, plain, keyed)] == [b"1", b"1", b"3", b"4"]
        assert world.started[-1].object_key == ""
        assert len(world.started) == 3

    run_ingress(body)


@pytest.mark.parametrize("path", ["/", "//", "/Svc", "/Svc/", "/Obj/k/", "/restate/awakeables/"])
def test_c49_a_name_that_is_missing_is_refused_at_the_door(path: str) -> None:
    """C49: nothing of it is stored."""

    async def body(world: IngressWorld) -> None:
        answer = await world.ask(post(path))
        assert 400 <= answer.status < 500
        assert stored(world.store.rows()) == []

    run_ingress(body)


def stored(rows: dict[str, list[Row]]) -> list[Row]:
    """Every row that a request left."""
    registry = (Deployment, ServiceRevision)
    return [row for table in rows.values() for row in table if not isinstance(row, registry)]


def test_c51_a_retry_behind_the_end_signals_nobody_again() -> None:
    """C51: the first execution sent one signal and one call; the retry sends none."""

    async def body(world: SimWorld) -> None:
        def handler(context: Context) -> Output:
            got = yield from context.call("Counter", "add", b"1", key="k")
            return got.value.content

        def add(context: Context) -> Output:
            yield from ()
            return b"%d" % len(world.peers)

        world.sdk.serve(GREET, handler)
        world.sdk.serve(ADD, add)
        event = world.request(idempotency_key="i")
        await world.submit(event)
        await trio.sleep(1)
        await world.crash()
        await world.submit(event)
        await trio.sleep(1)
        assert world.outcome(event.id) == b"2"
        assert len(world.peers) == 2

    run_sim(body)


@pytest.mark.parametrize("status", ["scheduled", "inboxed", "suspended", "paused", "invoked"])
def test_c52_output_of_what_was_accepted_is_never_not_found(status: Status) -> None:
    """C52: 470 until there is one, in every status."""

    async def body(world: IngressWorld) -> None:
        sent = await world.ask(post("/Svc/hang/send"))
        row = world.store.by_id(sent.headers["x-restate-id"])
        assert row is not None
        world.store.apply([Put(replace(row, status=status))])
        answer = await world.ask(get(f"/restate/output/{row.id}"))
        assert answer.status == 470

    run_ingress(body)


def test_c54_errors_of_the_ingress_and_of_an_invocation_are_told_apart() -> None:
    """C54: header and body say whose error it is, for the same status."""

    async def body(world: IngressWorld) -> None:
        ours = await world.ask(post("/Svc/nope"))
        client = await world.connect()
        await client.send(post("/Svc/hang"))
        await trio.testing.wait_all_tasks_blocked()
        world.kill(world.started[0].id)
        theirs = await client.answer()
        for answer, source in ((ours, "ingress"), (theirs, "invocation")):
            assert answer.headers["x-restate-error-source"] == source
            assert json.loads(answer.body)["source"] == source
        assert "x-restate-id" not in ours.headers
        assert theirs.headers["x-restate-id"] == world.started[0].id

    run_ingress(body)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(500, "disk I/O error"),
        Failure(503, "database is locked"),
        Failure(429, "the server takes no new work: no space"),
        Failure(500, "RT0010 connection reset"),
    ],
    ids=lambda failure: failure.message,
)
def test_c57_a_terminal_failure_that_looks_retryable_is_terminal(failure: Failure) -> None:
    """C57: what a handler returns is its result, whatever it says."""

    def fails(peer: Peer) -> Wait:
        wire = pb.Failure(code=failure.code, message=failure.message)
        peer.message(messages.OUTPUT_COMMAND, pb.OutputCommandMessage(failure=wire))
        peer.message(messages.END, pb.EndMessage())
        peer.finish()
        yield

    async def body(world: SimWorld) -> None:
        world.sdk.script(GREET, fails)
        invocation = await world.invoke()
        await trio.sleep(600)
        assert world.outcome(invocation) == failure
        assert len(world.peers) == 1

    run_sim(body)


def test_c45_equal_requests_beside_crashes_execute_once() -> None:
    """C45, I1: every client tries until it is told; all are told the same."""

    async def body(world: SimWorld) -> None:
        executions: list[int] = []

        def handler(context: Context) -> Output:
            executions.append(1)
            yield from ()
            return b"%d" % len(executions)

        world.sdk.serve(GREET, handler)
        event = world.request(idempotency_key="i", wants_result=True)
        replies: list[Accepted] = []

        async def client() -> None:
            reply = await world.submit(event)
            assert isinstance(reply, Accepted)
            replies.append(reply)

        world.crash_at(1, "behind")
        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(client)
        await trio.sleep(1)
        assert {reply.id for reply in replies} == {event.id}
        assert not any(reply.is_new for reply in replies)  # nobody was told that it was new
        assert world.outcome(event.id) == b"1"
        assert len(executions) == 1
        assert world.crashes == 1

    run_sim(body)
