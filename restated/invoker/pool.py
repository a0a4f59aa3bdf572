"""The memory that attempts share for payloads: replays, and large messages on their way in.

Lives here: PayloadPool, Intake (one attempt's part of it).
Does not: windows (http2_connection.py), when an attempt begins (invoker.py).
Rules: M1 whatever is offered, what is held stays within the pool and one message; C83, G14 nobody
waits for somebody who waits: the whole of a large message is granted as soon as its header tells
the size, or nothing of it, so that whoever was granted can always finish. One grant is given in
any case, also beside replays that do not move. C84: what those hold who wait cannot be taken back
from them; it has a share of its own, and who exceeds it gives up and begins anew later. C25: a
peer that stops half-way through a granted message, for as long as its timeouts allow, must not
hold up the others: while they wait it gives up, too.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from restated.model.errors import AttemptCode
from restated.model.records import AttemptError

PAYLOAD_POOL_BYTES: Final = 256 << 20
LARGE_BYTES: Final = 1 << 20  # smaller messages are bounded by what an attempt may have unsettled
COPIES: Final = 2  # a message until it is applied: its bytes, and what protobuf reads from them
PARKED_SHARE: Final = 4  # the fourth part of the pool is for what waiting attempts have received
MEMORY_RETRY_MS: Final = 500  # up to twice that
STALL_MS: Final = 15_000.0  # without a byte, while others wait; a lost packet is sent again in less
NO_MEMORY: Final = AttemptError(
    503,
    "too many large messages are arriving at once (payload pool); the attempt is repeated",
    AttemptCode.INTERNAL,
)
STALLED: Final = AttemptError(
    503,
    f"a large message stopped half-way for {STALL_MS / 1000:.0f} seconds while others waited for"
    " memory (payload pool); the attempt is repeated",
    AttemptCode.INTERNAL,
)

NEVER: Final = float("-inf")

Verdict = Literal["granted", "waits", "refused"]


class PayloadPool:
    """Counts bytes; callbacks must not raise. Everything happens in the event loop."""

    __slots__ = (
        "_bytes_max", "_granted_bytes", "_is_granting", "_parked_bytes", "_queue",
        "_replayed_bytes", "_seen", "freed",
    )  # fmt: skip

    def __init__(self, bytes_max: int = PAYLOAD_POOL_BYTES) -> None:
        self._bytes_max = bytes_max
        self._replayed_bytes = 0
        self._granted_bytes = 0
        self._parked_bytes = 0
        self._queue: deque[Intake] = deque()  # who waits, in order
        # Who was granted a message, how far it was when last seen, and since when.
        self._seen: dict[Intake, tuple[int, float]] = {}
        self._is_granting = False
        self.freed: Callable[[], None] = _ignore  # there may be room for another attempt

    @property
    def held_bytes(self) -> int:
        """What all attempts hold."""
        return self._replayed_bytes + self._granted_bytes + self._parked_bytes

    @property
    def left_bytes(self) -> int:
        """What is free; negative by what the newest replay or the one sure grant exceeds it."""
        return self._bytes_max - self.held_bytes

    def replay(self, change: int) -> None:
        """A replay holds more, or less."""
        self._replayed_bytes += change
        assert self._replayed_bytes >= 0, "every byte given back was taken"
        if change < 0:
            self._give_on()

    def sweep(self, now_ms: float) -> None:
        """Take grants back from whose messages have stood still while others waited for memory.

        To be called every second or so; without anybody who waits nobody is looked at.
        """
        for intake, (progress, since_ms) in list(self._seen.items()):
            if not self._queue or intake.progress != progress or since_ms == NEVER:
                self._seen[intake] = intake.progress, now_ms if self._queue else NEVER
            elif now_ms - since_ms >= STALL_MS:
                self._seen[intake] = progress, now_ms
                intake.on_stalled()

    # -- for Intake

    def ask(self, intake: "Intake", cost_bytes: int) -> bool:
        """Grant a whole message now, or queue for it."""
        if not self._queue and self._fits(cost_bytes):
            self._grant(intake, cost_bytes)
            return True
        intake.wanted_bytes = cost_bytes
        self._queue.append(intake)
        return False

    def park(self, change: int) -> bool:
        """Somebody who waits has received more, or less; False when the share is exceeded."""
        self._parked_bytes += change
        return self._parked_bytes <= self._bytes_max // PARKED_SHARE

    def give_back(self, intake: "Intake", granted_bytes: int) -> None:
        """A granted message is stored, or dropped."""
        del self._seen[intake]
        self._granted_bytes -= granted_bytes
        assert self._granted_bytes >= 0, "every byte given back was granted"
        self._give_on()

    def forget(self, intake: "Intake") -> None:
        """It does not wait any more."""
        self._queue.remove(intake)
        self._give_on()

    def _grant(self, intake: "Intake", cost_bytes: int) -> None:
        self._granted_bytes += cost_bytes
        self._seen[intake] = intake.progress, NEVER

    def _fits(self, cost_bytes: int) -> bool:
        if not self._granted_bytes:
            return True
        share = self._bytes_max - self._bytes_max // PARKED_SHARE
        return self._granted_bytes + cost_bytes <= share and cost_bytes <= self.left_bytes

    def _give_on(self) -> None:
        # Who is resumed may give back at once: the loop sees it, deep calls would not end.
        if self._is_granting:
            return
        self._is_granting = True
        try:
            while self._queue and self._fits(self._queue[0].wanted_bytes):
                intake = self._queue.popleft()
                self._grant(intake, intake.wanted_bytes)
                intake.on_granted()
        finally:
            self._is_granting = False
        self.freed()


class Intake:
    """The large message that one attempt is receiving."""

    __slots__ = (
        "_granted_bytes", "_parked_bytes", "_pool", "_resume", "on_stalled", "progress",
        "wanted_bytes",
    )  # fmt: skip

    def __init__(
        self, pool: PayloadPool, resume: Callable[[], None], on_stalled: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._resume = resume
        self.on_stalled = on_stalled  # others wait for what it was granted: to release it
        self.progress = 0  # times that more of a granted message had come
        self._granted_bytes = 0
        self._parked_bytes = 0
        self.wanted_bytes = 0  # what the message that waits for its grant will cost

    @property
    def is_waiting(self) -> bool:
        """Whether a message waits for its grant."""
        return self.wanted_bytes > 0

    def judge(self, message_bytes: int, received_bytes: int) -> tuple[Verdict, int]:
        """Whether more of the message may come, and how much more than before is kept of it.

        `message_bytes` is 0 between two messages; everything before the message is stored.
        """
        if message_bytes < LARGE_BYTES:
            if self._granted_bytes:
                self.release()
            return "granted", 0
        cost_bytes = COPIES * message_bytes
        if self._granted_bytes != cost_bytes:
            if not self.is_waiting:
                self.release()
                if self._pool.ask(self, cost_bytes):
                    self._granted_bytes = cost_bytes
                    return "granted", 0
            kept_bytes = received_bytes - self._parked_bytes
            self._parked_bytes = received_bytes
            return ("waits" if self._pool.park(kept_bytes) else "refused"), kept_bytes
        self.progress += 1
        return "granted", 0

    def on_granted(self) -> None:
        """It is this one's turn."""
        self._granted_bytes, self.wanted_bytes = self.wanted_bytes, 0
        self._unpark()
        self._resume()

    def release(self) -> None:
        """Give back everything. Idempotent."""
        self._unpark()
        if self.is_waiting:
            self.wanted_bytes = 0
            self._pool.forget(self)
        granted_bytes, self._granted_bytes = self._granted_bytes, 0
        if granted_bytes:
            self._pool.give_back(self, granted_bytes)

    def _unpark(self) -> None:
        self._pool.park(-self._parked_bytes)
        self._parked_bytes = 0


def _ignore() -> None:
    """Callback of a pool that nobody has joined."""
