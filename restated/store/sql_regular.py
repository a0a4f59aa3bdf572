r"""Regular expressions of SQL.

Lives here: `REGULAR_FUNCTIONS`, over RE2.
Does not: the operators `~`, `~*` and their like (sql_expressions.py), LIKE (SQLite's).

RE2, because its time is linear in the text whatever the pattern: Python's `re` backtracks, holds
the interpreter while it does, and would take the statements of all other clients with it. RE2 also
knows what DataFusion's knows and refuses what it refuses (look-around, back-references). Where it
would mean ASCII by `\d`, `\w` and `\s`, all of Unicode is written instead; `\b` is ASCII, and a
repetition counts to 1000.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec
import re2

from restated.store.sql_calendar import SqlValueError, Value
from restated.store.sql_function import Function, check_elements, check_length, unless_null

PATTERN_CHARACTERS_MAX: Final = 10_000
COMPILED_MAX: Final = 128

_FLAGS: Final = frozenset("imsUx")
_REFERENCE: Final = re.compile(r"\$(?:\$|\{(?P<braced>\w+)\}|(?P<plain>[0-9A-Za-z_]+))")
_TOKEN: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|.", re.DOTALL)
_CLASSES: Final = {
    r"\d": r"\p{Nd}", r"\D": r"\P{Nd}", r"\w": r"[\p{L}\p{M}\p{N}_]", r"\W": r"[^\p{L}\p{M}\p{N}_]",
    r"\s": r"[\s\p{Z}]", r"\S": r"[^\s\p{Z}]",
}  # fmt: skip
_INSIDE: Final = {r"\d": r"\p{Nd}", r"\w": r"\p{L}\p{M}\p{N}_", r"\s": r"\s\p{Z}"}
_SPACE: Final = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|(?P<space>\s+|#[^\n]*)", re.DOTALL)


@lru_cache(maxsize=COMPILED_MAX)
def _compiled(pattern: str, flags: str) -> Any:  # noqa: ANN401 - re2 has no types
    """The pattern with its flags; SqlValueError when it is none."""
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise SqlValueError("Resources exhausted: the regular expression is too long")
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = "i" not in flags
    if set(flags) - _FLAGS:
        raise SqlValueError(f"Execution error: Regular expression did not compile: flags '{flags}'")
    written = pattern
    if "x" in flags:  # RE2 has no such flag: the spaces that it ignores are taken out
        written = _SPACE.sub(lambda found: "" if found["space"] else found[0], pattern)
    written = _TOKEN.sub(_of_unicode, written)
    inside = "".join(flag for flag in "msU" if flag in flags)
    try:
        return re2.compile(f"(?{inside}){written}" if inside else written, options)
    except re2.error as error:
        reason = error.args[0]
        shown = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        msg = f"External error: regex parse error: {pattern[:200]}: {shown}"
        raise SqlValueError(msg) from None


def _of_unicode(token: re.Match[str]) -> str:
    piece = token[0]
    if piece.startswith("[") and len(piece) > 1:
        return re.sub(r"\\.", lambda found: _INSIDE.get(found[0], found[0]), piece)
    return _CLASSES.get(piece, piece)


def _matches(text: str, pattern: str, flags: str) -> Iterator[Any]:
    """All matches in order; an empty one does not stand directly behind another."""
    end = -1
    for found in _compiled(pattern, flags).finditer(text):
        if found.start() == found.end() == end:
            continue
        end = found.end()
        yield found


def _like(text: Value, pattern: Value, flags: Value = "") -> int:
    if "g" in str(flags):
        msg = 'Error during planning: regexp_like() does not support the "global" option'
        raise SqlValueError(msg)
    return int(_compiled(str(pattern), str(flags)).search(str(text)) is not None)


def _match(text: Value, pattern: Value, flags: Value = "") -> str | None:
    """The groups of the first match as a list, the whole match if there are none."""
    if "g" in str(flags):
        msg = 'Error during planning: regexp_match() does not support the "global" option'
        raise SqlValueError(msg)
    found = _compiled(str(pattern), str(flags)).search(str(text))
    if found is None:
        return None
    groups = [one for one in found.groups() if one is not None]
    return msgspec.json.encode(groups if found.groups() else [found[0]]).decode()


def _replace(text: Value, pattern: Value, replacement: Value, flags: Value = "") -> str:
    whole, template = str(text), re.sub(r"\\(\d+)", r"${\1}", str(replacement))
    is_global = "g" in str(flags)
    written: list[str] = []
    length = end = 0
    for found in _matches(whole, str(pattern), str(flags).replace("g", "")):
        piece = whole[end : found.start()] + _expanded(template, found)
        end = found.end()
        length += len(piece)
        check_length(length)
        written.append(piece)
        if not is_global:
            break
    return "".join(written) + whole[end:]


def _expanded(template: str, found: Any) -> str:  # noqa: ANN401 - re2 has no types
    """A replacement with `$1`, `${1}` and `${name}` filled in; what is not there is empty."""

    def group(reference: re.Match[str]) -> str:
        name = reference["braced"] or reference["plain"]
        if name is None:
            return "$"
        try:
            return found.group(int(name) if name.isdigit() else name) or ""
        except (IndexError, KeyError):
            return ""

    return _REFERENCE.sub(group, template) if "$" in template else template


def _count(text: Value, pattern: Value, start: int = 1, flags: Value = "") -> int:
    if start < 1:
        raise SqlValueError("regexp_count() requires start to be 1 based")
    return sum(1 for _ in _matches(str(text)[start - 1 :], str(pattern), str(flags)))


def _instr(text: Value, pattern: Value, start: int = 1, number: int = 1, flags: Value = "") -> int:
    if start < 1 or number < 1:
        raise SqlValueError("regexp_instr() requires start and N to be 1 or larger")
    matches = _matches(str(text)[start - 1 :], str(pattern), str(flags))
    for count, found in enumerate(matches, 1):
        check_elements(count)
        if count == number:
            return int(found.start()) + start
    return 0


REGULAR_FUNCTIONS: Final[tuple[Function, ...]] = (
    Function("regexp_like", unless_null(_like), -1),
    Function("regexp_match", unless_null(_match), -1),
    Function("regexp_replace", unless_null(_replace), -1),
    Function("regexp_count", unless_null(_count), -1),
    Function("regexp_instr", unless_null(_instr), -1),
)
