"""One builder for each event and row that tests need, with sensible defaults."""

from typing import Any

from google.protobuf.message import Message

from restated.core.events import CommandReceived, Invoke
from restated.model.records import AttemptError, Target
from restated.protocol import messages

DAY_MS = 86_400_000
SERVICE = Target("Greeter", "greet", "service", "shared")


def object_target(key: str = "k", handler: str = "add", *, shared: bool = False) -> Target:
    """An exclusive (or shared) handler of a virtual object."""
    return Target("Counter", handler, "virtual_object", "shared" if shared else "exclusive", key)


def workflow_target(key: str = "w", handler: str = "run") -> Target:
    """The run of a workflow, or with another handler name a shared one."""
    return Target("Flow", handler, "workflow", "workflow" if handler == "run" else "shared", key)


def invoke(invocation_id: str = "inv_1", target: Target = SERVICE, **fields: Any) -> Invoke:
    """A request to execute a handler."""
    defaults: dict[str, Any] = {
        "payload": b'"Ada"',
        "headers": (("content-type", "application/json"),),
        "source": "ingress",
        "random_seed": 7,
        "completion_retention_ms": DAY_MS,
        "journal_retention_ms": DAY_MS,
    }
    return Invoke(invocation_id, target, **{**defaults, **fields})


def command(
    number: int, attempt: int, type_code: int, body: Message, **fields: Any
) -> CommandReceived:
    """A command as an attempt posts it."""
    assert isinstance(body, messages.BY_CODE[type_code].body)
    return CommandReceived(number, attempt, type_code, body.SerializeToString(), body, **fields)


def attempt_error(message: str = "boom", **fields: Any) -> AttemptError:
    """A failure of an attempt by the handler."""
    return AttemptError(500, message, "RT0007", **fields)
