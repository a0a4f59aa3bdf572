"""What operators ask stands behind the work of the daemon.

Lives here: how nice the query process is, and `Standing`, the place of one of its threads among
all that want a processor.
Does not: how long a statement may take (query_child.py). Clocks are used directly, as there.

Niceness alone is not enough for a statement that computes for seconds: the scheduler takes its
processor for a busy one and wakes the daemon elsewhere. Measured on two cores with 16 calls at once
and a million invocations, p99 of a commit against that without a statement: 2.2 to 3.5 times.
From `SHORT_S` on a statement therefore runs only when a processor has nothing else to do
(SCHED_IDLE): 1.0 to 1.6 times. Where all processors are busy all the time it would starve, so that
it comes forward again once it sees that. Linux lets only those come forward who may have their
niceness (the systemd unit allows it) or are privileged; others never step back.
"""

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Final

NICENESS: Final = 10  # a tenth of what the daemon gets where both want a processor
SHORT_S: Final = 0.02  # of a processor: what a list of an operator takes
PATIENCE_S: Final = 1.0
SHARE_MIN: Final = 0.1  # of the time it wants to run; with less it starves

_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")  # ns that it ran, ns that it had to wait
_DEFAULT: Final = os.sched_param(0)


class Standing:
    """The place of the calling thread. `look` is called all along, at least every few ms."""

    __slots__ = (
        "_can_step_back", "_is_behind", "_is_settled", "_looked_s", "_ran_ns", "_waited_ns",
    )  # fmt: skip

    def __init__(self, *, can_step_back: bool) -> None:
        self._can_step_back = can_step_back
        self._is_behind = False
        self.begin()

    def begin(self) -> None:
        """A statement begins."""
        self._is_settled = not self._can_step_back
        self._ran_ns = time.thread_time_ns()

    def look(self) -> None:
        """Step back when the statement turns out long, come forward when it starves."""
        if self._is_settled:
            return
        if not self._is_behind:
            if time.thread_time_ns() - self._ran_ns > SHORT_S * 1e9:
                _move(os.SCHED_IDLE)
                self._is_behind = True
                self._start_window()
        elif _now_s() - self._looked_s > PATIENCE_S:
            ran_ns, waited_ns = _schedstat()
            ran_ns, waited_ns = ran_ns - self._ran_ns, waited_ns - self._waited_ns
            if ran_ns < SHARE_MIN * (ran_ns + waited_ns):
                self.end()
                self._is_settled = True
            else:
                self._start_window()

    def end(self) -> None:
        """The statement has ended."""
        if self._is_behind:
            _move(os.SCHED_OTHER)
            self._is_behind = False

    def _start_window(self) -> None:
        self._looked_s = _now_s()
        self._ran_ns, self._waited_ns = _schedstat()


def be_nice() -> None:
    """Make this process, and all its threads to come, nice."""
    with contextlib.suppress(PermissionError):  # hardened by others: it works, less politely
        os.nice(NICENESS)


def can_step_back() -> bool:
    """Whether a thread that steps back can come forward again: a thread tries."""
    answers: list[bool] = []

    def try_it() -> None:
        with contextlib.suppress(OSError):
            _schedstat()
            _move(os.SCHED_IDLE)
            _move(os.SCHED_OTHER)
            answers.append(True)

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return bool(answers)


def _move(policy: int) -> None:
    os.sched_setscheduler(0, policy, _DEFAULT)  # 0: the calling thread


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 - no seam in this process


def _schedstat() -> tuple[int, int]:
    ran, waited, _ = _SCHEDSTAT.read_bytes().split()
    return int(ran), int(waited)
