"""Input rules, output content types, restricted values (ingress.md 7, 8, 18)."""

import pytest

from restated.ingress.inputs import check_input, output_content_type, parse_limit_key
from restated.ingress.paths import RequestError
from restated.model.services import Payload

JSON = "application/json"
NOTHING = "Expected body and content-type to be empty, but wasn't with content-type '{}'"
MISMATCH = "Content-type '{}' does not match '{}'"


@pytest.mark.parametrize(
    ("rules", "content_type", "body", "problem"),
    [
        (None, None, b"", None),
        (None, "odd", b"x", None),
        (None, None, b"x", "Empty content-type"),
        (Payload(), None, b"", None),
        (Payload(), "a\tb", b"", NOTHING.format('Some("a\\tb")')),
        (Payload(), None, b"x", NOTHING.format("None")),
        (Payload(content_type=JSON), None, b"", None),
        (Payload(content_type=JSON), JSON, b"", None),
        (Payload(content_type=JSON, schema=b"true"), None, b"", None),
        (Payload(content_type=JSON, schema=b"true"), JSON, b"", "Empty body not allowed"),
        (Payload(content_type=JSON, schema=b"true"), JSON, b"{bad", None),
        (Payload(required=True, content_type=JSON), None, b"", "Empty content-type"),
        (Payload(required=True, content_type=JSON), JSON, b"", None),
        (Payload(required=True), JSON, b"1", "Bad configuration of the input validation rules"),
        (Payload(content_type="text/*"), "text/html;x=y", b"", None),
        (Payload(content_type="text/*"), "text", b"", MISMATCH.format("text", "text/*")),
        (Payload(content_type=JSON), " application/json ;x", b"1", None),
        (Payload(content_type=JSON), "Application/json", b"1",
         MISMATCH.format("Application/json", JSON)),
    ],
)  # fmt: skip
def test_a_request_meets_one_rule_or_learns_why_not(
    rules: Payload | None, content_type: str | None, body: bytes, problem: str | None
) -> None:
    """ingress.md 7."""
    if problem is None:
        check_input(rules, content_type, body)
        return
    with pytest.raises(RequestError) as refused:
        check_input(rules, content_type, body)
    assert refused.value.message == f"input validation error: {problem}"


@pytest.mark.parametrize(
    ("rules", "body", "content_type"),
    [
        (None, b"1", JSON),
        (None, b"", None),
        (Payload(), b"1", None),
        (Payload(content_type="a/b"), b"1", "a/b"),
        (Payload(content_type="a/b"), b"", None),
        (Payload(content_type="a/b", set_content_type_if_empty=True), b"", "a/b"),
    ],
)
def test_the_content_type_of_an_answer_follows_the_manifest(
    rules: Payload | None, body: bytes, content_type: str | None
) -> None:
    """ingress.md 8."""
    assert output_content_type(rules, body) == content_type


@pytest.mark.parametrize(
    ("text", "key"), [("", None), ("a", "a"), ("a/", "a"), ("a/b", "a/b"), ("a/b/", "a/b")]
)
def test_a_limit_key_has_at_most_two_parts(text: str, key: str | None) -> None:
    """ingress.md 18."""
    assert parse_limit_key(text) == key
