"""An engine over a MemoryStore in virtual time."""

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from restated.core.effects import ArmTimer, Effect
from restated.engine.dispatch import EFFECTS, Dispatch, Tail, Waiters
from restated.engine.timers import Timers
from restated.engine.writer import Writer
from tests.sim.clock import VirtualClock
from tests.sim.memory_store import MemoryStore


class EngineWorld:
    """Writer, timers, dispatch, waiters and tail; every effect is remembered in order."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = VirtualClock()
        self.dispatch = Dispatch()
        self.waiters = Waiters()
        self.tail = Tail()
        self.effects: list[Effect] = []
        self.writer = Writer(self.store, self.dispatch, self.tail, self.clock)
        self.timers = Timers(self.store, self.writer, self.clock, cleanup_interval_ms=1_000)
        self.dispatch.route(ArmTimer, self._armed)
        for effect in EFFECTS:
            if effect is not ArmTimer:
                self.dispatch.route(effect, self.effects.append)

    def _armed(self, effect: ArmTimer) -> None:
        self.effects.append(effect)
        self.timers.arm(effect)

    def status(self, invocation_id: str) -> str | None:
        """Stored status; None when there is no such invocation."""
        row = self.store.by_id(invocation_id)
        return None if row is None else row.status


def run_engine(body: Callable[[EngineWorld], Awaitable[None]]) -> None:
    """Run `body` beside a running writer and its timers, in virtual time."""

    async def main() -> None:
        world = EngineWorld()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.writer.run)
            nursery.start_soon(world.timers.run)
            nursery.start_soon(world.timers.run_cleanup)
            await body(world)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
