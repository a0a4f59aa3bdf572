"""Services of the black-box tests, on the Python SDK.

`python -m tests.real.services PORT [KEY...]`
With keys, each a `publickeyv1_...`, only requests signed by one of them are taken.
"""

import sys
from datetime import timedelta

import hypercorn.asyncio
import restate
from hypercorn.config import Config
from restate import Context, ObjectContext, ObjectSharedContext, Service, VirtualObject

tally = VirtualObject("Tally")
work = Service("Work")


@tally.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    """Add to the sum and tell it; the step in between makes the journal longer."""
    total = (await ctx.get("total", type_hint=int) or 0) + amount
    await ctx.run_typed("check", _same, value=total)
    ctx.set("total", total)
    return total


@tally.handler(kind="shared")
async def read(ctx: ObjectSharedContext) -> int:
    """The sum."""
    return await ctx.get("total", type_hint=int) or 0


@work.handler()
async def echo(ctx: Context, value: str) -> str:
    """The value."""
    return value


@work.handler()
async def nap(ctx: Context, request: dict[str, str]) -> str:
    """Sleep, mark, answer."""
    await ctx.sleep(timedelta(milliseconds=int(request["ms"])))
    await ctx.object_call(add, key=request["mark"], arg=1)
    return request["mark"]


@work.handler()
async def relay(ctx: Context, request: dict[str, str]) -> int:
    """A call, a one-way call, a step: three effects of one invocation."""
    total = await ctx.object_call(add, key=request["key"], arg=1)
    ctx.object_send(add, key=request["mark"], arg=1)
    return await ctx.run_typed("check", _same, value=total)


def _same(value: int) -> int:
    return value


if __name__ == "__main__":
    import asyncio

    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.accesslog = None
    served = restate.app([tally, work], identity_keys=sys.argv[2:])
    asyncio.run(hypercorn.asyncio.serve(served, config))
