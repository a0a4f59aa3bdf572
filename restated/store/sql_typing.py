"""Types of SQL expressions: what a value is, and how values of two types meet.

Lives here: scopes (which columns a name may mean), unification, the rewriting of an expression so
that its value is kept as another type (`coerce`).
Does not: statements (dialect.py), the typing of each kind of expression (sql_expressions.py).
"""

from typing import Final

from sqlglot import exp

from restated.store.sql_tables import ARROW_NAMES, KEY_DIGITS, SqlColumn, SqlType


class SqlError(Exception):
    """The statement is wrong or not supported; the text is the client's."""


INTEGERS: Final[frozenset[SqlType]] = frozenset({"i32", "u32", "i64", "u64"})
NUMBERS: Final[frozenset[SqlType]] = INTEGERS | {"f64", "key"}
TIMES: Final[frozenset[SqlType]] = frozenset({"timestamp", "timestamp_ns"})
DURATIONS: Final[frozenset[SqlType]] = frozenset({"duration", "duration_ns"})
NS_A_MS: Final = 1_000_000
MS_A_DAY: Final = 86_400_000
NS_A_SECOND: Final = 1_000_000_000
UNNAMED_PREFIX: Final = "sql$query"  # how queries in FROM without an alias are called

_SIGNED: Final[frozenset[SqlType]] = frozenset({"i32", "i64"})


class Source:
    """One thing in a FROM clause: its name there, its columns, the table behind it if it is one.

    `shared` are columns that it was joined by with USING: a plain star has them once.
    Nobody can name what is hidden, and no star has it.
    """

    __slots__ = ("columns", "is_hidden", "name", "shared", "table")

    def __init__(
        self,
        name: str,
        columns: tuple[SqlColumn, ...],
        table: str | None = None,
        *,
        is_hidden: bool = False,
    ) -> None:
        self.is_hidden = is_hidden
        self.name = name
        self.columns = columns
        self.table = table
        self.shared: frozenset[str] = frozenset()

    def shown(self, column: SqlColumn) -> str:
        """A column as clients are told of it."""
        is_named = self.name and not self.name.startswith(UNNAMED_PREFIX)
        return f"{self.name}.{column.name}" if is_named else column.name


class Scope:
    """What names mean inside one SELECT. Inner queries see the outer ones."""

    __slots__ = ("aliases", "ctes", "parent", "sources")

    def __init__(self, parent: "Scope | None", ctes: dict[str, tuple[SqlColumn, ...]]) -> None:
        self.parent = parent
        self.ctes = ctes
        self.sources: list[Source] = []
        self.aliases: dict[str, SqlType] = {}

    def find(self, name: str, qualifier: str) -> tuple[SqlColumn, Source] | None:
        """The column that a name means, searched from the inside out."""
        scope: Scope | None = self
        while scope is not None:
            for source in scope.sources:
                if source.name != qualifier if qualifier else source.is_hidden:
                    continue
                for column in source.columns:
                    if column.name == name:
                        return column, source
            scope = scope.parent
        return None

    def field_names(self) -> list[str]:
        """Every column, qualified, as error texts list them."""
        return [source.shown(column) for source in self.sources for column in source.columns]


def folded(identifier: exp.Expression | None) -> str:
    """An identifier as it is compared: lower case unless it was quoted."""
    if identifier is None:
        return ""
    return identifier.name if identifier.args.get("quoted") else identifier.name.lower()


def call(name: str, *arguments: exp.Expression) -> exp.Expression:
    """A call of one of our functions, or of SQLite's."""
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def number(value: int) -> exp.Expression:
    """An integer literal, negative ones in parentheses."""
    if value < 0:
        return exp.Paren(this=exp.Neg(this=exp.Literal.number(-value)))
    return exp.Literal.number(value)


def cast(node: exp.Expression, kind: str) -> exp.Expression:
    """SQLite's CAST."""
    return exp.Cast(this=node.copy(), to=exp.DataType.build(kind))


def unify(left: SqlType, right: SqlType) -> SqlType:
    """The type in which values of both can stand in one column."""
    if right in {left, "null"}:
        return left
    if left == "null":
        return right
    both = {left, right}
    for family, widest in ((TIMES, "timestamp_ns"), (DURATIONS, "duration_ns")):
        if both <= family:
            return widest  # type: ignore[return-value]  # a literal of the vocabulary
    if both <= NUMBERS:
        if "f64" in both:
            return "f64"
        return "i64" if both & _SIGNED else "u64"
    if both & TIMES and "text" in both:
        return "timestamp" if "timestamp" in both else "timestamp_ns"
    if "date" in both and both & TIMES:
        return "timestamp_ns"
    if both == {"binary", "text"}:
        return "binary"
    return "text"


def comparable(left: SqlType, right: SqlType) -> SqlType:
    """The type in which two values are compared; raises SqlError if there is none."""
    both = {left, right}
    if "key" in both and both <= NUMBERS | {"text", "null"}:
        return "key"
    if both & NUMBERS and both & {"text", "binary"}:
        return "f64"  # state values are JSON more often than not: compared as the number they are
    common = unify(left, right)
    if both & TIMES and common not in TIMES:
        msg = (
            "Error during planning: Cannot infer common argument type for comparison operation"
            f" {ARROW_NAMES[left]} = {ARROW_NAMES[right]}"
        )
        raise SqlError(msg)
    return common


def coerce(node: exp.Expression, have: SqlType, want: SqlType) -> None:
    """Replace `node` in its tree so that its value is kept as `want`."""
    if have in {want, "null"}:
        return
    changed = coerced(node, have, want)
    if changed is not None:
        node.replace(changed)


def coerced(node: exp.Expression, have: SqlType, want: SqlType) -> exp.Expression | None:
    """The expression that keeps the value as `want`; None if it is kept the same already."""
    match want:
        case "timestamp":
            return _to_timestamp(node, have)
        case "timestamp_ns":
            return _to_timestamp_ns(node, have)
        case "duration_ns" if have == "duration":
            return _scaled(node, NS_A_MS)
        case "key":
            return _to_key(node, have)
        case "text":
            return to_text(node, have)
        case "binary" if have == "text":
            return cast(node, "BLOB")
        case "f64":
            return _to_float(node, have)
        case "i64" | "u64" | "i32" | "u32" if have == "key":
            return cast(node, "INTEGER")
        case _:
            return None


def _scaled(node: exp.Expression, factor: int) -> exp.Expression:
    return exp.Paren(
        this=exp.Mul(this=exp.Paren(this=node.copy()), expression=exp.Literal.number(factor))
    )


def _to_timestamp(node: exp.Expression, have: SqlType) -> exp.Expression | None:
    if have in {"text", "date"}:
        return call("parse_ms", node)
    if have == "timestamp_ns":
        whole = exp.Paren(this=node.copy())
        return exp.Paren(
            this=exp.Div(this=whole, expression=exp.Literal.number(NS_A_MS), typed=True)
        )
    return None


def _to_timestamp_ns(node: exp.Expression, have: SqlType) -> exp.Expression | None:
    if have in {"text", "date"}:
        return call("parse_ns", node)
    return _scaled(node, NS_A_MS) if have == "timestamp" else None


def _to_key(node: exp.Expression, have: SqlType) -> exp.Expression:
    if isinstance(node, exp.Literal):
        digits = node.name
        if not digits.isascii() or not digits.isdigit():
            msg = f"Cast error: Cannot cast '{digits}' to value of UInt64 type"
            raise SqlError(msg)
        # Longer than any key: compares as larger than all of them.
        return exp.Literal.string(digits.zfill(KEY_DIGITS))
    if have == "text":
        return call("lpad", node, exp.Literal.number(KEY_DIGITS), exp.Literal.string("0"))
    return call("printf", exp.Literal.string(f"%0{KEY_DIGITS}d"), node)


def to_text(node: exp.Expression, have: SqlType) -> exp.Expression | None:
    """The value as text, written as DataFusion's CAST to VARCHAR does."""
    match have:
        case "timestamp":
            return call("text_of_ms", node)
        case "timestamp_ns":
            return call("text_of_ns", node)
        case "bool":
            return exp.Case(
                this=node.copy(),
                ifs=[
                    exp.If(this=number(0), true=exp.Literal.string("false")),
                    exp.If(this=number(1), true=exp.Literal.string("true")),
                ],
            )
        case "key":
            # The last digit stays, so that zero is not empty.
            head = call("substr", node, number(1), number(KEY_DIGITS - 1))
            tail = call("substr", node, number(KEY_DIGITS))
            return exp.Paren(
                this=exp.DPipe(this=call("ltrim", head, exp.Literal.string("0")), expression=tail)
            )
        case "f64":
            return call("text_of_float", node)
        case "interval":
            return call("text_of_interval", node)
        case "list_text" | "list_u32" | "list_i64" | "list_f64" | "list_bool":
            separated = call("list_join", node, exp.Literal.string(", "), exp.Literal.string(""))
            opened = exp.DPipe(this=exp.Literal.string("["), expression=separated)
            return exp.Paren(this=exp.DPipe(this=opened, expression=exp.Literal.string("]")))
        case "text" | "date":
            return None
        case _:
            return cast(node, "TEXT")


def _to_float(node: exp.Expression, have: SqlType) -> exp.Expression | None:
    if have == "text":
        return call("cast_float", node)
    if have == "binary":
        return call("try_float", call("utf8", node))
    return cast(node, "DOUBLE") if have == "key" else None


def converted(
    node: exp.Expression, have: SqlType, want: SqlType, *, is_strict: bool
) -> exp.Expression:
    """CAST of a value. Not strict: what cannot be converted becomes NULL."""
    match want:
        case "text":
            return to_text(node, have) or exp.Paren(this=node.copy())
        case "i32" | "u32" | "i64" | "u64" if have == "date":
            return exp.Paren(
                this=exp.Div(this=call("parse_ms", node), expression=number(MS_A_DAY), typed=True)
            )
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
        case "timestamp_ns" if have in INTEGERS:
            return _scaled(node, NS_A_SECOND)
        case _:
            return coerced(node, have, want) or exp.Paren(this=node.copy())


def no_field(node: exp.Column, scope: Scope) -> str:
    """The text for a name that means no column."""
    name = f'"{node.this.name}"' if node.this.args.get("quoted") else node.this.name
    qualifier = folded(node.args.get("table"))
    shown = f"{qualifier}.{name}" if qualifier else name
    fields = scope.field_names()
    valid = f" Valid fields are {', '.join(fields)}." if fields else ""
    return f"Schema error: No field named {shown}.{valid}"


def only_parts(node: exp.Expression, known: frozenset[str]) -> None:
    """Refuse a clause with parts that nobody has looked at."""
    for key, value in node.args.items():
        if value and key not in known:
            msg = f"This feature is not implemented: {key.rstrip('_').upper()} in {node.key}"
            raise SqlError(msg)
