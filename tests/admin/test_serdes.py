"""Values encoded and decoded by their deployment. Source: admin.md 7.2; the reference."""

import pytest
import trio

from restated.admin import serdes
from tests.admin.world import AdminWorld, run_admin

DECODE = "/internal/services/TicketDesk/serdes/decode"
ENCODE = "/internal/services/TicketDesk/serdes/encode"
ASKED = "/serdes/TicketDesk"


def test_a_value_is_relayed_both_ways() -> None:
    """7.2: bytes to JSON and back; nothing of the client's head goes along."""

    async def body(world: AdminWorld) -> None:
        await world.register()
        world.transport.scripted = {
            f"{ASKED}/decode/my/serde": (200, {"content-type": "x/y", "x-foo": "1"}, b'{"a":1}'),
            f"{ASKED}/encode/a%20b%25": (201, {}, b"\x00\xff"),
        }
        headers = {"content-type": "x/y", "authorization": "hush"}
        decoded = await world.client.post(f"{DECODE}/my/serde", content=b"\x00", headers=headers)
        encoded = await world.client.post(f"{ENCODE}/a%20b%25", content=b'{"a":1}')
        assert (decoded.status_code, decoded.content) == (200, b'{"a":1}')
        assert (encoded.status_code, encoded.content) == (200, b"\x00\xff")
        assert dict(decoded.headers) == {"content-length": "7"}
        assert world.transport.bodies == [b"\x00", b'{"a":1}']
        first, second = world.transport.requests[-2:]
        assert (first.method, first.headers) == (
            "POST",
            (
                ("content-type", "application/octet-stream"),
                ("accept", "application/json"),
                ("x-restate-serdes-protocol", "v1"),
            ),
        )
        assert second.headers == (
            ("content-type", "application/json"),
            ("accept", "*/*"),
            ("x-restate-serdes-protocol", "v1"),
        )

    run_admin(body)


def test_an_answer_that_is_no_success_is_told() -> None:
    """7.2: 500 with status, headers and the beginning of the body."""

    async def body(world: AdminWorld) -> None:
        await world.register()
        world.transport.scripted = {
            f"{ASKED}/decode/none": (404, {"server": "x"}, b""),
            f"{ASKED}/decode/bad": (418, {}, b"bad"),
            f"{ASKED}/decode/moved": (302, {"location": "/x"}, b""),
        }
        none = await world.client.post(f"{DECODE}/none", content=b"x")
        bad = await world.client.post(f"{DECODE}/bad", content=b"x")
        moved = await world.client.post(f"{DECODE}/moved", content=b"x")
        assert [answer.status_code for answer in (none, bad, moved)] == [500, 500, 500]
        assert none.json()["message"] == (
            "Internal server error: got status code '404'. This might indicate the SDK doesn't "
            "support the serdes endpoint, or the serde name doesn't exist. Response headers: "
            '{"server": "x"}. Body: '
        )
        assert bad.json()["message"] == (
            "Internal server error: got status code '418 I'm a teapot'. Response headers: {}. "
            "Body: bad"
        )
        assert "'302 Found'" in moved.json()["message"]

    run_admin(body)


def test_the_deployment_may_be_chosen() -> None:
    """7.2: by default that of the latest revision."""

    async def body(world: AdminWorld) -> None:
        first = (await world.register()).json()["id"]
        second = (await world.register("/next")).json()["id"]
        world.transport.scripted = {f"{ASKED}/decode/x": (200, {}, b"y")}
        await world.client.post(f"{DECODE}/x")
        await world.client.post(f"{DECODE}/x?deployment={first}")
        asked = [request.deployment.id for request in world.transport.requests[-2:]]
        assert asked == [second, first]

    run_admin(body)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/internal/services/Nope/serdes/decode/x", 404, "service 'Nope' does not exist"),
        (f"{DECODE}/x?deployment=latest", 400, "query string: deployment: bad format"),
        (
            f"{DECODE}/x?deployment=dp_14vCJw8K6NiLZH8uyzuOeGJ", 404,
            "The requested deployment 'dp_14vCJw8K6NiLZH8uyzuOeGJ' does not exist",
        ),
        (f"{DECODE}/", 404, ""),
        ("/internal/services/TicketDesk/serdes/explode/x", 404, ""),
    ],
)  # fmt: skip
def test_nobody_is_asked_where_nobody_is(path: str, status: int, text: str) -> None:
    """7.2."""

    async def body(world: AdminWorld) -> None:
        await world.register()
        before = len(world.transport.requests)
        response = await world.client.post(path, content=b"x")
        assert response.status_code == status
        assert text in response.text
        assert len(world.transport.requests) == before

    run_admin(body)


def test_a_deployment_that_does_not_answer_is_given_up() -> None:
    """Everything has a limit: here of time."""

    async def body(world: AdminWorld) -> None:
        await world.register()
        world.transport.scripted = {f"{ASKED}/decode/x": (200, {}, None)}
        started = trio.current_time()
        response = await world.client.post(f"{DECODE}/x")
        assert response.status_code == 500
        assert "no complete answer within 30 seconds" in response.text
        assert trio.current_time() - started == pytest.approx(serdes.SERDES_SECONDS_MAX)

    run_admin(body)


def test_an_answer_that_is_too_large_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything has a limit: here of memory."""
    monkeypatch.setattr(serdes, "ANSWER_BYTES_MAX", 3)

    async def body(world: AdminWorld) -> None:
        await world.register()
        world.transport.scripted = {f"{ASKED}/decode/x": (200, {}, b"four")}
        response = await world.client.post(f"{DECODE}/x")
        assert response.status_code == 500
        assert "the answer is larger than 3 bytes" in response.text

    run_admin(body)
