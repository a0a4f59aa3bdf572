"""Long journals and large entries pass through the daemon: they are never held twice."""

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType

import httpx
import pytest

from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import Frame, frame
from tests.daemon.running import RealDaemon
from tests.real.scripted import Attempt, Scripted
from tests.real.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]

MIB = 1 << 20
PAYLOAD_BYTES = 32 * MIB - 100  # a body may have 32 MiB
ONCE_MIB = 32 + 8
TWICE_MIB = 2 * 32 + 8
POOL_MIB = 256
OUTPUTS = 16
ENTRIES = 100_000
SEEN: list[tuple[int, int]] = []  # entries and bytes of the newest replay
ANSWER = [(":status", "200"), ("content-type", "application/vnd.restate.invocation.v6")]
MANIFEST = {
    "protocolMode": "BIDI_STREAM",
    "minProtocolVersion": 5,
    "maxProtocolVersion": 6,
    "services": [
        {
            "name": "Raw",
            "ty": "VIRTUAL_OBJECT",
            "handlers": [{"name": "play", "ty": "EXCLUSIVE", "inactivityTimeout": 600_000}],
        }
    ],
}


class Memory:
    """The peak of a process's resident memory while the context is open, above its start."""

    def __init__(self, process_id: int) -> None:
        self._statm = Path(f"/proc/{process_id}/smaps_rollup")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before_bytes = self._now()
        self.peak_bytes = self.before_bytes

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def extra_mib(self) -> float:
        """The peak above the start."""
        return (self.peak_bytes - self.before_bytes) / MIB

    def _now(self) -> int:
        """Memory that is the process's own: pages of mapped files may go at any time."""
        for line in self._statm.read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no Anonymous in smaps_rollup")

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self.peak_bytes = max(self.peak_bytes, self._now())


Script = Callable[[Attempt], Awaitable[None]]


class Raw:
    """A daemon and a deployment whose one handler is played by scripts, one for each attempt."""

    def __init__(self, directory: Path, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self._deployment = Scripted(MANIFEST, self._play)
        self.daemon = RealDaemon(directory)
        answer = httpx.post(f"{self.daemon.admin}/deployments", json={"uri": self._deployment.uri})
        answer.raise_for_status()

    def __enter__(self) -> "Raw":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.daemon.close()
        self._deployment.__exit__(kind, error, traceback)
        assert self._deployment.failures == []

    def call(self, body: bytes, how: str = "") -> httpx.Response:
        """Call the handler; `how` may be `/send`."""
        url = f"{self.daemon.ingress}/Raw/key/play{how}"
        json = {"content-type": "application/json"}
        return httpx.post(url, content=body, headers=json, timeout=120).raise_for_status()

    def count(self, status: str) -> int:
        """How many invocations have it."""
        query = f"SELECT count(*) AS n FROM sys_invocation WHERE status = '{status}'"
        json = {"accept": "application/json"}
        url = f"{self.daemon.admin}/query"
        answer = httpx.post(url, json={"query": query}, headers=json, timeout=60)
        return int(answer.raise_for_status().json()["rows"][0]["n"])

    def memory(self) -> Memory:
        """To be entered: watches the daemon."""
        return Memory(self.daemon.child.pid)

    async def _play(self, attempt: Attempt) -> None:
        await self._scripts.pop(0)(attempt)


async def replayed(attempt: Attempt) -> tuple[int, int]:
    """Take the whole replay: how many entries, how many bytes."""
    start = await attempt.next()
    assert isinstance(start, Frame)
    known = pb.StartMessage.FromString(start.body).known_entries
    size = 0
    for _ in range(known):
        entry = await attempt.next()
        assert isinstance(entry, Frame)
        size += len(entry.body)
    attempt.received.clear()
    return known, size


def output(value: bytes) -> bytes:
    """Output and End."""
    body = pb.OutputCommandMessage(value=pb.Value(content=value)).SerializeToString()
    return frame(messages.OUTPUT_COMMAND, body) + frame(messages.END, b"")


def error(retry_after_ms: int = 1) -> bytes:
    """The attempt fails and is tried again, at once unless told otherwise."""
    body = pb.ErrorMessage(
        code=500, message="again", next_retry_delay=retry_after_ms
    ).SerializeToString()
    return frame(messages.ERROR, body)


async def answer(attempt: Attempt, octets: bytes) -> None:
    """Head, body, end."""
    await attempt.respond(ANSWER)
    await attempt.pour(octets)
    await attempt.finish()


async def end(attempt: Attempt) -> None:
    """Take the replay, end."""
    SEEN.append(await replayed(attempt))
    await answer(attempt, output(b"done"))


def test_journal_of_100_000_entries_is_replayed_as_a_stream(short_path: Path) -> None:
    """G13, M3: written by one attempt, replayed to the next, in less than 64 MiB."""

    async def write(attempt: Attempt) -> None:
        await replayed(attempt)
        body = pb.SetStateCommandMessage(key=b"name", value=pb.Value(content=b"value"))
        octets = frame(messages.SET_STATE_COMMAND, body.SerializeToString())
        await answer(attempt, octets * ENTRIES + error())

    with Raw(short_path, write, end) as raw:
        with raw.memory() as memory:
            assert raw.call(b"1").content == b"done"
        assert SEEN.pop()[0] == ENTRIES + 1
        print(f"{ENTRIES} entries: {memory.extra_mib:.0f} MiB")
        assert memory.extra_mib < 64


def test_input_of_32_mib_is_held_twice_at_most(short_path: Path) -> None:
    """G13, M3: as it was received, and as the entry of the journal."""
    with Raw(short_path, end) as raw:
        with raw.memory() as memory:
            assert raw.call(bytes(PAYLOAD_BYTES)).content == b"done"
        assert SEEN.pop()[1] > PAYLOAD_BYTES
        print(f"input: {memory.extra_mib:.0f} MiB")
        assert memory.extra_mib < TWICE_MIB


def test_result_of_a_step_of_32_mib_is_held_twice_at_most(short_path: Path) -> None:
    """G13, M3: received, stored, replayed to the next attempt."""

    async def step(attempt: Attempt) -> None:
        await replayed(attempt)
        run = pb.RunCommandMessage(result_completion_id=1).SerializeToString()
        proposal = pb.ProposeRunCompletionMessage(
            result_completion_id=1, value=bytes(PAYLOAD_BYTES)
        ).SerializeToString()
        await attempt.respond(ANSWER)
        await attempt.pour(
            frame(messages.RUN_COMMAND, run) + frame(messages.PROPOSE_RUN_COMPLETION, proposal)
        )
        await attempt.next()  # the completion: it is stored
        await attempt.pour(error())
        await attempt.finish()

    with Raw(short_path, step, end) as raw:
        with raw.memory() as memory:
            assert raw.call(b"1").content == b"done"
        assert SEEN.pop()[1] > PAYLOAD_BYTES
        print(f"step: {memory.extra_mib:.0f} MiB")
        assert memory.extra_mib < TWICE_MIB


def test_entry_of_32_mib_is_held_once_while_it_is_replayed(short_path: Path) -> None:
    """G13, M3: read in place, sent uncopied."""

    async def fail(attempt: Attempt) -> None:
        await replayed(attempt)
        await answer(attempt, error(retry_after_ms=1_000))

    with Raw(short_path, fail, end) as raw:
        raw.call(bytes(PAYLOAD_BYTES), "/send")
        eventually(lambda: raw.count("backing-off") == 1, 60)
        with raw.memory() as memory:
            eventually(lambda: raw.count("completed") == 1, 60)
        assert SEEN.pop()[1] > PAYLOAD_BYTES
        print(f"replay: {memory.extra_mib:.0f} MiB")
        assert memory.extra_mib < ONCE_MIB


def test_output_of_32_mib_is_held_twice_at_most(short_path: Path) -> None:
    """G13, M3: at the end as the entry, and as the result."""

    async def give(attempt: Attempt) -> None:
        await replayed(attempt)
        await answer(attempt, output(bytes(PAYLOAD_BYTES)))

    with Raw(short_path, give) as raw:
        with raw.memory() as memory:
            assert raw.call(b"1").content == bytes(PAYLOAD_BYTES)
        print(f"output: {memory.extra_mib:.0f} MiB")
        assert memory.extra_mib < TWICE_MIB


def test_more_large_outputs_than_the_pool_holds_all_complete(short_path: Path) -> None:
    """G14, M1: 512 MiB at once; beside the pool, one of them is being stored."""

    async def give(attempt: Attempt) -> None:
        await replayed(attempt)
        await answer(attempt, output(bytes(PAYLOAD_BYTES)))

    with Raw(short_path, *[give] * (6 * OUTPUTS)) as raw:
        with raw.memory() as memory:
            for index in range(OUTPUTS):
                url = f"{raw.daemon.ingress}/Raw/key-{index}/play/send"
                httpx.post(url, headers={"idempotency-key": "one"}).raise_for_status()
            eventually(lambda: raw.count("completed") == OUTPUTS, 120)
        print(f"{OUTPUTS} outputs: {memory.extra_mib:.0f} MiB")
        assert memory.extra_mib < POOL_MIB + TWICE_MIB
