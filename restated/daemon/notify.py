"""Telling systemd how the daemon is doing: READY, STATUS, WATCHDOG, STOPPING.

Lives here: the messages, the beat of the watchdog.
Does not: when the daemon is ready (daemon.py).
Without NOTIFY_SOCKET every message is silently nothing.
"""

from collections.abc import Callable, Mapping
from typing import Final, NoReturn

import sdnotify
import trio

BEATS: Final = 2  # per watchdog interval, as sd_watchdog_enabled(3) advises


class Notifier:
    """The supervisor's ear."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._supervisor = sdnotify.SystemdNotifier() if "NOTIFY_SOCKET" in environment else None

    def ready(self, status: str) -> None:
        """The daemon listens and serves."""
        self._tell(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={status}")

    def stopping(self) -> None:
        """The daemon begins to stop."""
        self._tell("STOPPING=1\nSTATUS=stopping")

    def alive(self) -> None:
        """A beat of the watchdog."""
        self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if self._supervisor is not None:
            self._supervisor.notify(state)


def watchdog_interval_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds after which the supervisor gives a silent process up; None when it does not watch."""
    interval_us = environment.get("WATCHDOG_USEC", "")
    if not interval_us.isdigit() or int(interval_us) == 0:
        return None
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(interval_us) / 1_000_000


async def beat(
    notifier: Notifier, interval_s: float, progress: Callable[[], tuple[int, int]]
) -> NoReturn:
    """Beat while the writer moves, for ever.

    `progress` is (batches so far, events that wait). A writer that had events waiting one beat ago
    and has not finished a batch since is stuck, and so is everyone who waits for it: then the
    daemon is silent, and the supervisor ends it.
    """
    batches_before, waiting_before = -1, 0
    while True:
        batches, waiting = progress()
        if waiting_before == 0 or batches != batches_before:
            notifier.alive()
        batches_before, waiting_before = batches, waiting
        await trio.sleep(interval_s / BEATS)
