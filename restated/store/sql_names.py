"""Names of answer columns that the client did not name, as DataFusion makes them up.

Lives here: `display_name`: `count(*)`, `Int64(1) + Int64(1)`, `max(sys_invocation.created_at)`.
Does not: anything else; strings that were taken out of the text stand as NUL, name, NUL.
"""

from collections.abc import Callable
from typing import Final

from sqlglot import exp

from restated.store.sql_typing import Scope, folded

NAME_CHARACTERS_MAX: Final = 1_000

_OPERATORS: Final[dict[type[exp.Expression], str]] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%", exp.EQ: "=",
    exp.NEQ: "!=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.And: "AND",
    exp.Or: "OR", exp.DPipe: "||", exp.Like: "LIKE", exp.ILike: "ILIKE", exp.Is: "IS",
}  # fmt: skip
_FUNCTION_NAMES: Final = {
    "current_timestamp": "now", "trim": "btrim", "substring": "substr", "str_position": "strpos",
    "group_concat": "string_agg", "array_agg": "array_agg", "current_version": "version",
}  # fmt: skip


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
    match node:
        case exp.Column():
            name = folded(node.this)
            found = scope.find(name, folded(node.args.get("table")))
            return name if found is None else found[1].shown(found[0])
        case exp.Paren() | exp.Cast():
            return _shown(node.this, scope)
        case exp.Neg() if isinstance(node.this, exp.Literal):
            return _shown(node.this, scope).replace("(", "(-", 1)
        case exp.Distinct():
            return "DISTINCT " + ",".join(_shown(one, scope) for one in node.expressions)
        case exp.Binary() if type(node) in _OPERATORS:
            operator = _OPERATORS[type(node)]
            return f"{_shown(node.this, scope)} {operator} {_shown(node.expression, scope)}"
        case exp.Func():
            return _called(node, scope)
        case _:  # IN, BETWEEN, ...
            return node.sql(dialect="postgres", comments=False)


def _literal(node: exp.Expression) -> str:
    if node.args.get("is_string"):
        return f'Utf8("{node.name}")'
    if node.name.isdigit():
        return f"Int64({node.name})"
    return f"Float64({float(node.name):g})"


_LEAVES: Final[dict[type[exp.Expression], Callable[[exp.Expression], str]]] = {
    exp.Literal: _literal,
    exp.Placeholder: lambda node: f'Utf8("\0{node.name}\0")',
    exp.Boolean: lambda node: f"Boolean({str(bool(node.this)).lower()})",
    exp.Null: lambda _: "NULL",
    exp.Star: lambda _: "*",
    exp.Case: lambda node: node.sql(dialect="postgres", comments=False),
}


def _called(node: exp.Func, scope: Scope) -> str:
    if isinstance(node, exp.Anonymous):
        name, arguments = str(node.this).lower(), list(node.expressions)
    else:
        name, arguments = _function_name(node), _arguments(node)
    return f"{name}({','.join(_shown(argument, scope) for argument in arguments)})"


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
