"""Calls, sends, attach, output and awakeables over a real writer."""

import json

import trio
from trio.testing import wait_all_tasks_blocked

from restated.ingress.exchange import IngressLimits, execution_time, expiry_time
from restated.model import ids
from restated.model.records import SignalRow
from tests.ingress.http import Answer, get, post, request
from tests.ingress.world import IngressWorld, run_ingress

DAY_MS = 86_400_000


def message(answer: Answer) -> str:
    """The text of an error."""
    return str(json.loads(answer.body)["message"])


def send_body(answer: Answer) -> dict[str, str]:
    """The JSON of a send's answer."""
    body: dict[str, str] = json.loads(answer.body)
    return body


def test_a_call_answers_with_the_output_and_its_id() -> None:
    """ingress.md 9."""

    async def body(world: IngressWorld) -> None:
        answer = await world.ask(post("/Svc/echo", b'"Ada"'))
        assert (answer.status, answer.body) == (200, b'"Ada"')
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-restate-id"] == world.started[0].id
        assert "idempotency-expires" not in answer.headers

    run_ingress(body)


def test_a_call_without_a_key_gets_a_made_up_one_but_not_on_workflows() -> None:
    """ingress.md 11: a ULID, and the id hashed from it."""

    async def body(world: IngressWorld) -> None:
        await world.ask(post("/Svc/echo"))
        await world.ask(post("/Flow/w/run"))
        plain, run = world.started
        assert plain.idempotency_key is not None
        assert len(plain.idempotency_key) == 26
        assert plain.id == ids.invocation_id_for(
            service="Svc",
            handler="echo",
            handler_type="shared",
            key=None,
            scope="",
            idempotency_key=plain.idempotency_key,
            now_ms=0,
            entropy=bytes(12),
        )
        assert run.idempotency_key is None

    run_ingress(body)


def test_the_handler_sees_the_path_and_the_first_of_each_header() -> None:
    """ingress.md 5."""
    fields = (("X-A", "1"), ("x-a", "2"), ("Idempotency-Key", "k"), ("connection", "close"))

    async def body(world: IngressWorld) -> None:
        await world.ask(request("POST", "/Svc/raw/?x=%2F", b"", (*fields, ("a", "\tb c"))))
        assert world.headers(world.started[0]) == [
            ("x-restate-ingress-path", "/Svc/raw?x=%2F"),
            ("x-a", "1"),
            ("a", "b c"),
            ("content-length", "0"),
        ]

    run_ingress(body)


def test_a_second_call_with_the_same_key_gets_the_stored_result_and_its_expiry() -> None:
    """C44, C47, C51; ingress.md 11."""

    async def body(world: IngressWorld) -> None:
        first = await world.ask(post("/Svc/echo", b"1", idempotency_key="k"))
        row = world.store.by_id(first.headers["x-restate-id"])
        second = await world.ask(post("/Svc/echo", b"2", idempotency_key="k"))
        other = await world.ask(post("/Svc/hang/send", b"2", idempotency_key="k"))
        assert row is not None
        assert row.expires_at_ms is not None
        assert second.body == b"1"
        assert second.headers["x-restate-id"] == first.headers["x-restate-id"]
        assert second.headers["idempotency-expires"] == expiry_time(row.expires_at_ms)
        assert other.headers["x-restate-id"] != first.headers["x-restate-id"]
        assert len(world.started) == 2

    run_ingress(body)


def test_64_equal_calls_execute_once_and_get_equal_answers() -> None:
    """C45."""

    async def body(world: IngressWorld) -> None:
        answers: list[Answer] = []

        async def call() -> None:
            answers.append(await world.ask(post("/Svc/hang", b"1", idempotency_key="k")))

        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(call)
            await wait_all_tasks_blocked()
            world.finish(world.started[0], b"7")
        assert [answer.body for answer in answers] == [b"7"] * 64
        assert not any("idempotency-expires" in answer.headers for answer in answers)
        assert len(world.started) == 1
        assert world.waiters.count == 0

    run_ingress(body)


def test_a_result_without_retention_is_delivered_and_gone() -> None:
    """ingress.md 11: the next request with the key runs again, under the same id."""

    async def body(world: IngressWorld) -> None:
        first = await world.ask(post("/Svc/brief", b"1", idempotency_key="k"))
        second = await world.ask(post("/Svc/brief", b"2", idempotency_key="k"))
        gone = await world.ask(get(f"/restate/output/{first.headers['x-restate-id']}"))
        assert (first.body, second.body) == (b"1", b"2")
        assert first.headers["x-restate-id"] == second.headers["x-restate-id"]
        assert gone.status == 404

    run_ingress(body)


def test_an_expired_result_is_gone_at_once() -> None:
    """ingress.md 11, 13: retention ends on time, whatever the clean-up does."""

    async def body(world: IngressWorld) -> None:
        first = await world.ask(post("/Svc/echo", b"1", idempotency_key="k"))
        path = f"/restate/output/{first.headers['x-restate-id']}"
        world.clock.step_ms = DAY_MS - 60_000
        assert (await world.ask(get(path))).status == 200
        world.clock.step_ms = DAY_MS
        assert (await world.ask(get(path))).status == 404

    run_ingress(body)


def test_a_send_answers_before_the_handler_ends() -> None:
    """ingress.md 9; C46: a repeated send keeps the first execution time."""

    async def body(world: IngressWorld) -> None:
        plain = await world.ask(post("/Svc/hang/send"))
        first = await world.ask(post("/Svc/hang/send?delay=60s", idempotency_key="d"))
        now_ms = world.clock.wall_ms()
        second = await world.ask(post("/Svc/hang/send?delay=90s", idempotency_key="d"))
        assert plain.status == 202
        invocation_id = plain.headers["x-restate-id"]
        assert plain.body == f'{{"invocationId":"{invocation_id}","status":"Accepted"}}'.encode()
        assert send_body(first)["executionTime"] == execution_time(now_ms + 60_000)
        assert send_body(second) == {**send_body(first), "status": "PreviouslyAccepted"}

    run_ingress(body)


def test_a_delay_beyond_the_year_9999_is_refused() -> None:
    """ingress.md 6."""

    async def body(world: IngressWorld) -> None:
        answer = await world.ask(post("/Svc/hang/send?delay=3000000d"))
        assert answer.status == 400
        assert message(answer).endswith("the execution time would lie after the year 9999")

    run_ingress(body)


def test_a_second_call_of_a_workflow_conflicts_and_a_send_does_not() -> None:
    """ingress.md 12."""

    async def body(world: IngressWorld) -> None:
        first = await world.ask(post("/Flow/w/run"))
        second = await world.ask(post("/Flow/w/run"))
        third = await world.ask(post("/Flow/w/run/send"))
        assert first.status == 200
        assert (second.status, message(second)) == (
            409,
            "the workflow method was already invoked",
        )
        assert second.headers["x-restate-error-source"] == "invocation"
        assert second.headers["x-restate-id"] == first.headers["x-restate-id"]
        assert send_body(third)["status"] == "PreviouslyAccepted"

    run_ingress(body)


def test_attach_waits_and_output_does_not() -> None:
    """ingress.md 13; C48, C52."""

    async def body(world: IngressWorld) -> None:
        sent = await world.ask(post("/Svc/hang/send"))
        invocation_id = sent.headers["x-restate-id"]
        early = await world.ask(get(f"/restate/output/{invocation_id}"))
        client = await world.connect()
        await client.send(get(f"/restate/attach/{invocation_id}"))
        await wait_all_tasks_blocked()
        world.finish(world.started[0], b"7")
        attached = await client.answer()
        late = await world.ask(get(f"/restate/output/{invocation_id}"))
        assert early.status == 470
        assert (attached.status, attached.body) == (200, b"7")
        assert "idempotency-expires" not in attached.headers
        assert (late.status, late.body) == (200, b"7")
        assert "idempotency-expires" in late.headers

    run_ingress(body)


def test_attach_to_nothing_is_an_invocation_error_with_an_id() -> None:
    """ingress.md 24.2."""
    unknown = "inv_1000000000000000000000000000000000"

    async def body(world: IngressWorld) -> None:
        attached = await world.ask(get(f"/restate/attach/{unknown}"))
        output = await world.ask(get(f"/restate/output/{unknown}"))
        assert attached.headers["x-restate-error-source"] == "invocation"
        assert attached.headers["x-restate-id"] == unknown
        assert output.headers["x-restate-error-source"] == "ingress"
        assert "x-restate-id" not in output.headers
        assert world.waiters.count == 0

    run_ingress(body)


def test_killed_while_waiting_and_served_later_is_the_same_error() -> None:
    """C53, ingress.md 15."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        await client.send(post("/Svc/hang", idempotency_key="k"))
        await wait_all_tasks_blocked()
        world.kill(world.started[0].id)
        live = await client.answer()
        stored = await world.ask(post("/Svc/hang", idempotency_key="k"))
        assert (live.status, message(live)) == (409, "killed")
        assert stored.body == live.body
        assert "idempotency-expires" in stored.headers

    run_ingress(body)


def test_a_success_of_a_service_that_is_gone_cannot_be_delivered() -> None:
    """ingress.md 8."""

    async def body(world: IngressWorld) -> None:
        first = await world.ask(post("/Svc/echo"))
        world.catalog.current.services.clear()
        answer = await world.ask(get(f"/restate/output/{first.headers['x-restate-id']}"))
        assert (answer.status, message(answer)) == (404, "not found")
        assert "x-restate-id" not in answer.headers

    run_ingress(body)


def test_awakeables_are_completed_durably_and_old_ids_change_nothing() -> None:
    """ingress.md 14."""

    async def body(world: IngressWorld) -> None:
        sent = await world.ask(post("/Svc/hang/send"))
        invocation_id = sent.headers["x-restate-id"]
        awakeable = ids.awakeable_id(invocation_id, 17)
        resolved = await world.ask(
            request("POST", f"/restate/awakeables/{awakeable}/resolve", b"v")
        )
        old = awakeable.replace("sign_1", "prom_1")
        ignored = await world.ask(request("POST", f"/restate/a/{old}/reject", b"no"))
        rows = list(world.store.scan(SignalRow, world.started[0].number))
        assert (resolved.status, resolved.body) == (202, b"")
        assert ignored.status == 202
        assert [(row.name, row.polarity) for row in rows] == [("s17", "success")]

    run_ingress(body)


def test_at_the_bound_of_requests_one_more_is_refused_but_preflights_pass() -> None:
    """ingress.md 1: 429."""

    async def body(world: IngressWorld) -> None:
        client = await world.connect()
        await client.send(post("/Svc/hang"))
        await wait_all_tasks_blocked()
        refused = await world.ask(get("/restate/health"))
        preflight = await world.ask(request("OPTIONS", "/x"))
        world.finish(world.started[0])
        await client.answer()
        assert refused.status == 429
        assert preflight.status == 200
        assert (await world.ask(get("/restate/health"))).status == 200

    run_ingress(body, IngressLimits(requests_max=1))


def test_no_new_work_is_taken_when_the_disk_is_full_but_results_are_served() -> None:
    """D4."""

    async def body(world: IngressWorld) -> None:
        first = await world.ask(post("/Svc/echo"))
        world.refuses = "no space"
        refused = await world.ask(post("/Svc/echo"))
        served = await world.ask(get(f"/restate/attach/{first.headers['x-restate-id']}"))
        assert (refused.status, message(refused)) == (
            503,
            "the server takes no new work: no space",
        )
        assert served.status == 200

    run_ingress(body)


def test_bodies_share_a_pool_that_is_free_once_they_are_stored() -> None:
    """M1: a waiting call keeps nothing of its body."""

    async def body(world: IngressWorld) -> None:
        waiting, stuck = await world.connect(), await world.connect()
        await waiting.send(post("/Svc/hang", b"x" * 900))
        await wait_all_tasks_blocked()
        assert world.ingress.bodies.used == 0
        await stuck.send(post("/Svc/echo", content_length="900").removesuffix(b'"Ada"'))
        await wait_all_tasks_blocked()
        refused = await world.ask(post("/Svc/echo", b"x" * 900))
        await stuck.stream.aclose()
        await wait_all_tasks_blocked()
        assert refused.status == 503
        assert world.ingress.bodies.used == 0
        assert (await world.ask(post("/Svc/echo", b"1" * 900))).status == 200

    run_ingress(body, IngressLimits(bodies_bytes_max=1_000))
