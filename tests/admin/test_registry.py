"""Registration over HTTP, beyond the recorded answers. Source: admin.md 4, 5."""

import json

from tests.admin.world import HOST, AdminWorld, run_admin

FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:{}:1"


def test_discovery_gets_the_headers_of_the_registration() -> None:
    """4.1: additional_headers are sent with discovery and kept."""

    async def body(world: AdminWorld) -> None:
        response = await world.register(additional_headers={"x-shop": "west"}, use_http_11=True)
        assert response.status_code == 201
        (request,) = world.transport.requests
        assert (request.method, request.path) == ("GET", "/discover")
        assert json.loads(request.deployment.headers) == {"x-shop": "west"}
        stored = (await world.client.get(response.headers["location"].join(("/", "")))).json()
        assert stored["additional_headers"] == {"x-shop": "west"}
        assert stored["http_version"] == "HTTP/1.1"

    run_admin(body)


def test_a_known_address_is_not_asked_again() -> None:
    """4.1: known and not forced, nothing is discovered."""

    async def body(world: AdminWorld) -> None:
        await world.register()
        again = await world.register(dry_run=True)
        assert again.status_code == 200
        assert len(world.transport.requests) == 1

    run_admin(body)


def test_a_dry_run_shows_revisions_and_keeps_nothing() -> None:
    """4.1: its id is thrown away."""

    async def body(world: AdminWorld) -> None:
        await world.register()
        planned = (await world.register("/next", dry_run=True)).json()
        assert {one["revision"] for one in planned["services"]} == {2}
        listed = (await world.client.get("/deployments")).json()["deployments"]
        assert [one["uri"] for one in listed] == [f"{HOST}/"]

    run_admin(body)


def test_bad_headers_are_named() -> None:
    """A header that cannot be sent is refused where it is given."""

    async def body(world: AdminWorld) -> None:
        for headers in ({"a b": "x"}, {"a": "x\r\ny: z"}):
            response = await world.register(additional_headers=headers)
            assert response.status_code == 422
            assert "additional_headers" in response.text

    run_admin(body)


def test_a_service_can_be_patched_and_is_reset_by_force() -> None:
    """5: effective at once, lost on the next registration."""

    async def body(world: AdminWorld) -> None:
        await world.register()
        patched = await world.client.patch(
            "/services/TicketDesk", json={"public": False, "abort_timeout": "PT3M"}
        )
        assert patched.json()["abort_timeout"] == "3m"
        assert world.catalog.current.services["TicketDesk"].settings.public is False
        again = await world.register(force=True)
        desk = next(one for one in again.json()["services"] if one["name"] == "TicketDesk")
        assert (desk["abort_timeout"], desk["public"]) == ("2m", True)

    run_admin(body)


def test_an_update_moves_a_deployment() -> None:
    """4.4: the same id at another address; the protocol range must be the same (META0016)."""

    async def body(world: AdminWorld) -> None:
        deployment_id = (await world.register()).json()["id"]
        path = f"/deployments/{deployment_id}"
        moved = await world.client.patch(path, json={"uri": f"{HOST}/next"})
        assert (moved.status_code, moved.json()["uri"]) == (200, f"{HOST}/next")
        narrower = await world.client.patch(path, json={"uri": f"{HOST}/reqresp"})
        assert narrower.status_code == 400
        assert narrower.json() == {
            "message": "[META0016] an update deployment operation must provide an endpoint with "
            "the same services and handlers. The update tried to change the supported protocol "
            "versions from 5..=7 to 5..=5",
            "restate_code": "META0016",
        }

    run_admin(body)


def test_a_function_is_registered_by_its_arn() -> None:
    """4: the ARN and the role in place of URI, protocol type and HTTP version."""

    async def body(world: AdminWorld) -> None:
        arn, role = FUNCTION.format("reqresp"), "arn:aws:iam::123456789012:role/r"
        asked = {"arn": arn, "assume_role_arn": role}
        response = await world.client.post("/deployments", json=asked)
        assert response.status_code == 201
        shown = (await world.client.get(f"/deployments/{response.json()['id']}")).json()
        assert (shown["arn"], shown["assume_role_arn"]) == (arn, role)
        assert not {"uri", "protocol_type", "http_version"} & set(shown)
        again = await world.client.post("/deployments", json={"arn": arn})
        assert (again.status_code, again.json()["id"]) == (200, response.json()["id"])

    run_admin(body)


def test_a_function_that_wants_to_stream_is_refused() -> None:
    """4.2: META0015."""

    async def body(world: AdminWorld) -> None:
        asked = {"arn": FUNCTION.format("only-one")}
        response = await world.client.post("/deployments", json=asked)
        assert (response.status_code, response.json()["restate_code"]) == (500, "META0015")
        assert "REQUEST_RESPONSE" in response.text
        assert world.catalog.current.deployments == {}

    run_admin(body)


def test_what_is_not_called_over_http_is_not_called() -> None:
    """F60: another scheme is an endpoint that cannot be called, as on the reference."""

    async def body(world: AdminWorld) -> None:
        response = await world.client.post("/deployments", json={"uri": "ftp://127.0.0.1:21"})
        assert (response.status_code, response.json()["restate_code"]) == (500, "META0003")
        assert "use http or https" in response.text
        assert world.transport.requests == []

    run_admin(body)


def test_a_body_is_bounded() -> None:
    """Everything has a limit."""

    async def body(world: AdminWorld) -> None:
        response = await world.client.post(
            "/deployments",
            content=b" " * 33_554_433,
            headers={"content-type": "application/json"},
        )
        assert (response.status_code, response.text) == (413, "The body exceeds 33554432 bytes")

    run_admin(body)


def test_what_does_not_fit_is_named_and_found() -> None:
    """1: member, reason, line and column; a header by what may stand in it."""

    async def body(world: AdminWorld) -> None:
        duration = await world.client.patch("/services/X", json={"abort_timeout": "1y"})
        assert duration.text.endswith(
            "abort_timeout: unit 'y': please use units of days or smaller at line 1 column 21"
        )
        header = await world.register(additional_headers={"a b": "c"})
        assert "additional_headers: a name of a header has 1 to 200 letters" in header.text
        assert header.status_code == 422

    run_admin(body)


def test_identity_tokens_of_a_cloud_are_refused() -> None:
    """4.1 `auth`: ignoring it would ask the deployment without them."""

    async def body(world: AdminWorld) -> None:
        refused = await world.register(auth={"GoogleIdToken": {}})
        assert refused.status_code == 400
        assert "identity tokens of a cloud cannot be made here" in refused.json()["message"]
        assert world.transport.requests == []
        assert (await world.register(auth=None)).status_code == 201

    run_admin(body)


def test_a_body_that_is_no_utf8_is_refused() -> None:
    """1: 400 where the text is wrong, whatever reads it."""

    async def body(world: AdminWorld) -> None:
        response = await world.client.post(
            "/deployments",
            content=b'{"uri":"\xff"}',
            headers={"content-type": "application/json"},
        )
        assert response.status_code == 400
        assert response.text.endswith("invalid unicode code point at line 1 column 9")

    run_admin(body)
