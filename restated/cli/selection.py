"""Which invocations a command means, as SQL.

Lives here: quoting, the conditions of filters and of targets such as `Service/key/handler`.
Does not: run the query (client.py).
Source: cli.md; the tables are those of sql.md.
"""

import re
from collections.abc import Sequence
from typing import Final

_ID: Final = re.compile(r"inv_1[0-9A-Za-z]{10,60}\Z")
COMMAND_MAX: Final = 1_000  # invocations that one command operates on, as a batch takes


def literal(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


def any_of(column: str, values: Sequence[str]) -> str:
    """The condition that a column has one of these values."""
    return f"{column} IN ({', '.join(literal(value) for value in values)})"


def matching(text: str) -> str:
    """The condition that an invocation is meant by its id or (the beginning of) its target.

    `Service`, `Service/handler` or `Object/key`, `Object/key/handler`; a key may contain slashes.
    """
    if _ID.match(text):
        return f"id = {literal(text)}"
    parts = text.split("/")
    service = f"target_service_name = {literal(parts[0])}"
    if len(parts) == 1:
        return service
    rest = "/".join(parts[1:])
    ways = [
        f"(target_service_key IS NULL AND target_handler_name = {literal(rest)})",
        f"target_service_key = {literal(rest)}",
    ]
    if len(parts) > 2:
        key = literal("/".join(parts[1:-1]))
        ways.append(
            f"(target_service_key = {key} AND target_handler_name = {literal(parts[-1])})"
        )  # fmt: skip
    return f"{service} AND ({' OR '.join(ways)})"


def selected(conditions: Sequence[str], *, columns: str, limit: int, order: str) -> str:
    """The whole query over sys_invocation."""
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {columns} FROM sys_invocation{where} ORDER BY {order} LIMIT {limit}"  # noqa: S608 - every value was quoted by `literal`
