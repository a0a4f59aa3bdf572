"""Expressions of times: now, date_bin, date_trunc, parts, sums and differences.

Lives here: their types, and the integer arithmetic that they become.
Does not: other expressions (sql_expressions.py), text of intervals (sql_intervals.py).

Every function gets `type_of`, which types an operand in place, and rewrites its own node.
"""

from collections.abc import Callable
from typing import Final

from sqlglot import exp

from restated.store.sql_intervals import Interval, read_interval
from restated.store.sql_tables import SqlType
from restated.store.sql_typing import (
    DURATIONS,
    NS_A_MS,
    NUMBERS,
    TIMES,
    Scope,
    SqlError,
    call,
    coerce,
    coerced,
    number,
)

TypeOf = Callable[[exp.Expression, Scope], SqlType]

_SHIFTED: Final = TIMES | DURATIONS


def literal_interval(node: exp.Expression | None) -> Interval | None:
    """The INTERVAL that a node spells, or None if it is something else."""
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Interval) and isinstance(node.this, exp.Literal):
        unit = node.args.get("unit")
        return read_interval(node.this.name, "" if unit is None else unit.name)
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal):
        name = node.args["to"].this
        is_interval = isinstance(name, exp.Interval)
        if is_interval or str(getattr(name, "value", name)).upper() == "INTERVAL":
            return read_interval(node.this.name, "")
    return None


def type_interval(_type_of: TypeOf, node: exp.Expression, _scope: Scope) -> SqlType:
    """An INTERVAL that is shown or compared as such."""
    interval = literal_interval(node)
    if interval is None:
        msg = "This feature is not implemented: INTERVAL of an expression"
        raise SqlError(msg)
    node.replace(exp.Literal.string(interval.encoded()))
    return "interval"


def type_beside_duration(
    type_of: TypeOf, kind: SqlType, node: exp.Expression, scope: Scope
) -> SqlType:
    """What a duration is compared with: an INTERVAL becomes a number of the duration's unit."""
    interval = literal_interval(node)
    if interval is None:
        return type_of(node, scope)
    if interval.months:
        msg = "Error during planning: months have no fixed duration"
        raise SqlError(msg)
    node.replace(number(_steps(interval, kind)))
    return kind


def type_now(_type_of: TypeOf, node: exp.Expression, _scope: Scope) -> SqlType:
    """The time of the request, one for the whole statement."""
    node.replace(
        exp.Paren(this=exp.Mul(this=call("now_ms"), expression=exp.Literal.number(NS_A_MS)))
    )
    return "timestamp_ns"


def type_today(_type_of: TypeOf, node: exp.Expression, _scope: Scope) -> SqlType:
    """The day of the request."""
    node.replace(call("date_of_ms", call("now_ms")))
    return "date"


def type_date_bin(type_of: TypeOf, node: exp.Expression, scope: Scope) -> SqlType:
    """The start of the bin of a time; bins are counted from an origin, else from the epoch."""
    interval = literal_interval(node.this)
    if interval is None or interval.months or interval.fixed_ns <= 0:
        msg = "This feature is not implemented: date_bin without a literal, positive INTERVAL"
        raise SqlError(msg)
    time, have = operand(type_of, node.args["expression"], scope)
    origin: exp.Expression = number(0)
    given = node.args.get("unit") or node.args.get("origin")
    if given is not None:
        start, kind = operand(type_of, given, scope)
        origin = coerced(start, kind, have) or start
    size = number(_steps(interval, have))
    since = exp.Paren(this=exp.Sub(this=time, expression=origin.copy()))
    # A remainder is negative before the origin; the second one rounds down there too.
    rest = exp.Paren(this=exp.Mod(this=since, expression=size.copy()))
    rest = exp.Paren(this=exp.Add(this=rest, expression=size.copy()))
    rest = exp.Paren(this=exp.Mod(this=rest, expression=size))
    node.replace(exp.Paren(this=exp.Sub(this=time.copy(), expression=rest)))
    return have


def type_date_trunc(type_of: TypeOf, node: exp.Expression, scope: Scope) -> SqlType:
    """A time rounded down to a unit of the calendar."""
    time, have = operand(type_of, node.this, scope)
    unit = exp.Literal.string(node.args["unit"].name.lower())
    truncated = call("trunc_ms", unit, coerced(time, have, "timestamp") or time)
    node.replace(coerced(truncated, "timestamp", have) or truncated)
    return have


def type_date_part(type_of: TypeOf, node: exp.Expression, scope: Scope) -> SqlType:
    """One number out of a time."""
    time, have = operand(type_of, node.args["expression"], scope)
    unit = exp.Literal.string(node.this.name.lower())
    node.replace(call("part_of_ms", unit, coerced(time, have, "timestamp") or time))
    return "i32"


def type_unixtime(
    type_of: TypeOf, node: exp.Expression, argument: exp.Expression, scope: Scope
) -> SqlType:
    """Seconds since the epoch."""
    time, have = operand(type_of, argument, scope)
    in_ms = coerced(time, have, "timestamp") or time
    node.replace(call("part_of_ms", exp.Literal.string("epoch"), in_ms))
    return "i64"


def type_to_timestamp(
    type_of: TypeOf, node: exp.Expression, argument: exp.Expression, scope: Scope, unit_ns: int
) -> SqlType:
    """A time from text, or from a number of units since the epoch."""
    holder = exp.Paren(this=argument.copy())
    have = type_of(holder.this, scope)
    if have in NUMBERS:
        node.replace(exp.Paren(this=exp.Mul(this=holder, expression=number(unit_ns))))
    else:
        node.replace(coerced(holder.this, have, "timestamp_ns") or holder)
    return "timestamp_ns"


def type_shift(
    type_of: TypeOf, node: exp.Expression, time: exp.Expression, interval: Interval, scope: Scope
) -> SqlType:
    """A time, date or duration, and an INTERVAL added or subtracted."""
    holder = exp.Paren(this=time.copy())
    have = type_of(holder.this, scope)
    if have in {"date", "text", "null"}:
        holder = exp.Paren(this=coerced(holder.this, have, "timestamp_ns") or holder.this.copy())
        have = "timestamp_ns"
    if have not in _SHIFTED or not isinstance(node, exp.Add | exp.Sub):
        msg = f"Error during planning: Cannot coerce arithmetic expression {have} with Interval"
        raise SqlError(msg)
    sign = -1 if isinstance(node, exp.Sub) else 1
    shifted: exp.Expression = holder
    if interval.months and have in DURATIONS:
        msg = "Error during planning: months have no fixed duration"
        raise SqlError(msg)
    if interval.months:
        shifted = _add_months(holder, have, sign * interval.months)
    step = number(sign * _steps(interval, have))
    node.replace(exp.Paren(this=exp.Add(this=shifted, expression=step)))
    return have


def _add_months(time: exp.Expression, have: SqlType, months: int) -> exp.Expression:
    """Months are counted in milliseconds; what is finer stays."""
    in_ms = exp.Paren(this=coerced(time, have, "timestamp") or time.copy())
    moved = call("add_months", in_ms, number(months))
    if have == "timestamp":
        return moved
    difference = exp.Paren(this=exp.Sub(this=moved, expression=in_ms))
    in_ns = exp.Mul(this=difference, expression=number(NS_A_MS))
    return exp.Paren(this=exp.Add(this=time.copy(), expression=in_ns))


def type_difference(node: exp.Expression, left: SqlType, right: SqlType) -> SqlType:
    """Sums and differences of times and durations; both sides are typed already."""
    times = [have for have in (left, right) if have in TIMES | {"text"}]
    is_sum = isinstance(node, exp.Add)
    if not isinstance(node, exp.Add | exp.Sub) or (len(times) == 2 and is_sum):
        msg = f"Error during planning: Cannot coerce arithmetic expression {left} with {right}"
        raise SqlError(msg)
    in_ns = bool({"timestamp_ns", "duration_ns"} & {left, right})
    for key, have in (("this", left), ("expression", right)):
        if have in TIMES | {"text"}:
            coerce(node.args[key], have, "timestamp_ns" if in_ns else "timestamp")
        elif in_ns:
            coerce(node.args[key], have, "duration_ns")
    if len(times) == 1:
        return "timestamp_ns" if in_ns else "timestamp"
    return "duration_ns" if in_ns else "duration"


def operand(type_of: TypeOf, node: exp.Expression, scope: Scope) -> tuple[exp.Expression, SqlType]:
    """A copy of an operand, typed and kept as a time, and which kind of time."""
    holder = exp.Paren(this=node.copy())
    have = type_of(holder.this, scope)
    if have in TIMES:
        return holder.copy(), have
    return coerced(holder.this, have, "timestamp_ns") or holder.this.copy(), "timestamp_ns"


def _steps(interval: Interval, kind: SqlType) -> int:
    """Days and less of an interval in the unit that a type is kept in."""
    if kind in {"timestamp_ns", "duration_ns"}:
        return interval.fixed_ns
    milliseconds = interval.fixed_ns // NS_A_MS
    return milliseconds or min(interval.fixed_ns, 1)
