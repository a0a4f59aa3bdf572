"""A mixed load of calls, sends, sleeps and objects that knows what must have happened."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import httpx

RETRY_S = 0.02
WAIT_S = 60.0


class Load:
    """Clients that go on until told to stop; each operation is retried until it is acknowledged.

    Everything an operation did shows in sums of objects: `expected` are the sums of keys whose
    every addition was acknowledged; `acknowledged` and `unknown` are marks of sends without an
    idempotency key: exactly one, and at most one addition.
    """

    def __init__(self, seed: int, clients: int, ingress: Callable[[], str]) -> None:
        self._ingress = ingress
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.expected: Counter[str] = Counter()
        self.told: dict[str, list[int]] = {}
        self.acknowledged: list[str] = []
        self.unknown: list[str] = []
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._threads = [
            threading.Thread(target=self._client, args=(random.Random(f"{seed}/{client}"), client))
            for client in range(clients)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No new operations; returns when those begun are acknowledged."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), "a client still waits for an acknowledgement"

    def _client(self, rng: random.Random, client: int) -> None:
        operations = (self._call, self._keyed_send, self._plain_send, self._nap, self._relay)
        with httpx.Client(timeout=httpx.Timeout(30)) as http:
            turn = 0
            while not self._stopping.is_set():
                turn += 1
                operation = rng.choice(operations)
                try:
                    operation(http, rng, f"{client}-{turn}")
                except (AssertionError, httpx.HTTPError, ValueError) as error:
                    self.wrong.append(f"{operation.__name__} {client}-{turn}: {error!r}")
                    return
                with self._lock:
                    self.done[operation.__name__] += 1

    def _call(self, http: httpx.Client, rng: random.Random, name: str) -> None:
        key = f"hot-{rng.randrange(4)}"
        total = self._until_answered(http, f"/Tally/{key}/add", 1, name)
        with self._lock:
            self.expected[key] += 1
            self.told.setdefault(key, []).append(int(total.text))

    def _keyed_send(self, http: httpx.Client, rng: random.Random, name: str) -> None:
        key = f"sent-{rng.randrange(4)}"
        answer = self._until_answered(http, f"/Tally/{key}/add/send", 1, name)
        with self._lock:
            self.expected[key] += 1
        assert answer.json()["status"] in ("Accepted", "PreviouslyAccepted")

    def _plain_send(self, http: httpx.Client, rng: random.Random, name: str) -> None:
        mark = f"mark-{name}"
        delay = rng.choice(("", "?delay=50ms", "?delay=300ms"))
        try:
            answer = http.post(f"{self._ingress()}/Tally/{mark}/add/send{delay}", json=1)
        except httpx.TransportError:
            answer = None
        with self._lock:
            known = answer is not None and answer.status_code == 202
            (self.acknowledged if known else self.unknown).append(mark)

    def _nap(self, http: httpx.Client, rng: random.Random, name: str) -> None:
        body = {"ms": str(rng.choice((1, 50, 400))), "mark": f"nap-{name}"}
        self._until_answered(http, "/Work/nap/send", body, name)
        with self._lock:
            self.expected[f"nap-{name}"] = 1

    def _relay(self, http: httpx.Client, rng: random.Random, name: str) -> None:
        key = f"hot-{rng.randrange(4)}"
        body = {"key": key, "mark": f"relay-{name}"}
        total = self._until_answered(http, "/Work/relay", body, name)
        with self._lock:
            self.expected[key] += 1
            self.told.setdefault(key, []).append(int(total.text))
            self.expected[f"relay-{name}"] = 1

    def _until_answered(
        self, http: httpx.Client, path: str, body: object, idempotency_key: str
    ) -> httpx.Response:
        """Retry until the server answers for the invocation; connection errors are unknown."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            try:
                answer = http.post(
                    self._ingress() + path, json=body, headers={"idempotency-key": idempotency_key}
                )
            except httpx.TransportError:
                time.sleep(RETRY_S)
                continue
            if answer.status_code < 300:
                return answer
            assert answer.status_code == 503, f"{answer.status_code} {answer.text}"
            time.sleep(RETRY_S)
        raise AssertionError(f"{path} was not answered within {WAIT_S} s")
