"""Services of the SDKs that are compiled run unmodified: Go, Rust, Java.

Python and TypeScript are what every other test of this folder and the conformance suite use.
Needs the toolchains and their registries; skipped, with the reason, where there is none.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from tests.invoker.test_identity import KEY_ID, key_file
from tests.real.sdks.built import TOOLCHAINS, shop
from tests.real.stage import Stage
from tests.real.waiting import eventually

pytestmark = pytest.mark.sdks
PRIVATE_KEY: Final = "RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE"


@pytest.fixture(scope="module", params=sorted(TOOLCHAINS))
def language(request: pytest.FixtureRequest) -> str:
    """The SDK."""
    return str(request.param)


@pytest.fixture(scope="module")
def stage(language: str) -> Iterator[Stage]:
    """A daemon and the shop of that SDK."""
    program = shop(language)
    with tempfile.TemporaryDirectory(prefix="rd-") as path, Stage(Path(path), program) as one:
        yield one


def answer(stage: Stage, path: str, *body: object, key: str | None = None) -> Any:
    """The JSON of a call that succeeds; None for an empty answer."""
    got = stage.call(path, *body, key=key)
    assert got.status_code == 200, got.text
    return got.json() if got.content else None


def total(stage: Stage, key: str) -> int:
    """The counter of that key."""
    return int(answer(stage, f"Counter/{key}/get"))


def in_background(call: Callable[[], object]) -> list[object]:
    """Start a call; the list gets its answer."""
    answers: list[object] = []
    threading.Thread(target=lambda: answers.append(call()), daemon=True).start()
    return answers


def test_plain_calls(stage: Stage) -> None:
    assert answer(stage, "Desk/echo", "hé") == "hé"
    assert answer(stage, "Desk/steps", 10) == 55
    assert answer(stage, "Desk/nap", 50) == "woke"
    assert answer(stage, "Desk/random") == "same"


def test_a_terminal_error_is_the_callers(stage: Stage) -> None:
    refused = stage.call("Desk/refuse", 418)
    assert refused.status_code == 418
    assert refused.json()["message"] == "refused"
    assert refused.json()["source"] == "invocation"


def test_a_step_and_a_handler_are_retried(stage: Stage) -> None:
    assert answer(stage, "Desk/flaky", "a") == 3
    assert answer(stage, "Desk/failing", "b") == 3
    assert answer(stage, "Desk/giveup", 3) == "gave up"


def test_calls_between_handlers(stage: Stage) -> None:
    assert answer(stage, "Desk/relay", "hi") == "hi!"
    assert answer(stage, "Desk/fanout", 20) == 20
    assert answer(stage, "Desk/fanout", 20) == 40
    answer(stage, "Desk/tell", {"key": "told", "delayMs": 100})
    eventually(lambda: total(stage, "told") == 1)


def test_an_idempotency_key_is_kept(stage: Stage) -> None:
    assert answer(stage, "Counter/keyed/add", 1, key="one") == 1
    assert answer(stage, "Counter/keyed/add", 1, key="one") == 1
    assert answer(stage, "Desk/keyed", {"key": "keyed", "id": "two"}) == 2
    assert answer(stage, "Desk/keyed", {"key": "keyed", "id": "two"}) == 2


def test_state_of_an_object(stage: Stage) -> None:
    assert [answer(stage, "Counter/s/add", 2) for _ in range(3)] == [2, 4, 6]
    assert answer(stage, "Counter/s/keys") == ["n"]
    answer(stage, "Counter/s/clear")
    assert (answer(stage, "Counter/s/keys"), total(stage, "s")) == ([], 0)


def test_an_exclusive_handler_holds_its_key(stage: Stage) -> None:
    stage.sent("Counter/h/hold", 500)
    eventually(
        lambda: stage.rows(
            "SELECT invocation_id FROM sys_keyed_service_status WHERE service_key = 'h'"
        )
    )
    begun = time.monotonic()
    assert total(stage, "h") == 0
    assert time.monotonic() - begun < 0.4
    assert answer(stage, "Counter/h/add", 1) == 1
    assert time.monotonic() - begun > 0.3


@pytest.mark.parametrize("place", ["client", "handler"])
def test_an_awakeable_is_resolved(stage: Stage, place: str) -> None:
    key = f"ticket-{place}"
    waiting = in_background(lambda: answer(stage, "Desk/ticket", key))
    name = eventually(lambda: answer(stage, f"Board/{key}/read"))
    if place == "client":
        assert stage.call(f"restate/awakeables/{name}/resolve", "seat 7").is_success
    else:
        answer(stage, "Desk/settle", {"id": name, "value": "seat 7"})
    assert eventually(lambda: waiting) == ["seat 7"]


def test_an_awakeable_is_rejected(stage: Stage) -> None:
    waiting = in_background(lambda: stage.call("Desk/ticket", "spurned").text)
    name = eventually(lambda: answer(stage, "Board/spurned/read"))
    answer(stage, "Desk/spurn", {"id": name, "reason": "sold out"})
    assert "sold out" in str(eventually(lambda: waiting)[0])


def test_the_first_of_two_wins(stage: Stage) -> None:
    assert answer(stage, "Desk/race", 50) == "nap"


def test_cancel_goes_down_and_is_compensated(stage: Stage) -> None:
    one = stage.sent("Desk/caller", "undone")
    eventually(
        lambda: stage.rows(
            "SELECT 1 FROM sys_journal j JOIN sys_invocation i ON i.id = j.id"
            " WHERE i.target_handler_name = 'guarded' AND j.entry_type = 'Command: Sleep'"
        )
    )
    assert stage.operate(one, "cancel").is_success
    assert stage.attach(one).status_code == 409
    eventually(lambda: total(stage, "undone") == 1)


def test_a_workflow_runs_once(stage: Stage) -> None:
    first = stage.sent("Signup/ann/run", "Ann")
    eventually(lambda: answer(stage, "Signup/ann/status") == "waiting")
    assert answer(stage, "Signup/ann/peek") == ""
    answer(stage, "Signup/ann/approve", "welcome")
    assert stage.attach(first).json() == "Ann welcome"
    assert answer(stage, "Signup/ann/peek") == "welcome"
    assert answer(stage, "Signup/ann/status") == "done"
    again = stage.send("Signup/ann/run", "Ann")
    assert again.json()["status"] == "PreviouslyAccepted"
    second = stage.sent("Signup/bob/run", "Bob")
    answer(stage, "Signup/bob/decline", "no room")
    assert "no room" in stage.attach(second).text


def test_headers_and_bytes(stage: Stage) -> None:
    got = stage.request("POST", "/Desk/headers", headers={"x-shop": "ours"})
    assert got.json() == "ours"
    binary = {"content-type": "application/octet-stream"}
    raw = stage.request("POST", "/Desk/bytes", content=b"\0\xff" * 40_000, headers=binary)
    assert raw.content == b"\0\xff" * 40_000


@pytest.mark.parametrize("timeout", ["0s", "1ms"])
def test_suspending_at_once_changes_no_answer(stage: Stage, timeout: str) -> None:
    """State-machine.md: inactivity timeout 0 and tiny; nothing runs twice."""
    key = f"tiny-{timeout}"
    for service in ("Desk", "Counter", "Signup"):
        set_ = stage.admin("PATCH", f"/services/{service}", {"inactivity_timeout": timeout})
        assert set_.is_success, set_.text
    try:
        assert answer(stage, "Desk/steps", 10) == 55
        assert answer(stage, "Desk/nap", 30) == "woke"
        assert answer(stage, "Desk/relay", "x") == "x!"
        assert answer(stage, "Desk/race", 20) == "nap"
        assert [answer(stage, f"Counter/{key}/add", 1) for _ in range(3)] == [1, 2, 3]
        one = stage.sent(f"Signup/{key}/run", "Cy")
        answer(stage, f"Signup/{key}/approve", "in")
        assert stage.attach(one).json() == "Cy in"
        waiting = in_background(lambda: answer(stage, "Desk/ticket", key))
        name = eventually(lambda: answer(stage, f"Board/{key}/read"))
        answer(stage, "Desk/settle", {"id": name, "value": "v"})
        assert eventually(lambda: waiting) == ["v"]
    finally:
        for service in ("Desk", "Counter", "Signup"):
            stage.admin("PATCH", f"/services/{service}", {"inactivity_timeout": "1m"})


def test_two_hundred_at_once(stage: Stage) -> None:
    calls = [
        ("Desk/steps", 5, 15), ("Desk/nap", 100, "woke"), ("Desk/relay", "r", "r!"),
        ("Counter/many/add", 1, None),
    ] * 50  # fmt: skip
    with ThreadPoolExecutor(50) as pool:
        got = list(pool.map(lambda one: (answer(stage, one[0], one[1]), one[2]), calls))
    assert [a for a, wanted in got if wanted is not None and a != wanted] == []
    assert total(stage, "many") == 50


def test_nothing_is_lost_when_service_and_server_are_killed(stage: Stage) -> None:
    """A1: each invocation that was accepted completes, its effects happen once."""
    sent = [stage.sent("Desk/nap", 1_500) for _ in range(20)]
    sent += [stage.sent("Desk/fanout", 3) for _ in range(5)]
    sent += [stage.sent("Counter/kept/add", 1) for _ in range(20)]
    stage.services.kill()
    stage.restart_daemon()
    stage.services.start()
    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(lambda one: stage.attach(one).status_code, sent))
    assert statuses == [200] * len(sent)
    assert total(stage, "kept") == 20


def test_request_identity_is_checked_by_the_sdk(stage: Stage, language: str) -> None:
    """service-protocol.md 2.3: the SDK takes what we sign, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="rd-") as path:
        key = {PRIVATE_KEY: str(key_file(Path(path)))}
        with Stage(Path(path), shop(language, {"IDENTITY_KEY": KEY_ID}), key) as signing:
            assert answer(signing, "Desk/echo", "signed") == "signed"
            assert answer(signing, "Counter/k 1/add", 1) == 1
            unsigned = stage.register(signing.services.uri)
            assert unsigned.json()["restate_code"] == "META0003"
            assert "401" in unsigned.json()["message"]
