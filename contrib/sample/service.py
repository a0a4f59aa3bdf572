"""The sample: a service that greets in two durable steps, and a virtual object that counts.

Run it with `hypercorn --bind 127.0.0.1:9080 service:app` from this directory, or all of it with
`make run`.
"""

from datetime import timedelta

import restate
from restate import Context, ObjectContext, Service, VirtualObject

greeter = Service("Greeter")
counter = VirtualObject("Counter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Note the greeting, sleep durably, count, answer: each step survives a crash of both sides."""
    greeting = await ctx.run_typed("compose", compose, name=name)
    await ctx.sleep(timedelta(milliseconds=100))
    count = await ctx.object_call(add, key=name, arg=1)
    return f"{greeting} This is greeting number {count}."


def compose(name: str) -> str:
    """A side effect would stand here: its result is stored, it is not repeated."""
    return f"Hello, {name}!"


@counter.handler()
async def add(ctx: ObjectContext, increment: int) -> int:
    """One call at a time for each key; the state is stored with the answer."""
    count = (await ctx.get("count", type_hint=int) or 0) + increment
    ctx.set("count", count)
    return count


app = restate.app([greeter, counter])
