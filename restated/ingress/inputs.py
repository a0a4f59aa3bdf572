"""What a handler accepts and what its answers look like.

Lives here: input rules, the content type of outputs, restricted values (scopes, limit keys).
Does not: read requests (respond.py), check JSON or schemas: the handler does (ingress.md 7).
"""

import re
from typing import Final

from restated.ingress.paths import RequestError
from restated.model.errors import IngressError
from restated.model.services import Payload

RESTRICTED_BYTES_MAX: Final = 36
LIMIT_KEY_PARTS_MAX: Final = 2
ANY: Final = "*/*"
QUOTED: Final = {
    '"': '\\"', "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0",
}  # fmt: skip
_RESTRICTED: Final = re.compile(r"[a-zA-Z0-9_.-]+")


def check_input(rules: Payload | None, content_type: str | None, body: bytes) -> None:
    """Raise RequestError unless at least one rule is met; the last rule's text is the reason."""
    problem = _problem(rules, content_type, body)
    if problem is not None:
        raise RequestError(IngressError.BAD_INPUT, problem)


def output_content_type(rules: Payload | None, body: bytes) -> str | None:
    """The content type of a successful answer; None for no header (ingress.md 8)."""
    if rules is None:
        return "application/json" if body else None
    if body or rules.set_content_type_if_empty:
        return rules.content_type
    return None


def restricted_problem(value: str) -> str | None:
    """Why `value` is no scope or part of a limit key; None if it is one."""
    count = len(value.encode())
    if count == 0:
        return "value cannot be empty"
    if count > RESTRICTED_BYTES_MAX:
        return f"value too long: {count} bytes (max {RESTRICTED_BYTES_MAX})"
    if _RESTRICTED.fullmatch(value) is None:
        return "value contains characters outside the allowed set [a-zA-Z0-9_.-]"
    return None


def parse_limit_key(value: str) -> str | None:
    """A limit key without its optional trailing slash; None for none; raises RequestError."""
    if not value:
        return None
    parts = value.split("/")
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    if len(parts) > LIMIT_KEY_PARTS_MAX:
        problem = f"too many path components in the given limit-key (max {LIMIT_KEY_PARTS_MAX})"
        raise RequestError(IngressError.BAD_LIMIT_KEY, problem)
    for part in parts:
        reason = restricted_problem(part)
        if reason is not None:
            problem = f"invalid limit-key component: {reason}"
            raise RequestError(IngressError.BAD_LIMIT_KEY, problem)
    return "/".join(parts)


def _problem(rules: Payload | None, content_type: str | None, body: bytes) -> str | None:
    """The table of ingress.md 7, row by row."""
    is_nothing = not body and content_type is None
    if rules is None:
        return None if is_nothing else _content_type_problem(ANY, content_type)
    if rules.content_type is None:
        if rules.required:
            return "Bad configuration of the input validation rules"
        return None if is_nothing else _not_nothing(content_type)
    if is_nothing and not rules.required:
        return None
    problem = _content_type_problem(rules.content_type, content_type)
    if problem is None and rules.schema is not None and not body:
        return "Empty body not allowed"
    return problem


def _not_nothing(content_type: str | None) -> str:
    shown = "None" if content_type is None else f"Some({rust_quoted(content_type)})"
    return f"Expected body and content-type to be empty, but wasn't with content-type '{shown}'"


def _content_type_problem(expected: str, content_type: str | None) -> str | None:
    if content_type is None:
        return "Empty content-type"
    if _matches(expected, content_type):
        return None
    return f"Content-type '{content_type}' does not match '{expected}'"


def _matches(expected: str, content_type: str) -> bool:
    if expected in (ANY, content_type):
        return True
    kind, slash, subtype = content_type.partition(";")[0].strip().partition("/")
    if not slash:
        return False
    expected_kind, _, expected_subtype = expected.partition("/")
    return kind == expected_kind and expected_subtype in ("*", subtype)


def rust_quoted(text: str) -> str:
    """Text in double quotes with escapes, as the reference's messages show it."""
    shown = [
        QUOTED.get(character)
        or (character if character.isprintable() else f"\\x{ord(character):02x}")
        for character in text
    ]
    return '"' + "".join(shown) + '"'
