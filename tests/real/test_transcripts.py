"""Whole attempts of the reference and of real SDKs, recorded once, against our daemon."""

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.daemon.running import RealDaemon
from tests.invoker.test_identity import key_file
from tests.real.scripted import Attempt, Scripted
from tests.real.transcript import Recorded, Replay
from tests.real.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]

RECORDED = Path(__file__).parents[1] / "data" / "protocol_transcripts.json"
SCENARIOS: list[Recorded] = json.loads(RECORDED.read_text())
ANSWER_S = 20.0
CLIENT_MS = 10  # at most, from asking to the time that was written down
EXPIRY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00")
QUICK: dict[str, Any] = {"inactivityTimeout": 300}


def handler(name: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, **settings}


def retries(attempts: int, then: str, first_ms: int) -> dict[str, Any]:
    return {
        "retryPolicyMaxAttempts": attempts,
        "retryPolicyOnMaxAttempts": then,
        "retryPolicyInitialInterval": first_ms,
    }


PLAIN = (
    "echo", "run", "nap", "call", "callidem", "send", "awk", "resolve", "parent", "child",
    "parentsend", "kick", "runfail", "fail",
)  # fmt: skip
MANIFEST: dict[str, Any] = {
    "protocolMode": "BIDI_STREAM",
    "minProtocolVersion": 5,
    "maxProtocolVersion": 7,
    "services": [
        {
            "name": "PS",
            "ty": "SERVICE",
            "handlers": [
                *(handler(name) for name in PLAIN),
                *(handler(name, **QUICK) for name in ("napsusp", "awksusp")),
                # Longer than it was: its second sleep ends 300 ms after its second attempt began.
                handler("gathersusp", inactivityTimeout=600),
            ],
        },
        {
            "name": "PO",
            "ty": "VIRTUAL_OBJECT",
            "handlers": [
                handler("add"),
                handler("eager"),
                handler("lazy", enableLazyState=True),
                handler("peek", ty="SHARED"),
                handler("clear"),
            ],
        },
        {
            "name": "PW",
            "ty": "WORKFLOW",
            "handlers": [handler("runwf", ty="WORKFLOW"), handler("signal", ty="SHARED")],
        },
        {
            "name": "RS",
            "ty": "SERVICE",
            "handlers": [
                *(handler(name) for name in ("ack", "sig", "sendsig", "attach", "output")),
                *(handler(name) for name in ("errpause", "errfail")),
                # Slower than it was: the kill must come before the third attempt.
                handler("err", **retries(3, "PAUSE", 300)),
                handler("slp", **QUICK),
                handler("fivexx", **retries(2, "KILL", 100)),
                handler("hang", inactivityTimeout=500, abortTimeout=1_000),
                handler("badcall", **retries(1, "KILL", 100)),
            ],
        },
        {
            "name": "TS",
            "ty": "SERVICE",
            "handlers": [handler(name) for name in ("echo", "run", "nap", "call")],
        },
    ],
}


class Stage:
    """A daemon with the scripted deployment registered."""

    def __init__(self, daemon: RealDaemon, deployment: Scripted) -> None:
        self.daemon = daemon
        self.deployment = deployment
        answer = httpx.post(f"{daemon.admin}/deployments", json={"uri": deployment.uri})
        answer.raise_for_status()


@pytest.fixture(scope="module")
def stage_of() -> Iterator[Callable[[int], Stage]]:
    """The stage for a protocol version; with version 7 the recordings were signed."""
    stages: dict[int, Stage] = {}
    with contextlib.ExitStack() as stack:

        def made(version: int) -> Stage:
            if version not in stages:
                path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rd-")))
                environment = {} if version == 6 else signed_version_7(path)
                daemon = stack.enter_context(RealDaemon(path, environment=environment))
                deployment = stack.enter_context(Scripted(MANIFEST, ignore))
                stages[version] = Stage(daemon, deployment)
            return stages[version]

        yield made


def signed_version_7(directory: Path) -> dict[str, str]:
    return {
        "RESTATED_INVOKER_PROTOCOL_VERSION_MAX": "7",
        "RESTATED_INVOKER_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE": str(key_file(directory)),
    }


async def ignore(attempt: Attempt) -> None:
    """Between two scenarios: attempts of what a failed one left are not answered."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_the_server_says_what_was_recorded(
    scenario: Recorded, stage_of: Callable[[int], Stage]
) -> None:
    """service-protocol.md 2 to 4; state-machine.md 4 and 5.

    The same messages in the same order, whatever the ids, times and seeds are; notifications may
    move across commands. What clients and operators are answered is the same too.
    """
    stage = stage_of(scenario["protocol_version"])
    replay = Replay(scenario)
    stage.deployment.script = replay.play
    client = Client(stage.daemon, replay, scenario["client_and_admin_steps"])
    try:
        client.perform()
        eventually(lambda: all(one.played == len(one.messages) for one in replay.attempts))
    finally:
        stage.deployment.script = ignore
        differences, failures = replay.differences(), list(stage.deployment.failures)
        stage.deployment.failures.clear()
        print(*differences, *failures, sep="\n")
    assert failures == []
    assert differences == []


class Client:
    """Performs the steps of clients and operators, none before its time."""

    def __init__(self, daemon: RealDaemon, replay: Replay, steps: list[Recorded]) -> None:
        self._daemon = daemon
        self._replay = replay
        self._names = replay.names
        self._steps = steps

    def perform(self) -> None:
        """All steps, in order."""
        for step in self._steps:
            self._wait_for(step)
            if "port" in step:
                self._ask(step)
            elif "sys_journal" in step:
                eventually(lambda step=step: self._journal() == step["sys_journal"])  # type: ignore[misc]  # bound at once
            else:
                eventually(lambda step=step: self._is_seen(step))  # type: ignore[misc]  # bound at once

    def _wait_for(self, step: Recorded) -> None:
        """Until it was this step's time, and all that had happened by then has happened."""
        attempts = self._replay.attempts
        at_ms = self._begun_at_ms(step)
        time.sleep(max(0.0, self._replay.started_at_s + at_ms / 1_000 - time.monotonic()))
        eventually(lambda: all(one.is_played_until(at_ms) for one in attempts))

    def _begun_at_ms(self, step: Recorded) -> int:
        if "at_ms" not in step:
            return 0
        invocation_id = step.get("response_headers", {}).get("x-restate-id")
        began = [
            attempt.started_at_ms
            for attempt in self._replay.attempts
            if attempt.invocation_id == invocation_id
        ]
        return max(0, min([int(step["at_ms"]), *began]) - CLIENT_MS)

    # -- requests

    def _ask(self, step: Recorded) -> None:
        place = self._daemon.ingress if step["port"] == "ingress" else self._daemon.admin
        body = None if step["body"] is None else self._names.text(step["body"]).encode()
        connection = HTTPConnection(urlsplit(place).netloc, timeout=ANSWER_S)
        with contextlib.closing(connection):
            path = self._names.text(step["path"])
            connection.putrequest(step["method"], path, skip_accept_encoding=True)
            for name, value in self._headers(step, body):
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            told = response.read().decode()
        expected = dict(step["response_headers"])
        if recorded_id := expected.pop("x-restate-id", None):
            self._names.learn(recorded_id, response.headers["x-restate-id"])
        assert (response.status, told) == (step["status"], self._names.text(step["response_body"]))
        assert expected.pop("idempotency-expires", None) is None or EXPIRY.fullmatch(
            response.headers["idempotency-expires"]
        )
        assert {name: response.headers[name] for name in expected} == expected

    def _headers(self, step: Recorded, body: bytes | None) -> list[tuple[str, str]]:
        """Those that the invocation was recorded with, or what the step says."""
        inputs = [
            message["fields"]["headers"]
            for attempt in self._replay.attempts
            if attempt.invocation_id == step["response_headers"].get("x-restate-id")
            for message in attempt.messages
            if message.get("type") == "InputCommand"
        ]
        if inputs and step["method"] == "POST":
            sent = [(header["key"], header["value"]) for header in inputs[0]]
            assert sent[0][0] == "x-restate-ingress-path"
            return sent[1:]
        length = [] if body is None else [("content-length", str(len(body)))]
        return [*step["headers"].items(), *length]

    # -- what operators see

    def _invocation_id(self, step: Recorded) -> str:
        """Observed is the first invocation, or the callee that it told."""
        first = self._steps[0]
        recorded = first["response_headers"]["x-restate-id"]
        if step["observe"].startswith("callee"):
            recorded = json.loads(first["response_body"])
        return self._names.ids[recorded]

    def _is_seen(self, step: Recorded) -> bool:
        expected = step["sys_invocation"]
        columns = ", ".join(expected)
        rows = self._query(f"SELECT {columns} FROM sys_invocation", self._invocation_id(step))
        return rows == [expected]

    def _journal(self) -> list[list[Any]]:
        invocation_id = self._invocation_id({"observe": "journal"})
        query = "SELECT index, entry_type, name FROM sys_journal"
        rows = self._query(query, invocation_id, order="index")
        return [[row["index"], row["entry_type"], row.get("name") or ""] for row in rows]

    def _query(self, query: str, invocation_id: str, order: str = "1") -> list[dict[str, Any]]:
        where = f"WHERE id = '{invocation_id}' ORDER BY {order}"
        answer = httpx.post(
            f"{self._daemon.admin}/query",
            json={"query": f"{query} {where}"},
            headers={"accept": "application/json"},
        )
        rows: list[dict[str, Any]] = answer.raise_for_status().json()["rows"]
        return rows
