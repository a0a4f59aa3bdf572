"""Stored deadlines become events.

Lives here: one task that sleeps until the earliest deadline and posts TimerFired, and one that
posts Expired for what has outlived its retention.
Does not: what a timer means (core/notifications.py), retention rules (core/finish.py).
Invariants: T1 never early; T3 every deadline is stored, this room may forget everything.
"""

from typing import Final, NoReturn

import trio

from restated.core.effects import ArmTimer
from restated.core.events import Expired, TimerFired
from restated.engine.writer import Writer
from restated.seams import Clock
from restated.store.store import Store

TURN_MAX: Final = 256  # timers posted before their commits are awaited


class Timers:
    """Posts due timers; loads nothing into memory beyond one turn."""

    def __init__(
        self, store: Store, writer: Writer, clock: Clock, cleanup_interval_ms: int
    ) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._cleanup_interval_ms = cleanup_interval_ms
        self._sleep: trio.CancelScope | None = None
        self._sleeping_until_ms: int | None = None
        self._armed_ms: int | None = None

    def arm(self, effect: ArmTimer) -> None:
        """Route of `ArmTimer`: wake up if the new deadline is earlier (C07)."""
        if self._armed_ms is None or effect.at_ms < self._armed_ms:
            self._armed_ms = effect.at_ms
        if self._sleep is not None and (
            self._sleeping_until_ms is None or effect.at_ms < self._sleeping_until_ms
        ):
            self._sleep.cancel()

    async def run(self) -> NoReturn:
        """Fire what is due, sleep until the next deadline, for ever."""
        while True:
            self._armed_ms = None
            if not await self._fire_due():
                await self._sleep_until_next()

    async def run_cleanup(self) -> NoReturn:
        """Expire results and journals, at most one interval late."""
        while True:
            numbers = self._store.expired(self._clock.wall_ms(), TURN_MAX)
            tickets = [self._writer.post(Expired(number)) for number in numbers]
            for ticket in tickets:
                await ticket.wait()
            if len(numbers) < TURN_MAX:
                await trio.sleep(self._cleanup_interval_ms / 1000)

    async def _fire_due(self) -> bool:
        due = self._store.due(self._clock.wall_ms(), TURN_MAX)
        tickets = [
            self._writer.post(TimerFired(timer.number, timer.kind, timer.token)) for timer in due
        ]
        dropped = [ticket for ticket in tickets if await ticket.wait() is None]
        if dropped:
            # Still stored, hence due again at once: a defect must not become a busy loop.
            await trio.sleep(1)
        return bool(tickets)

    async def _sleep_until_next(self) -> None:
        deadline_ms = self._store.next_deadline_ms()
        if self._armed_ms is not None:
            # Armed while due ones were awaited; the reader connection sees it now at the latest.
            deadline_ms = min(self._armed_ms, deadline_ms or self._armed_ms)
        self._sleeping_until_ms = deadline_ms
        with trio.CancelScope() as self._sleep:
            if deadline_ms is None:
                await trio.sleep_forever()
            else:
                await self._clock.sleep_until_ms(deadline_ms)
        self._sleep = None
