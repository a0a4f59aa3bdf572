"""Limit rules: one book of patterns and bounds, changed under preconditions.

Lives here: versions, preconditions, storing and removing several rules at once.
Does not: holding invocations back, which needs the feature `vqueues`; which texts are patterns
(admin/limits.py).
Rules: admin.md 10. The book counts its changes. A new rule starts with the next number of the
book, a changed one goes up by one; so no pattern ever has a version again that it had before.
"""

import msgspec

from restated.core.effects import Affected, Refused, Reply
from restated.core.events import (
    PutLimitRules,
    RemoveLimitRules,
    RuleChange,
    RulePrecondition,
    RuleVersion,
)
from restated.core.view import Step, next_number
from restated.model.errors import ErrorCode
from restated.model.records import Counter, LimitRule

RULES_MAX = 10_000
BOOK = "limit_rules"  # its counter


def on_put(step: Step, event: PutLimitRules) -> Reply:
    """Store all changes or none; those that change nothing keep their version.

    The reply has one row for each change, as it is after all of them.
    """
    book = step.get(Counter, BOOK)
    version_next = 1 if book is None else book.value + 1
    changed: dict[str, LimitRule] = {}
    for change in event.changes:
        stored = changed.get(change.pattern) or step.get(LimitRule, change.pattern)
        refused = _refused(change.pattern, change.precondition, stored)
        if refused is not None:
            return refused
        rule = _rule(change, stored, version_next, step.now_ms)
        if rule != stored:
            changed[change.pattern] = rule
    added = sum(1 for pattern in changed if step.get(LimitRule, pattern) is None)
    if added and added + sum(1 for _ in step.scan(LimitRule)) > RULES_MAX:
        return Refused(ErrorCode.TABLE_FULL, f"{RULES_MAX} limit rules")
    for rule in changed.values():
        step.put(rule)
    if changed:
        next_number(step, BOOK)
    return Affected(tuple(_stored(step, change.pattern) for change in event.changes))


def on_remove(step: Step, event: RemoveLimitRules) -> Reply:
    """Forget all rules of the list that are there, or none; a pattern without rule is no error.

    The reply has a row for each pattern that had a rule before, twice for one that stands twice.
    """
    found: list[LimitRule] = []
    gone: set[str] = set()
    for pattern, precondition in event.patterns:
        stored = step.get(LimitRule, pattern)
        refused = _refused(pattern, precondition, None if pattern in gone else stored)
        if refused is not None:
            return refused
        if stored is not None:
            found.append(stored)
            gone.add(pattern)
    for rule in found:
        step.delete(LimitRule, rule.pattern)
    if found:
        next_number(step, BOOK)
    return Affected(tuple(found))


def _rule(
    change: RuleChange, stored: LimitRule | None, version_next: int, now_ms: int
) -> LimitRule:
    """The rule as it shall be: `stored` itself when it says so already."""
    rule = LimitRule(
        pattern=change.pattern,
        version=version_next if stored is None else stored.version,
        disabled=int(change.disabled),
        modified_at_ms=now_ms if stored is None else stored.modified_at_ms,
        concurrency=change.concurrency,
        description=change.description,
    )
    if stored is None or rule == stored:
        return rule
    return msgspec.structs.replace(rule, version=stored.version + 1, modified_at_ms=now_ms)


def _refused(
    pattern: str, precondition: RulePrecondition, stored: LimitRule | None
) -> Refused | None:
    if precondition is None:
        return None
    if isinstance(precondition, RuleVersion):
        is_met = stored is not None and stored.version == precondition.version
        wanted = f"Matches(v{precondition.version})"
    else:
        is_met = stored is None
        wanted = "DoesNotExist"
    if is_met:
        return None
    actual = "None" if stored is None else f"Some(v{stored.version})"
    return Refused(
        ErrorCode.RULE_PRECONDITION,
        f"{wanted} for pattern {pattern} failed (actual version: {actual})",
    )


def _stored(step: Step, pattern: str) -> LimitRule:
    rule = step.get(LimitRule, pattern)
    assert rule is not None, "a rule that was put is there"
    return rule
