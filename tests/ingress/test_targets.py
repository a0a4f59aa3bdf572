"""JSON bodies that name an invocation; the recorded forms are in test_recorded.py."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.ingress.paths import RequestError
from restated.ingress.targets import parse_target, workflow_id


def refusal(body: bytes) -> str:
    """Why a body is refused."""
    with pytest.raises(RequestError) as refused:
        parse_target(body, is_lookup=False)
    return refused.value.message.removeprefix("cannot read body: invalid request body: ")


def test_null_is_absent_where_a_field_may_be() -> None:
    """ingress.md 13."""
    body = b'{"workflowKey":"k","x":1,"scope":null,"target":"workflow","workflowName":"W"}'
    assert parse_target(body, is_lookup=True) == workflow_id("W", "k")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[" * 100_000, "recursion limit exceeded"),
        (b'{"target":' + b"1" * 5_000 + b"}", "number out of range"),
        (b"[]", "invalid type: sequence, expected internally tagged enum at line 1 column 2"),
        (b'{"target":"workflow","workflowName":"\\ud800","workflowKey":""}',
         "lone leading surrogate in hex escape"),
        (b'{"target":"workflow","workflowName":null,"workflowKey":""}',
         "invalid type: null, expected a string"),
        (b'{\n"target":"x"}', "unknown variant `x`, expected one of `workflow`, "
         "`idempotentInvocation`, `invocation` at line 2 column 12"),
    ],
)  # fmt: skip
def test_hostile_bodies_are_refused(body: bytes, why: str) -> None:
    """N1, N5, N7."""
    assert refusal(body) == why


@given(st.binary(max_size=100) | st.text(alphabet='{}[]",:target\\ud80workflow', max_size=60))
def test_no_body_does_anything_but_name_or_be_refused(body: bytes | str) -> None:
    """N1."""
    octets = body.encode() if isinstance(body, str) else body
    with suppress(RequestError):
        assert parse_target(octets, is_lookup=False).startswith("inv_1")
