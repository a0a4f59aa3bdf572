"""Objects, workflows, awakeables (scenarios F50 to F57)."""

import pytest

from tests.real.scenarios.world import World
from tests.real.waiting import eventually

pytestmark = pytest.mark.real


def test_f50_strict_order_per_key(world: World) -> None:
    for number in range(20):
        world.sent("Obj/f50/order", number)
    assert world.call("Obj/f50/order", 99).json() == [*range(20), 99]


def test_f51_state_survives_a_terminal_failure(world: World) -> None:
    assert world.call("Obj/f51/setfail", {"v": 7}).status_code == 409
    assert world.call("Obj/f51/get", "a").json() == 7


def test_f52_clear_and_keys(world: World) -> None:
    assert world.call("Obj/f52/put", {"a": 1, "b": "two"}).status_code == 200
    query = "SELECT key, value_utf8 FROM state WHERE service_key = 'f52' ORDER BY key"
    assert world.rows(query) == [
        {"key": "a", "value_utf8": "1"},
        {"key": "b", "value_utf8": '"two"'},
    ]
    assert world.call("Obj/f52/wipe").json() == []
    assert world.rows(query) == []


def test_f54_workflow_once(world: World) -> None:
    first = world.send("Wf/f54/run", "in").json()
    second = world.send("Wf/f54/run", "in").json()
    assert first["status"] == "Accepted"
    assert second == {"invocationId": first["invocationId"], "status": "PreviouslyAccepted"}
    assert world.call("Wf/f54/signal", "go").status_code == 200
    assert world.attach(first["invocationId"]).json() == {"in": "in", "p": "go"}
    late = world.call("Wf/f54/run", "in")
    assert (late.status_code, late.headers["x-restate-id"]) == (409, first["invocationId"])
    assert late.json()["message"] == "the workflow method was already invoked"
    assert world.call("Wf/f54-key/run", "in", key="f54").status_code == 400


def resolve(world: World, awakeable: str, value: object) -> int:
    path = f"/restate/awakeables/{awakeable}/resolve"
    return world.request("POST", path, json=value).status_code


def test_f57_the_first_resolution_wins(world: World) -> None:
    invocation_id = world.sent("Svc/awk2", {"id": "f57", "ms": 500})
    awakeable = world.until_noted("awakeable", "f57")
    assert [resolve(world, awakeable, value) for value in ("first", "second")] == [202, 202]
    assert world.attach(invocation_id).json() == "first"
    assert resolve(world, awakeable, "late") == 202
    assert world.attach(invocation_id).json() == "first"


def test_f57_resolution_while_awaited(world: World) -> None:
    invocation_id = world.sent("Svc/awk", {"id": "f57-awaited"})
    awakeable = world.until_noted("awakeable", "f57-awaited")
    eventually(lambda: world.invocation(invocation_id)["journal_size"] >= 3)
    assert resolve(world, awakeable, {"a": 1}) == 202
    assert world.attach(invocation_id).json() == {"a": 1}


def test_f57_rejection(world: World) -> None:
    invocation_id = world.sent("Svc/awk", {"id": "f57-reject"})
    awakeable = world.until_noted("awakeable", "f57-reject")
    path = f"/restate/awakeables/{awakeable}/reject"
    assert world.request("POST", path, content="not today").status_code == 202
    failed = world.attach(invocation_id)
    assert (failed.status_code, failed.json()["message"]) == (500, "not today")


def test_f57_resolution_with_an_empty_body(world: World) -> None:
    invocation_id = world.sent("Svc/awk", {"id": "f57-empty"})
    awakeable = world.until_noted("awakeable", "f57-empty")
    path = f"/restate/awakeables/{awakeable}/resolve"
    assert world.request("POST", path).status_code == 202
    answer = world.attach(invocation_id)
    assert (answer.status_code, answer.content) == (200, b"")
