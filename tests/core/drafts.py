"""What random programs are made of: targets, ids, and one draft for each command.

Lives here: `TARGETS`, ids that collide on purpose, `allowed` (what a service may issue) and
`command` (a random command of one kind, with fresh completion ids, as an attempt would post it).
Does not: when they are issued (programs.py).
"""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import Message
from hypothesis import strategies as st

from restated.core.events import CommandReceived
from restated.model import ids
from restated.model.records import Failure, Outcome, Target
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.core.oracle_state import Life

if TYPE_CHECKING:
    from tests.core.programs import Program

DAY_MS = 86_400_000
RETENTIONS: Final = [(DAY_MS, DAY_MS)] * 4 + [(DAY_MS, 0), (DAY_MS, 1_000), (0, 0), (500, 500)]
TARGETS: Final = [
    Target("Greeter", "greet", "service", "shared"),
    Target("Counter", "add", "virtual_object", "exclusive", "a"),
    Target("Counter", "add", "virtual_object", "exclusive", "b"),
    Target("Counter", "get", "virtual_object", "shared", "a"),
    Target("Flow", "run", "workflow", "workflow", "w"),
    Target("Flow", "tell", "workflow", "shared", "w"),
    Target("Flow", "run", "workflow", "workflow", "v"),
]
SMALL = st.sampled_from([b"", b"1", b"2"])


def fresh_id(number: int) -> str:
    """An id of its own."""
    return ids.encode_invocation_id(number, number.to_bytes(16, "big"))


def derived_id(target: Target, idempotency_key: str | None) -> str:
    """The same id for the same identity."""
    text = f"{target.service}/{target.key}/{target.handler}/{idempotency_key}"
    return ids.encode_invocation_id(7, hashlib.sha256(text.encode()).digest()[:16])


READS: Final = (
    messages.GET_LAZY_STATE_COMMAND, messages.GET_LAZY_STATE_KEYS_COMMAND,
    messages.GET_EAGER_STATE_COMMAND, messages.GET_EAGER_STATE_KEYS_COMMAND,
)  # fmt: skip
WRITES: Final = (
    messages.SET_STATE_COMMAND, messages.SET_STATE_COMMAND, messages.CLEAR_STATE_COMMAND,
    messages.CLEAR_ALL_STATE_COMMAND,
)  # fmt: skip
PROMISES: Final = (
    messages.GET_PROMISE_COMMAND, messages.GET_PROMISE_COMMAND, messages.PEEK_PROMISE_COMMAND,
    messages.COMPLETE_PROMISE_COMMAND,
)  # fmt: skip
ANYWHERE: Final = (
    messages.CALL_COMMAND, messages.CALL_COMMAND, messages.CALL_COMMAND,
    messages.ONE_WAY_CALL_COMMAND, messages.SLEEP_COMMAND, messages.SLEEP_COMMAND,
    messages.RUN_COMMAND, messages.RUN_COMMAND, messages.SEND_SIGNAL_COMMAND,
    messages.ATTACH_INVOCATION_COMMAND, messages.GET_INVOCATION_OUTPUT_COMMAND,
    messages.COMPLETE_AWAKEABLE_COMMAND, messages.OUTPUT_COMMAND,
)  # fmt: skip


def allowed(target: Target) -> tuple[int, ...]:
    """Commands that the invoker lets through for this handler (service-protocol.md 4.4)."""
    found: tuple[int, ...] = ANYWHERE
    if target.service_type != "service":
        found += READS
        found += WRITES if target.handler_type != "shared" else ()
    if target.service_type == "workflow":
        found += PROMISES
    return found


class Draft:
    """What one command is drawn from."""

    def __init__(self, program: "Program", data: st.DataObject, life: Life) -> None:
        self.program = program
        self.draw: Callable[[st.SearchStrategy[Any]], Any] = data.draw
        self.data = data
        self.life = life
        self.taken = max(life.completions, default=0)
        self.more: dict[str, Any] = {}

    def completion_id(self) -> int:
        """The next free one, as SDKs count."""
        self.taken += 1
        return self.taken

    def key(self) -> bytes:
        """A state key."""
        return bytes(self.draw(st.sampled_from([b"x", b"y"])))

    def peer(self) -> str:
        """Another invocation, or an unknown one; remembered for the event."""
        found = self.program.pick_id(self.data)
        self.more["peer"] = found
        return found

    def child(self, completion_id: int | None) -> None:
        """The invocation that a call or a send carries."""
        self.more["child"] = self.program.draw_invoke(
            self.data, "service", caller=self.life.number, caller_id=self.life.id,
            caller_target=self.life.target.text(),
            **({} if completion_id is None else {"caller_completion_id": completion_id}),
        )  # fmt: skip

    def result(self, value: str = "value", failure: str = "failure") -> dict[str, Any]:
        """Fields of a value or a failure."""
        if self.draw(st.booleans()):
            return {value: pb.Value(content=self.draw(SMALL))}
        code = self.draw(st.sampled_from([500, 70_000]))
        return {failure: pb.Failure(code=code, message="no")}


def command(
    program: "Program", data: st.DataObject, life: Life, attempt: int, type_code: int
) -> CommandReceived:
    """A random command of one kind."""
    draft = Draft(program, data, life)
    body = BODIES[type_code](draft)
    return CommandReceived(
        life.number, attempt, type_code, body.SerializeToString(), body,
        data.draw(st.booleans()), **draft.more,
    )  # fmt: skip


def output(life: Life, attempt: int, outcome: Outcome) -> CommandReceived:
    """An Output command with this result."""
    if isinstance(outcome, Failure):
        metadata = [pb.FailureMetadata(key=key, value=value) for key, value in outcome.metadata]
        failure = pb.Failure(code=outcome.code, message=outcome.message, metadata=metadata)
        body = pb.OutputCommandMessage(failure=failure)
    else:
        body = pb.OutputCommandMessage(value=pb.Value(content=outcome))
    payload = body.SerializeToString()
    return CommandReceived(life.number, attempt, messages.OUTPUT_COMMAND, payload, body)


def _call(draft: Draft) -> Message:
    told, answered = draft.completion_id(), draft.completion_id()
    draft.child(answered)
    return pb.CallCommandMessage(
        service_name="any", invocation_id_notification_idx=told, result_completion_id=answered
    )


def _one_way_call(draft: Draft) -> Message:
    draft.child(None)
    return pb.OneWayCallCommandMessage(invocation_id_notification_idx=draft.completion_id())


def _sleep(draft: Draft) -> Message:
    delay_ms = draft.draw(st.sampled_from([-5, 0, 50, 1_000, 2**63]))
    return pb.SleepCommandMessage(
        wake_up_time=draft.program.world.now_ms + delay_ms,
        result_completion_id=draft.completion_id(),
    )


def _send_signal(draft: Draft) -> Message:
    signal: dict[str, Any] = draft.draw(
        st.sampled_from([{"idx": 1}, {"idx": 17}, {"idx": 2}, {"name": "a"}, {"name": "b"}])
    )
    result = {"void": pb.Void()} if draft.draw(st.booleans()) else draft.result()
    return pb.SendSignalCommandMessage(target_invocation_id=draft.peer(), **signal, **result)


def _complete_awakeable(draft: Draft) -> Message:
    index = draft.draw(st.sampled_from([17, 18]))
    awakeable = ids.awakeable_id(draft.peer(), index)
    return pb.CompleteAwakeableCommandMessage(awakeable_id=awakeable, **draft.result())


def _complete_promise(draft: Draft) -> Message:
    return pb.CompletePromiseCommandMessage(
        key=draft.draw(st.sampled_from(["p", "q"])),
        result_completion_id=draft.completion_id(),
        **draft.result("completion_value", "completion_failure"),
    )


def _with_key(kind: Callable[..., Message]) -> Callable[[Draft], Message]:
    return lambda draft: kind(key=draft.key(), result_completion_id=draft.completion_id())


def _of_promise(kind: Callable[..., Message]) -> Callable[[Draft], Message]:
    return lambda draft: kind(
        key=draft.draw(st.sampled_from(["p", "q"])), result_completion_id=draft.completion_id()
    )


def _of_peer(kind: Callable[..., Message]) -> Callable[[Draft], Message]:
    return lambda draft: kind(
        invocation_id=draft.peer(), result_completion_id=draft.completion_id()
    )


BODIES: Final[dict[int, Callable[[Draft], Message]]] = {
    messages.OUTPUT_COMMAND: lambda draft: pb.OutputCommandMessage(**draft.result()),
    messages.GET_LAZY_STATE_COMMAND: _with_key(pb.GetLazyStateCommandMessage),
    messages.SET_STATE_COMMAND: lambda draft: pb.SetStateCommandMessage(
        key=draft.key(), value=pb.Value(content=draft.draw(SMALL))
    ),
    messages.CLEAR_STATE_COMMAND: lambda draft: pb.ClearStateCommandMessage(key=draft.key()),
    messages.CLEAR_ALL_STATE_COMMAND: lambda _: pb.ClearAllStateCommandMessage(),
    messages.GET_LAZY_STATE_KEYS_COMMAND: lambda draft: pb.GetLazyStateKeysCommandMessage(
        result_completion_id=draft.completion_id()
    ),
    messages.GET_EAGER_STATE_COMMAND: lambda draft: pb.GetEagerStateCommandMessage(
        key=draft.key(), void=pb.Void()
    ),
    messages.GET_EAGER_STATE_KEYS_COMMAND: lambda _: pb.GetEagerStateKeysCommandMessage(),
    messages.GET_PROMISE_COMMAND: _of_promise(pb.GetPromiseCommandMessage),
    messages.PEEK_PROMISE_COMMAND: _of_promise(pb.PeekPromiseCommandMessage),
    messages.COMPLETE_PROMISE_COMMAND: _complete_promise,
    messages.SLEEP_COMMAND: _sleep,
    messages.CALL_COMMAND: _call,
    messages.ONE_WAY_CALL_COMMAND: _one_way_call,
    messages.SEND_SIGNAL_COMMAND: _send_signal,
    messages.RUN_COMMAND: lambda draft: pb.RunCommandMessage(
        result_completion_id=draft.completion_id()
    ),
    messages.ATTACH_INVOCATION_COMMAND: _of_peer(pb.AttachInvocationCommandMessage),
    messages.GET_INVOCATION_OUTPUT_COMMAND: _of_peer(pb.GetInvocationOutputCommandMessage),
    messages.COMPLETE_AWAKEABLE_COMMAND: _complete_awakeable,
}
