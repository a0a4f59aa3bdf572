"""Queries inside of queries: their names outside, their sides, what orders them.

Lives here: what dialect.py asks about a query that stands in FROM or in a UNION.
Does not: the typing of statements (dialect.py).
"""

from sqlglot import exp

from restated.store.sql_tables import SqlColumn
from restated.store.sql_typing import Scope, SqlError, coerce


def kept_qualifier(node: exp.Subquery) -> str:
    """The name that columns of a query without an alias are still known by, outside of it.

    That of the one thing that it selects from; empty where it could clash with another.
    """
    query, place = node.this, node.parent
    if not isinstance(place, exp.From) or not isinstance(query, exp.Select):
        return ""
    from_, outside = query.args.get("from_"), place.parent
    has_joins = query.args.get("joins") or (outside is not None and outside.args.get("joins"))
    if from_ is None or has_joins or from_.this.args.get("joins") or node.args.get("joins"):
        return ""
    return str(from_.this.alias)


def coerce_side(
    side: exp.Expression, have: tuple[SqlColumn, ...], want: tuple[SqlColumn, ...]
) -> None:
    """Bring a plain SELECT of a UNION to the types of the whole."""
    projections = list(side.expressions) if isinstance(side, exp.Select) else []
    for projection, old, new in zip(projections, have, want, strict=False):
        if old.type != new.type:
            inner = projection.this if isinstance(projection, exp.Alias) else projection
            coerce(inner, old.type, new.type)


def is_bounded(node: exp.Expression) -> bool:
    """Whether a side of a UNION has clauses that would belong to the whole."""
    return any(node.args.get(key) is not None for key in ("order", "limit", "offset", "with_"))


def of_columns(outer: Scope, columns: tuple[SqlColumn, ...]) -> Scope:
    """A scope of nothing but the columns of a compound, for its ORDER BY."""
    scope = Scope(outer, outer.ctes)
    scope.aliases = {column.name: column.type for column in columns}
    return scope


def write_natural(join: exp.Join, before: set[str], columns: tuple[SqlColumn, ...]) -> None:
    """NATURAL JOIN as USING of the columns that both sides have; SqlError for other methods."""
    method = str(join.args.get("method") or "").upper()
    if method not in {"", "NATURAL"}:
        msg = f"This feature is not implemented: {method} JOIN"
        raise SqlError(msg)
    if method:
        common = [column.name for column in columns if column.name in before]
        join.set("using", [exp.to_identifier(name, quoted=True) for name in common])
        join.set("method", None)
