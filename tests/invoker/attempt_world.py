"""An open attempt, a recorded writer, a scripted peer: no event loop, no core."""

from collections import deque
from collections.abc import Generator

from restated.core.effects import Done, Reply
from restated.core.events import (
    AttemptFailed,
    Event,
)
from restated.engine.catalog import LiveCatalog
from restated.engine.writer import Then
from restated.invoker.attempt import Attempt, Phase
from restated.invoker.choice import choose
from restated.invoker.surroundings import Surroundings
from restated.model.records import Invocation
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.invoker.messages_of import NOW_MS, invocation, message
from tests.invoker.world import registered_store
from tests.sim.clock import SeededRng
from tests.sim.memory_store import MemoryStore
from tests.sim.sdk import FakeSdk, Peer


class StoppedClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_ms = 0.0

    def wall_ms(self) -> int:
        return NOW_MS + int(self.now_ms)

    def monotonic_ms(self) -> float:
        return self.now_ms

    async def sleep_until_ms(self, wall_ms: int) -> None:
        raise NotImplementedError(wall_ms)


class RecordingWriter:
    """A writer that commits when the test says so."""

    def __init__(self) -> None:
        self.posted: list[Event] = []
        self._thens: deque[Then | None] = deque()

    def post(self, event: Event, then: Then | None = None) -> None:
        self.posted.append(event)
        self._thens.append(then)

    def settle(self, count: int = 1_000_000, reply: Reply | None = None) -> None:
        """Commit the next events; `reply` for all of them."""
        for _ in range(min(count, len(self._thens))):
            then = self._thens.popleft()
            if then is not None:
                then(Done() if reply is None else reply)

    def drop(self) -> None:
        """A defect drops the next event."""
        then = self._thens.popleft()
        assert then is not None
        then(None)

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.posted]


class AttemptWorld:
    """An open attempt, its peer, its writer."""

    def __init__(self, row: Invocation | None = None, handler: str = "greet") -> None:
        self.clock = StoppedClock()
        self.writer = RecordingWriter()
        self.store: MemoryStore = registered_store()
        catalog = LiveCatalog()
        catalog.load(self.store)
        self.around = Surroundings(
            self.writer,  # type: ignore[arg-type]  # only `post` is used
            catalog,
            self.store,
            self.clock,
            SeededRng(),
        )
        self.closed: list[Attempt] = []
        self.around.closed = self.closed.append
        self.sdk = FakeSdk()
        self.sdk.script(f"/invoke/Greeter/{handler}", silent)
        row = invocation(handler=handler) if row is None else row
        self.attempt = Attempt(self.around, row, choose(catalog.current, row, "auto"))
        self.attempt.open(self.sdk, self.attempt.session.begin(None, NOW_MS, []))
        self.deliver()

    @property
    def peer(self) -> Peer:
        return self.sdk.peers[-1]

    def deliver(self) -> None:
        """Let everything that is under way arrive."""
        self.sdk.later.run()

    def answer(self, data: bytes) -> None:
        self.peer.write(data)
        self.deliver()

    def failure(self) -> AttemptFailed:
        """The one failure that was posted."""
        (event,) = [event for event in self.writer.posted if isinstance(event, AttemptFailed)]
        return event

    def pass_ms(self, milliseconds: float) -> Phase:
        """Let time pass, and the sweeper look; the phase then."""
        self.clock.now_ms += milliseconds
        if self.attempt.deadline_ms <= self.clock.now_ms:
            self.attempt.expire()
        self.deliver()
        return self.attempt.phase


def silent(_: Peer) -> Generator[None, None, None]:
    """A peer that the test drives by hand."""
    while True:
        yield


def sleep(completion_id: int, *, ack: bool = False) -> bytes:
    body = pb.SleepCommandMessage(wake_up_time=1, result_completion_id=completion_id)
    return message(messages.SLEEP_COMMAND, body, ack=ack)
