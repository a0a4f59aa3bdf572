"""More requests than a service's server takes on one connection: no attempt is lost to that."""

from pathlib import Path

import httpx
import pytest

from tests.daemon.running import RealDaemon

CALLS = 1_100  # hypercorn ends an HTTP/2 connection at request 1,001, with all that is in progress


@pytest.mark.real
def test_no_attempt_fails_because_its_connection_is_used_up(
    short_path: Path, services: str
) -> None:
    """service-protocol.md 2.1: an attempt that fails does again what it did outside of steps."""
    with RealDaemon(short_path) as daemon, httpx.Client() as http:
        http.post(f"{daemon.admin}/deployments", json={"uri": services}).raise_for_status()
        for number in range(CALLS):
            answer = http.post(f"{daemon.ingress}/Work/echo", json=str(number))
            assert answer.json() == str(number)
        assert "attempt failed" not in daemon.log()
