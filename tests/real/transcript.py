"""One recorded scenario, played again: the SDK's side by us, the server's side by the server.

Lives here: what was recorded (Scenario), ids and times of then and now (Names), which attempt is
played when (Replay), what the server should have sent.
Does not: HTTP/2 (scripted.py), the steps of clients and operators (test_transcripts.py).
"""

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message as Body

from restated.model import ids
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import HEADER_BYTES, frame
from tests.real.scripted import END_STREAM, RST_STREAM, Attempt, Item

FAR_AWAY_MS = 60_000  # for a time that nobody lived to see in the recording
INVOCATION = re.compile(rb"inv_1[0-9A-Za-z]{33}")
AWAKEABLE = re.compile(rb"sign_1[0-9A-Za-z_-]{38}")
RANDOM_KEY = "<drawn by the server>"

Recorded = dict[str, Any]
Shown = tuple[str, Any]  # what the server sent: name and fields


class Names:
    """What the recording calls something -> what it is called now. Ids keep their length."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.times_ms: dict[int, int] = {}

    def learn(self, recorded: str, ours: str) -> None:
        """They are the same invocation, now and ever."""
        assert self.ids.setdefault(recorded, ours) == ours

    def octets(self, octets: bytes) -> bytes:
        """With every id replaced that is known."""
        octets = INVOCATION.sub(lambda found: self._invocation(found[0]), octets)
        return AWAKEABLE.sub(lambda found: self._awakeable(found[0]), octets)

    def text(self, text: str) -> str:
        """With every id replaced that is known."""
        return self.octets(text.encode()).decode()

    def _invocation(self, recorded: bytes) -> bytes:
        return self.ids.get(recorded.decode(), recorded.decode()).encode()

    def _awakeable(self, recorded: bytes) -> bytes:
        then = ids.parse_awakeable_id(recorded.decode())
        now = self.ids.get(then.invocation_id, then.invocation_id)
        return ids.awakeable_id(now, then.index).encode()


class RecordedAttempt:
    """One attempt of a scenario, and what became of it."""

    def __init__(self, recorded: Recorded) -> None:
        self.path: str = recorded["request"]["path"]
        self.request_headers = [(name, value) for name, value in recorded["request"]["headers"]]
        self.response_headers = [(name, value) for name, value in recorded["response_headers"]]
        self.invocation_id: str = dict(self.request_headers)["x-restate-invocation-id"]
        self.started_at_ms: int = recorded["started_at_ms"]
        self.messages: list[Recorded] = recorded["messages"]
        self.played = 0  # messages of it, both directions
        self.attempt: Attempt | None = None

    def at_ms(self, message: Recorded) -> int:
        """When it was, from the start of the scenario."""
        return self.started_at_ms + int(message["t_ms"])

    def is_played_until(self, at_ms: int) -> bool:
        """Whether everything of it that was before that time has happened."""
        return all(self.at_ms(message) >= at_ms for message in self.messages[self.played :])


def is_from_server(message: Recorded) -> bool:
    return bool(message["dir"] == "server->service")


def body_of(message: Recorded, names: Names) -> Body:
    """The message itself, ids replaced."""
    octets = names.octets(bytes.fromhex(message["hex"])[HEADER_BYTES:])
    return messages.BY_CODE[int(message["code"], 16)].body.FromString(octets)


class Replay:
    """Plays a scenario; what the server does wrong is found afterwards, by `differences`."""

    def __init__(self, scenario: Recorded) -> None:
        self.names = Names()
        self.attempts = [RecordedAttempt(recorded) for recorded in scenario["attempts"]]
        self.surplus: list[str] = []  # attempts that were not in the recording
        self.started_at_s = time.monotonic()
        self._recorded_start_ms = self._start_of_recording_ms()
        self._claiming = threading.Lock()

    # -- playing

    async def play(self, attempt: Attempt) -> None:
        """The script of every attempt."""
        recorded = self._claim(attempt)
        if recorded is None:
            stand_in = STAND_INS.get(attempt.path)
            if stand_in is None or any(one.path == attempt.path for one in self.attempts):
                self.surplus.append(attempt.path)
                return
            await stand_in(attempt)
            return
        for message in recorded.messages:
            if is_from_server(message):
                self._learn_from(message, await attempt.next())
            else:
                await self._say(attempt, recorded, message)
            recorded.played += 1

    def _claim(self, attempt: Attempt) -> RecordedAttempt | None:
        """The next recorded attempt of the same invocation, or of one that nobody knows yet."""
        with self._claiming:
            for recorded in self.attempts:
                known = self.names.ids.get(recorded.invocation_id)
                is_free = known is None and attempt.invocation_id not in self.names.ids.values()
                is_it = known == attempt.invocation_id or is_free
                if recorded.attempt is None and recorded.path == attempt.path and is_it:
                    recorded.attempt = attempt
                    self.names.learn(recorded.invocation_id, attempt.invocation_id)
                    return recorded
        return None

    def _learn_from(self, message: Recorded, item: Item) -> None:
        """The id of a call is told by the server before the callee may have been started."""
        if message.get("type") != "CallInvocationIdCompletion" or isinstance(item, str):
            return
        ours = pb.NotificationMessage.FromString(item.body)
        with self._claiming:
            self.names.learn(message["fields"]["invocation_id"], ours.invocation_id)

    async def _say(self, attempt: Attempt, recorded: RecordedAttempt, message: Recorded) -> None:
        match message.get("event"):
            case "response-headers":
                await attempt.respond(recorded.response_headers)
            case "END_STREAM":
                await attempt.finish()
            case None:
                body = body_of(message, self.names)
                self._set_time(body, recorded.at_ms(message))
                asks_ack = message.get("flags") == "0x8000"
                code = int(message["code"], 16)
                octets = frame(code, body.SerializeToString(), requested_ack=asks_ack)
                await attempt.write(octets)
            case other:
                raise AssertionError(other)

    # -- times

    def _set_time(self, body: Body, at_ms: int) -> None:
        if isinstance(body, pb.SleepCommandMessage):
            body.wake_up_time = self._now(body.wake_up_time, at_ms)
        elif isinstance(body, pb.OneWayCallCommandMessage) and body.invoke_time:
            body.invoke_time = self._now(body.invoke_time, at_ms)

    def _now(self, recorded_ms: int, at_ms: int) -> int:
        """As far in our future as it was in theirs."""
        ahead_ms = FAR_AWAY_MS
        if self._recorded_start_ms is not None:
            ahead_ms = recorded_ms - self._recorded_start_ms - at_ms
        return self.names.times_ms.setdefault(recorded_ms, int(time.time() * 1_000) + ahead_ms)

    def _start_of_recording_ms(self) -> int | None:
        """Wall time: nothing is completed before it is due, and the latest is just due."""
        return max(self._due_minus_done(), default=None)

    def _due_minus_done(self) -> Iterator[int]:
        for attempt in self.attempts:
            for message in attempt.messages:
                fields = message.get("fields") or {}
                if message.get("type") == "SleepCommand":
                    done = self._completed_at_ms(attempt, fields["result_completion_id"])
                    yield from (fields["wake_up_time"] - at_ms for at_ms in done)
                elif fields.get("invoke_time"):
                    path = f"/invoke/{fields['service_name']}/{fields['handler_name']}"
                    called = [one for one in self.attempts if one.path == path]
                    yield fields["invoke_time"] - called[0].started_at_ms

    def _completed_at_ms(self, slept: RecordedAttempt, completion_id: int) -> list[int]:
        return [
            attempt.at_ms(message)
            for attempt in self.attempts
            if attempt.invocation_id == slept.invocation_id
            for message in attempt.messages
            if message.get("type") == "SleepCompletion"
            and message["fields"]["completion_id"] == completion_id
        ]

    # -- judging

    def differences(self) -> list[str]:
        """Of each attempt: what the server sent otherwise than in the recording."""
        found = [f"not in the recording: {path}" for path in self.surplus]
        for number, recorded in enumerate(self.attempts):
            where = f"attempt {number}, {recorded.path}"
            if recorded.attempt is None:
                found.append(f"{where}: never made")
                continue
            said = filter(is_from_server, recorded.messages)
            expected = [self._shown(message) for message in said]
            actual = [shown(item) for item in recorded.attempt.received]
            if in_parts(actual) != in_parts(expected):
                found.append(f"{where}:\n  expected {expected}\n  actual   {actual}")
            found += [f"{where}: {problem}" for problem in self._header_problems(recorded)]
        return found

    def _shown(self, message: Recorded) -> Shown:
        if "event" in message:
            return message["event"], None
        body = body_of(message, self.names)
        if isinstance(body, pb.StartMessage):
            body.id = ids.raw_invocation_id(body.debug_id)
            body.random_seed = ids.unsigned64(ids.random_seed_for(body.debug_id))
        elif isinstance(body, pb.SleepCommandMessage):
            body.wake_up_time = self.names.times_ms[body.wake_up_time]
        return as_shown(message["type"], body)

    def _header_problems(self, recorded: RecordedAttempt) -> Iterator[str]:
        assert recorded.attempt is not None
        expected = [(name, self.names.text(value)) for name, value in recorded.request_headers]
        for (name, value), (ours, our_value) in zip(
            expected, recorded.attempt.headers, strict=True
        ):
            # The signature depends on the second; tests/real/test_identity.py has it checked.
            if name != ours or (value != our_value and name != "x-restate-jwt-v1"):
                yield f"header {ours}: {our_value} instead of {name}: {value}"


def shown(item: Item) -> Shown:
    """What our server sent."""
    if isinstance(item, str):
        return item, None
    row = messages.BY_CODE[item.type]
    return as_shown(row.full_name, row.body.FromString(item.body))


def as_shown(name: str, body: Body) -> Shown:
    if isinstance(body, pb.StartMessage):
        body.duration_since_last_stored_entry = 0
        if body.HasField("idempotency_key"):
            body.idempotency_key = RANDOM_KEY
    return name, MessageToDict(body, preserving_proto_field_name=True)


def in_parts(sent: list[Shown]) -> tuple[list[Shown], list[Shown]]:
    """Notifications, and the rest: each keeps its order, one may move across the other."""
    is_note = [name.endswith(("Completion", "Notification")) for name, _ in sent]
    notes = [one for one, note in zip(sent, is_note, strict=True) if note]
    return notes, [one for one, note in zip(sent, is_note, strict=True) if not note]


# -- attempts that the recording does not show, of invocations that it mentions


async def echo(attempt: Attempt) -> None:
    """PS/echo: greet."""
    await attempt.next()
    item = await attempt.next()
    assert not isinstance(item, str)
    said = pb.InputCommandMessage.FromString(item.body).value.content
    version = dict(attempt.headers)["content-type"]
    await attempt.respond([(":status", "200"), ("content-type", version)])
    output = pb.OutputCommandMessage(value=pb.Value(content=b'"hi ' + said[1:]))
    await attempt.write(frame(messages.OUTPUT_COMMAND, output.SerializeToString()))
    await attempt.write(frame(messages.END, b""))
    assert await attempt.next() == END_STREAM
    await attempt.finish()


async def nap(attempt: Attempt) -> None:
    """PS/nap: sleep until it is killed."""
    version = dict(attempt.headers)["content-type"]
    await attempt.respond([(":status", "200"), ("content-type", version)])
    wake_up_ms = int(time.time() * 1_000) + FAR_AWAY_MS
    sleep = pb.SleepCommandMessage(wake_up_time=wake_up_ms, result_completion_id=1)
    await attempt.write(frame(messages.SLEEP_COMMAND, sleep.SerializeToString()))
    while await attempt.next() != RST_STREAM:
        pass


STAND_INS = {"/invoke/PS/echo": echo, "/invoke/PS/nap": nap}
