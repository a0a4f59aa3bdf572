"""Limit rules: versions and preconditions. Source: admin.md 10; the reference."""

from typing import Any

import pytest

from restated.core import limits
from restated.core.effects import Affected, Refused, Reply
from restated.core.events import (
    PutLimitRules,
    RemoveLimitRules,
    RuleAbsent,
    RuleChange,
    RuleVersion,
)
from restated.model.errors import ErrorCode
from restated.model.records import LimitRule
from tests.core.world import StepWorld


def rule(pattern: str, concurrency: int | None = None, **fields: Any) -> RuleChange:
    values = {"description": None, "disabled": False, **fields}
    return RuleChange(pattern, concurrency, **values)


def put(world: StepWorld, *changes: RuleChange) -> Reply:
    return world.apply(PutLimitRules(changes))


def versions(world: StepWorld) -> dict[str, int]:
    return {row.pattern: row.version for row in world.store.scan(LimitRule)}


def patterns(reply: Reply) -> list[tuple[str, int]]:
    assert isinstance(reply, Affected)
    rows = [row for row in reply.rows if isinstance(row, LimitRule)]
    return [(row.pattern, row.version) for row in rows]


def failed(reply: Reply) -> str:
    assert isinstance(reply, Refused)
    assert reply.code is ErrorCode.RULE_PRECONDITION
    return reply.code.message(reply.subject)


def test_new_rules_of_one_request_share_the_next_number_of_the_book(world: StepWorld) -> None:
    """10: one counter for the whole book."""
    assert patterns(put(world, rule("a"))) == [("a", 1)]
    assert patterns(put(world, rule("b", 1), rule("c", 2))) == [("b", 2), ("c", 2)]
    assert patterns(put(world, rule("d"))) == [("d", 3)]


def test_a_changed_rule_goes_up_by_one(world: StepWorld) -> None:
    """10: its own version, whatever the book's is."""
    put(world, rule("a"))
    put(world, rule("b"))
    world.now_ms += 7
    assert patterns(put(world, rule("a", 5, description="doors", disabled=True))) == [("a", 2)]
    row = world.store.get(LimitRule, "a")
    assert row == LimitRule("a", 2, 1, world.now_ms, 5, "doors")


def test_a_rule_that_stays_as_it_is_keeps_version_and_time(world: StepWorld) -> None:
    """10: repeating a request changes nothing."""
    put(world, rule("a", 5))
    before = world.store.get(LimitRule, "a")
    world.now_ms += 7
    assert patterns(put(world, rule("a", 5))) == [("a", 1)]
    assert world.store.get(LimitRule, "a") == before
    assert patterns(put(world, rule("b"))) == [("b", 2)]


def test_the_last_of_two_changes_of_a_pattern_counts_for_both_answers(world: StepWorld) -> None:
    """10: an answer has the rule as it is after all of the request."""
    assert patterns(put(world, rule("a", 1), rule("a", 2))) == [("a", 2), ("a", 2)]
    row = world.store.get(LimitRule, "a")
    assert row is not None
    assert row.concurrency == 2


def test_a_pattern_never_has_a_version_again(world: StepWorld) -> None:
    """10: whoever expects a version expects what he has seen."""
    put(world, rule("a", 1))
    put(world, rule("a", 2))
    world.apply(RemoveLimitRules((("a", None),)))
    assert patterns(put(world, rule("a", 3))) == [("a", 4)]


def test_a_failed_precondition_stops_the_whole_request(world: StepWorld) -> None:
    """10: 409 names what was wanted and what is."""
    put(world, rule("a", 1))
    absent = put(world, rule("b"), rule("a", 2, precondition=RuleAbsent()))
    wrong = put(world, rule("b"), rule("a", 2, precondition=RuleVersion(9)))
    nothing = put(world, rule("b", precondition=RuleVersion(9)))
    start = "rule precondition"
    assert failed(absent) == (
        f"{start} DoesNotExist for pattern a failed (actual version: Some(v1))"
    )
    assert failed(wrong) == f"{start} Matches(v9) for pattern a failed (actual version: Some(v1))"
    assert failed(nothing) == f"{start} Matches(v9) for pattern b failed (actual version: None)"
    assert versions(world) == {"a": 1}


def test_a_precondition_sees_what_the_request_did_before(world: StepWorld) -> None:
    """10: the second of two creations fails."""
    change = rule("a", precondition=RuleAbsent())
    assert "actual version: Some(v1)" in failed(put(world, change, change))
    assert versions(world) == {}


def test_preconditions_that_hold(world: StepWorld) -> None:
    """10: optimistic updates."""
    put(world, rule("a", precondition=RuleAbsent()))
    assert patterns(put(world, rule("a", 2, precondition=RuleVersion(1)))) == [("a", 2)]
    removed = world.apply(RemoveLimitRules((("a", RuleVersion(2)),)))
    assert patterns(removed) == [("a", 2)]


def test_only_patterns_that_were_there_are_told(world: StepWorld) -> None:
    """10: an unknown pattern is no error, unless a version is expected of it."""
    put(world, rule("a"), rule("b"))
    removed = world.apply(RemoveLimitRules((("a", None), ("x", None), ("a", None))))
    assert [pattern for pattern, _ in patterns(removed)] == ["a", "a"]
    assert versions(world) == {"b": 1}
    expected = world.apply(RemoveLimitRules((("b", RuleVersion(1)), ("b", RuleVersion(1)))))
    assert "pattern b failed (actual version: None)" in failed(expected)
    assert versions(world) == {"b": 1}


def test_the_book_takes_no_more_than_its_bound(
    world: StepWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything has a limit; changing what is there is always possible."""
    monkeypatch.setattr(limits, "RULES_MAX", 2)
    put(world, rule("a"), rule("b"))
    assert put(world, rule("a", 2), rule("c")) == Refused(ErrorCode.TABLE_FULL, "2 limit rules")
    assert patterns(put(world, rule("a", 2))) == [("a", 2)]
