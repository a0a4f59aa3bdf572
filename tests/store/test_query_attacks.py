"""What clients may try with SQL, and that none of it works (Z2, G18, reliability.md 4.11)."""

from contextlib import closing
from pathlib import Path

import apsw
import pytest
import trio

from restated.model.records import StateValue
from restated.store.dialect import Planner
from restated.store.priority import Standing
from restated.store.query import Limits
from restated.store.query_child import Session
from restated.store.schema import DATABASE_NAME
from restated.store.sql_typing import SqlError
from tests.store.querying import ID, QueryWorld, invocation, run_queries

ENDLESS = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"

ATTACKS = (
    # writes
    "INSERT INTO state VALUES (1)",
    "UPDATE state SET value = x'00'",
    "DELETE FROM sys_invocation",
    "DROP TABLE sys_invocation",
    'DROP VIEW "sql$state"',
    "CREATE TABLE t (a int)",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TRIGGER g AFTER INSERT ON state BEGIN SELECT 1; END",
    "CREATE INDEX i ON state (key)",
    "ALTER TABLE state ADD COLUMN x int",
    "REPLACE INTO state VALUES (1)",
    "MERGE INTO state USING state ON true WHEN MATCHED THEN DELETE",
    "TRUNCATE TABLE state",
    "REINDEX",
    "ANALYZE",
    "VACUUM",
    "VACUUM INTO '/tmp/stolen.db'",
    "WITH x AS (SELECT 1) DELETE FROM state",
    "WITH x AS (DELETE FROM state RETURNING *) SELECT * FROM x",
    "SELECT 1 INTO t",
    # other files and programs
    "ATTACH DATABASE '/etc/passwd' AS p",
    "ATTACH ':memory:' AS m",
    "DETACH DATABASE main",
    "COPY (SELECT 1) TO '/tmp/stolen'",
    "COPY state FROM PROGRAM 'id'",
    "SELECT load_extension('/tmp/evil.so')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('/tmp/x', 'y')",
    "SELECT edit('x')",
    "SELECT fts3_tokenizer('simple')",
    "LOAD '/tmp/evil.so'",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "CREATE VIRTUAL TABLE t USING csv(filename='/etc/passwd')",
    # settings
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = DELETE",
    "SELECT * FROM pragma_table_info('invocation')",
    "SELECT * FROM pragma_database_list",
    "SET query_only = off",
    # several statements
    "SELECT 1; DROP TABLE invocation",
    "SELECT 1; SELECT 2",
    "BEGIN",
    "COMMIT",
    "SAVEPOINT a",
    "EXPLAIN DELETE FROM state",
    # what is stored, past the views
    "SELECT * FROM sqlite_master",
    "SELECT * FROM sqlite_schema",
    "SELECT * FROM sqlite_temp_master",
    "SELECT * FROM main.invocation",
    "SELECT * FROM invocation",
    "SELECT * FROM deployment",
    "SELECT headers FROM main.deployment",
    "SELECT * FROM temp.live",
    "SELECT * FROM live",
    'SELECT * FROM "sql$state"',
    'WITH "sql$state" AS (SELECT * FROM journal) SELECT * FROM "sql$state"',
    "WITH sys_invocation AS (SELECT * FROM main.journal) SELECT * FROM sys_invocation",
    'SELECT 1 AS "sql$x"',
    "SELECT * FROM dbstat",
    "SELECT * FROM sqlite_dbpage",
    "SELECT rowid FROM sys_invocation",
    "SELECT _rowid_ FROM state",
    # functions of ours and of SQLite that are not for clients
    "SELECT id_partition('x')",
    "SELECT zeroblob(1000000000)",
    "SELECT randomblob(1000000000)",
    "SELECT printf('%.*c', 900000000, 'x')",
    "SELECT sqlite_version()",
    "SELECT sqlite_compileoption_get(0)",
    # placeholders, broken text
    "SELECT :s0",
    "SELECT ?",
    "SELECT $1",
    "SELECT * FROM state WHERE key = :s0",
    "SELECT 'unfinished",
    "SELECT (((",
    "SELECT \0",
    "",
    ";",
    "-- nothing",
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "SELECT " + "1+" * 20_000 + "1",
    "SELECT 1 " + "UNION ALL SELECT 1 " * 600,
    "SELECT 1 FROM " + ", ".join(["state"] * 40),
    "SELECT '" + "x" * 2_000_000 + "'",
)

COSTS = (
    ENDLESS,
    "SELECT count(*) FROM " + ", ".join(f"information_schema.columns c{i}" for i in range(9)),
    "WITH RECURSIVE t AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM t) SELECT max(s) FROM t",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT * FROM t ORDER BY n",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "SELECT repeat(repeat('x', 10000000), 1000)",
    "SELECT lpad('x', 2000000000)",
    "SELECT replace(repeat('x', 10000000), 'x', repeat('y', 1000))",
    "SELECT regexp_replace(repeat('x', 10000000), 'x', repeat('y', 1000), 'g')",
    "SELECT array_repeat(repeat('x', 1000000), 1000000)",
    "SELECT generate_series(1, 9223372036854775806)",
    "SELECT count(*) FROM range(-9223372036854775807, 9223372036854775806)",
    "SELECT levenshtein(repeat('x', 1000000), repeat('y', 1000000))",
    "SELECT 'x' ~ repeat('(x{1000}){1000}', 100)",
    "SELECT 'x' ~ repeat('x', 1000000)",
    # each match is looked for to the end of the text: only the end of the process ends it
    "SELECT regexp_count(repeat('a', 1000000), '[ab]*c|a')",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 100000) "
    "SELECT count(*) FROM t a, t b WHERE a.n + b.n LIKE '%1%2%3%'",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) "
    "SELECT string_agg(repeat('x', 100000), ',') FROM t",
)


HARMLESS = (
    "SELECT repeat('a', 1000000) ~ '^(a+)+$b' AS x",
    "SELECT repeat('a', 1000000) ~ '(a|a)*b' AS x",
    "SELECT repeat('a', 1000000) ~ '(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)b' AS x",
)


def test_a_regular_expression_takes_time_by_the_length_of_the_text(tmp_path: Path) -> None:
    """G18: what makes engines that backtrack run for ever is answered."""

    async def body(world: QueryWorld) -> None:
        for sql in HARMLESS:
            with trio.fail_after(4):
                assert await world.rows(sql) == [{"x": False}]

    run_queries(body, tmp_path)


@pytest.mark.parametrize("sql", ATTACKS, ids=lambda sql: sql[:50])
def test_attack_is_refused_before_anything_runs(sql: str) -> None:
    """Z2: the planner writes each statement anew from what its tables list."""
    with pytest.raises(SqlError):
        Planner().plan(sql)


def test_attacks_and_costs_leave_data_and_neighbours_alone(tmp_path: Path) -> None:
    """G18: everything is contained within the deadline; the next query is answered as ever."""

    async def body(world: QueryWorld) -> None:
        await world.put(invocation(), StateValue("", "S", "k", "n", b"v"))
        files = sorted(path.name for path in (tmp_path / "state").iterdir())
        for sql in (*ATTACKS, *COSTS):
            with trio.fail_after(4):
                error = await world.refusal(sql)
            assert error.status == 400, (sql[:80], error.message)
        assert await world.rows("SELECT count(*) AS n FROM state") == [{"n": 1}]
        assert await world.rows("SELECT id FROM sys_invocation") == [{"id": ID}]
        assert sorted(path.name for path in (tmp_path / "state").iterdir()) == files

    run_queries(body, tmp_path, Limits(timeout_ms=500, grace_s=3))


BEHIND_THE_PLANNER = (
    "ATTACH DATABASE ':memory:' AS m",
    "DETACH DATABASE main",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "SELECT * FROM pragma_database_list",
    "INSERT INTO main.state VALUES ('', 's', 'k', 'n', x'00')",
    "DELETE FROM main.state",
    "UPDATE main.state SET value = x'00'",
    "DELETE FROM temp.live",
    "DROP VIEW temp.\"sql$state\"",
    "CREATE TABLE main.t (a)",
    "CREATE TEMP TABLE t (a)",
    "CREATE TEMP TRIGGER g AFTER INSERT ON live BEGIN SELECT 1; END",
    "VACUUM",
    "VACUUM INTO '/tmp/stolen.db'",
    "ANALYZE",
    "REINDEX",
    "BEGIN",
    "SAVEPOINT a",
    "SELECT * FROM sqlite_master",
    "SELECT name FROM temp.sqlite_master",
    "SELECT * FROM main.state",
    "SELECT value FROM state",
    "SELECT headers FROM deployment",
    "SELECT (SELECT payload FROM journal LIMIT 1)",
    "SELECT id FROM temp.live",
    "WITH x AS (SELECT value FROM main.state) SELECT * FROM x",
    "SELECT load_extension('x')",
    "SELECT zeroblob(10)",
    "SELECT fts3_tokenizer('simple')",
    "CREATE VIRTUAL TABLE temp.t USING fts5(a)",
)  # fmt: skip


@pytest.mark.parametrize("sql", BEHIND_THE_PLANNER)
def test_the_connection_refuses_what_the_planner_would_let_through(
    tmp_path: Path, sql: str
) -> None:
    """The second fence: authorizer and read-only connection, without the first."""

    async def body(world: QueryWorld) -> None:
        await world.put(StateValue("", "S", "k", "n", b"v"))
        path = str(tmp_path / "state" / DATABASE_NAME)
        session = Session(path, Planner(), Standing(can_step_back=False))
        with closing(session._connection) as connection:
            with pytest.raises(apsw.Error):
                connection.execute(sql).fetchall()
            view = connection.execute('SELECT key FROM "sql$state"').fetchall()
        assert view == [("n",)]

    run_queries(body, tmp_path)
