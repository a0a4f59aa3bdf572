"""How a statement stands behind the daemon, and does not starve there."""

import os
import resource

import pytest

from restated.store import priority
from restated.store.priority import PATIENCE_S, SHARE_MIN, SHORT_S, Standing

MS = 1_000_000  # ns


class Machine:
    """Its clocks, and where the thread was moved."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.ran_ns = 5_000 * MS
        self.waited_ns = 7_000 * MS
        self.moves: list[int] = []

    def run(self, seconds: float, share: float = 1.0) -> None:
        """Time in which the thread wants to run, and does for that share of it."""
        self.now_s += seconds
        self.ran_ns += int(seconds * share * 1e9)
        self.waited_ns += int(seconds * (1 - share) * 1e9)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    one = Machine()
    monkeypatch.setattr("time.thread_time_ns", lambda: one.ran_ns)
    monkeypatch.setattr(priority, "_now_s", lambda: one.now_s)
    monkeypatch.setattr(priority, "_schedstat", lambda: (one.ran_ns, one.waited_ns))
    monkeypatch.setattr(priority, "_move", one.moves.append)
    return one


def test_a_short_statement_stays_where_it_is(machine: Machine) -> None:
    standing = Standing(can_step_back=True)
    for _ in range(3):
        standing.begin()
        machine.run(SHORT_S * 0.9)
        standing.look()
        standing.end()
    assert machine.moves == []


def test_waiting_for_a_processor_makes_no_statement_long(machine: Machine) -> None:
    standing = Standing(can_step_back=True)
    machine.run(SHORT_S * 50, share=0.01)
    standing.look()
    assert machine.moves == []


def test_a_long_statement_steps_back_once_and_comes_forward_at_its_end(machine: Machine) -> None:
    standing = Standing(can_step_back=True)
    for _ in range(100):
        machine.run(SHORT_S * 1.1)
        standing.look()
    assert machine.moves == [os.SCHED_IDLE]
    standing.end()
    standing.end()
    assert machine.moves == [os.SCHED_IDLE, os.SCHED_OTHER]


def test_one_that_starves_comes_forward_for_the_rest(machine: Machine) -> None:
    standing = Standing(can_step_back=True)
    machine.run(SHORT_S * 1.1)
    standing.look()
    machine.run(PATIENCE_S * 1.1, share=SHARE_MIN * 2)
    standing.look()
    assert machine.moves == [os.SCHED_IDLE]
    machine.run(PATIENCE_S * 1.1, share=SHARE_MIN / 2)
    standing.look()
    machine.run(PATIENCE_S * 5)
    standing.look()
    assert machine.moves == [os.SCHED_IDLE, os.SCHED_OTHER]
    standing.end()
    standing.begin()
    machine.run(SHORT_S * 1.1)
    standing.look()
    assert machine.moves == [os.SCHED_IDLE, os.SCHED_OTHER, os.SCHED_IDLE]


def test_one_that_waits_for_its_reader_does_not_starve(machine: Machine) -> None:
    standing = Standing(can_step_back=True)
    machine.run(SHORT_S * 1.1)
    standing.look()
    machine.now_s += 60
    standing.look()
    assert machine.moves == [os.SCHED_IDLE]


def test_who_could_not_come_back_does_not_go(machine: Machine) -> None:
    standing = Standing(can_step_back=False)
    machine.run(SHORT_S * 10)
    standing.look()
    standing.end()
    assert machine.moves == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may always come back")
def test_a_user_comes_back_within_the_limit_of_niceness() -> None:
    """sched(7), RLIMIT_NICE: 20 less the niceness."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    assert priority.can_step_back() is (soft >= 20 - os.getpriority(os.PRIO_PROCESS, 0))


def test_a_kernel_that_tells_no_waiting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> tuple[int, int]:
        raise FileNotFoundError

    monkeypatch.setattr(priority, "_schedstat", none)
    assert priority.can_step_back() is False
