"""The one writer: events in, one transaction for a batch, effects and replies out after COMMIT.

Lives here: the queue, the batch, per-event isolation of defects, tickets.
Does not: rules (core/machine.py), SQL (store/), what an effect does (dispatch.py).
Invariants: A1 a reply exists only after the commit that covers it; order of one sender is kept.

A batch whose commit nobody would notice lingers: a call that queued behind the holder of its key,
a command without an ack. The next event, usually the end of what they wait for, shares its commit
then; on a key that is always busy that is one commit a call instead of two. Nothing waits longer
for it: the event that somebody waits for ends the lingering at once.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import trio

from restated.core.effects import Accepted, Done, Effect, Reply
from restated.core.events import (
    CommandReceived,
    DeploymentPinned,
    Event,
    Invoke,
    RunProposed,
)
from restated.core.machine import step
from restated.core.view import Overlay
from restated.engine.dispatch import Dispatch, Tail
from restated.model.errors import InternalError, OverloadedError
from restated.seams import Clock
from restated.store.store import Committed, Store, StoreFailedError

BATCH_EVENTS_MAX: Final = 256  # beyond it commit latency grows faster than throughput
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
BATCH_APPLY_MS_MAX: Final = 8.0
COLLECT_MS_MAX: Final = 4.0
QUEUE_MAX: Final = 4_096
ROOM_WAIT_S: Final = 5.0
LINGER_S: Final = 0.004  # about what a service takes to answer; longer would save nothing more
LINGER_EVENTS_MAX: Final = 16  # of a batch; a larger one gains little by another event

log = logging.getLogger("restated.engine")

Then = Callable[[Reply | None], None]
"""Called after the commit, in queue order; None when a defect dropped the event. Must not raise."""


APPLIED: Final = Event()  # stands for the event of a ticket that has been applied


class Ticket:
    """A place in the queue; settled after the commit that covers its event."""

    __slots__ = (
        "_reply", "_task", "_then", "bytes", "effects", "event", "is_awaited", "settled",
    )  # fmt: skip

    def __init__(self, event: Event, then: Then | None) -> None:
        self.event = event
        self.bytes = payload_bytes(event)
        self.settled = False
        self.is_awaited = True  # somebody would notice if the commit came later
        self.effects: Sequence[Effect] = ()
        self._reply: Reply | None = None
        self._then = then
        self._task: trio.lowlevel.Task | None = None

    def prepare(self, reply: Reply | None, effects: Sequence[Effect]) -> None:
        """Note what the event caused; nobody sees it before the commit."""
        self.is_awaited = bool(effects) or is_awaited(self.event, reply)
        self._reply = reply
        self.effects = effects
        self.event = APPLIED  # its payload is in the rows; held twice it would count twice (M3)

    def settle(self) -> None:
        """The event is durable, or was dropped by a defect: tell whoever waits."""
        self.settled = True
        if self._then is not None:
            self._then(self._reply)
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def wait(self) -> Reply | None:
        """Wait for the commit. One task at a time. None when a defect dropped the event."""
        if not self.settled:
            self._task = trio.lowlevel.current_task()

            def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
                self._task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        return self._reply

    async def reply(self) -> Reply:
        """Wait for the commit. InternalError when a defect dropped the event."""
        reply = await self.wait()
        if reply is None:
            raise InternalError(f"a defect dropped {type(self.event).__name__}")
        return reply


class Writer:
    """Applies events one after the other; nobody else writes rows."""

    def __init__(self, store: Store, dispatch: Dispatch, tail: Tail, clock: Clock) -> None:
        self._store = store
        self._dispatch = dispatch
        self._tail = tail
        self._clock = clock
        self._queue: deque[Ticket] = deque()
        self._idle: trio.lowlevel.Task | None = None
        self._room = trio.Event()
        self._released = trio.lowlevel.ParkingLot()
        self._in_flight: list[Ticket] = []  # applied, their commit not yet released
        self.defects = 0  # events dropped by a defect since start
        self.batches = 0
        self.events = 0

    @property
    def backlog(self) -> int:
        """Events that wait for their batch."""
        return len(self._queue)

    def post(self, event: Event, then: Then | None = None) -> Ticket:
        """Queue an event now, in order; for attempts and timers, whose number is bounded."""
        ticket = Ticket(event, then)
        self._queue.append(ticket)
        if self._idle is not None:
            trio.lowlevel.reschedule(self._idle)
            self._idle = None
        return ticket

    async def submit(self, event: Event) -> Reply:
        """Queue an event and return after the COMMIT that covers it.

        OverloadedError when the queue stays full for 5 s: nothing was queued then.
        """
        if len(self._queue) >= QUEUE_MAX:
            await self.room()
        return await self.post(event).reply()

    async def room(self) -> None:
        """Wait until the queue takes another event; OverloadedError after 5 s."""
        with trio.move_on_after(ROOM_WAIT_S):
            while len(self._queue) >= QUEUE_MAX:
                await self._room.wait()
            return
        raise OverloadedError(f"{len(self._queue)} events wait to be stored; try again later")

    async def run(self) -> NoReturn:
        """Collect, apply, commit, release, for ever. StoreFailedError leaves it: fail-stop."""
        while True:
            await self._run_batch()  # whose rows are forgotten while nothing is to be done

    async def _run_batch(self) -> None:
        tickets = await self._collect()
        batch = Overlay(self._store)
        await self._add(batch, tickets)
        if not self._is_due:
            await self._linger(batch)
        writes = [batch.writes()]
        del batch, tickets
        committed = await self._store.commit(writes.pop())  # whose rows nobody else holds (M3)
        self._release(committed)

    async def _add(self, batch: Overlay, tickets: list[Ticket]) -> None:
        await self._store.prefetch([ticket.event for ticket in tickets])
        self._in_flight += self._apply_all(batch, tickets, self._clock.wall_ms())

    async def _linger(self, batch: Overlay) -> None:
        """Take further events into the batch until it is due, or time is up."""
        with trio.move_on_after(LINGER_S):
            while not self._is_due:
                await self._queued()
                with trio.CancelScope(shield=True):  # what is taken is applied
                    await self._add(batch, self._take())

    @property
    def _is_due(self) -> bool:
        """Whether somebody would notice if the batch were committed later, or it is full."""
        applied = self._in_flight
        return (
            any(ticket.is_awaited for ticket in applied)
            or len(applied) >= LINGER_EVENTS_MAX
            or sum(ticket.bytes for ticket in applied) >= BATCH_BYTES_MAX
        )

    async def drain(self) -> None:
        """Return when everything posted so far is durable and released."""
        while self._queue or self._in_flight:
            await self._released.park()

    async def released(self) -> None:
        """Return when the commit in flight, if there is one, is released."""
        if self._in_flight:
            await self._released.park()

    async def _collect(self) -> list[Ticket]:
        """At least one ticket, then whatever is queued, up to the bounds of a batch.

        As long as turns of the loop bring more, others are about to post: of callers who all
        connect at once each turn accepts one, and a commit each would make all of them wait.
        """
        await self._queued()
        known = 0
        deadline_ms = self._clock.monotonic_ms() + COLLECT_MS_MAX
        while known < len(self._queue) < BATCH_EVENTS_MAX:
            known = len(self._queue)
            for _ in range(2):  # whose tasks run in any order
                await trio.lowlevel.cancel_shielded_checkpoint()
            if self._clock.monotonic_ms() > deadline_ms:
                break
        return self._take()

    async def _queued(self) -> None:
        """Return when the queue is not empty."""
        while not self._queue:
            self._idle = trio.lowlevel.current_task()

            def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
                self._idle = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)

    def _take(self) -> list[Ticket]:
        tickets: list[Ticket] = []
        total = 0
        queue = self._queue
        while queue and len(tickets) < BATCH_EVENTS_MAX:
            total += queue[0].bytes
            if tickets and total > BATCH_BYTES_MAX:
                break
            tickets.append(queue.popleft())
        return tickets

    def _apply_all(self, batch: Overlay, tickets: list[Ticket], now_ms: int) -> list[Ticket]:
        """Apply in order; what does not fit into 8 ms goes back to the head of the queue."""
        deadline_ms = self._clock.monotonic_ms() + BATCH_APPLY_MS_MAX
        observed = self._tail.is_observed
        for index, ticket in enumerate(tickets):
            self._apply(batch, ticket, now_ms, observed=observed)
            if index & 15 == 15 and self._clock.monotonic_ms() > deadline_ms:
                rest = tickets[index + 1 :]
                self._queue.extendleft(reversed(rest))
                return tickets[: index + 1]
        return tickets

    def _apply(self, batch: Overlay, ticket: Ticket, now_ms: int, *, observed: bool) -> None:
        event = ticket.event
        try:
            outcome, reply = step(batch, event, now_ms, observed=observed)
        except StoreFailedError:
            raise
        except Exception:
            # A defect: the event is dropped whole, the batch around it is intact.
            self.defects += 1
            log.exception("core defect event=%s of=%s", type(event).__name__, subject(event))
            return
        batch.merge(outcome)
        ticket.prepare(reply, outcome.effects)

    def _release(self, committed: Committed) -> None:
        """Event by event: its reply, then its effects.

        A caller who registers in the callback of its reply then sees every end that came behind
        it in the batch, and none that came before (C48).
        """
        applied, self._in_flight = self._in_flight, []
        self.batches += 1
        self.events += len(applied)
        release = self._dispatch.release
        for ticket in applied:
            ticket.settle()
            if ticket.effects:
                release(committed, ticket.effects)
        self._released.unpark_all()
        if not self._room.is_set() and len(self._queue) < QUEUE_MAX:
            self._room.set()
            self._room = trio.Event()


def is_awaited(event: Event, reply: Reply | None) -> bool:
    """Whether anybody waits for the commit of an event that has no effects.

    Not for a call that is told its end only, and not for a command that asked for no ack.
    """
    match event:
        case Invoke():
            is_told_later = isinstance(reply, Accepted) and reply.outcome is None
            return not (event.wants_result and is_told_later)
        case CommandReceived() | DeploymentPinned():
            return not isinstance(reply, Done)
    return True


def payload_bytes(event: Event) -> int:
    """What an event carries, for the bounds of batches and attempts."""
    if isinstance(event, Invoke):
        return len(event.payload)
    if isinstance(event, CommandReceived):
        return len(event.payload)
    if isinstance(event, RunProposed) and isinstance(event.result, bytes):
        return len(event.result)
    return 0


def subject(event: Event) -> object:
    """The id or number that an event is about, for logs; never payloads."""
    return getattr(event, "id", None) or getattr(event, "number", None)
