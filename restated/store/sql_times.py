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
    MS_A_DAY,
    NS_A_MS,
    NUMBERS,
    TIMES,
    Scope,
    SqlError,
    call,
    cast,
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
    if isinstance(node.this, exp.Literal) and node.this.is_string:
        interval = read_interval(node.this.name, "")
    if interval is None or interval.months or interval.fixed_ns <= 0:
        msg = "This feature is not implemented: date_bin without a literal, positive INTERVAL"
        raise SqlError(msg)
    time, have = operand(type_of, node.args["expression"], scope)
    origin: exp.Expression = number(0)
    given = node.args.get("unit") or node.args.get("origin")
    if given is not None:
        start, kind = operand(type_of, given, scope)
        origin = coerced(start, kind, have) or start
    node.replace(call("bin_start", time, number(_steps(interval, have)), origin))
    return have


def type_date_trunc(type_of: TypeOf, node: exp.Expression, scope: Scope) -> SqlType:
    """A time rounded down to a unit of the calendar."""
    time, have = operand(type_of, node.this, scope)
    unit = exp.Literal.string(node.args["unit"].name.lower())
    truncated = call("trunc_ms", unit, coerced(time, have, "timestamp") or time)
    node.replace(coerced(truncated, "timestamp", have) or truncated)
    return have


def type_date_part(type_of: TypeOf, node: exp.Expression, scope: Scope) -> SqlType:
    """One number out of a time, a duration or an INTERVAL."""
    name = node.this.name.lower()
    unit = exp.Literal.string(name)
    interval = literal_interval(node.args["expression"])
    if interval is not None:
        node.replace(call("part_of_duration", unit, number(interval.fixed_ns // NS_A_MS)))
        return _type_of_part(name)
    holder = exp.Paren(this=node.args["expression"].copy())
    have = type_of(holder.this, scope)
    if have in DURATIONS:
        in_ms = holder if have == "duration" else _milliseconds(holder)
        node.replace(call("part_of_duration", unit, in_ms))
        return _type_of_part(name)
    time: exp.Expression = holder
    if have not in TIMES:
        time, have = coerced(holder.this, have, "timestamp_ns") or holder.this, "timestamp_ns"
    node.replace(call("part_of_ms", unit, coerced(time, have, "timestamp") or time))
    return _type_of_part(name)


def _type_of_part(name: str) -> SqlType:
    return {"epoch": "f64", "nanosecond": "i64"}.get(name, "i32")  # type: ignore[return-value]  # the vocabulary


def _milliseconds(in_ns: exp.Expression) -> exp.Expression:
    return exp.Paren(this=exp.Div(this=in_ns, expression=number(NS_A_MS), typed=True))


def type_to_char(
    type_of: TypeOf, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    """A time in a format; a duration is an interval, whatever the format."""
    time, have = operand(type_of, arguments[0], scope)
    form = exp.Paren(this=arguments[1].copy())
    type_of(form.this, scope)
    node.replace(call("time_as", coerced(time, have, "timestamp_ns") or time, form))
    return "text"


def type_read_as(
    type_of: TypeOf, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    """A time from text in one of several formats."""
    whole = exp.Anonymous(this="read_ns_as", expressions=[one.copy() for one in arguments])
    for argument in list(whole.expressions):
        type_of(argument, scope)
    node.replace(whole)
    return "timestamp_ns"


def type_to_date(
    type_of: TypeOf, node: exp.Expression, arguments: list[exp.Expression], scope: Scope
) -> SqlType:
    """A day from text, in a format if there is one."""
    whole = exp.Anonymous(this="read_ns_as", expressions=[one.copy() for one in arguments])
    for argument in list(whole.expressions):
        type_of(argument, scope)
    node.replace(call("date_of_ms", _milliseconds(whole)))
    return "date"


def type_date_shift(node: exp.Expression, left: SqlType, right: SqlType) -> SqlType:
    """A date and a number of days, or two dates; both sides are typed already."""
    one, other = (exp.Paren(this=node.args[key].copy()) for key in ("this", "expression"))
    if left == right and isinstance(node, exp.Sub):
        since = exp.Sub(this=call("parse_ms", one), expression=call("parse_ms", other))
        node.replace(_divided(exp.Paren(this=since), MS_A_DAY))
        return "i64"
    if left != "date" or left == right or not isinstance(node, exp.Add | exp.Sub):
        msg = f"Error during planning: Cannot coerce arithmetic expression {left} with {right}"
        raise SqlError(msg)
    days = exp.Mul(this=other, expression=number(MS_A_DAY))
    moved = type(node)(this=call("parse_ms", one), expression=exp.Paren(this=days))
    node.replace(call("date_of_ms", exp.Paren(this=moved)))
    return "date"


def _divided(value: exp.Expression, by: int) -> exp.Expression:
    return exp.Paren(this=exp.Div(this=value, expression=number(by), typed=True))


def type_unixtime(
    type_of: TypeOf, node: exp.Expression, argument: exp.Expression, scope: Scope
) -> SqlType:
    """Seconds since the epoch."""
    time, have = operand(type_of, argument, scope)
    in_ms = coerced(time, have, "timestamp") or time
    node.replace(call("part_of_ms", exp.Literal.string("seconds_since_epoch"), in_ms))
    return "i64"


def type_to_timestamp(
    type_of: TypeOf, node: exp.Expression, argument: exp.Expression, scope: Scope, unit_ns: int
) -> SqlType:
    """A time from text, or from a number of units since the epoch."""
    holder = exp.Paren(this=argument.copy())
    have = type_of(holder.this, scope)
    if have in NUMBERS:
        scaled: exp.Expression = exp.Paren(this=exp.Mul(this=holder, expression=number(unit_ns)))
        node.replace(cast(scaled, "INTEGER") if have == "f64" else scaled)
    else:
        node.replace(coerced(holder.this, have, "timestamp_ns") or holder)
    return "timestamp_ns"


def type_shift(
    type_of: TypeOf, node: exp.Expression, time: exp.Expression, interval: Interval, scope: Scope
) -> SqlType:
    """A time, date or duration, and an INTERVAL added or subtracted."""
    holder = exp.Paren(this=time.copy())
    have = type_of(holder.this, scope)
    is_date = have == "date"
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
        name = "add_months" if have == "timestamp" else "add_months_ns"
        shifted = call(name, holder, number(sign * interval.months))
    step = number(sign * _steps(interval, have))
    moved = exp.Paren(this=exp.Add(this=shifted, expression=step))
    if is_date:
        node.replace(call("date_of_ms", _milliseconds(moved)))
        return "date"
    node.replace(moved)
    return have


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
