"""Retries, pauses, suspensions: stored, and exactly by the policy."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.core.attempts import ERROR_CHARS_MAX, retry_delay_ms
from restated.core.effects import ArmTimer
from restated.core.events import (
    AttemptSuspended,
    AttemptYielded,
    Cancel,
    DeploymentPinned,
    Pause,
    Resume,
)
from restated.model.records import AttemptError, Await, Failure, JournalEvent, RetryPolicy, Timer
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.builders import attempt_error
from tests.core.world import StepWorld

QUICK = RetryPolicy(interval_ms=100, factor=2.0, interval_ms_max=400, attempts_max=3)


@pytest.mark.parametrize(
    ("attempt", "jitter", "delay_ms"),
    [(1, 0, 103), (2, 0, 203), (3, 0, 403), (9, 0, 403), (1, 1000, 130), (3, 500, 460)],
)
def test_retry_delay_is_exponential_capped_and_jittered(
    attempt: int, jitter: int, delay_ms: int
) -> None:
    """service-protocol.md 4.5: d + max(3 ms, 0.3 d jitter / 1000)."""
    assert retry_delay_ms(QUICK, attempt, jitter) == delay_ms


@pytest.mark.parametrize(
    ("interval", "factor", "cap", "delays"),
    [
        (3000, 1.0, 500, [3000, 500, 500]),  # who asks for an hour waits an hour
        (3000, 0.5, 700, [3000, 700, 350, 175]),
        (1000, 0.5, 10_000, [1000, 500, 250]),
        (300, 0.0, 2500, [300, 0, 0]),
        (300, -1.0, 2500, [300, 2500, 2500]),
    ],
)
def test_retry_delays_of_policies_that_do_not_grow(
    interval: int, factor: float, cap: int, delays: list[int]
) -> None:
    """The first delay is not capped, each other is made of the one before."""
    policy = RetryPolicy(interval_ms=interval, factor=factor, interval_ms_max=cap)
    found = [retry_delay_ms(policy, attempt, 0) for attempt in range(1, len(delays) + 1)]
    assert found == [delay + 3 for delay in delays]


@given(
    st.integers(0, 2**40), st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**40),
    st.integers(1, 2**40), st.integers(0, 1000),
)  # fmt: skip
def test_retry_delay_never_overflows_and_never_exceeds_its_cap(
    interval: int, factor: float, cap: int, attempt: int, jitter: int
) -> None:
    """C59: no policy crashes the arithmetic."""
    policy = RetryPolicy(interval_ms=interval, factor=factor, interval_ms_max=cap)
    bound = interval if attempt == 1 else cap
    assert 0 <= retry_delay_ms(policy, attempt, jitter) <= bound * 1.3 + 4


def test_a_failure_is_kept_with_texts_of_bounded_length(world: StepWorld) -> None:
    """M2: an SDK may send 32 MiB of it; the row is rewritten at each change, the event kept."""
    first = world.invoke()
    longest = "x" * ERROR_CHARS_MAX
    error = attempt_error(message=longest + "yz", stacktrace=longest, command_name=longest + "y")
    world.fail(first, error=error)
    kept = msgspec.msgpack.decode(world.row(first).last_failure or b"", type=AttemptError)
    assert kept.message == longest + "… (2 more characters)"
    assert kept.stacktrace == longest
    assert kept.command_name == longest + "… (1 more characters)"
    [event] = world.store.scan(JournalEvent)
    assert json.loads(event.payload)["error_message"] == kept.message


def test_failed_attempt_is_retried_at_its_stored_deadline(world: StepWorld) -> None:
    """B9, C64."""
    first = world.invoke()
    world.fail(first, policy=QUICK)
    assert world.effects == [ArmTimer(world.now_ms + 103)]
    assert world.row(first).next_retry_at_ms == world.now_ms + 103
    world.advance(102)
    assert world.row(first).attempt == 1
    world.advance(1)
    assert world.row(first).attempt == 2
    assert world.row(first).next_retry_at_ms is None
    assert world.row(first).failures_since_command == 1


def test_exhausted_policy_pauses(world: StepWorld) -> None:
    """service-protocol.md 4.5: attempts_max counts the first attempt."""
    first = world.invoke()
    for _ in range(3):
        world.fail(first, policy=QUICK)
        world.advance(1_000)
    assert world.status(first) == "paused"
    assert world.row(first).attempt == 3
    assert list(world.store.scan(Timer)) == []
    newest = list(world.store.scan(JournalEvent))[-1]
    assert newest.kind == "Paused"
    assert json.loads(newest.payload)["last_failure"]["error_message"] == "boom"


def test_exhausted_policy_kills_with_the_last_error(world: StepWorld) -> None:
    """service-protocol.md 4.5."""
    first = world.invoke()
    policy = RetryPolicy(attempts_max=1, at_most="kill")
    world.fail(first, policy=policy, error=attempt_error("no luck", stacktrace="at x"))
    assert world.outcomes()[first] == Failure(500, "no luck")
    assert world.effects[0].stacktrace == "at x"  # type: ignore[attr-defined]


def test_delay_that_the_sdk_asks_for_spends_no_budget(world: StepWorld) -> None:
    """service-protocol.md 4.5, C68."""
    first = world.invoke()
    for _ in range(5):
        world.fail(first, policy=QUICK, retry_after_ms=7)
        world.advance(7)
    assert world.row(first).attempt == 6
    assert world.row(first).policy_attempts == 0
    assert world.row(first).failures_since_command == 5


def test_failure_before_the_deployment_was_reached_is_not_counted_for_the_sdk(
    world: StepWorld,
) -> None:
    """service-protocol.md 4.1: RT0011 and RT0013 do not bump the count; the budget is spent."""
    first = world.invoke()
    world.fail(first, policy=QUICK, counts=False)
    assert world.row(first).failures_since_command == 0
    assert world.row(first).policy_attempts == 1


def test_stored_commands_do_not_renew_the_budget_but_a_suspension_does(world: StepWorld) -> None:
    """state-machine.md 4.2."""
    first = world.invoke()
    world.fail(first, policy=QUICK)
    world.advance(1_000)
    body = pb.SleepCommandMessage(wake_up_time=world.now_ms + 9_000, result_completion_id=1)
    world.command(first, messages.SLEEP_COMMAND, body)
    assert world.row(first).policy_attempts == 1
    world.suspend(first, "c1")
    assert world.row(first).policy_attempts == 0


@pytest.mark.parametrize(("behavior", "status"), [("pause", "paused"), ("fail", "completed")])
def test_behavior_that_the_sdk_asks_for(world: StepWorld, behavior: str, status: str) -> None:
    """service-protocol.md 4.5."""
    first = world.invoke()
    world.fail(first, behavior=behavior)
    assert world.status(first) == status


def test_code_0_of_the_sdk_is_kept_when_it_asks_to_fail(world: StepWorld) -> None:
    """service-protocol.md 4.5: an Error without a code is no 500 [seen]."""
    first = world.invoke()
    world.fail(first, behavior="fail", error=AttemptError(0, "boom", "RT0007"))
    assert world.outcomes()[first] == Failure(0, "boom")


@pytest.mark.parametrize("name", ["", "pay"])
@pytest.mark.parametrize("message", ["boom", "m" * (ERROR_CHARS_MAX + 1)])
def test_failure_is_shown_with_the_name_that_the_sdk_gave(
    world: StepWorld, name: str, message: str
) -> None:
    """service-protocol.md 4.5: an empty name is shown, an absent one is not [seen]."""
    first = world.invoke()
    world.fail(first, error=AttemptError(500, message, "RT0007", command_name=name))
    (event,) = world.store.scan(JournalEvent)
    assert json.loads(event.payload)["related_command_name"] == name


def test_equal_failures_are_one_journal_event(world: StepWorld) -> None:
    """C75; de-duplicated against the previous one only."""
    first = world.invoke()
    for message in ("a", "a", "b", "a"):
        world.fail(first, error=attempt_error(message))
        world.advance(600_000)
    kinds = [json.loads(row.payload)["error_message"] for row in world.store.scan(JournalEvent)]
    assert kinds == ["a", "b", "a"]


def test_suspension_on_its_own_open_run_is_retried(world: StepWorld) -> None:
    """C05: parked for ever otherwise; SDKs list the cancel signal in every await."""
    first = world.invoke()
    world.command(first, messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
    world.suspend(first, "s1", "c1")
    assert world.status(first) == "invoked"
    world.advance(600_000)
    assert world.row(first).attempt == 2


def test_pausing_attempt_that_asks_to_fail_pauses(world: StepWorld) -> None:
    """state-machine.md 3: a requested pause comes true however the attempt fails [seen]."""
    first = world.invoke()
    world.apply(Pause(first))
    world.fail(first, behavior="fail")
    assert world.status(first) == "paused"
    [event] = world.store.scan(JournalEvent)
    assert json.loads(event.payload)["last_failure"]["error_message"] == "boom"


def test_refused_suspension_of_a_pausing_attempt_pauses(world: StepWorld) -> None:
    """state-machine.md 3: a requested pause comes true when the attempt fails."""
    first = world.invoke()
    world.apply(Pause(first))
    world.suspend(first, "c9")
    assert world.status(first) == "paused"
    assert world.row(first).pause_requested == 0


def test_cancel_unread_resumes_even_if_only_an_own_run_is_awaited(world: StepWorld) -> None:
    """state-machine.md 3: what can be resolved already is attempted at once."""
    first = world.invoke()
    world.command(first, messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
    world.apply(Cancel(first))
    world.suspend(first, "s1", "c1", known=2)
    assert world.started() == [(first, 2)]


def test_suspension_of_version_7_is_kept_as_an_event_each_time(world: StepWorld) -> None:
    """service-protocol.md 4.6, seen on the reference; earlier versions leave none."""
    first = world.invoke()
    world.apply(DeploymentPinned(1, 1, "dp_1", 1, 7))
    for _ in range(2):
        world.suspend(first, "s1", "n:x")
        world.apply(Resume(first))
    shown = '{"FirstCompleted":[{"Single":{"SignalIndex":1}},{"Single":{"SignalName":"x"}}]}'
    payloads = [row.payload.decode() for row in world.store.scan(JournalEvent)]
    assert payloads == [f'{{"ty":"Suspended","awaiting_on":{shown}}}'] * 2


def test_suspension_of_the_greatest_depth_is_kept_as_an_event(world: StepWorld) -> None:
    """RT0025 begins above 1,000 levels; recursion would end before. Nothing need be pinned."""
    world.invoke()
    tree = Await(on=("n:x",))
    for _ in range(1_000):
        tree = Await("all_completed", (), (tree,))
    world.apply(AttemptSuspended(1, 1, tree, 1, protocol_version=7))
    [event] = world.store.scan(JournalEvent)
    assert event.payload.count(b"AllCompleted") == 1_000


def test_suspension_on_a_completion_that_no_command_has_is_a_violation(world: StepWorld) -> None:
    """service-protocol.md, supplement to 4.6."""
    first = world.invoke()
    world.suspend(first, "c9")
    assert world.status(first) == "invoked"
    newest = list(world.store.scan(JournalEvent))[-1]
    assert json.loads(newest.payload)["restate_doc_error_code"] == "RT0012"


def test_pin_stays_with_the_invocation(world: StepWorld) -> None:
    """service-protocol.md 4.7; a stale attempt pins nothing."""
    first = world.invoke()
    world.apply(DeploymentPinned(1, 1, "dp_1", 3, 6))
    world.apply(DeploymentPinned(1, 9, "dp_2", 4, 5))
    row = world.row(first)
    assert (row.deployment_id, row.service_revision, row.protocol_version) == ("dp_1", 3, 6)


def test_yielded_attempt_begins_again(world: StepWorld) -> None:
    """A place given back is a failure of nobody."""
    first = world.invoke()
    world.apply(AttemptYielded(1, 1, "no memory"))
    assert world.started() == [(first, 2)]
    assert world.row(first).failures_since_command == 0


def test_a_failed_attempt_leaves_when_it_began(world: StepWorld) -> None:
    """sql.md, sys_invocation: `last_start_at` is set while backing off."""
    invocation_id = world.invoke()
    world.fail(invocation_id, started_at_ms=world.now_ms - 5)
    assert world.row(invocation_id).last_start_at_ms == world.now_ms - 5
