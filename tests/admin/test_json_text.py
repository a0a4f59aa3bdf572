"""Places in JSON texts. Source: admin.md 1."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.admin.json_text import SCANNED_CHARS_MAX, place_of, repeated_member

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("text", "path", "line_and_column"),
    [
        ('{"public": 5, "x": 1}', ".public", (1, 12)),
        ('{"public": true}', ".public", (1, 15)),
        ('{"a": {"b": [1, "two"]}}', ".a.b[1]", (1, 21)),
        ('[{"pattern": "a"}, {"pattern": "b c"}]', "[1].pattern", (1, 36)),
        ('{"x": "} \\" ]",\n "y": null}', ".y", (2, 10)),
        ('{"\\u0079": 1}', ".y", (1, 12)),
        ('{"y": [1]}', ".y", (1, 7)),
        ("5", ".", (1, 1)),
        ('{"ä": "ö", "y": 1}', ".y", (1, 17)),
    ],
)
def test_the_place_of_a_value_is_its_last_character_or_bracket(
    text: str, path: str, line_and_column: tuple[int, int]
) -> None:
    """1."""
    assert place_of(text.encode(), path) == line_and_column


def test_the_place_of_what_is_missing_is_the_end_of_the_object() -> None:
    """1: `missing field`."""
    assert place_of(b'[{"x": {}}, 1]', "[0]", at_end=True) == (1, 10)


@pytest.mark.parametrize(
    ("text", "path"),
    [("{}", ".x"), ("[1]", "[1]"), ("[1]", ".x"), ('{"x": ', ".x"), ("", "."), ('{"x"', ".y")],
)
def test_what_is_not_there_has_no_place(text: str, path: str) -> None:
    """Texts that break off are told so elsewhere."""
    assert place_of(text.encode(), path) is None


def test_nobody_looks_far() -> None:
    """Long texts are written by programs."""
    text = json.dumps({"x": "a" * SCANNED_CHARS_MAX, "y": 1})
    assert place_of(text.encode(), ".y") is None
    assert repeated_member(text.replace('"y"', '"x"').encode()) is None


@given(JSON)
def test_what_a_program_writes_repeats_nothing(value: object) -> None:
    """Strings with quotes, brackets and escapes are skipped as they are."""
    assert repeated_member(json.dumps(value).encode()) is None


@given(st.text(), JSON, st.text())
def test_repetition_is_found_whatever_stands_between(name: str, value: object, other: str) -> None:
    """Names are compared decoded."""
    first, second = json.dumps(name), json.dumps(name, ensure_ascii=False)
    text = f"{{{first}: {json.dumps(value)}, {json.dumps(other + '!')}: 1, {second}: 2}}"
    assert "duplicate field" in (repeated_member(text.encode()) or "")


@given(
    st.text(alphabet='[]{}:,"\\ a1\n', max_size=30), st.sampled_from([".a", "[1]", "[0].a", "."])
)
def test_broken_texts_are_survived(text: str, path: str) -> None:
    """Whatever stands there, looking ends."""
    place_of(text.encode(), path, at_end=True)
    repeated_member(text.encode())
