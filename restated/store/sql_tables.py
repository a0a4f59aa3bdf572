"""What `POST /query` shows: the tables, their columns, and the types that answers are written in.

Lives here: `TABLES` (name -> columns with types, in order), the vocabulary of types and how a
value of each is kept inside SQLite.
Does not: where the rows come from (views.py), how a type is written in an answer (answer.py).

Kept as: `timestamp` and `duration` integers of milliseconds, their `_ns` forms of nanoseconds;
`key` (a 64 bit unsigned number beyond SQLite's integers) text of 20 digits, which sorts and
compares as the number does; `bool` 0 or 1; `list_*` JSON; `interval` "months days nanoseconds".
Source: sql.md.
"""

from typing import Final, Literal

from restated.model.records import Record

SqlType = Literal[
    "text", "key", "u64", "u32", "i64", "i32", "f64", "bool", "binary", "timestamp",
    "timestamp_ns", "duration", "duration_ns", "date", "interval", "list_text", "list_u32",
    "list_i64", "list_f64", "list_bool", "null",
]  # fmt: skip

KEY_DIGITS: Final = 20  # of 2**64 - 1
LIST_TABLE: Final = "json_each"  # SQLite's: the elements of a list as rows


class SqlColumn(Record):
    """One column of a table or of an answer."""

    name: str
    type: SqlType
    is_nullable: bool = True


def _columns(text: str) -> tuple[SqlColumn, ...]:
    columns: list[SqlColumn] = []
    for word in text.split():
        name, _, kind = word.partition(":")
        columns.append(SqlColumn(name, _TYPES[kind.rstrip("!")], not kind.endswith("!")))
    return tuple(columns)


_TYPES: Final[dict[str, SqlType]] = {
    "text": "text", "key": "key", "u64": "u64", "u32": "u32", "bool": "bool", "binary": "binary",
    "timestamp": "timestamp", "duration": "duration", "list_text": "list_text",
    "list_u32": "list_u32",
}  # fmt: skip

ARROW_NAMES: Final[dict[SqlType, str]] = {
    "text": "LargeUtf8", "key": "UInt64", "u64": "UInt64", "u32": "UInt32", "i64": "Int64",
    "i32": "Int32", "f64": "Float64", "bool": "Boolean", "binary": "LargeBinary",
    "timestamp": 'Timestamp(ms, "+00:00")', "timestamp_ns": "Timestamp(ns)",
    "duration": "Duration(ms)", "duration_ns": "Duration(ns)", "date": "Date32",
    "interval": "Interval(MonthDayNano)", "list_text": "List(LargeUtf8)",
    "list_u32": "List(UInt32)", "list_i64": "List(Int64)", "list_f64": "List(Float64)",
    "list_bool": "List(Boolean)",
    "null": "Null",
}  # fmt: skip
"""How `information_schema` and `arrow_typeof` spell a type."""

_TEXT: Final[dict[str, str]] = {
    "state": """
        partition_key:key scope:text service_name:text service_key:text key:text key_length:u64
        value_utf8:text value:binary value_length:u64
    """,
    "sys_deployment": """
        id:text ty:text endpoint:text created_at:timestamp min_service_protocol_version:u32
        max_service_protocol_version:u32 services:list_text
    """,
    "sys_inbox": """
        partition_key:key service_name:text service_key:text id:text sequence_number:u64
        created_at:timestamp
    """,
    "sys_invocation": """
        id:text vqueue_id:text target:text target_service_name:text target_service_key:text
        target_handler_name:text target_service_ty:text scope:text limit_key:text
        idempotency_key:text invoked_by:text invoked_by_service_name:text invoked_by_id:text
        invoked_by_subscription_id:text invoked_by_target:text restarted_from:text
        pinned_deployment_id:text pinned_service_protocol_version:u32 trace_id:text journal_size:u32
        journal_commands_size:u32 created_at:timestamp created_using_restate_version:text
        modified_at:timestamp inboxed_at:timestamp scheduled_at:timestamp
        scheduled_start_at:timestamp running_at:timestamp completed_at:timestamp
        completion_retention:duration journal_retention:duration
        suspended_waiting_for_completions:list_u32 suspended_waiting_for_signals:list_u32
        suspended_waiting_future_json:text retry_count:u64 last_start_at:timestamp
        next_retry_at:timestamp last_attempt_deployment_id:text last_attempt_server:text
        last_failure:text last_failure_error_code:text last_failure_related_entry_index:u64
        last_failure_related_entry_name:text last_failure_related_entry_type:text
        last_failure_related_command_index:u64 last_failure_related_command_name:text
        last_failure_related_command_type:text last_awaiting_on_future_json:text status:text!
        completion_result:text completion_failure:text
    """,
    "sys_invocation_state": """
        partition_key:key id:text in_flight:bool retry_count:u64 last_start_at:timestamp
        last_attempt_deployment_id:text last_attempt_server:text next_retry_at:timestamp
        last_failure:text last_failure_error_code:text last_failure_related_command_index:u64
        last_failure_related_command_name:text last_failure_related_command_type:text
        last_failure_related_entry_index:u64 last_failure_related_entry_name:text
        last_failure_related_entry_type:text last_awaiting_on_future_json:text
    """,
    "sys_invocation_status": """
        partition_key:key id:text vqueue_id:text status:text completion_result:text
        completion_failure:text target:text target_service_name:text target_service_key:text
        target_handler_name:text target_service_ty:text scope:text limit_key:text
        idempotency_key:text invoked_by:text invoked_by_id:text invoked_by_subscription_id:text
        invoked_by_service_name:text invoked_by_target:text restarted_from:text
        pinned_deployment_id:text pinned_service_protocol_version:u32 trace_id:text journal_size:u32
        journal_commands_size:u32 created_at:timestamp created_using_restate_version:text
        modified_at:timestamp inboxed_at:timestamp scheduled_at:timestamp
        scheduled_start_at:timestamp running_at:timestamp completed_at:timestamp
        completion_retention:duration journal_retention:duration
        suspended_waiting_for_completions:list_u32 suspended_waiting_for_signals:list_u32
        suspended_waiting_future_json:text
    """,
    "sys_journal": """
        partition_key:key id:text index:u32 entry_type:text name:text completed:bool invoked_id:text
        invoked_target:text sleep_wakeup_at:timestamp promise_name:text raw:binary raw_length:u64
        version:u32 entry_json:text entry_lite_json:text appended_at:timestamp
    """,
    "sys_journal_events": """
        partition_key:key id:text after_journal_entry_index:u32 appended_at:timestamp
        event_type:text event_json:text
    """,
    "sys_keyed_service_status": """
        partition_key:key service_name:text service_key:text invocation_id:text
    """,
    "sys_locks": """
        partition_key:key scope:text lock_name:text acquired_at:timestamp acquired_by:text
    """,
    "sys_promise": """
        partition_key:key scope:text service_name:text service_key:text key:text completed:bool
        completion_success_value:binary completion_success_value_utf8:text completion_failure:text
    """,
    "sys_rules": """
        pattern:text concurrency:u32 description:text disabled:bool version:u32
        last_modified:timestamp
    """,
    "sys_scheduler": """
        partition_key:key id:text num_inbox:u64 status:text head_entry_id:text
        scheduled_at:timestamp blocked_on:text blocked_on_json:text
        invoker_concurrency_block_duration:duration throttling_rules_block_duration:duration
        invoker_throttling_block_duration:duration invoker_memory_block_duration:duration
        concurrency_rules_block_duration:duration lock_block_duration:duration
        deployment_concurrency_block_duration:duration
    """,
    "sys_service": """
        name:text revision:u64 public:bool ty:text deployment_id:text
    """,
    "sys_user_limits": """
        partition_key:key scope:text l1:text l2:text level:text usage:u32 concurrency_limit:u32
        rule_pattern:text available:u32 num_waiters:u64
    """,
    "sys_vqueue_entry_status": """
        partition_key:key entry_id:text vqueue_id:text stage:text status:text has_lock:bool
        next_at:timestamp sequence_number:u64 entry_kind:text created_at:timestamp
        transitioned_at:timestamp num_attempts:u32 num_errors:u32 num_pauses:u32 num_suspensions:u32
        num_yields:u32 first_attempt_at:timestamp latest_attempt_at:timestamp
        first_runnable_at:timestamp deployment:text needed_memory:u64 retry_attempts:u32
        retry_count_since_last_stored_command:u32
        latest_attempt_blocked_on_invoker_concurrency:duration
        latest_attempt_blocked_on_throttling_rules:duration
        latest_attempt_blocked_on_invoker_throttling:duration
        latest_attempt_blocked_on_invoker_memory:duration
        latest_attempt_blocked_on_concurrency_rules:duration latest_attempt_blocked_on_lock:duration
        latest_attempt_blocked_on_deployment_concurrency:duration
        total_blocked_on_invoker_concurrency:duration total_blocked_on_throttling_rules:duration
        total_blocked_on_invoker_throttling:duration total_blocked_on_invoker_memory:duration
        total_blocked_on_concurrency_rules:duration total_blocked_on_lock:duration
        total_blocked_on_deployment_concurrency:duration
    """,
    "sys_vqueue_meta": """
        partition_key:key id:text is_active:bool queue_is_paused:bool service_name:text scope:text
        limit_key:text lock_name:text created_at:timestamp last_enqueued_at:timestamp
        last_start_at:timestamp last_attempt_at:timestamp last_finish_at:timestamp
        avg_queue_duration:duration avg_inbox_duration:duration avg_run_duration:duration
        avg_suspension_duration:duration avg_end_to_end_duration:duration
        avg_blocked_on_concurrency_rules:duration avg_blocked_on_invoker_concurrency:duration
        avg_blocked_on_invoker_throttling:duration avg_blocked_on_lock:duration num_inbox:u64
        num_running:u64 num_suspended:u64 num_paused:u64 num_finished:u64
    """,
    "sys_vqueues": """
        partition_key:key id:text stage:text status:text has_lock:bool run_at:timestamp
        sequence_number:u64 entry_id:text entry_kind:text created_at:timestamp
        transitioned_at:timestamp num_attempts:u32 num_errors:u32 num_pauses:u32 num_suspensions:u32
        num_yields:u32 first_attempt_at:timestamp latest_attempt_at:timestamp
        first_runnable_at:timestamp deployment:text
    """,
}

TABLES: Final[dict[str, tuple[SqlColumn, ...]]] = {
    name: _columns(text) for name, text in _TEXT.items()
}

VIEW_TABLES: Final = frozenset({"sys_invocation"})  # shown as VIEW, the others as BASE TABLE

INFORMATION_SCHEMA: Final[dict[str, tuple[SqlColumn, ...]]] = {
    "tables": tuple(
        SqlColumn(name, "text")
        for name in ("table_catalog", "table_schema", "table_name", "table_type")
    ),
    "columns": (
        SqlColumn("table_catalog", "text"),
        SqlColumn("table_schema", "text"),
        SqlColumn("table_name", "text"),
        SqlColumn("column_name", "text"),
        SqlColumn("ordinal_position", "u64"),
        SqlColumn("column_default", "text"),
        SqlColumn("is_nullable", "text"),
        SqlColumn("data_type", "text"),
    ),
    "schemata": (SqlColumn("catalog_name", "text"), SqlColumn("schema_name", "text")),
}

INVOCATION_ID_COLUMNS: Final = frozenset({
    ("sys_invocation", "id"), ("sys_invocation_status", "id"), ("sys_invocation_state", "id"),
    ("sys_journal", "id"), ("sys_journal_events", "id"), ("sys_inbox", "id"),
})  # fmt: skip
"""Comparing one of these with a text that is no invocation id is an error, not an empty answer."""
