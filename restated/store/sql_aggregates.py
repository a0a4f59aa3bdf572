"""Functions over many rows: their types, and their spelling for SQLite.

Lives here: COUNT, SUM, ARRAY_AGG, STRING_AGG; FILTER, OVER, WITHIN GROUP and the ORDER BY of an
argument; FIRST_VALUE and LAST_VALUE outside of a window, which SQLite does not have.
Does not: aggregates that are plain rows of a table (sql_calls.py), what they compute
(sql_statistics.py), their caller (sql_expressions.py).
"""

from typing import Final

from sqlglot import exp

from restated.store.sql_calls import LISTS
from restated.store.sql_tables import ARROW_NAMES, SqlType
from restated.store.sql_times import TypeOf
from restated.store.sql_typing import (
    DURATIONS,
    NUMBERS,
    Scope,
    SqlError,
    call,
    coerce,
    number,
    only_parts,
    to_text,
)

WINDOW_PARTS: Final = frozenset({"this", "partition_by", "order", "spec", "over", "alias"})


_OUTSIDE_A_WINDOW: Final = {"first_value": "first_of", "last_value": "last_of"}


def spelled(name: str, node: exp.Expression) -> str:
    """SQLite's or our name of a function, by where it stands."""
    if isinstance(node.parent, exp.Window):
        return name
    return _OUTSIDE_A_WINDOW.get(name, name)


def take_order(type_of: TypeOf, node: exp.Expression, scope: Scope) -> exp.Order | None:
    """The ORDER BY of the arguments of a call, typed and taken off them."""
    found = next((one for one in node.expressions if isinstance(one, exp.Order)), None)
    if found is None:
        return None
    for ordered in found.expressions:
        type_of(ordered.this, scope)
    order = exp.Order(expressions=[ordered.copy() for ordered in found.expressions])
    found.replace(found.this.copy())
    return order


def put_order(node: exp.Expression, order: exp.Order | None) -> None:
    """Order the rows of a call as `take_order` found it: behind all of its arguments."""
    if order is not None:
        last = node.expressions[-1]
        order.set("this", last.copy())
        last.replace(order)


def type_count(type_of: TypeOf, node: exp.Expression, scope: Scope) -> SqlType:
    """COUNT of rows or of values."""
    if not isinstance(node.this, exp.Star):
        type_of(node.this, scope)
    return "i64"


def type_sum(type_of: TypeOf, node: exp.Expression, scope: Scope) -> SqlType:
    """SUM keeps signs and durations."""
    have = type_of(node.this, scope)
    if have in {"u32", "u64"}:
        return "u64"
    if have in DURATIONS:
        return have
    if have not in NUMBERS | {"bool", "null"}:
        msg = f"Error during planning: Function 'sum' does not take {ARROW_NAMES[have]}"
        raise SqlError(msg)
    coerce(node.this, have, "f64" if have == "key" else have)
    return "f64" if have in {"f64", "key"} else "i64"


def type_array_agg(type_of: TypeOf, node: exp.Expression, scope: Scope) -> SqlType:
    """ARRAY_AGG is a JSON array here."""
    gathered = call("json_group_array", node.this)
    order = take_order(type_of, gathered, scope)
    have = type_of(gathered.expressions[0], scope)
    text = to_text(gathered.expressions[0], have) if have not in LISTS else None
    if text is not None:
        gathered.expressions[0].replace(text.copy())
    put_order(gathered, order)
    if not isinstance(node.parent, exp.Filter | exp.Window):  # of no rows: NULL
        gathered = call("nullif", gathered, exp.Literal.string("[]"))
    node.replace(gathered)
    return LISTS.get(have, "list_text")


def type_filter(type_of: TypeOf, node: exp.Expression, scope: Scope) -> SqlType:
    """FILTER (WHERE ...) of an aggregate."""
    type_of(node.expression.this, scope)
    return type_of(node.this, scope)


def type_window(type_of: TypeOf, node: exp.Expression, scope: Scope) -> SqlType:
    """OVER (...), or OVER a name."""
    type_definition(type_of, node, scope)
    return type_of(node.this, scope)


def type_definition(type_of: TypeOf, node: exp.Expression, scope: Scope) -> None:
    """What stands inside of OVER (...), or behind WINDOW and a name."""
    only_parts(node, WINDOW_PARTS)
    for part in node.args.get("partition_by") or []:
        type_of(part, scope)
    order = node.args.get("order")
    for ordered in order.expressions if order is not None else []:
        type_of(ordered.this, scope)


def within_group(node: exp.Expression) -> exp.Expression:
    """`f(fraction) WITHIN GROUP (ORDER BY value)` as `f(value, fraction)`."""
    order, inner = node.args["expression"], node.this
    if not isinstance(inner, exp.Anonymous) or len(inner.expressions) != 1:
        raise SqlError("This feature is not implemented: WITHIN GROUP of this function")
    (ordered,) = order.expressions
    fraction = inner.expressions[0]
    if ordered.args.get("desc"):
        fraction = exp.paren(exp.Sub(this=number(1), expression=exp.paren(fraction)))
    return call(inner.name, ordered.this, fraction)


def distinct_list(node: exp.Expression) -> exp.Expression | None:
    """STRING_AGG of distinct values as the list to join; SQLite has no such with a separator."""
    order = node.this if isinstance(node.this, exp.Order) else None
    distinct = node.this if order is None else order.this
    if not isinstance(distinct, exp.Distinct):
        return None
    return exp.ArrayAgg(this=node.this.copy())
