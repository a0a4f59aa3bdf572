"""Operations over HTTP: which answer an outcome gets. Source: admin.md 6, 7."""

import pytest

from restated.core.events import AttemptEnded, AttemptFailed, DeploymentPinned, Event
from restated.model import ids
from restated.model.records import InboxItem, Invocation, RetryPolicy, StateValue, Target
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests import builders
from tests.admin.world import AdminWorld, run_admin

DESK = Target("TicketDesk", "quote", "service", "shared")
SEAT = Target("TicketObject", "reserve", "virtual_object", "exclusive", "A1")
UNKNOWN = "inv_1kUxJ2cUzZXQ2oszvJhS2wFLtyb3fo3Fn4"


def new_id(number: int) -> str:
    return str(ids.encode_invocation_id(7, number.to_bytes(16, "big")))


async def invoked(world: AdminWorld, number: int = 1, target: Target = DESK, **more: object) -> str:
    """A new invocation."""
    invocation_id = new_id(number)
    await world.post(builders.invoke(invocation_id, target, **more))
    return invocation_id


def row(world: AdminWorld, invocation_id: str) -> Invocation:
    found = world.store.by_id(invocation_id)
    assert found is not None
    return found


async def pinned(world: AdminWorld, invocation_id: str, deployment_id: str) -> None:
    """Its first attempt reached a deployment."""
    at = row(world, invocation_id)
    await world.post(DeploymentPinned(at.number, at.attempt, deployment_id, 1, 6))


async def completed(world: AdminWorld, number: int = 1) -> str:
    """An invocation that has ended on the registered deployment."""
    deployment_id = (await world.register()).json()["id"]
    invocation_id = await invoked(world, number)
    await pinned(world, invocation_id, deployment_id)
    at = row(world, invocation_id)
    output = pb.OutputCommandMessage(value=pb.Value(content=b"1"))
    events: list[Event] = [
        builders.command(at.number, at.attempt, messages.OUTPUT_COMMAND, output),
        AttemptEnded(at.number, at.attempt),
    ]
    for event in events:
        await world.post(event)
    assert row(world, invocation_id).status == "completed"
    return invocation_id


@pytest.mark.parametrize(
    ("operation", "status"),
    [("cancel", 202), ("kill", 200), ("pause", 202), ("resume", 200), ("purge", 409)],
)
def test_a_running_invocation(operation: str, status: int) -> None:
    """7: the column ready / running."""

    async def body(world: AdminWorld) -> None:
        invocation_id = await invoked(world)
        response = await world.client.patch(f"/invocations/{invocation_id}/{operation}")
        assert response.status_code == status

    run_admin(body)


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ("cancel", 409), ("kill", 409), ("pause", 409), ("resume", 409), ("purge-journal", 200),
        ("purge", 200),
    ],
)  # fmt: skip
def test_a_completed_invocation(operation: str, status: int) -> None:
    """7: the column completed."""

    async def body(world: AdminWorld) -> None:
        invocation_id = await completed(world)
        response = await world.client.patch(f"/invocations/{invocation_id}/{operation}")
        assert response.status_code == status
        assert bool(response.content) == (status == 409)

    run_admin(body)


def test_restart_answers_with_the_new_id() -> None:
    """7: same partition, restarted_from."""

    async def body(world: AdminWorld) -> None:
        invocation_id = await completed(world)
        response = await world.client.patch(f"/invocations/{invocation_id}/restart-as-new")
        assert response.status_code == 200
        new = row(world, response.json()["new_invocation_id"])
        assert new.restarted_from == invocation_id
        assert ids.partition_key_of(new.id) == ids.partition_key_of(invocation_id)

    run_admin(body)


def test_the_chosen_deployment_must_speak_the_pinned_version() -> None:
    """7: checked before whether it serves the service."""

    async def body(world: AdminWorld) -> None:
        invocation_id = await completed(world)
        older = (await world.register("/reqresp")).json()["id"]
        path = f"/invocations/{invocation_id}/restart-as-new"
        wrong = await world.client.patch(path, params={"deployment": older})
        assert wrong.status_code == 400
        assert wrong.json()["message"] == (
            f"The invocation '{invocation_id}' is running on protocol version '6', while the "
            f"chosen deployment '{older}' supports the range 5..=5."
        )
        unknown = await world.client.patch(
            path, params={"deployment": "dp_10PEatYjz48qiaOgyBlOA7v"}
        )
        assert unknown.json()["message"] == (
            "The given deployment was not found when trying to restart as new the invocation "
            f"'{invocation_id}'."
        )

    run_admin(body)


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("PATCH", "/invocations/ID/restart-as-new?from=x", "from: invalid digit found in string"),
        ("PATCH", f"/invocations/ID/restart-as-new?from={2**32}",
         "from: number too large to fit in target type"),
        ("PATCH", f"/invocations/ID/restart-as-new?from={'9' * 5_000}",
         "from: number too large to fit in target type"),
        ("PATCH", "/invocations/ID/restart-as-new?from=1&from=2", "duplicate field `from`"),
        ("PATCH", "/invocations/ID/resume?deployment=keep&deployment=latest",
         "duplicate field `deployment`"),
        ("DELETE", "/invocations/ID?mode=kill&mode=purge", "duplicate field `mode`"),
        ("DELETE", "/deployments/dp_10PEatYjz48qiaOgyBlOA7v?force=true&force=false",
         "duplicate field `force`"),
        ("GET", "/subscriptions?source=a&source=b", "duplicate field `source`"),
        ("POST", "/internal/services/TicketDesk/serdes/decode/json?deployment=a&deployment=b",
         "duplicate field `deployment`"),
    ],
)  # fmt: skip
def test_a_query_that_says_two_things_or_no_number_is_refused(
    method: str, path: str, reason: str
) -> None:
    """Nothing is done: which of the two was meant cannot be known."""

    async def body(world: AdminWorld) -> None:
        await world.register()
        invocation_id = await completed(world)
        answer = await world.client.request(method, path.replace("ID", invocation_id))
        told = f"Failed to deserialize query string: {reason}"
        assert (answer.status_code, answer.text) == (400, told)
        assert row(world, invocation_id).status == "completed"

    run_admin(body)


def test_a_paused_invocation_resumes_on_the_chosen_deployment() -> None:
    """7: `latest` moves it; a running one stays where it is."""

    async def body(world: AdminWorld) -> None:
        first = (await world.register()).json()["id"]
        invocation_id = await invoked(world)
        await pinned(world, invocation_id, first)
        second = (await world.register("/next")).json()["id"]
        path = f"/invocations/{invocation_id}"
        running = await world.client.patch(f"{path}/resume", params={"deployment": "latest"})
        assert running.status_code == 409
        at = row(world, invocation_id)
        await world.client.patch(f"{path}/pause")
        await world.post(attempt_failed(at))
        assert row(world, invocation_id).status == "paused"
        response = await world.client.patch(f"{path}/resume", params={"deployment": "Latest"})
        assert response.status_code == 200
        assert row(world, invocation_id).deployment_id == second

    run_admin(body)


def attempt_failed(at: Invocation) -> Event:
    """The attempt ends after it was asked to pause."""
    return AttemptFailed(at.number, at.attempt, builders.attempt_error(), RetryPolicy(), 0)


def test_the_old_form_always_accepts() -> None:
    """7: DELETE, 202 also for wrong states; the default is cancel."""

    async def body(world: AdminWorld) -> None:
        invocation_id = await completed(world)
        for mode in ("", "?mode=kill", "?mode=Purge", "?mode=purge"):
            response = await world.client.delete(f"/invocations/{invocation_id}{mode}")
            assert response.status_code == 202
        assert world.store.by_id(invocation_id) is None

    run_admin(body)


def test_a_batch_tells_who_refused_and_why() -> None:
    """7.1."""

    async def body(world: AdminWorld) -> None:
        done = await completed(world)
        running = await invoked(world, 2)
        response = await world.client.post(
            "/internal/invocations_batch_operations/pause",
            json={"invocation_ids": [running, done, UNKNOWN]},
        )
        assert response.json() == {
            "succeeded": [running],
            "failed": [
                {
                    "invocation_id": done,
                    "error": f"Invocation '{done}' is not running, cannot be paused",
                },
                {"invocation_id": UNKNOWN, "error": f"Invocation '{UNKNOWN}' not found"},
            ],
        }

    run_admin(body)


def test_a_batch_restarts_and_tells_the_new_ids() -> None:
    """7.1."""

    async def body(world: AdminWorld) -> None:
        done = await completed(world)
        operation = "/internal/invocations_batch_operations/restart-as-new"
        response = await world.client.post(operation, json={"invocation_ids": [done]})
        (pair,) = response.json()["succeeded"]
        assert pair["old_invocation_id"] == done
        assert row(world, pair["new_invocation_id"]).restarted_from == done
        await world.client.patch(f"/invocations/{done}/purge-journal")
        gone = await world.client.post(operation, json={"invocation_ids": [done]})
        assert gone.json()["failed"][0]["error"] == (
            f"Invocation '{done}' cannot be restarted because the input is not available"
        )

    run_admin(body)


def test_state_is_replaced_at_once_or_behind_the_holder_of_the_key() -> None:
    """6: bytes or text, the whole state."""

    async def body(world: AdminWorld) -> None:
        await world.register()
        path = "/services/TicketObject/state"
        change = {"object_key": "A1", "new_state": {"n": [52, 50], "name": "bob"}}
        assert (await world.client.post(path, json=change)).status_code == 202
        values = [(one.name, one.value) for one in world.store.scan(StateValue)]
        assert values == [("n", b"42"), ("name", b"bob")]
        await invoked(world, 3, SEAT)
        clear = {"object_key": "A1", "new_state": {}}
        assert (await world.client.post(path, json=clear)).status_code == 202
        assert len(list(world.store.scan(StateValue))) == 2
        assert [item.number for item in world.store.scan(InboxItem)] == [None]

    run_admin(body)


def test_a_scope_has_an_alphabet() -> None:
    """6."""

    async def body(world: AdminWorld) -> None:
        change = {"object_key": "A1", "new_state": {}, "scope": "a/b"}
        response = await world.client.post("/services/TicketObject/state", json=change)
        assert response.status_code == 500
        assert response.json()["message"].startswith("bad scope: value contains characters ")

    run_admin(body)
