"""What happens when the disk refuses a commit: nobody is told anything, the process ends."""

import http.client
import json
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.running import ANSWER_S, RealDaemon, wait_for_port
from tests.repository.tree import ROOT

pytestmark = pytest.mark.real


@pytest.fixture
def greeter(short_path: Path) -> Iterator[str]:
    """The sample service on a port of its own; its URI."""
    hypercorn = Path(sys.executable).with_name("hypercorn")
    port_file = short_path / "service.log"
    with port_file.open("wb") as log:
        child = subprocess.Popen(
            [hypercorn, "--bind", "127.0.0.1:0", "service:app"],
            cwd=ROOT / "contrib" / "sample",
            stderr=log,
        )
    try:
        yield wait_for_port(port_file, r"Running on (http://127\.0\.0\.1:\d+)")
    finally:
        child.terminate()
        child.wait(ANSWER_S)


def post(url: str, value: object) -> dict[str, object]:
    """The JSON answer to a JSON request."""
    body = json.dumps(value).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=ANSWER_S) as response:
        answer: dict[str, object] = json.loads(response.read())
    return answer


def test_a_commit_that_fails_is_answered_to_nobody_and_ends_with_70(
    real_daemon: RealDaemon, greeter: str
) -> None:
    """A3: the outcome is unknown; a supervisor restarts, the start-up decides."""
    post(f"{real_daemon.admin}/deployments", {"uri": greeter})
    sent = post(f"{real_daemon.ingress}/Greeter/greet/send", "before")
    assert sent["status"] == "Accepted"
    # From here on every write of the process to a file fails with EFBIG.
    resource.prlimit(real_daemon.child.pid, resource.RLIMIT_FSIZE, (0, 0))
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        post(f"{real_daemon.ingress}/Greeter/greet/send", "after")
    assert real_daemon.child.wait(ANSWER_S) == 70
