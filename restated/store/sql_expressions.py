"""Each kind of SQL expression: its type, and its spelling for SQLite.

Lives here: `Expressions.type_of`, which types an expression from the leaves up and rewrites it in
place; the tables of functions that statements may call.
Does not: SELECT, FROM and ORDER BY (dialect.py), meeting of types (sql_typing.py).

Whatever is in none of the tables is refused: the tables are the allow-list of the language.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sqlglot import exp

from restated.store import sql_aggregates, sql_times
from restated.store.sql_calls import (
    CASTS,
    FUNCTIONS,
    LISTS,
    check_count,
    check_types,
    known_as,
    result_of,
)
from restated.store.sql_named import NAMED
from restated.store.sql_rewriting import element_of_list, is_quantified, quantified
from restated.store.sql_tables import ARROW_NAMES, INVOCATION_ID_COLUMNS, SqlColumn, SqlType
from restated.store.sql_typing import (
    DURATIONS,
    INTEGERS,
    NUMBERS,
    TIMES,
    Scope,
    SqlError,
    call,
    cast,
    coerce,
    coerced,
    comparable,
    converted,
    folded,
    no_field,
    unify,
)

_COMPARISONS: Final = (
    exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ,
)  # fmt: skip
_ARITHMETIC: Final = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod)
_BITWISE: Final = (
    exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.BitwiseLeftShift, exp.BitwiseRightShift,
)  # fmt: skip
_JSON_GETTERS: Final[dict[SqlType, str]] = {
    "text": "json_get_str", "i64": "json_get_int", "i32": "json_get_int", "f64": "json_get_float",
    "bool": "json_get_bool",
}  # fmt: skip  # what a cast of an untyped value of JSON asks for

TypeQuery = Callable[[exp.Expression, Scope], tuple[SqlColumn, ...]]


class Expressions:
    """Types expressions of one statement. `invocation_ids` collects what must be such an id."""

    def __init__(self, type_query: TypeQuery) -> None:
        self._type_query = type_query
        self.invocation_ids: list[str] = []
        self._kinds: dict[type[exp.Expression], Callable[[exp.Expression, Scope], SqlType]] = {
            exp.Column: self._column,
            exp.Literal: self._literal,
            exp.Placeholder: lambda _node, _scope: "text",
            exp.Boolean: lambda _node, _scope: "bool",
            exp.Null: lambda _node, _scope: "null",
            exp.HexString: lambda _node, _scope: "binary",
            exp.Alias: self._inner,
            exp.Paren: self._inner,
            exp.Distinct: self._distinct,
            exp.Neg: self._negation,
            exp.Not: self._boolean,
            exp.And: self._boolean,
            exp.Or: self._boolean,
            exp.Is: self._boolean,
            exp.Like: self._like,
            exp.ILike: self._like,
            exp.Escape: self._escape,
            exp.Between: self._between,
            exp.In: self._in,
            exp.Exists: self._exists,
            exp.Subquery: self._scalar,
            exp.DPipe: self._concatenation,
            exp.Case: self._case,
            exp.If: self._inner,
            exp.Cast: self._cast,
            exp.TryCast: self._cast,
            exp.Interval: partial(sql_times.type_interval, self.type_of),
            exp.CurrentTimestamp: partial(sql_times.type_now, self.type_of),
            exp.CurrentDate: partial(sql_times.type_today, self.type_of),
            exp.DateBin: partial(sql_times.type_date_bin, self.type_of),
            exp.TimestampTrunc: partial(sql_times.type_date_trunc, self.type_of),
            exp.Extract: partial(sql_times.type_date_part, self.type_of),
            exp.Count: partial(sql_aggregates.type_count, self.type_of),
            exp.Sum: partial(sql_aggregates.type_sum, self.type_of),
            exp.ArrayAgg: partial(sql_aggregates.type_array_agg, self.type_of),
            exp.GroupConcat: self._group_concat,
            exp.Array: self._array,
            exp.Filter: partial(sql_aggregates.type_filter, self.type_of),
            exp.Window: partial(sql_aggregates.type_window, self.type_of),
            exp.Anonymous: self._named,
            exp.Trim: self._trim,
            exp.Substring: lambda node, scope: self._positioned("substr", node, scope),
            exp.StrPosition: lambda node, scope: self._positioned("strpos", node, scope),
            exp.RegexpLike: lambda node, scope: self._regular(node, scope, ""),
            exp.RegexpILike: lambda node, scope: self._regular(node, scope, "i"),
            exp.Bracket: self._bracket,
            exp.WithinGroup: self._within_group,
            **dict.fromkeys(_BITWISE, self._bitwise),
            **dict.fromkeys(_COMPARISONS, self._comparison),
            **dict.fromkeys(_ARITHMETIC, self._arithmetic),
        }

    def type_of(self, node: exp.Expression, scope: Scope) -> SqlType:
        """The type of an expression; SqlError when it is wrong or not supported."""
        kind = self._kinds.get(type(node))
        if kind is not None:
            return kind(node, scope)
        if isinstance(node, exp.Func):
            return self.function(node, node.sql_name().lower(), _positional(node), scope)
        msg = f"This feature is not implemented: {type(node).__name__} in '{node.sql()[:80]}'"
        raise SqlError(msg)

    def condition(self, node: exp.Expression, scope: Scope) -> None:
        """Type a filter; SqlError when it is not a condition."""
        shown = node.sql()
        have = self.type_of(node, scope)
        if have not in {"bool", "null"}:
            kind = ARROW_NAMES[have]
            msg = f"Cannot create filter with non-boolean predicate '{shown}' returning {kind}"
            raise SqlError(f"Error during planning: {msg}")

    # -- leaves

    def _column(self, node: exp.Expression, scope: Scope) -> SqlType:
        assert isinstance(node, exp.Column)
        name, qualifier = folded(node.this), folded(node.args.get("table"))
        if not qualifier and name in scope.aliases:
            node.this.replace(exp.to_identifier(name, quoted=True))
            return scope.aliases[name]
        found = scope.find(name, qualifier)
        if found is None:
            raise SqlError(no_field(node, scope))
        column, source = found
        node.replace(exp.column(column.name, table=source.name, quoted=True))
        return column.type

    def _literal(self, node: exp.Expression, _scope: Scope) -> SqlType:
        assert isinstance(node, exp.Literal)
        if node.is_string:
            return "text"
        if not node.name.isdigit():
            return "f64"
        if len(node.name) < 19 or int(node.name) < 1 << 63:
            return "i64"
        padded = coerced(node, "i64", "key")
        assert padded is not None
        node.replace(padded)
        return "key"

    def _inner(self, node: exp.Expression, scope: Scope) -> SqlType:
        return self.type_of(node.this, scope)

    def _negation(self, node: exp.Expression, scope: Scope) -> SqlType:
        have = self.type_of(node.this, scope)
        if have not in NUMBERS | DURATIONS | {"null"}:
            msg = f"Error during planning: Negation only supports numeric types, not {have}"
            raise SqlError(msg)
        return have

    def _distinct(self, node: exp.Expression, scope: Scope) -> SqlType:
        if node.args.get("on") or len(node.expressions) != 1:
            msg = "This feature is not implemented: DISTINCT over several expressions"
            raise SqlError(msg)
        return self.type_of(node.expressions[0], scope)

    # -- conditions

    def _boolean(self, node: exp.Expression, scope: Scope) -> SqlType:
        for part in (node.args.get("this"), node.args.get("expression")):
            if part is not None:
                self.type_of(part, scope)
        return "bool"

    def _comparison(self, node: exp.Expression, scope: Scope) -> SqlType:
        if is_quantified(node):
            node.replace(replaced := quantified(node))
            return self.type_of(replaced, scope)
        self._compare(node.args["this"], [node.args["expression"]], scope)
        return "bool"

    def _between(self, node: exp.Expression, scope: Scope) -> SqlType:
        self._compare(node.this, [node.args["low"], node.args["high"]], scope)
        return "bool"

    def _compare(self, left: exp.Expression, others: list[exp.Expression], scope: Scope) -> SqlType:
        """Bring both sides to one type. `left` and `others` may be replaced in their tree."""
        holder, key = left.parent, left.arg_key
        assert holder is not None
        assert key is not None
        have = self.type_of(left, scope)
        left = holder.args[key]
        parents = [(other.parent, other.arg_key, other.index) for other in others]
        beside = self.type_of
        if have in DURATIONS:
            beside = partial(sql_times.type_beside_duration, self.type_of, have)
        types = [beside(other, scope) for other in others]
        self._note_ids(left, others, scope)
        common = have
        for one in types:
            common = comparable(common, one)
        coerce(left, have, common)
        for (parent, name, index), one in zip(parents, types, strict=True):
            assert parent is not None
            assert name is not None
            value = parent.args[name]
            coerce(value if index is None else value[index], one, common)
        return common

    def _note_ids(self, left: exp.Expression, others: list[exp.Expression], scope: Scope) -> None:
        for column, value in ((left, others), (others[0] if others else left, [left])):
            if not isinstance(column, exp.Column):
                continue
            found = scope.find(folded(column.this), folded(column.args.get("table")))
            if found is None or (found[1].table or "", found[0].name) not in INVOCATION_ID_COLUMNS:
                continue
            self.invocation_ids += [v.name for v in value if isinstance(v, exp.Placeholder)]

    def _like(self, node: exp.Expression, scope: Scope) -> SqlType:
        for key in ("this", "expression"):
            self._as(node, key, "text", scope)
        sides = [node.args["this"], node.args["expression"]]
        if isinstance(node, exp.ILike):
            sides = [call("lower_text", side) for side in sides]
        like: exp.Expression = exp.Like(
            this=sides[0].copy(), expression=sides[1].copy(), negate=node.args.get("negate")
        )
        if not isinstance(node.parent, exp.Escape):
            like = exp.Escape(this=like, expression=exp.Literal.string("\\"))  # DataFusion's own
        node.replace(like)
        return "bool"

    def _escape(self, node: exp.Expression, scope: Scope) -> SqlType:
        if not isinstance(node.expression, exp.Literal) or len(node.expression.name) != 1:
            msg = "This feature is not implemented: ESCAPE of anything but one character"
            raise SqlError(msg)
        self.type_of(node.this, scope)
        return "bool"

    def _in(self, node: exp.Expression, scope: Scope) -> SqlType:
        query = node.args.get("query")
        if query is not None:
            have = self.type_of(node.this, scope)
            columns = self._type_query(query, scope)
            if len(columns) != 1:
                raise SqlError("Error during planning: IN needs a query of one column")
            coerce(node.this, have, comparable(have, columns[0].type))
            return "bool"
        if not node.expressions:
            msg = "This feature is not implemented: IN without a list or a query"
            raise SqlError(msg)
        self._compare(node.this, list(node.expressions), scope)
        return "bool"

    def _exists(self, node: exp.Expression, scope: Scope) -> SqlType:
        self._type_query(node.this, scope)
        return "bool"

    def _scalar(self, node: exp.Expression, scope: Scope) -> SqlType:
        columns = self._type_query(node.this, scope)
        if len(columns) != 1:
            msg = "Error during planning: a scalar subquery has one column"
            raise SqlError(msg)
        return columns[0].type

    # -- arithmetic

    def _arithmetic(self, node: exp.Expression, scope: Scope) -> SqlType:
        for time, other in (
            (node.this, node.args["expression"]),
            (node.args["expression"], node.this),
        ):
            interval = sql_times.literal_interval(other)
            if interval is not None:
                return sql_times.type_shift(self.type_of, node, time, interval, scope)
        left = self.type_of(node.this, scope)
        right = self.type_of(node.expression, scope)
        both = {left, right}
        if "date" in both and both <= INTEGERS | {"date"}:
            return sql_times.type_date_shift(node, left, right)
        if both & (TIMES | DURATIONS):
            return sql_times.type_difference(node, left, right)
        if not both <= NUMBERS | {"null", "text"} or both == {"text"}:
            msg = f"Error during planning: Cannot coerce arithmetic expression {left} with {right}"
            raise SqlError(msg)
        common = unify(left, right) if both <= NUMBERS | {"null"} else "f64"
        common = "i64" if common in {"key", "i32"} else common
        coerce(node.this, left, common)
        coerce(node.expression, right, common)
        divides = isinstance(node, exp.Div | exp.IntDiv | exp.Mod)
        if divides and common != "f64" and _is_zero(node.expression):
            msg = "Arrow error: Divide by zero error"
            raise SqlError(msg)
        if isinstance(node, exp.Mod) and common == "f64":
            node.replace(call("remainder", node.this, node.expression))
        if isinstance(node, exp.Div):
            node.set("typed", True)
            node.set("safe", False)
        return common

    def _bitwise(self, node: exp.Expression, scope: Scope) -> SqlType:
        for key in ("this", "expression"):
            if self.type_of(node.args[key], scope) not in INTEGERS | {"null"}:
                raise SqlError(
                    "Error during planning: Cannot infer common type for bitwise operation"
                )
        if isinstance(node, exp.BitwiseXor):
            node.replace(call("bit_xor_of", node.this, node.expression))
        return "i64"

    def _concatenation(self, node: exp.Expression, scope: Scope) -> SqlType:
        if isinstance(node.this, exp.Array) or isinstance(node.expression, exp.Array):
            return self.function(node, "array_concat", [node.this, node.expression], scope)
        for key in ("this", "expression"):
            self._as(node, key, "text", scope)
        return "text"

    def _as(self, node: exp.Expression, key: str, want: SqlType, scope: Scope) -> None:
        """Type the argument `key` of a node and have it kept as `want`."""
        have = self.type_of(node.args[key], scope)
        if want == "text" and have == "binary":
            node.args[key].replace(cast(node.args[key], "TEXT"))
            return
        coerce(node.args[key], have, want)

    # -- CASE, CAST, INTERVAL

    def _case(self, node: exp.Expression, scope: Scope) -> SqlType:
        subject = node.args.get("this")
        branches: list[tuple[exp.Expression, str, SqlType]] = []
        for branch in node.args["ifs"]:
            if subject is None:
                self.type_of(branch.this, scope)
            branches.append((branch, "true", self.type_of(branch.args["true"], scope)))
        if subject is not None:
            have = self.type_of(subject, scope)
            tested = [(branch, self.type_of(branch.this, scope)) for branch in node.args["ifs"]]
            for branch, one in tested:
                coerce(branch.this, one, comparable(have, one))
        if node.args.get("default") is not None:
            branches.append((node, "default", self.type_of(node.args["default"], scope)))
        common: SqlType = "null"
        for _, _, one in branches:
            common = unify(common, one)
        for owner, key, one in branches:
            coerce(owner.args[key], one, common)
        return common

    def _cast(self, node: exp.Expression, scope: Scope) -> SqlType:
        name = node.args["to"].this
        word = str(getattr(name, "value", name)).upper()
        if word == "INTERVAL" and isinstance(node.this, exp.Literal):
            return sql_times.type_interval(self.type_of, node, scope)
        want = CASTS.get(word)
        if want is None:
            msg = f"This feature is not implemented: CAST to {word}"
            raise SqlError(msg)
        json = node.this.unnest()
        if isinstance(json, exp.Anonymous) and json.name == "json_get" and want in _JSON_GETTERS:
            json.set("this", _JSON_GETTERS[want])
        have = self.type_of(node.this, scope)
        if have == "key" and want == "u64":
            node.replace(node.this.copy())
            return "key"
        is_strict = not isinstance(node, exp.TryCast)
        changed = converted(node.this, have, want, is_strict=is_strict)
        places = node.args["to"].expressions[1:2] if word == "DECIMAL" else []
        node.replace(call("round_number", changed, places[0].this) if places else changed)
        return want

    # -- lists

    def _group_concat(self, node: exp.Expression, scope: Scope) -> SqlType:
        distinct = sql_aggregates.distinct_list(node)
        if distinct is not None:
            given = [distinct, node.args.get("separator") or exp.Literal.string(",")]
            return self.function(node, "array_to_string", given, scope)
        given = _positional(node, "this", "separator")
        return self.function(node, "string_agg", given, scope)

    def _within_group(self, node: exp.Expression, scope: Scope) -> SqlType:
        node.replace(replaced := sql_aggregates.within_group(node))
        return self.type_of(replaced, scope)

    def _array(self, node: exp.Expression, scope: Scope) -> SqlType:
        common: SqlType = "null"
        for element in list(node.expressions):
            common = unify(common, self.type_of(element, scope))
        elements = [element_of_list(element, common) for element in node.expressions]
        node.replace(call("json_array", *elements))
        return LISTS.get(common, "list_text")

    def _bracket(self, node: exp.Expression, scope: Scope) -> SqlType:
        if len(node.expressions) != 1 or isinstance(node.expressions[0], exp.Slice):
            msg = "This feature is not implemented: a slice in brackets; use array_slice"
            raise SqlError(msg)
        return self.function(node, "array_element", [node.this, node.expressions[0]], scope)

    # -- functions

    def _trim(self, node: exp.Expression, scope: Scope) -> SqlType:
        name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(
            str(node.args.get("position") or "").upper(), "btrim"
        )
        return self.function(node, name, _positional(node, "this", "expression"), scope)

    def _positioned(self, name: str, node: exp.Expression, scope: Scope) -> SqlType:
        return self.function(node, name, _positional(node), scope)

    def _regular(self, node: exp.Expression, scope: Scope, flags: str) -> SqlType:
        given = [node.this, node.expression, exp.Literal.string(flags)]
        return self.function(node, "regexp_like", given, scope)

    def _named(self, node: exp.Expression, scope: Scope) -> SqlType:
        name, arguments = str(node.this).lower(), list(node.expressions)
        own = NAMED.get(name)
        if own is not None:
            return own(self, node, arguments, scope)
        return self.function(node, name, arguments, scope)

    def function(
        self, node: exp.Expression, name: str, arguments: Sequence[exp.Expression], scope: Scope
    ) -> SqlType:
        """The type of a plain function, which takes the place of `node`."""
        found = FUNCTIONS.get(known_as(name))
        if found is None:
            msg = f"Error during planning: Invalid function '{name}'."
            raise SqlError(msg)
        check_count(name, len(arguments), found.least, found.most)
        spelled = sql_aggregates.spelled(found.name, node)
        typed = exp.Anonymous(this=spelled, expressions=[a.copy() for a in arguments])
        order = sql_aggregates.take_order(self.type_of, typed, scope)
        types = [self.type_of(argument, scope) for argument in list(typed.expressions)]
        check_types(name, found, types)
        result = result_of(found, types)
        for position, have in enumerate(types):
            argument = typed.expressions[position]
            want = found.wanted(position)
            if want == "text" and have == "binary":
                argument.replace(cast(argument, "TEXT"))
            elif want == "i64" and have in {"f64", "text"}:
                argument.replace(call("cast_int", argument))
            elif want is not None or found.result == "common":
                coerce(argument, have, want or result)
        sql_aggregates.put_order(typed, order)
        node.replace(typed)
        return result


def _positional(node: exp.Expression, *keys: str) -> list[exp.Expression]:
    """The arguments of a function that sqlglot knows by name, in order."""
    found: list[exp.Expression] = []
    for key in keys or tuple(node.arg_types):
        value = node.args.get(key)
        if isinstance(value, list):
            found += [one for one in value if isinstance(one, exp.Expression)]
        elif isinstance(value, exp.Expression):
            found.append(value)
    return found


def _is_zero(node: exp.Expression) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and float(node.name) == 0
