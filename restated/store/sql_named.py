"""Functions with a form or a type of their own, by name.

Lives here: `NAMED`: the time of the request, times from numbers and texts, other names of forms.
Does not: functions whose types are plain (sql_calls.py), arithmetic of times (sql_times.py).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from sqlglot import exp

from restated.store import sql_times
from restated.store.sql_calls import check_count
from restated.store.sql_rewriting import nvl2
from restated.store.sql_tables import ARROW_NAMES, SqlType
from restated.store.sql_typing import Scope, SqlError

_NS_IN_UNIT: Final = {
    "to_timestamp": 1_000_000_000, "to_timestamp_seconds": 1_000_000_000,
    "from_unixtime": 1_000_000_000, "to_timestamp_millis": 1_000_000,
    "to_timestamp_micros": 1_000, "to_timestamp_nanos": 1,
}  # fmt: skip


class Typer(Protocol):
    """What types operands, and calls of plain functions: both rewrite in place."""

    def type_of(self, node: exp.Expression, scope: Scope) -> SqlType:
        """The type of an expression."""
        ...

    def function(
        self, node: exp.Expression, name: str, arguments: Sequence[exp.Expression], scope: Scope
    ) -> SqlType:
        """The type of a plain function, which takes the place of `node`."""
        ...


Named = Callable[[Typer, exp.Expression, list[exp.Expression], Scope], SqlType]


def _now(
    typer: Typer, node: exp.Expression, _arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    return sql_times.type_now(typer.type_of, node, scope)


def _today(
    typer: Typer, node: exp.Expression, _arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    return sql_times.type_today(typer.type_of, node, scope)


def _to_unixtime(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    check_count("to_unixtime", len(arguments), 1, 1)
    return sql_times.type_unixtime(typer.type_of, node, arguments[0], scope)


def _to_timestamp(
    name: str,
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope,
) -> SqlType:  # fmt: skip
    check_count(name, len(arguments), 1, 100)
    if len(arguments) > 1:
        return sql_times.type_read_as(typer.type_of, node, arguments, scope)
    unit_ns = _NS_IN_UNIT[name]
    return sql_times.type_to_timestamp(typer.type_of, node, arguments[0], scope, unit_ns)


def _to_char(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    check_count("to_char", len(arguments), 2, 2)
    return sql_times.type_to_char(typer.type_of, node, arguments, scope)


def _to_date(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    check_count("to_date", len(arguments), 1, 100)
    return sql_times.type_to_date(typer.type_of, node, arguments, scope)


def _datepart(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    check_count("datepart", len(arguments), 2, 2)
    unit = _unit(arguments[0])
    node.replace(replaced := exp.Extract(this=unit, expression=arguments[1].copy()))
    return typer.type_of(replaced, scope)


def _datetrunc(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    check_count("datetrunc", len(arguments), 2, 2)
    unit = _unit(arguments[0])
    node.replace(replaced := exp.TimestampTrunc(this=arguments[1].copy(), unit=unit))
    return typer.type_of(replaced, scope)


def _unit(node: exp.Expression) -> exp.Var:
    if not isinstance(node, exp.Literal) or not node.name:
        raise SqlError("This feature is not implemented: a unit of time that is not a literal")
    return exp.var(node.name.upper())


def _coalesce(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    """Of one argument, too, which SQLite refuses."""
    given = [*arguments, exp.Null()] if len(arguments) == 1 else arguments
    return typer.function(node, "coalesce", given, scope)


def _nvl2(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    check_count("nvl2", len(arguments), 3, 3)
    node.replace(replaced := nvl2(*arguments))
    return typer.type_of(replaced, scope)


def _make_array(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    node.replace(replaced := exp.Array(expressions=[one.copy() for one in arguments]))
    return typer.type_of(replaced, scope)


def _arrow_typeof(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    check_count("arrow_typeof", len(arguments), 1, 1)
    have = typer.type_of(arguments[0], scope)
    node.replace(exp.Literal.string(ARROW_NAMES[have]))
    return "text"


def _approx_distinct(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    """Exactly: nothing here is so large that it would have to be guessed."""
    check_count("approx_distinct", len(arguments), 1, 1)
    counted = exp.Count(this=exp.Distinct(expressions=[arguments[0].copy()]))
    node.replace(counted)
    typer.type_of(counted, scope)
    return "u64"


def _approx_median(
    typer: Typer, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    check_count("approx_median", len(arguments), 1, 1)
    given = [arguments[0], exp.Literal.number("0.5")]
    return typer.function(node, "approx_percentile_cont", given, scope)


NAMED: Final[dict[str, Named]] = {
    "now": _now,
    "today": _today,
    "to_unixtime": _to_unixtime,
    **{name: partial(_to_timestamp, name) for name in _NS_IN_UNIT},
    "to_char": _to_char,
    "date_format": _to_char,
    "to_date": _to_date,
    "datepart": _datepart,
    "datetrunc": _datetrunc,
    "coalesce": _coalesce,
    "nvl2": _nvl2,
    "make_array": _make_array,
    "make_list": _make_array,
    "arrow_typeof": _arrow_typeof,
    "approx_distinct": _approx_distinct,
    "approx_median": _approx_median,
}
