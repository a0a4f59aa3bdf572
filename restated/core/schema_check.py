"""Is a value a JSON schema? The part of the draft 2020-12 meta-schema that catches mistakes.

Lives here: the keywords whose values have a fixed shape, the walk over sub-schemas, the refusal of
references that would have to be fetched, the move of a schema into a document.
Does not: validate payloads; schemas are shown to clients, calls are never checked against them.
"""

import re
from collections.abc import Iterator
from typing import Final

Json = object

SCHEMAS_MAX: Final = 10_000  # sub-schemas of one schema
_TYPES: Final = frozenset(
    {"array", "boolean", "integer", "null", "number", "object", "string"}
)  # fmt: skip
_ONE: Final = frozenset(
    {
        "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not",
        "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
_LIST: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAP: Final = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)  # fmt: skip
_COUNT: Final = frozenset(
    {
        "maxContains", "maxItems", "maxLength", "maxProperties", "minContains", "minItems",
        "minLength", "minProperties",
    }
)  # fmt: skip
_NUMBER: Final = frozenset(
    {"exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"}
)  # fmt: skip
_TEXT: Final = frozenset({"$comment", "$id", "$schema", "description", "format", "title"})
_FLAG: Final = frozenset({"deprecated", "readOnly", "uniqueItems", "writeOnly"})


def schema_defect(schema: Json) -> str | None:
    """Why `schema` is none; None when it may be one."""
    pending: list[Json] = [schema]
    for _ in range(SCHEMAS_MAX):
        if not pending:
            return None
        current = pending.pop()
        if isinstance(current, bool):
            continue
        if not isinstance(current, dict):
            return f"{_shown(current)} is not of types 'boolean', 'object'"
        for keyword, value in current.items():
            defect = _keyword_defect(keyword, value)
            if defect is not None:
                return defect
            pending.extend(_inner(keyword, value))
    return f"it has more than {SCHEMAS_MAX} parts"


def rebase_references(schema: Json, place: str) -> None:
    """Let pointers into a schema, `#` or `#/...`, begin at its place in a document. In place.

    Anchors are found all over a document, and are left as they are.
    """
    pending: list[Json] = [schema]
    while pending:
        current = pending.pop()
        if not isinstance(current, dict):
            continue
        reference = current.get("$ref")
        if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
            current["$ref"] = place + reference[1:]
        for keyword, value in current.items():
            pending.extend(_inner(keyword, value))


def _inner(keyword: str, value: Json) -> Iterator[Json]:
    if keyword in _MAP and isinstance(value, dict):
        yield from value.values()
    elif keyword in _LIST and isinstance(value, list):
        yield from value
    elif keyword in _ONE:
        # Draft 7 allows a list of schemas in `items`.
        yield from value if keyword == "items" and isinstance(value, list) else (value,)


def _keyword_defect(keyword: str, value: Json) -> str | None:
    if keyword == "type":
        return _type_defect(value)
    if keyword in {"$ref", "$dynamicRef"}:
        return _reference_defect(value)
    if keyword == "required":
        fits = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return None if fits else f"{_shown(value)} is not a list of strings"
    if keyword in {"pattern", "patternProperties"}:
        return _pattern_defect(keyword, value)
    expected = _expected(keyword, value)
    return None if expected is None else f"{_shown(value)} is not of type '{expected}'"


def _expected(keyword: str, value: Json) -> str | None:
    """The type that a keyword's value should have had; None when it has it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if keyword in _MAP and not isinstance(value, dict):
        return "object"
    if keyword in _LIST and not isinstance(value, list):
        return "array"
    if keyword in _TEXT and not isinstance(value, str):
        return "string"
    if keyword in _FLAG and not isinstance(value, bool):
        return "boolean"
    if keyword in _NUMBER and not is_number:
        return "number"
    if keyword in _COUNT and not (is_number and isinstance(value, int | float) and value >= 0):
        return "integer"
    return None


def _type_defect(value: Json) -> str | None:
    names = value if isinstance(value, list) and value else [value]
    if all(isinstance(name, str) and name in _TYPES for name in names):
        return None
    return f"{_shown(value)} is not valid under any of the schemas listed in the 'anyOf' keyword"


def _reference_defect(value: Json) -> str | None:
    if not isinstance(value, str):
        return f"{_shown(value)} is not of type 'string'"
    if not value.startswith("#"):
        return f"it refers to {_shown(value)}, external references are not supported"
    return None


def _pattern_defect(keyword: str, value: Json) -> str | None:
    if keyword == "pattern" and not isinstance(value, str):
        return f"{_shown(value)} is not of type 'string'"
    if keyword == "patternProperties" and not isinstance(value, dict):
        return f"{_shown(value)} is not of type 'object'"
    return None


def _shown(value: Json) -> str:
    if isinstance(value, str):
        return f'"{value[:200]}"'
    return re.sub(r"\s+", " ", repr(value))[:200]
