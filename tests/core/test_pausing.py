"""A journal has a bound: what does not fit pauses its invocation and harms nobody else."""

import json

import pytest

from restated.core.effects import Done, Ignored, Refused, StopAttempt
from restated.core.events import Cancel, Complete, Kill, Resume, RunProposed, Signal
from restated.core.journal import append
from restated.core.view import Step
from restated.model.errors import ErrorCode
from restated.model.records import Entry, JournalEvent
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests import builders
from tests.core.world import StepWorld

LIMIT = 4


@pytest.fixture
def small() -> StepWorld:
    """A world whose journals hold four entries."""
    world = StepWorld()
    world.entries_max = LIMIT
    return world


def run(world: StepWorld, invocation_id: str, completion_id: int) -> object:
    body = pb.RunCommandMessage(result_completion_id=completion_id)
    return world.command(invocation_id, messages.RUN_COMMAND, body)


def paused_because(world: StepWorld, invocation_id: str) -> str:
    """The text of the event Paused."""
    (event,) = world.store.scan(JournalEvent, world.row(invocation_id).number)
    failure = json.loads(event.payload)["last_failure"]
    assert failure["restate_doc_error_code"] == "RT0003"
    return str(failure["error_message"])


def test_command_beyond_the_limit_pauses_the_invocation_and_stops_the_attempt(
    small: StepWorld,
) -> None:
    """M2: nothing of it is stored, the error names the limit, the attempt ends."""
    busy = small.invoke()
    run(small, busy, 1)
    run(small, busy, 2)
    before = small.journal(busy)
    assert run(small, busy, 3) == Ignored("the journal is full")
    assert small.journal(busy) == before
    assert small.status(busy) == "paused"
    assert f"its limit of {LIMIT} entries" in paused_because(small, busy)
    row = small.row(busy)
    assert small.effects == [StopAttempt(row.number, row.attempt, "abort")]
    assert run(small, busy, 4) == Ignored("stale attempt")


def test_neighbour_keeps_its_rows(small: StepWorld) -> None:
    """M2: the packed key of a row beyond the limit would be the neighbour's first."""
    busy, neighbour = small.invoke(), small.invoke()
    for completion_id in range(1, 2 * LIMIT):
        run(small, busy, completion_id)
    assert small.row(neighbour).number == small.row(busy).number + 1
    assert small.journal(neighbour) == ["Command: Input"]
    small.output(neighbour)
    assert small.status(neighbour) == "completed"


def full_and_suspended(world: StepWorld) -> str:
    """Waits for a run that an older attempt began and for signal 17, with a full journal."""
    waiting = world.invoke()
    run(world, waiting, 1)
    run(world, waiting, 2)
    row = world.row(waiting)
    world.apply(RunProposed(row.number, row.attempt, 2, b"x"))
    assert len(world.journal(waiting)) == LIMIT
    world.suspend(waiting, "s17")
    assert world.status(waiting) == "suspended"
    return waiting


def test_signal_that_does_not_fit_pauses_a_suspended_invocation(small: StepWorld) -> None:
    """M2: it could read the signal, but never act upon it."""
    waiting = full_and_suspended(small)
    assert small.apply(Signal(waiting, "s17", b"x")) == Ignored("the journal is full")
    assert small.status(waiting) == "paused"
    assert "limit" in paused_because(small, waiting)
    assert small.effects == []


def test_completion_that_does_not_fit_pauses(small: StepWorld) -> None:
    """M2: no assertion, no overflow: also what others send is bounded."""
    waiting = full_and_suspended(small)
    row = small.row(waiting)
    assert small.apply(Complete(row.number, 1, b"x")) == Ignored("the journal is full")
    assert small.status(waiting) == "paused"


def test_run_result_that_does_not_fit_pauses(small: StepWorld) -> None:
    """M2: the proposal of a live attempt."""
    busy = small.invoke()
    run(small, busy, 1)
    run(small, busy, 2)
    row = small.row(busy)
    small.apply(Signal(busy, "s17", b"x"))
    reply = small.apply(RunProposed(row.number, row.attempt, 1, b"x"))
    assert reply == Ignored("the journal is full")
    assert small.status(busy) == "paused"


def test_cancel_of_a_full_invocation_is_refused_and_kill_works(small: StepWorld) -> None:
    """X3: the requester learns that nothing will come of it, and what to do."""
    waiting = full_and_suspended(small)
    assert small.apply(Cancel(waiting)) == Refused(ErrorCode.JOURNAL_FULL, waiting)
    assert small.apply(Cancel(waiting)) == Refused(ErrorCode.JOURNAL_FULL, waiting)
    assert small.status(waiting) == "paused"
    assert small.apply(Kill(waiting)) == Done()
    assert small.status(waiting) == "completed"


def test_resumed_with_a_full_journal_pauses_again(small: StepWorld) -> None:
    """M2: no attempt can outgrow the bound."""
    waiting = full_and_suspended(small)
    small.apply(Signal(waiting, "s17", b"x"))
    small.apply(Resume(waiting))
    assert small.status(waiting) == "invoked"
    assert run(small, waiting, 9) == Ignored("the journal is full")
    assert small.status(waiting) == "paused"


def test_events_beyond_the_limit_replace_the_newest(small: StepWorld) -> None:
    """M2: operators see the latest; the packed keys stay the invocation's own."""
    failing, neighbour = small.invoke(), small.invoke()
    for count in range(2 * LIMIT):
        small.fail(failing, error=builders.attempt_error(message=f"failure {count}"))
        small.advance(60_000)
    events = list(small.store.scan(JournalEvent, small.row(failing).number))
    assert [event.index for event in events] == list(range(LIMIT))
    assert f"failure {2 * LIMIT - 1}".encode() in events[-1].payload
    assert list(small.store.scan(JournalEvent, small.row(neighbour).number)) == []


def test_appending_without_room_is_a_defect(small: StepWorld) -> None:
    """M2: who forgets to ask for room is stopped before a row is written."""
    waiting = full_and_suspended(small)
    step = Step(small.store, small.now_ms, entries_max=LIMIT)
    with pytest.raises(AssertionError, match="M2"):
        append(step, small.row(waiting), messages.SIGNAL_NOTIFICATION, b"")
    assert list(step.scan(Entry, small.row(waiting).number + 1)) == []
