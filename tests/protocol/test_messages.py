"""The table of messages: golden bytes, refusals, the generated schema."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from google.protobuf.message import Message as Body
from hypothesis import given
from hypothesis import strategies as st

from restated.model.records import CompletionKind
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.messages import AwaitTooDeepError, DecodeError, decode
from restated.protocol.wire import Frame, FrameDecoder, frame

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests/data/protocol_vectors.json").read_text())
REFUSED = {
    "Suspension.v6": "malformed SuspensionMessage, it awaits nothing",
    "ProposeRunCompletion.v6": "malformed ProposeRunCompletionMessage, missing result field",
}
READABLE = [vector for vector in VECTORS if vector["name"] not in REFUSED]


def only_frame(vector: dict[str, Any]) -> Frame:
    [only] = FrameDecoder().receive(bytes.fromhex(vector["hex"]))
    return only


def fields_of(vector: dict[str, Any]) -> dict[str, Any]:
    """The fields on the wire: one constructed vector also lists an empty key, which is not."""
    fields = vector["decoded"]["fields"].items()
    return {name: value for name, value in fields if (name, value) != ("key", "")}


def plain(value: object) -> object:
    """A protobuf value as the vectors show it."""
    if isinstance(value, Body):
        return {field.name: plain_field(value, field) for field, _ in value.ListFields()}
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return {"hex": value.hex()}
        return text if text.isprintable() else {"hex": value.hex()}
    return value


def plain_field(body: Body, field: Any) -> object:
    value = getattr(body, field.name)
    if field.is_repeated:
        return [plain(each) for each in value]
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return plain(value)


@pytest.mark.parametrize("vector", READABLE, ids=[vector["name"] for vector in READABLE])
def test_golden_bytes_are_read_and_written_back_the_same(vector: dict[str, Any]) -> None:
    """service-protocol.md 7: every encoding is canonical."""
    only = only_frame(vector)
    body = decode(only.type, only.body)
    assert plain(body) == fields_of(vector)
    assert f"0x{only.type:04X}" == vector["decoded"]["code"]
    assert only.requested_ack == vector["decoded"]["requested_ack"]
    assert messages.BY_CODE[only.type].full_name == vector["decoded"]["type"]
    written = frame(only.type, body.SerializeToString(), requested_ack=only.requested_ack)
    assert written.hex() == vector["hex"]


@pytest.mark.parametrize("name", REFUSED)
def test_golden_bytes_that_are_malformed_are_refused(name: str) -> None:
    """service-protocol.md 4.4."""
    [vector] = [vector for vector in VECTORS if vector["name"] == name]
    only = only_frame(vector)
    with pytest.raises(DecodeError) as caught:
        decode(only.type, only.body)
    assert str(caught.value) == REFUSED[name]


def test_every_message_type_has_golden_bytes() -> None:
    """service-protocol.md 3.2: the table and the vectors name the same types."""
    seen = {int(vector["decoded"]["code"], 16) for vector in VECTORS}
    assert seen == set(messages.BY_CODE)


def test_table_is_complete_and_consistent() -> None:
    """service-protocol.md 3.1: ranges of codes; one completion for each kind."""
    rows = messages.MESSAGES
    assert len(messages.BY_CODE) == len(rows) == 40
    assert [row.code for row in rows] == sorted(row.code for row in rows)
    assert all(row.code < 0x0400 for row in rows if row.kind == "core")
    assert all(0x0400 <= row.code < 0x0800 for row in rows if row.kind == "command")
    assert all(0x8000 <= row.code < 0xC000 for row in rows if row.kind == "completion")
    assert set(messages.COMPLETION_CODES) == set(get_args(CompletionKind))
    journaled = {row.code for row in rows if row.is_journaled}
    assert journaled == messages.COMMAND_CODES | messages.NOTIFICATION_CODES


def test_a_completion_is_its_command_with_the_top_bit() -> None:
    """service-protocol.md 3.1; CallInvocationId stands at the one-way call's place."""
    names = {row.code: row.name for row in messages.MESSAGES if row.kind == "command"}
    own = {
        row.name: names[row.code - 0x8000 + 0x0400]
        for row in messages.MESSAGES
        if row.kind == "completion"
    }
    assert own.pop("CallInvocationId") == "OneWayCall"
    assert all(name == command for name, command in own.items())


def test_entry_types_are_those_of_sql() -> None:
    """sql.md: sys_journal.entry_type."""
    by_code = messages.BY_CODE
    assert by_code[messages.CALL_COMMAND].entry_type == "Command: Call"
    assert by_code[messages.INPUT_COMMAND].entry_type == "Command: Input"
    assert (
        by_code[messages.CALL_INVOCATION_ID_COMPLETION].entry_type
        == "Notification: CallInvocationId"
    )
    assert by_code[messages.SIGNAL_NOTIFICATION].entry_type == "Notification: Signal"


@pytest.mark.parametrize(
    "code", [0x8, 0x9, 0x3FF, 0x40F, 0x415, 0x7FF, 0x8000, 0x800F, 0xBFFF, 0xFBFE, 0xFC00, 0xFFFF]
)
def test_an_undefined_code_is_refused(code: int) -> None:
    """service-protocol.md 3.1; state-machine.md 10.7: codes from 0x0400 kill the reference."""
    with pytest.raises(DecodeError, match=f"^unknown protocol.message code {code:#x}$"):
        decode(code, b"")


@pytest.mark.parametrize(
    ("code", "body", "text"),
    [
        (messages.INPUT_COMMAND, pb.InputCommandMessage(), "InputCommandMessage, missing value"),
        (
            messages.OUTPUT_COMMAND,
            pb.OutputCommandMessage(name="n"),
            "OutputCommandMessage, missing result",
        ),
        (
            messages.SET_STATE_COMMAND,
            pb.SetStateCommandMessage(key=b"k"),
            "SetStateCommandMessage, missing value",
        ),
        (
            messages.GET_EAGER_STATE_COMMAND,
            pb.GetEagerStateCommandMessage(key=b"k"),
            "GetEagerStateCommandMessage, missing result",
        ),
        (
            messages.COMPLETE_PROMISE_COMMAND,
            pb.CompletePromiseCommandMessage(key="k"),
            "CompletePromiseCommandMessage, missing completion",
        ),
        (
            messages.ATTACH_INVOCATION_COMMAND,
            pb.AttachInvocationCommandMessage(),
            "AttachInvocationCommandMessage, missing target",
        ),
        (
            messages.GET_INVOCATION_OUTPUT_COMMAND,
            pb.GetInvocationOutputCommandMessage(),
            "GetInvocationOutputCommandMessage, missing target",
        ),
        (
            messages.SEND_SIGNAL_COMMAND,
            pb.SendSignalCommandMessage(void=pb.Void()),
            "SendSignalCommandMessage, missing signal_id",
        ),
        (
            messages.SEND_SIGNAL_COMMAND,
            pb.SendSignalCommandMessage(idx=0),
            "SendSignalCommandMessage, missing result",
        ),
        (
            messages.COMPLETE_AWAKEABLE_COMMAND,
            pb.CompleteAwakeableCommandMessage(awakeable_id="sign_1x"),
            "CompleteAwakeableCommandMessage, missing result",
        ),
        (
            messages.PROPOSE_RUN_COMPLETION,
            pb.ProposeRunCompletionMessage(),
            "ProposeRunCompletionMessage, missing result",
        ),
        (
            messages.SLEEP_COMPLETION,
            pb.NotificationMessage(completion_id=1),
            "SleepCompletionMessage, missing result",
        ),
        (
            messages.SIGNAL_NOTIFICATION,
            pb.NotificationMessage(void=pb.Void()),
            "SignalNotificationMessage, missing id",
        ),
    ],
)
def test_a_message_without_a_required_field_is_refused(code: int, body: Body, text: str) -> None:
    """state-machine.md 10.6."""
    with pytest.raises(DecodeError) as caught:
        decode(code, body.SerializeToString())
    assert str(caught.value) == f"malformed {text} field"


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=pb.Value())),
        (messages.SET_STATE_COMMAND, pb.SetStateCommandMessage(value=pb.Value())),
        (messages.PROPOSE_RUN_COMPLETION, pb.ProposeRunCompletionMessage(value=b"")),
        (messages.SEND_SIGNAL_COMMAND, pb.SendSignalCommandMessage(idx=0, void=pb.Void())),
        (messages.ATTACH_INVOCATION_COMMAND, pb.AttachInvocationCommandMessage(invocation_id="")),
        (messages.SLEEP_COMPLETION, pb.NotificationMessage(completion_id=0, void=pb.Void())),
    ],
)
def test_a_required_field_may_be_empty(code: int, body: Body) -> None:
    """service-protocol.md 3.1: members of a oneof are written even when default."""
    assert decode(code, body.SerializeToString()) == body


@pytest.mark.parametrize(
    "code",
    [
        messages.GET_LAZY_STATE_COMMAND,
        messages.SET_STATE_COMMAND,
        messages.CLEAR_STATE_COMMAND,
        messages.GET_EAGER_STATE_COMMAND,
    ],
)
def test_a_state_key_that_is_not_text_is_refused(code: int) -> None:
    """state-machine.md 10.2: stored, it kills the reference."""
    body = bytes.fromhex("0a02c328 1a00 7200")  # key, SetState's value, GetEagerState's value
    with pytest.raises(DecodeError, match=r"^malformed .*, key is not UTF-8: b'\\xc3\('$"):
        decode(code, body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [("12027f", "Wire format was corrupt"), ("1202c328", "String field had bad UTF-8")],
)
def test_a_body_that_is_not_protobuf_is_refused(body: str, reason: str) -> None:
    """service-protocol.md 4.4: RT0012."""
    with pytest.raises(DecodeError, match=f"^malformed ErrorMessage, {reason}$"):
        decode(messages.ERROR, bytes.fromhex(body))


def test_fields_may_come_in_any_order_and_unknown_ones_are_skipped() -> None:
    """service-protocol.md 3.1: decode leniently; the last of repeated scalars wins."""
    body = bytes.fromhex("6201 61" + "5801" + "f8070a" + "5802")
    assert decode(messages.RUN_COMMAND, body) == pb.RunCommandMessage.FromString(body)
    read = decode(messages.RUN_COMMAND, body)
    assert isinstance(read, pb.RunCommandMessage)
    assert (read.result_completion_id, read.name) == (2, "a")


def test_repeated_numbers_may_come_unpacked() -> None:
    """service-protocol.md 3.3."""
    read = decode(messages.SUSPENSION, bytes.fromhex("0801 0802 1011"))
    assert isinstance(read, pb.SuspensionMessage)
    assert list(read.waiting_completions) == [1, 2]
    assert list(read.waiting_signals) == [17]


@given(st.sampled_from([*messages.BY_CODE, 0x9, 0x40F]), st.binary(max_size=80))
def test_foreign_bytes_raise_only_the_decode_error(code: int, body: bytes) -> None:
    """N1: bytes from the network never raise anything but the decoder's own error."""
    try:
        decode(code, body)
    except DecodeError as error:
        assert str(error)  # noqa: PT017 - any text, but a text


# -- what an attempt waits for


def nested(levels: int, leaf: pb.Future, *, sibling: int | None = None) -> bytes:
    """`leaf` inside `levels` - 1 futures, each with one completion of its own if asked for."""
    encoded = leaf.SerializeToString()
    own = b"" if sibling is None else pb.Future(waiting_completions=[sibling]).SerializeToString()
    for _ in range(levels - 1):
        encoded = own + bytes([0x22]) + varint(len(encoded)) + encoded
    return encoded


def varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def in_suspension(future: bytes) -> bytes:
    return bytes([0x22]) + varint(len(future)) + future


def in_awaiting_on(future: bytes) -> bytes:
    return bytes([0x0A]) + varint(len(future)) + future


LEAF = pb.Future(
    waiting_completions=[7],
    waiting_signals=[17],
    waiting_named_signals=["n"],
    combinator_type=pb.ALL_SUCCEEDED_OR_FIRST_FAILED,
)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (messages.SUSPENSION, b""),
        (messages.SUSPENSION, in_suspension(b"")),
        (
            messages.SUSPENSION,
            in_suspension(nested(3, pb.Future(combinator_type=pb.ALL_COMPLETED))),
        ),
        (
            messages.SUSPENSION,
            in_suspension(nested(2, pb.Future(combinator_type=pb.ALL_COMPLETED), sibling=3)),
        ),
        (messages.AWAITING_ON, b""),
        (messages.AWAITING_ON, bytes.fromhex("1001")),
        (messages.AWAITING_ON, in_awaiting_on(nested(150, pb.Future()))),
    ],
)
def test_to_wait_for_nothing_is_refused(code: int, body: bytes) -> None:
    """service-protocol.md 4.4."""
    with pytest.raises(DecodeError, match=r"Message, it awaits nothing$"):
        decode(code, body)


@pytest.mark.parametrize("levels", [1, 2, 99, 100, 101, 1_000])
def test_futures_may_nest_a_thousand_deep(levels: int) -> None:
    """service-protocol.md 4.4: protobuf alone stops at 100; races in a loop go deeper."""
    future = nested(levels, LEAF, sibling=3)
    suspension = decode(messages.SUSPENSION, in_suspension(future))
    awaiting = decode(messages.AWAITING_ON, in_awaiting_on(future) + bytes.fromhex("1001"))
    assert isinstance(suspension, pb.SuspensionMessage)
    assert isinstance(awaiting, pb.AwaitingOnMessage)
    assert awaiting.executing_side_effects
    for found in (suspension.awaiting_on, awaiting.awaiting_on):
        level = found
        for _ in range(levels - 1):
            assert list(level.waiting_completions) == [3]
            [level] = level.nested_futures
        assert level == LEAF


def test_deep_futures_keep_the_order_of_branches() -> None:
    """service-protocol.md 4.6: a combinator's children stand in order."""
    branches = [nested(120, pb.Future(waiting_completions=[branch])) for branch in (1, 2, 3)]
    tree = b"".join(bytes([0x22]) + varint(len(each)) + each for each in branches)
    read = decode(messages.AWAITING_ON, in_awaiting_on(tree))
    assert isinstance(read, pb.AwaitingOnMessage)
    assert [deepest(branch) for branch in read.awaiting_on.nested_futures] == [1, 2, 3]


def deepest(future: pb.Future) -> int:
    while future.nested_futures:
        [future] = future.nested_futures
    return future.waiting_completions[0]


def test_a_deep_suspension_keeps_its_flat_lists() -> None:
    """service-protocol.md 3.3."""
    body = bytes.fromhex("0801 1011 1a0161") + in_suspension(nested(120, LEAF))
    read = decode(messages.SUSPENSION, body)
    assert isinstance(read, pb.SuspensionMessage)
    assert list(read.waiting_completions) == [1]
    assert list(read.waiting_signals) == [17]
    assert list(read.waiting_named_signals) == ["a"]


@pytest.mark.parametrize(
    ("code", "wrap"),
    [(messages.SUSPENSION, in_suspension), (messages.AWAITING_ON, in_awaiting_on)],
)
def test_deeper_futures_are_refused(code: int, wrap: Any) -> None:
    """service-protocol.md 4.4: RT0025."""
    with pytest.raises(AwaitTooDeepError, match="deeper than 1000 levels"):
        decode(code, wrap(nested(1_001, LEAF)))


def test_a_deep_future_in_a_large_message_is_refused() -> None:
    """N1: every level is copied once, so depth is bounded in bytes as well."""
    leaf = pb.Future(waiting_named_signals=["x" * (1 << 20)])
    with pytest.raises(DecodeError, match=r"^malformed AwaitingOnMessage, "):
        decode(messages.AWAITING_ON, in_awaiting_on(nested(150, leaf)))


def test_broken_bytes_deep_inside_are_refused() -> None:
    """service-protocol.md 4.4: RT0012."""
    broken = bytes.fromhex("22037f")
    with pytest.raises(
        DecodeError, match=r"^malformed SuspensionMessage, Wire format was corrupt$"
    ):
        decode(messages.SUSPENSION, in_suspension(broken))
    with pytest.raises(
        DecodeError, match=r"^malformed AwaitingOnMessage, Wire format was corrupt$"
    ):
        decode(messages.AWAITING_ON, in_awaiting_on(broken))


# -- the generated module


def test_checked_in_module_is_what_the_schema_gives(tmp_path: Path) -> None:
    """Design 2: service_protocol_pb2 is generated, checked in, never edited."""
    protoc = pytest.importorskip("grpc_tools.protoc", reason="needs the extra `dev`")
    schema = "restated/protocol/service_protocol.proto"
    arguments = ["protoc", f"-I{ROOT}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    assert protoc.main([*arguments, str(ROOT / schema)]) == 0
    for name in ("service_protocol_pb2.py", "service_protocol_pb2.pyi"):
        checked_in = ROOT / "restated/protocol" / name
        assert (tmp_path / "restated/protocol" / name).read_text() == checked_in.read_text()
