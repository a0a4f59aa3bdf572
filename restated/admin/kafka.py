"""Kafka clusters and subscriptions.

Lives here: bodies of both directions, what counts as a secret and is not shown.
Does not: what may be stored (core/subscriptions.py); reading from Kafka, which this version does
not do yet.
Source: admin.md 8, 9.
"""

import logging
from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from restated.admin import render
from restated.admin.exchange import (
    RequestError,
    answer,
    deps_of,
    empty,
    failure,
    flag,
    json_body,
    parameter,
    refusal,
    text,
    unfit,
)
from restated.core.effects import Affected, Refused, Reply
from restated.core.events import (
    CreateKafkaCluster,
    CreateSubscription,
    Event,
    Pairs,
    RemoveKafkaCluster,
    RemoveSubscription,
    UpdateKafkaCluster,
)
from restated.model import ids
from restated.model.errors import ErrorCode
from restated.model.records import KafkaCluster, Subscription
from restated.model.uris import (
    ResourceUri,
    UriError,
    parse_cluster_name,
    parse_resource_uri,
    sink_uri,
    source_uri,
)

PROPERTIES_BYTES_MAX: Final = 262_144  # certificates and keys may stand in them
HIDDEN: Final = "***"
SECRET_WORDS: Final = (
    "password", "passwd", "passphrase", "secret", "token", "credential", "private.key", "jaas",
    "api.key", "user.info", "sasl.username", "sasl.oauthbearer.config", "ssl.key.pem",
    "ssl.key.location", "ssl.keystore.key", "ssl.keystore.location", "ssl.truststore.location",
)  # fmt: skip
"""A property whose name has one of these in it is not shown: more than the reference hides, as a
token that is shown once too often costs more than a name that is hidden in vain."""

log = logging.getLogger("restated.admin")
R = TypeVar("R", KafkaCluster, Subscription)


class CreateClusterBody(msgspec.Struct, frozen=True, kw_only=True):
    """A new cluster; properties are those of the Kafka client."""

    name: str
    properties: dict[str, str]


class UpdateClusterBody(msgspec.Struct, frozen=True, kw_only=True):
    """All properties that a cluster shall have."""

    properties: dict[str, str]


class CreateSubscriptionBody(msgspec.Struct, frozen=True, kw_only=True):
    """`kafka://<cluster>/<topic>` and `service://<service>/<handler>`."""

    source: str
    sink: str
    options: dict[str, str] | None = None


class SubscriptionView(msgspec.Struct, frozen=True, kw_only=True):
    """A stored subscription."""

    id: str
    source: str
    sink: str
    options: dict[str, str]


class SubscriptionList(msgspec.Struct, frozen=True, kw_only=True):
    """Stored subscriptions."""

    subscriptions: list[SubscriptionView]


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """A stored cluster; `subscriptions` where somebody asked for one cluster."""

    name: str
    properties: dict[str, str]
    created_at: str
    subscriptions: list[SubscriptionView] | msgspec.UnsetType = msgspec.UNSET


class ClusterList(msgspec.Struct, frozen=True, kw_only=True):
    """Stored clusters."""

    clusters: list[ClusterView]


# -- clusters


async def list_clusters(request: Request) -> Response:
    """Every cluster, by name."""
    with deps_of(request).store.snapshot() as view:
        shown = [_shown_cluster(row) for row in view.scan(KafkaCluster)]
    return answer(ClusterList(clusters=shown))


async def create_cluster(request: Request) -> Response:
    """Store a cluster; nobody connects to it."""
    asked = await json_body(request, CreateClusterBody)
    try:
        name = parse_cluster_name(asked.name)
    except UriError as error:
        raise unfit(str(error), "name") from error
    event = CreateKafkaCluster(name, _pairs(asked.properties, "properties"))
    cluster = _only(await _submitted(request, event), KafkaCluster)
    return answer(_shown_cluster(cluster), 201, location=f"kafka-clusters/{name}")


async def get_cluster(request: Request) -> Response:
    """One cluster, with its subscriptions if asked for."""
    name = str(request.path_params["cluster_name"])
    is_with_subscriptions = flag(request, "include_subscriptions")
    with deps_of(request).store.snapshot() as view:
        cluster = view.get(KafkaCluster, name)
        if cluster is None:
            return refusal(Refused(ErrorCode.CLUSTER_NOT_FOUND, name))
        rows = [row for row in view.scan(Subscription) if row.cluster == name]
    shown = [_shown_subscription(row) for row in rows] if is_with_subscriptions else []
    return answer(msgspec.structs.replace(_shown_cluster(cluster), subscriptions=shown))


async def update_cluster(request: Request) -> Response:
    """Replace the properties of a cluster."""
    asked = await json_body(request, UpdateClusterBody)
    event = UpdateKafkaCluster(_name_in_path(request), _pairs(asked.properties, "properties"))
    return answer(_shown_cluster(_only(await _submitted(request, event), KafkaCluster)))


async def remove_cluster(request: Request) -> Response:
    """Forget a cluster; `force=true` also one that subscriptions name."""
    force = bool(flag(request, "force"))
    await _submitted(request, RemoveKafkaCluster(_name_in_path(request), force))
    return empty(202)


# -- subscriptions


async def list_subscriptions(request: Request) -> Response:
    """Subscriptions by id, those of one source or sink if asked for."""
    source, sink = parameter(request, "source", None), parameter(request, "sink", None)
    with deps_of(request).store.snapshot() as view:
        shown = [
            _shown_subscription(row)
            for row in view.scan(Subscription)
            if source in {None, source_uri(row)} and sink in {None, sink_uri(row)}
        ]
    return answer(SubscriptionList(subscriptions=shown))


async def create_subscription(request: Request) -> Response:
    """Store a subscription; the log says that nothing comes in over it yet."""
    deps = deps_of(request)
    asked = await json_body(request, CreateSubscriptionBody)
    event = CreateSubscription(
        id=ids.subscription_id(deps.clock.wall_ms(), deps.rng.bytes(ids.ULID_ENTROPY_BYTES)),
        source=_uri(asked.source, "source"),
        sink=_uri(asked.sink, "sink"),
        options=_pairs(asked.options or {}, "options"),
    )
    subscription = _only(await _submitted(request, event), Subscription)
    log.warning(
        "subscription stored, but this version does not read from Kafka yet"
        " subscription_id=%s source=%s sink=%s",
        subscription.id, source_uri(subscription), sink_uri(subscription),
    )  # fmt: skip
    shown = _shown_subscription(subscription)
    return answer(shown, 201, location=f"subscriptions/{subscription.id}")


async def get_subscription(request: Request) -> Response:
    """One subscription."""
    subscription_id = _id_in_path(request)
    with deps_of(request).store.snapshot() as view:
        found = view.get(Subscription, subscription_id)
    if found is None:
        return refusal(Refused(ErrorCode.SUBSCRIPTION_NOT_FOUND, subscription_id))
    return answer(_shown_subscription(found))


async def remove_subscription(request: Request) -> Response:
    """Forget a subscription."""
    await _submitted(request, RemoveSubscription(_id_in_path(request)))
    return empty(202)


# -- reading


def _name_in_path(request: Request) -> str:
    try:
        return parse_cluster_name(str(request.path_params["cluster_name"]))
    except UriError as error:
        message = f"The request field 'cluster_name' is invalid. Reason: {error}"
        raise RequestError(failure(400, message)) from error


def _id_in_path(request: Request) -> str:
    value = str(request.path_params["subscription"])
    try:
        return ids.parse_subscription_id(value)
    except ids.IdError as error:
        message = f"Invalid URL: Cannot parse `subscription` with value `{value}`: {error}"
        raise RequestError(text(400, message)) from error


def _uri(value: str, member: str) -> ResourceUri:
    try:
        return parse_resource_uri(value)
    except UriError as error:
        raise unfit(str(error), member) from error


def _pairs(properties: dict[str, str], member: str) -> Pairs:
    size = sum(len(name) + len(value) for name, value in properties.items())
    if size > PROPERTIES_BYTES_MAX:
        raise unfit(f"{size} characters, at most {PROPERTIES_BYTES_MAX} are stored", member)
    return tuple(sorted(properties.items()))


async def _submitted(request: Request, event: Event) -> Reply:
    reply = await deps_of(request).writer.submit(event)
    if isinstance(reply, Refused):
        raise RequestError(refusal(reply))
    return reply


def _only(reply: Reply, table: type[R]) -> R:
    assert isinstance(reply, Affected)
    (row,) = reply.rows
    assert isinstance(row, table)
    return row


# -- showing


def _shown_cluster(cluster: KafkaCluster) -> ClusterView:
    return ClusterView(
        name=cluster.name,
        properties=dict(_without_secrets(cluster.properties)),
        created_at=render.timestamp(cluster.created_at_ms),
    )


def _shown_subscription(subscription: Subscription) -> SubscriptionView:
    return SubscriptionView(
        id=subscription.id,
        source=source_uri(subscription),
        sink=sink_uri(subscription),
        options=dict(_without_secrets(subscription.options)),
    )


def _without_secrets(stored: bytes) -> Iterator[tuple[str, str]]:
    for name, value in msgspec.json.decode(stored, type=dict[str, str]).items():
        is_secret = any(word in name.lower() for word in SECRET_WORDS)
        yield name, HIDDEN if is_secret else value
