"""Limit rules and virtual queues over HTTP. Source: admin.md 10; the reference."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.admin.limits import (
    BATCH_RULES_MAX,
    DESCRIPTION_CHARS_MAX,
    PatternError,
    parse_pattern,
)
from tests.admin.world import AdminWorld, run_admin

ALLOWED = "invalid component: value contains characters outside the allowed set [a-zA-Z0-9_.-]"
EMPTY = "invalid component: value cannot be empty"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("*", "*"), ("a", "a"), ("a/", "a"), ("*/", "*"), ("a/*", "a/*"), ("*/a", "*/a"),
        ("a/b/c", "a/b/c"), ("a/b/c/", "a/b/c"), ("*/*/*", "*/*/*"), ("A_b-c.d", "A_b-c.d"),
        ("a" * 36, "a" * 36),
    ],
)  # fmt: skip
def test_patterns_have_up_to_three_components(text: str, pattern: str) -> None:
    """10: a slash at the end is no component."""
    assert parse_pattern(text) == pattern


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "pattern cannot be empty"), ("/", EMPTY), ("a//", EMPTY), ("/a", EMPTY),
        ("a//b", EMPTY), ("a b", ALLOWED), ("a*", ALLOWED), ("**", ALLOWED), ("é", ALLOWED),
        ("a/b/c/d", "too many path components (max 3)"),
        ("a/b/c//", "too many path components (max 3)"),
        ("a" * 37, "invalid component: value too long: 37 bytes (max 36)"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_pattern(text: str, reason: str) -> None:
    """10: 422."""
    with pytest.raises(PatternError) as caught:
        parse_pattern(text)
    assert str(caught.value) == reason


@given(st.text())
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    """What is read is read alike again."""
    try:
        pattern = parse_pattern(text)
    except PatternError:
        return
    assert parse_pattern(pattern) == pattern


def test_a_rule_is_stored_changed_and_removed() -> None:
    """10: the answer has what was stored."""

    async def body(world: AdminWorld) -> None:
        first = [{"pattern": "a/", "limits": {"concurrency": 3}, "description": "doors"}]
        stored = (await world.client.put("/limits/rules", json=first)).json()
        at_ms = stored[0].pop("last_modified_millis_since_epoch")
        assert at_ms == world.clock.wall_ms()
        assert stored == [
            {
                "pattern": "a", "limits": {"concurrency": 3}, "description": "doors",
                "disabled": False, "version": 1,
            }
        ]  # fmt: skip
        second = [
            {
                "pattern": "a",
                "disabled": True,
                "precondition": {"type": "matches", "version": 1},
            }
        ]
        changed = (await world.client.put("/limits/rules", json=second)).json()
        assert changed[0] | {"last_modified_millis_since_epoch": 0} == {
            "pattern": "a", "limits": {}, "disabled": True, "version": 2,
            "last_modified_millis_since_epoch": 0,
        }  # fmt: skip
        refused = await world.client.put("/limits/rules", json=second)
        assert refused.status_code == 409
        removal = [{"pattern": "a", "expected_version": 2}, {"pattern": "b"}]
        removed = await world.client.post("/limits/rules/bulk-delete", json=removal)
        assert removed.json() == ["a"]

    run_admin(body)


@pytest.mark.parametrize(
    ("members", "status", "text"),
    [
        ([{"pattern": "a b"}], 422, f"[0].pattern: {ALLOWED}"),
        ([{"pattern": "a"}, {"limits": {}}], 422, "[1]: missing field `pattern`"),
        ([{"pattern": "a", "limits": {"concurrency": 0}}], 422, "[0].limits.concurrency: "),
        ([{"pattern": "a", "limits": {"concurrency": 1 << 32}}], 422, "[0].limits.concurrency: "),
        ([{"pattern": "a", "disabled": None}], 422, "[0].disabled: "),
        ([{"pattern": "a", "precondition": {"type": "x"}}], 422, "[0].precondition.type: "),
        ([{"pattern": "a", "precondition": {"type": "matches"}}], 422, "[0].precondition: missing"),
        (
            [{"pattern": "a", "description": "x" * (DESCRIPTION_CHARS_MAX + 1)}], 422,
            "[0].description: ",
        ),
        ({}, 422, "Expected `array`"),
        (
            [{"pattern": "a"}] * (BATCH_RULES_MAX + 1), 400,
            "Batch size 1001 exceeds maximum allowed size of 1000",
        ),
    ],
)  # fmt: skip
def test_rules_that_are_none(members: Any, status: int, text: str) -> None:
    """10: nothing is stored of a request with a mistake."""

    async def body(world: AdminWorld) -> None:
        response = await world.client.put("/limits/rules", json=members)
        assert response.status_code == status
        assert text in response.text

    run_admin(body)


VQUEUES = [
    ("vq_1gZbYELoPJeA4d6CzgmPAIk37Q8Tuxc3Fq", None),
    ("vq_1000000000000000000000000000000000", None),
    ("xx", "bad format"),
    ("vq_", "bad length"),
    ("vq_1" + "A" * 32, "bad length"),
    ("vq_1" + "a" * 34, "bad length"),
    ("vq_1" + "-" * 33, "base62 decode error"),
    ("vq_2abc", "unrecognized codec version"),
    ("inv_1gZbYELoPJeA4d6CzgmPAIk37Q8Tuxc3Fq", "id doesn't match the expected type"),
    ("vqueue_1abc", "unrecognized resource type: vqueue"),
]


@pytest.mark.parametrize(("vqueue_id", "reason"), VQUEUES)
@pytest.mark.parametrize("operation", ["pause", "resume"])
def test_ids_of_virtual_queues(operation: str, vqueue_id: str, reason: str | None) -> None:
    """10: 202 for any that could be one; 400 otherwise."""

    async def body(world: AdminWorld) -> None:
        response = await world.client.post(f"/vqueues/{vqueue_id}/{operation}")
        refused = f"The request field 'vqueue_id' is invalid. Reason: {reason}"
        expected = (202, None) if reason is None else (400, refused)
        shown = response.json()["message"] if response.content else None
        assert (response.status_code, shown) == expected

    run_admin(body)
