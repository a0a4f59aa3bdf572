"""The shape of a statement: its text without the strings that it compares with.

Lives here: `shape_of`, which takes them out, `named`, which puts them into names of columns.
Does not: what a shape means (dialect.py).
"""

import re
from typing import Final

from restated.store.sql_tables import SqlColumn
from restated.store.sql_typing import SqlError

SHAPE_CHARACTERS_MAX: Final = 131_072  # what is left when compared strings are taken out

_TOKEN: Final = re.compile(
    r"""(?P<string>'(?:[^']|'')*') | (?P<quoted>"(?:[^"]|"")*") | (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<word>[^\W\d]\w*) | (?P<space>\s+) | (?P<comparison><=|>=|<>|!=|<|>|=)
    | (?P<cast>::) | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_KEPT: Final = "status"  # a filter by it decides on the plan (sql_statuses.py); few values exist
_COMPARING: Final = frozenset({"=", "<>", "!=", "<", ">", "<=", ">=", "like", "ilike"})


def shape_of(text: str) -> tuple[str, dict[str, str]]:
    """The text with its compared strings replaced by `:s0`, `:s1`, ..., and those strings.

    Only strings after a comparison or in a list after IN are taken out: elsewhere a string may be
    part of the language (a unit, an interval). Statuses stay.
    """
    parts: list[str] = []
    parameters: dict[str, str] = {}
    previous = subject = ""
    in_list = False
    for token in _TOKEN.finditer(text):
        kind, piece = token.lastgroup, token.group()
        if kind in {"space", "comment"}:
            parts.append(" " if kind == "comment" else piece)
            continue
        if piece in {":", "?", "$", "@"}:
            msg = f'SQL error: ParserError("placeholders are not supported: {piece}")'
            raise SqlError(msg)
        if piece == "(":
            in_list = previous == "in"
        elif kind != "string" and piece != ",":
            in_list = False
        is_compared = previous in _COMPARING or (in_list and previous in {"(", ","})
        if kind == "string" and is_compared and subject != _KEPT:
            name = f"s{len(parameters)}"
            parameters[name] = piece[1:-1].replace("''", "'")
            parts.append(f":{name}")
        else:
            parts.append(piece)
        previous = piece.lower()
        if kind in {"word", "quoted"} and previous not in {"not", "in", "like", "ilike"}:
            subject = previous.strip('"')
    shape = "".join(parts).strip()
    if len(shape) > SHAPE_CHARACTERS_MAX:
        msg = f"SQL error: the statement without its strings has more than {SHAPE_CHARACTERS_MAX}"
        raise SqlError(f"{msg} characters")
    return shape, parameters


def named(columns: tuple[SqlColumn, ...], parameters: dict[str, str]) -> tuple[SqlColumn, ...]:
    """Columns whose names show a string of the text get that string."""
    if not any("\0" in column.name for column in columns):
        return columns
    return tuple(
        SqlColumn(re.sub("\0(\\w+)\0", lambda m: parameters[m[1]], column.name), column.type)
        for column in columns
    )
