"""A daemon, the services of the scenarios, and a client's view of both."""

from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.daemon.running import RealDaemon
from tests.real.launched import Services
from tests.real.scenarios.notes import Notes
from tests.real.waiting import eventually

ANSWER_S = 30.0


def services(notes_path: Path, version: int = 1) -> Services:
    """The process of `services.py`."""
    return Services("tests.real.scenarios.services", str(notes_path), str(version))


class World:
    """One daemon with the services registered, and what a client or an operator does with it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.notes = Notes(directory / "notes")
        self.services = services(directory / "notes")
        try:
            self.daemon = RealDaemon(directory)
        except BaseException:
            self.services.kill()
            raise
        self.http = httpx.Client(
            timeout=ANSWER_S, limits=httpx.Limits(max_connections=None), trust_env=False
        )
        self.deployment = self.register(self.services.uri).json()["id"]

    def restart_daemon(self) -> None:
        """SIGKILL it and start another on the same directory."""
        self.daemon.kill()
        self.daemon.close()
        self.daemon = RealDaemon(self._directory)

    def register(self, uri: str, **options: object) -> httpx.Response:
        """POST a deployment."""
        return self.admin("POST", "/deployments", {"uri": uri} | options)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Anything to the ingress."""
        return self.http.request(method, self.daemon.ingress + path, **options)

    def call(self, path: str, *body: object, key: str | None = None) -> httpx.Response:
        """POST to the ingress, with the JSON of `body` if there is one."""
        headers = {} if key is None else {"idempotency-key": key}
        content: dict[str, Any] = {"json": body[0]} if body else {}
        return self.http.post(f"{self.daemon.ingress}/{path}", headers=headers, **content)

    def send(
        self, path: str, *body: object, delay: str | None = None, key: str | None = None
    ) -> httpx.Response:
        """POST a one-way call."""
        query = "" if delay is None else f"?delay={delay}"
        return self.call(f"{path}/send{query}", *body, key=key)

    def sent(self, path: str, *body: object, delay: str | None = None) -> str:
        """The id of an accepted one-way call."""
        answer = self.send(path, *body, delay=delay)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["invocationId"])

    def attach(self, invocation_id: str) -> httpx.Response:
        """Wait for its result."""
        return self.request("GET", f"/restate/attach/{invocation_id}")

    def admin(self, method: str, path: str, *body: object) -> httpx.Response:
        """Anything to the admin API."""
        content: dict[str, Any] = {"json": body[0]} if body else {}
        return self.http.request(method, self.daemon.admin + path, **content)

    def operate(self, invocation_id: str, operation: str) -> httpx.Response:
        """PATCH an operation of an invocation."""
        return self.admin("PATCH", f"/invocations/{invocation_id}/{operation}")

    def rows(self, query: str) -> list[dict[str, Any]]:
        """What SQL says."""
        answer = self.http.post(
            f"{self.daemon.admin}/query",
            json={"query": query},
            headers={"accept": "application/json"},
        )
        rows: list[dict[str, Any]] = answer.raise_for_status().json()["rows"]
        return rows

    def invocation(self, invocation_id: str) -> dict[str, Any]:
        """Its row of `sys_invocation`; empty if there is none."""
        found = self.rows(f"SELECT * FROM sys_invocation WHERE id = '{invocation_id}'")
        return found[0] if found else {}

    def until_status(self, invocation_id: str, *wanted: str) -> dict[str, Any]:
        """Its row once it has one of these statuses."""
        return eventually(
            lambda: row if (row := self.invocation(invocation_id)).get("status") in wanted else None
        )

    def until_noted(self, what: str, name: str) -> str:
        """The text of the first such note, once there is one."""
        return eventually(lambda: self.notes.of(what, name))[0].text

    def __enter__(self) -> "World":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            print(self.daemon.log()[-20_000:])
        self.http.close()
        self.daemon.close()
        self.services.kill()
