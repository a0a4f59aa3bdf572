"""Times and durations of SQL: reading, writing, arithmetic of the calendar.

Lives here: functions that sql_functions.py registers, and how answers write a time.
Does not: which expression becomes which call (sql_times.py), intervals (sql_intervals.py).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

Value = int | float | str | bytes | None

NS: Final = 1_000_000  # in a millisecond
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SqlValueError(ValueError):
    """A value cannot be converted; the text is the client's."""


def parse_timestamp_ns(text: str) -> int:
    """Nanoseconds since the epoch of an ISO 8601 text; without a zone it is UTC."""
    cleaned = text.strip()
    head, dot, fraction = cleaned.partition(".")
    digits = ""
    if dot:
        count = len(fraction) - len(fraction.lstrip("0123456789"))
        digits, rest = fraction[:count][:9], fraction[count:]
        head += rest
    try:
        moment = datetime.fromisoformat(head)
    except ValueError:
        msg = f"Parser error: Error parsing timestamp from '{text}'"
        raise SqlValueError(msg) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int(digits.ljust(9, "0"))


def parse_timestamp_ms(text: Value) -> int | None:
    """Milliseconds since the epoch of an ISO 8601 text, as timestamp columns keep them."""
    return None if text is None else parse_timestamp_ns(str(text)) // NS


def parse_timestamp_text_ns(text: Value) -> int | None:
    """Nanoseconds of an ISO 8601 text, or NULL."""
    return None if text is None else parse_timestamp_ns(str(text))


@lru_cache(maxsize=4_096)
def _second(seconds: int) -> str:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    except OverflowError:
        return f"out of range: {seconds} s"


def write_timestamp_ms(value: int) -> str:
    """`2026-11-25T02:03:04.567Z`, as columns of times are shown."""
    seconds, rest = divmod(value, 1_000)
    return f"{_second(seconds)}.{rest:03d}Z" if rest else f"{_second(seconds)}Z"


def write_timestamp_ns(value: int) -> str:
    """`2026-11-25T04:37:00.718083086`, as `now()` is shown; 0, 3, 6 or 9 digits."""
    seconds, rest = divmod(value, 1_000_000_000)
    return _second(seconds) + _fraction(rest)


def _fraction(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return ""
    text = f"{nanoseconds:09d}"
    if text.endswith("000000"):
        return f".{text[:3]}"
    return f".{text[:6]}" if text.endswith("000") else f".{text}"


def write_duration_ns(value: int) -> str:
    """`PT86400.5S`; zero is `P0D`."""
    if value == 0:
        return "P0D"
    sign = "-" if value < 0 else ""
    seconds, rest = divmod(abs(value), 1_000_000_000)
    fraction = f"{rest:09d}".rstrip("0")
    return f"{sign}PT{seconds}{'.' + fraction if fraction else ''}S"


def date_of_ms(value: Value) -> str | None:
    """The day of a time."""
    return None if not isinstance(value, int) else _second(value // 1_000)[:10]


def text_of_ms(value: Value) -> str | None:
    """A time of milliseconds as text."""
    return None if not isinstance(value, int) else write_timestamp_ms(value)


def text_of_ns(value: Value) -> str | None:
    """A time of nanoseconds as text."""
    return None if not isinstance(value, int) else write_timestamp_ns(value)


def _moment(value: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        msg = f"timestamp out of range: {value} ms"
        raise SqlValueError(msg) from None


_NOT_COARSER: Final = {"millisecond", "milliseconds", "microsecond", "microseconds"}


def date_trunc(unit: Value, value: Value) -> int | None:
    """A time rounded down to a unit of the calendar."""
    if not isinstance(value, int) or str(unit).lower() in _NOT_COARSER:
        return None if value is None else int(value)
    moment = _moment(value)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    match str(unit).lower():
        case "second" | "seconds":
            moment = moment.replace(microsecond=0)
        case "minute" | "minutes":
            moment = moment.replace(second=0, microsecond=0)
        case "hour" | "hours":
            moment = moment.replace(minute=0, second=0, microsecond=0)
        case "day" | "days":
            moment = day
        case "week" | "weeks":
            moment = day - timedelta(days=day.weekday())
        case "month" | "months":
            moment = day.replace(day=1)
        case "quarter":
            moment = day.replace(day=1, month=(day.month - 1) // 3 * 3 + 1)
        case "year" | "years":
            moment = day.replace(day=1, month=1)
        case other:
            msg = f"Unsupported date_trunc granularity: '{other}'"
            raise SqlValueError(msg)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000


def date_part(unit: Value, value: Value) -> int | float | None:
    """One number out of a time."""
    if not isinstance(value, int):
        return None
    moment = _moment(value)
    parts: dict[str, Callable[[], int | float]] = {
        "year": lambda: moment.year,
        "quarter": lambda: (moment.month - 1) // 3 + 1,
        "month": lambda: moment.month,
        "week": lambda: moment.isocalendar().week,
        "day": lambda: moment.day,
        "isodow": moment.isoweekday,
        "doy": lambda: moment.timetuple().tm_yday,
        "dow": lambda: moment.isoweekday() % 7,
        "hour": lambda: moment.hour,
        "minute": lambda: moment.minute,
        "second": lambda: moment.second,
        "millisecond": lambda: moment.second * 1_000 + moment.microsecond // 1_000,
        "microsecond": lambda: moment.second * 1_000_000 + moment.microsecond,
        "nanosecond": lambda: (moment.second * 1_000_000 + moment.microsecond) * 1_000,
        "epoch": lambda: value / 1_000,
        "seconds_since_epoch": lambda: value // 1_000,
    }
    name = str(unit).lower()
    part = parts.get(name) or parts.get(name.removesuffix("s"))
    if part is None:
        msg = f"Date part '{unit!s}' not supported"
        raise SqlValueError(msg)
    return part()


_IN_A_DURATION: Final = {
    "week": 604_800_000, "day": 86_400_000, "hour": 3_600_000, "minute": 60_000, "second": 1_000,
    "millisecond": 1,
}  # fmt: skip


def duration_part(unit: Value, value: Value) -> int | float | None:
    """A duration of milliseconds in whole units; `epoch` is seconds with their fraction."""
    if not isinstance(value, int):
        return None
    name = str(unit).lower()
    if name == "epoch":
        return value / 1_000
    size = _IN_A_DURATION.get(name) or _IN_A_DURATION.get(name.removesuffix("s"))
    if size is None:
        raise SqlValueError(f"Compute error: {unit!s} does not support: Duration")
    if name.startswith("milli"):
        size = 1_000  # whole seconds too, as the reference has it
    whole = abs(value) // size * (1 if value >= 0 else -1)
    return whole * 1_000 if name.startswith("milli") else whole


def make_date(year: Value, month: Value, day: Value) -> str | None:
    """A day of three numbers."""
    if year is None or month is None or day is None:
        return None
    try:
        return datetime(int(year), int(month), int(day), tzinfo=UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError):
        msg = f"Execution error: Unable to parse date from {year!s}, {month!s}, {day!s}"
        raise SqlValueError(msg) from None


def add_months(value: Value, months: Value) -> int | None:
    """A time some months later, on the last day of a shorter month."""
    if not isinstance(value, int) or not isinstance(months, int):
        return None
    moment = _moment(value)
    count = moment.year * 12 + moment.month - 1 + months
    year, month = divmod(count, 12)
    last = 28
    while last < moment.day and _is_date(year, month + 1, last + 1):
        last += 1
    try:
        moved = moment.replace(year=year, month=month + 1, day=min(moment.day, last))
    except ValueError:
        msg = f"timestamp out of range: {value} ms and {months} months"
        raise SqlValueError(msg) from None
    return value + int((moved - moment) / timedelta(milliseconds=1))


def add_months_ns(value: Value, months: Value) -> int | None:
    """The same of a time in nanoseconds; what is finer than a millisecond stays."""
    if not isinstance(value, int):
        return None
    in_ms = value // NS
    moved = add_months(in_ms, months)
    return None if moved is None else value + (moved - in_ms) * NS


def bin_start(value: Value, size: Value, origin: Value) -> int | None:
    """The start of the bin that a time falls in; bins of `size` begin at `origin`."""
    if not isinstance(value, int) or not isinstance(size, int) or not isinstance(origin, int):
        return None
    return value - (value - origin) % size


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return False
    return True
