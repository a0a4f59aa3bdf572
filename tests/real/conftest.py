"""Fixtures of the black-box tests."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.real.waiting import eventually, is_listening


@pytest.fixture
def services() -> Iterator[str]:
    """The URI of the test services in a process of their own."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    child = subprocess.Popen([sys.executable, "-m", "tests.real.services", str(port)])
    try:
        eventually(lambda: is_listening(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()
