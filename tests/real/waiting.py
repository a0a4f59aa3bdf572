"""Waiting for what another process does: it cannot tell, so it is asked."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

T = TypeVar("T")


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections there; OSError if not."""
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def eventually(check: Callable[[], T | None], within_s: float = 30) -> T:
    """The first truthy answer; connection errors count as not yet."""
    deadline = time.monotonic() + within_s
    while True:
        answer: T | None
        try:
            answer = check()
        except (OSError, httpx.TransportError):
            answer = None
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.05)
