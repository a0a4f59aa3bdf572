"""Each kind of SQL expression: its type, and its spelling for SQLite.

Lives here: `Expressions.type_of`, which types an expression from the leaves up and rewrites it in
place; the tables of functions that statements may call.
Does not: SELECT, FROM and ORDER BY (dialect.py), meeting of types (sql_typing.py).

Whatever is in none of the tables is refused: the tables are the allow-list of the language.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from sqlglot import exp

from restated.store.sql_intervals import Interval, read_interval
from restated.store.sql_tables import ARROW_NAMES, INVOCATION_ID_COLUMNS, SqlColumn, SqlType
from restated.store.sql_typing import (
    DURATIONS,
    NS_A_MS,
    NUMBERS,
    TIMES,
    Scope,
    SqlError,
    call,
    cast,
    coerce,
    coerced,
    comparable,
    folded,
    number,
    to_text,
    unify,
)

ARGUMENTS_MAX: Final = 100  # of one function


class Call(NamedTuple):
    """A function that clients may call: SQLite's or our name for it, types in, type out.

    `result` is a type, or `first` for that of the first argument, or `common` for what all
    arguments unify to. The last of `arguments` stands for all that follow it.
    """

    name: str
    arguments: tuple[SqlType | None, ...]
    result: SqlType | Literal["first", "common"]
    least: int = 1
    most: int = 1


_T: Final = ("text",)
_ANY: Final = (None,)
FUNCTIONS: Final[dict[str, Call]] = {
    "lower": Call("lower", _T, "text"),
    "upper": Call("upper", _T, "text"),
    "length": Call("length", _T, "i32"),
    "octet_length": Call("octet_length", _T, "i32"),
    "substr": Call("substr", ("text", "i64"), "text", 2, 3),
    "btrim": Call("trim", _T, "text", 1, 2),
    "ltrim": Call("ltrim", _T, "text", 1, 2),
    "rtrim": Call("rtrim", _T, "text", 1, 2),
    "replace": Call("replace", _T, "text", 3, 3),
    "split_part": Call("split_part", ("text", "text", "i64"), "text", 3, 3),
    "strpos": Call("instr", _T, "i32", 2, 2),
    "concat": Call("concat", _T, "text", 1, ARGUMENTS_MAX),
    "concat_ws": Call("concat_ws", _T, "text", 2, ARGUMENTS_MAX),
    "starts_with": Call("starts_with", _T, "bool", 2, 2),
    "ends_with": Call("ends_with", _T, "bool", 2, 2),
    "contains": Call("contains_text", _T, "bool", 2, 2),
    "reverse": Call("reverse_text", _T, "text"),
    "repeat": Call("repeat_text", ("text", "i64"), "text", 2, 2),
    "lpad": Call("lpad", ("text", "i64", "text"), "text", 2, 3),
    "rpad": Call("rpad", ("text", "i64", "text"), "text", 2, 3),
    "coalesce": Call("coalesce", _ANY, "common", 1, ARGUMENTS_MAX),
    "nvl": Call("ifnull", _ANY, "common", 2, 2),
    "nullif": Call("nullif", _ANY, "first", 2, 2),
    "greatest": Call("largest", _ANY, "common", 1, ARGUMENTS_MAX),
    "least": Call("smallest", _ANY, "common", 1, ARGUMENTS_MAX),
    "abs": Call("abs", _ANY, "first"),
    "sign": Call("sign", _ANY, "first"),
    "ceil": Call("ceil", ("f64",), "f64"),
    "floor": Call("floor", ("f64",), "f64"),
    "trunc": Call("trunc", ("f64",), "f64"),
    "round": Call("round", ("f64", "i64"), "f64", 1, 2),
    "sqrt": Call("sqrt", ("f64",), "f64"),
    "power": Call("pow", ("f64",), "f64", 2, 2),
    "exp": Call("exp", ("f64",), "f64"),
    "ln": Call("ln", ("f64",), "f64"),
    "log10": Call("log10", ("f64",), "f64"),
    "log2": Call("log2", ("f64",), "f64"),
    "md5": Call("md5", _ANY, "text"),
    "sha256": Call("sha256", _ANY, "binary"),
    "cardinality": Call("json_array_length", _ANY, "u64"),
    "array_length": Call("json_array_length", _ANY, "u64"),
    "version": Call("server_version", (), "text", 0, 0),
    "row_number": Call("row_number", (), "u64", 0, 0),
    "rank": Call("rank", (), "u64", 0, 0),
    "dense_rank": Call("dense_rank", (), "u64", 0, 0),
    "ntile": Call("ntile", ("i64",), "u64"),
    "lag": Call("lag", _ANY, "first", 1, 3),
    "lead": Call("lead", _ANY, "first", 1, 3),
    "first_value": Call("first_value", _ANY, "first"),
    "last_value": Call("last_value", _ANY, "first"),
    "min": Call("min", _ANY, "first"),
    "max": Call("max", _ANY, "first"),
    "avg": Call("avg", ("f64",), "f64"),
    "median": Call("median", ("f64",), "f64"),
    "string_agg": Call("group_concat", _T, "text", 1, 2),
}
_SPELLINGS: Final = {
    "char_length": "length", "character_length": "length", "len": "length", "trim": "btrim",
    "substring": "substr", "position": "strpos", "instr": "strpos", "ifnull": "nvl",
    "pow": "power", "ceiling": "ceil", "group_concat": "string_agg", "str_position": "strpos",
    "mean": "avg", "first": "first_value", "last": "last_value", "m_d5": "md5",
    "array_size": "cardinality", "current_version": "version",
}  # fmt: skip

_COMPARISONS: Final = (
    exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ,
)  # fmt: skip
_ARITHMETIC: Final = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod)
_CASTS: Final[dict[str, SqlType]] = {
    "VARCHAR": "text", "TEXT": "text", "CHAR": "text", "NVARCHAR": "text", "NCHAR": "text",
    "INT": "i32", "SMALLINT": "i32", "TINYINT": "i32", "BIGINT": "i64", "UBIGINT": "u64",
    "UINT": "u32", "DOUBLE": "f64", "FLOAT": "f64", "DECIMAL": "f64", "BOOLEAN": "bool",
    "TIMESTAMP": "timestamp_ns", "TIMESTAMPTZ": "timestamp_ns", "DATETIME": "timestamp_ns",
    "DATE": "date", "BINARY": "binary", "VARBINARY": "binary",
}  # fmt: skip
_LISTS: Final[dict[SqlType, SqlType]] = {
    "text": "list_text", "u32": "list_u32", "i32": "list_i64", "i64": "list_i64",
    "u64": "list_i64", "f64": "list_f64",
}  # fmt: skip

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
            exp.Neg: self._inner,
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
            exp.Interval: self._interval,
            exp.CurrentTimestamp: self._now,
            exp.CurrentDate: self._today,
            exp.DateBin: self._date_bin,
            exp.TimestampTrunc: self._date_trunc,
            exp.Extract: self._date_part,
            exp.Count: self._count,
            exp.Sum: self._sum,
            exp.ArrayAgg: self._array_agg,
            exp.GroupConcat: self._group_concat,
            exp.Array: self._array,
            exp.Filter: self._filter,
            exp.Window: self._window,
            exp.Anonymous: self._named,
            exp.Trim: self._trim,
            exp.Pad: self._pad,
            **dict.fromkeys(_COMPARISONS, self._comparison),
            **dict.fromkeys(_ARITHMETIC, self._arithmetic),
        }

    def type_of(self, node: exp.Expression, scope: Scope) -> SqlType:
        """The type of an expression; SqlError when it is wrong or not supported."""
        kind = self._kinds.get(type(node))
        if kind is not None:
            return kind(node, scope)
        if isinstance(node, exp.Func):
            return self._function(node, node.sql_name().lower(), _positional(node), scope)
        msg = f"This feature is not implemented: {type(node).__name__} in '{node.sql()[:80]}'"
        raise SqlError(msg)

    # -- leaves

    def _column(self, node: exp.Expression, scope: Scope) -> SqlType:
        assert isinstance(node, exp.Column)
        name, qualifier = folded(node.this), folded(node.args.get("table"))
        if not qualifier and name in scope.aliases:
            node.this.replace(exp.to_identifier(name, quoted=True))
            return scope.aliases[name]
        found = scope.find(name, qualifier)
        if found is None:
            raise SqlError(_no_field(node, scope))
        column, source = found
        node.replace(exp.column(column.name, table=source.name, quoted=True))
        return column.type

    def _literal(self, node: exp.Expression, _scope: Scope) -> SqlType:
        assert isinstance(node, exp.Literal)
        if node.is_string:
            return "text"
        if not node.name.isdigit():
            return "f64"
        return "i64" if int(node.name) < 1 << 63 else "key"

    def _inner(self, node: exp.Expression, scope: Scope) -> SqlType:
        return self.type_of(node.this, scope)

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
        self._compare(node.args["this"], [node.args["expression"]], scope)
        return "bool"

    def _between(self, node: exp.Expression, scope: Scope) -> SqlType:
        self._compare(node.this, [node.args["low"], node.args["high"]], scope)
        return "bool"

    def _compare(self, left: exp.Expression, others: list[exp.Expression], scope: Scope) -> SqlType:
        """Bring both sides to one type. `left` and `others` may be replaced in their tree."""
        holder, key = left.parent, left.arg_key
        assert holder is not None
        have = self.type_of(left, scope)
        left = holder.args[key]
        parents = [(other.parent, other.arg_key, other.index) for other in others]
        types = [self.type_of(other, scope) for other in others]
        self._note_ids(left, others, scope)
        common = have
        for one in types:
            common = comparable(common, one)
        coerce(left, have, common)
        for (parent, name, index), one in zip(parents, types, strict=True):
            assert parent is not None
            value = parent.args[name]
            coerce(value[index] if isinstance(value, list) else value, one, common)
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
        if isinstance(node, exp.ILike):
            node.replace(
                exp.Like(this=call("lower", node.this), expression=call("lower", node.expression))
            )
        return "bool"

    def _escape(self, node: exp.Expression, scope: Scope) -> SqlType:
        self.type_of(node.this, scope)
        return "bool"

    def _in(self, node: exp.Expression, scope: Scope) -> SqlType:
        query = node.args.get("query")
        if query is not None:
            have = self.type_of(node.this, scope)
            columns = self._type_query(query, scope)
            if len(columns) != 1:
                msg = "Error during planning: IN needs a query of one column"
                raise SqlError(msg)
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
        left_interval, right_interval = (
            _literal_interval(node.this),
            _literal_interval(node.expression),
        )
        if right_interval is not None:
            return self._shift(node, node.this, right_interval, scope)
        if left_interval is not None:
            return self._shift(node, node.expression, left_interval, scope)
        left = self.type_of(node.this, scope)
        right = self.type_of(node.expression, scope)
        both = {left, right}
        if both & (TIMES | DURATIONS):
            return self._time_arithmetic(node, left, right)
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
        if isinstance(node, exp.Div):
            node.set("typed", True)
            node.set("safe", False)
        return common

    def _time_arithmetic(self, node: exp.Expression, left: SqlType, right: SqlType) -> SqlType:
        is_difference = isinstance(node, exp.Sub)
        if not isinstance(node, exp.Add | exp.Sub):
            msg = f"Error during planning: Cannot coerce arithmetic expression {left} with {right}"
            raise SqlError(msg)
        in_ns = "timestamp_ns" in {left, right} or "duration_ns" in {left, right}
        for side, have in ((node.this, left), (node.expression, right)):
            if have in TIMES | {"text"}:
                coerce(side, have, "timestamp_ns" if in_ns else "timestamp")
            elif have in DURATIONS and in_ns:
                coerce(side, have, "duration_ns")
        times = [have for have in (left, right) if have in TIMES | {"text"}]
        if len(times) == 2 and not is_difference:
            msg = f"Error during planning: Cannot coerce arithmetic expression {left} + {right}"
            raise SqlError(msg)
        if len(times) == 1:
            return "timestamp_ns" if in_ns else "timestamp"
        return "duration_ns" if in_ns else "duration"

    def _shift(
        self, node: exp.Expression, time: exp.Expression, interval: Interval, scope: Scope
    ) -> SqlType:
        """A time, date or duration and an INTERVAL."""
        holder = exp.Paren(this=time.copy())
        have = self.type_of(holder.this, scope)
        sign = -1 if isinstance(node, exp.Sub) else 1
        if have in {"date", "text", "null"}:
            changed = coerced(holder.this, have, "timestamp_ns")
            holder = exp.Paren(this=changed or holder.this)
            have = "timestamp_ns"
        if have not in TIMES | DURATIONS or not isinstance(node, exp.Add | exp.Sub):
            msg = f"Error during planning: Cannot coerce arithmetic expression {have} with Interval"
            raise SqlError(msg)
        in_ns = have in {"timestamp_ns", "duration_ns"}
        shifted: exp.Expression = holder
        if interval.months:
            if have != "timestamp":
                msg = "This feature is not implemented: months added to a time of nanoseconds"
                raise SqlError(msg)
            shifted = call("add_months", shifted, number(sign * interval.months))
        step = interval.fixed_ns if in_ns else interval.fixed_ns // NS_A_MS
        node.replace(exp.Paren(this=exp.Add(this=shifted, expression=number(sign * step))))
        return have

    def _concatenation(self, node: exp.Expression, scope: Scope) -> SqlType:
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
            return self._interval(node, scope)
        want = _CASTS.get(word)
        if want is None:
            msg = f"This feature is not implemented: CAST to {word}"
            raise SqlError(msg)
        have = self.type_of(node.this, scope)
        is_strict = not isinstance(node, exp.TryCast)
        node.replace(_converted(node.this, have, want, is_strict=is_strict))
        return want

    def _interval(self, node: exp.Expression, _scope: Scope) -> SqlType:
        interval = _literal_interval(node)
        if interval is None:
            msg = "This feature is not implemented: INTERVAL of an expression"
            raise SqlError(msg)
        node.replace(exp.Literal.string(interval.encoded()))
        return "interval"

    # -- time

    def _now(self, node: exp.Expression, _scope: Scope) -> SqlType:
        node.replace(
            exp.Paren(this=exp.Mul(this=call("now_ms"), expression=exp.Literal.number(NS_A_MS)))
        )
        return "timestamp_ns"

    def _today(self, node: exp.Expression, _scope: Scope) -> SqlType:
        node.replace(call("date_of_ms", call("now_ms")))
        return "date"

    def _date_bin(self, node: exp.Expression, scope: Scope) -> SqlType:
        interval = _literal_interval(node.this)
        if interval is None or interval.months or interval.fixed_ns <= 0:
            msg = "This feature is not implemented: date_bin without a literal, positive INTERVAL"
            raise SqlError(msg)
        time, have = self._time(node.expression, scope)
        origin: exp.Expression = number(0)
        given = node.args.get("unit") or node.args.get("origin")
        if given is not None:
            start, kind = self._time(given, scope)
            origin = coerced(start, kind, have) or start
        in_ns = have == "timestamp_ns"
        size = number(interval.fixed_ns if in_ns else max(interval.fixed_ns // NS_A_MS, 1))
        since = exp.Paren(this=exp.Sub(this=time, expression=origin.copy()))
        # Rounds down also before the origin, where a remainder is negative.
        rest = exp.Paren(this=exp.Mod(this=since.copy(), expression=size.copy()))
        rest = exp.Paren(this=exp.Add(this=rest, expression=size.copy()))
        rest = exp.Paren(this=exp.Mod(this=rest, expression=size))
        node.replace(exp.Paren(this=exp.Sub(this=time.copy(), expression=rest)))
        return have

    def _time(self, node: exp.Expression, scope: Scope) -> tuple[exp.Expression, SqlType]:
        """An operand of a time function, typed apart from its tree, and which time it is."""
        holder = exp.Paren(this=node.copy())
        have = self.type_of(holder.this, scope)
        if have in TIMES:
            return holder.copy(), have
        return coerced(holder.this, have, "timestamp_ns") or holder.this, "timestamp_ns"

    def _date_trunc(self, node: exp.Expression, scope: Scope) -> SqlType:
        time, have = self._time(node.this, scope)
        unit = exp.Literal.string(node.args["unit"].name.lower())
        in_ms = coerced(time, have, "timestamp") or time
        truncated = call("trunc_ms", unit, in_ms)
        node.replace(coerced(truncated, "timestamp", have) or truncated)
        return have

    def _date_part(self, node: exp.Expression, scope: Scope) -> SqlType:
        time, have = self._time(node.expression, scope)
        unit = exp.Literal.string(node.this.name.lower())
        node.replace(call("part_of_ms", unit, coerced(time, have, "timestamp") or time))
        return "i32"

    # -- aggregates

    def _count(self, node: exp.Expression, scope: Scope) -> SqlType:
        if not isinstance(node.this, exp.Star):
            self.type_of(node.this, scope)
        return "i64"

    def _sum(self, node: exp.Expression, scope: Scope) -> SqlType:
        have = self.type_of(node.this, scope)
        if have in {"u32", "u64"}:
            return "u64"
        if have in DURATIONS:
            return have
        if have not in NUMBERS | {"bool", "null"}:
            msg = f"Error during planning: Function 'sum' does not take {ARROW_NAMES[have]}"
            raise SqlError(msg)
        coerce(node.this, have, "f64" if have == "key" else have)
        return "f64" if have in {"f64", "key"} else "i64"

    def _array_agg(self, node: exp.Expression, scope: Scope) -> SqlType:
        have = self.type_of(node.this, scope)
        text = to_text(node.this, have) if have not in _LISTS else None
        node.replace(call("json_group_array", text or node.this))
        return _LISTS.get(have, "list_text")

    def _group_concat(self, node: exp.Expression, scope: Scope) -> SqlType:
        arguments = [node.this, node.args.get("separator")]
        given = [argument for argument in arguments if argument is not None]
        return self._function(node, "string_agg", given, scope)

    def _array(self, node: exp.Expression, scope: Scope) -> SqlType:
        common: SqlType = "null"
        for element in node.expressions:
            common = unify(common, self.type_of(element, scope))
        node.replace(call("json_array", *node.expressions))
        return _LISTS.get(common, "list_text")

    def _filter(self, node: exp.Expression, scope: Scope) -> SqlType:
        self.type_of(node.expression.this, scope)
        return self.type_of(node.this, scope)

    def _window(self, node: exp.Expression, scope: Scope) -> SqlType:
        for part in node.args.get("partition_by") or []:
            self.type_of(part, scope)
        order = node.args.get("order")
        for ordered in order.expressions if order is not None else []:
            self.type_of(ordered.this, scope)
        return self.type_of(node.this, scope)

    # -- functions

    def _trim(self, node: exp.Expression, scope: Scope) -> SqlType:
        name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(
            str(node.args.get("position") or "").upper(), "btrim"
        )
        return self._function(node, name, _positional(node, "this", "expression"), scope)

    def _pad(self, node: exp.Expression, scope: Scope) -> SqlType:
        name = "lpad" if node.args.get("is_left") else "rpad"
        given = _positional(node, "this", "expression", "fill_pattern")
        return self._function(node, name, given, scope)

    def _named(self, node: exp.Expression, scope: Scope) -> SqlType:
        name = str(node.this).lower()
        arguments = list(node.expressions)
        match name:
            case "now":
                return self._now(node, scope)
            case "to_unixtime":
                time, have = self._time(_only(name, arguments), scope)
                node.replace(call("part_of_ms", exp.Literal.string("epoch"),
                                  coerced(time, have, "timestamp") or time))  # fmt: skip
                return "i64"
            case "to_timestamp" | "to_timestamp_seconds" | "from_unixtime" | "to_timestamp_millis":
                return self._to_timestamp(node, name, _only(name, arguments), scope)
            case "make_array":
                node.replace(replaced := exp.Array(expressions=[a.copy() for a in arguments]))
                return self._array(replaced, scope)
            case "arrow_typeof":
                have = self.type_of(_only(name, arguments), scope)
                node.replace(exp.Literal.string(ARROW_NAMES[have]))
                return "text"
            case _:
                return self._function(node, name, arguments, scope)

    def _to_timestamp(
        self, node: exp.Expression, name: str, argument: exp.Expression, scope: Scope
    ) -> SqlType:
        holder = exp.Paren(this=argument.copy())
        have = self.type_of(holder.this, scope)
        if have in NUMBERS:
            factor = NS_A_MS if name == "to_timestamp_millis" else 1_000 * NS_A_MS
            node.replace(exp.Paren(this=exp.Mul(this=holder, expression=number(factor))))
        else:
            node.replace(coerced(holder.this, have, "timestamp_ns") or holder)
        return "timestamp_ns"

    def _function(
        self, node: exp.Expression, name: str, arguments: list[exp.Expression], scope: Scope
    ) -> SqlType:
        found = FUNCTIONS.get(_SPELLINGS.get(name, name))
        if found is None:
            msg = f"Error during planning: Invalid function '{name}'."
            raise SqlError(msg)
        if not found.least <= len(arguments) <= found.most:
            msg = (
                f"Error during planning: Function '{name}' takes {found.least} to {found.most}"
                f" arguments, not {len(arguments)}"
            )
            raise SqlError(msg)
        typed = exp.Anonymous(this=found.name, expressions=[a.copy() for a in arguments])
        types = [self.type_of(argument, scope) for argument in list(typed.expressions)]
        result = _result(found, types)
        for position, have in enumerate(types):
            argument = typed.expressions[position]
            want = found.arguments[min(position, len(found.arguments) - 1)]
            if want == "text" and have == "binary":
                argument.replace(cast(argument, "TEXT"))
            elif want is not None or found.result == "common":
                coerce(argument, have, want or result)
        node.replace(typed)
        return result


def _result(found: Call, types: list[SqlType]) -> SqlType:
    if found.result == "first":
        return types[0]
    if found.result != "common":
        return found.result
    common: SqlType = "null"
    for one in types:
        common = unify(common, one)
    return common


def _converted(
    node: exp.Expression, have: SqlType, want: SqlType, *, is_strict: bool
) -> exp.Expression:
    """CAST of a value. Not strict: what cannot be converted becomes NULL."""
    match want:
        case "text":
            return to_text(node, have) or exp.Paren(this=node.copy())
        case "i32" | "u32" | "i64" | "u64":
            return call("cast_int" if is_strict else "try_int", node)
        case "f64":
            return call("cast_float" if is_strict else "try_float", node)
        case "bool":
            return call("cast_bool", node)
        case "date":
            return call("date_of_ms", coerced(node, have, "timestamp") or node)
        case "binary":
            return cast(node, "BLOB")
        case _:
            return coerced(node, have, want) or exp.Paren(this=node.copy())


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


def _only(name: str, arguments: list[exp.Expression]) -> exp.Expression:
    if len(arguments) != 1:
        msg = f"Error during planning: Function '{name}' takes 1 argument, not {len(arguments)}"
        raise SqlError(msg)
    return arguments[0]


def _literal_interval(node: exp.Expression | None) -> Interval | None:
    """The INTERVAL that a node spells, or None if it is something else."""
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Interval) and isinstance(node.this, exp.Literal):
        unit = node.args.get("unit")
        return read_interval(node.this.name, "" if unit is None else unit.name)
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal):
        name = node.args["to"].this
        if str(getattr(name, "value", name)).upper() == "INTERVAL" or isinstance(
            name, exp.Interval
        ):
            return read_interval(node.this.name, "")
    return None


def _is_zero(node: exp.Expression) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and float(node.name) == 0


def _no_field(node: exp.Column, scope: Scope) -> str:
    name = f'"{node.this.name}"' if node.this.args.get("quoted") else node.this.name
    qualifier = folded(node.args.get("table"))
    shown = f"{qualifier}.{name}" if qualifier else name
    fields = scope.field_names()
    valid = f" Valid fields are {', '.join(fields)}." if fields else ""
    return f"Schema error: No field named {shown}.{valid}"
