"""The table of admin routes, and the app built from it.

Lives here: ROUTES, mounted at `/`, `/v2`, `/v3` and `/v4`.
Does not: what a route does (registry.py, invocations.py, kafka.py and the others named in ROUTES).
Source: admin.md 1, 2.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from starlette.responses import Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.websockets import WebSocket

from restated import client
from restated.admin import (
    introspect,
    invocations,
    kafka,
    limits,
    openapi,
    registry,
    serdes,
    server,
)
from restated.admin.app import AdminDeps
from restated.admin.bodies import (
    PatchServiceBody,
    RegisterHttp,
    RegisterLambda,
    StateBody,
    UpdateDeploymentBody,
)
from restated.admin.compression import compressed
from restated.admin.exchange import Endpoint, Method, Resource, empty
from restated.engine.hypercorn_stream import ASGIApp, Receive, Scope, Send

PREFIXES: Final = ("", "/v2", "/v3", "/v4")


class AdminRoute(NamedTuple):
    """One row: an empty summary keeps it out of the OpenAPI document.

    `request` are the alternatives of the body, `query` the names of query parameters, `also` other
    statuses of success.
    """

    method: Method
    path: str
    endpoint: Endpoint
    summary: str = ""
    request: tuple[type, ...] = ()
    response: type | None = None
    status: int = 200
    query: tuple[str, ...] = ()
    also: tuple[int, ...] = ()


_ONE: Final = "/invocations/{invocation_id}"
ROUTES: Final = (
    AdminRoute("GET", "/", server.to_ui),
    AdminRoute("GET", "/ui", server.to_ui),
    AdminRoute("GET", "/ui/{path:path}", server.page),
    AdminRoute("GET", "/openapi", openapi.admin_document),
    AdminRoute("GET", "/health", server.health, "Check that the server answers"),
    AdminRoute(
        "GET", "/version", server.version, "Versions, features, ingress address",
        response=server.VersionView,
    ),
    AdminRoute(
        "GET", "/cluster-health", server.cluster_health, "Members of the cluster",
        response=server.ClusterHealthView,
    ),
    AdminRoute(
        "GET", "/deployments", registry.list_deployments, "List deployments",
        response=client.DeploymentList,
    ),
    AdminRoute(
        "POST", "/deployments", registry.register_deployment, "Register a deployment",
        (RegisterHttp, RegisterLambda), client.Registered, 201, also=(200,),
    ),
    AdminRoute(
        "GET", "/deployments/{deployment}", registry.get_deployment, "Get a deployment",
        response=client.DeploymentView,
    ),
    AdminRoute(
        "PATCH", "/deployments/{deployment}", registry.update_deployment, "Update a deployment",
        (UpdateDeploymentBody,), client.DeploymentView,
    ),
    AdminRoute("PUT", "/deployments/{deployment}", registry.put_deployment),
    AdminRoute(
        "DELETE", "/deployments/{deployment}", registry.remove_deployment, "Remove a deployment",
        status=202, query=("force",),
    ),
    AdminRoute(
        "GET", "/services", registry.list_services, "List services", response=client.ServiceList
    ),
    AdminRoute(
        "GET", "/services/{service}", registry.get_service, "Get a service",
        response=client.ServiceView,
    ),
    AdminRoute(
        "PATCH", "/services/{service}", registry.patch_service, "Change a service",
        (PatchServiceBody,), client.ServiceView,
    ),
    AdminRoute(
        "GET", "/services/{service}/openapi", openapi.service_document,
        "OpenAPI document of a service", response=dict,
    ),
    AdminRoute(
        "GET", "/services/{service}/handlers", registry.list_handlers,
        "List handlers of a service", response=client.HandlerList,
    ),
    AdminRoute(
        "GET", "/services/{service}/handlers/{handler}", registry.get_handler, "Get a handler",
        response=client.HandlerView,
    ),
    AdminRoute(
        "POST", "/services/{service}/state", invocations.put_state, "Replace the state of a key",
        (StateBody,), status=202,
    ),
    AdminRoute(
        "PATCH", f"{_ONE}/cancel", invocations.cancel, "Cancel an invocation", status=202,
        also=(200,),
    ),
    AdminRoute("PATCH", f"{_ONE}/kill", invocations.kill, "Kill an invocation"),
    AdminRoute(
        "PATCH", f"{_ONE}/pause", invocations.pause, "Pause an invocation", status=202,
        also=(200,),
    ),
    AdminRoute(
        "PATCH", f"{_ONE}/resume", invocations.resume, "Resume an invocation",
        query=("deployment",),
    ),
    AdminRoute("PATCH", f"{_ONE}/purge", invocations.purge, "Forget a completed invocation"),
    AdminRoute(
        "PATCH", f"{_ONE}/purge-journal", invocations.purge_journal,
        "Forget the journal of a completed invocation",
    ),
    AdminRoute(
        "PATCH", f"{_ONE}/restart-as-new", invocations.restart_as_new,
        "Restart a completed invocation under a new id", response=client.NewInvocation,
        query=("from", "deployment"),
    ),
    AdminRoute(
        "DELETE", _ONE, invocations.end, "Cancel, kill or purge an invocation",
        status=202, query=("mode",),
    ),
    AdminRoute("POST", "/internal/invocations_batch_operations/{operation}", invocations.batch),
    AdminRoute(
        "GET", "/subscriptions", kafka.list_subscriptions, "List subscriptions",
        response=kafka.SubscriptionList, query=("source", "sink"),
    ),
    AdminRoute(
        "POST", "/subscriptions", kafka.create_subscription, "Create a subscription",
        (kafka.CreateSubscriptionBody,), kafka.SubscriptionView, 201,
    ),
    AdminRoute(
        "GET", "/subscriptions/{subscription}", kafka.get_subscription, "Get a subscription",
        response=kafka.SubscriptionView,
    ),
    AdminRoute(
        "DELETE", "/subscriptions/{subscription}", kafka.remove_subscription,
        "Remove a subscription", status=202,
    ),
    AdminRoute(
        "GET", "/kafka-clusters", kafka.list_clusters, "List Kafka clusters",
        response=kafka.ClusterList,
    ),
    AdminRoute(
        "POST", "/kafka-clusters", kafka.create_cluster, "Create a Kafka cluster",
        (kafka.CreateClusterBody,), kafka.ClusterView, 201,
    ),
    AdminRoute(
        "GET", "/kafka-clusters/{cluster_name}", kafka.get_cluster, "Get a Kafka cluster",
        response=kafka.ClusterView, query=("include_subscriptions",),
    ),
    AdminRoute(
        "PATCH", "/kafka-clusters/{cluster_name}", kafka.update_cluster,
        "Change a Kafka cluster", (kafka.UpdateClusterBody,), kafka.ClusterView,
    ),
    AdminRoute(
        "DELETE", "/kafka-clusters/{cluster_name}", kafka.remove_cluster,
        "Remove a Kafka cluster", status=202, query=("force",),
    ),
    AdminRoute(
        "PUT", "/limits/rules", limits.put_rules, "Store limit rules",
        (list[limits.RuleBody],), list[limits.RuleView],
    ),
    AdminRoute(
        "POST", "/limits/rules/bulk-delete", limits.remove_rules, "Remove limit rules",
        (list[limits.RuleRemoval],), list[str],
    ),
    AdminRoute(
        "POST", "/vqueues/{vqueue_id}/pause", limits.pause_vqueue, "Pause a virtual queue",
        status=202,
    ),
    AdminRoute(
        "POST", "/vqueues/{vqueue_id}/resume", limits.resume_vqueue, "Resume a virtual queue",
        status=202,
    ),
    AdminRoute("POST", "/internal/services/{service}/serdes/decode/{name:path}", serdes.decode),
    AdminRoute("POST", "/internal/services/{service}/serdes/encode/{name:path}", serdes.encode),
    AdminRoute(
        "POST", "/query", introspect.query, "Run an SQL query",
        (introspect.Question,), introspect.Answer,
    ),
)  # fmt: skip


def build_routes(deps: AdminDeps) -> ASGIApp:
    """The app of all routes, without access control."""
    tables: dict[str, dict[Method, Endpoint]] = {}
    for route in ROUTES:
        tables.setdefault(route.path, {})[route.method] = route.endpoint
    resources = {path: Resource(table, deps) for path, table in tables.items()}
    routes: list[Route | WebSocketRoute] = [
        Route(prefix + path if path != "/" else prefix or path, resource)
        for prefix in PREFIXES
        for path, resource in resources.items()
    ]
    routes.extend(WebSocketRoute(f"{prefix}/tail", _tail(deps)) for prefix in PREFIXES)
    routes.extend(Route(path, server.TOO_OLD) for path in ("/v1", "/v1/{rest:path}"))
    return compressed(Router(routes, redirect_slashes=False, default=_unknown))


def _tail(deps: AdminDeps) -> Callable[[WebSocket], Awaitable[None]]:
    async def tail(websocket: WebSocket) -> None:
        websocket.state.deps = deps
        await introspect.tail(websocket)

    return tail


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).close(4404)
        return
    response: Response = empty(404)
    await response(scope, receive, send)
