"""Functions of SQL that look into JSON text.

Lives here: `JSON_FUNCTIONS`: a value by its path, in the type that a function's name says.
Does not: the operators `->` and `->>` (sql_language.py reads them as these functions).

A path is keys of objects and indexes of arrays. What is not JSON, not there or of another type is
NULL. Numbers and spaces are kept as they are written.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from restated.store.sql_calendar import Value
from restated.store.sql_function import Function

_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array: Final = msgspec.json.Decoder(list[msgspec.Raw])
_I64: Final = 1 << 63


def _at(text: Value, path: tuple[Value, ...]) -> bytes | None:
    """The JSON at a path."""
    if not isinstance(text, str | bytes):
        return None
    found = text.encode() if isinstance(text, str) else text
    try:
        for step in path:
            if isinstance(step, int):
                found = bytes(_array.decode(found)[step]) if step >= 0 else b""
            else:
                found = bytes(_object.decode(found)[str(step)])
        return found.strip() or None
    except (msgspec.DecodeError, KeyError, IndexError):
        return None


def _value(text: Value, path: tuple[Value, ...]) -> Any:  # noqa: ANN401 - whatever JSON holds
    found = _at(text, path)
    try:
        return None if found is None else msgspec.json.decode(found)
    except msgspec.DecodeError:
        return None


def _text(text: Value, *path: Value) -> str | None:
    value = _value(text, path)
    return value if isinstance(value, str) else None


def _integer(text: Value, *path: Value) -> int | None:
    value = _value(text, path)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return value if is_integer and -_I64 <= value < _I64 else None


def _float(text: Value, *path: Value) -> float | None:
    value = _value(text, path)
    return float(value) if isinstance(value, float | int) and not isinstance(value, bool) else None


def _bool(text: Value, *path: Value) -> int | None:
    value = _value(text, path)
    return int(value) if isinstance(value, bool) else None


def _json(text: Value, *path: Value) -> str | None:
    found = _at(text, path)
    return None if found is None else found.decode(errors="replace")


def _as_text(text: Value, *path: Value) -> str | None:
    """Strings without their quotes, anything else as it is written."""
    found = _at(text, path)
    if found is None or found == b"null":
        return None
    return _text(found) if found.startswith(b'"') else found.decode(errors="replace")


def _contains(text: Value, *path: Value) -> int | None:
    return None if text is None else int(_at(text, path) is not None)


def _length(text: Value, *path: Value) -> int | None:
    value = _value(text, path)
    return len(value) if isinstance(value, list | dict) else None


def _keys(text: Value, *path: Value) -> str | None:
    value = _value(text, path)
    return msgspec.json.encode(list(value)).decode() if isinstance(value, dict) else None


def _elements(text: Value, *path: Value) -> str | None:
    """An array as a list of the texts of its elements."""
    found = _at(text, path)
    try:
        elements = [] if found is None else _array.decode(found)
    except msgspec.DecodeError:
        return None
    if found is None:
        return None
    return msgspec.json.encode([bytes(one).decode().strip() for one in elements]).decode()


_CALLS: Final[dict[str, Callable[..., Value]]] = {
    "json_get": _json, "json_get_json": _json, "json_get_str": _text, "json_get_int": _integer,
    "json_get_float": _float, "json_get_bool": _bool, "json_as_text": _as_text,
    "json_contains": _contains, "json_length": _length, "json_object_keys": _keys,
    "json_get_array": _elements,
}  # fmt: skip
JSON_FUNCTIONS: Final = tuple(Function(name, call, -1) for name, call in _CALLS.items())
