"""The JSON bodies that name an invocation: attach, output, lookup.

Lives here: the three forms, the error texts of malformed ones.
Does not: look an invocation up (retrieve.py). Source: ingress.md 13.
"""

import json
import re
from typing import Final

from restated.ingress.inputs import restricted_problem
from restated.ingress.paths import RequestError
from restated.model import ids
from restated.model.errors import IngressError

FIELDS: Final[dict[str, tuple[tuple[str, bool], ...]]] = {  # by target: name, required
    "workflow": (("workflowName", True), ("workflowKey", True), ("scope", False)),
    "idempotentInvocation": (
        ("service", True), ("key", False), ("handler", True), ("idempotencyKey", True),
        ("scope", False),
    ),
    "invocation": (("invocationId", True),),
}  # fmt: skip
_TAG: Final = re.compile(r'"target"\s*:\s*"(?:[^"\\]|\\.)*"')
_SYNTAX: Final = {  # json's words: serde's
    "Expecting property name enclosed in double quotes": "key must be a string",
    "Illegal trailing comma before end of object": "trailing comma",
    "Expecting ':' delimiter": "expected `:`",
    "Expecting ',' delimiter": "expected `,` or `}`",
    "Unterminated string starting at": "EOF while parsing a string",
    "Extra data": "trailing characters",
}

Pairs = list[tuple[str, object]]


class _BodyError(Exception):
    """The body names no invocation; the message is serde's."""


class _Duplicates(list[tuple[str, object]]):
    """The members of an object in order, repeated ones too."""


def parse_target(body: bytes, *, is_lookup: bool) -> str:
    """The id of the invocation that a body names, computed or given; raises RequestError."""
    try:
        kind, fields = _parse(body)
    except _BodyError as error:
        place = "lookup" if is_lookup else "request"
        problem = f"invalid {place} body: {error}"
        raise RequestError(IngressError.BAD_BODY, problem) from None
    if kind == "invocation":
        return canonical_id(fields["invocationId"] or "")
    scope = fields["scope"]
    if scope is not None:
        reason = restricted_problem(scope)
        if reason is not None:
            raise RequestError(IngressError.BAD_SCOPE, reason)
    if kind == "workflow":
        return workflow_id(fields["workflowName"] or "", fields["workflowKey"] or "", scope or "")
    return idempotent_id(
        service=fields["service"] or "",
        key=fields["key"],
        handler=fields["handler"] or "",
        idempotency_key=fields["idempotencyKey"] or "",
        scope=scope or "",
    )


def canonical_id(text: str) -> str:
    """An invocation id from outside, parsed and written again; raises RequestError."""
    try:
        return ids.invocation_id_of_raw(ids.raw_invocation_id(text))
    except ids.IdError as error:
        raise RequestError(IngressError.BAD_INVOCATION_ID, text, str(error)) from None


def workflow_id(workflow: str, key: str, scope: str = "") -> str:
    """The id of a workflow's run."""
    return ids.invocation_id_for(
        service=workflow,
        handler="run",
        handler_type="workflow",
        key=key,
        scope=scope,
        idempotency_key=None,
        now_ms=0,
        entropy=bytes(ids.INVOCATION_ENTROPY_BYTES),
    )


def idempotent_id(
    *, service: str, key: str | None, handler: str, idempotency_key: str, scope: str = ""
) -> str:
    """The id of an invocation with an idempotency key."""
    return ids.invocation_id_for(
        service=service,
        handler=handler,
        handler_type="shared",
        key=key,
        scope=scope,
        idempotency_key=idempotency_key,
        now_ms=0,
        entropy=bytes(ids.INVOCATION_ENTROPY_BYTES),
    )


def _parse(body: bytes) -> tuple[str, dict[str, str | None]]:
    text = body.decode(errors="replace")
    members = _members(text)
    tags = [value for name, value in members if name == "target"]
    end = _place(text, len(text.rstrip()))
    if not tags:
        raise _BodyError(f"missing field `target` at {end}")
    if len(tags) > 1:
        raise _BodyError(f"duplicate field `target` at {end}")
    kind = tags[0]
    if not isinstance(kind, str):
        raise _BodyError(f"invalid type: {_shown(kind)}, expected variant identifier at {end}")
    if kind not in FIELDS:
        tag = _TAG.search(text)
        place = end if tag is None else _place(text, tag.end())
        known = ", ".join(f"`{name}`" for name in FIELDS)
        raise _BodyError(f"unknown variant `{kind}`, expected one of {known} at {place}")
    return kind, _checked(kind, members)


def _checked(kind: str, members: Pairs) -> dict[str, str | None]:
    fields: dict[str, str | None] = {}
    required = dict(FIELDS[kind])
    for name, value in members:
        if name not in required:
            continue
        if name in fields:
            raise _BodyError(f"duplicate field `{name}`")
        if not isinstance(value, str) and (required[name] or value is not None):
            raise _BodyError(f"invalid type: {_shown(value)}, expected a string")
        if isinstance(value, str) and not _is_unicode(value):
            raise _BodyError("lone leading surrogate in hex escape")
        fields[name] = value if isinstance(value, str) else None
    for name, is_required in required.items():
        if is_required and name not in fields:
            raise _BodyError(f"missing field `{name}`")
        fields.setdefault(name, None)
    return fields


def _members(text: str) -> Pairs:
    if not text.strip():
        place = "line 1 column 0" if not text else _place(text, len(text))
        raise _BodyError(f"EOF while parsing a value at {place}")
    try:
        value = json.loads(text, object_pairs_hook=_Duplicates)
    except json.JSONDecodeError as error:
        words = _SYNTAX.get(error.msg, "expected value")
        if error.pos >= len(text):
            words = "EOF while parsing an object"
        raise _BodyError(f"{words} at {_place(text, error.pos + 1)}") from None
    except RecursionError:
        raise _BodyError("recursion limit exceeded") from None
    except ValueError:  # an integer of thousands of digits
        raise _BodyError("number out of range") from None
    if isinstance(value, _Duplicates):
        return value
    raise _BodyError(
        f"invalid type: {_shown(value)}, expected internally tagged enum at "
        f"{_place(text, len(text.rstrip()))}"
    )


def _is_unicode(text: str) -> bool:
    """Half a surrogate pair can be escaped in JSON, but is no text (N7)."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _place(text: str, end: int) -> str:
    before = text[:end]
    line = before.count("\n") + 1
    return f"line {line} column {len(before.rpartition(chr(10))[2].encode())}"


def _shown(value: object) -> str:
    """A JSON value of the wrong type, as serde names it."""
    match value:
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value}`"
        case str():
            return f'string "{value}"'
        case None:
            return "null"
        case _Duplicates():
            return "map"
        case _:
            return "sequence"
