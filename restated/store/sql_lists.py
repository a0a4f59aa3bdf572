"""Functions of lists; a list is kept as a JSON array.

Lives here: `LIST_FUNCTIONS`: elements, parts, sets, joining, splitting, series of numbers.
Does not: UNNEST (dialect.py), aggregation into lists (sql_aggregates.py), types (sql_calls.py).

Positions count from 1, negative ones from the end. A function of a NULL list is NULL.
"""

from typing import Any, Final

import msgspec

from restated.store.sql_calendar import SqlValueError, Value
from restated.store.sql_function import Function, check_elements, check_length, unless_null
from restated.store.sql_numbers import text_of_float


def _read(kept: Value) -> list[Any]:
    try:
        elements = msgspec.json.decode(str(kept))
    except msgspec.DecodeError:
        elements = None
    if not isinstance(elements, list):
        raise SqlValueError("Error during planning: a function of lists got something else")
    return elements


def _kept(elements: list[Any]) -> str:
    check_elements(len(elements))
    text = msgspec.json.encode(elements).decode()
    check_length(len(text))
    return text


def _shown(element: Value) -> str:
    if isinstance(element, bool):
        return str(element).lower()
    return text_of_float(element).removesuffix(".0") if isinstance(element, float) else str(element)


def _element(kept: Value, position: int) -> Value:
    elements = _read(kept)
    at = position - 1 if position > 0 else len(elements) + position
    found: Value = elements[at] if position and 0 <= at < len(elements) else None
    return found


def _slice(kept: Value, first: int, last: int) -> str:
    elements = _read(kept)
    start = first - 1 if first > 0 else max(len(elements) + first, 0) if first else 0
    end = last if last >= 0 else len(elements) + last + 1
    return _kept(elements[start : max(end, 0)])


def _position(kept: Value, element: Value) -> int | None:
    elements = _read(kept)
    return elements.index(element) + 1 if element in elements else None


def _distinct(elements: list[Any]) -> list[Any]:
    return [*dict.fromkeys(elements)]


def _sort(kept: Value, direction: Value = "ASC", nulls: Value = "NULLS FIRST") -> str:
    elements = _read(kept)
    present = sorted(
        (one for one in elements if one is not None), reverse=str(direction).upper() == "DESC"
    )
    missing = [None] * (len(elements) - len(present))
    is_last = str(nulls).upper() == "NULLS LAST"
    return _kept([*present, *missing] if is_last else [*missing, *present])


def _remove(kept: Value, element: Value) -> str:
    elements = _read(kept)
    if element in elements:
        elements.remove(element)
    return _kept(elements)


def _join(kept: Value, separator: Value, null: Value = None) -> str:
    elements = [_shown(one) if one is not None else null for one in _read(kept)]
    text = str(separator).join(str(one) for one in elements if one is not None)
    check_length(len(text))
    return text


def _split(text: Value, separator: Value, null: Value = None) -> str | None:
    if text is None:
        return None
    whole = str(text)
    if separator is None:
        parts = list(whole)
    else:
        parts = (whole.split(str(separator)) if separator else [whole]) if whole else []
    return _kept([None if part == null else part for part in parts])


def _concatenate(*lists: Value) -> str:
    return _kept([one for kept in lists if kept is not None for one in _read(kept)])


def _repeat(element: Value, count: int) -> str:
    check_elements(count)
    check_length(len(str(element)) * max(count, 0))
    return _kept([element] * count)


def _series(*bounds: int) -> str:
    """Numbers from the first to the last, which belongs to them."""
    first, last, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    return _kept(_numbers(first, last + (1 if step > 0 else -1), step))


def _range(*bounds: int) -> str:
    """Numbers from the first to before the last."""
    first, last, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    return _kept(_numbers(first, last, step))


def _numbers(first: int, stop: int, step: int) -> list[int]:
    if step == 0:
        raise SqlValueError("Execution error: Step value can't be 0")
    check_elements((stop - first) // step)
    return list(range(first, stop, step))


def _least(kept: Value) -> Value:
    return min((one for one in _read(kept) if one is not None), default=None)


def _largest(kept: Value) -> Value:
    return max((one for one in _read(kept) if one is not None), default=None)


def _length(kept: Value, dimension: int = 1) -> int | None:
    return len(_read(kept)) if dimension == 1 else None


def _row(name: str, call: Any, arguments: int) -> Function:  # noqa: ANN401 - typed where defined
    return Function(name, unless_null(call), arguments)


LIST_FUNCTIONS: Final[tuple[Function, ...]] = (
    _row("list_element", _element, 2),
    _row("list_slice", _slice, 3),
    _row("list_length", _length, -1),
    _row("list_has", lambda kept, element: int(element in _read(kept)), 2),
    _row("list_has_all", lambda one, other: int(set(_read(other)) <= set(_read(one))), 2),
    _row("list_has_any", lambda one, other: int(bool(set(_read(other)) & set(_read(one)))), 2),
    _row("list_is_all", lambda kept, element: int(all(o == element for o in _read(kept))), 2),
    _row("list_position", _position, 2),
    Function("list_append", lambda kept, one: _kept([*_read(kept or "[]"), one]), 2),
    Function("list_prepend", lambda one, kept: _kept([one, *_read(kept or "[]")]), 2),
    Function("list_concat", _concatenate, -1),
    _row("list_sort", _sort, -1),
    _row("list_reverse", lambda kept: _kept(_read(kept)[::-1]), 1),
    _row("list_distinct", lambda kept: _kept(_distinct(_read(kept))), 1),
    _row("list_remove", _remove, 2),
    _row("list_remove_all", lambda kept, one: _kept([o for o in _read(kept) if o != one]), 2),
    _row("list_without_last", lambda kept: _kept(_read(kept)[:-1]), 1),
    _row("list_without_first", lambda kept: _kept(_read(kept)[1:]), 1),
    _row("list_union", lambda one, other: _kept(_distinct(_read(one) + _read(other))), 2),
    _row(
        "list_intersect",
        lambda one, other: _kept([o for o in _distinct(_read(one)) if o in set(_read(other))]),
        2,
    ),
    _row(
        "list_except",
        lambda one, other: _kept([o for o in _distinct(_read(one)) if o not in set(_read(other))]),
        2,
    ),
    _row("list_min", _least, 1),
    _row("list_max", _largest, 1),
    Function("list_join", lambda kept, *rest: None if kept is None or rest[0] is None
             else _join(kept, *rest), -1),
    Function("list_split", _split, -1),
    _row("list_repeat", _repeat, 2),
    _row("list_is_empty", lambda kept: int(not _read(kept)), 1),
    _row("series", _series, -1),
    _row("series_before", _range, -1),
)  # fmt: skip
