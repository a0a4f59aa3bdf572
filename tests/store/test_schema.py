"""restated/store/schema.py and doctor.sql: columns are fields, statements use indexes."""

import re
from collections.abc import Iterator

import apsw
import pytest

from restated.model.records import ROWS, Entry, Invocation, Row, Waiter
from restated.store.schema import (
    DUE,
    EXPIRED,
    NEXT_DEADLINE,
    SELECT_BY_ID,
    SELECT_OPEN,
    TABLES,
    create_statements,
    stored_columns,
)
from restated.store.startup import doctor, doctor_queries


@pytest.fixture
def database() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    for statement in create_statements():
        connection.execute(statement)
    connection.execute("ANALYZE sqlite_schema")  # statistics are read when a file is opened
    yield connection
    connection.close()


def plan(connection: apsw.Connection, sql: str) -> str:
    count = max((int(place) for place in re.findall(r"\?(\d+)", sql)), default=0)
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * count)
    return "; ".join(str(row[3]) for row in rows)


@pytest.mark.parametrize("table", ROWS)
def test_a_table_has_the_columns_of_its_row(database: apsw.Connection, table: type[Row]) -> None:
    """Design 3.7: a row is its columns; there is no mapper."""
    listed = database.execute("SELECT name FROM pragma_table_info(?)", (table.TABLE,))
    assert tuple(name for (name,) in listed) == stored_columns(table)


@pytest.mark.parametrize("table", ROWS)
def test_every_statement_finds_its_rows_by_key(database: apsw.Connection, table: type[Row]) -> None:
    """No scan of a table where a key is given, no sorting anywhere.

    Nobody asks for a scope whatever the service, or in order for a part of (scope, service, key).
    """
    sql = TABLES[table]
    is_scoped = table.KEY[0] == "scope"
    keyed = [sql.get, sql.delete]
    in_order = [] if is_scoped else [sql.scan(0, after=False, limited=False)]
    for depth in range(2 if is_scoped else 1, len(table.KEY) + 1):
        keyed += [sql.clear(depth), sql.scan(depth, after=False, limited=True)]
    for depth in range(2 if is_scoped else 0, len(table.KEY)):
        keyed.append(sql.scan(depth, after=True, limited=True))
    for depth in range(3 if is_scoped else 0, len(table.KEY)):
        in_order += [sql.scan(depth, after=after, limited=True) for after in (False, True)]
    assert [found for each in keyed if "SCAN" in (found := plan(database, each))] == []
    assert [found for each in in_order if "TEMP B-TREE" in (found := plan(database, each))] == []


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (DUE, "timer_deadline"),
        (NEXT_DEADLINE, "timer_deadline"),
        (EXPIRED, "invocation_expires"),
        (EXPIRED, "invocation_journal_expires"),
        (SELECT_OPEN, "invocation_open"),
        (SELECT_BY_ID, "invocation_id"),
    ],
)
def test_a_question_is_answered_by_its_index(
    database: apsw.Connection, statement: str, index: str
) -> None:
    """M7: a million stored invocations must not slow down timers or recovery."""
    assert f"{index} (" in f"{plan(database, statement)} ("
    assert "SCAN invocation;" not in f"{plan(database, statement)};"


def test_a_status_change_leaves_the_index_of_ids_alone() -> None:
    """An upsert that sets `id` would dirty one more random page at each change."""
    changed = TABLES[Invocation].put.partition("DO UPDATE SET")[2]
    assert '"status" = excluded."status"' in changed
    assert '"id" =' not in changed
    assert '"number" =' not in changed


def test_packed_keys_are_one_integer() -> None:
    """Entries of one invocation are neighbours."""
    assert TABLES[Entry].create[0].startswith('CREATE TABLE "journal" ("position" INTEGER PRIMARY')
    assert len(TABLES[Entry].create) == 1
    assert len(TABLES[Waiter].create) == 2


def test_a_table_refuses_a_value_of_another_type(database: apsw.Connection) -> None:
    """STRICT: text in an integer column is an error, not a silent zero."""
    with pytest.raises(apsw.ConstraintError):
        database.execute(TABLES[Waiter].put, (1, "two", 3))


def test_the_doctor_finds_nothing_in_an_empty_store(database: apsw.Connection) -> None:
    """Every query runs on the schema as it is."""
    assert doctor(database) == []


def test_the_doctor_has_a_query_for_every_table() -> None:
    """S1: no table without an owner."""
    text = " ".join(sql for _, _, sql in doctor_queries())
    named = {table.TABLE for table in ROWS if re.search(rf"\b{table.TABLE}\b", text)}
    assert named == {table.TABLE for table in ROWS}


def test_names_of_invariants_are_unique() -> None:
    """A finding is quoted by its name."""
    names = [name for name, _, _ in doctor_queries()]
    assert len(names) == len(set(names)) > 20


BROKEN = [
    ("K1-lock-without-holder", "INSERT INTO lock VALUES ('', 'S', 'k', 9)"),
    ("K2-inbox-without-lock", "INSERT INTO inbox VALUES ('', 'S', 'k', 1, NULL, x'80')"),
    ("K2-inbox-item-without-invocation", "INSERT INTO inbox VALUES ('', 'S', 'k', 1, 5, NULL)"),
    ("T3-timer-of-nobody", "INSERT INTO timer VALUES (9, 'sleep', 1, 5)"),
    ("P1-promise-with-two-outcomes", "INSERT INTO promise VALUES ('','W','k','n',NULL,NULL)"),
    ("S1-result-of-nobody", "INSERT INTO result VALUES (9, NULL, NULL, NULL, x'')"),
    ("S1-journal-of-nobody", "INSERT INTO journal VALUES (9 << 24, 1, 1, NULL, NULL, x'')"),
    ("S1-journal-event-of-nobody", "INSERT INTO journal_event VALUES (9<<24, 1, 'Paused', x'', 0)"),
    ("S1-completion-of-nobody", "INSERT INTO completion VALUES (9,1,1,'run',NULL,NULL,NULL)"),
    ("S1-signal-of-nobody", "INSERT INTO signal VALUES (9, 's1', 1, 'success')"),
    ("S1-waiter-for-nobody", "INSERT INTO waiter VALUES (9, 1, 1)"),
    ("S4-cluster-is-malformed", "INSERT INTO kafka_cluster VALUES ('c', x'5b5d', 1)"),
    (
        "S4-subscription-is-malformed",
        "INSERT INTO subscription VALUES ('sub_1a', 'c', 't', 'S', '', x'7b7d', 1)",
    ),
    ("S5-rule-is-malformed", "INSERT INTO limit_rule VALUES ('a', 1, 2, 1, NULL, NULL)"),
    ("S5-rule-beyond-its-book", "INSERT INTO limit_rule VALUES ('a', 1, 0, 1, NULL, NULL)"),
    ("S3-counter-out-of-range", "INSERT INTO counter VALUES ('x', -1)"),
]


@pytest.mark.parametrize(("name", "statement"), BROKEN)
def test_the_doctor_names_what_is_broken(
    database: apsw.Connection, name: str, statement: str
) -> None:
    """Reliability 3: each invariant is a query that returns the offending rows."""
    database.execute(statement)
    assert name in [finding.name for finding in doctor(database)]
