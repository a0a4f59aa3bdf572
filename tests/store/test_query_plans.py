"""Which queries of operators find their rows by an index. Source: sql_queries.json, M7."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import sqlglot
from sqlglot import exp

from tests.store.querying import QueryWorld, invocation, run_queries

LISTED: Final = sorted(
    {
        entry["query"]
        for entry in json.loads((Path(__file__).parents[1] / "data/sql_queries.json").read_text())
    }
)
FILTERED: Final = (
    "id", "status", "target_service_name", "target_service_key", "service_name", "service_key",
    "name",
)  # fmt: skip
EVERY_ROW: Final = {
    "nearly every invocation is completed": r"status (= |IN \()('invoked', )?'completed'",
    "a negation holds for nearly every invocation": r"IS NOT TRUE\)\)|NOT (IN|I?LIKE)|<>",
    "a part of a text is in no order": r"WHERE ss.target_service_key LIKE '%",
    "all deployments, and of invocations the open ones": r"sys_deployment d\s+EXCEPT",
    "the filter is over a sample that another query takes": r"LIMIT \d+0000\b",
}
"""Why a listed query reads a whole table -> how such queries look."""

SCAN: Final = re.compile(r"^SCAN ((?:main\.)?\w+)(?! USING| VIRTUAL)", re.MULTILINE)
DERIVED: Final = re.compile(r"^(?:CO-ROUTINE|MATERIALIZE) (\w+)", re.MULTILINE)


async def plan_of(world: QueryWorld, query: str) -> str:
    """SQLite's plan, a step a line."""
    rows = await world.rows(f"EXPLAIN {query}")
    return next(str(row["plan"]) for row in rows if row["plan_type"] == "physical_plan")


def has_filter(query: str) -> bool:
    """Whether some WHERE demands values of an id, a status, a service or a key."""
    for where in sqlglot.parse_one(query, read="postgres").find_all(exp.Where):
        whole = where.this.unnest()
        for part in whole.flatten() if isinstance(whole, exp.And) else [whole]:
            condition = part.unnest()
            if isinstance(condition, exp.Not):
                condition = condition.this.unnest()
            if isinstance(condition, exp.EQ | exp.NEQ | exp.In | exp.Like | exp.Or) and any(
                column.name in FILTERED for column in condition.find_all(exp.Column)
            ):
                return True
    return False


def scanned(plan: str) -> set[str]:
    """Tables of the file that a plan reads from end to end, by their names in the views."""
    return set(SCAN.findall(plan)) - set(DERIVED.findall(plan)) - {"CONSTANT", "l"}


def test_filters_by_id_status_service_and_key_use_an_index(tmp_path: Path) -> None:
    """Every listed query with such a filter; those that cannot, by their reason."""
    filtering = [query for query in LISTED if has_filter(query)]
    assert len(filtering) > 250
    reasons = set()

    async def body(world: QueryWorld) -> None:
        for query in filtering:
            if not (tables := scanned(await plan_of(world, query))):
                continue
            reason = next((why for why, look in EVERY_ROW.items() if re.search(look, query)), None)
            assert reason is not None, (tables, query)
            reasons.add(reason)

    run_queries(body, tmp_path)
    assert reasons == set(EVERY_ROW)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("state WHERE service_name = 'a' AND service_key = 'b'", "state_key (service=? AND key=?)"),
        (
            "state WHERE service_name = 'a' AND service_key IN ('b', 'c')",
            "state_key (service=? AND key=?)",
        ),
        ("sys_invocation WHERE target_service_name = 'a'", "invocation_service (service=?)"),
        ("sys_invocation WHERE target_service_key = 'b'", "invocation_object (object_key=?)"),
        (
            "sys_invocation WHERE target_service_name = 'a' AND target_service_key = 'b'",
            "invocation_object (object_key=? AND service=?)",
        ),
        (
            "sys_invocation_status WHERE target_service_name = 'a' AND status = 'completed'",
            "invocation_service (service=?)",
        ),
        ("sys_invocation_status WHERE status = 'paused'", "invocation_open (status=?)"),
        (
            "sys_invocation_status WHERE status = 'paused' AND target_service_name = 'a'",
            "invocation_open (status=?)",
        ),
        ("sys_invocation WHERE status = 'running'", "invocation_open (status=?)"),
        ("sys_invocation WHERE status <> 'completed'", "invocation_open (status=?)"),
        ("sys_invocation WHERE status = 'gone'", "invocation_open (status=?)"),
        ("sys_invocation s WHERE s.status IN ('ready', 'paused')", "invocation_open (status=?)"),
        (
            "sys_invocation WHERE (status = 'ready' OR status = 'paused') AND created_at > now()",
            "invocation_open (status=?)",
        ),
        (
            "sys_invocation a JOIN sys_invocation b ON a.id = b.id WHERE b.status NOT IN"
            " ('completed', 'suspended')",
            "invocation_open (status=?)",
        ),
    ],
)
def test_a_filter_finds_its_index(tmp_path: Path, query: str, index: str) -> None:
    """M7: what the planner is told of invocations makes it take the narrowest one."""

    async def body(world: QueryWorld) -> None:
        plan = await plan_of(world, f"SELECT * FROM {query}")
        assert index in plan, plan
        assert not scanned(plan), plan

    run_queries(body, tmp_path)


@pytest.mark.parametrize(
    "query",
    [
        "sys_invocation WHERE status = 'completed' OR status = 'paused'",
        "sys_invocation WHERE status = 'paused' OR target_service_key LIKE 'a%'",
        "sys_invocation WHERE NOT (status = 'paused' AND target_handler_name = 'h')",
        "sys_invocation WHERE status NOT IN ('paused')",
        "sys_invocation WHERE status <> lower('COMPLETED')",
        "sys_invocation WHERE coalesce(status, '') = 'paused'",
    ],
)
def test_what_may_be_completed_is_looked_for_everywhere(tmp_path: Path, query: str) -> None:
    """The index of open invocations is taken only where nothing completed is asked for."""

    async def body(world: QueryWorld) -> None:
        assert scanned(await plan_of(world, f"SELECT * FROM {query}")) == {"i"}

    run_queries(body, tmp_path)


def test_what_a_filter_implies_takes_no_row_away(tmp_path: Path) -> None:
    """Every filter by status against the rows that an unfiltered answer shows."""
    stored = ("scheduled", "inboxed", "invoked", "suspended", "paused", "completed")
    shown = ("pending", "scheduled", "ready", "running", "backing-off", "paused", "completed")
    filters: dict[str, Callable[[str, str], bool]] = {
        "status = '{}'": lambda status, value: status == value,
        "status <> '{}'": lambda status, value: status != value,
        "status IN ('{}', 'ready')": lambda status, value: status in {value, "ready"},
        "status NOT IN ('{}', 'completed')": lambda status, value: (
            status not in {value, "completed"}
        ),
        "(status = '{}' OR status = 'inboxed') AND status <> 'completed'": (
            lambda status, value: status in {value, "inboxed"} - {"completed"}
        ),
        "(status = '{}' AND target_handler_name = 'greet') IS NOT TRUE": lambda status, value: (
            status != value
        ),
    }

    async def body(world: QueryWorld) -> None:
        await world.put(
            *(invocation(n, f"inv_{n:036}", status=status) for n, status in enumerate(stored, 1)),
            invocation(7, f"inv_{7:036}", status="invoked", next_retry_at_ms=1 << 50),
        )
        for table in ("sys_invocation", "sys_invocation_status"):
            rows = await world.rows(f"SELECT id, status FROM {table}")
            assert len(rows) == 7
            for form, holds in filters.items():
                for value in (*shown, *stored, "gone"):
                    where = form.format(value)
                    found = await world.rows(f"SELECT id FROM {table} WHERE {where} ORDER BY id")
                    expected = sorted(row["id"] for row in rows if holds(row["status"], value))
                    assert [row["id"] for row in found] == expected, (table, where)

    run_queries(body, tmp_path)
