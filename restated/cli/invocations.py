"""Commands about invocations.

Lives here: list, describe, the operations, the live tail.
Does not: which invocations a word means (selection.py), rules of operations (core/control.py).
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from cyclopts import Parameter

from restated.cli import output
from restated.cli.main import INTERRUPTED
from restated.cli.selection import COMMAND_MAX, any_of, literal, matching, selected
from restated.cli.session import Changing, Reading, UsageError
from restated.client import (
    AdminClient,
    ClientError,
    DbRow,
    NotFoundError,
    Operation,
)

READING: Final = Reading()
CHANGING: Final = Changing()
LIST_COLUMNS: Final = (
    "id, target, status, created_at, modified_at, retry_count, next_retry_at, last_failure, "
    "completion_result, completion_failure, scheduled_start_at, pinned_deployment_id"
)
STATUSES: Final = (
    "scheduled", "pending", "ready", "running", "backing-off", "suspended", "paused", "completed",
)  # fmt: skip
JOURNAL_MAX: Final = 1_000  # entries that describe shows
DETAIL_CHARACTERS_MAX: Final = 100  # of a failure in a list
NOT_COMPLETED: Final = "status <> 'completed'"
COMPLETED: Final = "status = 'completed'"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which invocations are listed."""

    service: Sequence[str] = ()
    """Only of this service. May be repeated, as all filters."""
    handler: Sequence[str] = ()
    """Only of this handler."""
    key: Sequence[str] = ()
    """Only of this key of a virtual object or workflow."""
    status: Sequence[str] = ()
    """Only in this status, or in one of several, separated by commas."""
    deployment: Sequence[str] = ()
    """Only bound to this deployment."""
    all_: Annotated[bool, Parameter(name="--all")] = False
    """Completed ones too."""

    def conditions(self) -> list[str]:
        """What holds of the rows that are listed; UsageError for an unknown status."""
        statuses = [word.strip() for text in self.status for word in text.split(",")]
        statuses = [word for word in statuses if word]
        unknown = next((word for word in statuses if word not in STATUSES), None)
        if unknown is not None:
            raise UsageError(f"{unknown!r} is no status; there are {', '.join(STATUSES)}.")
        columns = (
            ("target_service_name", self.service),
            ("target_handler_name", self.handler),
            ("target_service_key", self.key),
            ("status", statuses),
            ("pinned_deployment_id", self.deployment),
        )
        conditions = [any_of(column, values) for column, values in columns if values]
        if not statuses and not self.all_:
            conditions.append(NOT_COMPLETED)
        return conditions


EVERY: Final = Filters()


def list_invocations(
    *,
    filters: Filters = EVERY,
    oldest_first: bool = False,
    limit: int = 100,
    common: Reading = READING,
) -> None:
    """List invocations, newest first; completed ones only with --all or --status completed.

    Parameters
    ----------
    oldest_first
        Oldest first.
    limit
        At most so many.
    """
    limit = max(0, limit)
    direction = "ASC" if oldest_first else "DESC"
    query = selected(
        filters.conditions(),
        columns=LIST_COLUMNS,
        limit=limit + 1,
        order=f"created_at {direction}, id {direction}",
    )
    with common.client() as client:
        rows = client.query(query)
    has_more = len(rows) > limit
    rows = rows[:limit]
    if common.wants_json:
        output.print_json(rows)
        return
    now = datetime.now(UTC)
    output.print_table(
        ("CREATED-AT", "ID", "TARGET", "STATUS", "DETAIL"),
        [
            (
                output.moment(row.get("created_at")),
                row["id"],
                row["target"],
                row["status"],
                _detail(row, now),
            )
            for row in rows
        ],
    )
    more = ", and there are more" if has_more else ""
    output.print_note(output.counted(len(rows), "invocation") + more)


def describe_invocation(invocation_id: str, /, *, common: Reading = READING) -> None:
    """Show one invocation: where it stands, its journal, what went wrong.

    Parameters
    ----------
    invocation_id
        Id of the invocation, `inv_...`.
    """
    which = f"id = {literal(invocation_id)}"
    with common.client() as client:
        found = client.query(f"SELECT * FROM sys_invocation WHERE {which}")  # noqa: S608 - quoted
        if not found:
            raise NotFoundError(404, f"there is no invocation {invocation_id}")
        journal = client.query(
            "SELECT index, entry_type, name, appended_at, entry_lite_json FROM sys_journal "  # noqa: S608 - quoted
            f"WHERE {which} ORDER BY index LIMIT {JOURNAL_MAX}"
        )
        events = client.query(
            "SELECT after_journal_entry_index, appended_at, event_type, event_json "  # noqa: S608 - quoted
            f"FROM sys_journal_events WHERE {which} ORDER BY appended_at LIMIT {JOURNAL_MAX}"
        )
        ahead = _ahead(client, found[0])
    if common.wants_json:
        output.print_json({"invocation": found[0], "journal": journal, "events": events})
        return
    output.print_section("Invocation", [*_facts(found[0], datetime.now(UTC)), *ahead])
    output.print_section("Journal")
    output.print_table(("INDEX", "AT", "ENTRY", "NAME"), _steps(journal, events), indent=2)


def cancel(which: Sequence[str], /, *, kill: bool = False, common: Changing = CHANGING) -> None:
    """Ask handlers to stop: they get a terminal error at their next await.

    Parameters
    ----------
    which
        Ids, or targets: Service, Service/handler, Object/key, Object/key/handler.
    kill
        End them at once instead, without asking the handlers.
    """
    _operate("kill" if kill else "cancel", which, common, only=NOT_COMPLETED)


def kill(which: Sequence[str], /, *, common: Changing = CHANGING) -> None:
    """End invocations, and everything they called, at once, without asking the handlers.

    Parameters
    ----------
    which
        Ids, or targets: Service, Service/handler, Object/key, Object/key/handler.
    """
    _operate("kill", which, common, only=NOT_COMPLETED)


def pause(which: Sequence[str], /, *, common: Changing = CHANGING) -> None:
    """Stop attempting until resumed.

    Parameters
    ----------
    which
        Ids, or targets: Service, Service/handler, Object/key, Object/key/handler.
    """
    _operate("pause", which, common, only=NOT_COMPLETED)


def resume(
    which: Sequence[str], /, *, deployment: str | None = None, common: Changing = CHANGING
) -> None:
    """Go on with paused invocations, and at once with those that wait for a retry.

    Parameters
    ----------
    which
        Ids, or targets: Service, Service/handler, Object/key, Object/key/handler.
    deployment
        Go on there: `keep`, `latest`, or the id of a deployment.
    """
    _operate("resume", which, common, only=NOT_COMPLETED, deployment=deployment)


def purge(which: Sequence[str], /, *, common: Changing = CHANGING) -> None:
    """Forget completed invocations, with their results.

    Parameters
    ----------
    which
        Ids, or targets: Service, Service/handler, Object/key, Object/key/handler.
    """
    _operate("purge", which, common, only=COMPLETED)


def restart(
    which: Sequence[str], /, *, deployment: str | None = None, common: Changing = CHANGING
) -> None:
    """Repeat completed invocations under new ids, with their original input.

    Parameters
    ----------
    which
        Ids, or targets: Service, Service/handler, Object/key, Object/key/handler.
    deployment
        Repeat there: `keep`, `latest` (the default), or the id of a deployment.
    """
    _operate("restart-as-new", which, common, only=COMPLETED, deployment=deployment)


def tail(
    *,
    service: Sequence[str] = (),
    key: Sequence[str] = (),
    invocation: Annotated[Sequence[str], Parameter(name="--id")] = (),
    common: Reading = READING,
) -> None:
    """Show changes of invocations as they happen, until interrupted.

    Parameters
    ----------
    service
        Only of this service. May be repeated, as all filters.
    key
        Only of this key of a virtual object or workflow.
    invocation
        Only of this invocation.
    """
    import trio

    given = (("service", service), ("key", key), ("id", invocation))
    filters = [(name, value) for name, values in given for value in values]
    show = _show_document if common.wants_json else _show_change
    # Not as an exception: one that is raised in the reader of the websocket is replaced by the
    # cancellation that it causes, and a tail that was interrupted would end as one that was closed.
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    with common.client() as client:
        trio.run(client.tail, filters, show)


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "list": list_invocations,
    "describe": describe_invocation,
    "cancel": cancel,
    "kill": kill,
    "pause": pause,
    "resume": resume,
    "purge": purge,
    "restart": restart,
    "tail": tail,
}

# -- operations

_DONE: Final[dict[Operation, str]] = {
    "cancel": "Cancelling", "kill": "Killed", "pause": "Pausing", "resume": "Resumed",
    "purge": "Purged", "restart-as-new": "Restarted",
}  # fmt: skip


def _operate(
    operation: Operation,
    which: Sequence[str],
    common: Changing,
    *,
    only: str,
    deployment: str | None = None,
) -> None:
    if not which:
        raise UsageError("Say which invocations: ids or targets such as Service/handler.")
    with common.client() as client:
        rows = _selected(client, which, only)
        if not common.wants_json:
            cells = [(row["id"], row["target"], row["status"]) for row in rows]
            output.print_table(("ID", "TARGET", "STATUS"), cells)
        verb = "restart" if operation == "restart-as-new" else operation
        common.confirm(f"{verb.capitalize()} {output.counted(len(rows), 'invocation')}?")
        ids = [str(row["id"]) for row in rows]
        restarted: list[str] = []
        if operation == "restart-as-new":
            answer = client.restart(ids, deployment)
            restarted = [
                f"{one.old_invocation_id} as {one.new_invocation_id}" for one in answer.succeeded
            ]
            succeeded, failed = restarted, answer.failed
            document: object = answer
        else:
            batch = client.operate(operation, ids, deployment)
            succeeded, failed, document = list(batch.succeeded), batch.failed, batch
    if common.wants_json:
        output.print_json(document)
    else:
        for line in restarted:
            output.print_line(f"Restarted {line}.")
        if succeeded:
            output.print_line(f"{_DONE[operation]} {output.counted(len(succeeded), 'invocation')}.")
    if failed:
        raise ClientError("; ".join(one.error for one in failed))


def _selected(client: AdminClient, which: Sequence[str], only: str) -> list[DbRow]:
    """The invocations meant; NotFoundError for a word that means none."""
    rows: dict[str, DbRow] = {}
    for word in which:
        is_id = matching(word).startswith("id =")
        # An id is taken as it is: the daemon says best why an operation does not fit its status.
        conditions = [matching(word)] if is_id else [matching(word), only]
        found = client.query(
            selected(
                conditions,
                columns="id, target, status, created_at",
                limit=COMMAND_MAX + 1,
                order="created_at, id",
            )
        )
        if not found:
            state = "" if is_id else f" {'completed' if only == COMPLETED else 'open'}"
            raise NotFoundError(404, f"there is no{state} invocation {word}")
        rows |= {str(row["id"]): row for row in found}
    if len(rows) > COMMAND_MAX:
        raise ClientError(
            f"more than {COMMAND_MAX} invocations are meant; name fewer, or repeat the command "
            "with a narrower target"
        )
    return list(rows.values())


# -- showing


def _detail(row: DbRow, now: datetime) -> str:
    match row["status"]:
        case "backing-off":
            when = output.ago(row.get("next_retry_at"), now)
            return f"retry {row.get('retry_count', '?')} {when}: {_short(row.get('last_failure'))}"
        case "scheduled":
            return f"starts {output.ago(row.get('scheduled_start_at'), now)}"
        case "paused":
            return _short(row.get("last_failure"))
        case "completed":
            failure = row.get("completion_failure")
            return f"failed: {_short(failure)}" if failure else "succeeded"
    return f"for {output.ago(row.get('modified_at'), now).removesuffix(' ago')}"


def _short(text: object) -> str:
    line = str(text or "").partition("\n")[0]
    return line if len(line) <= DETAIL_CHARACTERS_MAX else f"{line[:DETAIL_CHARACTERS_MAX]}..."


def _facts(row: DbRow, now: datetime) -> list[tuple[str, object]]:
    def at(name: str) -> str:
        text = row.get(name)
        return f"{output.moment(text)} ({output.ago(text, now)})" if text else ""

    return [
        ("Id", row["id"]),
        ("Target", row["target"]),
        ("Status", row["status"]),
        ("Outcome", row.get("completion_failure") or row.get("completion_result")),
        ("Created at", at("created_at")),
        ("Starts at", at("scheduled_start_at")),
        ("Modified at", at("modified_at")),
        ("Completed at", at("completed_at")),
        ("Invoked by", _origin(row)),
        ("Restarted from", row.get("restarted_from")),
        ("Idempotency key", row.get("idempotency_key")),
        ("Deployment", row.get("pinned_deployment_id") or row.get("last_attempt_deployment_id")),
        ("Service protocol", row.get("pinned_service_protocol_version")),
        ("SDK", row.get("last_attempt_server")),
        ("Attempts", row.get("retry_count")),
        ("Next attempt", at("next_retry_at")),
        ("Last failure", row.get("last_failure")),
        ("Waits for", row.get("suspended_waiting_future_json")),
        ("Trace", row.get("trace_id")),
    ]


def _origin(row: DbRow) -> str:
    parts = (row.get("invoked_by"), row.get("invoked_by_target"), row.get("invoked_by_id"))
    return " ".join(str(part) for part in parts if part)


def _ahead(client: AdminClient, row: DbRow) -> list[tuple[str, object]]:
    """Who holds the key of a queued invocation, and how many are in front of it."""
    if row["status"] != "pending":
        return []
    service, key = row["target_service_name"], row.get("target_service_key")
    same = f"service_name = {literal(str(service))} AND service_key = {literal(str(key))}"
    holder = client.query(f"SELECT invocation_id FROM sys_keyed_service_status WHERE {same}")  # noqa: S608 - quoted
    queue = client.query(
        f"SELECT id FROM sys_inbox WHERE {same} ORDER BY sequence_number LIMIT {JOURNAL_MAX}"  # noqa: S608 - quoted
    )
    position = next((count for count, one in enumerate(queue) if one["id"] == row["id"]), None)
    return [
        ("Key held by", holder[0]["invocation_id"] if holder else None),
        ("In front of it", position),
    ]


def _steps(journal: list[DbRow], events: list[DbRow]) -> list[tuple[object, str, object, object]]:
    """Entries and events in the order in which they happened."""
    steps: list[tuple[tuple[int, int], tuple[object, str, object, object]]] = []
    for entry in journal:
        index = int(str(entry["index"]))
        at = output.moment(entry.get("appended_at"))
        steps.append(((index, 0), (index, at, entry["entry_type"], entry.get("name"))))
    for order, event in enumerate(events, 1):
        after = int(str(event.get("after_journal_entry_index", 0)))
        at = output.moment(event.get("appended_at"))
        kind = f"{event['event_type']}: {_event_text(event)}".removesuffix(": ")
        steps.append(((after, order), ("", at, kind, "")))
    steps.sort(key=lambda step: step[0])
    return [cells for _, cells in steps]


def _event_text(event: DbRow) -> str:
    try:
        detail = json.loads(str(event.get("event_json") or "{}"))
    except ValueError:
        return ""
    return _short(detail.get("error_message") or detail.get("message")) if detail else ""


def _show_document(document: bytes) -> None:
    sys.stdout.write(document.decode() + "\n")
    sys.stdout.flush()


def _show_change(document: bytes) -> None:
    change = json.loads(document)
    if change["kind"] == "gap":
        output.print_line(f"... {change['lost']} changes were lost: reading is too slow ...")
        return
    at = datetime.fromtimestamp(change["at_ms"] / 1000, UTC)
    parts = [change["service"], change["key"], change["handler"]]
    target = "/".join(part for part in parts if part is not None)
    known = {"kind", "id", "service", "key", "handler", "attempt", "at_ms"}
    more = [f"{name}={value}" for name, value in change.items() if name not in known and value]
    attempt = f"attempt={change['attempt']}" if change["attempt"] else ""
    when = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"
    words = (when, change["id"], f"{change['kind']:<15}", target, attempt, *more)
    output.print_line("  ".join(word for word in words if word))
    sys.stdout.flush()
