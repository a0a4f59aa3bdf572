"""A daemon, services registered with it, and a client's and an operator's view of both."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.daemon.running import RealDaemon
from tests.real.launched import Program
from tests.real.waiting import eventually

ANSWER_S = 30.0


class Stage:
    """One daemon and services, registered unless not wanted, and what a client or an operator does.

    The services are its own from here on: they end with it.
    """

    def __init__(
        self,
        directory: Path,
        services: Program,
        environment: Mapping[str, str] | None = None,
        *,
        registers: bool = True,
    ) -> None:
        self._directory = directory
        self._environment = environment
        self.services = services
        try:
            self.daemon = RealDaemon(directory, environment=environment)
        except BaseException:
            self.services.kill()
            raise
        self.http = httpx.Client(
            timeout=ANSWER_S, limits=httpx.Limits(max_connections=None), trust_env=False
        )
        self.deployment = self.register(self.services.uri).json()["id"] if registers else ""

    def restart_daemon(self) -> None:
        """SIGKILL it and start another on the same directory."""
        self.daemon.kill()
        self.daemon.close()
        self.daemon = RealDaemon(self._directory, environment=self._environment)

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

    def sent(
        self, path: str, *body: object, delay: str | None = None, key: str | None = None
    ) -> str:
        """The id of an accepted one-way call."""
        answer = self.send(path, *body, delay=delay, key=key)
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

    def __enter__(self) -> Self:
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
