"""Request identity against an endpoint of the Python SDK that asks for it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.daemon.running import RealDaemon
from tests.invoker.test_identity import KEY_ID, key_file
from tests.real.launched import Services

pytestmark = pytest.mark.real


@pytest.fixture
def guarded() -> Iterator[str]:
    """The URI of services that take requests signed by `KEY_ID` only."""
    with Services("tests.real.services", KEY_ID, is_quiet=False) as running:
        yield running.uri


@pytest.mark.parametrize("use_http_11", [False, True])
@pytest.mark.parametrize(
    "variable",
    [
        "RESTATE_WORKER__INVOKER__REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE",
        "RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE",
    ],
)
def test_signed_discovery_and_calls_are_taken(
    short_path: Path, guarded: str, variable: str, use_http_11: bool
) -> None:
    """service-protocol.md 2.3: both headers with every request, the subject of keyed ones."""
    environment = {variable: str(key_file(short_path))}
    asked = {"uri": guarded, "use_http_11": use_http_11}
    with RealDaemon(short_path, environment=environment) as daemon:
        assert f"public_key={KEY_ID}" in daemon.log()
        httpx.post(f"{daemon.admin}/deployments", json=asked).raise_for_status()
        for total in (1, 2):
            answer = httpx.post(f"{daemon.ingress}/Tally/k%201%2Fä/add", json=1)
            assert (answer.status_code, answer.json()) == (200, total)
        relayed = httpx.post(f"{daemon.ingress}/Work/relay", json={"key": "a", "mark": "b"})
        assert (relayed.status_code, relayed.json()) == (200, 1)


def test_an_unsigned_server_is_turned_away(real_daemon: RealDaemon, guarded: str) -> None:
    """service-protocol.md 2.3: 401; 1.3: META0003 with the status."""
    answer = httpx.post(f"{real_daemon.admin}/deployments", json={"uri": guarded})
    assert (answer.status_code, answer.json()["restate_code"]) == (500, "META0003")
    assert "401 Unauthorized" in answer.json()["message"]
