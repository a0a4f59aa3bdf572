"""Attempts from the accepted invocation to the stored result."""

import trio

from restated.core.effects import AckCommand
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.invoker.world import GREET, InvokerWorld, run_world
from tests.sim.sdk import Context, Wait


def echo(context: Context):
    """Answer with the input."""
    return context.input
    yield


def test_echo():
    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(GREET, echo)
        invocation = await world.invoke()
        await trio.sleep(1)
        assert world.outcome(invocation) == b'"Ada"'
        assert world.invoker.open_count == 0

    run_world(body)


def test_sleep_run_call():
    def outer(context: Context):
        ran = yield from context.run(lambda: b"ran")
        yield from context.sleep(1_700_000_000_000 + 500)
        got = yield from context.call("Counter", "add", b"1", key="k")
        return ran + got.value.content

    def add(context: Context):
        context.set_state("n", b"5")
        return b"five"
        yield

    async def body(world: InvokerWorld) -> None:
        world.sdk.serve(GREET, outer)
        world.sdk.serve("/invoke/Counter/add", add)
        invocation = await world.invoke()
        await trio.sleep(2)
        assert world.outcome(invocation) == b"ranfive"
        assert world.invoker.open_count == 0
        assert len(world.peers) == 2

    run_world(body)
