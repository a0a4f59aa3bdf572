"""Mistakes in JSON schemas that registration catches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.core.schema_check import SCHEMAS_MAX, rebase_references, schema_defect


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": ["string", "null"], "title": "T", "x-own": [1]},
        {"properties": {"type": {"type": "string"}}, "required": ["type"]},
        {"$defs": {"a": {"minimum": 1}}, "items": {"$ref": "#/$defs/a"}},
        {"items": [{"type": "string"}, True], "additionalProperties": False},
        {"anyOf": [{"const": {"type": "nonsense"}}, {"enum": [{"$ref": 1}]}]},
    ],
)
def test_schemas_pass(schema: object) -> None:
    """Values of const, enum and unknown keywords are not schemas."""
    assert schema_defect(schema) is None


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ("text", "'boolean', 'object'"),
        ({"type": "nonsense"}, "'anyOf' keyword"),
        ({"type": []}, "'anyOf' keyword"),
        ({"properties": {"a": {"type": 1}}}, "'anyOf' keyword"),
        ({"allOf": [{"items": 1}]}, "'boolean', 'object'"),
        ({"allOf": {}}, "'array'"),
        ({"properties": []}, "'object'"),
        ({"patternProperties": []}, "'object'"),
        ({"required": "a"}, "list of strings"),
        ({"minLength": -1}, "'integer'"),
        ({"maximum": "1"}, "'number'"),
        ({"uniqueItems": 1}, "'boolean'"),
        ({"title": 1}, "'string'"),
        ({"pattern": 1}, "'string'"),
        ({"$ref": 1}, "'string'"),
        ({"$ref": "https://example.org/schema"}, "external references are not supported"),
    ],
)
def test_mistakes_are_named(schema: object, part: str) -> None:
    """service-protocol.md 1.3, last row."""
    assert part in (schema_defect(schema) or "")


def test_a_schema_has_a_bounded_number_of_parts() -> None:
    """Everything has a limit."""
    assert schema_defect({"anyOf": [{}] * SCHEMAS_MAX}) == f"it has more than {SCHEMAS_MAX} parts"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["type", "items", "properties", "allOf", "$ref", "required"]), inner
            )
        ),
    )
)
def test_any_json_has_an_answer(value: object) -> None:
    """Never an exception."""
    assert isinstance(schema_defect(value), str | None)


def test_references_follow_a_schema_to_its_place() -> None:
    """What is no schema is no reference; anchors and other documents stay what they are."""
    kept: dict[str, object] = {
        "const": {"$ref": "#"}, "examples": [{"$ref": "#/a"}], "default": {"$ref": "#"},
        "properties": {"$ref": {"type": "string"}, "by_anchor": {"$ref": "#anchor"}},
        "x-own": {"$ref": "#"},
    }  # fmt: skip
    schema = {
        **kept,
        "$defs": {"self": {"$ref": "#"}, "text": {"type": "string"}},
        "items": [{"$ref": "#/$defs/text"}, True],
        "anyOf": [{"not": {"$ref": "#/$defs/self"}}],
    }
    rebase_references(schema, "#/place")
    assert schema == {
        **kept,
        "$defs": {"self": {"$ref": "#/place"}, "text": {"type": "string"}},
        "items": [{"$ref": "#/place/$defs/text"}, True],
        "anyOf": [{"not": {"$ref": "#/place/$defs/self"}}],
    }
    rebase_references(True, "#/place")
