"""The query child: what it refuses, what it survives, how it streams (Z2, C91 to C93, G18)."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from restated.core.effects import Put
from restated.model.records import StateValue
from restated.store.priority import can_step_back
from restated.store.query import STATEMENTS_MAX, WAITING_MAX, Limits, QueryError
from restated.store.query_wire import CREDITS_AT_START
from tests.store.querying import ID, NOW_MS, QueryWorld, invocation, querying, run_queries

ENDLESS = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"
MANY = (
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < {}) "
    "SELECT n, repeat('x', 200) AS filler FROM t"
)
RECORDED = json.loads((Path(__file__).parent.parent / "data" / "sql_queries.json").read_text())


def test_count_of_nothing(tmp_path: Path) -> None:
    """The first thing every client asks while a server starts."""

    async def body(world: QueryWorld) -> None:
        answer = await world.raw("SELECT count(*) AS n FROM sys_invocation")
        assert answer == b'{"rows":[{"n":0}]}'

    run_queries(body, tmp_path)


def test_a_committed_row_is_seen_by_the_next_query(tmp_path: Path) -> None:
    """A6: the child reads commits of the write-ahead log, at once."""

    async def body(world: QueryWorld) -> None:
        for count in range(3):
            assert await world.rows("SELECT count(*) AS n FROM state") == [{"n": count}]
            await world.put(StateValue("", "S", "k", str(count), b"v"))

    run_queries(body, tmp_path)


def test_recorded_queries_of_web_ui_and_cli_are_answered(tmp_path: Path) -> None:
    """sql_queries.json; the metrics tables of one of them do not exist in the reference either."""

    async def body(world: QueryWorld) -> None:
        await world.put(invocation())
        refused = []
        for recorded in RECORDED:
            try:
                json.loads(await world.raw(recorded["query"]))
            except QueryError as error:
                refused.append(error.message)
        assert refused == [
            "Error during planning: table 'restate.public.metrics_processor' not found"
        ]

    run_queries(body, tmp_path)


def test_a_deadline_ends_the_statement_and_nothing_else(tmp_path: Path) -> None:
    """4.11: the progress handler sees the clock every few thousand steps."""

    async def body(world: QueryWorld) -> None:
        await world.rows("SELECT 1 AS a")
        process_id = world.runner.process_id
        start = trio.current_time()
        error = await world.refusal(ENDLESS)
        assert trio.current_time() - start < 2
        assert error.message.startswith("Resources exhausted: the statement took more than 0.3 s")
        assert world.runner.process_id == process_id

    run_queries(body, tmp_path, Limits(timeout_ms=300))


def test_a_child_that_obeys_no_deadline_is_killed_and_replaced(tmp_path: Path) -> None:
    """Design 3.15: killed and respawned at a deadline. A stopped process stands for a hung one."""

    async def body(world: QueryWorld) -> None:
        await world.rows("SELECT 1 AS a")
        process_id = world.runner.process_id
        assert process_id is not None
        os.kill(process_id, signal.SIGSTOP)
        error = await world.refusal("SELECT 1 AS a")
        assert (error.status, "killed" in error.message) == (400, True)
        assert await world.rows("SELECT 1 AS a") == [{"a": 1}]
        assert world.runner.process_id != process_id

    run_queries(body, tmp_path, Limits(timeout_ms=500, grace_s=2.5))


def test_a_child_that_dies_fails_its_statements_and_is_replaced(tmp_path: Path) -> None:
    """The kernel may kill it for its memory; nobody must wait for ever."""

    async def body(world: QueryWorld) -> None:
        rows = await world.runner.run(MANY.format(1_000_000), "json")
        process_id = world.runner.process_id
        assert process_id is not None
        os.kill(process_id, signal.SIGKILL)
        with pytest.raises(QueryError) as refused:
            async for _ in rows:
                pass
        await rows.aclose()
        assert refused.value.status == 500
        assert await world.rows("SELECT 1 AS a") == [{"a": 1}]

    run_queries(body, tmp_path)


def test_an_idle_child_ends_and_the_next_query_starts_another(tmp_path: Path) -> None:
    """W8: memory of the child is only there while somebody asks."""

    async def body(world: QueryWorld) -> None:
        assert world.runner.process_id is None
        await world.rows("SELECT 1 AS a")
        child = world.runner._child
        assert child is not None
        with trio.fail_after(5):
            await child.process.wait()
        assert child.process.returncode == 0
        assert await world.rows("SELECT 1 AS a") == [{"a": 1}]

    run_queries(body, tmp_path, Limits(idle_s=0.05))


def test_a_large_answer_is_streamed_with_bounded_buffers(tmp_path: Path) -> None:
    """reliability.md: `/query` must stream millions of rows; a slow client fills no process."""

    async def body(world: QueryWorld) -> None:
        rows = await world.runner.run(MANY.format(100_000), "json")
        received, held_max = [], 0
        async for piece in rows:
            received.append(piece)
            held_max = max(held_max, rows._receive.statistics().current_buffer_used)
        await rows.aclose()
        answer = json.loads(b"".join(received))["rows"]
        assert len(answer) == 100_000
        assert answer[-1] == {"n": 100_000, "filler": "x" * 200}
        assert len(received) > 20
        assert held_max <= CREDITS_AT_START + 1  # the end needs no credit

    run_queries(body, tmp_path)


def test_an_answer_is_one_snapshot_while_the_writer_goes_on(tmp_path: Path) -> None:
    """The writer is never delayed, and what it commits meanwhile is not mixed in."""

    async def body(world: QueryWorld) -> None:
        filler = b"x" * 10_000
        await world.put(*(StateValue("", "S", "k", f"{i:04d}", filler) for i in range(500)))
        rows = await world.runner.run("SELECT key, value FROM state ORDER BY key", "json")
        received = [await anext(rows)]
        await world.put(StateValue("", "S", "k", "9999", b"late"))
        received += [piece async for piece in rows]
        await rows.aclose()
        assert len(json.loads(b"".join(received))["rows"]) == 500
        assert await world.rows("SELECT count(*) AS n FROM state") == [{"n": 501}]

    run_queries(body, tmp_path)


def test_a_long_statement_does_not_delay_a_short_one(tmp_path: Path) -> None:
    """Design 3.15: 4 statements at once."""

    async def body(world: QueryWorld) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(STATEMENTS_MAX - 1):
                nursery.start_soon(world.raw, ENDLESS)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(5):
                assert await world.rows("SELECT 1 AS a") == [{"a": 1}]
            nursery.cancel_scope.cancel()

    run_queries(body, tmp_path)


@pytest.mark.skipif(not can_step_back(), reason="this user may not come forward again")
def test_a_long_statement_stands_behind_everything_else(tmp_path: Path) -> None:
    """Issue 12: what is asked does not delay the writer. The thread comes forward for the next."""

    async def body(world: QueryWorld) -> None:
        await world.rows("SELECT 1 AS a")  # the child has started
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.raw, ENDLESS)
            await until(lambda: policies(world).count(os.SCHED_IDLE) == 1)
            nursery.cancel_scope.cancel()
        await until(lambda: os.SCHED_IDLE not in policies(world))

    run_queries(body, tmp_path)


def policies(world: QueryWorld) -> list[int]:
    """The scheduling policy of each thread of the child."""
    tasks = Path(f"/proc/{world.runner.process_id}/task").iterdir()
    return [os.sched_getscheduler(int(task.name)) for task in tasks]


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not holds():  # noqa: ASYNC110 - what another process does
            await trio.sleep(0.01)


def test_an_abandoned_statement_is_stopped_at_once(tmp_path: Path) -> None:
    """C91: four clients leave; their places and their threads are free again."""

    async def body(world: QueryWorld) -> None:
        for _ in range(3):
            with trio.move_on_after(0.1):
                async with trio.open_nursery() as nursery:
                    for _ in range(STATEMENTS_MAX):
                        nursery.start_soon(world.raw, ENDLESS)
        with trio.fail_after(5):
            assert await world.rows("SELECT 1 AS a") == [{"a": 1}]

    run_queries(body, tmp_path)


def test_too_many_waiting_statements_are_refused(tmp_path: Path) -> None:
    """admin.md 11: 429; nothing is queued without bound."""

    async def body(world: QueryWorld) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(STATEMENTS_MAX + WAITING_MAX):
                nursery.start_soon(world.raw, ENDLESS)
            await trio.testing.wait_all_tasks_blocked()
            assert (await world.refusal("SELECT 1 AS a")).status == 429
            nursery.cancel_scope.cancel()

    run_queries(body, tmp_path)


def test_without_a_task_for_its_child_a_runner_refuses(tmp_path: Path) -> None:
    """While the daemon starts or stops."""

    async def main() -> None:
        async with querying(tmp_path) as world:
            runner = world.runner
            await world.rows("SELECT 1 AS a")
        with pytest.raises(QueryError) as refused:
            await runner.run("SELECT 1 AS a", "json")
        assert refused.value.status == 503

    trio.run(main)


def test_the_child_writes_bounded_files_and_knows_no_secret(tmp_path: Path) -> None:
    """Limits of the process hold whatever SQLite is made to do; Z5."""

    async def body(world: QueryWorld) -> None:
        await world.rows("SELECT 1 AS a")
        process = trio.Path(f"/proc/{world.runner.process_id}")
        limits = await (process / "limits").read_text()
        found = {line[:26].strip(): line.split()[-3:-1] for line in limits.splitlines()[1:]}
        assert found["Max file size"] == [str(256 << 20)] * 2
        assert os.getpriority(os.PRIO_PROCESS, world.runner.process_id or 0) >= 10
        assert found["Max address space"] == [str(512 << 20)] * 2
        environment = await (process / "environ").read_bytes()
        names = {entry.partition(b"=")[0] for entry in environment.split(b"\0") if entry}
        assert names <= {b"PATH", b"LANG", b"TZ", b"PYTHONPATH", b"MALLOC_ARENA_MAX", b"LC_CTYPE"}

    run_queries(body, tmp_path)


def test_sorting_needs_little_memory(tmp_path: Path) -> None:
    """A store of a million rows: sorted rows go to a bounded file."""

    async def body(world: QueryWorld) -> None:
        await world.rows("SELECT 1 AS a")
        status = trio.Path(f"/proc/{world.runner.process_id}/status")

        async def peak_kib() -> int:
            lines = (await status.read_text()).splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

        before = await peak_kib()
        found = await world.rows(f"{MANY.format(400_000)} ORDER BY filler, n DESC")
        assert [row["n"] for row in found[:2]] == [400_000, 399_999]
        assert await peak_kib() - before < 32 << 10
        with pytest.raises(QueryError, match="no room to sort") as failed:
            await world.rows(f"{MANY.format(2_000_000)} ORDER BY filler, n DESC")
        assert failed.value.status == 400
        assert await world.rows("SELECT 1 AS a") == [{"a": 1}]

    run_queries(body, tmp_path)


def test_arrow_answers_carry_types_and_nulls(tmp_path: Path) -> None:
    """sql.md: the types of the reference's columns, in a stream that others read."""
    from nanoarrow import ArrayStream, ipc

    async def body(world: QueryWorld) -> None:
        await world.put(invocation(created_at_ms=NOW_MS), invocation(2, ID[:-1] + "Y"))
        columns = "id, status, created_at, completion_retention, invoked_by_id, journal_size"
        stream = await world.raw(
            f"SELECT {columns}, suspended_waiting_for_signals AS s FROM sys_invocation "
            f"WHERE id = '{ID}'",
            "arrow",
        )
        with ipc.InputStream.from_readable(stream) as readable:
            array = ArrayStream(readable).read_all()
        fields = {field.name: str(field.type) for field in array.schema.fields}
        assert fields["id"] == "Type.LARGE_STRING"
        assert fields["created_at"] == "Type.TIMESTAMP"
        assert fields["completion_retention"] == "Type.DURATION"
        assert fields["journal_size"] == "Type.UINT32"
        assert fields["s"] == "Type.LIST"
        (row,) = array.to_pylist()
        assert row["id"] == ID
        assert int(row["created_at"].timestamp() * 1_000) == NOW_MS
        assert row["invoked_by_id"] is None
        assert row["s"] is None

    run_queries(body, tmp_path)


def test_a_column_of_nothing_counts_its_nulls_in_arrow(tmp_path: Path) -> None:
    """sql.md: readers of other makes refuse a null array that claims to have none."""
    from nanoarrow import ArrayStream, ipc

    async def body(world: QueryWorld) -> None:
        stream = await world.raw("SELECT 1 AS a, NULL AS c", "arrow")
        with ipc.InputStream.from_readable(stream) as readable:
            array = ArrayStream(readable).read_all()
        (batch,) = array.iter_chunk_views()
        assert [batch.child(0).null_count, batch.child(1).null_count] == [0, 1]
        assert array.to_pylist() == [{"a": 1, "c": None}]

    run_queries(body, tmp_path)


def test_an_empty_arrow_answer_has_its_schema(tmp_path: Path) -> None:
    """admin.md 11: schema message and end marker, as clients read columns from it."""
    from nanoarrow import ArrayStream, ipc

    async def body(world: QueryWorld) -> None:
        stream = await world.raw("SELECT * FROM sys_rules", "arrow")
        assert stream.endswith(b"\xff\xff\xff\xff\0\0\0\0")
        with ipc.InputStream.from_readable(stream) as readable:
            array = ArrayStream(readable).read_all()
        assert [field.name for field in array.schema.fields][:2] == ["pattern", "concurrency"]
        assert array.to_pylist() == []

    run_queries(body, tmp_path)


def test_many_rows_in_arrow_keep_their_order(tmp_path: Path) -> None:
    """One record batch for each run of rows."""
    from nanoarrow import ArrayStream, ipc

    async def body(world: QueryWorld) -> None:
        stream = await world.raw(MANY.format(5_000), "arrow")
        with ipc.InputStream.from_readable(stream) as readable:
            array = ArrayStream(readable).read_all()
        assert [row["n"] for row in array.to_pylist()] == list(range(1, 5_001))

    run_queries(body, tmp_path)


def test_commits_are_not_delayed_by_a_query_that_holds_a_snapshot(tmp_path: Path) -> None:
    """G18: a reader that stalls must not stall the writer."""

    async def body(world: QueryWorld) -> None:
        filler = b"x" * 100_000
        await world.put(*(StateValue("", "S", "k", f"{i:04d}", filler) for i in range(100)))
        rows = await world.runner.run("SELECT key, value FROM state", "json")
        with trio.fail_after(5):
            for count in range(50):
                await world.store.commit([Put(StateValue("", "S", "other", str(count), b"v"))])
        await rows.aclose()

    run_queries(body, tmp_path)
