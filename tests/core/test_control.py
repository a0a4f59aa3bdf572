"""What operators do: each operation in each status."""

import json

import pytest

from restated.core.effects import Done, Ignored, Refused, Reply, StopAttempt
from restated.core.events import (
    AttemptEnded,
    Cancel,
    Event,
    Kill,
    Pause,
    RestartAsNew,
    Resume,
    RunProposed,
    Signal,
)
from restated.model.errors import ErrorCode
from restated.model.records import Completion, Failure, InboxItem, JournalEvent, Lock, Timer
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.builders import object_target, workflow_target
from tests.core.test_commands import call, child_of
from tests.core.world import StepWorld

STATUSES = (
    "scheduled", "inboxed", "invoked", "backing-off", "suspended", "paused", "completed", "unknown",
)  # fmt: skip
NOW, LATER = Done(), Done(is_final=False)


def put_into(world: StepWorld, status: str) -> str:
    """An exclusive invocation in this status."""
    if status == "unknown":
        return "inv_x"
    if status == "scheduled":
        return world.invoke(object_target(), scheduled_for_ms=world.now_ms + 1_000)
    if status == "inboxed":
        world.invoke(object_target())
    found = world.invoke(object_target())
    if status == "suspended":
        body = pb.SleepCommandMessage(wake_up_time=world.now_ms + 9_000, result_completion_id=1)
        world.command(found, messages.SLEEP_COMMAND, body)
        world.suspend(found, "s1", "c1")
    elif status == "backing-off":
        world.fail(found)
    elif status == "paused":
        world.fail(found, behavior="pause")
    elif status == "completed":
        world.output(found)
    return found


def refused(code: ErrorCode) -> Refused:
    """Refused with an id that the caller fills in."""
    return Refused(code, "ID")


MISSING = refused(ErrorCode.INVOCATION_NOT_FOUND)
ENDED = refused(ErrorCode.INVOCATION_COMPLETED)
NO_PAUSE = refused(ErrorCode.PAUSE_NOT_RUNNING)
NO_RESUME = refused(ErrorCode.RESUME_NOT_STARTED)
NO_RESTART = refused(ErrorCode.RESTART_NOT_STARTED)
RUNNING = refused(ErrorCode.RESTART_RUNNING)
ANSWERS: dict[type[Event], tuple[Reply, ...]] = {
    Cancel: (NOW, NOW, LATER, LATER, LATER, LATER, ENDED, MISSING),
    Kill: (NOW, NOW, NOW, NOW, NOW, NOW, ENDED, MISSING),
    Pause: (NO_PAUSE, NO_PAUSE, LATER, LATER, NOW, NOW, NO_PAUSE, MISSING),
    Resume: (
        NO_RESUME, NO_RESUME, NOW, NOW, NOW, NOW, refused(ErrorCode.RESUME_COMPLETED), MISSING,
    ),
    RestartAsNew: (NO_RESTART, NO_RESTART, RUNNING, RUNNING, RUNNING, RUNNING, NOW, MISSING),
}  # fmt: skip
TABLE = [
    (event, status, reply)
    for event, replies in ANSWERS.items()
    for status, reply in zip(STATUSES, replies, strict=True)
]


@pytest.mark.parametrize(("event", "status", "reply"), TABLE)
def test_operation_answers_by_status(
    world: StepWorld, event: type[Event], status: str, reply: Reply
) -> None:
    """admin.md 7, the whole table."""
    found = put_into(world, status)
    more = ("inv_new", 1) if event is RestartAsNew else ()
    answer = world.apply(event(found, *more))
    if isinstance(reply, Refused):
        assert answer == Refused(reply.code, found)
    else:
        assert isinstance(answer, Done)
        assert answer.is_final == reply.is_final  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", ["scheduled", "inboxed"])
@pytest.mark.parametrize(("event", "text"), [(Cancel, "canceled"), (Kill, "killed")])
def test_ending_what_has_not_started_leaves_nothing(
    world: StepWorld, status: str, event: type[Event], text: str
) -> None:
    """ingress.md 15, C23."""
    found = put_into(world, status)
    world.apply(event(found))
    assert world.status(found) is None
    assert world.outcomes()[found] == Failure(409, text)
    assert list(world.store.scan(InboxItem)) == []
    assert list(world.store.scan(Timer)) == []


def test_cancelled_place_in_the_inbox_keeps_the_order_of_the_rest(world: StepWorld) -> None:
    """C23, K3."""
    first, second, third = (world.invoke(object_target()) for _ in range(3))
    world.apply(Cancel(second))
    world.output(first)
    assert world.started() == [(third, 1)]


def test_cancel_of_a_suspended_invocation_wakes_it(world: StepWorld) -> None:
    """X2: SDKs list signal 1 in every await."""
    found = put_into(world, "suspended")
    world.apply(Cancel(found))
    assert world.status(found) == "invoked"
    assert world.journal(found)[-1] == "Notification: Signal"


def test_cancel_during_back_off_is_kept_and_does_not_shorten_it(world: StepWorld) -> None:
    """C26, C27: service-protocol.md 4.6."""
    found = put_into(world, "backing-off")
    at_ms = world.row(found).next_retry_at_ms
    world.apply(Cancel(found))
    assert world.row(found).next_retry_at_ms == at_ms
    assert world.journal(found)[-1] == "Notification: Signal"


def test_pause_out_of_a_back_off_keeps_the_failure(world: StepWorld) -> None:
    """Queries go on to show it, as the reference's do [seen]; resumed, the invocation is as new."""
    found = put_into(world, "backing-off")
    failure = world.row(found).last_failure
    assert failure is not None
    world.apply(Pause(found))
    paused = world.row(found)
    assert (paused.status, paused.last_failure) == ("paused", failure)
    assert (paused.failures_since_command, paused.next_retry_at_ms) == (1, None)
    world.apply(Resume(found))
    assert world.row(found).last_failure is None


def test_pause_by_a_failure_leaves_it_to_the_event(world: StepWorld) -> None:
    """The reference's queries show no failure then [seen]; the Paused event has it."""
    found = put_into(world, "invoked")
    world.fail(found, behavior="pause")
    assert (world.status(found), world.row(found).last_failure) == ("paused", None)


def test_kill_reaches_called_and_sent_descendants(world: StepWorld) -> None:
    """X1, C21, C33: running, delayed and grandchildren."""
    parent = world.invoke()
    call(world, parent, "inv_child")
    call(world, "inv_child", "inv_grandchild")
    body = pb.OneWayCallCommandMessage(invocation_id_notification_idx=3)
    sent = child_of(world, parent, "inv_sent", None)
    world.command(parent, messages.ONE_WAY_CALL_COMMAND, body, child=sent)
    world.apply(Kill(parent))
    killed = Failure(409, "killed")
    assert world.outcomes() == dict.fromkeys(
        (parent, "inv_child", "inv_grandchild", "inv_sent"), killed
    )


@pytest.mark.parametrize("status", ["invoked", "backing-off", "suspended", "paused"])
def test_kill_frees_the_key_in_every_status(world: StepWorld, status: str) -> None:
    """C22, C36, K7."""
    found = put_into(world, status)
    world.apply(Kill(found))
    assert world.outcomes()[found] == Failure(409, "killed")
    assert list(world.store.scan(Lock)) == []
    assert list(world.store.scan(Timer)) == []


def test_pause_of_a_live_attempt_takes_effect_when_it_suspends(world: StepWorld) -> None:
    """X4."""
    found = put_into(world, "invoked")
    world.apply(Pause(found))
    assert world.effects == [StopAttempt(1, 1, "half_close")]
    assert world.status(found) == "invoked"
    body = pb.SleepCommandMessage(wake_up_time=world.now_ms + 9_000, result_completion_id=1)
    world.command(found, messages.SLEEP_COMMAND, body)
    world.suspend(found, "c1")
    assert world.status(found) == "paused"
    world.apply(Resume(found))
    assert world.started() == [(found, 2)]


def test_end_wins_over_a_requested_pause(world: StepWorld) -> None:
    """state-machine.md 3."""
    found = put_into(world, "invoked")
    world.apply(Pause(found))
    world.output(found)
    assert world.status(found) == "completed"


def test_paused_holder_keeps_its_key(world: StepWorld) -> None:
    """state-machine.md 7."""
    put_into(world, "paused")
    assert world.status(world.invoke(object_target())) == "inboxed"


def test_resume_of_a_back_off_attempts_now_and_drops_the_timer(world: StepWorld) -> None:
    """C10."""
    found = put_into(world, "backing-off")
    world.apply(Resume(found))
    assert world.started() == [(found, 2)]
    assert list(world.store.scan(Timer)) == []


def test_resume_of_a_back_off_goes_on_with_its_budget(world: StepWorld) -> None:
    """Seen on the reference: only what was paused or suspended starts afresh."""
    found = put_into(world, "backing-off")
    world.apply(Resume(found))
    assert (world.row(found).policy_attempts, world.row(found).failures_since_command) == (1, 1)


def test_pause_of_a_back_off_names_the_last_failure(world: StepWorld) -> None:
    """Seen on the reference."""
    found = put_into(world, "backing-off")
    world.apply(Pause(found))
    newest = json.loads(list(world.store.scan(JournalEvent))[-1].payload)
    assert (newest["ty"], newest["last_failure"]["error_message"]) == ("Paused", "boom")


def test_equal_pauses_are_two_events(world: StepWorld) -> None:
    """Seen on the reference: only repeated errors are left out (C75)."""
    found = put_into(world, "paused")
    world.apply(Resume(found))
    world.fail(found, behavior="pause")
    assert [row.kind for row in world.store.scan(JournalEvent)] == ["Paused", "Paused"]


def test_resume_may_repin_what_was_pinned(world: StepWorld) -> None:
    """state-machine.md 4.6: `latest` for something unpinned changes nothing."""
    found = put_into(world, "paused")
    world.apply(Resume(found, "dp_2", 2))
    assert world.row(found).deployment_id is None
    running = world.invoke()
    assert world.apply(Resume(running, "dp_2", 2)) == Refused(ErrorCode.RESUME_RUNNING, running)


def test_restart_as_new_takes_the_input_and_names_its_origin(world: StepWorld) -> None:
    """X5, C34."""
    found = put_into(world, "completed")
    before = world.row(found)
    assert world.apply(RestartAsNew(found, "inv_new", 99)) == Done(id="inv_new")
    restarted = world.row("inv_new")
    assert (restarted.restarted_from, restarted.source) == (found, "restart_as_new")
    assert restarted.random_seed == 99
    assert world.journal("inv_new") == ["Command: Input"]
    assert world.row(found) == before


def test_restart_with_a_prefix_keeps_its_completions_and_the_seed(world: StepWorld) -> None:
    """C35; completions of copied commands come along wherever they stand."""
    found = world.invoke()
    world.apply(builders_pin(world, found))
    for completion_id in (1, 2):
        body = pb.RunCommandMessage(result_completion_id=completion_id)
        world.command(found, messages.RUN_COMMAND, body)
    for completion_id in (2, 1):
        world.apply(RunProposed(1, 1, completion_id, b"%d" % completion_id))
    world.output(found)
    world.apply(RestartAsNew(found, "inv_new", 99, from_index=1))
    assert world.journal("inv_new") == ["Command: Input", "Command: Run", "Notification: Run"]
    assert world.row("inv_new").random_seed == world.row(found).random_seed
    [completion] = world.store.scan(Completion, world.row("inv_new").number)
    assert (completion.completion_id, completion.entry_index) == (1, 2)


def test_restarted_race_is_won_by_what_won_it(world: StepWorld) -> None:
    """C35: completions behind the prefix keep their order."""
    found = world.invoke()
    world.apply(builders_pin(world, found))
    for completion_id in (1, 2):
        body = pb.RunCommandMessage(result_completion_id=completion_id)
        world.command(found, messages.RUN_COMMAND, body)
    for completion_id in (2, 1):
        world.apply(RunProposed(1, 1, completion_id, b"%d" % completion_id))
    world.output(found)
    world.apply(RestartAsNew(found, "inv_new", 99, from_index=2))
    rows = world.store.scan(Completion, world.row("inv_new").number)
    assert [(row.completion_id, row.entry_index) for row in rows] == [(1, 4), (2, 3)]


def test_restart_takes_signals_and_output_of_its_prefix_along(world: StepWorld) -> None:
    """state-machine.md 4.7: entries 0..from are copied; P1 what was completed stays completed."""
    found = world.invoke()
    world.apply(builders_pin(world, found))
    world.apply(Signal(found, "s17", b"1"))
    world.output(found, b"7")
    world.apply(RestartAsNew(found, "inv_new", 99, from_index=2))
    assert world.apply(Signal("inv_new", "s17", b"2")) == Ignored(
        "the awakeable was completed before"
    )
    row = world.row("inv_new")
    world.apply(AttemptEnded(row.number, row.attempt))
    assert world.outcomes()["inv_new"] == b"7"


@pytest.mark.parametrize("from_index", [0, 1])
def test_restart_pins_deployment_and_version_together(world: StepWorld, from_index: int) -> None:
    """state-machine.md 4.7: the deployment is chosen, the version is the one of the journal."""
    found = world.invoke()
    world.apply(builders_pin(world, found))
    world.output(found)
    world.apply(RestartAsNew(found, "inv_new", 99, from_index, "dp_2", 2))
    row = world.row("inv_new")
    assert (row.deployment_id, row.service_revision, row.protocol_version) == ("dp_2", 2, 6)


def test_restart_with_a_command_that_never_completed_is_refused(world: StepWorld) -> None:
    """state-machine.md 4.7."""
    found = world.invoke()
    world.apply(builders_pin(world, found))
    world.command(found, messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
    world.output(found)
    for from_index in (1, 99):
        reply = world.apply(RestartAsNew(found, "inv_new", 99, from_index=from_index))
        assert reply == Refused(ErrorCode.RESTART_PREFIX, found)


def test_restart_of_a_workflow_is_refused(world: StepWorld) -> None:
    """state-machine.md 4.7."""
    run = world.invoke(workflow_target())
    world.output(run)
    reply = world.apply(RestartAsNew(run, "inv_new", 99))
    assert reply == Refused(ErrorCode.RESTART_UNSUPPORTED, run)


def builders_pin(world: StepWorld, invocation_id: str) -> Event:
    """Pin to protocol version 6."""
    from restated.core.events import DeploymentPinned

    row = world.row(invocation_id)
    return DeploymentPinned(row.number, row.attempt, "dp_1", 1, 6)
