"""What words on the command line mean as SQL."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.cli.selection import any_of, literal, matching, selected

ROWS = [
    # id, service, key, handler
    ("inv_1aaaaaaaaaaaaa", "Desk", None, "quote"),
    ("inv_1bbbbbbbbbbbbb", "Seat", "A1", "buy"),
    ("inv_1ccccccccccccc", "Seat", "A/1", "buy"),
    ("inv_1ddddddddddddd", "Seat", "A", "quote"),
]


def found(word: str) -> list[str]:
    """The ids that a word selects."""
    db = sqlite3.connect(":memory:")
    db.execute(
        "CREATE TABLE sys_invocation "
        "(id, target_service_name, target_service_key, target_handler_name)"
    )
    db.executemany("INSERT INTO sys_invocation VALUES (?, ?, ?, ?)", ROWS)
    query = selected([matching(word)], columns="id", limit=10, order="id")
    return [row[0][5] for row in db.execute(query)]


@pytest.mark.parametrize(
    ("word", "ids"),
    [
        ("inv_1aaaaaaaaaaaaa", "a"),
        ("Desk", "a"),
        ("Seat", "bcd"),
        ("Desk/quote", "a"),
        ("Seat/A1", "b"),
        ("Seat/A1/buy", "b"),
        ("Seat/A/1", "c"),
        ("Seat/A/1/buy", "c"),
        ("Seat/quote", ""),
        ("Nope", ""),
        ("' OR 1=1 --", ""),
    ],
)
def test_ids_and_targets_select(word: str, ids: str) -> None:
    """Service, Service/handler, Object/key, Object/key/handler; keys may contain slashes."""
    assert found(word) == list(ids)


@given(st.text().filter(lambda text: "\x00" not in text))
def test_any_text_stays_a_literal(text: str) -> None:
    """No text ends its own quotes."""
    text = text.encode(errors="replace").decode()
    db = sqlite3.connect(":memory:")
    assert db.execute(f"SELECT {literal(text)}").fetchone() == (text,)
    assert db.execute(
        f"SELECT {literal(text)} IN (1) OR {any_of(literal(text), [text])}"
    ).fetchone()
