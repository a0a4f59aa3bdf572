"""What the session refuses (B10): every malformed message ends in its RT code, never in a crash."""

from collections.abc import Iterator

import pytest
from google.protobuf.message import Message as Body
from hypothesis import given
from hypothesis import strategies as st

from restated.invoker.checks import ProtocolViolationError
from restated.invoker.session import CommandSent, Session
from restated.model.records import AttemptError
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import frame
from tests.invoker.messages_of import END, OUTPUT, events_of, invocation, keyed, message, refusal_of

VALUE = pb.Value(content=b"1")


def violations() -> Iterator[tuple[str, bytes, str]]:
    """(name, bytes, RT code); service-protocol.md 3.1, 4.4; state-machine.md 10."""
    yield "end first", END, "RT0012"
    sleep = message(messages.SLEEP_COMMAND, pb.SleepCommandMessage(result_completion_id=1))
    yield "end without output", sleep + END, "RT0012"
    yield "input", message(messages.INPUT_COMMAND, pb.InputCommandMessage(value=VALUE)), "RT0012"
    yield "start", message(messages.START, pb.StartMessage()), "RT0012"
    yield "command ack", message(messages.COMMAND_ACK, pb.CommandAckMessage()), "RT0012"
    yield (
        "run ack",
        message(messages.PROPOSE_RUN_COMPLETION_ACK, pb.ProposeRunCompletionAckMessage()),
        "RT0012",
    )
    for row in messages.MESSAGES:
        if row.kind in {"completion", "signal"}:
            body = pb.NotificationMessage(completion_id=1, void=pb.Void())
            yield f"notification {row.name}", message(row.code, body), "RT0012"
    for code in (0x0008, 0x0009, 0x03FF, 0x040F, 0x0415, 0x07FF, 0x8415, 0xFC00, 0xFFFF):
        yield f"unknown code {code:#x}", frame(code, b""), "RT0012"
    for code in (0x0401, 0x0402, 0x040C, 0x0002, 0x0001, 0x0005):
        yield f"not protobuf {code:#x}", frame(code, b"\xff\xff"), "RT0012"
    for code in (
        messages.OUTPUT_COMMAND, messages.SEND_SIGNAL_COMMAND, messages.COMPLETE_AWAKEABLE_COMMAND,
        messages.ATTACH_INVOCATION_COMMAND, messages.GET_INVOCATION_OUTPUT_COMMAND,
        messages.PROPOSE_RUN_COMPLETION, messages.SUSPENSION, messages.AWAITING_ON,
    ):  # fmt: skip
        yield f"empty {messages.BY_CODE[code].full_name}", frame(code, b""), "RT0012"
    tree = pb.SuspensionMessage(awaiting_on=pb.Future(waiting_signals=[1]))
    yield "suspension in the form of version 7", message(messages.SUSPENSION, tree), "RT0012"
    twice = message(messages.SLEEP_COMMAND, pb.SleepCommandMessage(result_completion_id=4))
    yield "completion id used twice", twice + twice, "RT0012"
    run = message(messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=1))
    proposal = message(
        messages.PROPOSE_RUN_COMPLETION,
        pb.ProposeRunCompletionMessage(result_completion_id=1, value=b""),
    )
    yield "two proposals", run + proposal + proposal, "RT0012"
    yield "proposal for a sleep", sleep + proposal, "RT0012"
    yield "too large", b"\x04\x01\x00\x00" + (33_816_576).to_bytes(4, "big"), "RT0003"
    for code in (
        messages.GET_LAZY_STATE_COMMAND, messages.SET_STATE_COMMAND, messages.CLEAR_STATE_COMMAND,
        messages.CLEAR_ALL_STATE_COMMAND, messages.GET_LAZY_STATE_KEYS_COMMAND,
        messages.GET_EAGER_STATE_COMMAND, messages.GET_EAGER_STATE_KEYS_COMMAND,
        messages.GET_PROMISE_COMMAND, messages.PEEK_PROMISE_COMMAND,
        messages.COMPLETE_PROMISE_COMMAND,
    ):  # fmt: skip
        yield messages.BY_CODE[code].full_name, frame(code, whole_body(code)), "RT0017"


def whole_body(code: int) -> bytes:
    """A body that decodes."""
    match code:
        case messages.SET_STATE_COMMAND:
            return pb.SetStateCommandMessage(key=b"k", value=VALUE).SerializeToString()
        case messages.GET_EAGER_STATE_COMMAND:
            return pb.GetEagerStateCommandMessage(key=b"k", void=pb.Void()).SerializeToString()
        case messages.COMPLETE_PROMISE_COMMAND:
            body = pb.CompletePromiseCommandMessage(key="p", completion_value=VALUE)
            return body.SerializeToString()
        case _:
            return b""


def test_a_suspension_in_the_form_of_version_6_awaits_nothing_in_version_7() -> None:
    """B7: nothing would ever resume it."""
    flat = pb.SuspensionMessage(waiting_signals=[1], awaiting_on=pb.Future())
    data = message(messages.SUSPENSION, flat)
    assert refusal_of(Session(invocation(), 7), data).restate_code == "RT0012"


@pytest.mark.parametrize(
    ("data", "restate_code"),
    [pytest.param(data, code, id=name) for name, data, code in violations()],
)
def test_a_violation_fails_the_attempt(data: bytes, restate_code: str) -> None:
    """B10; a plain service, so state and promises are refused too."""
    assert refusal_of(Session(invocation(), 6), data).restate_code == restate_code


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (messages.GET_LAZY_STATE_COMMAND, pb.GetLazyStateCommandMessage(key=b"\xff")),
        (messages.SET_STATE_COMMAND, pb.SetStateCommandMessage(key=b"\xff", value=VALUE)),
        (messages.SET_STATE_COMMAND, pb.SetStateCommandMessage(key=b"k")),
        (messages.CLEAR_STATE_COMMAND, pb.ClearStateCommandMessage(key=b"\xff")),
        (messages.GET_EAGER_STATE_COMMAND, pb.GetEagerStateCommandMessage(key=b"k")),
        (messages.COMPLETE_PROMISE_COMMAND, pb.CompletePromiseCommandMessage(key="p")),
    ],
)
def test_malformed_state_and_promises_are_refused(code: int, body: Body) -> None:
    """state-machine.md 10.2, 10.6: these kill a partition of the reference."""
    session = Session(keyed("workflow", "workflow"), 6)
    assert refusal_of(session, message(code, body)).restate_code == "RT0012"


def test_the_text_of_a_failed_precondition() -> None:
    """service-protocol.md 4.4: the full message form, with the command it is about."""
    body = pb.SetStateCommandMessage(key=b"k", value=VALUE)
    error = refusal_of(Session(invocation(), 6), message(messages.SET_STATE_COMMAND, body))
    assert error == AttemptError(
        500,
        "cannot process command Command: SetState (command index 1) because of a failed "
        "precondition: unsupported entry type, this service type doesn't have state access",
        "RT0017",
        command_index=1,
        command_type=messages.SET_STATE_COMMAND,
    )


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (messages.SET_STATE_COMMAND, pb.SetStateCommandMessage(key=b"k", value=VALUE)),
        (messages.CLEAR_STATE_COMMAND, pb.ClearStateCommandMessage(key=b"k")),
        (messages.CLEAR_ALL_STATE_COMMAND, pb.ClearAllStateCommandMessage()),
    ],
)
def test_shared_handlers_cannot_write_state(code: int, body: Body) -> None:
    """service-protocol.md 4.4."""
    error = refusal_of(Session(keyed(handler_type="shared"), 6), message(code, body))
    assert error.restate_code == "RT0017"
    assert error.message.endswith("this handler type cannot write state")


def test_shared_handlers_read_state_and_objects_have_no_promises() -> None:
    """service-protocol.md 4.4."""
    session = Session(keyed(handler_type="shared"), 6)
    read = pb.GetLazyStateCommandMessage(key=b"k", result_completion_id=1)
    assert len(events_of(session, message(messages.GET_LAZY_STATE_COMMAND, read))) == 1
    promise = pb.GetPromiseCommandMessage(key="p", result_completion_id=2)
    error = refusal_of(session, message(messages.GET_PROMISE_COMMAND, promise))
    assert error.message.endswith("only Workflow services support it")


def test_what_stands_before_a_violation_counts() -> None:
    """service-protocol.md 4.4: commands before it in the stream stay stored."""
    session = Session(invocation(), 6)
    session.receive(OUTPUT + b"\x04\x01\x00\x00\xff\xff\xff\xff")
    assert isinstance(session.next_event(), CommandSent)
    with pytest.raises(ProtocolViolationError, match=r"hit message size limit: 4294967295 >= "):
        session.next_event()


@given(st.binary(max_size=400), st.sampled_from([5, 6, 7]))
def test_arbitrary_bytes_never_crash(data: bytes, version: int) -> None:
    """Anything a peer sends is an event, a violation, or not complete yet."""
    session = Session(keyed("workflow", "workflow"), version)
    session.receive(data)
    try:
        while session.next_event() is not None:
            pass
    except ProtocolViolationError as violation:
        assert violation.restate_code.startswith("RT00")  # noqa: PT017 - or no violation at all
