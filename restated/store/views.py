"""Where the rows of the SQL tables come from: one temporary view for each table of sql_tables.py.

Lives here: `statements`, which sets a query connection up.
Does not: types (sql_tables.py), functions that the views call (sql_functions.py), who may read
what (query_child.py: tables of the file are readable only from inside these views).

Displayed statuses are derived: `invoked` is running while an attempt is in flight, backing-off
until its stored retry is due, else ready. Attempts live in the invoker's memory, so each request
brings them along in the temporary table `live`. Source: sql.md, design 3.4.
"""

from collections.abc import Iterator
from typing import Final

from restated.store.sql_tables import (
    ARROW_NAMES,
    INFORMATION_SCHEMA,
    TABLES,
    VIEW_TABLES,
)

VIEW_PREFIX: Final = "sql$"  # no client can write it: the dialect refuses such names
STORED_STATUS: Final = f"{VIEW_PREFIX}stored"  # a column of sys_invocation, for sql_statuses.py

LIVE: Final = """
CREATE TEMP TABLE live (
  id TEXT NOT NULL PRIMARY KEY, in_flight INTEGER NOT NULL, started_at_ms INTEGER,
  deployment_id TEXT, server TEXT
) WITHOUT ROWID
"""
INSERT_LIVE: Final = "INSERT OR REPLACE INTO temp.live VALUES (?, ?, ?, ?, ?)"
CLEAR_LIVE: Final = "DELETE FROM temp.live"

_IN_FLIGHT: Final = "(i.status = 'invoked' AND ifnull(l.in_flight, 0))"
# A retry that is due but not started yet is ready.
_BACKING_OFF: Final = "(l.id IS NULL AND i.status = 'invoked' AND i.next_retry_at_ms > now_ms())"
# Whatever else is paused keeps no failure (core/pausing.py).
_WAS_BACKING_OFF: Final = "(i.status = 'paused' AND i.last_failure IS NOT NULL)"
_BETWEEN: Final = f"({_BACKING_OFF} OR {_WAS_BACKING_OFF})"
# The last attempt of an unpinned invocation went to the newest deployment of its service.
_LATEST: Final = (
    "(SELECT s.deployment_id FROM main.service_revision s JOIN main.deployment d"
    " ON d.id = s.deployment_id WHERE s.name = i.service ORDER BY s.revision DESC LIMIT 1)"
)
_LAST_DEPLOYMENT: Final = f"ifnull(i.deployment_id, {_LATEST})"
_LAST_SDK: Final = f"(SELECT d.sdk FROM main.deployment d WHERE d.id = {_LAST_DEPLOYMENT})"  # noqa: S608 - own text
# While a retry runs one still wants to know what it is for; the reference shows it too.
_FAILED: Final = f"CASE WHEN {_IN_FLIGHT} OR {_BETWEEN} THEN i.last_failure END"
_HAS_JOURNAL: Final = "i.status NOT IN ('scheduled', 'inboxed')"

_TARGET: Final = {
    "target": "i.service || '/' || ifnull(i.object_key || '/', '') || i.handler",
    "target_service_name": "i.service",
    "target_service_key": "i.object_key",
    "target_handler_name": "i.handler",
    "target_service_ty": "i.service_type",
    "scope": "nullif(i.scope, '')",
    "limit_key": "i.limit_key",
    "idempotency_key": "i.idempotency_key",
}
_ORIGIN: Final = {
    "invoked_by": "i.source",
    "invoked_by_service_name": (
        "CASE WHEN i.caller_target IS NOT NULL"
        " THEN substr(i.caller_target, 1, instr(i.caller_target, '/') - 1) END"
    ),
    "invoked_by_id": "i.caller_id",
    "invoked_by_target": "i.caller_target",
    "restarted_from": "i.restarted_from",
    "trace_id": "substr(i.trace_parent, 4, 32)",
}
_LIFE: Final = {
    "pinned_deployment_id": "i.deployment_id",
    "pinned_service_protocol_version": "i.protocol_version",
    "journal_size": f"CASE WHEN {_HAS_JOURNAL} THEN i.journal_length END",
    "journal_commands_size": f"CASE WHEN {_HAS_JOURNAL} THEN i.command_count END",
    "created_at": "i.created_at_ms",
    "created_using_restate_version": "server_version()",
    "modified_at": "i.modified_at_ms",
    "inboxed_at": "i.inboxed_at_ms",
    "scheduled_at": "CASE WHEN i.scheduled_for_ms IS NOT NULL THEN i.created_at_ms END",
    "scheduled_start_at": "i.scheduled_for_ms",
    "running_at": "i.running_at_ms",
    "completed_at": "i.completed_at_ms",
    "completion_retention": "i.completion_retention_ms",
    "journal_retention": "i.journal_retention_ms",
    "suspended_waiting_for_completions": (
        "CASE WHEN i.status = 'suspended' THEN awaited_completions(i.awaiting_on) END"
    ),
    "suspended_waiting_for_signals": (
        "CASE WHEN i.status = 'suspended' THEN awaited_signals(i.awaiting_on) END"
    ),
    "suspended_waiting_future_json": (
        "CASE WHEN i.status = 'suspended' THEN awaited_json(i.awaiting_on) END"
    ),
    "completion_result": (
        "CASE WHEN i.status = 'completed' THEN"
        " CASE WHEN r.failure_code IS NULL THEN 'success' ELSE 'failure' END END"
    ),
    "completion_failure": "'[' || r.failure_code || '] ' || r.failure_message",
}
_INVOKER: Final = {
    "retry_count": (
        f"CASE WHEN {_IN_FLIGHT} THEN max(i.policy_attempts, i.failures_since_command) + 1"
        f" WHEN {_BETWEEN} THEN max(i.policy_attempts, i.failures_since_command) END"
    ),
    "last_start_at": (
        f"CASE WHEN {_IN_FLIGHT} THEN l.started_at_ms WHEN {_BETWEEN} THEN i.last_start_at_ms END"
    ),
    "next_retry_at": f"CASE WHEN {_BACKING_OFF} THEN i.next_retry_at_ms END",
    "last_attempt_deployment_id": (
        f"CASE WHEN {_IN_FLIGHT} THEN ifnull(l.deployment_id, i.deployment_id)"
        f" WHEN {_BETWEEN} THEN {_LAST_DEPLOYMENT} END"
    ),
    "last_attempt_server": (
        f"CASE WHEN {_IN_FLIGHT} THEN l.server WHEN {_BETWEEN} THEN {_LAST_SDK} END"
    ),
    "last_failure": f"failure_text({_FAILED})",
    "last_failure_error_code": f"failure_code({_FAILED})",
    "last_failure_related_command_index": f"failure_command_index({_FAILED})",
    "last_failure_related_command_name": f"failure_command_name({_FAILED})",
    "last_failure_related_command_type": f"failure_command_type({_FAILED})",
}

_INVOCATION_FROM: Final = (
    "main.invocation i LEFT JOIN main.result r ON r.number = i.number"
    " LEFT JOIN temp.live l ON l.id = i.id"
)
_BY_KEY: Final = {
    "partition_key": "key_partition(t.scope, t.service, t.key)",
    "scope": "nullif(t.scope, '')",
    "service_name": "t.service",
    "service_key": "t.key",
}
_CALLEE: Final = (
    "(SELECT c.callee FROM main.completion c WHERE c.number = i.number"
    " AND c.completion_id = call_completion_id(j.type, j.payload))"
)
# Type and retentions of the callee, as long as it has a row.
_FACTS: Final = (
    "concat_ws(' ', k.service_type, k.handler_type, k.completion_retention_ms,"
    " k.journal_retention_ms)"
)
_CALLEE_FACTS: Final = f"(SELECT {_FACTS} FROM main.invocation k WHERE k.id = {_CALLEE})"  # noqa: S608 - own text
_CALLS: Final = f"CASE WHEN j.type IN (1037, 1038) THEN {_CALLEE} END"  # Call, OneWayCall
_CALL_FACTS: Final = f"CASE WHEN j.type IN (1037, 1038) THEN {_CALLEE_FACTS} END"

_VIEWS: Final[dict[str, tuple[dict[str, str], str]]] = {
    "state": (
        {
            **_BY_KEY,
            "key": "t.name",
            "key_length": "octet_length(t.name)",
            "value_utf8": "utf8(t.value)",
            "value": "t.value",
            "value_length": "length(t.value)",
        },
        "main.state t",
    ),
    "sys_deployment": (
        {
            "id": "t.id",
            "ty": "CASE t.transport WHEN 'lambda' THEN 'lambda' ELSE 'http' END",
            # A URI without a path is shown with the path `/`; one with a path as it was given.
            "endpoint": (
                "CASE WHEN t.uri LIKE '%://%' AND t.uri NOT LIKE '%://%/%' THEN t.uri || '/'"
                " ELSE t.uri END"
            ),
            "created_at": "t.created_at_ms",
            "min_service_protocol_version": "t.protocol_version_min",
            "max_service_protocol_version": "t.protocol_version_max",
            "services": (
                "(SELECT json_group_array(s.name ORDER BY s.name) FROM (SELECT DISTINCT"
                " v.name FROM main.service_revision v WHERE v.deployment_id = t.id) s)"
            ),
        },
        "main.deployment t",
    ),
    "sys_inbox": (
        {
            **_BY_KEY,
            "partition_key": "id_partition(i.id)",
            "id": "i.id",
            "sequence_number": "t.sequence",
            "created_at": "i.created_at_ms",
        },
        "main.inbox t JOIN main.invocation i ON i.number = t.number AND i.service = t.service"
        " AND i.object_key = t.key AND i.scope = t.scope",
    ),
    "sys_invocation": (
        {
            "id": "i.id",
            **_TARGET,
            **_ORIGIN,
            **_LIFE,
            **_INVOKER,
            "status": (
                "CASE i.status WHEN 'inboxed' THEN 'pending' WHEN 'invoked' THEN CASE"
                f" WHEN {_IN_FLIGHT} THEN 'running' WHEN {_BACKING_OFF} THEN 'backing-off'"
                " ELSE 'ready' END ELSE i.status END"
            ),
            STORED_STATUS: "i.status",
        },
        _INVOCATION_FROM,
    ),
    "sys_invocation_state": (
        {
            "partition_key": "id_partition(i.id)",
            "id": "i.id",
            "in_flight": _IN_FLIGHT,
            **_INVOKER,
        },
        "main.invocation i LEFT JOIN temp.live l ON l.id = i.id"
        f" WHERE i.status <> 'completed' AND ({_IN_FLIGHT} OR {_BETWEEN})",
    ),
    "sys_invocation_status": (
        {
            "partition_key": "id_partition(i.id)",
            "id": "i.id",
            "status": "i.status",
            **_TARGET,
            **_ORIGIN,
            **_LIFE,
        },
        "main.invocation i LEFT JOIN main.result r ON r.number = i.number",
    ),
    "sys_journal": (
        {
            "partition_key": "id_partition(i.id)",
            "id": "i.id",
            "index": "j.position & 16777215",
            "entry_type": "entry_type(j.type)",
            "name": "CASE WHEN j.type < 32768 THEN ifnull(j.name, '') END",
            "raw": "j.payload",
            "raw_length": "length(j.payload)",
            "version": "2",
            "entry_json": f"entry_json(j.type, j.payload, {_CALLS}, {_CALL_FACTS})",
            "entry_lite_json": f"entry_lite_json(j.type, j.payload, {_CALLS}, {_CALL_FACTS})",
            "appended_at": "j.appended_at_ms",
        },
        # CROSS JOIN: the invocation first, then its entries as one range of the journal.
        "main.invocation i CROSS JOIN main.journal j ON j.position >= i.number << 24"
        " AND j.position < (i.number + 1) << 24",
    ),
    "sys_journal_events": (
        {
            "partition_key": "id_partition(i.id)",
            "id": "i.id",
            "after_journal_entry_index": "j.after_journal_index",
            "appended_at": "j.at_ms",
            "event_type": "j.kind",
            "event_json": "CAST(j.payload AS TEXT)",
        },
        "main.invocation i CROSS JOIN main.journal_event j ON j.position >= i.number << 24"
        " AND j.position < (i.number + 1) << 24",
    ),
    "sys_keyed_service_status": (
        {**_BY_KEY, "invocation_id": "i.id"},
        "main.lock t JOIN main.invocation i ON i.number = t.holder",
    ),
    "sys_promise": (
        {
            **_BY_KEY,
            "key": "t.name",
            "completed": "t.completed",
            "completion_success_value": "t.value",
            "completion_success_value_utf8": "utf8(t.value)",
            "completion_failure": "promise_failure(t.failure)",
        },
        "(SELECT scope, service, key, name, 1 AS completed, value, failure FROM main.promise"
        " UNION ALL SELECT DISTINCT w.scope, w.service, w.key, w.name, 0, NULL, NULL"
        " FROM main.promise_waiter w WHERE NOT EXISTS (SELECT 1 FROM main.promise p"
        " WHERE p.scope = w.scope AND p.service = w.service AND p.key = w.key"
        " AND p.name = w.name)) t",
    ),
    "sys_rules": (
        {
            "pattern": "t.pattern",
            "concurrency": "t.concurrency",
            "description": "t.description",
            "disabled": "t.disabled",
            "version": "t.version",
            "last_modified": "t.modified_at_ms",
        },
        "main.limit_rule t",
    ),
    "sys_service": (
        {
            "name": "t.name",
            "revision": "t.revision",
            "public": "service_is_public(t.definition)",
            "ty": "service_type(t.definition)",
            "deployment_id": "t.deployment_id",
        },
        "main.service_revision t WHERE t.revision = (SELECT max(s.revision) FROM"
        " main.service_revision s JOIN main.deployment d ON d.id = s.deployment_id"
        " WHERE s.name = t.name)",
    ),
}
"""Table -> (column -> expression, FROM clause). A table or column that is missing has no values."""


def view_name(table: str, schema: str = "public") -> str:
    """The view behind a table."""
    return f"{VIEW_PREFIX}{table}" if schema == "public" else f"{VIEW_PREFIX}{schema}.{table}"


def statements() -> Iterator[str]:
    """Everything a fresh connection needs, in order; all of it in its temporary schema."""
    yield LIVE
    for table, columns in TABLES.items():
        expressions, source = _VIEWS.get(table, ({}, "(SELECT 1) WHERE 0"))
        names = [column.name for column in columns]
        hidden = expressions.keys() - {"partition_key", "scope", *names}
        assert hidden <= {STORED_STATUS}, table
        yield _create(view_name(table), [*names, *hidden], expressions, source)
    rows: dict[str, list[tuple[str | int | None, ...]]] = {
        "tables": _table_rows(),
        "columns": _column_rows(),
        "schemata": [("restate", "public"), ("restate", "information_schema")],
    }
    for table, columns in INFORMATION_SCHEMA.items():
        values = ", ".join(f"({', '.join(map(_literal, row))})" for row in rows[table])
        names_of = ", ".join(f'"{column.name}"' for column in columns)
        view = view_name(table, "information_schema")
        yield f'CREATE TEMP VIEW "{view}"({names_of}) AS VALUES {values}'


def _create(view: str, names: list[str], expressions: dict[str, str], source: str) -> str:
    selected = ", ".join(f'{expressions.get(name, "NULL")} AS "{name}"' for name in names)
    return f'CREATE TEMP VIEW "{view}" AS SELECT {selected} FROM {source}'  # noqa: S608 - own text


def _table_rows() -> list[tuple[str | int | None, ...]]:
    own = [
        ("restate", "public", name, "VIEW" if name in VIEW_TABLES else "BASE TABLE")
        for name in TABLES
    ]
    return [*own, *(("restate", "information_schema", n, "VIEW") for n in INFORMATION_SCHEMA)]


def _column_rows() -> list[tuple[str | int | None, ...]]:
    schemas = {"public": TABLES, "information_schema": INFORMATION_SCHEMA}
    return [
        (
            "restate", schema, table, column.name, position, None,
            "YES" if column.is_nullable else "NO", ARROW_NAMES[column.type],
        )
        for schema, tables in schemas.items()
        for table, columns in tables.items()
        for position, column in enumerate(columns)
    ]  # fmt: skip


def _literal(value: str | int | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    assert "'" not in value
    return f"'{value}'"
