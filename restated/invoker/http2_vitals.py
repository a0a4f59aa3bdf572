"""How an HTTP/2 connection is doing: silence, idleness, frames that carry nothing.

Lives here: keep-alive, idle eviction, the deadline of the greeting, the flood budget of a peer.
Does not: closing the connection (http2_connection.py), what passes the time (http2.py).
Rules: C86 idle connections end; C87 and N3 a peer cannot keep us busy with empty frames; M5 a
peer that accepts and then says nothing is given up.
"""

from typing import Final

from restated.invoker.frames import ENHANCE_YOUR_CALM, ConnectionFaultError
from restated.invoker.transport import TransportLimits

# Frames that carry no work for anybody, in one minute, beyond a multiple of those that do.
CHATTER_MAX: Final = 10_000
CHATTER_PER_WORK: Final = 8  # window updates come with work, several for each frame
CHATTER_SECONDS: Final = 60.0


class Http2Vitals:
    """Counters of one connection. Time passes by `tick`: no clock is read."""

    __slots__ = (
        "_chatter", "_chatter_seconds", "_cut", "_greeting_seconds", "_idle_seconds", "_limits",
        "_quiet_seconds", "has_heard", "work",
    )  # fmt: skip

    def __init__(self, limits: TransportLimits) -> None:
        self.has_heard = False  # bytes have come since the last tick
        self.work = 0  # frames received that carry something
        self._limits = limits
        self._chatter = 0
        self._chatter_seconds = 0.0
        self._greeting_seconds = 0.0
        self._quiet_seconds = 0.0
        self._idle_seconds = 0.0
        self._cut: str | None = None

    def cut(self, reason: str) -> str:
        """Nothing can be sent any more: overdue from the first silent second on. The reason."""
        self.has_heard = True
        self._cut = reason
        return reason

    def count_chatter(self, weight: int, sent: int) -> None:
        """Count a frame that carries nothing; `sent` frames of ours may have caused some."""
        self._chatter += weight
        if self._chatter > CHATTER_MAX + CHATTER_PER_WORK * (self.work + sent):
            raise ConnectionFaultError(
                ENHANCE_YOUR_CALM, "too many frames in one minute that carry nothing"
            )

    def tick(self, seconds: float, *, is_idle: bool) -> bool:
        """Let time pass; returns whether a minute of the flood budget is over."""
        self._quiet_seconds = 0.0 if self.has_heard else self._quiet_seconds + seconds
        self._idle_seconds = self._idle_seconds + seconds if is_idle else 0.0
        self._greeting_seconds += seconds
        self._chatter_seconds += seconds
        self.has_heard = False
        if self._chatter_seconds < CHATTER_SECONDS:
            return False
        self._chatter_seconds = 0.0
        self._chatter = self.work = 0
        return True

    def is_ping_due(self, seconds: float) -> bool:
        """Whether the silence became too long within the last `seconds`."""
        return 0 <= self._quiet_seconds - self._limits.ping_interval_seconds < seconds

    def overdue(self, *, is_greeted: bool) -> str | None:
        """Why the connection should be closed; None when it should not."""
        limits = self._limits
        if self._cut is not None and self._quiet_seconds:
            return self._cut
        if not is_greeted and self._greeting_seconds >= limits.connect_timeout_seconds:
            wait = f"{limits.connect_timeout_seconds:g} seconds"
            return f"the service accepted the connection but sent no SETTINGS within {wait}"
        if self._idle_seconds >= limits.idle_seconds:
            return "the connection was idle"
        if self._quiet_seconds >= limits.ping_interval_seconds + limits.ping_timeout_seconds:
            wait = f"{limits.ping_timeout_seconds:g} seconds"
            return f"the service did not answer an HTTP/2 PING within {wait}"
        return None
