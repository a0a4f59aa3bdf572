"""Forms of SQL as other forms that mean the same, before anything is typed or after.

Lives here: quantified comparisons, NVL2, elements of a list as JSON; queries whose rows are chosen
by a window: DISTINCT ON, QUALIFY.
Does not: types (sql_expressions.py), who asks (dialect.py).
"""

from collections.abc import Callable
from typing import Final

from sqlglot import exp

from restated.store.sql_calls import LISTS
from restated.store.sql_tables import LIST_TABLE, SqlColumn, SqlType
from restated.store.sql_typing import SqlError, call, to_text

PREFIX: Final = "sql$query"  # no name of a client's starts so
UNNESTED: Final = f"{PREFIX}unnested"


def quantified(node: exp.Expression) -> exp.Expression:
    """`x = ANY (...)` and `x <> ALL (...)` of a list or a query."""
    quantifier, is_any = node.expression, isinstance(node.expression, exp.Any)
    given = quantifier.expressions[0] if isinstance(quantifier, exp.Anonymous) else quantifier.this
    inside = given.unnest()
    is_query = isinstance(inside, exp.Query)
    if is_any and isinstance(node, exp.EQ):
        if is_query:
            return exp.In(this=node.this.copy(), query=exp.Subquery(this=inside.copy()))
        return call("array_has", inside, node.this)
    if not is_any and isinstance(node, exp.NEQ):
        if is_query:
            found = exp.In(this=node.this.copy(), query=exp.Subquery(this=inside.copy()))
            return exp.Not(this=found)
        return exp.Not(this=call("array_has", inside, node.this))
    if not is_any and isinstance(node, exp.EQ) and not is_query:
        return call("list_is_all", inside, node.this)
    raise SqlError("This feature is not implemented: ANY and ALL, but for = ANY and <> ALL")


def is_quantified(node: exp.Expression) -> bool:
    """Whether a comparison is with ANY or ALL of something."""
    other = node.expression
    is_all_of_list = isinstance(other, exp.Anonymous) and other.name.lower() == "all"
    return isinstance(other, exp.Any | exp.All) or (is_all_of_list and len(other.expressions) == 1)


def nvl2(
    tested: exp.Expression, present: exp.Expression, missing: exp.Expression
) -> exp.Expression:
    """NVL2 as a CASE."""
    is_present = exp.Not(this=exp.Is(this=tested.copy(), expression=exp.Null()))
    return exp.Case(ifs=[exp.If(this=is_present, true=present.copy())], default=missing.copy())


def element_of_list(node: exp.Expression, common: SqlType) -> exp.Expression:
    """A typed value as it stands in a list: JSON has booleans, and no times."""
    if common == "bool":
        return call("json", to_text(node, "bool") or node)
    text = to_text(node, common) if common not in LISTS else None
    if common.startswith("list_"):
        return call("json", node)
    return text or node


def chosen_rows(
    node: exp.Select, columns: tuple[SqlColumn, ...], condition: exp.Expression
) -> None:
    """Make a typed SELECT the query of those of its rows for which `condition` holds.

    The condition, and the keys that the rows are ordered by, are computed beside the columns: a
    window is not yet there in WHERE. What names an alias or a position is that projection.
    """
    inner = node.copy()
    projections = list(inner.expressions)
    bare = [one.this if isinstance(one, exp.Alias) else one for one in projections]
    order = node.args.get("order")
    keys = [ordered.copy() for ordered in order.expressions] if order is not None else []
    written = [
        exp.alias_(value.copy(), f"{PREFIX}{at}", quoted=True) for at, value in enumerate(bare)
    ]
    for at, key in enumerate(keys):
        sought = projected(key.this, columns, bare)
        written.append(exp.alias_(sought.copy(), f"{PREFIX}order{at}", quoted=True))
        key.set("this", exp.column(f"{PREFIX}order{at}", quoted=True))
    written.append(exp.alias_(condition.copy(), f"{PREFIX}chosen", quoted=True))
    inner.set("expressions", written)
    for part in ("with_", "order", "limit", "offset", "distinct", "qualify"):
        inner.set(part, None)
    kept = {part: node.args.get(part) for part in ("with_", "limit", "offset")}
    is_distinct = node.args.get("distinct") is not None and not node.args["distinct"].args.get("on")
    outside = exp.Select(
        expressions=[
            exp.alias_(exp.column(f"{PREFIX}{at}", quoted=True), column.name, quoted=True)
            for at, column in enumerate(columns)
        ]
    ).from_(exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier(f"{PREFIX}rows"))))
    outside = outside.where(exp.column(f"{PREFIX}chosen", quoted=True), copy=False)
    node.args.clear()
    for key_, value in {**outside.args, **kept}.items():
        node.set(key_, value)
    node.set("order", exp.Order(expressions=keys) if keys else None)
    node.set("distinct", exp.Distinct() if is_distinct else None)


def first_of_each(
    node: exp.Select, columns: tuple[SqlColumn, ...], keys: list[exp.Expression]
) -> exp.Expression:
    """The condition of DISTINCT ON: the first row with its keys, in the order of the query."""
    bare = [one.this if isinstance(one, exp.Alias) else one for one in node.expressions]
    order = node.args.get("order")
    ordered = [one.copy() for one in order.expressions] if order is not None else []
    for one in ordered:
        one.set("this", projected(one.this, columns, bare).copy())
    partition = [projected(key, columns, bare).copy() for key in keys]
    first = [one.this for one in ordered[: len(keys)]]
    if not all(one in partition for one in first):
        msg = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions"
        raise SqlError(f"Error during planning: {msg}")
    window = exp.Window(
        this=exp.Anonymous(this="row_number"),
        partition_by=partition,
        order=exp.Order(expressions=ordered) if ordered else None,
    )
    return exp.EQ(this=window, expression=exp.Literal.number(1))


def projected(
    key: exp.Expression, columns: tuple[SqlColumn, ...], projections: list[exp.Expression]
) -> exp.Expression:
    """The projection that a key names or counts to; the key itself if it does neither."""
    if isinstance(key, exp.Literal) and not key.is_string and key.name.isdigit():
        at = int(key.name) - 1
        return projections[at] if 0 <= at < len(projections) else key
    if isinstance(key, exp.Column) and not key.table:
        for column, projection in zip(columns, projections, strict=True):
            if column.name == key.name:
                return projection
    return key


def unnested(node: exp.Select, name: Callable[[exp.Expression], str]) -> exp.Expression | None:
    """Move the UNNEST of a SELECT list into its FROM, as rows of the list beside the others.

    The list, which the caller types; None if there is none. `name` is for a column without a name.
    SQLite's rows of a list come from
    `json_each`, called with what stands before it in FROM. An empty list has no row.
    """
    calls = [
        inside
        for projection in node.expressions
        for inside in projection.walk(prune=lambda one: isinstance(one, exp.Query))
        if isinstance(inside, exp.Anonymous) and inside.name.lower() == "unnest"
    ]
    if not calls:
        return None
    if len(calls) > 1 or len(calls[0].expressions) != 1:
        raise SqlError("This feature is not implemented: more than one UNNEST in a SELECT")
    listed: exp.Expression = calls[0].expressions[0].copy()
    value: exp.Expression = exp.column("value", table=UNNESTED, quoted=True)
    if calls[0].parent is node:
        value = exp.Alias(this=value, alias=exp.to_identifier(name(calls[0]), quoted=True))
    calls[0].replace(value)
    return listed


def rows_of_list(listed: exp.Expression, name: str) -> exp.Table:
    """A typed list as something to select from; its one column is `value`."""
    alias = exp.TableAlias(this=exp.to_identifier(name, quoted=True))
    return exp.Table(this=call(LIST_TABLE, listed), alias=alias)


def derived_list(listed: exp.Expression, column: str, name: str) -> exp.Subquery:
    """A typed list as a query in FROM, and the names of its column and of itself."""
    value = exp.alias_(exp.column("value", table=UNNESTED, quoted=True), column, quoted=True)
    rows = exp.Select(expressions=[value]).from_(rows_of_list(listed, UNNESTED))
    return exp.Subquery(this=rows, alias=exp.TableAlias(this=exp.to_identifier(name, quoted=True)))
