"""Life cycle and operators: cancel, kill, pause, retries, suspension (scenarios F25 to F44)."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx
import pytest

from tests.real.scenarios.world import World
from tests.real.waiting import eventually

pytestmark = pytest.mark.real
UNKNOWN_ID = "inv_17kO36pqgIap1lRk3drS3686P9YOctX71W"


def test_f25_cancel_with_compensation(world: World) -> None:
    invocation_id = world.sent("Svc/comp", {"id": "f25", "ms": 60_000})
    world.until_noted("sleeping", "f25")
    assert world.operate(invocation_id, "cancel").status_code == 202
    failed = world.attach(invocation_id)
    assert (failed.status_code, failed.json()["message"]) == (409, "cancelled")
    assert len(world.notes.of("undo", "f25")) == 1
    assert world.invocation(invocation_id)["completion_failure"] == "[409] cancelled"
    again = [world.operate(invocation_id, verb) for verb in ("cancel", "kill")]
    assert [answer.status_code for answer in again] == [409, 409]
    text = f"The invocation '{invocation_id}' was already completed."
    assert [answer.json()["message"] for answer in again] == [text, text]


def test_f26_kill(world: World) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(world.call, "Svc/comp", {"id": "f26", "ms": 60_000}, key="f26")
        world.until_noted("sleeping", "f26")
        invocation_id = world.send("Svc/comp", {"id": "f26", "ms": 1}, key="f26").json()[
            "invocationId"
        ]
        begun = time.monotonic()
        assert world.operate(invocation_id, "kill").status_code == 200
        told = waiting.result()
        assert time.monotonic() - begun < 1
    attached = world.attach(invocation_id)
    assert [answer.status_code for answer in (told, attached)] == [409, 409]
    assert [answer.json()["message"] for answer in (told, attached)] == ["killed", "killed"]
    assert world.notes.of("undo", "f26") == []


def test_f27_wrong_ids(world: World) -> None:
    assert world.operate(UNKNOWN_ID, "cancel").status_code == 404
    malformed = world.operate("xyz", "kill")
    assert malformed.status_code == 400
    assert "'invocation_id' is invalid" in malformed.json()["message"]
    done = world.call("Svc/void").headers["x-restate-id"]
    assert world.admin("DELETE", f"/invocations/{done}?mode=kill").status_code == 202
    assert world.invocation(done)["completion_result"] == "success"


def test_f29_inbox_order_and_kill_in_the_middle(world: World) -> None:
    ids = [
        world.sent("Obj/f29/slow", {"id": name, "ms": ms})
        for name, ms in (("A", 1_500), ("B", 10), ("C", 10))
    ]
    world.until_status(ids[0], "running")
    assert world.until_noted("slow", "f29") == "A"
    statuses = [world.invocation(one)["status"] for one in ids]
    assert statuses == ["running", "pending", "pending"]
    begun = time.monotonic()
    assert world.call("Obj/f29/peek", "last").status_code == 200
    assert time.monotonic() - begun < 0.5
    assert world.operate(ids[1], "kill").status_code == 200
    assert world.attach(ids[1]).status_code == 404
    assert world.attach(ids[2]).json() == "C"
    assert [note.text for note in world.notes.of("slow", "f29")] == ["A", "C"]
    assert world.attach(ids[0]).json() == "A"


def test_f30_killing_a_parent_frees_the_tree_and_the_key(world: World) -> None:
    parent = world.sent("Svc/parent", {"id": "f30", "key": "f30", "ms": 60_000})
    world.until_noted("slow", "f30")
    child = world.rows("SELECT id FROM sys_invocation WHERE target = 'Obj/f30/slow'")[0]["id"]
    assert world.operate(parent, "kill").status_code == 200
    begun = time.monotonic()
    assert world.call("Obj/f30/get", "last").status_code == 200
    assert time.monotonic() - begun < 0.1
    row = eventually(
        lambda: one if (one := world.invocation(child))["status"] == "completed" else None, 0.5
    )
    assert row["completion_failure"] == "[409] killed"


def test_f33_pause_and_resume(world: World) -> None:
    invocation_id = world.sent("Svc/flaky", {"id": "f33", "fail": 1_000})
    eventually(lambda: len(world.notes.of("attempt", "f33")) == 2)
    assert world.operate(invocation_id, "pause").status_code == 202
    world.until_status(invocation_id, "paused")
    assert world.operate(invocation_id, "pause").status_code == 200
    resumed = [world.operate(invocation_id, "resume") for _ in range(2)]
    assert [answer.status_code for answer in resumed] == [200, 200]
    elsewhere = world.operate(invocation_id, "resume?deployment=latest")
    assert elsewhere.status_code == 409
    assert "still running or the deployment id is not pinned" in elsewhere.json()["message"]
    assert eventually(lambda: len(world.notes.of("attempt", "f33")) >= 3)
    assert world.operate(invocation_id, "kill").status_code == 200
    world.until_status(invocation_id, "completed")
    assert world.operate(invocation_id, "resume").status_code == 409


def test_f37_retries(world: World) -> None:
    answer = world.call("Svc/flaky", {"id": "f37", "fail": 2})
    assert answer.json() == 3
    events = events_of(world, answer)
    assert [event["event_type"] for event in events] == ["TransientError"] * 2
    for event in events:
        assert '"error_code":500' in event["event_json"].replace(" ", "")
        assert '"error_message":' in event["event_json"].replace(" ", "")
    starts = [note.at_s for note in world.notes.of("attempt", "f37")]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert 0.5 <= gaps[0] <= 0.75
    assert 1.0 <= gaps[1] <= 1.45


def events_of(world: World, answer: httpx.Response) -> list[dict[str, str]]:
    """The journal events of the invocation that this answer is of, oldest first."""
    invocation_id = answer.headers["x-restate-id"]
    return world.rows(
        "SELECT event_type, event_json FROM sys_journal_events "
        f"WHERE id = '{invocation_id}' ORDER BY appended_at"
    )


def test_f39_max_attempts(world: World) -> None:
    paused = world.sent("X/pmax", {"id": "f39-p"})
    world.until_status(paused, "paused")
    assert len(world.notes.of("attempt", "f39-p")) == 2
    killed = world.sent("X/kmax", {"id": "f39-k"})
    answer = world.attach(killed)
    assert answer.status_code == 500
    assert "kmax attempt 2 fails" in answer.json()["message"]
    row = world.until_status(killed, "completed")
    assert row["completion_failure"].startswith("[500] ")
    assert "kmax attempt 2 fails" in row["completion_failure"]
    assert len(world.notes.of("attempt", "f39-k")) == 2
    assert world.operate(paused, "kill").status_code == 200


def test_f43_random_is_stable(world: World) -> None:
    answer = world.call("Svc/rnd", {"id": "f43"})
    drawn = [note.text for note in world.notes.of("uuid", "f43")]
    assert drawn == [answer.json()] * 2


def test_f44_suspension(world: World) -> None:
    begun = time.monotonic()
    answer = world.call("Svc/susp", {"id": "f44", "ms": 1_500})
    took = time.monotonic() - begun
    assert answer.json() == 2
    assert 1.5 <= took <= 1.8
