"""The catalogue of SQL tables and its manual page (sql.md)."""

import re

import pytest

from restated.store.sql_tables import ARROW_NAMES, TABLES
from tests.repository.tree import ROOT

MANUAL = (ROOT / "man" / "restated-sql.7").read_text()


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_documented(table: str) -> None:
    """restated-sql.7 lists each table with its columns and types, in their order."""
    section = MANUAL.split(f".Ss {table}\n")[1].split(".El")[0]
    documented = re.findall(r"^\.It Va (\w+)\n(.+)$", section, re.MULTILINE)
    assert documented == [(column.name, ARROW_NAMES[column.type]) for column in TABLES[table]]


def test_the_tables_are_those_of_the_reference() -> None:
    """sql.md: 18 tables; the two that clients read most have 51 and 38 columns."""
    assert len(TABLES) == 18
    assert len(TABLES["sys_invocation"]) == 51
    assert len(TABLES["sys_invocation_status"]) == 38
    assert [column.name for column in TABLES["sys_invocation"] if not column.is_nullable] == [
        "status"
    ]
