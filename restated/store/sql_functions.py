"""SQL functions of a query connection: what the views and translated statements call.

Lives here: `FUNCTIONS`, each row a name, its Python function, its number of arguments; what the
views call.
Does not: which client spelling means which function (sql_calls.py), what statements call
(sql_text.py, sql_numbers.py, sql_calendar.py, sql_regular.py, sql_lists.py, sql_json.py).

All of them are pure but `now_ms`: SQLite calls those with constant arguments once a statement.
"""

from functools import lru_cache
from typing import Final

import msgspec

from restated.core.awaits import restored
from restated.model.ids import IdError, parse_invocation_id, partition_key
from restated.model.records import AttemptError, Failure
from restated.model.services import ServiceDefinition
from restated.protocol import messages
from restated.protocol.readable import (
    awaited_json,
    completion_id_of_call,
    entry_json,
    entry_lite_json,
    entry_type,
)
from restated.store.sql_calendar import (
    Value,
    add_months,
    add_months_ns,
    bin_start,
    date_of_ms,
    date_part,
    date_trunc,
    duration_part,
    make_date,
    parse_timestamp_ms,
    parse_timestamp_text_ns,
    text_of_ms,
    text_of_ns,
)
from restated.store.sql_formats import read_time_as, write_time_as
from restated.store.sql_function import Function
from restated.store.sql_intervals import text_of_interval
from restated.store.sql_json import JSON_FUNCTIONS
from restated.store.sql_lists import LIST_FUNCTIONS
from restated.store.sql_numbers import NUMBER_FUNCTIONS
from restated.store.sql_regular import REGULAR_FUNCTIONS
from restated.store.sql_tables import KEY_DIGITS
from restated.store.sql_text import TEXT_FUNCTIONS

SERVER_VERSION: Final = "1.7.12"  # the reference release that `/version` names too


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


# The types that last_failure_related_command_type names; it is NULL for every other [seen].
_RELATED_TYPES: Final = {
    messages.GET_LAZY_STATE_COMMAND: "GetState",
    messages.SET_STATE_COMMAND: "SetState",
    messages.GET_LAZY_STATE_KEYS_COMMAND: "GetStateKeys",
    messages.GET_EAGER_STATE_COMMAND: "GetState",
    messages.GET_EAGER_STATE_KEYS_COMMAND: "GetStateKeys",
    messages.CALL_COMMAND: "Call",
    messages.ONE_WAY_CALL_COMMAND: "OneWayCall",
    messages.RUN_COMMAND: "Run",
    messages.COMPLETE_AWAKEABLE_COMMAND: "CompleteAwakeable",
}
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
    # An empty name is in the journal event only.
    return (_error(packed).command_name or None) if isinstance(packed, bytes) else None


def _failure_command_type(packed: Value) -> str | None:
    code = _error(packed).command_type if isinstance(packed, bytes) else None
    return None if code is None else _RELATED_TYPES.get(code)


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
    Function("bin_start", bin_start, 3),
    Function("add_months", add_months, 2),
    Function("add_months_ns", add_months_ns, 2),
    Function("part_of_duration", duration_part, 2),
    Function("time_as", write_time_as, 2),
    Function("read_ns_as", read_time_as, -1),
    Function("date_of", make_date, 3),
    Function("text_of_interval", text_of_interval, 1),
    *NUMBER_FUNCTIONS,
    *TEXT_FUNCTIONS,
    *REGULAR_FUNCTIONS,
    *LIST_FUNCTIONS,
    *JSON_FUNCTIONS,
)
