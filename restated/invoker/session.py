"""The protocol exchange of one attempt, without I/O: bytes of the answer in, events out; and back.

Lives here: StartMessage and replay as bytes, decoding and validation of what the SDK sends, the
order of messages, command indices, acks and notifications as bytes.
Does not: sockets, timeouts, posting (attempt.py); what a service may do (checks.py); the catalog
(children.py); what a command means (core/).
Rules: B5 the replayed prefix equals the stored bytes; B10 what violates the protocol is never
stored; nothing after a terminal message counts. Source: service-protocol.md 3, 4.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, TypeAlias

from google.protobuf.message import Message as Body

from restated.core.awaits import leaves
from restated.invoker.checks import (
    ProtocolViolationError,
    await_of,
    completion_ids_of,
    flat_await_of,
    refuse_forbidden,
)
from restated.model.errors import AttemptCode
from restated.model.ids import raw_invocation_id, unsigned64
from restated.model.records import AttemptError, Await, Entry, Invocation, Outcome, Record
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.failures import FAILURE_CODE_MAX, UNKNOWN_CODE, failure_of
from restated.protocol.spliced import LARGE_BYTES, hollow, inside
from restated.protocol.wire import Frame, FrameDecoder, MessageTooLargeError, frame

CHUNK_BYTES: Final = 64 * 1024  # small entries are joined up to this; larger ones are not copied
RETRY_AFTER_MS_MAX: Final = 1 << 62  # so that now plus it still fits a stored integer
LARGE_VALUES: Final = {messages.OUTPUT_COMMAND: (14, 1), messages.PROPOSE_RUN_COMPLETION: (14,)}
"""Message -> the fields around its value, which is left out of the decoded body when large."""
FUTURE_SINCE: Final = 7  # protocol version from which suspensions carry a tree

Behavior = Literal["retry", "pause", "fail"]
BEHAVIORS: Final[dict[int, Behavior]] = {1: "pause", 2: "fail"}  # any other number means retry
SDK_ERROR_CODES: Final[dict[int, str]] = {
    570: AttemptCode.JOURNAL_MISMATCH,
    571: AttemptCode.PROTOCOL_VIOLATION,
}


class CommandSent(Record):
    """A command, decoded and allowed by the type of the service; `index` counts commands only."""

    type: int
    payload: bytes
    body: Body
    ack: bool
    index: int


class RunResult(Record):
    """A proposal. `is_declared`: this attempt sent the run's command, else an older one must."""

    completion_id: int
    result: Outcome
    is_declared: bool


class Suspended(Record):
    """The handler waits; terminal."""

    awaiting_on: Await


class Failed(Record):
    """The SDK reports an error; terminal."""

    error: AttemptError
    behavior: Behavior
    retry_after_ms: int | None


class Ended(Record):
    """The handler is done, its output is in the journal or was sent; terminal."""


SessionEvent: TypeAlias = CommandSent | RunResult | Suspended | Failed | Ended


class Session:
    """One attempt's side of the protocol. Not reusable."""

    __slots__ = (
        "_ack_runs", "_completion_ids", "_decoder", "_frames", "_has_output", "_invocation",
        "_open_runs", "_too_large", "command_index", "is_over", "known_entries", "protocol_version",
    )  # fmt: skip

    def __init__(self, invocation: Invocation, protocol_version: int) -> None:
        self.protocol_version = protocol_version
        self.known_entries = invocation.journal_length
        self.command_index = invocation.command_count  # of the next command
        self.is_over = False  # a terminal message was received
        self._invocation = invocation
        self._decoder = FrameDecoder()
        self._frames: deque[Frame] = deque()
        self._too_large: MessageTooLargeError | None = None
        self._has_output = invocation.output_index is not None
        self._completion_ids: set[int] = set()  # of commands of this attempt
        self._open_runs: set[int] = set()  # runs of this attempt
        self._ack_runs: set[int] = set()  # proposals that want an ack instead of the completion

    # -- to the service

    def begin(
        self, state: Sequence[tuple[str, bytes]] | None, now_ms: int, entries: Iterable[Entry]
    ) -> Iterator[bytes]:
        """Start, then exactly `known_entries` entries. `state` None: not known (partial state)."""
        pending = [frame(messages.START, self._start(state, now_ms))]
        pending_bytes = len(pending[0])
        for entry in entries:
            if len(entry.payload) > CHUNK_BYTES:
                pending.append(frame_header(entry.type, len(entry.payload)))
                yield b"".join(pending)
                payload = entry.payload
                del entry  # what is sent is all that may keep it while the next one is read (M3)
                yield payload
                del payload
                pending, pending_bytes = [], 0
                continue
            encoded = frame(entry.type, entry.payload)
            pending.append(encoded)
            pending_bytes += len(encoded)
            if pending_bytes >= CHUNK_BYTES:
                yield b"".join(pending)
                pending, pending_bytes = [], 0
        if pending:
            yield b"".join(pending)

    def _start(self, state: Sequence[tuple[str, bytes]] | None, now_ms: int) -> bytes:
        invocation = self._invocation
        last_entry_at_ms = invocation.last_entry_at_ms
        start = pb.StartMessage(
            id=raw_invocation_id(invocation.id),
            debug_id=invocation.id,
            known_entries=self.known_entries,
            partial_state=state is None,
            key=invocation.object_key or "",
            retry_count_since_last_stored_entry=invocation.failures_since_command,
            # Clamped: the wall clock may have stepped back (C66).
            duration_since_last_stored_entry=max(0, now_ms - (last_entry_at_ms or now_ms)),
            random_seed=unsigned64(invocation.random_seed),
        )
        if state:
            start.state_map.extend(
                pb.StateEntry(key=name.encode(), value=value) for name, value in state
            )
        if self.protocol_version >= FUTURE_SINCE and invocation.scope:
            start.scope = invocation.scope
            if invocation.limit_key is not None:
                start.limit_key = invocation.limit_key
        return start.SerializeToString()

    def acknowledge(self, command_index: int) -> bytes:
        """A command that asked for it is stored."""
        ack = pb.CommandAckMessage(command_index=command_index)
        return frame(messages.COMMAND_ACK, ack.SerializeToString())

    def notify(self, index: int, type_code: int, payload: bytes) -> bytes:
        """A stored notification; empty when entry `index` was part of the replay.

        From v7 on a run that this attempt proposed with the ack flag gets the ack instead.
        """
        if index < self.known_entries:
            return b""
        if type_code == messages.RUN_COMPLETION and self._ack_runs:
            completion_id = pb.NotificationMessage.FromString(payload).completion_id
            if completion_id in self._ack_runs:
                self._ack_runs.discard(completion_id)
                ack = pb.ProposeRunCompletionAckMessage(completion_id=completion_id)
                return frame(messages.PROPOSE_RUN_COMPLETION_ACK, ack.SerializeToString())
        return frame(type_code, payload)

    @property
    def awaits_acks(self) -> bool:
        """Whether `notify` must see what a run gave, to tell it from others."""
        return bool(self._ack_runs)

    @property
    def executes_run(self) -> bool:
        """Whether a run that this attempt declared has no result yet: the service is busy."""
        return bool(self._open_runs)

    # -- from the service

    @property
    def announced_bytes(self) -> int:
        """The size of the message that is arriving; 0 between two messages."""
        return self._decoder.announced_bytes

    @property
    def has_more(self) -> bool:
        """Whether `next_event` has something to look at."""
        return bool(self._frames) or self._too_large is not None

    def receive(self, data: bytes) -> None:
        """Take the next bytes of the answer; `next_event` tells what they mean."""
        if self.is_over or self._too_large is not None:
            return
        try:
            frames = self._decoder.receive(data)
        except MessageTooLargeError as error:
            # What was complete before it still counts.
            self._frames.extend(error.frames)
            self._too_large = error
            return
        self._frames.extend(frames)

    def next_event(self) -> SessionEvent | None:
        """The next thing that the SDK said; None when more bytes are needed.

        Raises ProtocolViolationError; the attempt has failed then.
        """
        frames = self._frames
        while frames:
            event = self._on_frame(frames.popleft())
            if event is not None:
                return event
        if self._too_large is not None:
            error, self._too_large = self._too_large, None
            raise ProtocolViolationError(str(error), AttemptCode.MESSAGE_TOO_LARGE)
        return None

    def _on_frame(self, message: Frame) -> SessionEvent | None:
        if self.is_over:
            return None
        type_code = message.type
        row = messages.BY_CODE.get(type_code)
        if row is not None and row.sender == "server":
            raise ProtocolViolationError(f"received unexpected message: {row.full_name}")
        try:
            body = messages.decode(type_code, _without_large_value(message))
        except messages.AwaitTooDeepError as error:
            raise ProtocolViolationError(
                str(error), AttemptCode.AWAIT_TOO_DEEP, behavior="pause"
            ) from error
        except messages.DecodeError as error:
            raise ProtocolViolationError(str(error)) from error
        if row is not None and row.kind == "command":
            return self._on_command(message, body)
        if isinstance(body, pb.ProposeRunCompletionMessage):
            return self._on_proposal(message, body)
        return self._on_core(body)

    def _on_command(self, message: Frame, body: Body) -> CommandSent:
        type_code = message.type
        index = self.command_index
        refuse_forbidden(type_code, self._invocation, index)
        for completion_id in completion_ids_of(type_code, body):
            if completion_id in self._completion_ids:
                raise ProtocolViolationError(
                    f"completion id {completion_id} of {messages.BY_CODE[type_code].full_name} "
                    f"(command index {index}) was used by an earlier command"
                )
            self._completion_ids.add(completion_id)
        if type_code == messages.OUTPUT_COMMAND:
            self._has_output = True
        elif type_code == messages.RUN_COMMAND:
            assert isinstance(body, pb.RunCommandMessage)
            self._open_runs.add(body.result_completion_id)
        self.command_index = index + 1
        return CommandSent(type_code, message.body, body, message.requested_ack, index)

    def _on_core(self, body: Body) -> SessionEvent | None:
        match body:
            case pb.AwaitingOnMessage():
                return None  # says what is awaited while the attempt goes on; nothing depends on it
            case pb.EndMessage():
                if not self._has_output:
                    raise ProtocolViolationError("received End without an OutputCommand before it")
                self._finish()
                return Ended()
            case pb.SuspensionMessage():
                self._finish()
                return self._on_suspension(body)
            case pb.ErrorMessage():
                self._finish()
                return _on_error(body)
        raise AssertionError(f"no branch for {type(body).__name__}")

    def _on_proposal(self, message: Frame, body: pb.ProposeRunCompletionMessage) -> RunResult:
        completion_id = body.result_completion_id
        is_declared = completion_id in self._open_runs
        if not is_declared and completion_id in self._completion_ids:
            raise ProtocolViolationError(
                f"received a run completion for id {completion_id}, which is not an open run"
            )
        self._open_runs.discard(completion_id)
        self._completion_ids.add(completion_id)  # a second proposal for it is refused
        if message.requested_ack and self.protocol_version >= FUTURE_SINCE:
            self._ack_runs.add(completion_id)
        if body.HasField("failure"):
            return RunResult(completion_id, failure_of(body.failure), is_declared)
        value = body.value or inside(message.body, LARGE_VALUES[message.type]) or b""
        return RunResult(completion_id, value, is_declared)

    def _on_suspension(self, body: pb.SuspensionMessage) -> Suspended:
        is_tree = self.protocol_version >= FUTURE_SINCE
        awaiting_on = await_of(body.awaiting_on) if is_tree else flat_await_of(body)
        if not leaves(awaiting_on):  # perhaps in the form of another version; nothing would resume
            raise ProtocolViolationError("malformed SuspensionMessage, it awaits nothing")
        return Suspended(awaiting_on)

    def close(self) -> None:
        """Listen no more, and keep nothing of what was half received."""
        self._finish()
        self._decoder = FrameDecoder()

    def _finish(self) -> None:
        self.is_over = True
        self._frames.clear()


def _without_large_value(message: Frame) -> bytes:
    """What protobuf is to read: it would keep two more copies of a large value meanwhile (M3)."""
    body = message.body
    if len(body) < LARGE_BYTES or message.type not in LARGE_VALUES:
        return body
    rest = hollow(body, LARGE_VALUES[message.type])
    return body if rest is None else rest


def frame_header(type_code: int, body_bytes: int) -> bytes:
    """The header of a frame whose body is sent apart, uncopied."""
    return frame(type_code, b"")[:4] + body_bytes.to_bytes(4, "big")


def _on_error(body: pb.ErrorMessage) -> Failed:
    code = body.code if body.code <= FAILURE_CODE_MAX else UNKNOWN_CODE
    error = AttemptError(
        code,
        body.message,
        SDK_ERROR_CODES.get(body.code, AttemptCode.HANDLER),
        body.stacktrace,
        body.related_command_index if body.HasField("related_command_index") else None,
        body.related_command_name if body.HasField("related_command_name") else None,
        body.related_command_type if body.related_command_type in messages.COMMAND_CODES else None,
    )
    retry_after_ms = None
    if body.HasField("next_retry_delay"):
        retry_after_ms = min(body.next_retry_delay, RETRY_AFTER_MS_MAX)
    return Failed(error, BEHAVIORS.get(body.behavior, "retry"), retry_after_ms)
