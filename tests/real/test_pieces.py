"""Work in pieces on a real daemon: large trees, large batches, many waiters, SIGKILL between."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import Frame, frame
from tests.daemon.running import RealDaemon
from tests.real.scripted import Attempt, Scripted
from tests.real.test_baseline import counted, findings
from tests.real.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]

CHILDREN = 5_000
WATCHERS = 500
ANSWER = [(":status", "200"), ("content-type", "application/vnd.restate.invocation.v6")]
HOUR_MS = 3_600_000
MANIFEST = {
    "protocolMode": "BIDI_STREAM",
    "minProtocolVersion": 5,
    "maxProtocolVersion": 6,
    "services": [
        {"name": "Tree", "ty": "SERVICE", "handlers": [{"name": "grow"}, {"name": "leaf"}]},
        {
            "name": "Flow",
            "ty": "WORKFLOW",
            "handlers": [
                {"name": "run", "ty": "WORKFLOW"},
                {"name": "watch", "ty": "SHARED"},
                {"name": "settle", "ty": "SHARED"},
            ],
        },
    ],
}


def encoded(code: int, body: Any) -> bytes:
    return frame(code, body.SerializeToString())


OUTPUT = encoded(
    messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=pb.Value(content=b"1"))
) + frame(messages.END, b"")


def sends() -> bytes:
    """Sends in an hour to as many leaves, then a suspension on a signal."""
    octets = b"".join(
        encoded(
            messages.ONE_WAY_CALL_COMMAND,
            pb.OneWayCallCommandMessage(
                service_name="Tree",
                handler_name="leaf",
                invoke_time=int(time.time() * 1000) + HOUR_MS,
                invocation_id_notification_idx=index + 1,
            ),
        )
        for index in range(CHILDREN)
    )
    return octets + encoded(messages.SUSPENSION, pb.SuspensionMessage(waiting_signals=[17]))


def watches() -> bytes:
    command = pb.GetPromiseCommandMessage(key="go", result_completion_id=1)
    suspension = pb.SuspensionMessage(waiting_completions=[1])
    return encoded(messages.GET_PROMISE_COMMAND, command) + encoded(messages.SUSPENSION, suspension)


def settles() -> bytes:
    command = pb.CompletePromiseCommandMessage(
        key="go", completion_value=pb.Value(content=b"gone"), result_completion_id=1
    )
    return encoded(messages.COMPLETE_PROMISE_COMMAND, command) + OUTPUT


FIRST = {
    "/invoke/Tree/grow": sends,
    "/invoke/Tree/leaf": lambda: OUTPUT,
    "/invoke/Flow/run": watches,
    "/invoke/Flow/watch": watches,
    "/invoke/Flow/settle": settles,
}


async def play(attempt: Attempt) -> None:
    """The first attempt does the handler's work, every other one ends."""
    start = await attempt.next()
    assert isinstance(start, Frame)
    is_first = pb.StartMessage.FromString(start.body).known_entries == 1
    await attempt.respond(ANSWER)
    await attempt.pour(FIRST[attempt.path]() if is_first else OUTPUT)
    await attempt.finish()


@pytest.fixture
def deployment() -> Iterator[Scripted]:
    with Scripted(MANIFEST, play) as scripted:
        yield scripted
        assert scripted.failures == []


class Operator:
    """A client of ingress and admin API; the daemon may be another one each time."""

    def __init__(self, directory: Path, deployment: Scripted) -> None:
        self._directory = directory
        self.daemon = RealDaemon(directory)
        self.post("/deployments", {"uri": deployment.uri})

    def crash(self) -> dict[str, int]:
        """SIGKILL, and another daemon on the same directory; the rows between the two."""
        self.daemon.kill()
        self.daemon.close()
        rows = counted(self.daemon.base_dir)
        self.daemon = RealDaemon(self._directory)
        return rows

    def post(self, path: str, body: object) -> httpx.Response:
        json = {"accept": "application/json"}
        answer = httpx.post(self.daemon.admin + path, json=body, headers=json, timeout=60)
        return answer.raise_for_status()

    def send(self, path: str) -> str:
        answer = httpx.post(f"{self.daemon.ingress}{path}/send", timeout=60)
        return str(answer.raise_for_status().json()["invocationId"])

    def count(self, where: str) -> int:
        query = f"SELECT count(*) AS n FROM sys_invocation WHERE {where}"
        return int(self.post("/query", {"query": query}).json()["rows"][0]["n"])

    def ids(self, where: str) -> list[str]:
        query = f"SELECT id FROM sys_invocation WHERE {where}"
        return [row["id"] for row in self.post("/query", {"query": query}).json()["rows"]]

    def batch(self, operation: str, ids: list[str]) -> dict[str, Any]:
        path = f"/internal/invocations_batch_operations/{operation}"
        return dict(self.post(path, {"invocation_ids": ids}).json())

    def end(self) -> dict[str, int]:
        """Stop; the rows of every table, none of them wrong."""
        assert self.daemon.terminate() == 0
        assert findings(self.daemon.base_dir) == []
        return counted(self.daemon.base_dir)


@pytest.fixture
def operator(short_path: Path, deployment: Scripted) -> Iterator[Operator]:
    one = Operator(short_path, deployment)
    try:
        yield one
    finally:
        print(one.daemon.log()[-5_000:])
        one.daemon.close()


def test_killed_tree_is_dead_whole_though_the_daemon_is_killed_meanwhile(
    operator: Operator,
) -> None:
    """X1, C24: five thousand children, SIGKILL while they die."""
    parent = operator.send("/Tree/grow")
    eventually(lambda: operator.count("status = 'scheduled'") == CHILDREN, 60)
    eventually(lambda: operator.count("status = 'suspended'") == 1)
    answer = httpx.patch(f"{operator.daemon.admin}/invocations/{parent}/kill", timeout=60)
    assert answer.status_code == 200
    assert operator.crash()["outbox"] > 0, "the crash came too late to tell"
    eventually(lambda: operator.count("status = 'scheduled'") == 0, 60)
    rows = operator.end()
    assert (rows["timer"], rows["outbox"]) == (0, 0)


def test_batch_purge_leaves_nothing_though_the_daemon_is_killed_meanwhile(
    operator: Operator,
) -> None:
    """C72: two thousand at once, and those left by a crash at the second try."""
    with httpx.Client(timeout=60) as http:
        for _ in range(2_000):
            http.post(f"{operator.daemon.ingress}/Tree/leaf/send").raise_for_status()
    eventually(lambda: operator.count("status = 'completed'") == 2_000, 60)
    ids = operator.ids("status = 'completed'")
    done = operator.batch("purge", ids[:1_000])
    assert (len(done["succeeded"]), done["failed"]) == (1_000, [])
    operator.crash()
    assert operator.count("status = 'completed'") == 1_000
    done = operator.batch("purge", ids[:500] + ids[1_500:])
    assert (len(done["succeeded"]), len(done["failed"])) == (500, 500)
    done = operator.batch("purge", ids[1_000:])
    assert (len(done["succeeded"]), len(done["failed"])) == (500, 500)
    rows = operator.end()
    assert {name for name, count in rows.items() if count} == {
        "counter", "deployment", "service_revision",
    }  # fmt: skip


def test_promise_wakes_every_waiter_though_the_daemon_is_killed_meanwhile(
    operator: Operator,
) -> None:
    """P1, B2: five hundred waiters, all of them get the value."""
    operator.send("/Flow/key/run")
    with httpx.Client(timeout=60) as http:
        for _ in range(WATCHERS):
            http.post(f"{operator.daemon.ingress}/Flow/key/watch/send").raise_for_status()
    eventually(lambda: operator.count("status = 'suspended'") == WATCHERS + 1, 60)
    operator.send("/Flow/key/settle")
    operator.crash()
    eventually(lambda: operator.count("status <> 'completed'") == 0, 60)
    assert operator.count("target_handler_name = 'watch'") == WATCHERS
    rows = operator.end()
    assert (rows["promise_waiter"], rows["outbox"], rows["timer"]) == (0, 0, 0)
