"""The watchdog's beat: fed while the writer moves, not when it is stuck."""

from collections.abc import Iterator

import pytest
import trio
import trio.testing

from restated.daemon.notify import Notifier, beat, watchdog_interval_s


class CountingNotifier(Notifier):
    """Counts beats instead of sending them."""

    def __init__(self) -> None:
        super().__init__({})
        self.beats = 0

    def alive(self) -> None:
        """One beat."""
        self.beats += 1


def beats_in(seconds: float, progress: Iterator[tuple[int, int]]) -> int:
    """Beats of a watchdog of 2 s that sees these states, one a second."""
    notifier = CountingNotifier()

    async def main() -> None:
        with trio.move_on_after(seconds):
            await beat(notifier, 2.0, lambda: next(progress))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return notifier.beats


def test_an_idle_writer_is_alive() -> None:
    """Nothing waits, nothing is stuck."""
    assert beats_in(4.5, iter([(7, 0)] * 5)) == 5


def test_a_busy_writer_that_commits_is_alive() -> None:
    """Events wait at every look, batches grow."""
    assert beats_in(4.5, iter([(1, 9), (2, 9), (3, 9), (4, 9), (5, 9)])) == 5


def test_a_writer_that_commits_nothing_while_events_wait_is_given_up() -> None:
    """The supervisor ends a process that is silent for the interval."""
    assert beats_in(4.5, iter([(1, 0), (1, 3), (1, 3), (1, 4), (1, 5)])) == 2


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_interval_is_ours_only_with_our_process_id(
    environment: dict[str, str], interval_s: float | None
) -> None:
    """sd_watchdog_enabled(3)."""
    assert watchdog_interval_s(environment, 7) == interval_s
