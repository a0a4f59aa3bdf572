"""The table of admin routes, and the app built from it.

Lives here: ROUTES, mounted at `/`, `/v2`, `/v3` and `/v4`.
Does not: what a route does (server.py, registry.py, invocations.py, introspect.py, openapi.py).
Source: admin.md 1, 2.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.websockets import WebSocket

from restated.admin import invocations, registry, server
from restated.admin.app import AdminDeps
from restated.admin.exchange import Endpoint, Method, Resource, empty
from restated.engine.hypercorn_stream import ASGIApp, Receive, Scope, Send

PREFIXES: Final = ("", "/v2", "/v3", "/v4")


class AdminRoute(NamedTuple):
    """One row: an empty summary keeps it out of the OpenAPI document."""

    method: Method
    path: str
    endpoint: Endpoint
    summary: str = ""


async def _query(request: Request) -> Response:
    from restated.admin.introspect import query

    return await query(request)


ROUTES: Final = (
    AdminRoute("GET", "/", server.to_ui),
    AdminRoute("GET", "/ui", server.to_ui),
    AdminRoute("GET", "/health", server.health, "Check that the server answers"),
    AdminRoute("GET", "/version", server.version, "Versions, features, ingress address"),
    AdminRoute("GET", "/cluster-health", server.cluster_health, "Members of the cluster"),
    AdminRoute("GET", "/deployments", registry.list_deployments, "List deployments"),
    AdminRoute("POST", "/deployments", registry.register_deployment, "Register a deployment"),
    AdminRoute("GET", "/deployments/{deployment}", registry.get_deployment, "Get a deployment"),
    AdminRoute(
        "PATCH", "/deployments/{deployment}", registry.update_deployment, "Update a deployment"
    ),
    AdminRoute("PUT", "/deployments/{deployment}", registry.put_deployment),
    AdminRoute(
        "DELETE", "/deployments/{deployment}", registry.remove_deployment, "Remove a deployment"
    ),
    AdminRoute("GET", "/services", registry.list_services, "List services"),
    AdminRoute("GET", "/services/{service}", registry.get_service, "Get a service"),
    AdminRoute("PATCH", "/services/{service}", registry.patch_service, "Change a service"),
    AdminRoute(
        "GET", "/services/{service}/handlers", registry.list_handlers, "List handlers of a service"
    ),
    AdminRoute(
        "GET", "/services/{service}/handlers/{handler}", registry.get_handler, "Get a handler"
    ),
    AdminRoute(
        "POST", "/services/{service}/state", invocations.put_state, "Replace the state of a key"
    ),
    AdminRoute(
        "PATCH", "/invocations/{invocation_id}/cancel", invocations.cancel, "Cancel an invocation"
    ),
    AdminRoute(
        "PATCH", "/invocations/{invocation_id}/kill", invocations.kill, "Kill an invocation"
    ),
    AdminRoute(
        "PATCH", "/invocations/{invocation_id}/pause", invocations.pause, "Pause an invocation"
    ),
    AdminRoute(
        "PATCH", "/invocations/{invocation_id}/resume", invocations.resume, "Resume an invocation"
    ),
    AdminRoute(
        "PATCH", "/invocations/{invocation_id}/purge", invocations.purge, "Purge an invocation"
    ),
    AdminRoute(
        "PATCH", "/invocations/{invocation_id}/purge-journal", invocations.purge_journal,
        "Purge the journal of an invocation",
    ),
    AdminRoute(
        "PATCH", "/invocations/{invocation_id}/restart-as-new", invocations.restart_as_new,
        "Restart an invocation under a new id",
    ),
    AdminRoute(
        "DELETE", "/invocations/{invocation_id}", invocations.end, "Cancel, kill or purge"
    ),
    AdminRoute(
        "POST", "/internal/invocations_batch_operations/{operation}", invocations.batch
    ),
    AdminRoute("POST", "/query", _query, "Run an SQL query"),
)  # fmt: skip


def build_routes(deps: AdminDeps) -> ASGIApp:
    """The app of all routes, without access control."""
    tables: dict[str, dict[Method, Endpoint]] = {}
    for route in ROUTES:
        tables.setdefault(route.path, {})[route.method] = route.endpoint
    resources = {path: Resource(table, deps) for path, table in tables.items()}
    routes: list[Route | WebSocketRoute] = [
        Route(prefix + path, resource, include_in_schema=False)
        for prefix in PREFIXES
        for path, resource in resources.items()
    ]
    every: dict[Method, Endpoint] = dict.fromkeys(
        ("GET", "POST", "PATCH", "PUT", "DELETE"), server.too_old
    )
    routes.extend(WebSocketRoute(f"{prefix}/tail", _tail(deps)) for prefix in PREFIXES)
    routes.append(Route("/v1/{rest:path}", Resource(every, deps)))
    return Router(routes, redirect_slashes=False, default=_unknown)


def _tail(deps: AdminDeps) -> Callable[[WebSocket], Awaitable[None]]:
    async def tail(websocket: WebSocket) -> None:
        from restated.admin import introspect

        websocket.state.deps = deps
        await introspect.tail(websocket)

    return tail


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).close(4404)
        return
    response: Response = empty(404)
    await response(scope, receive, send)
