"""Columns of one query: what a star stands for, which names may not meet, names behind an alias.

Lives here: those three.
Does not: types (sql_typing.py), made-up names (sql_names.py).
"""

from sqlglot import exp

from restated.store.sql_tables import SqlColumn
from restated.store.sql_typing import Scope, SqlError, folded


def is_star(projection: exp.Expression) -> bool:
    """Whether a projection is `*` or `t.*`."""
    return isinstance(projection, exp.Star) or (
        isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star)
    )


def write_stars(node: exp.Select, scope: Scope) -> bool:
    """Replace every star by the columns that it stands for; whether there was one.

    Views have columns that clients do not see, and SQLite's idea of a star is not DataFusion's.
    """
    written: list[exp.Expression] = []
    for projection in node.expressions:
        written += _starred(projection, scope) if _is_star(projection) else [projection]
    has_star = any(_is_star(projection) for projection in node.expressions)
    node.set("expressions", written)
    return has_star


def _is_star(projection: exp.Expression) -> bool:
    """Whether a projection is `*` or `t.*`."""
    return isinstance(projection, exp.Star) or (
        isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star)
    )


def _starred(projection: exp.Expression, scope: Scope) -> list[exp.Expression]:
    star = projection.this if isinstance(projection, exp.Column) else projection
    if any(star.args.get(key) for key in ("except_", "except", "replace", "rename")):
        msg = "This feature is not implemented: EXCEPT and REPLACE of *"
        raise SqlError(msg)
    qualifier = folded(projection.args.get("table")) if isinstance(projection, exp.Column) else ""
    sources = [s for s in scope.sources if (s.name == qualifier if qualifier else not s.is_hidden)]
    if not sources:
        msg = "Error during planning: SELECT * with no tables specified is not valid"
        raise SqlError(msg)
    return [
        exp.column(column.name, table=source.name, quoted=True)
        for source in sources
        for column in source.columns
        if qualifier or column.name not in source.shared
    ]


def check_distinct(columns: list[SqlColumn], projections: list[exp.Expression]) -> None:
    """Refuse two projections of one name: a JSON object could not hold both."""
    seen: dict[str, int] = {}
    for position, column in enumerate(columns):
        first = seen.setdefault(column.name, position)
        if first == position:
            continue
        if isinstance(projections[first], exp.Column) and _qualifiers_differ(
            projections[first], projections[position]
        ):
            continue
        msg = (
            "Error during planning: Projections require unique expression names but the expression"
            f' "{column.name}" at position {first} and "{column.name}" at position {position} have'
            ' the same name. Consider aliasing ("AS") one of them.'
        )
        raise SqlError(msg)


def _qualifiers_differ(one: exp.Expression, other: exp.Expression) -> bool:
    return isinstance(other, exp.Column) and one.text("table") != other.text("table")


def renamed(columns: tuple[SqlColumn, ...], alias: exp.Expression | None) -> tuple[SqlColumn, ...]:
    """Columns with the names that stand behind an alias, if any do."""
    names = [folded(name) for name in alias.args.get("columns") or []] if alias is not None else []
    if not names:
        return columns
    if len(names) != len(columns):
        msg = f"Error during planning: {len(names)} names for {len(columns)} columns"
        raise SqlError(msg)
    return tuple(SqlColumn(name, c.type) for name, c in zip(names, columns, strict=True))
