"""Limit rules and virtual queues.

Lives here: bodies of both directions, which texts are patterns.
Does not: versions and preconditions (core/limits.py); effects of a rule or of pausing a queue,
which need the feature `vqueues`, off here as in the reference.
Source: admin.md 10. Rules are listed by SQL only (`sys_rules`).
"""

import re
from typing import Annotated, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from restated.admin.exchange import (
    RequestError,
    answer,
    deps_of,
    empty,
    failure,
    json_body,
    refusal,
    unfit,
)
from restated.core.effects import Affected, Refused
from restated.core.events import (
    PutLimitRules,
    RemoveLimitRules,
    RuleAbsent,
    RuleChange,
    RulePrecondition,
    RuleVersion,
)
from restated.model import ids
from restated.model.records import LimitRule

BATCH_RULES_MAX: Final = 1_000
PATTERN_COMPONENTS_MAX: Final = 3  # scope and two levels of limit keys
COMPONENT_BYTES_MAX: Final = 36
DESCRIPTION_CHARS_MAX: Final = 16_384
WILDCARD: Final = "*"
_COMPONENT: Final = re.compile(r"[a-zA-Z0-9_.-]+")
_ALLOWED: Final = "value contains characters outside the allowed set [a-zA-Z0-9_.-]"

U32 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
Description = Annotated[str, msgspec.Meta(max_length=DESCRIPTION_CHARS_MAX)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The bounds of a rule; absent is none."""

    concurrency: Annotated[int, msgspec.Meta(ge=1, le=(1 << 32) - 1)] | None = None


class AnyRule(msgspec.Struct, frozen=True, tag_field="type", tag="none"):
    """No precondition."""


class NoRule(msgspec.Struct, frozen=True, tag_field="type", tag="does_not_exist"):
    """There must be no rule with the pattern."""


class RuleOfVersion(msgspec.Struct, frozen=True, tag_field="type", tag="matches"):
    """The rule must have this version."""

    version: U32


class RuleBody(msgspec.Struct, frozen=True, kw_only=True):
    """A rule to store."""

    pattern: str
    limits: Limits = Limits()
    description: Description | None = None
    disabled: bool = False
    precondition: AnyRule | NoRule | RuleOfVersion = AnyRule()


class RuleRemoval(msgspec.Struct, frozen=True, kw_only=True):
    """A rule to forget."""

    pattern: str
    expected_version: U32 | None = None


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A stored rule."""

    pattern: str
    limits: Limits
    description: str | msgspec.UnsetType = msgspec.UNSET
    disabled: bool
    version: int
    last_modified_millis_since_epoch: int


class PatternError(ValueError):
    """A text is no pattern; the message is the reason users see."""


async def put_rules(request: Request) -> Response:
    """Store rules, all of them or none."""
    asked = await json_body(request, list[RuleBody])
    _check_size(len(asked))
    changes = tuple(
        RuleChange(
            pattern=_pattern_at(place, rule.pattern),
            concurrency=rule.limits.concurrency,
            description=rule.description,
            disabled=rule.disabled,
            precondition=_precondition(rule),
        )
        for place, rule in enumerate(asked)
    )
    rows = await _affected(request, PutLimitRules(changes))
    return answer([_shown(row) for row in rows])


async def remove_rules(request: Request) -> Response:
    """Forget rules, all of them or none; the patterns of those that were there."""
    asked = await json_body(request, list[RuleRemoval])
    _check_size(len(asked))
    patterns = tuple(
        (
            _pattern_at(place, removal.pattern),
            None if removal.expected_version is None else RuleVersion(removal.expected_version),
        )
        for place, removal in enumerate(asked)
    )
    rows = await _affected(request, RemoveLimitRules(patterns))
    return answer([row.pattern for row in rows])


async def pause_vqueue(request: Request) -> Response:
    """Pause a virtual queue: there are none while the feature is off, so nothing happens."""
    return _checked_vqueue(request)


async def resume_vqueue(request: Request) -> Response:
    """Resume a virtual queue, see `pause_vqueue`."""
    return _checked_vqueue(request)


def parse_pattern(text: str) -> str:
    """A pattern without its optional slash at the end; raises `PatternError`.

    Up to three components between slashes, each a wildcard or a value.
    """
    if not text:
        raise PatternError("pattern cannot be empty")
    components = text.split("/")
    if len(components) > 1 and not components[-1]:
        components.pop()
    if len(components) > PATTERN_COMPONENTS_MAX:
        raise PatternError(f"too many path components (max {PATTERN_COMPONENTS_MAX})")
    for component in components:
        reason = None if component == WILDCARD else _misfit(component)
        if reason is not None:
            raise PatternError(f"invalid component: {reason}")
    return "/".join(components)


def _misfit(component: str) -> str | None:
    if not component:
        return "value cannot be empty"
    size = len(component.encode())
    if size > COMPONENT_BYTES_MAX:
        return f"value too long: {size} bytes (max {COMPONENT_BYTES_MAX})"
    return None if _COMPONENT.fullmatch(component) else _ALLOWED


def _pattern_at(place: int, text: str) -> str:
    try:
        return parse_pattern(text)
    except PatternError as error:
        raise unfit(str(error), f"[{place}].pattern") from error


def _check_size(count: int) -> None:
    if count > BATCH_RULES_MAX:
        message = f"Batch size {count} exceeds maximum allowed size of {BATCH_RULES_MAX}"
        raise RequestError(failure(400, message))


def _precondition(rule: RuleBody) -> RulePrecondition:
    if isinstance(rule.precondition, RuleOfVersion):
        return RuleVersion(rule.precondition.version)
    return RuleAbsent() if isinstance(rule.precondition, NoRule) else None


async def _affected(request: Request, event: PutLimitRules | RemoveLimitRules) -> list[LimitRule]:
    reply = await deps_of(request).writer.submit(event)
    if isinstance(reply, Refused):
        raise RequestError(refusal(reply))
    assert isinstance(reply, Affected)
    return [row for row in reply.rows if isinstance(row, LimitRule)]


def _shown(rule: LimitRule) -> RuleView:
    return RuleView(
        pattern=rule.pattern,
        limits=Limits(concurrency=rule.concurrency),
        description=msgspec.UNSET if rule.description is None else rule.description,
        disabled=bool(rule.disabled),
        version=rule.version,
        last_modified_millis_since_epoch=rule.modified_at_ms,
    )


def _checked_vqueue(request: Request) -> Response:
    try:
        ids.parse_vqueue_id(str(request.path_params["vqueue_id"]))
    except ids.IdError as error:
        message = f"The request field 'vqueue_id' is invalid. Reason: {error}"
        return failure(400, message)
    return empty(202)
