"""Ingress: paths, input rules, status codes, delays, CORS (scenarios F01 to F11)."""

import socket
import time
from datetime import UTC, datetime

import httpx
import pytest

from tests.real.scenarios.raw_endpoint import RawEndpoint
from tests.real.scenarios.world import World
from tests.real.waiting import eventually

pytestmark = pytest.mark.real
NOT_ALLOWED = {"code": 405, "message": "method not allowed", "source": "ingress"}
BODY_BYTES_MAX = 33_554_432


def test_f01_empty_and_non_empty_answers(world: World) -> None:
    empty = [world.request(method, "/Svc/void") for method in ("GET", "POST")]
    assert [(answer.status_code, answer.content) for answer in empty] == [(200, b"")] * 2
    assert world.request("GET", "/Svc/echo").status_code == 200
    refused = [world.request(method, "/Svc/echo") for method in ("PUT", "DELETE")]
    assert [(answer.status_code, answer.json()) for answer in refused] == [(405, NOT_ALLOWED)] * 2
    assert world.request("HEAD", "/restate/health").status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/Nope/x", 404, "service 'Nope' not found"),
        ("POST", "/Svc/nope", 404, "the service 'Svc' exists, but the handler 'nope' was not"),
        ("POST", "/Obj/incr", 400, "bad path"),
        ("POST", "/Svc/k/echo", 400, "bad path"),
        ("GET", "/", 400, "bad path"),
    ],
)
def test_f02_unknown_names(world: World, method: str, path: str, status: int, message: str) -> None:
    answer = world.request(method, path)
    assert answer.status_code == status
    assert answer.json()["message"].startswith(message)
    assert answer.headers["x-restate-error-source"] == answer.json()["source"] == "ingress"
    assert "x-restate-id" not in answer.headers


def test_f03_private_service(world: World) -> None:
    refused = world.call("Priv/hi")
    assert refused.status_code == 400
    assert refused.json()["message"] == "the invoked service is not public"
    assert world.call("X/privcall").json() == "hi"
    assert world.admin("PATCH", "/services/Priv", {"public": True}).status_code == 200
    assert eventually(lambda: world.call("Priv/hi").status_code == 200, within_s=0.3)
    assert world.admin("PATCH", "/services/Priv", {"public": False}).status_code == 200
    assert eventually(lambda: world.call("Priv/hi").status_code == 400, within_s=0.3)


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("a%2Fb", "a/b"),
        ("%00", "\x00"),
        ("h%C3%A9%F0%9F%98%80", "hé😀"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%25", "%"),
        ("x" * 1_000, "x" * 1_000),
    ],
)
def test_f04_keys_are_decoded_once(world: World, encoded: str, key: str) -> None:
    assert world.request("GET", f"/Obj/{encoded}/key").json() == key


def test_f04_trailing_slash_and_a_path_that_the_client_shortened(world: World) -> None:
    assert world.call("Svc/echo/", "x").json() == "x"
    assert world.request("GET", "/Obj/../key").status_code == 400  # httpx sends /key


def test_f05_content_type(world: World) -> None:
    def post(content: bytes, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return world.request("POST", "/Svc/echo", content=content, headers=named)

    assert post(b'"x"', content_type="application/json; charset=utf-8").json() == "x"
    refused = [
        post(b'"x"', content_type="text/plain"),
        post(b'"x"'),
        post(b"", content_type="application/json"),
    ]
    assert [answer.status_code for answer in refused] == [400, 400, 400]
    assert "Content-type 'text/plain' does not match" in refused[0].json()["message"]
    assert "Empty content-type" in refused[1].json()["message"]
    assert "Empty body not allowed" in refused[2].json()["message"]


def test_f06_body_to_a_handler_without_input(world: World) -> None:
    octets = {"content-type": "application/octet-stream"}
    refused = [
        world.call("Svc/void", {"a": 1}),
        world.request("POST", "/Svc/raw", content=b"0123456789", headers=octets),
    ]
    assert [answer.status_code for answer in refused] == [400, 400]
    for answer in refused:
        assert "Expected body and content-type to be empty" in answer.json()["message"]
    assert world.call("Svc/raw").json() == 0


def test_f07_malformed_json_is_the_handlers_error(world: World) -> None:
    headers = {"content-type": "application/json"}
    answer = world.request("POST", "/Svc/echo", content=b"{bad", headers=headers)
    assert answer.status_code == 500
    assert answer.headers["x-restate-error-source"] == answer.json()["source"] == "invocation"
    row = world.invocation(answer.headers["x-restate-id"])
    assert (row["status"], row["completion_result"]) == ("completed", "failure")
    failed_attempts = f"SELECT * FROM sys_journal_events WHERE id = '{row['id']}'"
    assert world.rows(failed_attempts) == []


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        (400, 400, 400),
        (404, 404, 404),
        (409, 409, 409),
        (418, 418, 418),
        (500, 500, 500),
        (503, 503, 503),
        (599, 599, 599),
        (1, 500, 1),
        (200, 500, 200),
    ],
)
def test_f08_status_of_a_terminal_error(world: World, code: int, status: int, told: int) -> None:
    """A code that is no HTTP error is answered as 500, told unchanged; it always completes."""
    answer = world.call("Svc/term", {"code": code, "msg": "no"})
    assert answer.status_code == status
    assert answer.json() == {"code": told, "message": "no", "source": "invocation"}
    assert world.invocation(answer.headers["x-restate-id"])["status"] == "completed"


def test_f08_a_code_beyond_16_bits_completes_as_500(world: World, h1: RawEndpoint) -> None:
    """The Python SDK cannot even say it."""
    answer = world.call("H1/huge_code")
    assert answer.status_code == 500
    assert answer.json() == {"code": 500, "message": "no", "source": "invocation"}
    assert world.invocation(answer.headers["x-restate-id"])["status"] == "completed"


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ("10s", 10),
        ("PT1S", 1),
        ("1h", 3_600),
        ("1 day", 86_400),
        ("0s", 0),
        ("99999999s", 99_999_999),
    ],
)
def test_f09_delays(world: World, delay: str, seconds: int) -> None:
    before = time.time()
    answer = world.send("Svc/pub", {"id": "f09"}, delay=delay)
    after = time.time()
    assert answer.status_code == 202
    text = answer.json()["executionTime"]
    assert len(text.removesuffix("Z").partition(".")[2]) == 9
    at_s = datetime.fromisoformat(text[:26]).replace(tzinfo=UTC).timestamp()
    assert before + seconds - 0.001 <= at_s <= after + seconds


def test_f09_bad_delays_leave_a_server_whose_delays_fire(world: World) -> None:
    bad = ("1", "", "-5s", "9223372036854775807ms")
    answers = [world.send("Svc/pub", {"id": "f09-bad"}, delay=delay) for delay in bad]
    assert [answer.status_code for answer in answers] == [400] * 4
    call = world.call("Svc/pub?delay=1s", {"id": "f09-bad"})
    assert call.status_code == 400
    assert call.json()["message"].startswith("cannot use the delay query parameter with calls")
    later = world.sent("Svc/pub", {"id": "f09-later"}, delay="300ms")
    assert world.attach(later).json() == "f09-later"
    assert world.notes.of("pub", "f09-bad") == []


@pytest.mark.parametrize("path", ["/Svc/pub/send", "/restate/send/Svc/pub"])
def test_f10_send_answer(world: World, path: str) -> None:
    answer = world.request("POST", path, json={"id": "f10"})
    assert answer.status_code == 202
    invocation_id = answer.headers["x-restate-id"]
    assert answer.json() == {"invocationId": invocation_id, "status": "Accepted"}


def test_f10_call_by_the_new_path(world: World) -> None:
    answer = world.request("POST", "/restate/call/Svc/echo", json=[1])
    assert (answer.status_code, answer.json()) == (200, [1])


def test_f11_preflight(world: World) -> None:
    headers = {
        "origin": "http://page.test",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type, idempotency-key",
    }
    answer = world.request("OPTIONS", "/Svc/echo", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "http://page.test"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "content-type, idempotency-key"


def test_f11_errors_carry_the_origin(world: World) -> None:
    headers = {"origin": "http://page.test"}
    unknown = world.request("POST", "/Nope/x", headers=headers)
    assert unknown.status_code == 404
    assert unknown.headers["access-control-allow-origin"] == "http://page.test"


@pytest.mark.parametrize("announced", [True, False])
def test_f11_too_large_a_body_is_a_readable_413(world: World, announced: bool) -> None:
    """Whether the length is announced or found out, a script of a page can read the error."""
    content = b"1" * (BODY_BYTES_MAX + 1)
    headers = {"origin": "http://page.test", "content-type": "application/json"}
    sent = content if announced else iter([content])
    answer = world.request("POST", "/Svc/echo", content=sent, headers=headers)
    assert answer.status_code == 413
    assert answer.headers["access-control-allow-origin"] == "http://page.test"
    assert answer.headers["x-restate-error-source"] == answer.json()["source"] == "ingress"
    assert answer.json()["code"] == 413


def test_f11_an_announced_length_is_refused_before_the_body(world: World) -> None:
    url = httpx.URL(world.daemon.ingress)
    head = f"POST /Svc/echo HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY_BYTES_MAX + 1}\r\n\r\n"
    with socket.create_connection((url.host, url.port or 0), 5) as client:
        client.sendall(head.encode())
        assert client.recv(4_096).startswith(b"HTTP/1.1 413 ")
