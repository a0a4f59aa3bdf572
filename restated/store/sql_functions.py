"""SQL functions of a query connection: what the views and translated statements call.

Lives here: `FUNCTIONS`, each row a name, its Python function and whether it always gives the same
answer for the same arguments; reading and writing of times and intervals.
Does not: which client spelling means which function (dialect.py), types of answers (answer.py).

All of them are pure but `now_ms`: SQLite calls those with constant arguments once a statement.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from restated.core.awaits import restored
from restated.model.ids import IdError, parse_invocation_id, partition_key
from restated.model.records import AttemptError, Failure, ServiceDefinition
from restated.protocol.readable import (
    awaited_json,
    completion_id_of_call,
    entry_json,
    entry_lite_json,
    entry_type,
)
from restated.store.sql_tables import KEY_DIGITS

Value = int | float | str | bytes | None

SERVER_VERSION: Final = "1.7.12"  # the reference release that `/version` names too
NS: Final = 1_000_000  # in a millisecond
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TEXT_CHARACTERS_MAX: Final = 16 * 1024 * 1024  # what repeat and pad may make


class SqlValueError(ValueError):
    """A value cannot be converted; the text is the client's."""


class Function(NamedTuple):
    """One registered function."""

    name: str
    call: Callable[..., Value]
    arguments: int  # -1: any number


# -- times


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


def _timestamp_ns(text: Value) -> int | None:
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


def _date_of_ms(value: Value) -> str | None:
    return None if not isinstance(value, int) else _second(value // 1_000)[:10]


def _text_of_ms(value: Value) -> str | None:
    return None if not isinstance(value, int) else write_timestamp_ms(value)


def _text_of_ns(value: Value) -> str | None:
    return None if not isinstance(value, int) else write_timestamp_ns(value)


def _moment(value: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        msg = f"timestamp out of range: {value} ms"
        raise SqlValueError(msg) from None


def _date_trunc(unit: Value, value: Value) -> int | None:
    if not isinstance(value, int):
        return None
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


def _date_part(unit: Value, value: Value) -> int | float | None:
    if not isinstance(value, int):
        return None
    moment = _moment(value)
    parts: dict[str, Callable[[], int | float]] = {
        "year": lambda: moment.year,
        "quarter": lambda: (moment.month - 1) // 3 + 1,
        "month": lambda: moment.month,
        "week": lambda: moment.isocalendar().week,
        "day": lambda: moment.day,
        "doy": lambda: moment.timetuple().tm_yday,
        "dow": lambda: moment.isoweekday() % 7,
        "hour": lambda: moment.hour,
        "minute": lambda: moment.minute,
        "second": lambda: moment.second,
        "millisecond": lambda: moment.second * 1_000 + moment.microsecond // 1_000,
        "epoch": lambda: value // 1_000,
    }
    part = parts.get(str(unit).lower())
    if part is None:
        msg = f"Date part '{unit!s}' not supported"
        raise SqlValueError(msg)
    return part()


def _add_months(value: Value, months: Value) -> int | None:
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


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return False
    return True


# -- what the views call


def _id_partition(text: Value) -> str | None:
    try:
        return str(parse_invocation_id(str(text))[0]).zfill(KEY_DIGITS)
    except IdError:
        return None


def _key_partition(scope: Value, service: Value, key: Value) -> str:
    number = partition_key(
        service=str(service), key=str(key), scope=str(scope or ""), idempotency_key=None, bucket=0
    )
    return str(number).zfill(KEY_DIGITS)


def _utf8(value: Value) -> str | None:
    if not isinstance(value, bytes):
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


_REASONS: Final = {
    409: "Aborted", 415: "Unsupported media type", 500: "Internal", 570: "Journal mismatch",
    571: "Protocol violation",
}  # fmt: skip


@lru_cache(maxsize=256)
def _error(packed: bytes) -> AttemptError:
    return msgspec.msgpack.decode(packed, type=AttemptError)


def _failure_text(packed: Value) -> str | None:
    if not isinstance(packed, bytes):
        return None
    error = _error(packed)
    reason = _REASONS.get(error.code)
    text = f"[{error.code}{' ' + reason if reason else ''}] {error.message}"
    return f"{text}\n{error.stacktrace}" if error.stacktrace else text


def _failure_code(packed: Value) -> str | None:
    return _error(packed).restate_code or None if isinstance(packed, bytes) else None


def _failure_command_index(packed: Value) -> int | None:
    return _error(packed).command_index if isinstance(packed, bytes) else None


def _failure_command_name(packed: Value) -> str | None:
    return _error(packed).command_name if isinstance(packed, bytes) else None


def _failure_command_type(packed: Value) -> str | None:
    code = _error(packed).command_type if isinstance(packed, bytes) else None
    return None if code is None else entry_type(code)


def _promise_failure(packed: Value) -> str | None:
    if not isinstance(packed, bytes):
        return None
    failure = msgspec.msgpack.decode(packed, type=Failure)
    return f"[{failure.code}] {failure.message}"


@lru_cache(maxsize=64)
def _definition(packed: bytes) -> ServiceDefinition:
    return msgspec.msgpack.decode(packed, type=ServiceDefinition)


def _service_type(packed: Value) -> str | None:
    return _definition(packed).type if isinstance(packed, bytes) else None


def _service_is_public(packed: Value) -> int | None:
    return int(_definition(packed).options.public is not False) if isinstance(packed, bytes) else 1


def _leaves(packed: Value, prefix: str) -> str | None:
    if not isinstance(packed, bytes):
        return None
    found: list[int] = []
    open_trees = [restored(packed)]
    while open_trees:
        tree = open_trees.pop()
        found += [int(name[1:]) for name in tree.on if name[0] == prefix and name[1] != ":"]
        open_trees += reversed(tree.nested)
    return msgspec.json.encode(found).decode()


def _awaited_json(packed: Value) -> str | None:
    if not isinstance(packed, bytes):
        return None
    return awaited_json(restored(packed))


# -- what translated statements call


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
    return number if number is None or -(1 << 63) <= number < 1 << 63 else None


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


def _largest(*values: Any) -> Value:  # noqa: ANN401 - of one type, the dialect saw to it
    return max((value for value in values if value is not None), default=None)


def _smallest(*values: Any) -> Value:  # noqa: ANN401 - of one type, the dialect saw to it
    return min((value for value in values if value is not None), default=None)


def _split_part(text: Value, separator: Value, position: Value) -> str | None:
    if text is None or separator is None or not isinstance(position, int):
        return None
    parts = str(text).split(str(separator)) if separator else [str(text)]
    at = position - 1 if position > 0 else len(parts) + position
    return parts[at] if 0 <= at < len(parts) else ""


def _bounded(length: int) -> None:
    if length > TEXT_CHARACTERS_MAX:
        msg = f"Resources exhausted: a text of {length} characters; {TEXT_CHARACTERS_MAX} at most"
        raise SqlValueError(msg)


def _repeat(text: Value, count: Value) -> str | None:
    if text is None or not isinstance(count, int):
        return None
    _bounded(len(str(text)) * max(count, 0))
    return str(text) * count


def _lpad(text: Value, length: Value, fill: Value = " ") -> str | None:
    if text is None or fill is None or not isinstance(length, int):
        return None
    return _padding(str(text), length, str(fill)) + str(text)[: max(length, 0)]


def _rpad(text: Value, length: Value, fill: Value = " ") -> str | None:
    if text is None or fill is None or not isinstance(length, int):
        return None
    return str(text)[: max(length, 0)] + _padding(str(text), length, str(fill))


def _padding(text: str, length: int, fill: str) -> str:
    _bounded(length)
    missing = length - len(text)
    if missing <= 0 or not fill:
        return ""
    return (fill * (missing // len(fill) + 1))[:missing]


def _reverse(text: Value) -> str | None:
    return None if text is None else str(text)[::-1]


def _starts_with(text: Value, start: Value) -> int | None:
    return None if text is None or start is None else int(str(text).startswith(str(start)))


def _ends_with(text: Value, end: Value) -> int | None:
    return None if text is None or end is None else int(str(text).endswith(str(end)))


def _contains(text: Value, part: Value) -> int | None:
    return None if text is None or part is None else int(str(part) in str(text))


def _bytes(value: Value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _md5(value: Value) -> str | None:
    return None if value is None else hashlib.md5(_bytes(value), usedforsecurity=False).hexdigest()


def _sha256(value: Value) -> bytes | None:
    return None if value is None else hashlib.sha256(_bytes(value)).digest()


FUNCTIONS: Final[tuple[Function, ...]] = (
    Function("server_version", lambda: SERVER_VERSION, 0),
    Function("id_partition", _id_partition, 1),
    Function("key_partition", _key_partition, 3),
    Function("utf8", _utf8, 1),
    Function("failure_text", _failure_text, 1),
    Function("failure_code", _failure_code, 1),
    Function("failure_command_index", _failure_command_index, 1),
    Function("failure_command_name", _failure_command_name, 1),
    Function("failure_command_type", _failure_command_type, 1),
    Function("promise_failure", _promise_failure, 1),
    Function("service_type", _service_type, 1),
    Function("service_is_public", _service_is_public, 1),
    Function("awaited_completions", lambda packed: _leaves(packed, "c"), 1),
    Function("awaited_signals", lambda packed: _leaves(packed, "s"), 1),
    Function("awaited_json", _awaited_json, 1),
    Function("entry_type", entry_type, 1),
    Function("entry_json", entry_json, 4),
    Function("entry_lite_json", entry_lite_json, 4),
    Function("call_completion_id", completion_id_of_call, 2),
    Function("parse_ms", parse_timestamp_ms, 1),
    Function("parse_ns", _timestamp_ns, 1),
    Function("date_of_ms", _date_of_ms, 1),
    Function("text_of_ms", _text_of_ms, 1),
    Function("text_of_ns", _text_of_ns, 1),
    Function("trunc_ms", _date_trunc, 2),
    Function("part_of_ms", _date_part, 2),
    Function("add_months", _add_months, 2),
    Function("cast_int", _cast_int, 1),
    Function("try_int", _try_int, 1),
    Function("cast_float", _cast_float, 1),
    Function("try_float", _try_float, 1),
    Function("cast_bool", _cast_bool, 1),
    Function("largest", _largest, -1),
    Function("smallest", _smallest, -1),
    Function("split_part", _split_part, 3),
    Function("repeat_text", _repeat, 2),
    Function("lpad", _lpad, -1),
    Function("rpad", _rpad, -1),
    Function("reverse_text", _reverse, 1),
    Function("starts_with", _starts_with, 2),
    Function("ends_with", _ends_with, 2),
    Function("contains_text", _contains, 2),
    Function("md5", _md5, 1),
    Function("sha256", _sha256, 1),
)
