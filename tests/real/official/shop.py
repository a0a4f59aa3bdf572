"""A daemon in the state that the recorded sessions began in.

Lives here: the ticket services on a stage; `open_shop` brings it into that state.
Does not: what the CLI says about it (sessions.py).
"""

import time
from pathlib import Path
from typing import Any

from tests.daemon.running import RealDaemon
from tests.real.launched import Services
from tests.real.stage import Stage
from tests.real.waiting import eventually

BRIEF_MS = 100
LONG_MS = 600_000
BLOCKED_MS = 5_000  # long enough for the next deployment to be registered before it ends


def ticket_stage(directory: Path) -> Stage:
    """The ticket services and a daemon that does not know them."""
    return Stage(directory, Services("tests.real.official.tickets"), registers=False)


class Shop:
    """What a client and an operator do on a stage; an error is the test's."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.services = stage.services.uri
        self._keys = 0

    @property
    def daemon(self) -> RealDaemon:
        """The one on stage."""
        return self._stage.daemon

    def admin(self, method: str, path: str, *body: object) -> Any:
        """The answer of the admin API."""
        answer = self._stage.admin(method, path, *body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def register(self, mount: str, **options: object) -> str:
        """Register a mount of the services: the id of the deployment."""
        answer = self._stage.register(self.services + mount, **options)
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    def send(self, target: str, body: object, *, keyed: bool = True, delay: str = "") -> str:
        """A one-way call: its id."""
        time.sleep(0.002)  # created in a millisecond of its own: lists are ordered by it
        self._keys += keyed
        key = f"order-{self._keys}" if keyed else None
        return self._stage.sent(target, body, delay=delay or None, key=key)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """What SQL says."""
        return self._stage.rows(query)

    def status_of(self, invocation_id: str) -> str:
        """Its status; empty when it is unknown."""
        found = self.rows(f"SELECT status FROM sys_invocation WHERE id = '{invocation_id}'")
        return str(found[0]["status"]) if found else ""

    def until(self, invocation_id: str, status: str) -> str:
        """Wait for a status: the id."""
        eventually(lambda: self.status_of(invocation_id) == status)
        return invocation_id

    def until_called(self, target: str, count: int = 1, status: str = "") -> list[str]:
        """Wait for so many invocations of a target: their ids, oldest first."""
        query = f"SELECT id FROM sys_invocation WHERE target = '{target}'"
        if status:
            query += f" AND status = '{status}'"
        query += " ORDER BY created_at"
        rows = eventually(lambda: found if len(found := self.rows(query)) >= count else None)
        return [str(row["id"]) for row in rows]

    def operate(self, invocation_id: str, operation: str) -> None:
        """PATCH an operation of an invocation."""
        self.admin("PATCH", f"/invocations/{invocation_id}/{operation}")

    def end(self, invocation_id: str, operation: str) -> None:
        """Kill or cancel, and wait for the end."""
        self.operate(invocation_id, operation)
        self.until(invocation_id, "completed")

    def forget(self, invocation_id: str) -> None:
        """Kill it with its children, and purge it."""
        self.end(invocation_id, "kill")
        self.operate(invocation_id, "purge")

    def suspend_soon(self, service: str) -> None:
        """Let invocations of a service suspend at once; as recorded, it took a minute."""
        self.admin("PATCH", f"/services/{service}", {"inactivity_timeout": "100ms"})


def open_shop(shop: Shop) -> str:
    """Do what was done before the recording; the id of an invocation that is forgotten."""
    for _ in range(3):
        shop.register("/", force=True)
    shop.register("/reqresp")
    shop.register("/rich")
    shop.register("/", force=True)
    shop.suspend_soon("TicketDesk")
    forgotten = _first_day(shop)
    _second_day(shop)
    _today(shop)
    return forgotten


def _first_day(shop: Shop) -> str:
    """What the deployment at `/` left behind; ends with the registration of `/next`."""
    shop.until(shop.send("TicketDesk/refuse", ""), "completed")
    shop.end(shop.until(shop.send("TicketDesk/doze", LONG_MS), "suspended"), "cancel")
    shop.end(shop.until(shop.send("TicketDesk/stall", ""), "paused"), "kill")
    shop.end(shop.until(shop.send("TicketDesk/jam", ""), "backing-off"), "kill")
    shop.until(shop.send("TicketObject/A1/block", 1), "completed")
    workflow = shop.send("TicketFlow/w1/run", {}, keyed=False)
    shop.until(shop.send("TicketDesk/hold", ""), "suspended")
    buyer = shop.send("TicketObject/Mary/buy", {"ms": LONG_MS})
    neighbour = shop.until_called("TicketObject/Mary-neighbour/block")[0]
    shop.until_called("TicketDesk/nap", status="completed")
    shop.forget(buyer)
    shop.operate(shop.until(neighbour, "completed"), "purge")
    cancelled = shop.until(shop.send("TicketDesk/hold", ""), "suspended")
    shop.end(cancelled, "cancel")
    forgotten = shop.until(shop.send("TicketDesk/quote", {}), "completed")
    for number in range(5):
        shop.operate(forgotten, "restart-as-new")
        shop.until_called("TicketDesk/quote", 3 + number, "completed")
    shop.until(shop.send("TicketFlow/w1/approve", "yes", keyed=False), "completed")
    shop.until(workflow, "completed")
    shop.operate(forgotten, "restart-as-new")
    shop.until_called("TicketDesk/quote", 8, "completed")
    shop.operate(forgotten, "purge")
    shop.operate(cancelled, "restart-as-new")
    shop.until_called("TicketDesk/hold", 2, "suspended")
    shop.end(shop.until(shop.send("TicketDesk/jam", ""), "backing-off"), "kill")
    _in_line_for_the_next(shop)
    return forgotten


def _in_line_for_the_next(shop: Shop) -> None:
    """An invocation that waits for its key when another deployment becomes the latest."""
    holder = shop.send("TicketObject/Mary/block", BLOCKED_MS)
    waiting = shop.send("TicketObject/Mary/reserve", {})
    buyer = shop.send("TicketObject/seat2B/buy", {"ms": LONG_MS})
    neighbour = shop.until_called("TicketObject/seat2B-neighbour/block")[0]
    shop.until_called("TicketDesk/nap", 2, "completed")
    stalled = shop.until(shop.send("TicketDesk/stall", ""), "paused")
    shop.register("/next", additional_headers={"x-k": "v"}, metadata={"a": "b"})
    assert shop.status_of(waiting) == "pending", f"{BLOCKED_MS} ms were too short"
    shop.operate(stalled, "resume?deployment=latest")
    shop.forget(buyer)
    shop.operate(shop.until(neighbour, "completed"), "purge")
    shop.until(holder, "completed")
    shop.until(waiting, "completed")
    shop.until(stalled, "paused")


def _second_day(shop: Shop) -> None:
    """What the deployment at `/next` left behind."""
    dozed = shop.until(shop.send("TicketDesk/doze", 1), "completed")
    shop.operate(dozed, "restart-as-new")  # without a key, as every restart
    shop.until_called("TicketDesk/doze", 3, "completed")
    shop.operate(dozed, "purge")
    shop.until(shop.send("TicketObject/V1/fill", {"a": 1}), "completed")
    for number in range(3):
        shop.until(shop.send("TicketDesk/quote", {"n": number}), "completed")
    shop.suspend_soon("TicketFlow")
    shop.until(shop.send("TicketFlow/w2/run", {}, keyed=False), "suspended")
    shop.admin("PATCH", "/services/TicketFlow", {"inactivity_timeout": "1m"})
    shop.until(shop.send("TicketObject/V2/fill", {"a": 1}), "completed")
    shop.until(shop.send("TicketObject/Q1/block", 1), "completed")
    for _ in range(2):
        shop.until(shop.send("TicketObject/Q1/reserve", {}), "completed")
    shop.until(shop.send("TicketDesk/jam", ""), "backing-off")
    shop.until(shop.send("TicketDesk/stall", ""), "paused")


def _today(shop: Shop) -> None:
    """What is going on."""
    for target, body, status in (
        ("TicketObject/Mary/block", 60_000, "running"),
        ("TicketObject/Mary/block", 60_000, "pending"),
        ("TicketObject/Mary/reserve", {}, "pending"),
        ("TicketDesk/jam", "", "backing-off"),
        ("TicketDesk/stall", "", "paused"),
        ("TicketDesk/doze", LONG_MS, "suspended"),
        ("TicketDesk/nap", LONG_MS, "running"),
        ("TicketDesk/refuse", "", "completed"),
        ("TicketObject/Bob/buy", {"ms": 60_000}, "running"),
    ):
        shop.until(shop.send(target, body), status)
    shop.until_called("TicketObject/Bob-neighbour/block", 1, "running")
    shop.until_called("TicketDesk/nap", 3, "completed")
    shop.until(shop.send("TicketFlow/trip-7/run", {}, keyed=False), "running")
    shop.until(shop.send("TicketDesk/quote", {}, delay="1h"), "scheduled")
    shop.until(shop.send("TicketDesk/quote", {}), "completed")
    state = {"n": 3, "name": "Ann", "obj": {"a": [1, 2]}}
    shop.until(shop.send("TicketObject/Ann/fill", state), "completed")
