"""SQL as clients write it: what it means, by running it (sql.md, answers of the reference)."""

from pathlib import Path
from typing import Any

import pytest

from restated.store.dialect import PLANS_MAX, Planner
from restated.store.sql_shape import shape_of
from restated.store.sql_typing import SqlError
from tests.store.querying import ID, NOW_MS, QueryWorld, invocation, run_queries

# statement -> the row of the reference 1.7.12
ANSWERS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "SELECT 1 AS i, 1.5 AS f, 'x' AS s, true AS b, NULL AS n",
        {"i": 1, "f": 1.5, "s": "x", "b": True},
    ),
    ("SELECT CAST(18446744073709551615 AS BIGINT UNSIGNED) AS u", {"u": 18446744073709551615}),
    ("SELECT 9007199254740993 AS big, -1 AS m", {"big": 9007199254740993, "m": -1}),
    ("SELECT count(*) FROM sys_invocation", {"count(*)": 1}),
    ("SELECT COUNT(*)", {"count(*)": 1}),
    ("SELECT 1+1, upper('a')", {"Int64(1) + Int64(1)": 2, 'upper(Utf8("a"))': "A"}),
    (
        "SELECT first_value(a ORDER BY b) AS f, last_value(a ORDER BY b) AS l,"
        " first_value(a ORDER BY b DESC) AS d, string_agg(a, '-' ORDER BY b DESC) AS s,"
        " array_agg(a ORDER BY b) AS r FROM (VALUES ('x', 2), ('y', 1), ('z', 3)) AS t(a, b)",
        {"f": "y", "l": "z", "d": "z", "s": "z-x-y", "r": ["y", "x", "z"]},
    ),
    (
        "SELECT first_value(a) AS f, last_value(a) AS l, first_value(b) AS e"
        " FROM (VALUES (NULL, 2), (5, NULL)) AS t(a, b)",
        {"l": 5, "e": 2},
    ),
    (
        "SELECT COUNT(1) FROM (SELECT * FROM sys_invocation inv LIMIT 50000)"
        " WHERE inv.target_service_name IN ('Greeter') AND status != 'completed'",
        {"count(Int64(1))": 1},
    ),
    ("SELECT first_value(a) OVER (ORDER BY a) AS f FROM (VALUES (3)) AS t(a)", {"f": 3}),
    (
        "SELECT 'x' = 'X' AS a, 'x' ILIKE 'X' AS b, 'x' LIKE 'X' AS c",
        {"a": False, "b": True, "c": False},
    ),
    (
        "SELECT 'Abc' LIKE 'a%' AS l, 'Abc' ILIKE 'a%' AS i, 'a_c' LIKE 'a\\_c' AS e",
        {"l": False, "i": True, "e": True},
    ),
    (
        "SELECT 'abc' NOT LIKE 'a%' AS l, 'abc' NOT ILIKE 'A%' AS i, 'b' NOT LIKE 'a' AS t",
        {"l": False, "i": False, "t": True},
    ),
    (
        "SELECT 1 NOT IN (1, 2) AS a, 3 NOT BETWEEN 1 AND 2 AS b, NULL IS NOT NULL AS c",
        {"a": False, "b": True, "c": False},
    ),
    ("SELECT 1 IS DISTINCT FROM NULL AS d, NOT true AS n", {"d": True, "n": False}),
    (
        "SELECT * FROM (SELECT 'a' AS id, 1 AS x) s JOIN (SELECT 'a' AS id, 2 AS y) t USING (id)",
        {"id": "a", "x": 1, "y": 2},
    ),
    (
        "SELECT t.* FROM (SELECT 'a' AS id, 1 AS x) s JOIN (SELECT 'a' AS id, 2 AS y) t USING (id)",
        {"id": "a", "y": 2},
    ),
    ("SELECT * FROM (SELECT 1 AS x UNION ALL SELECT * FROM (SELECT 'a' AS x)) LIMIT 1", {"x": "1"}),
    ("SELECT now() AS n", {"n": "2026-11-25T18:28:18.123"}),
    ("SELECT now() - timestamp '2026-11-25T00:00:00' AS d", {"d": "PT66498.123S"}),
    (
        "SELECT timestamp '2026-01-01T00:00:00.5' - timestamp '2025-12-31T00:00:00' AS d",
        {"d": "PT86400.5S"},
    ),
    ("SELECT date_bin(interval '1 hour', now()) AS x", {"x": "2026-11-25T18:00:00"}),
    (
        "SELECT date_bin(INTERVAL '300 seconds', TIMESTAMP "
        "'1969-12-31T23:59:59', TIMESTAMP '1970-01-01') AS x",
        {"x": "1969-12-31T23:55:00"},
    ),
    ("SELECT to_unixtime(now()) AS u", {"u": 1795631298}),
    (
        "SELECT to_timestamp_millis(1700000000123) AS a, to_timestamp(5) "
        "AS b, from_unixtime(5) AS c",
        {"a": "2023-11-14T22:13:20.123", "b": "1970-01-01T00:00:05", "c": "1970-01-01T00:00:05"},
    ),
    (
        "SELECT date_trunc('month', timestamp '2026-05-06T07:08:09') AS m",
        {"m": "2026-05-01T00:00:00"},
    ),
    ("SELECT date_part('hour', timestamp '2026-01-01T05:00:00') AS p", {"p": 5}),
    (
        "SELECT timestamp '2026-01-31T00:00:00' + interval '1 month' AS m",
        {"m": "2026-02-28T00:00:00"},
    ),
    (
        "SELECT interval '1 day' AS i, interval '90 seconds' AS j, interval '0 seconds' AS z",
        {"i": "1 days", "j": "1 mins 30.000000000 secs", "z": "0 secs"},
    ),
    (
        "SELECT interval '1 year 2 days' AS y, interval '36 hours' AS h, "
        "interval '100 milliseconds' AS m",
        {"y": "12 mons 2 days", "h": "36 hours", "m": "0.100000000 secs"},
    ),
    (
        "SELECT x'00ff' AS b, make_array(1,2) AS l, encode(x'00ff','hex') AS e, to_hex(255) AS h",
        {"b": "00ff", "l": [1, 2], "e": "00ff", "h": "ff"},
    ),
    (
        "SELECT date '2026-01-01' AS d, cast(now() AS varchar) AS n",
        {"d": "2026-01-01", "n": "2026-11-25T18:28:18.123"},
    ),
    (
        "SELECT cast('12' AS int) AS i, cast(1.7 AS int) AS r, cast(true "
        "AS int) AS b, cast('true' AS boolean) AS t",
        {"i": 12, "r": 1, "b": 1, "t": True},
    ),
    ("SELECT 7 % 3 AS m, -7/2 AS d, 7.0/2 AS f", {"m": 1, "d": -3, "f": 3.5}),
    (
        "SELECT length('äb') AS l, octet_length('äb') AS o, "
        "substr('hello',2,3) AS s, trim(' a ') AS t, "
        "replace('aa','a','b') AS r, split_part('a,b',',',2) AS p, "
        "position('b' in 'ab') AS q",
        {"l": 2, "o": 3, "s": "ell", "t": "a", "r": "bb", "p": "b", "q": 2},
    ),
    (
        "SELECT sum(1) AS s, avg(3) AS a, min('a') AS m, count(*) FILTER (WHERE true) AS n",
        {"s": 1, "a": 3.0, "m": "a", "n": 1},
    ),
    (
        "SELECT CASE WHEN 1=1 THEN 'a' END AS c, nullif(1,1) AS n, coalesce(null, 2) AS k",
        {"c": "a", "k": 2},
    ),
    ("SELECT greatest(1, NULL, 3) AS g, least(2, 1) AS l", {"g": 3, "l": 1}),
    ("SELECT x, y FROM (VALUES (1,'a')) AS t(x,y)", {"x": 1, "y": "a"}),
    ("SELECT max(created_at) AS m FROM sys_invocation", {"m": "2026-11-25T18:28:08.123Z"}),
    ("SELECT max(created_at) AS m FROM sys_invocation WHERE id IS NULL", {}),
    (
        "SELECT created_at <= now() AS past, now() - created_at < INTERVAL "
        "'1 hour' AS fresh FROM sys_invocation",
        {"past": True, "fresh": True},
    ),
    ("SELECT count(*) AS n FROM sys_invocation WHERE created_at > '2026-11-25 18:28:08'", {"n": 1}),
    (
        "SELECT count(*) AS n FROM sys_invocation WHERE created_at > '2026-11-25T18:28:08.124Z'",
        {"n": 0},
    ),
    (
        "SELECT count(*) AS n FROM sys_invocation WHERE completion_retention >= INTERVAL '1 day'",
        {"n": 1},
    ),
    (
        "SELECT count(*) AS n FROM sys_invocation_status WHERE "
        "partition_key = 13044108709101539279",
        {"n": 1},
    ),
    (
        "SELECT count(*) AS n FROM sys_invocation_status WHERE partition_key > 9999999999999999999",
        {"n": 1},
    ),
    (
        "SELECT CAST(partition_key AS VARCHAR) AS p FROM sys_invocation_status",
        {"p": "13044108709101539279"},
    ),
    (
        "SELECT Id, a.target_service_name FROM SYS_INVOCATION AS A",
        {"id": ID, "target_service_name": "Greeter"},
    ),
    (
        "SELECT ss.id AS id FROM sys_invocation_status ss LEFT JOIN "
        "(SELECT id AS state_id, in_flight FROM "
        "sys_invocation_state) sis ON sis.state_id = ss.id WHERE "
        "sis.in_flight IS NOT TRUE",
        {"id": ID},
    ),
    ("SELECT arrow_typeof(now()) AS t, arrow_typeof(1) AS o", {"t": "Timestamp(ns)", "o": "Int64"}),
    ("SELECT 1 AS a;", {"a": 1}),
    ("SELECT /* c */ 1 AS a -- x", {"a": 1}),
    ("SELECT 'it''s' AS a", {"a": "it's"}),
    (
        "SELECT count(*) AS n FROM information_schema.columns WHERE table_name = 'sys_invocation'",
        {"n": 51},
    ),
)

REFUSALS = (
    ("SELEC 1", "SQL error: ParserError("),
    ("", "Error during planning: No SQL statements were provided in the query string"),
    ("SELECT * FROM nope", "Error during planning: table 'restate.public.nope' not found"),
    (
        "SELECT nope FROM sys_rules",
        "Schema error: No field named nope. Valid fields are sys_rules.pattern,",
    ),
    ('SELECT "ID" FROM sys_invocation', 'Schema error: No field named "ID".'),
    ("SELECT foo(1)", "Error during planning: Invalid function 'foo'."),
    (
        "SELECT 1; SELECT 2",
        "This feature is not implemented: The context currently only supports a single",
    ),
    ("CREATE TABLE t (a INT)", "Error during planning: DDL not supported: "),
    ("DROP TABLE state", "Error during planning: DDL not supported: "),
    ("DELETE FROM state", "Error during planning: DML not supported: Delete"),
    ("SELECT 1/0", "Arrow error: Divide by zero error"),
    (
        "SELECT 1 WHERE 'a'",
        "Error during planning: Cannot create filter with non-boolean predicate",
    ),
    ("SELECT cast('a' AS int)", "Cast error: Cannot cast string 'a' to value of"),
    ("SELECT id FROM sys_invocation WHERE id = 'bad'", "External error: non valid invocation id"),
    ("SELECT id FROM sys_journal WHERE id IN ('bad')", "External error: non valid invocation id"),
    (
        "SELECT 1 FROM sys_invocation WHERE created_at > 'rubbish'",
        "Parser error: Error parsing timestamp from",
    ),
    (
        "SELECT 1 FROM sys_invocation WHERE created_at > 5",
        "Error during planning: Cannot infer common argument",
    ),
    (
        "SELECT count(*), count(*)",
        "Error during planning: Projections require unique expression names",
    ),
    ("SELECT sum(1), x FROM", "SQL error: ParserError("),
    ("SELECT", "SQL error: ParserError("),
    ("SELECT 'a", "SQL error: TokenizerError("),
    ("DROP TABLE state", "Error during planning: DDL not supported: DropTable"),
    ("DROP SCHEMA s", "Error during planning: DDL not supported: DropCatalogSchema"),
    ("CREATE TABLE x(a INT)", "Error during planning: DDL not supported: CreateMemoryTable"),
    ("CREATE VIEW v AS SELECT 1", "Error during planning: DDL not supported: CreateView"),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dialect")


def test_statements_mean_what_they_mean_on_the_reference(path: Path) -> None:
    """sql.md: JSON of types, DataFusion's spellings and names of columns."""

    async def body(world: QueryWorld) -> None:
        await world.put(invocation())
        found = [(sql, await world.rows(sql)) for sql, _ in ANSWERS]
        assert found == [(sql, [row]) for sql, row in ANSWERS]

    run_queries(body, path)


@pytest.mark.parametrize(("sql", "message"), REFUSALS)
def test_wrong_statements_are_refused_in_the_words_of_the_reference(
    path: Path, sql: str, message: str
) -> None:
    """admin.md 11, decided_differences: 400 for whatever the client got wrong (C91)."""

    async def body(world: QueryWorld) -> None:
        error = await world.refusal(sql)
        assert (error.status, error.message[: len(message)]) == (400, message)

    run_queries(body, path)


def test_nulls_are_the_largest_values_in_an_order(path: Path) -> None:
    """DataFusion: last when ascending, first when descending; SQLite does it the other way."""

    async def body(world: QueryWorld) -> None:
        values = "SELECT x FROM (VALUES (1), (NULL), (2)) AS t(x) ORDER BY x"
        assert await world.rows(values) == [{"x": 1}, {"x": 2}, {}]
        assert await world.rows(f"{values} DESC") == [{}, {"x": 2}, {"x": 1}]
        assert await world.rows(f"{values} DESC NULLS LAST") == [{"x": 2}, {"x": 1}, {}]

    run_queries(body, path)


def test_ids_are_ordered_as_text(tmp_path: Path) -> None:
    """C92."""

    async def body(world: QueryWorld) -> None:
        ids = [f"inv_1{letter}OQaMCBzoR74AYYCKBoG6ezeawrY8cAFX" for letter in "bZa0"]
        await world.put(*(invocation(n, id_) for n, id_ in enumerate(ids, start=1)))
        rows = await world.rows("SELECT id FROM sys_invocation ORDER BY id")
        assert [row["id"] for row in rows] == sorted(ids)

    run_queries(body, tmp_path)


def test_predicates_out_of_range_find_nothing(tmp_path: Path) -> None:
    """C93: numbers beyond a column's type, renamed columns."""

    async def body(world: QueryWorld) -> None:
        await world.put(invocation())
        for where in (
            "journal_size > 99999999999999999999",
            "journal_size < -9223372036854775807",
            "retry_count = 340282366920938463463374607431768211455",
        ):
            assert await world.rows(f"SELECT id FROM sys_invocation WHERE {where}") == []
        renamed = "SELECT x FROM (SELECT journal_size AS x FROM sys_invocation) t WHERE t.x > 5"
        assert await world.rows(renamed) == []

    run_queries(body, tmp_path)


def test_texts_that_differ_in_compared_strings_share_a_shape() -> None:
    """The conformance harness polls with a new id each time: one plan for all of them."""
    one, strings = shape_of("SELECT * FROM state WHERE key = 'it''s' AND scope IN ('a', 'b')")
    other, _ = shape_of("SELECT * FROM state WHERE key = 'x' AND scope IN ('', '')")
    assert one == other
    assert strings == {"s0": "it's", "s1": "a", "s2": "b"}


def test_strings_that_are_part_of_the_language_stay_in_the_shape() -> None:
    """Units and intervals decide what the statement means."""
    text = "SELECT date_trunc('day', now()) > TIMESTAMP '2026-01-01' - INTERVAL '1 day'"
    assert shape_of(text) == (text, {})


def test_statuses_stay_in_the_shape() -> None:
    """Whether an index serves depends on them."""
    text = """status IN ('a', 'b') AND s."status" <> 'c' AND status NOT IN ('d') AND key = """
    assert shape_of(f"{text}'x'") == (f"{text}:s0", {"s0": "x"})


def test_the_plan_cache_is_bounded() -> None:
    planner = Planner()
    for index in range(PLANS_MAX + 10):
        planner.plan(f"SELECT {index} AS a")
    assert len(planner._plans) == PLANS_MAX


def test_unfinished_plans_are_not_kept() -> None:
    """A refusal costs its planning each time; what is kept is only what runs."""
    planner = Planner()
    with pytest.raises(SqlError):
        planner.plan("SELECT nope")
    assert not planner._plans


def test_the_time_of_a_statement_is_the_requests(path: Path) -> None:
    """One time for the whole statement, from the daemon's clock."""

    async def body(world: QueryWorld) -> None:
        row = await world.row("SELECT to_unixtime(now()) AS s")
        assert row == {"s": NOW_MS // 1_000}

    run_queries(body, path)
