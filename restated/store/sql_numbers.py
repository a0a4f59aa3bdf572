"""Functions of numbers that SQLite lacks, or that DataFusion means otherwise; casts to numbers.

Lives here: `NUMBER_FUNCTIONS`.
Does not: what SQLite's own mathematical functions do as they should (sql_calls.py).
"""

import math
from decimal import Decimal
from typing import Any, Final

from restated.store.sql_calendar import SqlValueError, Value
from restated.store.sql_function import Function, unless_null

_I64: Final = 1 << 63


def text_of_float(value: float) -> str:
    """A float as DataFusion writes it: `1.0`, `1e16`, `0.00001`, `1.5e-7`."""
    text = repr(float(value))
    if "e" not in text:
        return text
    if 1e-5 <= abs(value) < 1e-4:
        return f"{Decimal(text):f}"
    digits, _, exponent = text.partition("e")
    return f"{digits}e{int(exponent)}"


def _round(value: float, places: int = 0) -> float:
    """Halves are rounded away from zero; places left of the point are negative."""
    if not math.isfinite(value) or abs(places) > 300:
        return value
    factor = 10.0**places
    scaled = value * factor
    if not math.isfinite(scaled):
        return value
    return math.copysign(math.floor(abs(scaled) + 0.5), value) / factor


def _truncate(value: float, places: int = 0) -> float:
    if not math.isfinite(value) or abs(places) > 300:
        return value
    factor = 10.0**places
    return math.trunc(value * factor) / factor if math.isfinite(value * factor) else value


def _remainder(value: float, divisor: float) -> float | None:
    return math.fmod(value, divisor) if divisor and math.isfinite(value) else None


def _bounded(value: int, name: str) -> int:
    if not -_I64 <= value < _I64:
        raise SqlValueError(f"Arrow error: Compute error: Overflow happened on {name}")
    return value


def _factorial(value: int) -> int:
    if value > 20:
        raise SqlValueError("Arrow error: Compute error: Overflow happened on FACTORIAL")
    return math.factorial(max(value, 0))


def _cast_int(value: Value) -> int | None:
    number = _try_int(value)
    if number is None and value is not None:
        msg = f"Cast error: Cannot cast string '{value!s}' to value of Int64 type"
        raise SqlValueError(msg)
    return number


def _try_int(value: Value) -> int | None:
    try:
        number = int(value) if value is not None else None
    except (ValueError, OverflowError):
        return None
    return number if number is None or -_I64 <= number < _I64 else None


def _cast_float(value: Value) -> float | None:
    number = _try_float(value)
    if number is None and value is not None:
        msg = f"Cast error: Cannot cast string '{value!s}' to value of Float64 type"
        raise SqlValueError(msg)
    return number


def _try_float(value: Value) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None


def _cast_bool(value: Value) -> int | None:
    if value is None or isinstance(value, int):
        return None if value is None else int(value != 0)
    word = str(value).lower()
    if word in {"true", "t", "yes", "y", "1", "on"}:
        return 1
    if word in {"false", "f", "no", "n", "0", "off"}:
        return 0
    msg = f"Cast error: Cannot cast value '{value!s}' to value of Boolean type"
    raise SqlValueError(msg)


def _largest(*values: Value) -> Value:
    return max((value for value in values if value is not None), default=None)


def _smallest(*values: Value) -> Value:
    return min((value for value in values if value is not None), default=None)


def _row(name: str, call: Any, arguments: int) -> Function:  # noqa: ANN401 - typed where defined
    return Function(name, unless_null(call), arguments)


NUMBER_FUNCTIONS: Final[tuple[Function, ...]] = (
    Function("cast_int", _cast_int, 1),
    Function("try_int", _try_int, 1),
    Function("cast_float", _cast_float, 1),
    Function("try_float", _try_float, 1),
    Function("cast_bool", _cast_bool, 1),
    Function("largest", _largest, -1),
    Function("smallest", _smallest, -1),
    _row("text_of_float", text_of_float, 1),
    _row("round_number", _round, -1),
    _row("truncate_number", _truncate, -1),
    _row("remainder", _remainder, 2),
    _row("cube_root", math.cbrt, 1),
    _row("cotangent", lambda value: 1 / math.tan(value) if value else None, 1),
    _row("gcd", lambda one, other: _bounded(math.gcd(one, other), "GCD"), 2),
    _row("lcm", lambda one, other: _bounded(math.lcm(one, other), "LCM"), 2),
    _row("factorial", _factorial, 1),
    _row("bit_xor_of", lambda one, other: one ^ other, 2),
)
