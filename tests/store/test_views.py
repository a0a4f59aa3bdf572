"""The SQL tables: what rows of the store look like from outside (sql.md)."""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from restated.core.awaits import stored
from restated.model.records import (
    AttemptError,
    Await,
    Completion,
    Deployment,
    Entry,
    Failure,
    InboxItem,
    JournalEvent,
    LimitRule,
    Lock,
    Promise,
    PromiseWaiter,
    Result,
    ServiceRevision,
    StateValue,
    Status,
)
from restated.model.services import Options, ServiceDefinition
from restated.protocol.messages import MESSAGES
from restated.store.sql_calendar import parse_timestamp_ns
from restated.store.sql_tables import TABLES
from tests.store.querying import ID, NOW_MS, QueryWorld, invocation, run_queries

DATA = Path(__file__).parent.parent / "data"
OTHER_ID = "inv_12F2TZfRUSYO6p023aciZy7AOsyJqUxzyV"
CASES: list[dict[str, Any]] = json.loads((DATA / "journal_cases.json").read_text())["invocations"]
CODES = {m.entry_type: m.code for m in MESSAGES if m.is_journaled}
ERROR = AttemptError(
    500, "boom", "RT0007", "trace", command_index=3, command_name="pay", command_type=0x0411
)

LIVE = (ID, True, NOW_MS - 50, "dp_2", "sdk/1")
WAITS_FOR_A_PLACE = (ID, False, None, None, None)

STATUSES = [
    # (stored status, fields, live attempts) -> (sys_invocation, sys_invocation_status, in state?)
    ("scheduled", {"scheduled_for_ms": NOW_MS + 1}, [], "scheduled", False),
    ("inboxed", {}, [], "pending", False),
    ("invoked", {}, [], "ready", False),
    ("invoked", {}, [WAITS_FOR_A_PLACE], "ready", False),
    ("invoked", {}, [LIVE], "running", True),
    ("invoked", {"next_retry_at_ms": NOW_MS + 1}, [], "backing-off", True),
    ("invoked", {"next_retry_at_ms": NOW_MS}, [], "ready", False),
    ("invoked", {"next_retry_at_ms": NOW_MS + 1}, [LIVE], "running", True),
    ("suspended", {}, [], "suspended", False),
    ("suspended", {}, [LIVE], "suspended", False),
    ("paused", {}, [], "paused", False),
    ("paused", {"last_failure": msgspec.msgpack.encode(ERROR)}, [], "paused", True),
    ("completed", {}, [], "completed", False),
    ("completed", {}, [LIVE], "completed", False),
]


@pytest.mark.parametrize(("stored", "fields", "live", "shown", "is_in_state"), STATUSES)
def test_displayed_status_is_derived_from_row_and_live_attempts(
    tmp_path: Path,
    stored: Status,
    fields: dict[str, Any],
    live: list[Any],
    shown: str,
    is_in_state: bool,
) -> None:
    """Design 3.4: the query child knows attempts only from what comes with the request."""

    async def body(world: QueryWorld) -> None:
        await world.put(invocation(status=stored, **fields))
        world.live[:] = live
        assert (await world.row("SELECT status FROM sys_invocation"))["status"] == shown
        assert (await world.row("SELECT status FROM sys_invocation_status"))["status"] == stored
        assert len(await world.rows("SELECT id FROM sys_invocation_state")) == is_in_state

    run_queries(body, tmp_path)


def test_the_status_table_knows_every_stored_status() -> None:
    assert {row[0] for row in STATUSES} == set(get_args(Status))


def test_live_attempts_change_between_two_queries_of_one_child(tmp_path: Path) -> None:
    """The set travels with each request; the last one must not stay."""

    async def body(world: QueryWorld) -> None:
        await world.put(invocation())
        sql = "SELECT status, last_attempt_deployment_id AS d, retry_count AS r FROM sys_invocation"
        assert await world.rows(sql) == [{"status": "ready"}]
        world.live.append(LIVE)
        assert await world.rows(sql) == [{"status": "running", "d": "dp_2", "r": 1}]
        world.live.clear()
        assert await world.rows(sql) == [{"status": "ready"}]

    run_queries(body, tmp_path)


@pytest.mark.parametrize(
    ("code", "shown"),
    [(0x0402, "GetState"), (0x0408, "GetStateKeys"), (0x0414, "CompleteAwakeable"), (0x040C, None)],
)
def test_the_type_of_the_failed_command_has_a_name_of_its_own(
    tmp_path: Path, code: int, shown: str | None
) -> None:
    """Lazy and eager reads are one; a sleep and many others are not shown [seen]."""

    async def body(world: QueryWorld) -> None:
        error = msgspec.structs.replace(ERROR, command_type=code)
        await world.put(
            invocation(next_retry_at_ms=NOW_MS + 1, last_failure=msgspec.msgpack.encode(error))
        )
        row = await world.row("SELECT * FROM sys_invocation")
        assert row.get("last_failure_related_command_type") == shown

    run_queries(body, tmp_path)


def test_an_empty_name_of_the_failed_command_is_not_shown(tmp_path: Path) -> None:
    """The journal event has it, sys_invocation does not [seen]."""

    async def body(world: QueryWorld) -> None:
        error = msgspec.structs.replace(ERROR, command_name="")
        await world.put(
            invocation(next_retry_at_ms=NOW_MS + 1_000, last_failure=msgspec.msgpack.encode(error))
        )
        row = await world.row("SELECT * FROM sys_invocation")
        assert row["last_failure_error_code"] == "RT0007"
        assert "last_failure_related_command_name" not in row

    run_queries(body, tmp_path)


@pytest.mark.parametrize(
    ("status", "next_retry_at"),
    [("invoked", {"next_retry_at": "2026-11-25T18:28:19.123Z"}), ("paused", {})],
)
def test_an_invocation_that_backs_off_shows_its_failure(
    tmp_path: Path, status: Status, next_retry_at: dict[str, str]
) -> None:
    """sql.md: `[code Reason] message`, stacktrace behind a newline.

    Paused meanwhile it goes on to [seen]; that it would retry is no longer true.
    """

    async def body(world: QueryWorld) -> None:
        await world.put(
            invocation(
                status=status,
                next_retry_at_ms=NOW_MS + 1_000 if status == "invoked" else None,
                last_start_at_ms=NOW_MS - 1, policy_attempts=2,
                failures_since_command=1, last_failure=msgspec.msgpack.encode(ERROR),
                deployment_id="dp_1",
            )
        )  # fmt: skip
        row = await world.row(f"SELECT * FROM sys_invocation WHERE id = '{ID}'")
        assert row["last_failure"] == "[500 Internal] boom\ntrace"
        assert row["last_failure_error_code"] == "RT0007"
        assert row["last_failure_related_command_index"] == 3
        assert row["last_failure_related_command_name"] == "pay"
        assert row["last_failure_related_command_type"] == "Run"
        assert {name: row[name] for name in row if name == "next_retry_at"} == next_retry_at
        assert row["last_start_at"] == "2026-11-25T18:28:18.122Z"
        assert row["retry_count"] == 2
        assert row["last_attempt_deployment_id"] == "dp_1"
        state = await world.row("SELECT * FROM sys_invocation_state")
        assert state["in_flight"] is False
        assert state["retry_count"] == 2

    run_queries(body, tmp_path)


def test_an_unpinned_invocation_that_backs_off_was_last_tried_on_the_latest(
    tmp_path: Path,
) -> None:
    """As the reference shows it [seen]: nothing is pinned before the first command."""

    async def body(world: QueryWorld) -> None:
        service = msgspec.msgpack.encode(ServiceDefinition("service", ()))
        await world.put(
            Deployment(
                "dp_1", "http://a", "http2", "bidi_stream", 5, 7, b"{}", b"{}", NOW_MS, "sdk/2"
            ),
            ServiceRevision("Greeter", 1, "dp_0", service),
            ServiceRevision("Greeter", 2, "dp_1", service),
            invocation(next_retry_at_ms=NOW_MS + 1_000),
        )
        state = await world.row("SELECT * FROM sys_invocation_state")
        assert state["last_attempt_deployment_id"] == "dp_1"
        assert state["last_attempt_server"] == "sdk/2"

    run_queries(body, tmp_path)


def test_a_running_invocation_shows_the_failure_that_it_retries(tmp_path: Path) -> None:
    """As the reference shows it: no next retry, and what this attempt is a retry for."""

    async def body(world: QueryWorld) -> None:
        await world.put(invocation(policy_attempts=2, last_failure=msgspec.msgpack.encode(ERROR)))
        world.live.append(LIVE)
        row = await world.row("SELECT * FROM sys_invocation")
        assert row["last_failure"] == "[500 Internal] boom\ntrace"
        assert row["last_failure_error_code"] == "RT0007"
        assert "next_retry_at" not in row
        assert row["retry_count"] == 3
        assert row["last_attempt_server"] == "sdk/1"

    run_queries(body, tmp_path)


def test_a_completed_invocation_in_every_column(tmp_path: Path) -> None:
    """sql.md, journal_cases.json `cancelled`: the forms of text, times, durations, results."""

    async def body(world: QueryWorld) -> None:
        await world.put(
            invocation(
                service="JScript", handler="play", status="completed", idempotency_key="k",
                created_at_ms=NOW_MS, modified_at_ms=NOW_MS + 1, running_at_ms=NOW_MS + 2,
                completed_at_ms=NOW_MS + 3, scheduled_for_ms=NOW_MS + 4, journal_length=4,
                command_count=3, deployment_id="dp_1", protocol_version=6,
                journal_retention_ms=0, completion_retention_ms=3_600_000,
                source="service", caller_id=OTHER_ID, caller_target="Shop/k/buy",
                trace_parent="00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
                restarted_from=OTHER_ID,
            ),
            Result.of(1, Failure(409, "cancelled")),
        )  # fmt: skip
        assert await world.row(f"SELECT * FROM sys_invocation WHERE id = '{ID}'") == {
            "id": ID,
            "target": "JScript/play",
            "target_service_name": "JScript",
            "target_handler_name": "play",
            "target_service_ty": "service",
            "idempotency_key": "k",
            "invoked_by": "service",
            "invoked_by_service_name": "Shop",
            "invoked_by_id": OTHER_ID,
            "invoked_by_target": "Shop/k/buy",
            "restarted_from": OTHER_ID,
            "pinned_deployment_id": "dp_1",
            "pinned_service_protocol_version": 6,
            "trace_id": "0123456789abcdef0123456789abcdef",
            "journal_size": 4,
            "journal_commands_size": 3,
            "created_at": "2026-11-25T18:28:18.123Z",
            "created_using_restate_version": "1.7.12",
            "modified_at": "2026-11-25T18:28:18.124Z",
            "scheduled_at": "2026-11-25T18:28:18.123Z",
            "running_at": "2026-11-25T18:28:18.125Z",
            "completed_at": "2026-11-25T18:28:18.126Z",
            "scheduled_start_at": "2026-11-25T18:28:18.127Z",
            "completion_retention": "PT3600S",
            "journal_retention": "P0D",
            "status": "completed",
            "completion_result": "failure",
            "completion_failure": "[409] cancelled",
        }

    run_queries(body, tmp_path)


def test_what_a_suspended_invocation_waits_for(tmp_path: Path) -> None:
    """journal_cases.json `suspended on two`; names and what is nested only in the JSON."""

    async def body(world: QueryWorld) -> None:
        inner = Await("all_completed", ("n:go", "c3", "s17"))
        tree = Await("unknown", ("c2", "c1", "s1"), (inner,))
        await world.put(invocation(status="suspended", awaiting_on=stored(tree)))
        row = await world.row("SELECT * FROM sys_invocation_status")
        assert row["suspended_waiting_for_completions"] == [2, 1]
        assert row["suspended_waiting_for_signals"] == [1]
        assert row["suspended_waiting_future_json"] == (
            '{"Unknown":[{"Single":{"CompletionId":2}},{"Single":{"CompletionId":1}},'
            '{"Single":{"SignalIndex":1}},{"AllCompleted":['
            '{"Single":{"SignalName":"go"}},{"Single":{"CompletionId":3}},'
            '{"Single":{"SignalIndex":17}}]}]}'
        )

    run_queries(body, tmp_path)


def test_a_future_of_the_greatest_depth_is_shown(tmp_path: Path) -> None:
    """Design 3.4: 1,000 levels; Python's usual recursion limit would stop before."""

    async def body(world: QueryWorld) -> None:
        tree = Await("unknown", ("c1",))
        for _ in range(999):
            tree = Await("all_completed", (), (tree,))
        await world.put(invocation(status="suspended", awaiting_on=stored(tree)))
        row = await world.row("SELECT suspended_waiting_future_json AS j FROM sys_invocation")
        assert row["j"].count("AllCompleted") == 999

    run_queries(body, tmp_path)


def _callees(case: dict[str, Any]) -> list[Any]:
    """Index rows and invocations of the callees that a recorded journal names."""
    rows: list[Any] = []
    for number, entry in enumerate(case["sys_journal"], start=100):
        command = json.loads(entry["entry_json"]).get("Command", {})
        call = command.get("Call") or command.get("OneWayCall")
        if call is not None:
            id_ = call["request"]["invocation_id"]
            completion_id = call["invocation_id_completion_id"]
            rows.append(Completion(1, completion_id, entry["index"], "call_id", callee=id_))
            hour_ms = 3_600_000
            rows.append(
                invocation(
                    number, id_, service="JScript", handler="play",
                    completion_retention_ms=hour_ms, journal_retention_ms=hour_ms,
                )
            )  # fmt: skip
    return rows


@pytest.mark.parametrize("case", CASES, ids=[case["what"] for case in CASES])
def test_recorded_journals_are_shown_as_they_were(tmp_path: Path, case: dict[str, Any]) -> None:
    """journal_cases.json: every kind of entry and event, byte for byte."""

    async def body(world: QueryWorld) -> None:
        journal, events = case["sys_journal"], case["sys_journal_events"]
        await world.put(
            invocation(1, case["id"]),
            *_callees(case),
            *(
                Entry(
                    1, e["index"], CODES[e["entry_type"]], bytes.fromhex(e.get("raw", "")),
                    _ms(e["appended_at"]), e.get("name") or None,
                )
                for e in journal
            ),
            *(
                JournalEvent(
                    1, index, _ms(e["appended_at"]), e["event_type"],
                    e["event_json"].encode(), e["after_journal_entry_index"],
                )
                for index, e in enumerate(events)
            ),
        )  # fmt: skip
        found = await world.rows(
            f"SELECT * FROM sys_journal WHERE id = '{case['id']}' ORDER BY index"
        )
        assert found == journal
        shown = await world.rows(
            f"SELECT * FROM sys_journal_events WHERE id = '{case['id']}' ORDER BY appended_at"
        )
        assert shown == events

    run_queries(body, tmp_path)


def _ms(text: str) -> int:
    return parse_timestamp_ns(text) // 1_000_000


def test_keyed_tables(tmp_path: Path) -> None:
    """State, promises, locks and inbox of one key; partition keys above 2**63 stay whole."""

    async def body(world: QueryWorld) -> None:
        key = ("", "JLazyStage", "k1")
        await world.put(
            invocation(1),
            invocation(2, OTHER_ID, service="JLazyStage", object_key="k1", status="inboxed"),
            StateValue(*key, "a", b"1"),
            StateValue(*key, "ä", b"\xff"),
            Promise(*key, "done", b'"v"'),
            Promise(*key, "bad", None, msgspec.msgpack.encode(Failure(500, "late"))),
            PromiseWaiter(*key, "open", 1, 1),
            PromiseWaiter(*key, "open", 2, 1),
            PromiseWaiter(*key, "done", 2, 2),
            Lock(*key, 1),
            InboxItem(*key, 7, 2),
            InboxItem(*key, 8, None, b"\x80"),
        )
        common = {
            "partition_key": 6091931909762340275, "service_name": "JLazyStage",
            "service_key": "k1",
        }  # fmt: skip
        assert await world.rows("SELECT * FROM state ORDER BY key") == [
            common
            | {"key": "a", "key_length": 1, "value_utf8": "1", "value": "31", "value_length": 1},
            common | {"key": "ä", "key_length": 2, "value": "ff", "value_length": 1},
        ]
        assert await world.rows("SELECT * FROM sys_promise ORDER BY key") == [
            common | {"key": "bad", "completed": True, "completion_failure": "[500] late"},
            common
            | {
                "key": "done", "completed": True, "completion_success_value": "227622",
                "completion_success_value_utf8": '"v"',
            },
            common | {"key": "open", "completed": False},
        ]  # fmt: skip
        assert await world.rows("SELECT * FROM sys_keyed_service_status") == [
            common | {"invocation_id": ID}
        ]
        assert await world.rows("SELECT id, sequence_number, service_key FROM sys_inbox") == [
            {"id": OTHER_ID, "sequence_number": 7, "service_key": "k1"}
        ]
        sql = f"SELECT partition_key FROM sys_invocation_status WHERE id = '{ID}'"
        assert await world.row(sql) == {"partition_key": 13044108709101539279}

    run_queries(body, tmp_path)


def test_registry_tables_show_the_latest_revision(tmp_path: Path) -> None:
    """Design 3.4: the latest revision is the highest whose deployment exists."""

    async def body(world: QueryWorld) -> None:
        public = ServiceDefinition("virtual_object", ())
        private = ServiceDefinition("service", (), Options(public=False))
        await world.put(
            Deployment(
                "dp_1", "http://127.0.0.1:9080", "http2", "bidi_stream", 5, 7, b"{}", b"{}", NOW_MS
            ),
            ServiceRevision("A", 1, "dp_1", msgspec.msgpack.encode(public)),
            ServiceRevision("A", 2, "dp_1", msgspec.msgpack.encode(private)),
            ServiceRevision("A", 3, "dp_gone", msgspec.msgpack.encode(public)),
            ServiceRevision("B", 1, "dp_1", msgspec.msgpack.encode(public)),
        )
        assert await world.rows("SELECT * FROM sys_service ORDER BY name") == [
            {"name": "A", "revision": 2, "public": False, "ty": "service", "deployment_id": "dp_1"},
            {
                "name": "B", "revision": 1, "public": True, "ty": "virtual_object",
                "deployment_id": "dp_1",
            },
        ]  # fmt: skip
        assert await world.rows("SELECT * FROM sys_deployment") == [
            {
                "id": "dp_1", "ty": "http", "endpoint": "http://127.0.0.1:9080/",
                "created_at": "2026-11-25T18:28:18.123Z", "min_service_protocol_version": 5,
                "max_service_protocol_version": 7, "services": ["A", "B"],
            }
        ]  # fmt: skip

    run_queries(body, tmp_path)


def test_rules_are_shown_with_their_bounds(tmp_path: Path) -> None:
    """admin.md 10: SQL is the only way to list them."""

    async def body(world: QueryWorld) -> None:
        await world.put(
            LimitRule("desk/*", 3, 0, NOW_MS, 5, "doors"), LimitRule("off", 4, 1, NOW_MS)
        )
        assert await world.rows("SELECT * FROM sys_rules ORDER BY pattern") == [
            {
                "pattern": "desk/*", "concurrency": 5, "description": "doors", "disabled": False,
                "version": 3, "last_modified": "2026-11-25T18:28:18.123Z",
            },
            {
                "pattern": "off", "disabled": True, "version": 4,
                "last_modified": "2026-11-25T18:28:18.123Z",
            },
        ]  # fmt: skip

    run_queries(body, tmp_path)


def test_every_column_of_every_table_can_be_read(tmp_path: Path) -> None:
    """sql.md: tables without a source answer with no rows, never with an error."""

    async def body(world: QueryWorld) -> None:
        await world.put(invocation())
        for table, columns in TABLES.items():
            names = ", ".join(f'"{column.name}"' for column in columns)
            await world.rows(f"SELECT {names} FROM {table}")

    run_queries(body, tmp_path)


def test_a_query_by_id_reads_the_unique_index(tmp_path: Path) -> None:
    """The conformance harness polls by id: no scan of all invocations or of the journal."""

    async def body(world: QueryWorld) -> None:
        for table in ("sys_invocation", "sys_invocation_status", "sys_journal", "sys_inbox"):
            rows = await world.rows(f"EXPLAIN SELECT * FROM {table} WHERE id = '{ID}'")
            plan = str(rows[1]["plan"])
            assert "invocation_id (id=?)" in plan, plan
            assert "SCAN j" not in plan

    run_queries(body, tmp_path)
