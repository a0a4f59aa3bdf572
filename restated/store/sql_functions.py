"""SQL functions of a query connection: what the views and translated statements call.

Lives here: `FUNCTIONS`, each row a name, its Python function, its number of arguments.
Does not: which client spelling means which function (sql_calls.py), times (sql_calendar.py),
types of answers (answer.py).

All of them are pure but `now_ms`: SQLite calls those with constant arguments once a statement.
"""

import base64
import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from restated.core.awaits import restored
from restated.model.ids import IdError, parse_invocation_id, partition_key
from restated.model.records import AttemptError, Failure
from restated.model.services import ServiceDefinition
from restated.protocol.readable import (
    awaited_json,
    completion_id_of_call,
    entry_json,
    entry_lite_json,
    entry_type,
)
from restated.store.sql_calendar import (
    SqlValueError,
    Value,
    add_months,
    date_of_ms,
    date_part,
    date_trunc,
    parse_timestamp_ms,
    parse_timestamp_text_ns,
    text_of_ms,
    text_of_ns,
)
from restated.store.sql_tables import KEY_DIGITS

SERVER_VERSION: Final = "1.7.12"  # the reference release that `/version` names too
TEXT_CHARACTERS_MAX: Final = 16 * 1024 * 1024  # what repeat and pad may make


class Function(NamedTuple):
    """One registered function."""

    name: str
    call: Callable[..., Value]
    arguments: int  # -1: any number


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
    return None if code is None else entry_type(code).removeprefix("Command: ")


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


def _leaves(kept: Value, prefix: str) -> str | None:
    if not isinstance(kept, bytes):
        return None
    found = [int(name[1:]) for name in restored(kept).on if name[0] == prefix]  # as the reference
    return msgspec.json.encode(found).decode()


def _awaited_json(kept: Value) -> str | None:
    return awaited_json(restored(kept)) if isinstance(kept, bytes) else None


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


def _encode(value: Value, form: Value) -> str | None:
    if value is None:
        return None
    if form == "hex":
        return _bytes(value).hex()
    if form == "base64":
        return base64.b64encode(_bytes(value)).decode().rstrip("=")
    raise SqlValueError(_BAD_FORM.format(str(form)))


def _decode(text: Value, form: Value) -> bytes | None:
    if text is None:
        return None
    if form not in {"hex", "base64"}:
        raise SqlValueError(_BAD_FORM.format(str(form)))
    try:
        if form == "hex":
            return bytes.fromhex(str(text))
        return base64.b64decode(str(text) + "=" * (-len(str(text)) % 4), validate=True)
    except ValueError:
        msg = f"Failed to decode value using {form!s}"
        raise SqlValueError(msg) from None


_BAD_FORM: Final = "There is no built-in encoding named '{}', currently supported: base64, hex"


def _to_hex(value: Value) -> str | None:
    return f"{value & (1 << 64) - 1:x}" if isinstance(value, int) else None


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
    Function("awaited_completions", lambda kept: _leaves(kept, "c"), 1),
    Function("awaited_signals", lambda kept: _leaves(kept, "s"), 1),
    Function("awaited_json", _awaited_json, 1),
    Function("entry_type", entry_type, 1),
    Function("entry_json", entry_json, 4),
    Function("entry_lite_json", entry_lite_json, 4),
    Function("call_completion_id", completion_id_of_call, 2),
    Function("parse_ms", parse_timestamp_ms, 1),
    Function("parse_ns", parse_timestamp_text_ns, 1),
    Function("date_of_ms", date_of_ms, 1),
    Function("text_of_ms", text_of_ms, 1),
    Function("text_of_ns", text_of_ns, 1),
    Function("trunc_ms", date_trunc, 2),
    Function("part_of_ms", date_part, 2),
    Function("add_months", add_months, 2),
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
    Function("encode_bytes", _encode, 2),
    Function("decode_bytes", _decode, 2),
    Function("to_hex", _to_hex, 1),
)
