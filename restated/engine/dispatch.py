"""Effects go to their rooms, once their commit is durable; waiters learn of ends.

Lives here: the routing table effect type -> function, waiters of ingress and admin, the fan-out of
the live tail.
Does not: interpret an effect. Routes are synchronous and must not raise; a room that needs to
await puts the effect into a bounded queue of its own.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import trio

from restated.core.effects import Changed, Effect, Settled
from restated.store.store import Committed

E = TypeVar("E", bound=Effect)
Route = Callable[[Any], None]  # the table is filled type by type in daemon.py

EFFECTS: tuple[type[Effect], ...] = tuple(Effect.__subclasses__())
TAIL_EVENTS_MAX = 1_024  # what a live-tail client may lag behind before it gets a gap marker
TAIL_CLIENTS_MAX = 1_000


class Dispatch:
    """The routing table; complete before the daemon listens (`check`)."""

    __slots__ = ("_routes",)

    def __init__(self) -> None:
        self._routes: dict[type[Effect], Route] = {}

    def route(self, effect: type[E], room: Callable[[E], None]) -> None:
        """Send effects of this type to `room`; a second route for a type is refused."""
        assert effect not in self._routes, f"{effect.__name__} has two routes"
        self._routes[effect] = room

    def check(self) -> None:
        """Fail at start-up if an effect type has no route."""
        missing = [effect.__name__ for effect in EFFECTS if effect not in self._routes]
        assert not missing, f"no route for {', '.join(missing)}"

    def release(self, committed: Committed, effects: Sequence[Effect]) -> None:
        """Hand the effects of one event of a durable batch to their rooms, in order."""
        assert committed.sequence >= 0
        routes = self._routes
        for effect in effects:
            routes[type(effect)](effect)


class ShuttingDownError(Exception):
    """The daemon stops; the invocation goes on after its next start."""


class Waiter:
    """One caller's wait for the end of an invocation. `wait` is called once, by one task."""

    __slots__ = ("_settled", "_task", "id", "is_forgotten", "stopping")

    def __init__(self, invocation_id: str) -> None:
        self.id = invocation_id
        self.stopping = False
        self.is_forgotten = False
        self._settled: Settled | None = None
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> Settled:
        """The end of the invocation; ShuttingDownError when the daemon stops before it."""
        if self._settled is None and not self.stopping:
            self._task = trio.lowlevel.current_task()

            def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
                self._task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        if self._settled is None:
            raise ShuttingDownError
        return self._settled

    def settle(self, settled: Settled | None) -> None:
        """Wake the waiting task; None when the daemon stops."""
        if self._settled is not None or self.stopping:
            return
        self._settled = settled
        self.stopping = settled is None
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None


class Waiters:
    """Who waits for which invocation.

    Whoever reads a snapshot registers before it (`expect`). Whoever invokes registers in the
    callback of the reply (`admit`); replies and effects are released event by event: an end behind
    it is seen, the end of an earlier invocation with this id is not (C48).
    """

    __slots__ = ("_by_id", "_stopping", "count")

    def __init__(self) -> None:
        self._by_id: dict[str, list[Waiter]] = {}
        self._stopping = False
        self.count = 0

    def expect(self, invocation_id: str) -> Waiter:
        """Register; the caller must `forget` it in the end, whatever happened."""
        waiter = Waiter(invocation_id)
        self.admit(waiter)
        return waiter

    def admit(self, waiter: Waiter) -> None:
        """Register a waiter made before; one that was forgotten meanwhile stays out."""
        if waiter.is_forgotten:
            return
        if self._stopping:
            waiter.settle(None)
        self._by_id.setdefault(waiter.id, []).append(waiter)
        self.count += 1

    def forget(self, waiter: Waiter) -> None:
        """Free it (C55). Idempotent."""
        waiter.is_forgotten = True
        others = self._by_id.get(waiter.id)
        if others is None or waiter not in others:
            return
        others.remove(waiter)
        self.count -= 1
        if not others:
            del self._by_id[waiter.id]

    def settle(self, settled: Settled) -> None:
        """Route of `Settled`."""
        waiters = self._by_id.get(settled.id)
        if waiters is not None:
            for waiter in waiters:
                waiter.settle(settled)

    def stop(self) -> None:
        """Every waiter, present and future, gets ShuttingDownError."""
        self._stopping = True
        for waiters in self._by_id.values():
            for waiter in waiters:
                waiter.settle(None)


class TailClient:
    """A bounded queue of changes of one live-tail client; a slow one loses, and is told."""

    __slots__ = ("_queue", "_wakeup", "lost", "wants")

    def __init__(self, wants: Callable[[Changed], bool]) -> None:
        self.wants = wants
        self.lost = 0  # changes dropped since the last `take`
        self._queue: deque[Changed] = deque()
        self._wakeup = trio.Event()

    def offer(self, change: Changed) -> None:
        """Queue a change, or count it as lost; never waits."""
        if len(self._queue) >= TAIL_EVENTS_MAX:
            self.lost += 1
            return
        self._queue.append(change)
        self._wakeup.set()

    async def take(self) -> tuple[list[Changed], int]:
        """Everything queued, at least one change, and how many were lost behind them."""
        while not self._queue:
            self._wakeup = trio.Event()
            await self._wakeup.wait()
        changes, lost = list(self._queue), self.lost
        self._queue.clear()
        self.lost = 0
        return changes, lost


class Tail:
    """Fan-out of changes to live-tail clients and to standing listeners (metrics, traces)."""

    __slots__ = ("_clients", "_listeners")

    def __init__(self) -> None:
        self._clients: list[TailClient] = []
        self._listeners: list[Callable[[Changed], None]] = []

    @property
    def is_observed(self) -> bool:
        """Whether somebody listens: only then the core builds `Changed`."""
        return bool(self._clients or self._listeners)

    def attach(self, client: TailClient) -> bool:
        """Start feeding a client; False when there are too many."""
        if len(self._clients) >= TAIL_CLIENTS_MAX:
            return False
        self._clients.append(client)
        return True

    def detach(self, client: TailClient) -> None:
        """Stop feeding it. Idempotent."""
        if client in self._clients:
            self._clients.remove(client)

    def listen(self, listener: Callable[[Changed], None]) -> None:
        """Feed a listener for as long as the daemon runs; it must not raise."""
        self._listeners.append(listener)

    def publish(self, change: Changed) -> None:
        """Route of `Changed`."""
        for listener in self._listeners:
            listener(change)
        for client in self._clients:
            if client.wants(change):
                client.offer(change)
