"""Functions, forms and clauses of SQL against answers that the reference 1.7.12 gave.

`tests/data/sql_answers.json`: `answers` (query, rows, types of the columns where they were read),
`refused` (query, message), `left`: what the reference answers and this server refuses. Queries are
about values that stand in them, so that no rows have to be stored.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from restated.store.dialect import Planner
from restated.store.sql_tables import SqlType
from tests.store.querying import QueryWorld, run_queries

RECORDED: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "sql_answers.json").read_text()
)
KINDS: Final[dict[SqlType, str]] = {
    "timestamp": "time", "timestamp_ns": "time", "duration_ns": "duration", "key": "u64",
    "list_text": "list", "list_u32": "list", "list_i64": "list", "list_f64": "list",
    "list_bool": "list",
}  # fmt: skip  # Arrow types as the recording has them


def approximately(rows: Any) -> Any:
    """Floats may differ in their last digits: sums of another order."""
    if isinstance(rows, list):
        return [approximately(row) for row in rows]
    if isinstance(rows, dict):
        return {name: approximately(value) for name, value in rows.items()}
    return pytest.approx(rows, rel=1e-12) if isinstance(rows, float) else rows


def test_answers_are_those_of_the_reference(tmp_path: Path) -> None:
    async def body(world: QueryWorld) -> None:
        different = [
            (recorded["query"], rows, recorded["rows"])
            for recorded in RECORDED["answers"]
            if (rows := await world.rows(recorded["query"])) != approximately(recorded["rows"])
        ]
        assert different == []

    run_queries(body, tmp_path)


def test_types_are_those_of_the_reference() -> None:
    planner = Planner()
    different = [
        (recorded["query"], types, recorded["types"])
        for recorded in RECORDED["answers"]
        if "types" in recorded
        for types in [[KINDS.get(c.type, c.type) for c in planner.plan(recorded["query"]).columns]]
        if types != recorded["types"]
    ]
    assert different == []


def test_what_is_refused_is_refused_in_the_words_of_the_reference(tmp_path: Path) -> None:
    async def body(world: QueryWorld) -> None:
        different = [
            (recorded["query"], message, recorded["message"])
            for recorded in RECORDED["refused"]
            if (message := (await world.refusal(recorded["query"])).message) != recorded["message"]
        ]
        assert different == []

    run_queries(body, tmp_path)


def test_what_is_left_is_refused(tmp_path: Path) -> None:
    """Whoever builds one of them moves it to `answers`."""

    async def body(world: QueryWorld) -> None:
        statuses = {query: (await world.refusal(query)).status for query in RECORDED["left"]}
        assert set(statuses.values()) == {400}

    run_queries(body, tmp_path)
