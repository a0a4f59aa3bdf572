"""Names of answer columns that the client did not name, as DataFusion makes them up.

Lives here: `display_name`: `count(*)`, `Int64(1) + Int64(1)`, `max(sys_invocation.created_at)`.
Does not: anything else; strings that were taken out of the text stand as NUL, name, NUL.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final

from sqlglot import exp

from restated.store.sql_times import literal_interval
from restated.store.sql_typing import Scope, folded

NAME_CHARACTERS_MAX: Final = 1_000

_OPERATORS: Final[dict[type, str]] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%", exp.EQ: "=",
    exp.NEQ: "!=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.And: "AND",
    exp.Or: "OR", exp.DPipe: "||", exp.Like: "LIKE", exp.ILike: "ILIKE",
    exp.RegexpLike: "~", exp.RegexpILike: "~*", exp.BitwiseAnd: "&", exp.BitwiseOr: "|",
    exp.BitwiseXor: "BIT_XOR", exp.BitwiseLeftShift: "<<", exp.BitwiseRightShift: ">>",
}  # fmt: skip
_DENIED: Final[dict[type, str]] = {
    exp.RegexpLike: "!~", exp.RegexpILike: "!~*",
}  # fmt: skip
_FUNCTION_NAMES: Final = {
    "substring": "substr", "str_position": "strpos", "group_concat": "string_agg",
    "timestamp_trunc": "date_trunc", "extract": "date_part",
}  # fmt: skip  # sqlglot's -> DataFusion's
_UPPER: Final = {"unnest": "UNNEST"}
_TRIMS: Final = {"LEADING": "ltrim", "TRAILING": "rtrim"}


def display_name(projection: exp.Expression, scope: Scope) -> str:
    """The name of a column of an answer."""
    if isinstance(projection, exp.Alias):
        return folded(projection.args["alias"])
    if isinstance(projection, exp.Column):
        return folded(projection.this)
    return _shown(projection, scope)[:NAME_CHARACTERS_MAX]


def _shown(node: exp.Expression, scope: Scope) -> str:
    leaf = _LEAVES.get(type(node))
    if leaf is not None:
        return leaf(node)
    form = _FORMS.get(type(node))
    if form is not None:
        return form(node, scope)
    match node:
        case exp.Column():
            name = folded(node.this)
            found = scope.find(name, folded(node.args.get("table")))
            return name if found is None else found[1].shown(found[0])
        case exp.Paren() | exp.Cast():
            return _shown(node.this, scope)
        case exp.Neg() if isinstance(node.this, exp.Literal):
            return _shown(node.this, scope).replace("(", "(-", 1)
        case exp.Binary() if type(node) in _OPERATORS:
            operator = _OPERATORS[type(node)]
            if node.args.get("negate"):
                operator = f"NOT {operator}"
            return f"{_shown(node.this, scope)} {operator} {_shown(node.expression, scope)}"
        case exp.Func():
            return _called(node, scope)
        case _:
            return node.sql(dialect="postgres", comments=False)


def _all(nodes: Iterable[exp.Expression], scope: Scope, between: str = ",") -> str:
    return between.join(_shown(node, scope) for node in nodes)


def _is(node: exp.Expression, scope: Scope) -> str:
    word = "IS NOT" if node.args.get("negate") else "IS"
    other = node.expression
    shown = (
        str(bool(other.this)).upper() if isinstance(other, exp.Boolean) else _shown(other, scope)
    )
    return f"{_shown(node.this, scope)} {word} {shown}"


def _not(node: exp.Expression, scope: Scope) -> str:
    inner = node.this
    match inner:
        case exp.In():
            return _in(inner, scope, "NOT IN")
        case exp.Between():
            return _between(inner, scope, "NOT BETWEEN")
        case exp.Binary() if type(inner) in _DENIED:
            operator = _DENIED[type(inner)]
            return f"{_shown(inner.this, scope)} {operator} {_shown(inner.expression, scope)}"
        case _:
            return f"NOT {_shown(inner, scope)}"


def _in(node: exp.Expression, scope: Scope, word: str = "IN") -> str:
    if not node.expressions:
        return node.sql(dialect="postgres", comments=False)
    return f"{_shown(node.this, scope)} {word} {_all(node.expressions, scope, ', ')}"


def _between(node: exp.Expression, scope: Scope, word: str = "BETWEEN") -> str:
    low, high = _shown(node.args["low"], scope), _shown(node.args["high"], scope)
    return f"{_shown(node.this, scope)} {word} {low} AND {high}"


def _case(node: exp.Expression, scope: Scope) -> str:
    words = ["CASE"] if node.args.get("this") is None else ["CASE", _shown(node.this, scope)]
    for branch in node.args["ifs"]:
        words += ["WHEN", _shown(branch.this, scope), "THEN", _shown(branch.args["true"], scope)]
    if node.args.get("default") is not None:
        words += ["ELSE", _shown(node.args["default"], scope)]
    return " ".join([*words, "END"])


def _window(node: exp.Expression, scope: Scope) -> str:
    parts = [_shown(node.this, scope)]
    if node.args.get("partition_by"):
        parts.append(f"PARTITION BY [{_all(node.args['partition_by'], scope, ', ')}]")
    order, spec = node.args.get("order"), node.args.get("spec")
    if order is not None:
        parts.append(f"ORDER BY [{_keys(order, scope)}]")
    if spec is not None:
        parts.append(spec.sql(dialect="postgres"))
    elif order is not None:
        parts.append("RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW")
    else:
        parts.append("ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING")
    return " ".join(parts)


def _keys(order: exp.Expression, scope: Scope) -> str:
    words = []
    for key in order.expressions:
        direction = "DESC" if key.args.get("desc") else "ASC"
        nulls = "FIRST" if key.args.get("nulls_first") else "LAST"
        words.append(f"{_shown(key.this, scope)} {direction} NULLS {nulls}")
    return ", ".join(words)


def _filter(node: exp.Expression, scope: Scope) -> str:
    return f"{_shown(node.this, scope)} FILTER (WHERE {_shown(node.expression.this, scope)})"


def _within_group(node: exp.Expression, scope: Scope) -> str:
    return f"{_shown(node.this, scope)} WITHIN GROUP [{_keys(node.args['expression'], scope)}]"


def _trim(node: exp.Expression, scope: Scope) -> str:
    name = _TRIMS.get(str(node.args.get("position") or "").upper(), "btrim")
    given = [node.args.get(key) for key in ("this", "expression")]
    return f"{name}({_all([one for one in given if one is not None], scope)})"


def _part(node: exp.Expression, scope: Scope) -> str:
    return f'date_part(Utf8("{node.this.name.lower()}"),{_shown(node.expression, scope)})'


def _truncated(node: exp.Expression, scope: Scope) -> str:
    unit = node.args["unit"].name.lower()
    return f'date_trunc(Utf8("{unit}"),{_shown(node.this, scope)})'


_FORMS: Final[dict[type[exp.Expression], Callable[[exp.Expression, Scope], str]]] = {
    exp.Not: _not,
    exp.Is: _is,
    exp.In: _in,
    exp.Between: _between,
    exp.Case: _case,
    exp.Window: _window,
    exp.Filter: _filter,
    exp.WithinGroup: _within_group,
    exp.Trim: _trim,
    exp.Extract: _part,
    exp.TimestampTrunc: _truncated,
    exp.Distinct: lambda node, scope: f"DISTINCT {_all(node.expressions, scope)}",
    exp.Array: lambda node, scope: f"make_array({_all(node.expressions, scope)})",
    exp.Bracket: lambda node, scope: f"{_shown(node.this, scope)}[{_all(node.expressions, scope)}]",
}


def _literal(node: exp.Expression) -> str:
    if node.args.get("is_string"):
        return f'Utf8("{node.name}")'
    if node.name.isdigit():
        return f"Int64({node.name})"
    return f"Float64({Decimal(repr(float(node.name))).normalize():f})"


def _interval(node: exp.Expression) -> str:
    length = literal_interval(node)
    if length is None:
        return node.sql(dialect="postgres", comments=False)
    months, days, nanoseconds = length
    inside = f"months: {months}, days: {days}, nanoseconds: {nanoseconds}"
    return f'IntervalMonthDayNano("IntervalMonthDayNano {{ {inside} }}")'


def _binary(node: exp.Expression) -> str:
    octets = bytes.fromhex(node.name)
    return f'Binary("{",".join(str(octet) for octet in octets)}")'


_LEAVES: Final[dict[type[exp.Expression], Callable[[exp.Expression], str]]] = {
    exp.Literal: _literal,
    exp.Placeholder: lambda node: f'Utf8("\0{node.name}\0")',
    exp.Boolean: lambda node: f"Boolean({str(bool(node.this)).lower()})",
    exp.Null: lambda _: "NULL",
    exp.Star: lambda _: "*",
    exp.Interval: _interval,
    exp.HexString: _binary,
}


def _called(node: exp.Func, scope: Scope) -> str:
    if isinstance(node, exp.Anonymous):
        name, arguments = str(node.this).lower(), list(node.expressions)
        name = _UPPER.get(name, name)
    else:
        name, arguments = _function_name(node), _arguments(node)
    orders = [one for one in arguments if isinstance(one, exp.Order)]
    arguments = [one.this if isinstance(one, exp.Order) else one for one in arguments]
    called = f"{name}({_all(arguments, scope)})"
    return f"{called} ORDER BY [{_keys(orders[0], scope)}]" if orders else called


def _function_name(node: exp.Func) -> str:
    name = node.sql_name().lower()
    return _FUNCTION_NAMES.get(name, name)


def _arguments(node: exp.Func) -> list[exp.Expression]:
    found: list[exp.Expression] = []
    for key in node.arg_types:
        value = node.args.get(key)
        if isinstance(value, list):
            found += [one for one in value if isinstance(one, exp.Expression)]
        elif isinstance(value, exp.Expression):
            found.append(value)
    return found
