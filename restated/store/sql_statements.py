"""What a text asks for, before it is planned: one query, or a word that stands for one.

Lives here: `parse`, which takes one statement apart and refuses what is no query; SHOW, DESCRIBE.
Does not: clauses and tables of a query (dialect.py), compared strings (sql_shape.py).
"""

import re
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import TokenError

from restated.store.sql_language import DataFusion
from restated.store.sql_tables import TABLES
from restated.store.sql_typing import SqlError

_STATEMENTS: Final = frozenset({"SAVEPOINT", "START", "DEALLOCATE", "VACUUM", "REINDEX"})
SHOWN_CHARACTERS_MAX: Final = 1_000  # of a refused statement

_SHOW_TABLES: Final = re.compile(r"show\s+tables\s*;?", re.IGNORECASE)
_DESCRIBE: Final = re.compile(
    r"(?P<verb>describe|desc|show\s+columns\s+(?:from|in))\s+(?P<table>[\w.\"]+)\s*;?",
    re.IGNORECASE,
)
_DROPPED: Final = frozenset({"TABLE", "VIEW", "SCHEMA", "FUNCTION"})
_CHANGES: Final[dict[type, str]] = {
    exp.Insert: "Insert Into", exp.Update: "Update", exp.Delete: "Delete", exp.Copy: "COPY",
    exp.TruncateTable: "Truncate",
}  # fmt: skip
_OBJECTS: Final = {
    "TABLE": "Table", "VIEW": "View", "SCHEMA": "CatalogSchema", "FUNCTION": "Function",
    "INDEX": "Index", "DATABASE": "Catalog",
}  # fmt: skip  # as DataFusion names what is created or dropped


def written_out(text: str) -> str:
    """SHOW TABLES, DESCRIBE and SHOW COLUMNS as the queries that they stand for."""
    if _SHOW_TABLES.fullmatch(text):
        return "SELECT * FROM information_schema.tables"
    described = _DESCRIBE.fullmatch(text)
    if described is not None:
        return _description(described["verb"], described["table"])
    return text


def _description(verb: str, table: str) -> str:
    name = table.rpartition(".")[2].strip('"')
    if name not in TABLES:
        msg = f"Error during planning: table 'restate.public.{name}' not found"
        raise SqlError(msg)
    selected = "column_name, data_type, is_nullable"
    if verb.lower().startswith("show"):
        selected = f"table_catalog, table_schema, table_name, {selected}"
    where = f"table_schema = 'public' AND table_name = '{name}'"
    return f"SELECT {selected} FROM information_schema.columns WHERE {where}"  # noqa: S608 - checked


def parse(text: str) -> exp.Expression:
    """The one query of a text; SqlError for anything else."""
    statements = [s for s in _parsed(text) if s is not None]
    statements = [s for s in statements if not isinstance(s, exp.Semicolon)]
    if not statements:
        msg = "Error during planning: No SQL statements were provided in the query string"
        raise SqlError(msg)
    if len(statements) > 1:
        msg = "The context currently only supports a single SQL statement"
        raise SqlError(f"This feature is not implemented: {msg}")
    statement = statements[0]
    if not isinstance(statement, exp.Query | exp.Values):
        raise SqlError(_refusal(statement, text))
    assert isinstance(statement, exp.Expression)
    return statement


def _refusal(statement: "exp.Expr", text: str) -> str:
    """Why a statement that is no query is not run, in DataFusion's words."""
    kind = str(statement.args.get("kind") or "").upper()
    match statement:
        case exp.Drop() if kind not in _DROPPED:
            msg = "Only `DROP TABLE/VIEW/SCHEMA  ...` statement is supported currently"
            return f"This feature is not implemented: {msg}"
        case exp.Drop() | exp.Create():
            return f"Error during planning: DDL not supported: {_object(statement, kind)}"
        case exp.Insert() | exp.Update() | exp.Delete() | exp.Copy() | exp.TruncateTable():
            return f"Error during planning: DML not supported: {_CHANGES[type(statement)]}"
        case exp.Commit() | exp.Rollback():
            msg = "Unsupported logical plan: Statement(TransactionEnd)"
            return f"This feature is not implemented: {msg}"
        case exp.Condition() if (verb := text.split(maxsplit=1)[0]).upper() not in _STATEMENTS:
            return f'SQL error: ParserError("Expected: an SQL statement, found: {verb}")'
        case _:
            shown = " ".join(text.split())[:SHOWN_CHARACTERS_MAX].rstrip("; ")
            return f"This feature is not implemented: Unsupported SQL statement: {shown}"


def _object(statement: "exp.Expr", kind: str) -> str:
    word = _OBJECTS.get(kind, "")
    if isinstance(statement, exp.Create) and kind == "TABLE":
        is_external = statement.find(exp.ExternalProperty) is not None
        word = "ExternalTable" if is_external else "MemoryTable"
    return type(statement).__name__ + word


def _parsed(text: str) -> "list[exp.Expr | None]":
    try:
        return sqlglot.parse(text, read=DataFusion)
    except TokenError:  # its message shows the shape of the text, not the text
        msg = 'SQL error: TokenizerError("Unterminated string literal or quoted name")'
        raise SqlError(msg) from None
