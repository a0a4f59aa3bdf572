"""What all attempts of one invoker share.

Lives here: Surroundings.
Does not: one attempt (attempt.py), which attempts run (invoker.py).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from restated.engine.catalog import LiveCatalog
from restated.engine.writer import Writer
from restated.invoker.pool import PayloadPool
from restated.model.records import AttemptError
from restated.seams import Clock, Rng
from restated.store.store import Store

if TYPE_CHECKING:
    from restated.invoker.attempt import Attempt


class Surroundings:
    """What all attempts of one invoker share. The callbacks must not raise."""

    __slots__ = ("arm", "catalog", "clock", "closed", "failed", "pool", "rng", "store", "writer")

    def __init__(
        self, writer: Writer, catalog: LiveCatalog, store: Store, clock: Clock, rng: Rng
    ) -> None:
        self.writer = writer
        self.catalog = catalog
        self.store = store
        self.clock = clock
        self.rng = rng
        self.arm: Callable[[float], None] = _ignore  # a deadline (monotonic ms) became earlier
        self.closed: Callable[[Attempt], None] = _ignore  # its place is free
        self.failed: Callable[[Attempt, AttemptError], None] = _ignore_failure
        self.pool = PayloadPool()


def _ignore(_: object) -> None:
    """Callback of surroundings that nobody has filled in."""


def _ignore_failure(_: "Attempt", __: AttemptError) -> None:
    """Callback of surroundings that nobody has filled in."""
