"""Ingress: idempotency, attach, leaving clients, other transports (scenarios F14 to F24)."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.real.scenarios.world import World
from tests.real.waiting import eventually

pytestmark = pytest.mark.real
NOT_READY = {
    "code": 470,
    "message": "the invocation exists but has not completed yet",
    "source": "ingress",
}


def test_f14_one_key_is_one_invocation(world: World) -> None:
    first = world.call("Svc/pub", {"id": "f14"}, key="f14-K")
    again = world.call("Svc/pub", {"id": "other"}, key="f14-K")
    sent = world.send("Svc/pub", {"id": "f14"}, key="f14-K")
    elsewhere = world.call("Svc/echo", "x", key="f14-K")
    assert (first.json(), again.json()) == ("f14", "f14")
    assert again.headers["x-restate-id"] == first.headers["x-restate-id"]
    assert sent.json() == {
        "invocationId": first.headers["x-restate-id"],
        "status": "PreviouslyAccepted",
    }
    assert elsewhere.headers["x-restate-id"] != first.headers["x-restate-id"]
    assert len(world.notes.of("pub", "f14")) == 1
    assert world.notes.of("pub", "other") == []


def test_f14_the_first_delay_counts(world: World) -> None:
    begun = time.monotonic()
    first = world.send("Svc/pub", {"id": "f14-D"}, delay="2s", key="f14-D").json()
    second = world.send("Svc/pub", {"id": "f14-D"}, delay="60s", key="f14-D").json()
    called = world.call("Svc/pub", {"id": "f14-D"}, key="f14-D")
    took = time.monotonic() - begun
    assert second == first | {"status": "PreviouslyAccepted"}
    assert called.json() == "f14-D"
    assert called.headers["x-restate-id"] == first["invocationId"]
    assert 1.9 <= took <= 2.5
    assert len(world.notes.of("pub", "f14-D")) == 1


def test_f16_64_equal_concurrent_calls(world: World) -> None:
    body = {"id": "f16", "ms": 300}
    with ThreadPoolExecutor(64) as threads:
        calls = [threads.submit(world.call, "Svc/nap", body, key="f16") for _ in range(64)]
        answers = [call.result() for call in calls]
    assert [answer.json() for answer in answers] == ["woke"] * 64
    assert len({answer.headers["x-restate-id"] for answer in answers}) == 1
    assert len(world.notes.of("attempt", "f16")) == 1


def test_f18_output_is_not_ready_and_attach_waits(world: World) -> None:
    invocation_id = world.sent("Svc/nap", {"id": "f18", "ms": 3_000})
    paths = [f"/restate/invocation/{invocation_id}/output", f"/restate/output/{invocation_id}"]
    early = [world.request("GET", path) for path in paths]
    assert [(answer.status_code, answer.json()) for answer in early] == [(470, NOT_READY)] * 2
    begun = time.monotonic()
    attached = world.attach(invocation_id)
    assert (attached.status_code, attached.json()) == (200, "woke")
    assert time.monotonic() - begun > 2


@pytest.mark.parametrize("verb", ["attach", "output"])
def test_f18_results_are_found_by_the_idempotency_key(world: World, verb: str) -> None:
    key = f"f18-{verb}"
    called = world.call("Svc/pub", {"id": key}, key=key)
    found = world.request("GET", f"/restate/invocation/Svc/pub/{key}/{verb}")
    assert (found.status_code, found.content) == (200, called.content)
    assert found.headers["content-type"] == called.headers["content-type"]
    assert found.headers["x-restate-id"] == called.headers["x-restate-id"]


def test_f22_client_goes_away(world: World) -> None:
    """The invocation goes on; the daemon keeps no socket of the one who waited."""
    world.rows("SELECT 1 AS warm")  # the process of the queries stays
    open_before = descriptors(world)
    url = httpx.URL(world.daemon.ingress)
    body = b'{"id":"f22","ms":800}'
    head = "POST /Svc/nap HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    with socket.create_connection((url.host, url.port or 0), 5) as client:
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        eventually(lambda: world.notes.of("attempt", "f22"))
        time.sleep(0.2)
    query = "SELECT id FROM sys_invocation WHERE target = 'Svc/nap' AND status <> 'completed'"
    running = world.rows(query)
    assert len(running) == 1
    row = world.until_status(running[0]["id"], "completed")
    assert row["completion_result"] == "success"
    assert eventually(lambda: descriptors(world) <= open_before)


def descriptors(world: World) -> int:
    """How many files and sockets the daemon has open."""
    return len(list(Path(f"/proc/{world.daemon.child.pid}/fd").iterdir()))


def test_f24_unix_sockets(world: World) -> None:
    ingress = httpx.HTTPTransport(uds=str(world.daemon.base_dir / "run" / "ingress.sock"))
    with httpx.Client(transport=ingress) as client:
        assert client.post("http://local/Svc/echo", json="x").json() == "x"
    admin = httpx.HTTPTransport(uds=str(world.daemon.socket_path))
    with httpx.Client(transport=admin) as client:
        assert client.get("http://local/version").status_code == 200


def test_f24_http2_with_prior_knowledge(world: World) -> None:
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        answer = client.post(f"{world.daemon.ingress}/Svc/echo", json="x")
    assert (answer.status_code, answer.http_version, answer.json()) == (200, "HTTP/2", "x")
