"""What the services of the scenarios can do beyond the scenarios' own texts.

Every expectation was checked on the reference server.
"""

from itertools import pairwise

import pytest

from tests.real.scenarios.raw_endpoint import RawEndpoint
from tests.real.scenarios.world import World, services
from tests.real.waiting import eventually

pytestmark = pytest.mark.real


def test_headers_reach_the_handler(world: World) -> None:
    seen = world.request("POST", "/Svc/hdrs?a=1", headers={"x-custom": "7"}).json()
    assert seen["x-custom"] == "7"
    assert seen["x-restate-ingress-path"] == "/Svc/hdrs?a=1"


def test_one_way_calls_have_ids_of_their_own(world: World) -> None:
    ids = world.call("Svc/sender", {"id": "sender", "n": 20}).json()
    assert len(set(ids)) == 20
    assert [world.attach(one).json() for one in ids] == ["sender"] * 20
    assert len(world.notes.of("pub", "sender")) == 20


def test_a_handler_signals_another(world: World) -> None:
    waiting = world.sent("Svc/sig")
    assert world.call("X/ssig", {"inv": waiting, "v": [1]}).status_code == 200
    assert world.attach(waiting).json() == [1]


def test_a_handler_cancels_another(world: World) -> None:
    sleeping = world.sent("Svc/comp", {"id": "canc", "ms": 60_000})
    world.until_noted("sleeping", "canc")
    assert world.call("X/canc", {"inv": sleeping}).status_code == 200
    assert world.attach(sleeping).json()["message"] == "cancelled"
    assert len(world.notes.of("undo", "canc")) == 1


def test_a_handler_attaches_to_another(world: World) -> None:
    sleeping = world.sent("Svc/nap", {"id": "att", "ms": 300})
    assert world.call("X/att", {"inv": sleeping}).json() == "woke"


def test_children_run_side_by_side(world: World) -> None:
    assert world.call("X/fan", {"n": 20, "ms": 200}).json() == ["woke"] * 20


def test_a_retry_waits_as_long_as_the_handler_asks(world: World) -> None:
    assert world.call("X/ra", {"id": "ra"}).json() == 2
    first, second = [note.at_s for note in world.notes.of("attempt", "ra")]
    assert 2 <= second - first <= 2.5


def test_a_step_that_fails_for_good_fails_its_handler(world: World) -> None:
    answer = world.call("X/runfail", {"id": "runfail"})
    assert (answer.status_code, answer.json()["source"]) == (500, "invocation")
    assert "the step fails" in answer.json()["message"]
    assert len(world.notes.of("step", "runfail")) == 3


def test_metadata_of_a_terminal_error_is_answered(world: World) -> None:
    answer = world.call("X/meta")
    assert answer.status_code == 410
    assert answer.json()["metadata"] == {"where": "nowhere"}


def test_a_call_of_an_unknown_service_is_retried(world: World) -> None:
    invocation_id = world.sent("X/unk")
    row = world.until_status(invocation_id, "backing-off")
    assert row["last_failure_error_code"] == "RT0018"
    assert world.operate(invocation_id, "kill").status_code == 200


def test_killing_what_waits_for_its_own_lock_frees_the_key(world: World) -> None:
    stuck = world.sent("Obj/self/selfcall")
    query = "SELECT id, status FROM sys_invocation WHERE target = 'Obj/self/incr'"
    child = eventually(lambda: world.rows(query))[0]
    assert child["status"] == "pending"
    assert world.operate(stuck, "kill").status_code == 200
    assert world.call("Obj/self/incr").json() == 1


def test_a_rejected_promise_fails_the_workflow(world: World) -> None:
    run = world.sent("Wf/refused/run", 1)
    assert eventually(lambda: world.call("Wf/refused/st").content) == b'"waiting"'
    assert world.call("Wf/refused/peekp").content == b""
    assert world.call("Wf/refused/refuse", "not today").status_code == 200
    failed = world.attach(run)
    assert (failed.status_code, failed.json()["message"]) == (500, "not today")
    assert world.call("Wf/refused/peekp").status_code == 500
    again = world.call("Wf/refused/signal", 1)
    assert (again.status_code, again.json()["message"]) == (409, "promise was already completed")


@pytest.mark.parametrize(
    ("handler", "code", "message"),
    [
        ("broken", "RT0012", "unexpected http status code: 500 Internal Server Error"),
        ("missing", "RT0012", "unexpected http status code: 404 Not Found"),
        ("garbage", "RT0003", "hit message size limit"),
        ("empty", "RT0007", "unknown"),
    ],
)
def test_h1_an_attempt_answered_wrongly_is_retried(
    world: World, h1: RawEndpoint, handler: str, code: str, message: str
) -> None:
    invocation_id = world.sent(f"H1/{handler}")
    row = world.until_status(invocation_id, "backing-off")
    assert row["last_failure_error_code"] == code
    assert row["last_failure"].startswith("[500 Internal] ")
    assert message in row["last_failure"]
    assert eventually(lambda: len(h1.attempts[handler]) >= 2)
    assert world.operate(invocation_id, "kill").status_code == 200


def test_h1_a_rate_limit_says_when_to_retry(world: World, h1: RawEndpoint) -> None:
    invocation_id = world.sent("H1/busy")
    row = world.until_status(invocation_id, "backing-off")
    assert row["last_failure_error_code"] == "RT0023"
    assert "(retry after: 3 seconds)" in row["last_failure"]
    assert eventually(lambda: len(h1.attempts["busy"]) >= 2)
    gaps = [later - earlier for earlier, later in pairwise(h1.attempts["busy"])]
    assert 3 <= gaps[0] <= 3.5
    assert world.operate(invocation_id, "kill").status_code == 200


def test_a_service_does_not_become_an_object_unasked(world: World) -> None:
    with RawEndpoint("Gone", "VIRTUAL_OBJECT") as endpoint:
        answer = world.register(endpoint.uri, use_http_11=True)
    assert (answer.status_code, answer.json()["restate_code"]) == (409, "META0006")


def test_running_invocations_stay_on_their_version(world: World) -> None:
    assert world.call("Ver/old").json() == "v1"
    running = world.sent("Ver/waitwho", {"id": "ver", "ms": 1_000})
    assert world.until_noted("waitwho", "ver") == "v1"
    second = services(world.notes.path, version=2)
    try:
        assert world.register(second.uri).status_code == 201
        assert world.call("Ver/who").json() == "v2"
        assert world.call("Ver/old").status_code == 404
        assert world.call("Gone/hi").json() == "v1"
        assert world.attach(running).json() == "v1"
    finally:
        second.kill()
