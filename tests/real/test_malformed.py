"""Messages that no SDK sends: the attempt fails, nothing else does, not even after a restart."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from google.protobuf.message import Message as Body

from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import MESSAGE_BYTES_MAX, frame
from tests.daemon.running import RealDaemon
from tests.real.scripted import END_STREAM, RST_STREAM, Attempt, Scripted
from tests.real.waiting import eventually

pytestmark = pytest.mark.real

TEXT = {"content-type": "text/plain"}
NOT_TEXT = b"\xff\xfe"
VALUE = pb.Value(content=b"1")
KINDS = {"Plain": "SERVICE", "Object": "VIRTUAL_OBJECT", "Flow": "WORKFLOW"}
RETRY_MS = 1_000  # of an attempt that failed: rows that poison would poison again and again
MANIFEST: dict[str, Any] = {
    "protocolMode": "BIDI_STREAM",
    "minProtocolVersion": 5,
    "maxProtocolVersion": 6,
    "services": [
        {
            "name": name,
            "ty": kind,
            "retryPolicyInitialInterval": RETRY_MS,
            "retryPolicyExponentiationFactor": 1,
            "handlers": [{"name": "play", **({"ty": kind} if kind == "WORKFLOW" else {})}],
        }
        for name, kind in KINDS.items()
    ],
}


class Case(NamedTuple):
    """What the deployment sends, the code that the attempt fails with, a part of the text."""

    octets: bytes
    words: str = "malformed"
    code: str = "RT0012"
    service: str = "Plain"


def sent(type_code: int, body: Body | None = None) -> bytes:
    return frame(type_code, b"" if body is None else body.SerializeToString())


def run(completion_id: int) -> bytes:
    return sent(messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=completion_id))


def proposal(completion_id: int, value: bytes | None = b"1") -> bytes:
    body = pb.ProposeRunCompletionMessage(result_completion_id=completion_id)
    if value is not None:
        body.value = value
    return sent(messages.PROPOSE_RUN_COMPLETION, body)


def sleep(completion_id: int) -> bytes:
    body = pb.SleepCommandMessage(
        wake_up_time=4_000_000_000_000, result_completion_id=completion_id
    )
    return sent(messages.SLEEP_COMMAND, body)


END = sent(messages.END)
GOOD = sent(messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=VALUE)) + END

# state-machine.md 10, in its order, and its kin.
TERMINAL = {
    "end first": Case(END, "End without an OutputCommand"),
    "end without output": Case(run(1) + proposal(1) + END, "End without an OutputCommand"),
    "suspension on nothing": Case(sent(messages.SUSPENSION), "it awaits nothing"),
    "suspension on an unknown id": Case(
        sent(messages.SUSPENSION, pb.SuspensionMessage(waiting_completions=[7])), "7"
    ),
}
RUNS = {
    "proposal without run": Case(proposal(5), "not an open run"),
    "proposal for a sleep": Case(sleep(5) + proposal(5), "not an open run"),
    "second proposal": Case(run(1) + proposal(1) + proposal(1), "not an open run"),
    "completion id used twice": Case(run(1) + sleep(1), "used by an earlier command"),
    "proposal without result": Case(run(1) + proposal(1, None), "missing result"),
}
STATE_KEYS = {
    "set a key that is no text": Case(
        sent(
            messages.SET_STATE_COMMAND, pb.SetStateCommandMessage(key=NOT_TEXT, value=VALUE)
        ), service="Object",
    ),
    "get a key that is no text": Case(
        sent(
            messages.GET_LAZY_STATE_COMMAND,
            pb.GetLazyStateCommandMessage(key=NOT_TEXT, result_completion_id=1),
        ), service="Object",
    ),
    "clear a key that is no text": Case(
        sent(messages.CLEAR_STATE_COMMAND, pb.ClearStateCommandMessage(key=NOT_TEXT)),
        service="Object",
    ),
    "got a key that is no text": Case(
        sent(
            messages.GET_EAGER_STATE_COMMAND,
            pb.GetEagerStateCommandMessage(key=NOT_TEXT, void=pb.Void()),
        ), service="Object",
    ),
}  # fmt: skip
INCOMPLETE = {
    "output without result": Case(sent(messages.OUTPUT_COMMAND), "missing result"),
    "eager state without result": Case(
        sent(messages.GET_EAGER_STATE_COMMAND, pb.GetEagerStateCommandMessage(key=b"k")),
        "missing result", service="Object",
    ),
    "set without value": Case(
        sent(messages.SET_STATE_COMMAND, pb.SetStateCommandMessage(key=b"k")),
        "missing value", service="Object",
    ),
    "promise without completion": Case(
        sent(
            messages.COMPLETE_PROMISE_COMMAND,
            pb.CompletePromiseCommandMessage(key="p", result_completion_id=1),
        ),
        "missing completion", service="Flow",
    ),
    "attach without target": Case(sent(messages.ATTACH_INVOCATION_COMMAND), "missing target"),
    "output of no target": Case(sent(messages.GET_INVOCATION_OUTPUT_COMMAND), "missing target"),
    "signal without name": Case(
        sent(messages.SEND_SIGNAL_COMMAND, pb.SendSignalCommandMessage(void=pb.Void())),
        "missing signal_id",
    ),
    "signal without result": Case(
        sent(messages.SEND_SIGNAL_COMMAND, pb.SendSignalCommandMessage(name="s")), "missing result"
    ),
    "signal to nobody": Case(
        sent(
            messages.SEND_SIGNAL_COMMAND,
            pb.SendSignalCommandMessage(target_invocation_id="x", name="s", void=pb.Void()),
        ),
        "target_invocation_id",
    ),
    "awakeable without result": Case(
        sent(messages.COMPLETE_AWAKEABLE_COMMAND), "missing result"
    ),
    "input without value": Case(sent(messages.INPUT_COMMAND), "unexpected message"),
    "input": Case(
        sent(messages.INPUT_COMMAND, pb.InputCommandMessage(value=VALUE)), "unexpected message"
    ),
}  # fmt: skip
SERVERS_OWN = {
    f"{messages.BY_CODE[code].full_name} of the service": Case(frame(code, b""), "unexpected")
    for code in (
        messages.START,
        messages.COMMAND_ACK,
        messages.RUN_COMPLETION,
        messages.SIGNAL_NOTIFICATION,
    )
}
UNDEFINED_CODES = {
    "core": (0x0008, 0x03FF),
    "command": (0x040F, 0x0415, 0x07FF),
    "neither": (0x0800, 0x7FFF, 0xC000),
    "completion": (0x8000, 0x800F, 0xBFFF),
    "signal": (0xFBFE,),
    "custom": (0xFC00, 0xFFFF),
}
UNDEFINED = {
    f"undefined {kind} {code:#06x}": Case(frame(code, b"\x08\x01"), f"{code:#x}")
    for kind, codes in UNDEFINED_CODES.items()
    for code in codes
}
STREAMS = {
    "not protobuf": Case(frame(messages.SLEEP_COMMAND, b"\xff" * 9)),
    "larger than allowed": Case(
        frame(messages.OUTPUT_COMMAND, b"")[:4] + MESSAGE_BYTES_MAX.to_bytes(4, "big"),
        "size limit", "RT0003",
    ),
    "state in a plain service": Case(
        sent(messages.SET_STATE_COMMAND, pb.SetStateCommandMessage(key=b"k", value=VALUE)),
        "doesn't have state access", "RT0017",
    ),
    "call of nobody": Case(
        sent(
            messages.CALL_COMMAND,
            pb.CallCommandMessage(
                service_name="Nope", handler_name="x", invocation_id_notification_idx=1,
                result_completion_id=2,
            ),
        ),
        "Nope/x was not found", "RT0018",
    ),
}  # fmt: skip
CASES = {
    **TERMINAL,
    **RUNS,
    **STATE_KEYS,
    **INCOMPLETE,
    **SERVERS_OWN,
    **UNDEFINED,
    **STREAMS,
}


class Misbehaving(Scripted):
    """Sends the case that the input names, well-behaved otherwise; counts the attempts."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        super().__init__(MANIFEST, self.misbehave)

    async def misbehave(self, attempt: Attempt) -> None:
        start, replayed = await attempt.next(), await attempt.next()
        assert not isinstance(start, str)
        assert not isinstance(replayed, str)
        name = pb.InputCommandMessage.FromString(replayed.body).value.content.decode()
        self.attempts[name] += 1
        version = dict(attempt.headers)["content-type"]
        await attempt.respond([(":status", "200"), ("content-type", version)])
        # A retry replays what was stored of the attempts before: those were no violation.
        await attempt.write(CASES[name].octets if name in CASES else GOOD)
        while await attempt.next() not in {END_STREAM, RST_STREAM}:
            pass
        await attempt.finish()


def send(daemon: RealDaemon, name: str) -> str:
    """Have a case played; the invocation's id."""
    service = CASES[name].service
    key = "" if service == "Plain" else f"/{name.replace(' ', '_')}"
    uri = f"{daemon.ingress}/{service}{key}/play/send"
    answer = httpx.post(uri, content=name.encode(), headers=TEXT)
    return str(answer.raise_for_status().json()["invocationId"])


def failure_of(daemon: RealDaemon, invocation_id: str) -> tuple[str, str]:
    """Code and text of the last attempt that failed, which SQL shows between two attempts."""
    query = f"""SELECT last_failure_error_code AS code, last_failure AS failure
                FROM sys_invocation WHERE id = '{invocation_id}'"""

    def told() -> tuple[str, str] | None:
        answer = httpx.post(
            f"{daemon.admin}/query", json={"query": query}, headers={"accept": "application/json"}
        )
        (row,) = answer.raise_for_status().json()["rows"]
        return (row["code"], row["failure"]) if row.get("code") else None

    return eventually(told)


def serves(daemon: RealDaemon) -> bool:
    """Whether another call works."""
    answer = httpx.post(f"{daemon.ingress}/Plain/play", content=b"good", headers=TEXT, timeout=10)
    return (answer.status_code, answer.content) == (200, b"1")


@pytest.fixture(scope="module")
def misbehaving() -> Iterator[Misbehaving]:
    deployment = Misbehaving()
    with deployment:
        yield deployment


@pytest.fixture(scope="module")
def daemon(misbehaving: Misbehaving) -> Iterator[RealDaemon]:
    with (
        tempfile.TemporaryDirectory(prefix="rd-") as directory,
        RealDaemon(Path(directory)) as daemon,
    ):
        register(daemon, misbehaving)
        yield daemon
        assert "defect" not in daemon.log()


def register(daemon: RealDaemon, deployment: Scripted) -> None:
    httpx.post(f"{daemon.admin}/deployments", json={"uri": deployment.uri}).raise_for_status()


@pytest.mark.parametrize("name", CASES)
def test_a_malformed_message_fails_its_attempt_and_nothing_else(
    daemon: RealDaemon, misbehaving: Misbehaving, name: str
) -> None:
    """state-machine.md 10; service-protocol.md 3.1, 4.4; B10."""
    case = CASES[name]
    try:
        invocation_id = send(daemon, name)
        code, text = failure_of(daemon, invocation_id)
        assert code == case.code
        assert case.words in text
        assert serves(daemon)
        assert misbehaving.failures == []
    finally:
        print(daemon.log()[-10_000:])


@pytest.mark.slow
def test_a_daemon_that_was_killed_lives_with_all_of_them(
    short_path: Path, misbehaving: Misbehaving
) -> None:
    """state-machine.md 10: the reference cannot start any more after some of these."""
    with RealDaemon(short_path) as before:
        register(before, misbehaving)
        invocations = {name: send(before, name) for name in CASES}
        for invocation_id in invocations.values():
            failure_of(before, invocation_id)
        before.kill()
    misbehaving.attempts.clear()
    with RealDaemon(short_path) as after:
        # Twice each: the second attempt is made by the process that had recovered from the first.
        eventually(lambda: all(misbehaving.attempts[name] >= 2 for name in CASES))
        failures = {name: failure_of(after, invocations[name]) for name in CASES}
        codes = {name: code for name, (code, _) in failures.items()}
        assert codes == {name: case.code for name, case in CASES.items()}
        assert serves(after)
        assert "defect" not in after.log()
    assert misbehaving.failures == []
