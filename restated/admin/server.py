"""What the server says about itself: liveness, versions, cluster.

Lives here: /health, /version, /cluster-health, the page where a web interface would be.
Does not: metrics and SQL (introspect.py).
Source: admin.md 1, 3.
"""

from importlib.resources import files
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from restated.admin.app import ADMIN_API_VERSION, CLUSTER_NAME
from restated.admin.exchange import answer, deps_of, empty, text

API_VERSION_MIN: Final = 2
API_VERSION_MAX: Final = 4
PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
FEATURES: Final = (
    "vqueues", "protocol_v7", "scoped_virtual_objects", "kafka_scope", "invoker_yield",
    "scoped_state_table_migration", "scoped_promise_table_migration",
    "vqueues_migration_skip_completed", "vqueues_async_refill", "vqueue_obsolete_cleanup",
    "preflight_invocation_termination_retention", "unique_random_seeds",
)  # fmt: skip


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """Versions, features and the advertised ingress address; without one it is null."""

    version: str
    min_admin_api_version: int
    max_admin_api_version: int
    ingress_endpoint: str | None
    features: dict[str, bool]


class MetadataHealth(msgspec.Struct, frozen=True):
    """Ids of the nodes that keep metadata."""

    members: list[int]


class ClusterHealthView(msgspec.Struct, frozen=True):
    """The cluster, which is one node."""

    cluster_name: str
    metadata_cluster_health: MetadataHealth


async def health(_request: Request) -> Response:
    """Liveness: whoever reads this is served."""
    return empty(200)


async def version(request: Request) -> Response:
    """Versions, features and the advertised ingress address.

    Every feature is off: clients then keep to the columns and requests that this server has.
    """
    deps = deps_of(request)
    ingress = deps.advertised_ingress
    return answer(
        VersionView(
            version=ADMIN_API_VERSION,
            min_admin_api_version=API_VERSION_MIN,
            max_admin_api_version=API_VERSION_MAX,
            ingress_endpoint=None if ingress is None else f"{ingress.rstrip('/')}/",
            features=dict.fromkeys(FEATURES, False),
        )
    )


async def cluster_health(_request: Request) -> Response:
    """One node, always."""
    return answer(ClusterHealthView(CLUSTER_NAME, MetadataHealth([1])))


async def to_ui(request: Request) -> Response:
    """Browsers are sent to the page below /ui/."""
    query = f"?{request.url.query}" if request.url.query else ""
    return empty(308, location=f"/ui/{query}")


async def page(_request: Request) -> Response:
    """What is where, for whoever looks for the web interface; the same for every path of it."""
    content = files("restated.admin").joinpath("page.html").read_bytes()
    headers = {"content-security-policy": PAGE_POLICY}
    return Response(content, 200, headers, "text/html")


TOO_OLD: Final = text(
    400,
    "Unsupported Admin API version V1. This server supports versions between "
    f"V{API_VERSION_MIN} and V{API_VERSION_MAX}.",
)
"""The answer to version 1 of the API, which is gone."""
