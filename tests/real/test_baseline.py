"""Nothing that is over leaves anything behind: every table returns to where it was."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from restated.model.records import ROWS
from restated.store.sqlite import doctor
from tests.daemon.running import RealDaemon
from tests.real.launched import Services
from tests.real.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]

ENVIRONMENT = {
    "RESTATE_WORKER__CLEANUP_INTERVAL": "1s",
    "RESTATE_DEFAULT_JOURNAL_RETENTION": "2s",
}
REGISTRY = {"deployment", "service_revision"}
STAYS = REGISTRY | {"counter", "state"}  # and state is accounted for exactly
BOXES = 20
BIG_BYTES = 3 << 20
LONG_ENTRIES = 1_500  # more than one event removes


@pytest.fixture
def short_lived() -> Iterator[str]:
    """The URI of the services in a process of their own."""
    with Services("tests.real.short_lived") as running:
        yield running.uri


class Clients:
    """What clients and an operator do; each method is one kind of work."""

    def __init__(self, daemon: RealDaemon) -> None:
        self.daemon = daemon
        self.http = httpx.Client(timeout=60, limits=httpx.Limits(max_connections=None))

    def call(self, path: str, *body: object, key: str | None = None) -> httpx.Response:
        """POST to the ingress."""
        headers = {} if key is None else {"idempotency-key": key}
        content: dict[str, Any] = {"json": body[0]} if body else {}
        return self.http.post(f"{self.daemon.ingress}/{path}", headers=headers, **content)

    def send(self, path: str, *body: object, query: str = "") -> str:
        """The id of a sent invocation."""
        answer = self.call(f"{path}/send{query}", *body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["invocationId"])

    def operate(self, invocation_id: str, verb: str) -> None:
        """PATCH /invocations/ID/VERB."""
        url = f"{self.daemon.admin}/invocations/{invocation_id}/{verb}"
        answer = self.http.patch(url)
        assert answer.status_code < 300, answer.text

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The rows of an SQL query."""
        answer = self.http.post(
            f"{self.daemon.admin}/query",
            json={"query": query},
            headers={"accept": "application/json"},
        )
        return list(answer.raise_for_status().json()["rows"])

    def status_of(self, invocation_id: str) -> str:
        """The displayed status."""
        found = self.rows(f"SELECT status FROM sys_invocation WHERE id = '{invocation_id}'")
        return str(found[0]["status"]) if found else "gone"

    # -- kinds of work

    def calls(self, index: int) -> None:
        key = f"key-{index}"
        assert self.call("Plain/echo", index).json() == index
        assert [self.call("Plain/echo", 7, key=key).json() for _ in range(2)] == [7, 7]
        assert self.call("Plain/refuse").status_code == 418
        assert self.call("Plain/stumble", f"s{index}").json() == f"s{index}"
        assert self.call("Plain/fan", 5).json() == 5
        self.send("Plain/nap", 50 * index)
        self.send("Plain/echo", 1, query="?delay=300ms")

    def objects(self, index: int) -> None:
        key = f"box-{index % BOXES}"
        self.call(f"Box/{key}/put", 1).raise_for_status()
        self.send(f"Box/{key}/put", 1)
        held = self.send(f"Box/held-{index}/hold")
        queued = [self.send(f"Box/held-{index}/put", 1) for _ in range(3)]
        self.operate(queued[0], "cancel")
        self.operate(queued[1], "kill")
        eventually(lambda: self.status_of(held) == "suspended")
        self.operate(held, "cancel" if index % 2 else "kill")
        eventually(lambda: self.call(f"Box/held-{index}/look").json() == ["other", "value"])
        self.call(f"Box/held-{index}/empty").raise_for_status()

    def workflows(self, index: int) -> None:
        key = f"flow-{index}"
        self.send(f"Flow/{key}/run", 10)
        watchers = [self.send(f"Flow/{key}/watch") for _ in range(3)]
        forlorn = self.send(f"Flow/{key}/watch_never")
        eventually(lambda: self.status_of(watchers[2]) == "suspended")
        self.call(f"Flow/{key}/go").raise_for_status()
        url = f"{self.daemon.ingress}/restate/workflow/Flow/{key}/attach"
        assert self.http.get(url).json() == "z" * 10
        eventually(lambda: self.status_of(forlorn) == "suspended")
        self.operate(forlorn, "kill")

    def failures(self, _: int) -> None:
        hopeless = self.send("Plain/never")
        family = self.send("Plain/parent", 5)
        paused = self.send("Plain/never")
        delayed = self.send("Plain/echo", 1, query="?delay=1h")
        time.sleep(0.3)
        self.operate(paused, "pause")
        for invocation_id in (hopeless, family, delayed):
            self.operate(invocation_id, "kill")
        eventually(lambda: self.status_of(paused) == "paused")
        self.operate(paused, "kill")

    def large(self, index: int) -> None:
        answer = self.call("Plain/big", BIG_BYTES, key=f"big-{index}")
        assert len(answer.json()) == BIG_BYTES
        assert self.call("Plain/long", LONG_ENTRIES).json() == LONG_ENTRIES


def counted(directory: Path) -> dict[str, int]:
    """Rows of every table, read from the file of a stopped daemon, which is left as it is."""
    database = sqlite3.connect(f"file:{directory / 'restated.db'}?mode=ro", uri=True)
    try:
        return {
            row.TABLE: database.execute(f'SELECT count(*) FROM "{row.TABLE}"').fetchone()[0]
            for row in ROWS
        }
    finally:
        database.close()


def findings(directory: Path) -> list[object]:
    """What the doctor says."""
    database = apsw.Connection(str(directory / "restated.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(doctor(database))
    finally:
        database.close()


def run_all(kinds: list[Callable[[int], None]], times: int) -> None:
    """Each kind of work so often, a few at once."""
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(kind, index) for index in range(times) for kind in kinds]
        for each in running:
            each.result()


def test_every_table_returns_to_its_baseline(short_path: Path, short_lived: str) -> None:
    """S4, C72: only the registry, the counters and the state of objects stay; the doctor agrees."""
    with RealDaemon(short_path, environment=ENVIRONMENT) as daemon:
        httpx.post(f"{daemon.admin}/deployments", json={"uri": short_lived}).raise_for_status()
        assert daemon.terminate() == 0
    baseline = counted(daemon.base_dir)
    with RealDaemon(short_path, environment=ENVIRONMENT) as daemon:
        clients = Clients(daemon)
        run_all([clients.calls, clients.objects, clients.workflows, clients.failures], 12)
        for index in range(50):
            clients.send("Plain/nap", 10 * index)
            clients.send(f"Box/box-{index % BOXES}/put", 1)
        daemon.kill()
    with RealDaemon(short_path, environment=ENVIRONMENT) as daemon:
        clients = Clients(daemon)
        clients.large(0)
        clients.large(1)
        peak = clients.rows("SELECT count(*) AS n FROM sys_journal")[0]["n"]
        assert peak > LONG_ENTRIES, "too little happened to tell"
        eventually(
            lambda: clients.rows("SELECT count(*) AS n FROM sys_invocation")[0]["n"] == 0, 60
        )
        assert daemon.terminate() == 0
        assert "level=error" not in daemon.log()
    after = counted(daemon.base_dir)
    changed = {name: count for name, count in after.items() if count != baseline[name]}
    assert changed.keys() <= STAYS
    assert {name: after[name] for name in REGISTRY} == {name: baseline[name] for name in REGISTRY}
    assert after["state"] == 2 * BOXES
    assert after["counter"] <= baseline["counter"] + 2
    assert findings(daemon.base_dir) == []
