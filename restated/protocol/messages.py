"""The table of service protocol messages: one row per type code.

Lives here: `MESSAGES`, a named constant for each type code, `decode` with every check that one
message allows by itself: known code, well-formed body, no required field missing, text is text.
Does not: frames (wire.py), order of messages in an attempt (invoker/session.py), meaning (core/).

A completion's code is its command's with the top bit set: 0x8000 | (command - 0x0400).
Source: service-protocol.md 3.1 to 3.4; checks: state-machine.md 10.
"""

from typing import Final, Literal

from google.protobuf.message import DecodeError as UnparsableError
from google.protobuf.message import Message as Body

from restated.model.records import CompletionKind, Record
from restated.protocol import service_protocol_pb2 as pb

START: Final = 0x0000
SUSPENSION: Final = 0x0001
ERROR: Final = 0x0002
END: Final = 0x0003
COMMAND_ACK: Final = 0x0004
PROPOSE_RUN_COMPLETION: Final = 0x0005
AWAITING_ON: Final = 0x0006
PROPOSE_RUN_COMPLETION_ACK: Final = 0x0007

INPUT_COMMAND: Final = 0x0400
OUTPUT_COMMAND: Final = 0x0401
GET_LAZY_STATE_COMMAND: Final = 0x0402
SET_STATE_COMMAND: Final = 0x0403
CLEAR_STATE_COMMAND: Final = 0x0404
CLEAR_ALL_STATE_COMMAND: Final = 0x0405
GET_LAZY_STATE_KEYS_COMMAND: Final = 0x0406
GET_EAGER_STATE_COMMAND: Final = 0x0407
GET_EAGER_STATE_KEYS_COMMAND: Final = 0x0408
GET_PROMISE_COMMAND: Final = 0x0409
PEEK_PROMISE_COMMAND: Final = 0x040A
COMPLETE_PROMISE_COMMAND: Final = 0x040B
SLEEP_COMMAND: Final = 0x040C
CALL_COMMAND: Final = 0x040D
ONE_WAY_CALL_COMMAND: Final = 0x040E
SEND_SIGNAL_COMMAND: Final = 0x0410
RUN_COMMAND: Final = 0x0411
ATTACH_INVOCATION_COMMAND: Final = 0x0412
GET_INVOCATION_OUTPUT_COMMAND: Final = 0x0413
COMPLETE_AWAKEABLE_COMMAND: Final = 0x0414

GET_LAZY_STATE_COMPLETION: Final = 0x8002
GET_LAZY_STATE_KEYS_COMPLETION: Final = 0x8006
GET_PROMISE_COMPLETION: Final = 0x8009
PEEK_PROMISE_COMPLETION: Final = 0x800A
COMPLETE_PROMISE_COMPLETION: Final = 0x800B
SLEEP_COMPLETION: Final = 0x800C
CALL_COMPLETION: Final = 0x800D
CALL_INVOCATION_ID_COMPLETION: Final = 0x800E
RUN_COMPLETION: Final = 0x8011
ATTACH_INVOCATION_COMPLETION: Final = 0x8012
GET_INVOCATION_OUTPUT_COMPLETION: Final = 0x8013

SIGNAL_NOTIFICATION: Final = 0xFBFF

Kind = Literal["core", "command", "completion", "signal"]
Sender = Literal["service", "server"]

SIGNAL_CANCEL: Final = 1
SIGNAL_FIRST_AWAKEABLE: Final = 17  # 1 to 16 are reserved


class DecodeError(ValueError):
    """The peer sent a message that cannot be read; the attempt fails with RT0012."""


class AwaitTooDeepError(DecodeError):
    """What the attempt waits for is nested too deep; it fails with RT0025 and is paused."""

    def __init__(self) -> None:
        super().__init__(f"the awaited future is nested deeper than {AWAIT_DEPTH_MAX} levels")


class Message(Record):
    """One message type.

    `sender` is who sends it live; the server also replays every command and notification of the
    journal. `since` is the lowest protocol version in which SDKs know it. `completion` is set for
    completions: the kind under which the core keeps it.
    """

    code: int
    name: str
    body: type[Body]
    kind: Kind
    sender: Sender
    since: int = 5
    completion: CompletionKind | None = None

    @property
    def is_journaled(self) -> bool:
        """Whether it is an entry of the journal, and so replayed to the service."""
        return self.kind != "core"

    @property
    def full_name(self) -> str:
        """The protocol's name of the message, as error texts show it: `SleepCommand`."""
        suffix = {"core": "", "command": "Command", "completion": "Completion"}
        return self.name + suffix.get(self.kind, "Notification")

    @property
    def entry_type(self) -> str:
        """The name in SQL and attempt errors: `Command: Sleep`, `Notification: Sleep`."""
        assert self.is_journaled, "only entries of the journal have an entry type"
        return f"{'Command' if self.kind == 'command' else 'Notification'}: {self.name}"


_N = pb.NotificationMessage

MESSAGES: Final[tuple[Message, ...]] = (
    Message(START, "Start", pb.StartMessage, "core", "server"),
    Message(SUSPENSION, "Suspension", pb.SuspensionMessage, "core", "service"),
    Message(ERROR, "Error", pb.ErrorMessage, "core", "service"),
    Message(END, "End", pb.EndMessage, "core", "service"),
    Message(COMMAND_ACK, "CommandAck", pb.CommandAckMessage, "core", "server"),
    Message(
        PROPOSE_RUN_COMPLETION, "ProposeRunCompletion", pb.ProposeRunCompletionMessage,
        "core", "service",
    ),
    Message(AWAITING_ON, "AwaitingOn", pb.AwaitingOnMessage, "core", "service", since=7),
    Message(
        PROPOSE_RUN_COMPLETION_ACK, "ProposeRunCompletionAck", pb.ProposeRunCompletionAckMessage,
        "core", "server", since=7,
    ),
    Message(INPUT_COMMAND, "Input", pb.InputCommandMessage, "command", "server"),
    Message(OUTPUT_COMMAND, "Output", pb.OutputCommandMessage, "command", "service"),
    Message(
        GET_LAZY_STATE_COMMAND, "GetLazyState", pb.GetLazyStateCommandMessage,
        "command", "service",
    ),
    Message(SET_STATE_COMMAND, "SetState", pb.SetStateCommandMessage, "command", "service"),
    Message(CLEAR_STATE_COMMAND, "ClearState", pb.ClearStateCommandMessage, "command", "service"),
    Message(
        CLEAR_ALL_STATE_COMMAND, "ClearAllState", pb.ClearAllStateCommandMessage,
        "command", "service",
    ),
    Message(
        GET_LAZY_STATE_KEYS_COMMAND, "GetLazyStateKeys", pb.GetLazyStateKeysCommandMessage,
        "command", "service",
    ),
    Message(
        GET_EAGER_STATE_COMMAND, "GetEagerState", pb.GetEagerStateCommandMessage,
        "command", "service",
    ),
    Message(
        GET_EAGER_STATE_KEYS_COMMAND, "GetEagerStateKeys", pb.GetEagerStateKeysCommandMessage,
        "command", "service",
    ),
    Message(GET_PROMISE_COMMAND, "GetPromise", pb.GetPromiseCommandMessage, "command", "service"),
    Message(
        PEEK_PROMISE_COMMAND, "PeekPromise", pb.PeekPromiseCommandMessage, "command", "service",
    ),
    Message(
        COMPLETE_PROMISE_COMMAND, "CompletePromise", pb.CompletePromiseCommandMessage,
        "command", "service",
    ),
    Message(SLEEP_COMMAND, "Sleep", pb.SleepCommandMessage, "command", "service"),
    Message(CALL_COMMAND, "Call", pb.CallCommandMessage, "command", "service"),
    Message(ONE_WAY_CALL_COMMAND, "OneWayCall", pb.OneWayCallCommandMessage, "command", "service"),
    Message(SEND_SIGNAL_COMMAND, "SendSignal", pb.SendSignalCommandMessage, "command", "service"),
    Message(RUN_COMMAND, "Run", pb.RunCommandMessage, "command", "service"),
    Message(
        ATTACH_INVOCATION_COMMAND, "AttachInvocation", pb.AttachInvocationCommandMessage,
        "command", "service",
    ),
    Message(
        GET_INVOCATION_OUTPUT_COMMAND, "GetInvocationOutput", pb.GetInvocationOutputCommandMessage,
        "command", "service",
    ),
    Message(
        COMPLETE_AWAKEABLE_COMMAND, "CompleteAwakeable", pb.CompleteAwakeableCommandMessage,
        "command", "service",
    ),
    Message(
        GET_LAZY_STATE_COMPLETION, "GetLazyState", _N, "completion", "server", completion="state",
    ),
    Message(
        GET_LAZY_STATE_KEYS_COMPLETION, "GetLazyStateKeys", _N,
        "completion", "server", completion="state_keys",
    ),
    Message(
        GET_PROMISE_COMPLETION, "GetPromise", _N, "completion", "server", completion="promise",
    ),
    Message(
        PEEK_PROMISE_COMPLETION, "PeekPromise", _N, "completion", "server", completion="peek",
    ),
    Message(
        COMPLETE_PROMISE_COMPLETION, "CompletePromise", _N,
        "completion", "server", completion="complete_promise",
    ),
    Message(SLEEP_COMPLETION, "Sleep", _N, "completion", "server", completion="sleep"),
    Message(CALL_COMPLETION, "Call", _N, "completion", "server", completion="call"),
    Message(
        CALL_INVOCATION_ID_COMPLETION, "CallInvocationId", _N,
        "completion", "server", completion="call_id",
    ),
    Message(RUN_COMPLETION, "Run", _N, "completion", "server", completion="run"),
    Message(
        ATTACH_INVOCATION_COMPLETION, "AttachInvocation", _N,
        "completion", "server", completion="attach",
    ),
    Message(
        GET_INVOCATION_OUTPUT_COMPLETION, "GetInvocationOutput", _N,
        "completion", "server", completion="output",
    ),
    Message(SIGNAL_NOTIFICATION, "Signal", _N, "signal", "server"),
)  # fmt: skip

BY_CODE: Final[dict[int, Message]] = {message.code: message for message in MESSAGES}

COMMAND_CODES: Final = frozenset(row.code for row in MESSAGES if row.kind == "command")
NOTIFICATION_CODES: Final = frozenset(
    row.code for row in MESSAGES if row.kind in {"completion", "signal"}
)
COMPLETION_CODES: Final[dict[CompletionKind, int]] = {
    row.completion: row.code for row in MESSAGES if row.completion is not None
}


class _Check(Record):
    """What protobuf cannot say of a message: fields it must have, text that travels as bytes."""

    required: tuple[str, ...] = ()  # oneofs and single messages
    text: str | None = None  # a field of bytes that must be UTF-8


_STATE_KEY: Final = _Check(text="key")
_CHECKS: Final[dict[int, _Check]] = {
    PROPOSE_RUN_COMPLETION: _Check(required=("result",)),
    INPUT_COMMAND: _Check(required=("value",)),
    OUTPUT_COMMAND: _Check(required=("result",)),
    GET_LAZY_STATE_COMMAND: _STATE_KEY,
    SET_STATE_COMMAND: _Check(required=("value",), text="key"),
    CLEAR_STATE_COMMAND: _STATE_KEY,
    GET_EAGER_STATE_COMMAND: _Check(required=("result",), text="key"),
    COMPLETE_PROMISE_COMMAND: _Check(required=("completion",)),
    SEND_SIGNAL_COMMAND: _Check(required=("signal_id", "result")),
    ATTACH_INVOCATION_COMMAND: _Check(required=("target",)),
    GET_INVOCATION_OUTPUT_COMMAND: _Check(required=("target",)),
    COMPLETE_AWAKEABLE_COMMAND: _Check(required=("result",)),
    **dict.fromkeys(NOTIFICATION_CODES, _Check(required=("id", "result"))),
}


def decode(type_code: int, body: bytes) -> Body:
    """Read the body of one message and check what it must contain.

    Unknown fields are skipped; of a repeated scalar the last wins. Raises `DecodeError`, and
    `AwaitTooDeepError` for what a Suspension or AwaitingOn waits for.
    """
    if type_code in _AWAITING:
        return _decode_awaiting(BY_CODE[type_code], body)
    row = BY_CODE.get(type_code)
    if row is None:
        raise DecodeError(f"unknown protocol.message code {type_code:#x}")
    try:
        message = row.body.FromString(body)
    except UnparsableError as error:
        raise _malformed(row, _reason(error)) from error
    check = _CHECKS.get(type_code)
    if check is not None:
        _require(row, check, message)
    return message


def _require(row: Message, check: _Check, message: Body) -> None:
    for field in check.required:
        if not message.HasField(field):
            raise _malformed(row, f"missing {field} field")
    if check.text is not None:
        text: bytes = getattr(message, check.text)
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise _malformed(row, f"{check.text} is not UTF-8: {text[:64]!r}") from error


def _malformed(row: Message, reason: str) -> DecodeError:
    return DecodeError(f"malformed {row.full_name}Message, {reason}")


def _reason(error: UnparsableError) -> str:
    """Protobuf's reason without the name of our generated class in front."""
    return str(error).rpartition(": ")[2] or "not protobuf"


# -- what an attempt waits for: trees that may be deeper than protobuf reads

_AWAITING: Final = frozenset({SUSPENSION, AWAITING_ON})
AWAIT_DEPTH_MAX: Final = 1_000
_DEEP_BODY_BYTES_MAX: Final = 1 << 20  # each level is copied once more, so depth needs this bound


def _decode_awaiting(row: Message, body: bytes) -> Body:
    try:
        message = row.body.FromString(body)
    except UnparsableError as error:
        message = _decode_deep(row, body, _reason(error))
    assert isinstance(message, pb.SuspensionMessage | pb.AwaitingOnMessage)
    flat = isinstance(message, pb.SuspensionMessage) and _has_leaf(message)
    if not flat and _awaits_nothing_somewhere(message.awaiting_on):
        raise _malformed(row, "it awaits nothing")
    return message


def _decode_deep(row: Message, body: bytes, reason: str) -> Body:
    """The same message read level by level, as protobuf nests 100 deep at most."""
    if len(body) > _DEEP_BODY_BYTES_MAX:
        raise _malformed(row, reason)
    try:
        if row.code == SUSPENSION:
            suspension = pb.SuspensionLevel.FromString(body)
            message: pb.SuspensionMessage | pb.AwaitingOnMessage = pb.SuspensionMessage(
                waiting_completions=suspension.waiting_completions,
                waiting_signals=suspension.waiting_signals,
                waiting_named_signals=suspension.waiting_named_signals,
            )
            _grow(message.awaiting_on, suspension.awaiting_on)
            return message
        awaiting = pb.AwaitingOnLevel.FromString(body)
        message = pb.AwaitingOnMessage(executing_side_effects=awaiting.executing_side_effects)
        _grow(message.awaiting_on, awaiting.awaiting_on)
    except UnparsableError as error:
        raise _malformed(row, _reason(error)) from error
    return message


def _grow(root: pb.Future, encoded: bytes) -> None:
    """Fill the tree under `root`, without recursion."""
    pending = [(root, encoded, 1)]
    while pending:
        future, content, depth = pending.pop()
        if depth > AWAIT_DEPTH_MAX:
            raise AwaitTooDeepError
        level = pb.FutureLevel.FromString(content)
        future.waiting_completions.extend(level.waiting_completions)
        future.waiting_signals.extend(level.waiting_signals)
        future.waiting_named_signals.extend(level.waiting_named_signals)
        future.combinator_type = level.combinator_type
        pending.extend(
            (future.nested_futures.add(), nested, depth + 1) for nested in level.nested_futures
        )


def _awaits_nothing_somewhere(root: pb.Future) -> bool:
    """Whether a branch is empty: `all` of nothing holds, the attempt would begin again at once."""
    pending = [root]
    while pending:
        future = pending.pop()
        if not _has_leaf(future) and not future.nested_futures:
            return True
        pending.extend(future.nested_futures)
    return False


def _has_leaf(node: pb.Future | pb.SuspensionMessage) -> bool:
    return bool(node.waiting_completions or node.waiting_signals or node.waiting_named_signals)
