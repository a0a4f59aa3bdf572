"""What the messages of an attempt may say: rules that need no catalog and no store.

Lives here: the violation of the protocol as an exception, which service types may use state and
promises, completion ids of a command, awaited trees with their bounds.
Does not: single messages (protocol/messages.py), their order (session.py), targets (children.py).
Source: service-protocol.md 4.4, state-machine.md 10.
"""

from typing import Final, Literal

from google.protobuf.message import Message as Body

from restated.model.errors import AttemptCode
from restated.model.records import AttemptError, Await, Combinator, Invocation
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb

AWAIT_LEAVES_MAX: Final = 100_000

_STATE: Final = frozenset(
    {
        messages.GET_LAZY_STATE_COMMAND,
        messages.SET_STATE_COMMAND,
        messages.CLEAR_STATE_COMMAND,
        messages.CLEAR_ALL_STATE_COMMAND,
        messages.GET_LAZY_STATE_KEYS_COMMAND,
        messages.GET_EAGER_STATE_COMMAND,
        messages.GET_EAGER_STATE_KEYS_COMMAND,
    }
)
_STATE_WRITES: Final = frozenset(
    {
        messages.SET_STATE_COMMAND,
        messages.CLEAR_STATE_COMMAND,
        messages.CLEAR_ALL_STATE_COMMAND,
    }
)
_PROMISES: Final = frozenset(
    {
        messages.GET_PROMISE_COMMAND,
        messages.PEEK_PROMISE_COMMAND,
        messages.COMPLETE_PROMISE_COMMAND,
    }
)
_COMPLETION_FIELDS: Final[dict[int, tuple[str, ...]]] = {
    messages.CALL_COMMAND: ("invocation_id_notification_idx", "result_completion_id"),
    messages.ONE_WAY_CALL_COMMAND: ("invocation_id_notification_idx",),
    **{
        row.code: ("result_completion_id",)
        for row in messages.MESSAGES
        if row.kind == "command"
        and "result_completion_id" in row.body.DESCRIPTOR.fields_by_name
        and row.code != messages.CALL_COMMAND
    },
}
_COMBINATORS: Final[dict[int, Combinator]] = {
    1: "first_completed",
    2: "all_completed",
    3: "first_succeeded",
    4: "all_succeeded",
}  # 0, and any number a newer SDK may send: unknown


class ProtocolViolationError(Exception):
    """The SDK said something that it must not; the attempt fails, nothing of it is stored (B10)."""

    def __init__(
        self,
        message: str,
        restate_code: str = AttemptCode.PROTOCOL_VIOLATION,
        *,
        behavior: Literal["retry", "pause"] = "retry",
        command: tuple[int, int] | None = None,
    ) -> None:
        """`command`: index and type code of the command concerned."""
        super().__init__(message)
        self.restate_code = restate_code
        self.behavior: Literal["retry", "pause"] = behavior
        self.command = command

    @property
    def error(self) -> AttemptError:
        """The violation as the failure of the attempt."""
        if self.command is None:
            return AttemptError(500, str(self), self.restate_code)
        index, type_code = self.command
        return AttemptError(
            500, str(self), self.restate_code, command_index=index, command_type=type_code
        )


def precondition_error(
    type_code: int, index: int, cause: str, restate_code: str = AttemptCode.PRECONDITION
) -> ProtocolViolationError:
    """The refusal of a command, in the full form of service-protocol.md 4.4."""
    return ProtocolViolationError(
        f"cannot process command {messages.BY_CODE[type_code].entry_type} (command index {index}) "
        f"because of a failed precondition: {cause}",
        restate_code,
        command=(index, type_code),
    )


def refuse_forbidden(type_code: int, invocation: Invocation, index: int) -> None:
    """Raise ProtocolViolationError for state and promises where the service type has none."""
    if type_code in _STATE:
        if invocation.service_type == "service":
            cause = "unsupported entry type, this service type doesn't have state access"
            raise precondition_error(type_code, index, cause)
        if type_code in _STATE_WRITES and invocation.handler_type == "shared":
            cause = "unsupported entry type, this handler type cannot write state"
            raise precondition_error(type_code, index, cause)
    elif type_code in _PROMISES and invocation.service_type != "workflow":
        cause = "unsupported entry type, only Workflow services support it"
        raise precondition_error(type_code, index, cause)


def completion_ids_of(type_code: int, body: Body) -> tuple[int, ...]:
    """The completion ids that a command claims; empty for most."""
    names = _COMPLETION_FIELDS.get(type_code)
    if names is None:
        return ()
    return tuple(getattr(body, name) for name in names)


def flat_await_of(body: pb.SuspensionMessage) -> Await:
    """The lists of protocol 5 and 6: what the handler makes of them is unknown, any resumes it."""
    return _bounded(Await("unknown", _leaves(body)))


def await_of(root: pb.Future) -> Await:
    """The awaited tree, built from the leaves up without recursion; bounds on depth and leaves."""
    nodes: list[tuple[pb.Future, int]] = [(root, 0)]  # with the place of the parent
    depths = [1]
    leaves_count = 0
    for position, (future, _) in enumerate(nodes):
        depth = depths[position]
        if depth > messages.AWAIT_DEPTH_MAX:
            raise ProtocolViolationError(
                f"the awaited future is nested deeper than {messages.AWAIT_DEPTH_MAX} levels",
                AttemptCode.AWAIT_TOO_DEEP,
                behavior="pause",
            )
        leaves_count += len(future.nested_futures)
        if leaves_count > AWAIT_LEAVES_MAX:
            raise _too_many(leaves_count)
        for nested in future.nested_futures:
            nodes.append((nested, position))
            depths.append(depth + 1)
    children: list[list[Await]] = [[] for _ in nodes]
    leaves_count = 0
    for position in range(len(nodes) - 1, 0, -1):
        future, parent = nodes[position]
        built = _await(future, children[position])
        leaves_count += len(built.on)
        children[parent].append(built)
    built = _await(root, children[0])
    if leaves_count + len(built.on) > AWAIT_LEAVES_MAX:
        raise _too_many(leaves_count + len(built.on))
    return built


def _await(future: pb.Future, reversed_children: list[Await]) -> Await:
    combinator = _COMBINATORS.get(future.combinator_type, "unknown")
    return Await(combinator, _leaves(future), tuple(reversed(reversed_children)))


def _leaves(node: pb.Future | pb.SuspensionMessage) -> tuple[str, ...]:
    return (
        *(f"c{number}" for number in node.waiting_completions),
        *(f"s{number}" for number in node.waiting_signals),
        *(f"n:{name}" for name in node.waiting_named_signals),
    )


def _bounded(awaiting: Await) -> Await:
    if len(awaiting.on) > AWAIT_LEAVES_MAX:
        raise _too_many(len(awaiting.on))
    return awaiting


def _too_many(count: int) -> ProtocolViolationError:
    return ProtocolViolationError(
        f"the suspension awaits {count} results, {AWAIT_LEAVES_MAX} are the most"
    )
