"""Services of the scenarios, on the Python SDK.

`python -m tests.real.scenarios.services PORT NOTES [VERSION]`; VERSION 1 is the default, 2 serves
`Ver` without `old` and no `Gone`.
Does not live here: the raw HTTP/1.1 endpoint (raw_endpoint.py).
"""

import sys
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

import hypercorn.asyncio
import restate
from hypercorn.config import Config
from restate import (
    Context,
    InvocationRetryPolicy,
    ObjectContext,
    ObjectSharedContext,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from restate.exceptions import RetryableError

from tests.real.scenarios.notes import Notes

notes = Notes(Path(sys.argv[2] if len(sys.argv) > 2 else "/dev/null"))
attempts: dict[str, int] = {}  # by test case; of this process

svc = Service("Svc")
obj = VirtualObject("Obj")
wf = Workflow("Wf")
priv = Service("Priv", ingress_private=True)
x = Service("X")
ver = Service("Ver")
gone = Service("Gone")
ver_2 = Service("Ver")


class Named(TypedDict):
    """The id of a test case, under which notes are taken."""

    id: str


class Timed(Named):
    """The same, and milliseconds."""

    ms: int


class Failing(Named):
    """The same, and how many attempts fail."""

    fail: int


class Problem(TypedDict):
    """A terminal error."""

    code: int
    msg: str


class ParentOf(Timed):
    """The same, and the key of the child."""

    key: str


class Many(Named):
    """The same, and how many."""

    n: int


class Fan(TypedDict):
    """So many children, each so long."""

    n: int
    ms: int


class Letter(TypedDict):
    """A value for another invocation."""

    inv: str
    v: object


class Value(TypedDict):
    """A value."""

    v: object


def attempt(name: str) -> int:
    """Count this attempt of a test case; the first is 1."""
    attempts[name] = attempts.get(name, 0) + 1
    notes.add("attempt", name)
    return attempts[name]


def ms(count: int) -> timedelta:
    return timedelta(milliseconds=count)


@svc.handler()
async def echo(ctx: Context, value: object) -> object:
    return value


@svc.handler()
async def void(ctx: Context) -> None:
    """Nothing in, nothing out."""


@svc.handler()
async def term(ctx: Context, problem: Problem) -> None:
    raise TerminalError(problem["msg"], problem["code"])


@svc.handler()
async def flaky(ctx: Context, request: Failing) -> int:
    number = attempt(request["id"])
    if number <= request["fail"]:
        raise RuntimeError(f"attempt {number} fails")
    return number


@svc.handler()
async def nap(ctx: Context, request: Timed) -> str:
    attempt(request["id"])
    await ctx.sleep(ms(request["ms"]))
    return "woke"


@svc.handler()
async def hdrs(ctx: Context) -> dict[str, str]:
    return dict(ctx.request().headers)


@svc.handler()
async def raw(ctx: Context) -> int:
    """The length of a body that no input is declared for."""
    return len(ctx.request().body)


@svc.handler()
async def awk(ctx: Context, request: Named) -> object:
    name, future = ctx.awakeable(type_hint=object)
    await ctx.run_typed("publish", notes.add, RunOptions(), "awakeable", request["id"], name)
    return await future


@svc.handler()
async def awk2(ctx: Context, request: Timed) -> object:
    """Awaits the awakeable only after a sleep."""
    name, future = ctx.awakeable(type_hint=object)
    await ctx.run_typed("publish", notes.add, RunOptions(), "awakeable", request["id"], name)
    await ctx.sleep(ms(request["ms"]))
    return await future


@svc.handler()
async def pub(ctx: Context, request: Named) -> str:
    notes.add("pub", request["id"])
    return request["id"]


@svc.handler()
async def parent(ctx: Context, request: ParentOf) -> str:
    child: Timed = {"id": request["id"], "ms": request["ms"]}
    return await ctx.object_call(slow, key=request["key"], arg=child)


@svc.handler()
async def rnd(ctx: Context, request: Named) -> str:
    value = str(ctx.uuid())
    notes.add("uuid", request["id"], value)
    if attempt(request["id"]) == 1:
        raise RuntimeError("once more")
    return value


@svc.handler()
async def comp(ctx: Context, request: Timed) -> str:
    """Sleeps; a terminal error is compensated and thrown again."""
    try:
        notes.add("sleeping", request["id"])
        await ctx.sleep(ms(request["ms"]))
    except TerminalError:
        await ctx.run_typed("undo", notes.add, RunOptions(), "undo", request["id"])
        raise
    return "slept"


@svc.handler()
async def sender(ctx: Context, request: Many) -> list[str]:
    arg: Named = {"id": request["id"]}
    handles = [ctx.service_send(pub, arg=arg) for _ in range(request["n"])]
    return [await handle.invocation_id() for handle in handles]


@svc.handler()
async def sig(ctx: Context) -> object:
    return await ctx.signal("go", type_hint=object)


@svc.handler(inactivity_timeout=ms(100))
async def susp(ctx: Context, request: Timed) -> int:
    number = attempt(request["id"])
    await ctx.sleep(ms(request["ms"]))
    return number


@obj.handler()
async def put(ctx: ObjectContext, values: dict[str, object]) -> None:
    for name, value in values.items():
        ctx.set(name, value)


@obj.handler()
async def get(ctx: ObjectContext, name: str) -> object:
    return await ctx.get(name, type_hint=object)


@obj.handler()
async def incr(ctx: ObjectContext) -> int:
    total = (await ctx.get("n", type_hint=int) or 0) + 1
    ctx.set("n", total)
    return total


@obj.handler()
async def wipe(ctx: ObjectContext) -> list[str]:
    ctx.clear_all()
    return list(await ctx.state_keys())


@obj.handler()
async def slow(ctx: ObjectContext, request: Timed) -> str:
    ctx.set("last", request["id"])
    notes.add("slow", ctx.key(), request["id"])
    await ctx.sleep(ms(request["ms"]))
    return request["id"]


@obj.handler()
async def order(ctx: ObjectContext, value: int) -> list[int]:
    values = [*(await ctx.get("l", type_hint=list[int]) or []), value]
    ctx.set("l", values)
    return values


@obj.handler()
async def setfail(ctx: ObjectContext, request: Value) -> None:
    ctx.set("a", request["v"])
    raise TerminalError("after all", 409)


@obj.handler()
async def selfcall(ctx: ObjectContext) -> int:
    """Waits for its own lock, for ever."""
    return await ctx.object_call(incr, key=ctx.key(), arg=None)


@obj.handler(kind="shared")
async def peek(ctx: ObjectSharedContext, name: str) -> object:
    return await ctx.get(name, type_hint=object)


@obj.handler(kind="shared")
async def key(ctx: ObjectSharedContext) -> str:
    return ctx.key()


@wf.main()
async def run(ctx: WorkflowContext, value: object) -> dict[str, object]:
    ctx.set("st", "waiting")
    return {"in": value, "p": await ctx.promise("p", type_hint=object)}


@wf.handler()
async def signal(ctx: WorkflowSharedContext, value: object) -> None:
    await ctx.promise("p", type_hint=object).resolve(value)


@wf.handler()
async def refuse(ctx: WorkflowSharedContext, message: str) -> None:
    await ctx.promise("p", type_hint=object).reject(message)


@wf.handler()
async def peekp(ctx: WorkflowSharedContext) -> object:
    return await ctx.promise("p", type_hint=object).peek()


@wf.handler()
async def st(ctx: WorkflowSharedContext) -> object:
    return await ctx.get("st", type_hint=object)


@priv.handler()
async def hi(ctx: Context) -> str:
    return "hi"


@x.handler()
async def ra(ctx: Context, request: Named) -> int:
    """Asks once for a retry after 2 seconds."""
    number = attempt(request["id"])
    if number == 1:
        raise RetryableError("not now", retry_after=timedelta(seconds=2))
    return number


@x.handler()
async def meta(ctx: Context) -> None:
    raise TerminalError("gone", 410, metadata={"where": "nowhere"})


@x.handler()
async def unk(ctx: Context) -> bytes:
    return await ctx.generic_call("Nope", "hi", b"")


@x.handler()
async def privcall(ctx: Context) -> str:
    return await ctx.service_call(hi, arg=None)


@x.handler()
async def canc(ctx: Context, request: dict[str, str]) -> None:
    ctx.cancel_invocation(request["inv"])


@x.handler()
async def att(ctx: Context, request: dict[str, str]) -> object:
    return await ctx.attach_invocation(request["inv"], type_hint=object)


@x.handler()
async def ssig(ctx: Context, request: Letter) -> None:
    ctx.resolve_signal(request["inv"], "go", request["v"])


@x.handler()
async def fan(ctx: Context, request: Fan) -> list[str]:
    arg: Timed = {"id": "fan", "ms": request["ms"]}
    calls = [ctx.service_call(nap, arg=arg) for _ in range(request["n"])]
    return [await call for call in calls]


@x.handler()
async def side(ctx: Context, request: Timed) -> str:
    await ctx.run_typed("one", notes.add, RunOptions(), "step", request["id"], "one")
    await ctx.sleep(ms(request["ms"]))
    await ctx.run_typed("two", notes.add, RunOptions(), "step", request["id"], "two")
    return "done"


@x.handler()
async def runfail(ctx: Context, request: Named) -> str:
    """A step that fails for good after three attempts."""

    def fail() -> str:
        notes.add("step", request["id"])
        raise RuntimeError("the step fails")

    return await ctx.run_typed("fails", fail, RunOptions(max_attempts=3))


@x.handler(
    invocation_retry_policy=InvocationRetryPolicy(
        initial_interval=ms(50), max_attempts=2, on_max_attempts="pause"
    )
)
async def pmax(ctx: Context, request: Named) -> str:
    raise RuntimeError(f"pmax attempt {attempt(request['id'])} fails")


@x.handler(
    invocation_retry_policy=InvocationRetryPolicy(
        initial_interval=ms(50), max_attempts=2, on_max_attempts="kill"
    )
)
async def kmax(ctx: Context, request: Named) -> str:
    raise RuntimeError(f"kmax attempt {attempt(request['id'])} fails")


@ver.handler("who")
async def who_1(ctx: Context) -> str:
    return "v1"


@ver.handler("waitwho")
async def waitwho_1(ctx: Context, request: Timed) -> str:
    notes.add("waitwho", request["id"], "v1")
    await ctx.sleep(ms(request["ms"]))
    return "v1"


@ver.handler("old")
async def old_1(ctx: Context) -> str:
    return "v1"


@gone.handler("hi")
async def gone_hi(ctx: Context) -> str:
    return "v1"


@ver_2.handler("who")
async def who_2(ctx: Context) -> str:
    return "v2"


@ver_2.handler("waitwho")
async def waitwho_2(ctx: Context, request: Timed) -> str:
    notes.add("waitwho", request["id"], "v2")
    await ctx.sleep(ms(request["ms"]))
    return "v2"


SERVED: dict[str, list[Service | VirtualObject | Workflow]] = {
    "1": [svc, obj, wf, priv, x, ver, gone],
    "2": [svc, obj, wf, priv, x, ver_2],
}

if __name__ == "__main__":
    import asyncio

    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.accesslog = None
    config.h2_max_concurrent_streams = 1_000
    version = sys.argv[3] if len(sys.argv) > 3 else "1"
    asyncio.run(hypercorn.asyncio.serve(restate.app(SERVED[version]), config))
