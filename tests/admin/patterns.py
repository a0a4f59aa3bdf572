"""Does an answer fit what the reference answered? The pattern language of admin_cases.json.

`<dp>` and the like are kinds of texts, `<re:...>` a pattern, `{"k?": ...}` may be absent,
`{"...": true}` leaves an object open, `<set>` and `<has>` are lists in any order, `${name}` stands
for a value captured from an earlier answer.
"""

import json
import re
from typing import Any

KINDS = {
    "<str>": r"[\s\S]*",
    "<ts>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
    "<dp>": r"dp_[0-9A-Za-z]{20,30}",
    "<inv>": r"inv_[0-9A-Za-z]{20,60}",
    "<sub>": r"sub_[0-9A-Za-z]{20,30}",
}


def fill(value: Any, captured: dict[str, str]) -> Any:
    """`value` with captured values in place of their names."""
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda found: str(captured.get(found[1], found[0])), value)
    if isinstance(value, list):
        return [fill(one, captured) for one in value]
    if isinstance(value, dict):
        return {fill(name, captured): fill(one, captured) for name, one in value.items()}
    return value


def misfit(pattern: Any, actual: Any, at: str = "$") -> str | None:
    """What is wrong with `actual`; None when it fits."""
    if isinstance(pattern, str) and pattern.startswith("<") and pattern.endswith(">"):
        return _misfit_kind(pattern, actual, at)
    if isinstance(pattern, dict):
        mark = next((mark for mark in ("<set>", "<has>") if mark in pattern), None)
        return (
            _misfit_bag(pattern, mark, actual, at) if mark else _misfit_object(pattern, actual, at)
        )
    if isinstance(pattern, list):
        if not isinstance(actual, list) or len(actual) != len(pattern):
            return f"{at}: expected {len(pattern)} elements, got {actual!r}"
        wrong = (misfit(one, actual[i], f"{at}[{i}]") for i, one in enumerate(pattern))
        return next((reason for reason in wrong if reason), None)
    same = pattern == actual and isinstance(pattern, bool) == isinstance(actual, bool)
    return None if same else f"{at}: expected {pattern!r}, got {actual!r}"


def _misfit_kind(pattern: str, actual: Any, at: str) -> str | None:
    if pattern == "<any>":
        return None
    if pattern == "<int>":
        fits = isinstance(actual, int) and not isinstance(actual, bool)
    else:
        expression = KINDS.get(pattern) or pattern.removeprefix("<re:").removesuffix(">")
        fits = isinstance(actual, str) and re.fullmatch(expression, actual, re.DOTALL) is not None
    return None if fits else f"{at}: {actual!r} does not fit {pattern}"


def _misfit_bag(pattern: Any, mark: str, actual: Any, at: str) -> str | None:
    if not isinstance(actual, list):
        return f"{at}: no list: {actual!r}"
    left = list(actual)
    for one in pattern[mark]:
        hit = next((value for value in left if misfit(one, value) is None), None)
        if hit is None:
            return f"{at}: nothing fits {json.dumps(one)}: {[misfit(one, v, at) for v in left]}"
        left.remove(hit)
    return f"{at}: unexpected {left!r}" if mark == "<set>" and left else None


def _misfit_object(pattern: Any, actual: Any, at: str) -> str | None:
    if not isinstance(actual, dict):
        return f"{at}: no object: {actual!r}"
    known = {name.removesuffix("?"): name for name in pattern if name != "..."}
    for name, given in known.items():
        if name not in actual:
            if given.endswith("?"):
                continue
            return f"{at}: {name} is missing in {actual!r}"
        wrong = misfit(pattern[given], actual[name], f"{at}.{name}")
        if wrong:
            return wrong
    extra = sorted(set(actual) - set(known))
    return f"{at}: unexpected members {extra}" if extra and "..." not in pattern else None
