"""What each command of a handler does, as the oracle understands it (state-machine.md 5).

Lives here: one function for each command that does more than stand in the journal; `COMMANDS`.
Does not: the journal entry of the command itself (oracle.py), what a service refuses (invoker).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from restated.core import events as ev
from restated.model.ids import parse_awakeable_id
from restated.model.records import PROMISE_ALREADY_COMPLETED, Failure, Outcome
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.core.oracle_state import FOREVER_MS, Awaited, Item, Life

if TYPE_CHECKING:
    from tests.core.oracle import Oracle


def outcome_body(result: ev.Result) -> pb.NotificationMessage:
    """A notification that carries this result, without its id."""
    if result is None:
        return pb.NotificationMessage(void=pb.Void())
    if isinstance(result, bytes):
        return pb.NotificationMessage(value=pb.Value(content=result))
    return pb.NotificationMessage(
        failure=pb.Failure(
            code=result.code,
            message=result.message,
            metadata=[pb.FailureMetadata(key=key, value=value) for key, value in result.metadata],
        )
    )


def outcome_of(body: Any, value: str = "value", failure: str = "failure") -> Outcome | None:
    """The result that a message carries; None is void."""
    if body.HasField(value):
        content: bytes = getattr(body, value).content
        return content
    if body.HasField(failure):
        found = getattr(body, failure)
        metadata = tuple((pair.key, pair.value) for pair in found.metadata)
        code = 500 if found.code > 0xFFFF else found.code  # what SDKs can read
        return Failure(code, found.message, metadata)
    return None


def last_output(journal: list[Item]) -> Outcome | None:
    """The result that the newest Output command in the journal gives."""
    outputs = [item.payload for item in journal if item.type == messages.OUTPUT_COMMAND]
    if not outputs:
        return None
    return outcome_of(pb.OutputCommandMessage.FromString(outputs[-1]))


def on_output(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    life.output = outcome_of(event.body)


def on_get_state(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    body: Any = event.body
    promise(life, body.result_completion_id, "state", index)
    found = oracle.place(life).state.get(body.key.decode())
    oracle.complete(life, body.result_completion_id, outcome_body(found))


def on_get_state_keys(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    body: Any = event.body
    promise(life, body.result_completion_id, "state_keys", index)
    keys = sorted(name.encode() for name in oracle.place(life).state)
    answer = pb.NotificationMessage(state_keys=pb.StateKeys(keys=keys))
    oracle.complete(life, body.result_completion_id, answer)


def on_set_state(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    body: Any = event.body
    oracle.place(life).state[body.key.decode()] = body.value.content


def on_clear_state(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    body: Any = event.body
    oracle.place(life).state.pop(body.key.decode(), None)


def on_clear_all(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    oracle.place(life).state = {}


def on_sleep(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    body: Any = event.body
    promise(life, body.result_completion_id, "sleep", index)
    life.timers["sleep", body.result_completion_id] = min(body.wake_up_time, FOREVER_MS)


def on_call(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    """Call and OneWayCall: tell the callee's id, then invoke it."""
    body: Any = event.body
    assert event.child is not None
    child = event.child
    told = body.invocation_id_notification_idx
    promise(life, told, "call_id", index, child.id)
    if event.type == messages.CALL_COMMAND:
        promise(life, body.result_completion_id, "call", index, child.id)
    oracle.complete(life, told, pb.NotificationMessage(invocation_id=child.id))
    oracle.messages.append(child)


def on_send_signal(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    body: Any = event.body
    assert event.peer is not None
    name = f"n:{body.name}" if body.HasField("name") else f"s{body.idx}"
    oracle.messages.append(ev.Signal(event.peer, name, outcome_of(body)))


def on_complete_awakeable(
    oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int
) -> None:
    body: Any = event.body
    awakeable = parse_awakeable_id(body.awakeable_id)
    name = f"s{awakeable.index}"
    oracle.messages.append(ev.Signal(awakeable.invocation_id, name, outcome_of(body)))


def on_run(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    body: Any = event.body
    promise(life, body.result_completion_id, "run", index)


def on_attach(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    """AttachInvocation waits for the end, GetInvocationOutput does not."""
    body: Any = event.body
    assert event.peer is not None
    waits = event.type == messages.ATTACH_INVOCATION_COMMAND
    promise(life, body.result_completion_id, "attach" if waits else "output", index)
    oracle.messages.append(ev.Attach(event.peer, life.number, body.result_completion_id, waits))


def on_get_promise(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    body: Any = event.body
    promise(life, body.result_completion_id, "promise", index)
    place = oracle.place(life)
    if body.key in place.promises:
        oracle.complete(life, body.result_completion_id, outcome_body(place.promises[body.key]))
    else:
        place.listeners.append((body.key, (life.number, body.result_completion_id)))


def on_peek_promise(oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int) -> None:
    body: Any = event.body
    promise(life, body.result_completion_id, "peek", index)
    found = oracle.place(life).promises.get(body.key)
    oracle.complete(life, body.result_completion_id, outcome_body(found))


def on_complete_promise(
    oracle: "Oracle", life: Life, event: ev.CommandReceived, index: int
) -> None:
    """The first one wins; every later one is told (P1)."""
    body: Any = event.body
    promise(life, body.result_completion_id, "complete_promise", index)
    place = oracle.place(life)
    if body.key in place.promises:
        refusal = outcome_body(PROMISE_ALREADY_COMPLETED)
        oracle.complete(life, body.result_completion_id, refusal)
        return
    outcome = outcome_of(body, "completion_value", "completion_failure")
    assert outcome is not None
    place.promises[body.key] = outcome
    for name, sink in place.listeners:
        if name == body.key:
            oracle.answer(sink, outcome)
    place.listeners = [one for one in place.listeners if one[0] != body.key]
    oracle.complete(life, body.result_completion_id, outcome_body(None))


def promise(
    life: Life, completion_id: int, kind: str, index: int, callee: str | None = None
) -> None:
    """A command owes this completion."""
    life.completions[completion_id] = Awaited(kind, index, callee=callee)


OnCommand = Callable[["Oracle", Life, ev.CommandReceived, int], None]
COMMANDS: Final[dict[int, OnCommand]] = {
    messages.OUTPUT_COMMAND: on_output,
    messages.GET_LAZY_STATE_COMMAND: on_get_state,
    messages.GET_LAZY_STATE_KEYS_COMMAND: on_get_state_keys,
    messages.SET_STATE_COMMAND: on_set_state,
    messages.CLEAR_STATE_COMMAND: on_clear_state,
    messages.CLEAR_ALL_STATE_COMMAND: on_clear_all,
    messages.SLEEP_COMMAND: on_sleep,
    messages.CALL_COMMAND: on_call,
    messages.ONE_WAY_CALL_COMMAND: on_call,
    messages.SEND_SIGNAL_COMMAND: on_send_signal,
    messages.COMPLETE_AWAKEABLE_COMMAND: on_complete_awakeable,
    messages.RUN_COMMAND: on_run,
    messages.ATTACH_INVOCATION_COMMAND: on_attach,
    messages.GET_INVOCATION_OUTPUT_COMMAND: on_attach,
    messages.GET_PROMISE_COMMAND: on_get_promise,
    messages.PEEK_PROMISE_COMMAND: on_peek_promise,
    messages.COMPLETE_PROMISE_COMMAND: on_complete_promise,
}
