"""Deployment, protocol version and request of an attempt."""

from typing import Any

import pytest

from restated.engine.catalog import Catalog, LiveCatalog
from restated.invoker.choice import (
    Choice,
    NoChoiceError,
    ProtocolVersionMax,
    choose,
    request_for,
)
from restated.model.records import AttemptError, Invocation
from tests.invoker.messages_of import invocation
from tests.invoker.world import deployment, register, registered_store


def catalog(**fields: Any) -> Catalog:
    live = LiveCatalog()
    live.load(registered_store(deployment(**fields)))
    return live.current


def chosen(
    row: Invocation | None = None, maximum: ProtocolVersionMax = "auto", **fields: Any
) -> Choice:
    return choose(catalog(**fields), invocation() if row is None else row, maximum)


def refused(row: Invocation, maximum: ProtocolVersionMax = "auto", **fields: Any) -> AttemptError:
    with pytest.raises(NoChoiceError) as caught:
        chosen(row, maximum, **fields)
    return caught.value.error


@pytest.mark.parametrize(
    ("lowest", "highest", "maximum", "expected"),
    [
        (5, 7, "auto", 6),
        (5, 7, 6, 6),
        (5, 7, 7, 7),
        (5, 5, "auto", 5),
        (1, 6, 7, 6),
        (7, 7, "auto", 7),
        (6, 9, 7, 7),
    ],
)
def test_the_highest_common_version_is_used(
    lowest: int, highest: int, maximum: ProtocolVersionMax, expected: int
) -> None:
    """service-protocol.md 0; design 3.4: auto is 6, unless the deployment needs 7."""
    choice = chosen(None, maximum, protocol_version_min=lowest, protocol_version_max=highest)
    assert choice.protocol_version == expected


@pytest.mark.parametrize(
    ("lowest", "highest", "maximum"), [(7, 7, 6), (1, 4, "auto"), (8, 9, "auto")]
)
def test_without_a_common_version_there_is_no_attempt(
    lowest: int, highest: int, maximum: ProtocolVersionMax
) -> None:
    """RT0013."""
    fields = {"protocol_version_min": lowest, "protocol_version_max": highest}
    error = refused(invocation(), maximum, **fields)
    assert error.restate_code == "RT0013"
    assert f"service protocol versions [{lowest}, {highest}] are incompatible" in error.message


def test_a_limit_key_needs_the_newest_version() -> None:
    """Design 3.4."""
    assert chosen(invocation(limit_key="l")).protocol_version == 7


def test_a_pinned_invocation_keeps_deployment_and_version() -> None:
    """service-protocol.md 4.7."""
    store = registered_store()
    register(store, deployment("dp_2"), revision=2)
    live = LiveCatalog()
    live.load(store)
    pinned = invocation(deployment_id="dp_1", protocol_version=5)
    choice = choose(live.current, pinned, "auto")
    assert (choice.deployment.id, choice.service.revision, choice.protocol_version) == (
        "dp_1", 1, 5,
    )  # fmt: skip
    newest = choose(live.current, invocation(), "auto")
    assert (newest.deployment.id, newest.service.revision) == ("dp_2", 2)


def test_a_pinned_deployment_that_is_gone_is_named() -> None:
    """admin.md 4.5: RT0011."""
    error = refused(invocation(deployment_id="dp_9", protocol_version=6))
    assert error.restate_code == "RT0011"
    assert "dp_9" in error.message


def test_an_unknown_service_has_no_deployment() -> None:
    """admin.md 4.5: RT0011."""
    error = refused(invocation(service="Nope"))
    assert error == AttemptError(500, "no deployment was found to process the invocation", "RT0011")


def test_a_pinned_version_that_we_do_not_speak() -> None:
    """RT0014."""
    error = refused(invocation(deployment_id="dp_1", protocol_version=4))
    assert error.restate_code == "RT0014"


@pytest.mark.parametrize(
    ("fields", "handler", "streams"),
    [
        ({}, "greet", True),
        ({}, "never_streams", False),
        ({"mode": "request_response"}, "greet", False),
        ({"transport": "http1"}, "greet", False),
        ({"transport": "lambda"}, "greet", False),
    ],
)
def test_only_bidirectional_requests_stay_open(
    fields: dict[str, Any], handler: str, streams: bool
) -> None:
    """service-protocol.md 2.2; design 3.4."""
    choice = chosen(invocation(handler=handler), **fields)
    assert choice.streams == streams
    assert request_for(choice, invocation(handler=handler)).streams == streams


def test_a_handler_that_a_revision_lost_is_asked_for() -> None:
    """The deployment answers, with the settings of its service."""
    choice = chosen(invocation(handler="gone"))
    assert choice.settings == choice.service.settings
    assert request_for(choice, invocation(handler="gone")).path == "/invoke/Greeter/gone"
