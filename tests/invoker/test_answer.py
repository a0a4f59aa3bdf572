"""The head of an answer, and the end of its stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.invoker.answer import retry_after_ms
from tests.invoker.attempt_world import AttemptWorld, sleep
from tests.invoker.messages_of import END, OUTPUT, invocation


def test_the_request_has_the_headers_of_the_protocol() -> None:
    """service-protocol.md 2.1; the transport adds the rest."""
    row = invocation(
        service="Counter", object_key="k 1/ä", handler="add", service_type="virtual_object",
        handler_type="exclusive",
    )  # fmt: skip
    world = AttemptWorld(row)
    assert world.peer.request.path == "/invoke/Counter/add"
    assert world.peer.request.headers == (
        ("content-type", "application/vnd.restate.invocation.v6"),
        ("accept", "application/vnd.restate.invocation.v6"),
        ("x-restate-invocation-id", row.id),
        ("x-restate-service-key", "k%201%2F%C3%A4"),
    )


GOOD = ("content-type", "application/vnd.restate.invocation.v6")


@pytest.mark.parametrize(
    ("status", "headers", "code", "restate_code", "text", "delay_ms"),
    [
        (502, (), 500, "RT0010", "service is temporary unavailable '502 Bad Gateway'", None),
        (504, (), 500, "RT0010", "service is temporary unavailable '504 Gateway Timeout'", None),
        (
            429, (("retry-after", "1"),), 500, "RT0023",
            "service is rate limited due to '429 Too Many Requests' (retry after: 1 seconds)",
            1_000,
        ),
        (503, (), 500, "RT0023", "service is rate limited due to '503 Service Unavailable'", None),
        (
            415, (GOOD,), 415, "RT0015",
            "cannot start the invocation because the SDK doesn't support the protocol version '6' "
            "negotiated at discovery time",
            None,
        ),
        (413, (), 500, "RT0019", "service replied with content too large", None),
        (
            500, (GOOD,), 500, "RT0012",
            "unexpected http status code: 500 Internal Server Error", None,
        ),
        (404, (), 500, "RT0012", "unexpected http status code: 404 Not Found", None),
        (301, (), 500, "RT0012", "unexpected http status code: 301 Moved Permanently", None),
    ],
)  # fmt: skip
def test_other_statuses_fail_the_attempt(
    status: int, headers: tuple[tuple[str, str], ...], code: int, restate_code: str, text: str,
    delay_ms: int | None,
) -> None:  # fmt: skip
    """service-protocol.md 2.1."""
    world = AttemptWorld()
    world.peer.respond(status, headers)
    world.deliver()
    failure = world.failure()
    assert (failure.error.code, failure.error.restate_code) == (code, restate_code)
    assert failure.error.message == text
    assert failure.retry_after_ms == delay_ms
    assert world.peer.is_ended


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("content-type", "text/html"),),
        (("content-type", GOOD[1] + "; charset=utf-8"),),
        (("content-type", "application/vnd.restate.invocation.v5"),),
    ],
)
def test_a_wrong_content_type_fails_the_attempt(headers: tuple[tuple[str, str], ...]) -> None:
    """service-protocol.md 2.1: byte-equal to the requested one, no parameters."""
    world = AttemptWorld()
    world.peer.respond(200, headers)
    world.deliver()
    assert world.failure().error.restate_code == "RT0012"
    assert world.failure().error.message.startswith("unexpected content type")


def test_any_success_is_accepted() -> None:
    """service-protocol.md, supplement 2.1: 202 too."""
    world = AttemptWorld()
    world.peer.respond(202, (GOOD, ("x-restate-server", "sdk/1")))
    world.answer(OUTPUT + END)
    assert world.writer.kinds == ["DeploymentPinned", "CommandReceived", "AttemptEnded"]
    assert world.attempt.server == "sdk/1"


def test_a_failed_connection_fails_the_attempt() -> None:
    """service-protocol.md 2.1: RT0010, or what the transport knows better."""
    world = AttemptWorld()
    world.peer.fail("connection refused", "RT0010")
    world.deliver()
    error = world.failure().error
    assert (error.message, error.restate_code) == ("connection refused", "RT0010")
    assert world.closed == [world.attempt]


@pytest.mark.parametrize("data", [b"", OUTPUT, OUTPUT[:5], sleep(1)])
def test_a_stream_without_a_terminal_message_fails_the_attempt(data: bytes) -> None:
    """service-protocol.md 2.1: also in the middle of a message or after Output."""
    world = AttemptWorld()
    world.peer.write(data)
    world.peer.finish()
    world.deliver()
    error = world.failure().error
    assert (error.code, error.message, error.restate_code) == (500, "unknown", "RT0007")


@pytest.mark.parametrize(
    ("status", "value", "expected"),
    [
        (429, "0", 0),
        (503, " 7 ", 7_000),
        (429, "9" * 400, 1 << 62),
        (429, "Wed, 15 Nov 2023 00:00:00 GMT", 1_700_006_399_000),
        (429, "soon", None),
        (429, "-1", None),
        (429, "\u0661", None),
        (500, "7", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(status: int, value: str, expected: int | None) -> None:
    """C68; a date in the past is now, anything unreadable is no wish."""
    assert retry_after_ms(status, (("retry-after", value),), 1_000) == expected


@given(st.text(max_size=60), st.integers(0, 1 << 42))
def test_any_retry_after_is_read_or_ignored(value: str, now_ms: int) -> None:
    """A header of a peer never raises and never asks for a negative delay."""
    delay = retry_after_ms(429, (("retry-after", value),), now_ms)
    assert delay is None or delay >= 0
