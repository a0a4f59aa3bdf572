"""The admin API as an ASGI app: what it is given, who may use it.

Lives here: the collaborators of the routes, protection against foreign web pages, the late import
of everything else.
Does not: the table of routes (routes.py), the routes themselves, sockets (daemon/listeners.py).
Start-up: Starlette and the routes are imported by the first request but GET /health (W7).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from restated.engine.catalog import LiveCatalog
from restated.engine.dispatch import Tail
from restated.engine.hypercorn_stream import ASGIApp, Receive, Scope, Send
from restated.engine.writer import Writer
from restated.invoker.transport import Transport
from restated.seams import Clock, Rng
from restated.store.store import Store

TEXT: Final = b"text/plain; charset=utf-8"

ADMIN_API_VERSION: Final = "1.7.12"  # the release whose admin API this is; clients switch on it
CLUSTER_NAME: Final = "localcluster"

log = logging.getLogger("restated.admin")


@dataclass(frozen=True, slots=True)
class AdminDeps:
    """What the routes work with.

    `query` is what introspect.py needs to run SQL, None where there is none. `allowed_hosts` are
    host names, without port, under which browsers may use this API beside IP addresses and
    localhost.
    """

    writer: Writer
    catalog: LiveCatalog
    store: Store
    transport: Transport
    clock: Clock
    rng: Rng
    tail: Tail
    version: str  # of this program
    advertised_ingress: str | None = None
    query: object | None = None
    allowed_hosts: tuple[str, ...] = ()


def build_admin(deps: AdminDeps) -> ASGIApp:
    """The app for every admin listener."""
    routes: list[ASGIApp] = []

    async def admin(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        refusal = foreign_page(scope, deps.allowed_hosts)
        if refusal is not None:
            await _refuse(scope, receive, send, refusal)
            return
        if not routes and scope.get("method") == "GET" and scope["path"] == "/health":
            # Supervisors poll it from the first moment; it must not wait for the routes.
            await _answer(send, 200, b"")
            return
        if not routes:
            from restated.admin.routes import build_routes

            routes.append(build_routes(deps))
        await routes[0](scope, receive, send)

    return admin


def foreign_page(scope: Scope, allowed_hosts: tuple[str, ...]) -> str | None:
    """Why this request must come from another site's page in a browser; None if it need not.

    Without a password, what protects the API from web pages is that a page cannot forge `Origin`
    and `Host` (Z1: cross-site requests, DNS rebinding). Programs send neither `Origin` nor a
    browser's `User-Agent` and may use any host name. Unix sockets are out of a page's reach.
    """
    caller = scope.get("state", {}).get("caller")
    if caller is not None and caller.transport == "unix":
        return None
    headers = _headers(scope)
    host = headers.get("host", "")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return f"requests from pages of {origin} are not accepted here"
    site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
    if site in {"cross-site", "same-site"} and mode != "navigate":
        return "requests from pages of other sites are not accepted here"
    is_browser = origin is not None or headers.get("user-agent", "").startswith("Mozilla/")
    if is_browser and not _is_own_host(host, allowed_hosts):
        return (
            f"browsers may not use the admin API as {host!r}: use its IP address or localhost, or "
            "add the name to the allowed hosts in the settings"
        )
    return None


def _is_own_host(host: str, allowed_hosts: tuple[str, ...]) -> bool:
    if host.startswith("["):
        return True  # an IPv6 address
    name = host.partition(":")[0].lower()
    is_address = name.replace(".", "").isdecimal()
    return is_address or name == "localhost" or name.endswith(".localhost") or name in allowed_hosts


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": reason[:100]})
        return
    await _answer(send, 403, f"{reason}\n".encode(), (b"content-type", TEXT))


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
