"""Who may use the admin API: programs, but no pages of other sites. Z1."""

import subprocess
import sys

import pytest

from restated.admin.app import foreign_page
from restated.engine.hypercorn_stream import Caller
from tests.admin.world import AdminWorld, run_admin

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
ALLOWED = ("admin.example",)


def judged(transport: str = "tcp", **headers: str) -> str | None:
    """The refusal of a request with these headers (`_` for `-`)."""
    fields = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    caller = Caller("tcp" if transport == "tcp" else "unix")
    return foreign_page({"headers": fields, "state": {"caller": caller}}, ALLOWED)


@pytest.mark.parametrize("host", ["127.0.0.1:9070", "localhost:9070", "restate.shop.svc:9070", ""])
def test_programs_may_use_any_name(host: str) -> None:
    """curl, the official CLI, an operator inside a cluster."""
    assert judged(host=host, user_agent="curl/8") is None


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9070", "[::1]:9070", "localhost:9070", "a.localhost", "admin.example"]
)
def test_browsers_may_use_addresses_and_names_of_the_settings(host: str) -> None:
    """What DNS of an attacker cannot point to us."""
    assert judged(host=host, user_agent=FIREFOX, origin=f"http://{host}") is None


def test_a_name_that_was_rebound_to_us_is_refused() -> None:
    """DNS rebinding: origin and host are both the attacker's."""
    assert judged(host="evil.example:9070", user_agent=FIREFOX) is not None
    assert judged(host="evil.example:9070", origin="http://evil.example:9070") is not None


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:3000"])
def test_pages_of_other_origins_are_refused(origin: str) -> None:
    """Cross-site requests; another port of this machine is another origin."""
    assert judged(host="127.0.0.1:9070", origin=origin) is not None


def test_a_request_without_origin_from_another_site_is_refused() -> None:
    """An image or a script; following a link is fine."""
    headers = {"host": "localhost:9070", "sec_fetch_site": "cross-site"}
    assert judged(**headers, sec_fetch_mode="no-cors") is not None
    assert judged(**headers, sec_fetch_mode="navigate") is None


def test_unix_sockets_are_out_of_reach_of_pages() -> None:
    """The permissions of the socket decide there."""
    assert judged("unix", host="x", origin="http://evil.example") is None


def test_a_refusal_is_answered_before_anything_is_done() -> None:
    """Z1: 403, and the reason."""

    async def body(world: AdminWorld) -> None:
        response = await world.client.post(
            "/deployments", json={"uri": "http://x"}, headers={"origin": "http://evil.example"}
        )
        assert response.status_code == 403
        assert "http://evil.example" in response.text
        assert world.transport.requests == []

    run_admin(body)


def test_health_does_not_wait_for_the_routes() -> None:
    """W7: the first poll of a supervisor must not load the router."""
    program = (
        "import sys, trio\n"
        "from restated.admin.app import build_admin, AdminDeps\n"
        "sent = []\n"
        "async def send(message): sent.append(message)\n"
        "scope = {'type': 'http', 'method': 'GET', 'path': '/health', 'headers': []}\n"
        "deps = AdminDeps(*[None] * 8)\n"
        "trio.run(build_admin(deps), scope, None, send)\n"
        "print(sent[0]['status'], 'starlette' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"200", b"False"]
