"""A thread of the store's own.

Lives here: Worker.
Does not: what runs there (sqlite.py).
"""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

import trio

T = TypeVar("T")


class Worker:
    """One thread that runs one thing at a time. `to_thread` would take any thread of a pool."""

    __slots__ = ("_queue", "_thread")

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Not cancellable: the outcome must be known (C78)."""
        token, task = trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()
        returned: list[T] = []
        raised: list[BaseException] = []

        def turn() -> None:
            try:
                returned.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the task
                raised.append(error)
            token.run_sync_soon(trio.lowlevel.reschedule, task)

        self._queue.put(turn)
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if raised:
            raise raised[0]
        return returned[0]

    def stop(self) -> None:
        """End the thread once it has done what it was given."""
        self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (turn := self._queue.get()) is not None:
            turn()
            del turn  # and with it the rows of its batch
