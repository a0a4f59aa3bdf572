"""The ticket shop of the recorded sessions of the official CLI, on the Python SDK.

`python -m tests.real.official.tickets PORT`
The handlers live at `/` and, with one more and other settings, at `/next`; `/rich`, `/reqresp`
and `/only-one` answer discovery alone.
"""

import sys
from datetime import timedelta
from typing import Any

import hypercorn.asyncio
import msgspec
import restate
from hypercorn.config import Config
from restate import (
    Context,
    InvocationRetryPolicy,
    ObjectContext,
    ObjectSharedContext,
    Service,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from restate.exceptions import TerminalError

MANIFEST = "application/vnd.restate.endpointmanifest.v4+json"

desk = Service(
    "TicketDesk",
    description="Sells tickets over the counter",
    metadata={"team": "box-office"},
    inactivity_timeout=timedelta(seconds=30),
    abort_timeout=timedelta(minutes=2),
    journal_retention=timedelta(hours=2),
    idempotency_retention=timedelta(days=2),
)
seat = VirtualObject("TicketObject")
trip = Workflow("TicketFlow")


@desk.handler(metadata={"sla": "gold"})
async def quote(ctx: Context, arg: dict[str, Any]) -> dict[str, Any]:
    """Its input with a price."""
    price = await ctx.run_typed("price", lambda: 42)
    return {"price": price, **(arg or {})}


@desk.handler()
async def refuse(ctx: Context, arg: str) -> str:
    """A terminal failure."""
    raise TerminalError("sold out", 409)


@desk.handler(
    invocation_retry_policy=InvocationRetryPolicy(
        initial_interval=timedelta(seconds=20), max_interval=timedelta(seconds=20)
    )
)
async def jam(ctx: Context, arg: str) -> str:
    """Fails, and is tried again much later."""
    await ctx.run_typed("warmup", lambda: "ok")
    raise ValueError("printer on fire")


@desk.handler(
    invocation_retry_policy=InvocationRetryPolicy(
        initial_interval=timedelta(milliseconds=10), max_attempts=2, on_max_attempts="pause"
    )
)
async def stall(ctx: Context, arg: str) -> str:
    """Fails twice, and is paused."""
    await ctx.run_typed("warmup", lambda: "ok")
    raise ValueError("needs a human")


@desk.handler()
async def nap(ctx: Context, ms: int) -> str:
    """Sleeps."""
    await ctx.sleep(timedelta(milliseconds=ms), name="rest")
    return "awake"


@desk.handler(inactivity_timeout=timedelta(milliseconds=50))
async def doze(ctx: Context, ms: int) -> str:
    """Sleeps, and suspends while it sleeps."""
    await ctx.sleep(timedelta(milliseconds=ms), name="rest")
    return "awake"


@desk.handler()
async def hold(ctx: Context, arg: str) -> str:
    """Waits for an awakeable that nobody completes."""
    name, future = ctx.awakeable(type_hint=str)
    await ctx.run_typed("tell", lambda: name)
    return await future


@desk.handler(name="private_audit", ingress_private=True)
async def audit(ctx: Context, arg: str) -> str:
    """Not for the ingress."""
    return "audited"


@seat.handler()
async def reserve(ctx: ObjectContext, arg: dict[str, Any]) -> str:
    """Two keys of state."""
    ctx.set("holder", (arg or {}).get("holder", "nobody"))
    ctx.set("count", (await ctx.get("count", type_hint=int) or 0) + 1)
    return ctx.key()


@seat.handler(kind="shared")
async def status(ctx: ObjectSharedContext) -> dict[str, Any]:
    """Both."""
    return {"holder": await ctx.get("holder"), "count": await ctx.get("count")}


@seat.handler()
async def block(ctx: ObjectContext, ms: int) -> str:
    """Keeps its key."""
    await ctx.sleep(timedelta(milliseconds=ms), name="blocked")
    return "released"


@seat.handler()
async def fill(ctx: ObjectContext, arg: dict[str, Any]) -> str:
    """State as given."""
    for key, value in arg.items():
        ctx.set(key, value)
    return "ok"


@seat.handler()
async def buy(ctx: ObjectContext, arg: dict[str, Any]) -> str:
    """One of every kind of command, the last of them long."""
    await ctx.service_call(quote, arg={"seat": ctx.key()})
    ctx.service_send(nap, arg=1, send_delay=timedelta(milliseconds=1))
    ctx.set("bought", value=True)
    await ctx.get("holder")
    ctx.clear("nothing")
    await ctx.object_call(block, key=f"{ctx.key()}-neighbour", arg=arg.get("ms", 60_000))
    return "bought"


@trip.main()
async def run(ctx: WorkflowContext, arg: dict[str, Any]) -> str:
    """Waits for an approval."""
    ctx.set("stage", "waiting")
    approval = await ctx.promise("approval", type_hint=str).value()
    ctx.set("stage", "done")
    return f"trip:{approval}"


@trip.handler()
async def approve(ctx: WorkflowSharedContext, arg: str) -> str:
    """Gives it."""
    await ctx.promise("approval", type_hint=str).resolve(arg)
    return "ok"


@trip.handler(name="peek_stage")
async def peek_stage(ctx: WorkflowSharedContext) -> str:
    """Looks."""
    return str(await ctx.promise("approval", type_hint=str).peek())


later_desk = Service("TicketDesk", metadata={"team": "web"})
later_desk.handlers.update(desk.handlers)


@later_desk.handler()
async def refund(ctx: Context, arg: str) -> str:
    """Only at `/next`."""
    return "refunded"


def _service(
    name: str, kind: str = "SERVICE", handlers: list[dict[str, Any]] | None = None, **more: Any
) -> dict[str, Any]:
    return {"name": name, "ty": kind, "handlers": handlers or [{"name": "do"}], **more}


def _manifest(*services: dict[str, Any], mode: str = "BIDI_STREAM") -> bytes:
    document = {
        "protocolMode": mode,
        "minProtocolVersion": 5,
        "maxProtocolVersion": 5,
        "services": services,
    }
    return msgspec.json.encode(document)


_RICH = ("typed", "none", "any", "required", "bare")
DISCOVERED: dict[str, bytes] = {
    "/only-one/discover": _manifest(_service("TicketDesk")),
    "/reqresp/discover": _manifest(_service("TicketPlain"), mode="REQUEST_RESPONSE"),
    "/rich/discover": _manifest(
        _service("TicketRich", handlers=[{"name": name} for name in _RICH], ingressPrivate=True),
        _service(
            "TicketLazy",
            "VIRTUAL_OBJECT",
            [
                {"name": "write"},
                {"name": "ex", "ty": "EXCLUSIVE"},
                {"name": "read", "ty": "SHARED"},
            ],
        ),
        _service(
            "TicketLong",
            "WORKFLOW",
            [{"name": "run", "ty": "WORKFLOW"}, {"name": "poke", "ty": "SHARED"}],
        ),
    ),
}
at_root = restate.app([desk, seat, trip])
at_next = restate.app([later_desk, seat, trip])


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Every mount of the shop."""
    if scope["type"] != "http":
        raise NotImplementedError
    manifest = DISCOVERED.get(scope["path"])
    if manifest is not None:
        headers = [(b"content-type", MANIFEST.encode()), (b"x-restate-server", b"tickets/0.1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": manifest})
    elif scope["path"].startswith("/next/"):
        await at_next({**scope, "path": scope["path"].removeprefix("/next")}, receive, send)
    else:
        await at_root(scope, receive, send)


if __name__ == "__main__":
    import asyncio

    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.accesslog = None
    config.errorlog = None
    asyncio.run(hypercorn.asyncio.serve(app, config))
