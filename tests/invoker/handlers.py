"""Handlers of the fake SDK that several tests use."""

from collections.abc import Generator
from typing import Any

from tests.sim.clock import EPOCH_MS
from tests.sim.sdk import Context, Peer

Output = Generator[None, None, bytes]
NAP = "/invoke/Greeter/nap"


def echo(context: Context) -> Output:
    yield from ()
    return context.input


def sleeper(seconds: float) -> Any:
    """A handler that sleeps until `seconds` after the start of the test."""

    def handler(context: Context) -> Output:
        yield from context.sleep(EPOCH_MS + int(seconds * 1_000))
        return b"awake"

    return handler


def caller_of(handler: str) -> Any:
    """A handler that calls another one of its service, and answers what that answers."""

    def call(context: Context) -> Output:
        got = yield from context.call("Greeter", handler, b"1")
        return got.value.content

    return call


def silent(peer: Peer) -> Generator[None, None, None]:
    """Answers the head and nothing else."""
    peer.respond()
    while True:
        yield
