"""Services of the baseline test, on the Python SDK: everything is forgotten within two seconds.

`python -m tests.real.short_lived PORT`
"""

import sys
from datetime import timedelta

import hypercorn.asyncio
import restate
from hypercorn.config import Config
from restate import (
    Context,
    InvocationRetryPolicy,
    ObjectContext,
    ObjectSharedContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)

SOON = timedelta(seconds=2)
SOONER = timedelta(seconds=1)
IDLE = timedelta(milliseconds=100)
PERSISTENT = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=20), max_interval=timedelta(milliseconds=50)
)

plain = Service(
    "Plain",
    journal_retention=SOONER,
    idempotency_retention=SOON,
    inactivity_timeout=IDLE,
    invocation_retry_policy=PERSISTENT,
)
box = VirtualObject(
    "Box", journal_retention=SOON, idempotency_retention=SOONER, inactivity_timeout=IDLE
)
flow = Workflow("Flow", journal_retention=SOONER, inactivity_timeout=IDLE)
failures: dict[str, int] = {}


def same(value: int) -> int:
    return value


@plain.handler()
async def echo(ctx: Context, value: object) -> object:
    return value


@plain.handler()
async def refuse(ctx: Context) -> None:
    raise TerminalError("no", status_code=418)


@plain.handler()
async def stumble(ctx: Context, name: str) -> str:
    """Fails twice, each time with another text."""
    failures[name] = failures.get(name, 0) + 1
    if failures[name] <= 2:
        raise ValueError(f"{name} {failures[name]}")
    return name


@plain.handler()
async def never(ctx: Context) -> None:
    """Fails until it is killed."""
    raise ValueError("never")


@plain.handler()
async def nap(ctx: Context, ms: int) -> None:
    await ctx.sleep(timedelta(milliseconds=ms))


@plain.handler()
async def wait(ctx: Context) -> bytes:
    """Waits for what nobody completes."""
    _, value = ctx.awakeable(type_hint=bytes)
    return await value


@plain.handler()
async def fan(ctx: Context, count: int) -> int:
    """Calls, sends, delayed sends; the children of the calls are awaited."""
    calls = [ctx.service_call(echo, arg=index) for index in range(count)]
    for index in range(count):
        ctx.service_send(echo, arg=index)
        ctx.service_send(echo, arg=index, send_delay=timedelta(milliseconds=200))
    return len([await call for call in calls])


@plain.handler()
async def parent(ctx: Context, count: int) -> None:
    """Calls children that wait for ever."""
    calls = [ctx.service_call(wait, arg=None) for _ in range(count)]
    for call in calls:
        await call


@plain.handler()
async def long(ctx: Context, entries: int) -> int:
    """A journal of so many steps."""
    for index in range(entries):
        await ctx.run_typed("step", same, value=index)
    return entries


@plain.handler()
async def big(ctx: Context, size: int) -> str:
    """A large entry in both directions."""
    await ctx.run_typed("make", lambda: "x" * size)
    return "y" * size


@box.handler()
async def put(ctx: ObjectContext, value: int) -> int:
    """State that stays."""
    before = await ctx.get("value", type_hint=int) or 0
    ctx.set("value", before + value)
    ctx.set("other", value)
    return before + value


@box.handler()
async def empty(ctx: ObjectContext) -> None:
    ctx.clear_all()


@box.handler()
async def hold(ctx: ObjectContext) -> None:
    """Holds the key until it is cancelled or killed."""
    _, value = ctx.awakeable(type_hint=bytes)
    await value


@box.handler(kind="shared")
async def look(ctx: ObjectSharedContext) -> list[str]:
    return await ctx.state_keys()


@flow.main(workflow_retention=SOON)
async def run(ctx: WorkflowContext, size: int) -> str:
    """Waits for its promise."""
    ctx.set("size", size)
    await ctx.promise("go", type_hint=str).value()
    return "z" * size


@flow.handler()
async def go(ctx: WorkflowSharedContext) -> None:
    await ctx.promise("go", type_hint=str).resolve("gone")


@flow.handler()
async def watch(ctx: WorkflowSharedContext) -> str:
    """Waits for the same promise as the run."""
    return await ctx.promise("go", type_hint=str).value()


@flow.handler()
async def watch_never(ctx: WorkflowSharedContext) -> str:
    """Waits for a promise that nobody resolves."""
    return await ctx.promise("never", type_hint=str).value()


if __name__ == "__main__":
    import asyncio

    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.accesslog = None
    asyncio.run(hypercorn.asyncio.serve(restate.app([plain, box, flow]), config))
