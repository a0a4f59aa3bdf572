"""The session: bytes of recorded attempts, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.invoker.checks import AWAIT_LEAVES_MAX, ProtocolViolationError
from restated.invoker.session import (
    CommandSent,
    Ended,
    Failed,
    RunResult,
    Session,
    SessionEvent,
    Suspended,
)
from restated.model.records import AttemptError, Await, Entry, Failure
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import frame
from tests.invoker.messages_of import (
    END,
    NOW_MS,
    OUTPUT,
    events_of,
    invocation,
    keyed,
    message,
    refusal_of,
)

TRANSCRIPTS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "protocol_transcripts.json").read_text()
)
RECORDED: list[tuple[int, list[dict[str, Any]]]] = [
    (scenario["protocol_version"], attempt["messages"])
    for scenario in TRANSCRIPTS
    for attempt in scenario["attempts"]
]
NAMES = [
    f"{scenario['name']}-{index}"
    for scenario in TRANSCRIPTS
    for index in range(len(scenario["attempts"]))
]
each_attempt = pytest.mark.parametrize(("version", "recorded"), RECORDED, ids=NAMES)
# -- recorded attempts


class Recorded:
    """One attempt of a transcript, as rows and bytes."""

    def __init__(self, version: int, recorded: list[dict[str, Any]]) -> None:
        self.version = version
        sent = [each for each in recorded if each["dir"] == "server->service" and "type" in each]
        self.raw = [bytes.fromhex(each["hex"]) for each in sent]
        self.start = pb.StartMessage.FromString(self.raw[0][8:])
        known = self.start.known_entries
        self.replay = self.raw[: 1 + known]
        self.live = [(int(each["code"], 16), raw[8:]) for each, raw in
                     zip(sent[1 + known :], self.raw[1 + known :], strict=True)]  # fmt: skip
        self.answer = b"".join(
            bytes.fromhex(each["hex"])
            for each in recorded
            if each["dir"] == "service->server" and "type" in each
        )

    @property
    def entries(self) -> list[Entry]:
        return [
            Entry(1, index, int.from_bytes(raw[:2], "big"), raw[8:], NOW_MS)
            for index, raw in enumerate(self.replay[1:])
        ]

    def session(self) -> Session:
        start = self.start
        commands = [each for each in self.entries if each.type in messages.COMMAND_CODES]
        is_keyed = bool(start.key)
        seed = start.random_seed
        return Session(
            invocation(
                id=start.debug_id,
                object_key=start.key if is_keyed else None,
                service_type="workflow" if is_keyed else "service",
                handler_type="workflow" if is_keyed else "shared",
                random_seed=seed - (1 << 64) if seed >> 63 else seed,
                journal_length=start.known_entries,
                command_count=len(commands),
                failures_since_command=start.retry_count_since_last_stored_entry,
                last_entry_at_ms=NOW_MS - start.duration_since_last_stored_entry,
                output_index=next(
                    (e.index for e in commands if e.type == messages.OUTPUT_COMMAND), None
                ),
            ),
            self.version,
        )

    @property
    def state(self) -> list[tuple[str, bytes]] | None:
        if self.start.partial_state:
            return None
        return [(entry.key.decode(), entry.value) for entry in self.start.state_map]


@each_attempt
def test_the_replay_equals_the_recorded_bytes(version: int, recorded: list[dict[str, Any]]) -> None:
    """B5; service-protocol.md 4.1: Start, then every entry byte for byte as stored."""
    attempt = Recorded(version, recorded)
    session = attempt.session()
    sent = b"".join(session.begin(attempt.state, NOW_MS, attempt.entries))
    assert sent == b"".join(attempt.replay)


@each_attempt
def test_the_live_messages_equal_the_recorded_bytes(
    version: int, recorded: list[dict[str, Any]]
) -> None:
    """service-protocol.md 3.6, 4.2: notifications, acks, and the v7 ack instead of a completion."""
    attempt = Recorded(version, recorded)
    session = attempt.session()
    events_of(session, attempt.answer)
    for position, (type_code, payload) in enumerate(attempt.live):
        if type_code == messages.COMMAND_ACK:
            ack = pb.CommandAckMessage.FromString(payload)
            assert session.acknowledge(ack.command_index) == frame(type_code, payload)
        elif type_code == messages.PROPOSE_RUN_COMPLETION_ACK:
            run = pb.ProposeRunCompletionAckMessage.FromString(payload)
            stored = pb.NotificationMessage(
                completion_id=run.completion_id, value=pb.Value(content=b"x")
            ).SerializeToString()
            index = session.known_entries + position
            sent = session.notify(index, messages.RUN_COMPLETION, stored)
            assert sent == frame(type_code, payload)
        else:
            index = session.known_entries + position
            assert session.notify(index, type_code, payload) == frame(type_code, payload)


KINDS: dict[int, type[SessionEvent]] = {
    **dict.fromkeys(messages.COMMAND_CODES, CommandSent),
    messages.PROPOSE_RUN_COMPLETION: RunResult,
    messages.END: Ended,
    messages.ERROR: Failed,
    messages.SUSPENSION: Suspended,
}


@each_attempt
def test_recorded_answers_are_understood(version: int, recorded: list[dict[str, Any]]) -> None:
    """Every message that a real SDK sent becomes its event, in order."""
    attempt = Recorded(version, recorded)
    session = attempt.session()
    got = events_of(session, attempt.answer)
    codes = [
        int(each["code"], 16)
        for each in recorded
        if each["dir"] == "service->server" and "type" in each
    ]
    expected = [KINDS[code] for code in codes if code in KINDS]
    assert [type(event) for event in got] == expected


@given(st.data())
def test_the_cut_of_the_stream_means_nothing(data: st.DataObject) -> None:
    """service-protocol.md 3.1: borders of DATA frames are not borders of messages."""
    attempt = Recorded(*data.draw(st.sampled_from(RECORDED)))
    whole = events_of(attempt.session(), attempt.answer)
    session = attempt.session()
    pieces: list[SessionEvent] = []
    rest = attempt.answer
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces += events_of(session, rest[:size])
        rest = rest[size:]
    assert pieces == whole


# -- the server's side


def test_start_carries_the_whole_state_of_an_object() -> None:
    """service-protocol.md 4.1: partial_state false means that the map is complete."""
    session = Session(keyed(), 6)
    entry = Entry(1, 0, messages.INPUT_COMMAND, b"", NOW_MS)
    sent = b"".join(session.begin([("a", b"1"), ("ä", b"2")], NOW_MS, [entry]))
    body = pb.StartMessage.FromString(sent[8 : 8 + int.from_bytes(sent[4:8], "big")])
    assert [(each.key.decode(), each.value) for each in body.state_map] == [
        ("a", b"1"), ("ä", b"2"),
    ]  # fmt: skip
    assert (body.partial_state, body.key) == (False, "k")


def test_duration_is_never_negative() -> None:
    """C66: the wall clock may have stepped back since the last entry."""
    session = Session(invocation(last_entry_at_ms=NOW_MS + 5_000), 6)
    sent = b"".join(session.begin(None, NOW_MS, []))
    assert pb.StartMessage.FromString(sent[8:]).duration_since_last_stored_entry == 0


def test_large_entries_are_sent_uncopied_and_small_ones_together() -> None:
    """A journal of any length streams in bounded pieces."""
    large = bytes(200_000)
    entries = [Entry(1, index, messages.SLEEP_COMMAND, b"x" * 1_000, 0) for index in range(200)]
    entries.insert(100, Entry(1, 100, messages.RUN_COMPLETION, large, 0))
    pieces = list(Session(invocation(), 6).begin(None, NOW_MS, entries))
    assert any(piece is large for piece in pieces)
    assert len(pieces) < 10
    joined = b"".join(pieces)
    assert joined[-201 * 8 - 200_000 - len(large) :] == b"".join(
        frame(entry.type, entry.payload) for entry in entries
    )


def test_a_push_that_was_replayed_is_dropped() -> None:
    """Design 3.9: the snapshot of the replay contains it already."""
    session = Session(invocation(journal_length=3), 6)
    payload = pb.NotificationMessage(completion_id=1, void=pb.Void()).SerializeToString()
    assert session.notify(2, messages.SLEEP_COMPLETION, payload) == b""
    assert session.notify(3, messages.SLEEP_COMPLETION, payload) == frame(
        messages.SLEEP_COMPLETION, payload
    )


@pytest.mark.parametrize(
    ("version", "ack", "expected"),
    [
        (5, True, messages.RUN_COMPLETION),
        (6, True, messages.RUN_COMPLETION),
        (7, False, messages.RUN_COMPLETION),
        (7, True, messages.PROPOSE_RUN_COMPLETION_ACK),
    ],
)
def test_a_run_is_acknowledged_as_its_version_asks(version: int, ack: bool, expected: int) -> None:
    """service-protocol.md 3.6: from v7 on, and only when the proposal carries the flag."""
    session = Session(invocation(), version)
    run = message(messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
    proposal = pb.ProposeRunCompletionMessage(result_completion_id=1, value=b"r")
    events_of(session, run + message(messages.PROPOSE_RUN_COMPLETION, proposal, ack=ack))
    stored = pb.NotificationMessage(completion_id=1, value=pb.Value(content=b"r"))
    sent = session.notify(2, messages.RUN_COMPLETION, stored.SerializeToString())
    assert int.from_bytes(sent[:2], "big") == expected


# -- what the SDK says


def test_commands_are_counted_from_the_replayed_ones() -> None:
    """service-protocol.md 4.2: the index counts commands only; Input is 0."""
    session = Session(invocation(journal_length=5, command_count=3), 6)
    sleep = message(
        messages.SLEEP_COMMAND, pb.SleepCommandMessage(wake_up_time=1, result_completion_id=9),
        ack=True,
    )  # fmt: skip
    first, second = events_of(session, sleep + OUTPUT)
    assert isinstance(first, CommandSent)
    assert isinstance(second, CommandSent)
    assert (first.index, first.ack, second.index, second.ack) == (3, True, 4, False)


def test_a_command_keeps_its_bytes() -> None:
    """B5: what is stored, and replayed, is what was received."""
    odd = b"\x62\x01n" + pb.SleepCommandMessage(wake_up_time=5).SerializeToString()
    session = Session(invocation(), 6)
    (event,) = events_of(session, frame(messages.SLEEP_COMMAND, odd))
    assert isinstance(event, CommandSent)
    assert event.payload == odd


def test_nothing_after_the_terminal_message_counts() -> None:
    """service-protocol.md 4.1: further messages after the terminal one are ignored."""
    session = Session(invocation(), 6)
    got = events_of(session, OUTPUT + END + OUTPUT + frame(0x0009, b"") + END)
    assert [type(event) for event in got] == [CommandSent, Ended]
    assert events_of(session, OUTPUT) == []


def test_an_output_of_an_older_attempt_is_enough_for_end() -> None:
    """service-protocol.md 4.3: an OutputCommand in the journal or in the stream."""
    session = Session(invocation(output_index=1, journal_length=2, command_count=2), 6)
    assert events_of(session, END) == [Ended()]


def test_the_flat_lists_resume_at_any_of_them() -> None:
    """service-protocol.md 4.6: v5 and v6 do not say what the handler makes of them."""
    body = pb.SuspensionMessage(
        waiting_completions=[7, 8], waiting_signals=[1], waiting_named_signals=["go"]
    )
    got = events_of(Session(invocation(), 6), message(messages.SUSPENSION, body))
    assert got == [Suspended(Await("unknown", ("c7", "c8", "s1", "n:go")))]


def test_the_tree_of_version_7_is_kept() -> None:
    """service-protocol.md 4.6: every combinator; a number without a name is unknown."""
    body = pb.SuspensionMessage(
        awaiting_on=pb.Future(
            waiting_signals=[1],
            combinator_type=pb.FIRST_COMPLETED,
            nested_futures=[
                pb.Future(waiting_completions=[1], combinator_type=pb.ALL_COMPLETED),
                pb.Future(
                    waiting_completions=[2], combinator_type=pb.FIRST_SUCCEEDED_OR_ALL_FAILED
                ),
                pb.Future(
                    waiting_completions=[3], combinator_type=pb.ALL_SUCCEEDED_OR_FIRST_FAILED,
                    nested_futures=[pb.Future(waiting_named_signals=["x"])],
                ),
            ],
        )
    )  # fmt: skip
    (event,) = events_of(Session(invocation(), 7), message(messages.SUSPENSION, body))
    assert event == Suspended(
        Await(
            "first_completed",
            ("s1",),
            (
                Await("all_completed", ("c1",)),
                Await("first_succeeded", ("c2",)),
                Await("all_succeeded", ("c3",), (Await("unknown", ("n:x",)),)),
            ),
        )
    )


def nested(depth: int) -> bytes:
    """A Suspension whose tree is `depth` levels deep, one leaf at the bottom."""
    body = pb.Future(waiting_completions=[1], combinator_type=pb.ALL_COMPLETED).SerializeToString()
    for _ in range(depth - 1):
        body = pb.FutureLevel(
            nested_futures=[body], combinator_type=pb.ALL_COMPLETED
        ).SerializeToString()
    return frame(messages.SUSPENSION, pb.SuspensionLevel(awaiting_on=body).SerializeToString())


def test_a_tree_of_a_thousand_levels_is_accepted() -> None:
    """RT0025 begins above 1,000."""
    (event,) = events_of(Session(invocation(), 7), nested(1_000))
    assert isinstance(event, Suspended)


def test_a_deeper_tree_pauses() -> None:
    """service-protocol.md 4.4: RT0025 and pause, as every retry would say the same."""
    session = Session(invocation(), 7)
    session.receive(nested(1_001))
    with pytest.raises(ProtocolViolationError) as caught:
        session.next_event()
    assert (caught.value.restate_code, caught.value.behavior) == ("RT0025", "pause")


@pytest.mark.parametrize("version", [6, 7])
def test_the_leaves_of_an_await_are_bounded(version: int) -> None:
    """Design 3.4: at most 100,000."""
    leaves = range(AWAIT_LEAVES_MAX + 1)
    body = (
        pb.SuspensionMessage(waiting_completions=leaves)
        if version == 6
        else pb.SuspensionMessage(awaiting_on=pb.Future(waiting_completions=leaves))
    )
    error = refusal_of(Session(invocation(), version), message(messages.SUSPENSION, body))
    assert error.restate_code == "RT0012"


@pytest.mark.parametrize(
    ("code", "kept", "restate_code"),
    [
        (500, 500, "RT0007"),
        (409, 409, "RT0007"),
        (570, 570, "RT0016"),
        (571, 571, "RT0012"),
        (599, 599, "RT0007"),
        (65_536, 500, "RT0007"),
        (0, 0, "RT0007"),
    ],
)
def test_error_codes_of_the_sdk(code: int, kept: int, restate_code: str) -> None:
    """service-protocol.md 4.4, last paragraph."""
    body = pb.ErrorMessage(code=code, message="boom", stacktrace="at x")
    (event,) = events_of(Session(invocation(), 6), message(messages.ERROR, body))
    assert event == Failed(AttemptError(kept, "boom", restate_code, "at x"), "retry", None)


@pytest.mark.parametrize(
    ("behavior", "expected"), [(0, "retry"), (1, "pause"), (2, "fail"), (9, "retry")]
)
def test_an_error_says_what_to_do(behavior: int, expected: str) -> None:
    """service-protocol.md 3.6 and its supplement: honoured on v5 and v6; unknown is RETRY."""
    raw = pb.ErrorMessage(
        code=500, message="m", related_command_index=0, related_command_name="step",
        related_command_type=0x0411, next_retry_delay=250,
    ).SerializeToString() + bytes([0x48, behavior])  # fmt: skip
    (event,) = events_of(Session(invocation(), 6), frame(messages.ERROR, raw))
    error = AttemptError(
        500, "m", "RT0007", command_index=0, command_name="step", command_type=0x0411
    )
    assert event == Failed(error, expected, 250)  # type: ignore[arg-type]  # the table's words


@pytest.mark.parametrize("code", [0, messages.RUN_COMPLETION, 0x9999, 2**32 - 1])
def test_an_error_related_to_what_is_no_command_is_kept_without_it(code: int) -> None:
    """service-protocol.md 3.3, B10: an SDK may name any number; the failure itself counts."""
    body = pb.ErrorMessage(code=500, message="m", related_command_type=code)
    (event,) = events_of(Session(invocation(), 6), message(messages.ERROR, body))
    assert event == Failed(AttemptError(500, "m", "RT0007"), "retry", None)


def test_an_error_names_a_related_command_that_has_an_empty_name() -> None:
    """service-protocol.md 3.6: an empty name is not an absent one."""
    body = pb.ErrorMessage(code=500, message="m", related_command_name="")
    (event,) = events_of(Session(invocation(), 6), message(messages.ERROR, body))
    assert event == Failed(AttemptError(500, "m", "RT0007", command_name=""), "retry", None)


def test_a_proposal_may_fail() -> None:
    """service-protocol.md 4.5: the SDK gives up on a run."""
    session = Session(invocation(), 6)
    run = message(messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
    failure = pb.Failure(code=400, message="no", metadata=[pb.FailureMetadata(key="a", value="b")])
    proposal = pb.ProposeRunCompletionMessage(result_completion_id=1, failure=failure)
    _, event = events_of(session, run + message(messages.PROPOSE_RUN_COMPLETION, proposal))
    assert event == RunResult(1, Failure(400, "no", (("a", "b"),)), is_declared=True)


def test_a_proposal_for_a_run_of_an_older_attempt_is_marked() -> None:
    """Only the store knows whether there is such a run."""
    proposal = pb.ProposeRunCompletionMessage(result_completion_id=3, value=b"")
    (event,) = events_of(
        Session(invocation(), 6), message(messages.PROPOSE_RUN_COMPLETION, proposal)
    )
    assert event == RunResult(3, b"", is_declared=False)


def test_awaiting_on_changes_nothing() -> None:
    """service-protocol.md 5: the server uses it only to learn what is awaited."""
    body = pb.AwaitingOnMessage(awaiting_on=pb.Future(waiting_completions=[1]))
    assert events_of(Session(invocation(), 6), message(messages.AWAITING_ON, body)) == []
