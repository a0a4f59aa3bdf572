"""A request becomes an invocation: identity, delay, lock and inbox."""

from restated.core.effects import Accepted, ArmTimer, Refused
from restated.core.events import Expired
from restated.model.errors import ErrorCode
from restated.model.records import Entry, Failure, InboxItem, Lock, Target, Timer
from restated.protocol import service_protocol_pb2 as pb
from tests.builders import DAY_MS, invoke, object_target, workflow_target
from tests.core.world import StepWorld


def test_accepted_invocation_starts_with_its_input_as_entry_0(world: StepWorld) -> None:
    """state-machine.md 4.1 step 5."""
    assert world.apply(invoke("inv_a")) == Accepted("inv_a", is_new=True)
    assert world.started() == [("inv_a", 1)]
    entry = world.store.get(Entry, world.row("inv_a").number, 0)
    assert entry is not None
    decoded = pb.InputCommandMessage.FromString(entry.payload)
    assert decoded.value.content == b'"Ada"'
    assert [(header.key, header.value) for header in decoded.headers] == [
        ("content-type", "application/json")
    ]


def test_second_request_with_the_same_id_joins_the_first(world: StepWorld) -> None:
    """I1, A2: a repeated request happens once."""
    world.apply(invoke("inv_a"))
    assert world.apply(invoke("inv_a", wants_result=True)) == Accepted("inv_a", is_new=False)
    assert world.started() == []


def test_request_after_completion_gets_the_stored_outcome(world: StepWorld) -> None:
    """C47, C51: same result, no new run."""
    world.invoke(id="inv_a")
    world.output("inv_a", b"1")
    reply = world.apply(invoke("inv_a", wants_result=True))
    expires_at_ms = world.now_ms + DAY_MS
    assert reply == Accepted("inv_a", is_new=False, outcome=b"1", expires_at_ms=expires_at_ms)


def test_request_after_the_retention_is_a_new_invocation_with_the_same_id(
    world: StepWorld,
) -> None:
    """I4, C73: never early, and exactly on time even before a clean-up ran."""
    world.invoke(id="inv_a")
    world.output("inv_a")
    first = world.row("inv_a").number
    world.now_ms += DAY_MS - 1
    assert world.apply(invoke("inv_a", wants_result=True)).is_new is False  # type: ignore[attr-defined]
    world.now_ms += 1
    assert world.apply(invoke("inv_a", wants_result=True)) == Accepted("inv_a", is_new=True)
    second = world.row("inv_a").number
    assert second != first
    world.apply(Expired(first))
    assert world.status("inv_a") == "invoked"


def test_id_of_another_target_is_refused_and_changes_nothing(world: StepWorld) -> None:
    """C44, C50."""
    world.invoke(id="inv_a")
    before = world.rows()
    reply = world.apply(invoke("inv_a", object_target()))
    assert reply == Refused(ErrorCode.IDENTITY_TAKEN, "inv_a")
    assert world.rows() == before


def test_run_of_a_workflow_is_no_other_handler_of_its_key(world: StepWorld) -> None:
    """C50; but a run whose handler was renamed is the same run."""
    world.invoke(workflow_target(), id="inv_w")
    reply = world.apply(invoke("inv_w", workflow_target(handler="tell")))
    assert reply == Refused(ErrorCode.IDENTITY_TAKEN, "inv_w")
    renamed = Target("Flow", "main", "workflow", "workflow", "w")
    assert world.apply(invoke("inv_w", renamed)) == Accepted("inv_w", is_new=False)


def test_delayed_invocation_starts_when_its_time_has_come(world: StepWorld) -> None:
    """T1: never early."""
    at_ms = world.now_ms + 500
    reply = world.apply(invoke("inv_a", scheduled_for_ms=at_ms))
    assert reply == Accepted("inv_a", is_new=True, scheduled_for_ms=at_ms)
    assert world.effects == [ArmTimer(at_ms)]
    assert world.status("inv_a") == "scheduled"
    world.advance(499)
    assert world.status("inv_a") == "scheduled"
    world.advance(1)
    assert world.status("inv_a") == "invoked"
    assert list(world.store.scan(Timer)) == []


def test_repeated_delayed_send_reports_the_first_time(world: StepWorld) -> None:
    """C46: its own delay is ignored."""
    at_ms = world.now_ms + 500
    world.apply(invoke("inv_a", scheduled_for_ms=at_ms))
    reply = world.apply(invoke("inv_a", scheduled_for_ms=at_ms + 9_000))
    assert reply == Accepted("inv_a", is_new=False, scheduled_for_ms=at_ms)


def test_delay_beyond_what_a_row_can_keep_never_comes(world: StepWorld) -> None:
    """C58: no crash, no early run."""
    world.apply(invoke("inv_a", scheduled_for_ms=2**64))
    world.advance(10 * 365 * DAY_MS)
    assert world.status("inv_a") == "scheduled"


def test_second_exclusive_invocation_waits_in_the_inbox(world: StepWorld) -> None:
    """K1: at most one exclusive invocation holds a key."""
    first, second = world.invoke(object_target("k")), world.invoke(object_target("k"))
    assert world.status(first) == "invoked"
    assert world.status(second) == "inboxed"
    assert world.started() == []


def test_exclusive_invocations_start_in_the_order_of_acceptance(world: StepWorld) -> None:
    """K3."""
    first, second, third = (world.invoke(object_target("k")) for _ in range(3))
    world.output(first)
    assert world.started() == [(second, 1)]
    world.output(second)
    assert world.started() == [(third, 1)]
    world.output(third)
    assert list(world.store.scan(Lock)) == []
    assert list(world.store.scan(InboxItem)) == []


def test_other_keys_and_shared_handlers_do_not_wait(world: StepWorld) -> None:
    """K4."""
    world.invoke(object_target("k"))
    other = world.invoke(object_target("l"))
    shared = world.invoke(object_target("k", "get", shared=True))
    assert world.status(other) == "invoked"
    assert world.status(shared) == "invoked"


def test_delayed_exclusive_invocation_queues_when_it_is_due(world: StepWorld) -> None:
    """state-machine.md 4.1: it queues behind whoever holds the key by then."""
    delayed = world.invoke(object_target("k"), scheduled_for_ms=world.now_ms + 100)
    holder = world.invoke(object_target("k"))
    world.advance(100)
    assert world.status(delayed) == "inboxed"
    world.output(holder)
    assert world.status(delayed) == "invoked"


def test_second_call_of_a_workflow_run_is_refused_a_send_is_not(world: StepWorld) -> None:
    """ingress.md 12."""
    world.invoke(workflow_target(), id="inv_w")
    reply = world.apply(invoke("inv_w", workflow_target(), wants_result=True))
    assert reply == Refused(ErrorCode.WORKFLOW_ALREADY_INVOKED, "inv_w")
    assert world.apply(invoke("inv_w", workflow_target())) == Accepted("inv_w", is_new=False)


def test_completed_failure_is_served_with_its_metadata(world: StepWorld) -> None:
    """C53: from storage as live."""
    from tests.core.test_finish import fail_terminally

    world.invoke(id="inv_a")
    failure = Failure(418, "teapot", (("a", "1"),))
    fail_terminally(world, "inv_a", failure)
    reply = world.apply(invoke("inv_a", wants_result=True))
    assert isinstance(reply, Accepted)
    assert reply.outcome == failure
