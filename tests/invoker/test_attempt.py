"""One attempt against a recorded writer and a scripted peer: no event loop, no core."""

from typing import Any

import pytest

from restated.core.effects import Ignored, Put, Refused
from restated.core.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptSuspended,
    AttemptYielded,
    CommandReceived,
    DeploymentPinned,
    RunProposed,
)
from restated.invoker.answer import duration_text
from restated.invoker.attempt import DRAIN_MS, EVENTS_UNSETTLED_MAX, FOREVER, Attempt
from restated.invoker.choice import choose
from restated.invoker.transport import TransportError
from restated.model.errors import ErrorCode
from restated.model.records import Await, Completion, Entry
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.invoker.attempt_world import AttemptWorld, sleep
from tests.invoker.messages_of import END, NOW_MS, OUTPUT, invocation, message
from tests.invoker.world import seed
from tests.sim.sdk import FakeSdk, Peer

# -- events


def test_the_deployment_is_pinned_right_before_the_first_entry() -> None:
    """service-protocol.md 4.7."""
    world = AttemptWorld()
    world.answer(sleep(1) + sleep(2))
    assert world.writer.posted[0] == DeploymentPinned(1, 1, "dp_1", 1, 6)
    assert world.writer.kinds == ["DeploymentPinned", "CommandReceived", "CommandReceived"]


def test_a_pinned_invocation_is_not_pinned_again() -> None:
    """service-protocol.md 4.7."""
    world = AttemptWorld(invocation(deployment_id="dp_1", protocol_version=7))
    world.peer.write(OUTPUT)
    world.deliver()
    assert world.peer.version == 7
    assert world.writer.kinds == ["CommandReceived"]


def test_a_failure_before_any_entry_pins_nothing() -> None:
    """service-protocol.md 4.7: the retry may use a newer deployment."""
    world = AttemptWorld()
    world.answer(message(messages.ERROR, pb.ErrorMessage(code=500, message="no")))
    assert world.writer.kinds == ["AttemptFailed"]


def test_a_command_is_posted_with_all_it_needs() -> None:
    """Design 3.5."""
    world = AttemptWorld()
    world.answer(sleep(3, ack=True))
    event = world.writer.posted[1]
    assert isinstance(event, CommandReceived)
    assert (event.number, event.attempt, event.type) == (1, 1, messages.SLEEP_COMMAND)
    assert event.payload == sleep(3)[8:]
    assert (event.ack, event.child, event.peer) == (True, None, None)


def test_a_suspension_says_what_was_replayed() -> None:
    """Design 3.4: the floor below which signals were consumed."""
    world = AttemptWorld(invocation(journal_length=4, command_count=2))
    world.answer(message(messages.SUSPENSION, pb.SuspensionMessage(waiting_completions=[1])))
    (event,) = world.writer.posted
    assert isinstance(event, AttemptSuspended)
    assert (event.awaiting_on, event.known_entries) == (Await("unknown", ("c1",)), 4)
    assert event.protocol_version == 6
    assert event.policy.attempts_max == 5


def test_an_error_is_posted_with_policy_and_jitter() -> None:
    """B9: the core decides; it draws nothing."""
    world = AttemptWorld()
    body = pb.ErrorMessage(code=500, message="no", next_retry_delay=70, behavior=pb.PAUSE)
    world.answer(message(messages.ERROR, body))
    failure = world.failure()
    assert failure.policy.attempts_max == 5
    assert 0 <= failure.jitter <= 1_000
    assert (failure.behavior, failure.retry_after_ms, failure.counts) == ("pause", 70, True)


def test_a_run_of_an_older_attempt_needs_its_open_completion() -> None:
    """state-machine.md 10.4: a proposal for an unknown run is refused."""
    proposal = message(
        messages.PROPOSE_RUN_COMPLETION,
        pb.ProposeRunCompletionMessage(result_completion_id=1, value=b"r"),
    )
    known = AttemptWorld(invocation(journal_length=2, command_count=2))
    seed(known.store, Completion(1, 1, 1, "run"))
    known.answer(proposal)
    assert known.writer.posted[-1] == RunProposed(1, 1, 1, b"r")
    for row in (None, Completion(1, 1, 1, "sleep"), Completion(1, 1, 1, "run", 2)):
        unknown = AttemptWorld(invocation(journal_length=2, command_count=2))
        if row is not None:
            seed(unknown.store, row)
        unknown.answer(proposal)
        assert unknown.writer.kinds == ["AttemptFailed"]
        assert unknown.failure().error.restate_code == "RT0012"


# -- back-pressure


def test_events_wait_for_their_commits() -> None:
    """Design 3.15: at most 64 unsettled events; the window stays closed meanwhile."""
    world = AttemptWorld(invocation(deployment_id="dp_1", protocol_version=6))
    data = b"".join(sleep(index) for index in range(1, 201))
    world.answer(data)
    assert len(world.writer.posted) == 64
    assert world.peer.consumed_bytes == 0
    world.writer.settle(10)
    assert len(world.writer.posted) == 74
    world.writer.settle()
    world.writer.settle()
    world.writer.settle()
    assert len(world.writer.posted) == 200
    assert world.peer.consumed_bytes == len(data)


def test_payload_waits_for_its_commit() -> None:
    """Design 3.15: at most 1 MiB unsettled, and the message that went beyond it."""
    world = AttemptWorld(invocation(deployment_id="dp_1", protocol_version=6))
    value = pb.Value(content=bytes(600_000))
    large = message(messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=value))
    world.answer(large * 5)
    assert len(world.writer.posted) == 2
    world.writer.settle(1)
    assert len(world.writer.posted) == 3


def test_a_message_larger_than_any_window_arrives() -> None:
    """An incomplete message must not hold back the window that it needs."""
    world = AttemptWorld()
    value = pb.Value(content=bytes(300_000))
    large = message(messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=value))
    world.answer(large[:100_000])
    assert world.peer.consumed_bytes == 100_000
    world.answer(large[100_000:] + END)
    assert world.writer.kinds[-1] == "AttemptEnded"


def test_the_end_of_the_stream_waits_behind_what_was_received() -> None:
    """C13: the failure is posted behind everything that the attempt sent."""
    world = AttemptWorld(invocation(deployment_id="dp_1", protocol_version=6))
    world.peer.write(b"".join(sleep(index) for index in range(1, 101)))
    world.peer.fail()
    world.deliver()
    assert world.writer.kinds == ["CommandReceived"] * 64
    while len(world.writer.posted) < 101:
        world.writer.settle(1)
    assert world.writer.kinds == ["CommandReceived"] * 100 + ["AttemptFailed"]
    assert world.closed == [world.attempt]


# -- the end


def test_after_the_terminal_message_the_peer_may_finish() -> None:
    """service-protocol.md 4.1: half-close, read on until the end."""
    world = AttemptWorld()
    world.answer(OUTPUT + END)
    assert world.peer.is_ended
    assert world.closed == []
    world.peer.finish()
    world.deliver()
    assert world.closed == [world.attempt]
    assert not world.peer.is_aborted


def test_a_peer_that_does_not_finish_is_reset() -> None:
    """service-protocol.md 4.1: after 5 s; what it still says changes nothing."""
    world = AttemptWorld()
    world.answer(OUTPUT + END)
    world.answer(sleep(1))
    world.pass_ms(DRAIN_MS - 1)
    assert world.closed == []
    world.pass_ms(1)
    assert world.peer.is_aborted
    assert world.closed == [world.attempt]
    assert world.writer.kinds == ["DeploymentPinned", "CommandReceived", "AttemptEnded"]


def test_a_violation_is_posted_at_once() -> None:
    """service-protocol.md, supplement 4.4: half-close, drain, then reset."""
    world = AttemptWorld()
    world.answer(sleep(1) + END + sleep(2))
    assert world.writer.kinds == ["DeploymentPinned", "CommandReceived", "AttemptFailed"]
    assert world.peer.is_ended
    world.pass_ms(DRAIN_MS)
    assert world.peer.is_aborted
    assert world.writer.kinds[-1] == "AttemptFailed"


def test_a_stale_attempt_stops() -> None:
    """B3, C11: the core no longer knows it."""
    world = AttemptWorld()
    world.answer(sleep(1))
    world.writer.settle(reply=Ignored("stale attempt"))
    assert world.peer.is_aborted
    assert world.closed == [world.attempt]


def test_other_ignored_events_change_nothing() -> None:
    """A repeated proposal is no reason to stop."""
    world = AttemptWorld()
    world.answer(sleep(1))
    world.writer.settle(reply=Ignored("no such open run"))
    assert world.closed == []


def test_a_refused_command_fails_the_attempt() -> None:
    """The SDK would wait for ever for what was not stored."""
    world = AttemptWorld()
    world.answer(sleep(1))
    world.writer.settle(reply=Refused(ErrorCode.IDENTITY_TAKEN, "inv_1"))
    assert world.failure().error.restate_code == "RT0006"


def test_a_dropped_command_fails_the_attempt() -> None:
    """C15: a defect in the core is not silence."""
    world = AttemptWorld()
    world.answer(sleep(1))
    world.writer.drop()
    assert world.failure().error.restate_code == "RT0006"


def test_a_dropped_end_becomes_a_failure() -> None:
    """C15: otherwise the invocation would be running for ever."""
    world = AttemptWorld(invocation(deployment_id="dp_1", protocol_version=6))
    world.answer(OUTPUT + END)
    world.writer.settle(1)
    world.writer.drop()
    assert [type(event) for event in world.writer.posted] == [
        CommandReceived, AttemptEnded, AttemptFailed,
    ]  # fmt: skip


def test_a_defect_in_reading_fails_the_attempt_not_the_connection() -> None:
    """C15: callbacks of a transport never raise."""
    world = AttemptWorld(invocation(journal_length=2, command_count=2))

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    world.store.snapshot = broken  # type: ignore[method-assign]  # a defect
    proposal = pb.ProposeRunCompletionMessage(result_completion_id=1, value=b"r")
    world.answer(message(messages.PROPOSE_RUN_COMPLETION, proposal))
    assert world.failure().error.restate_code == "RT0006"


def test_a_short_journal_starts_the_attempt_anew() -> None:
    """C14: it is nobody's failure."""
    world = AttemptWorld()
    world.attempt.abandon()
    assert [type(event) for event in world.writer.posted] == [AttemptYielded]


def test_an_aborted_attempt_is_silent() -> None:
    """A kill: nothing that was under way counts any more."""
    world = AttemptWorld()
    world.peer.write(OUTPUT + END)
    world.attempt.stop("abort")
    world.deliver()
    assert world.writer.posted == []
    assert world.peer.is_aborted
    assert world.closed == [world.attempt]


def test_a_transport_that_fails_inside_open_is_handled() -> None:
    """`Transport.open` never raises; failures may come before it returns."""
    world = AttemptWorld()

    class Refusing(FakeSdk):
        def open(self, request: Any, body: Any, receiver: Any) -> Peer:
            peer = super().open(request, body, receiver)
            receiver.on_failed(TransportError("no route"))
            return peer

    row = invocation(number=2)
    attempt = Attempt(world.around, row, choose(world.around.catalog.current, row, "auto"))
    attempt.open(Refusing(), iter(()))
    assert world.failure().error.message == "no route"
    assert world.closed == [attempt]


# -- to the service


def test_pushes_and_acks_are_sent_while_the_request_is_open() -> None:
    """service-protocol.md 4.1, 4.2."""
    world = AttemptWorld()
    payload = pb.NotificationMessage(completion_id=1, void=pb.Void()).SerializeToString()
    world.attempt.acknowledge(1)
    world.attempt.push(0, messages.SLEEP_COMPLETION, payload)  # was replayed
    world.attempt.push(1, messages.SLEEP_COMPLETION, payload)
    world.deliver()
    types = [received.type for received in world.peer.received]
    assert types == [messages.START, messages.COMMAND_ACK, messages.SLEEP_COMPLETION]


def test_nothing_is_sent_behind_the_half_close() -> None:
    """A suspension is on its way; the next attempt replays it."""
    world = AttemptWorld()
    world.attempt.stop("half_close")
    payload = pb.NotificationMessage(completion_id=1, void=pb.Void()).SerializeToString()
    world.attempt.push(1, messages.SLEEP_COMPLETION, payload)
    world.deliver()
    assert [received.type for received in world.peer.received] == [messages.START]


def stored_run(world: AttemptWorld, index: int) -> bytes:
    """The body of a run's large completion that is the entry `index`."""
    message = pb.NotificationMessage(completion_id=1, value=pb.Value(content=bytes(1 << 20)))
    payload = message.SerializeToString()
    world.store.apply([Put(Entry(1, index, messages.RUN_COMPLETION, payload, NOW_MS))])
    return payload


def test_a_large_notification_is_read_when_its_turn_comes() -> None:
    """M3, M4: what is not sent yet is not in memory; what follows it stays behind it."""
    world = AttemptWorld()
    payload = stored_run(world, 1)
    world.attempt.push(0, messages.RUN_COMPLETION, None)  # was replayed
    world.attempt.push(1, messages.RUN_COMPLETION, None)
    world.attempt.acknowledge(1)
    assert world.around.pool.held_bytes == 0
    world.deliver()
    received = [(one.type, one.body) for one in world.peer.received[1:]]
    assert received[0] == (messages.RUN_COMPLETION, payload)
    assert [type_code for type_code, _ in received] == [
        messages.RUN_COMPLETION, messages.COMMAND_ACK,
    ]  # fmt: skip
    assert world.around.pool.held_bytes == 0


def test_a_large_notification_whose_journal_is_gone_is_not_sent() -> None:
    """Killed and purged by an event of the same batch: the attempt is about to be aborted."""
    world = AttemptWorld()
    world.attempt.push(1, messages.RUN_COMPLETION, None)
    world.deliver()
    assert [received.type for received in world.peer.received] == [messages.START]


def test_a_large_result_that_asked_for_it_gets_the_ack_only() -> None:
    """service-protocol.md 3.6."""
    world = AttemptWorld(invocation(protocol_version=7, deployment_id="dp_1"))
    stored_run(world, 2)
    run = message(messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
    proposal = pb.ProposeRunCompletionMessage(result_completion_id=1, value=b"r")
    world.answer(run + message(messages.PROPOSE_RUN_COMPLETION, proposal, ack=True))
    world.attempt.push(2, messages.RUN_COMPLETION, None)
    world.deliver()
    types = [received.type for received in world.peer.received]
    assert types == [messages.START, messages.PROPOSE_RUN_COMPLETION_ACK]


# -- timeouts


def test_inactivity_half_closes_and_activity_postpones_it() -> None:
    """service-protocol.md 4.6: every message in either direction counts."""
    world = AttemptWorld(handler="nap")
    world.pass_ms(60)
    world.answer(sleep(1))
    world.writer.settle()
    world.pass_ms(60)
    payload = pb.NotificationMessage(completion_id=1, void=pb.Void()).SerializeToString()
    world.attempt.push(2, messages.SLEEP_COMPLETION, payload)
    open_after_ms = [(world.pass_ms(each), not world.peer.is_ended)[1] for each in (99, 1)]
    assert open_after_ms == [True, False]
    assert world.writer.kinds == ["DeploymentPinned", "CommandReceived"]


def test_abort_follows_inactivity_and_is_posted_after_the_drain() -> None:
    """service-protocol.md 4.6: total = inactivity + abort + 5 s, then RST_STREAM."""
    world = AttemptWorld(handler="impatient")
    world.pass_ms(100)
    assert world.peer.is_ended
    world.pass_ms(200)
    assert world.writer.posted == []
    world.answer(sleep(1))
    world.pass_ms(DRAIN_MS)
    error = world.failure().error
    assert error.restate_code == "RT0001"
    assert error.message == (
        "the invocation stream was closed after the 'abort timeout' (200ms) fired."
    )
    assert world.writer.kinds == ["AttemptFailed"]
    assert world.peer.is_aborted


def test_an_attempt_that_makes_room_is_aborted_no_earlier() -> None:
    """Asked to suspend before its time, it has what was left of it, too."""
    world = AttemptWorld(handler="impatient")
    world.pass_ms(40)
    world.attempt.make_room()
    assert world.peer.is_ended
    phases = [world.pass_ms(each) for each in (259, 1)]
    assert phases == ["live", "aborting"]


def test_who_is_heard_or_was_asked_cannot_make_room() -> None:
    """`silent_since_ms`: the moment of the last word, while it can be asked at all."""
    world = AttemptWorld(handler="nap")
    began_ms = world.attempt.silent_since_ms
    world.pass_ms(50)
    world.answer(sleep(1))
    assert world.attempt.silent_since_ms == FOREVER  # we make it wait
    world.writer.settle()
    assert world.attempt.silent_since_ms == began_ms + 50
    world.attempt.make_room()
    assert world.attempt.silent_since_ms == FOREVER


def test_an_aborting_attempt_that_ends_is_posted_at_once() -> None:
    """No need to wait for the rest of the drain."""
    world = AttemptWorld(handler="impatient")
    world.pass_ms(100)
    world.pass_ms(200)
    world.peer.finish()
    world.deliver()
    assert world.failure().error.restate_code == "RT0001"


def test_received_messages_postpone_the_abort() -> None:
    """service-protocol.md 4.6."""
    world = AttemptWorld(handler="impatient")
    world.pass_ms(100)
    world.pass_ms(150)
    world.answer(sleep(1))
    world.writer.settle()
    phases = [world.pass_ms(milliseconds) for milliseconds in (199, 1)]
    assert phases == ["live", "aborting"]


def test_a_slow_commit_is_not_the_silence_of_the_service() -> None:
    """B10: what was received counts, whatever its timeouts; they begin when the store is done."""
    world = AttemptWorld(handler="impatient")
    count = EVENTS_UNSETTLED_MAX
    for number in range(1, count + 1):
        run = message(messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=number))
        proposal = pb.ProposeRunCompletionMessage(result_completion_id=number, value=b"r")
        world.answer(run + message(messages.PROPOSE_RUN_COMPLETION, proposal))
    for _ in range(20):
        assert world.pass_ms(100) == "live"
    assert not world.peer.is_ended
    while world.writer.kinds.count("RunProposed") < count:
        world.writer.settle(1)
        world.pass_ms(60)
    world.writer.settle()
    open_after_ms = [(world.pass_ms(each), not world.peer.is_ended)[1] for each in (99, 1)]
    assert open_after_ms == [True, False]
    assert "AttemptFailed" not in world.writer.kinds


def test_no_inactivity_means_request_then_response() -> None:
    """service-protocol.md 2.2: half-closed right behind the journal."""
    world = AttemptWorld(handler="never_streams")
    assert not world.peer.request.streams
    world.answer(sleep(1))
    world.attempt.push(2, messages.SLEEP_COMPLETION, b"")
    world.deliver()
    assert [received.type for received in world.peer.received] == [messages.START]


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (600_000, "10m"),
        (200, "200ms"),
        (5_400_000, "1h 30m"),
        (0, "0s"),
        (90_061_001, "1d 1h 1m 1s 1ms"),
    ],
)
def test_durations_are_readable(milliseconds: int, text: str) -> None:
    """They stand in the text of RT0001."""
    assert duration_text(milliseconds) == text
