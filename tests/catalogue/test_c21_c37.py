"""Catalogue C21-C37, kill, cancel, pause and restart: what the tests of the rooms do not show."""

import logging
from typing import Any

import pytest
import trio
from google.protobuf.message import Message

from restated.core.effects import Delete, Done, Ignored, Refused
from restated.core.events import AttemptEnded, Cancel, Invoke, Kill
from restated.model.errors import ErrorCode
from restated.model.records import (
    Deployment,
    Entry,
    Failure,
    InboxItem,
    Lock,
    PromiseWaiter,
    Result,
    Target,
    Timer,
    Waiter,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.admin.test_invocations import UNKNOWN, completed, invoked, row
from tests.admin.world import AdminWorld, run_admin
from tests.builders import SERVICE, command, invoke, object_target, workflow_target
from tests.core.world import StepWorld
from tests.engine.world import EngineWorld, run_engine
from tests.invoker.handlers import Output, silent
from tests.invoker.world import ADD, GREET
from tests.sim.sdk import Context, Peer
from tests.sim.world import SimWorld, run_sim

KILLED = Failure(409, "killed")
CALL = messages.CALL_COMMAND


def child(world: StepWorld, parent: str, name: str, target: Target, first_id: int = 1) -> Invoke:
    """The invocation of a Call whose completion ids are `first_id` and the next one."""
    number = world.row(parent).number
    return invoke(
        name, target, source="service", caller=number, caller_id=parent,
        caller_completion_id=first_id + 1,
    )  # fmt: skip


def call(
    world: StepWorld, parent: str, name: str, target: Target = SERVICE, first_id: int = 1
) -> None:
    """A Call command, stored with what it invokes."""
    body = pb.CallCommandMessage(
        service_name=target.service,
        handler_name=target.handler,
        invocation_id_notification_idx=first_id,
        result_completion_id=first_id + 1,
    )
    world.command(parent, CALL, body, child=child(world, parent, name, target, first_id))


def test_c21_kill_reaches_running_suspended_and_inboxed_descendants() -> None:
    """C21, X1: the last key becomes free."""
    world = StepWorld()
    parent = world.invoke(object_target("p"))
    call(world, parent, "inv_running", object_target("a"), 1)
    call(world, parent, "inv_suspended", object_target("b"), 3)
    call(world, "inv_suspended", "inv_running_below", object_target("c"), 1)
    world.suspend("inv_suspended", "c2")
    call(world, parent, "inv_inboxed", object_target("a"), 5)
    world.suspend(parent, "c2", "c4", "c6")
    assert world.status("inv_inboxed") == "inboxed"
    world.apply(Kill(parent))
    assert world.outcomes() == dict.fromkeys(
        (parent, "inv_running", "inv_suspended", "inv_running_below", "inv_inboxed"), KILLED
    )
    assert [*world.store.scan(Lock), *world.store.scan(InboxItem), *world.store.scan(Waiter)] == []


@pytest.mark.parametrize("is_gone", [True, False])
def test_c22_kill_needs_no_deployment(is_gone: bool) -> None:
    """C22: its deployment is gone, or does not answer; the next in line gets the key."""

    async def body(world: SimWorld) -> None:
        world.sdk.script(ADD, silent)
        first = await world.invoke("add", "Counter", "k")
        second = await world.invoke("add", "Counter", "k")
        if is_gone:
            world.store.apply([Delete(Deployment, ("dp_1",))])
            world.rooms.catalog.load(world.store)
        else:
            world.peers[0].fail()
        await trio.sleep(0.01)
        assert await world.submit(Kill(first)) == Done()
        assert world.outcome(first) == KILLED
        assert [lock.holder for lock in world.store.scan(Lock)] == [world.row(second).number]
        assert await world.submit(Kill(second)) == Done()
        assert list(world.store.scan(Lock)) == []

    run_sim(body)


def test_c24_after_a_mass_kill_nothing_is_retried_and_nothing_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """C24: one half backs off, the other half runs."""

    async def body(world: SimWorld) -> None:
        running = [await world.invoke() for _ in range(500)]
        await trio.sleep(0.01)
        world.sdk.script(ADD, silent)
        running += [await world.invoke("add", "Counter", f"k{index}") for index in range(500)]
        await trio.sleep(0.01)
        caplog.clear()
        for invocation in running:
            world.rooms.writer.post(Kill(invocation))
        await world.rooms.writer.drain()
        opened = len(world.peers)
        assert [*world.store.scan(Timer), *world.store.scan(Lock)] == []
        await trio.sleep(600)
        assert len(world.peers) == opened
        assert world.rooms.invoker.open_count == 0
        assert caplog.records == []

    with caplog.at_level(logging.INFO):
        run_sim(body)


def wait_for_cancel(context: Context) -> Output:
    """Ends when it is cancelled."""
    yield from context.result("s1")
    return b"cancelled"


@pytest.mark.parametrize("is_pinned", [True, False])
def test_c26_c27_a_cancel_during_back_off_is_read_by_the_next_attempt(is_pinned: bool) -> None:
    """C26, C27: whether or not an attempt has pinned a protocol version; over a crash too."""
    run = pb.RunCommandMessage(result_completion_id=1)

    def breaks(peer: Peer) -> Output:
        if is_pinned:
            peer.message(messages.RUN_COMMAND, run)
        peer.fail()
        yield from ()
        return b""

    def reads(context: Context) -> Output:
        if context.is_replaying:
            context.command(messages.RUN_COMMAND, run)
        return (yield from wait_for_cancel(context))

    async def body(world: SimWorld) -> None:
        world.sdk.script(GREET, breaks)  # type: ignore[arg-type]  # it has no output
        invocation = await world.invoke()
        await trio.sleep(0.01)
        assert (world.row(invocation).protocol_version is not None) == is_pinned
        at_ms = world.row(invocation).next_retry_at_ms
        assert at_ms is not None
        assert await world.submit(Cancel(invocation)) == Done(is_final=False)
        world.sdk.serve(GREET, reads)
        await world.crash()
        assert world.row(invocation).next_retry_at_ms == at_ms
        await trio.sleep(1)
        assert world.outcome(invocation) == b"cancelled"
        assert len(world.peers) == 2

    run_sim(body)


BLOCKED: dict[str, tuple[int, Message]] = {
    "promise": (
        messages.GET_PROMISE_COMMAND, pb.GetPromiseCommandMessage(key="p", result_completion_id=2),
    ),
    "call": (
        CALL,
        pb.CallCommandMessage(
            service_name="Greeter", handler_name="greet", invocation_id_notification_idx=1,
            result_completion_id=2,
        ),
    ),
    "sleep": (
        messages.SLEEP_COMMAND, pb.SleepCommandMessage(wake_up_time=2**40, result_completion_id=2),
    ),
    "attach": (
        messages.ATTACH_INVOCATION_COMMAND,
        pb.AttachInvocationCommandMessage(invocation_id="inv_other", result_completion_id=2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BLOCKED)
def test_c28_cancel_reaches_every_blocking_operation(kind: str) -> None:
    """C28, X2: the handler is attempted again and reads the signal; nothing stays behind it."""
    world = StepWorld()
    world.invoke(id="inv_other")
    found = world.invoke(workflow_target())
    type_code, body = BLOCKED[kind]
    more: dict[str, dict[str, Any]] = {
        "call": {"child": child(world, found, "inv_child", SERVICE)},
        "attach": {"peer": "inv_other"},
    }
    world.command(found, type_code, body, **more.get(kind, {}))
    world.suspend(found, "s1", "c2")
    assert world.status(found) == "suspended"
    assert world.apply(Cancel(found)) == Done(is_final=False)
    assert world.started() == [(found, 2)]
    assert world.journal(found)[-1] == "Notification: Signal"
    world.output(found)
    assert [*world.store.scan(Timer), *world.store.scan(PromiseWaiter)] == []


def test_c28_cancel_reaches_a_pending_awakeable() -> None:
    """C28: the completion that comes later is for nobody."""
    world = StepWorld()
    found = world.invoke()
    world.suspend(found, "s1", "s17")
    world.apply(Cancel(found))
    assert world.started() == [(found, 2)]


def test_c29_a_batch_cancel_ignores_completed_invocations() -> None:
    """C29: they are told, the others are cancelled."""

    async def body(world: AdminWorld) -> None:
        done = await completed(world)
        before = row(world, done)
        running = await invoked(world, 2)
        response = await world.client.post(
            "/internal/invocations_batch_operations/cancel",
            json={"invocation_ids": [done, running, UNKNOWN]},
        )
        answer = response.json()
        assert answer["succeeded"] == [running]
        assert [failed["invocation_id"] for failed in answer["failed"]] == [done, UNKNOWN]
        assert row(world, done) == before
        assert row(world, running).journal_length == 2

    run_admin(body)


def test_c30_cancel_against_completion_has_one_winner_and_the_requester_learns_it() -> None:
    """C30, X3: one batch, both orders; what was refused has ended, what was taken is not final."""
    output = pb.OutputCommandMessage(value=pb.Value(content=b"1"))

    async def body(world: EngineWorld) -> None:
        for name in ("inv_a", "inv_b", "inv_c"):
            await world.writer.submit(invoke(name))
        post = world.writer.post
        post(command(1, 1, messages.OUTPUT_COMMAND, output))
        post(AttemptEnded(1, 1))
        late = post(Cancel("inv_a"))
        early = post(Cancel("inv_b"))
        post(command(2, 1, messages.OUTPUT_COMMAND, output))
        post(AttemptEnded(2, 1))
        kill = post(Kill("inv_c"))
        post(command(3, 1, messages.OUTPUT_COMMAND, output))
        ended = post(AttemptEnded(3, 1))
        await ended.wait()
        assert world.writer.batches == 4
        assert await late.reply() == Refused(ErrorCode.INVOCATION_COMPLETED, "inv_a")
        assert await early.reply() == Done(is_final=False)
        assert await kill.reply() == Done()
        assert await ended.reply() == Ignored("stale attempt")
        types = [entry.type for entry in world.store.scan(Entry, 2)]
        assert types[1:] == [messages.SIGNAL_NOTIFICATION, messages.OUTPUT_COMMAND]
        outcomes = [row.outcome for row in world.store.scan(Result)]
        assert outcomes == [b"1", b"1", KILLED]

    run_engine(body)


def test_c31_a_body_that_completes_after_its_end_overwrites_nothing() -> None:
    """C31, B1: terminal is absorbing, whoever comes late."""
    world = StepWorld()
    found = world.invoke(object_target())
    number = world.row(found).number
    body = pb.OutputCommandMessage(value=pb.Value(content=b"1"))
    world.command(found, messages.OUTPUT_COMMAND, body)
    world.apply(Kill(found))
    before = world.rows()
    assert world.apply(AttemptEnded(number, 1)) == Ignored("stale attempt")
    late = world.command(found, messages.OUTPUT_COMMAND, body)
    assert late == Ignored("stale attempt")
    assert world.fail(found, behavior="fail") == Ignored("stale attempt")
    assert world.apply(Kill(found)) == Refused(ErrorCode.INVOCATION_COMPLETED, found)
    assert world.rows() == before
    assert world.outcomes()[found] == KILLED


@pytest.mark.parametrize("kind", ["call", "send"])
def test_c32_kill_spares_an_unrelated_invocation_with_the_id_of_a_former_child(kind: str) -> None:
    """C32: the child ended and was forgotten; somebody else's request has its identity now."""
    world = StepWorld()
    parent = world.invoke()
    retained: dict[str, Any] = {"completion_retention_ms": 100, "journal_retention_ms": 100}
    number = world.row(parent).number
    request = invoke("inv_child", caller=number, caller_id=parent, **retained)
    if kind == "call":
        request = invoke(
            "inv_child", caller=number, caller_id=parent, caller_completion_id=2, **retained
        )
        body: Message = pb.CallCommandMessage(
            service_name="Greeter", handler_name="greet", invocation_id_notification_idx=1,
            result_completion_id=2,
        )  # fmt: skip
        world.command(parent, CALL, body, child=request)
    else:
        body = pb.OneWayCallCommandMessage(invocation_id_notification_idx=1)
        world.command(parent, messages.ONE_WAY_CALL_COMMAND, body, child=request)
    world.output("inv_child")
    world.now_ms += 100
    world.invoke(id="inv_child")
    world.apply(Kill(parent))
    assert world.outcomes()[parent] == KILLED
    assert world.status("inv_child") == "invoked"


def test_c32_kill_reaches_what_an_open_call_has_joined() -> None:
    """State-machine.md 4.5: the caller waits for it, so it is no stranger."""
    world = StepWorld()
    world.invoke(id="inv_joined")
    parent = world.invoke()
    call(world, parent, "inv_joined")
    world.apply(Kill(parent))
    assert world.outcomes() == {parent: KILLED, "inv_joined": KILLED}


@pytest.mark.parametrize("operation", [Cancel, Kill])
def test_c37_a_call_of_the_own_key_wedges_nothing_and_can_be_ended(
    operation: type[Cancel | Kill],
) -> None:
    """C37: it waits for itself, other keys go on, an operator ends the call or the caller."""
    world = StepWorld()
    caller = world.invoke(object_target("k"))
    call(world, caller, "inv_self", object_target("k"))
    world.suspend(caller, "s1", "c2")
    other = world.invoke(object_target("l"))
    world.output(other)
    assert (world.status("inv_self"), world.status(caller)) == ("inboxed", "suspended")
    world.apply(operation("inv_self"))
    assert world.started() == [(caller, 2)]
    world.output(caller)
    assert [*world.store.scan(Lock), *world.store.scan(InboxItem)] == []


def test_c37_a_circle_of_calls_can_be_killed() -> None:
    """C37: A -> B -> A."""
    world = StepWorld()
    first = world.invoke(object_target("a"))
    call(world, first, "inv_b", object_target("b"))
    call(world, "inv_b", "inv_a", object_target("a"))
    world.suspend(first, "s1", "c2")
    world.suspend("inv_b", "s1", "c2")
    world.apply(Kill(first))
    assert set(world.outcomes()) == {first, "inv_b", "inv_a"}
    assert [*world.store.scan(Lock), *world.store.scan(InboxItem)] == []
