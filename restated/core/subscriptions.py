"""Kafka clusters, and subscriptions that turn the records of a topic into invocations.

Lives here: which of them may be stored, what else must be there, what removing one leaves behind.
Does not: reading from Kafka; which texts are URIs (model/uris.py); hiding secrets of what is
stored (admin/kafka.py).
Rules: admin.md 8, 9. A subscription outlives its handler, which the next deployment may bring
back, and with `force` also its cluster.
"""

import msgspec

from restated.core.effects import Affected, Done, Refused, Reply
from restated.core.events import (
    CreateKafkaCluster,
    CreateSubscription,
    Pairs,
    RemoveKafkaCluster,
    RemoveSubscription,
    UpdateKafkaCluster,
)
from restated.core.registry import definition_of, latest_revision
from restated.core.view import Step, View
from restated.model.errors import ErrorCode
from restated.model.records import KafkaCluster, Subscription
from restated.model.uris import ResourceUri

CLUSTERS_MAX = 1_000
SUBSCRIPTIONS_MAX = 10_000
CLUSTERS_SHOWN_MAX = 50  # in an error text
BROKER_PROPERTIES = frozenset({"bootstrap.servers", "metadata.broker.list"})
CLIENT_ID = "restate"  # as the reference: consumer lists of operators know it


def on_create_cluster(step: Step, event: CreateKafkaCluster) -> Reply:
    """Store a cluster under a new name."""
    if not _names_brokers(event.properties):
        return Refused(ErrorCode.CLUSTER_INCOMPLETE, event.name)
    if step.get(KafkaCluster, event.name) is not None:
        return Refused(ErrorCode.CLUSTER_EXISTS, event.name)
    if sum(1 for _ in step.scan(KafkaCluster)) >= CLUSTERS_MAX:
        return Refused(ErrorCode.TABLE_FULL, f"{CLUSTERS_MAX} Kafka clusters")
    cluster = KafkaCluster(event.name, _stored(event.properties), step.now_ms)
    step.put(cluster)
    return Affected((cluster,))


def on_update_cluster(step: Step, event: UpdateKafkaCluster) -> Reply:
    """Replace the properties of a cluster."""
    if not _names_brokers(event.properties):
        return Refused(ErrorCode.CLUSTER_INCOMPLETE, event.name)
    cluster = step.get(KafkaCluster, event.name)
    if cluster is None:
        return Refused(ErrorCode.CLUSTER_UNKNOWN, event.name)
    cluster = msgspec.structs.replace(cluster, properties=_stored(event.properties))
    step.put(cluster)
    return Affected((cluster,))


def on_remove_cluster(step: Step, event: RemoveKafkaCluster) -> Reply:
    """Forget a cluster that no subscription names, or any with `force`."""
    if step.get(KafkaCluster, event.name) is None:
        return Refused(ErrorCode.CLUSTER_GONE, event.name)
    orphan = next((row for row in step.scan(Subscription) if row.cluster == event.name), None)
    if orphan is not None and not event.force:
        return Refused(
            ErrorCode.CLUSTER_USED, f"'{event.name}' leads to subscription '{orphan.id}'"
        )
    step.delete(KafkaCluster, event.name)
    return Done(id=event.name)


def on_create(step: Step, event: CreateSubscription) -> Reply:
    """Store a subscription whose handler and cluster are there."""
    source, sink = event.source, event.sink
    refused = _refused_source(source) or _refused_sink(step, sink)
    if refused is not None:
        return refused
    cluster = step.get(KafkaCluster, source.authority)
    if cluster is None:
        return _without_cluster(step, source)
    if sum(1 for _ in step.scan(Subscription)) >= SUBSCRIPTIONS_MAX:
        return Refused(ErrorCode.TABLE_FULL, f"{SUBSCRIPTIONS_MAX} subscriptions")
    assert step.get(Subscription, event.id) is None, "a new id is new"
    subscription = Subscription(
        id=event.id,
        cluster=source.authority,
        topic=source.path[1:],
        service=sink.authority,
        handler=sink.path[1:],
        options=_stored(_options(event, cluster)),
        created_at_ms=step.now_ms,
    )
    step.put(subscription)
    return Affected((subscription,))


def on_remove(step: Step, event: RemoveSubscription) -> Reply:
    """Forget a subscription; what came in over it goes on."""
    if step.get(Subscription, event.id) is None:
        return Refused(ErrorCode.SUBSCRIPTION_UNKNOWN, event.id)
    step.delete(Subscription, event.id)
    return Done(id=event.id)


def _names_brokers(properties: Pairs) -> bool:
    return any(name in BROKER_PROPERTIES for name, _ in properties)


def _stored(pairs: Pairs) -> bytes:
    return msgspec.json.encode(dict(pairs))


def _refused_source(source: ResourceUri) -> Refused | None:
    is_kafka = source.scheme == "kafka"
    return None if is_kafka else Refused(ErrorCode.SOURCE_SCHEME, source.display)


def _refused_sink(view: View, sink: ResourceUri) -> Refused | None:
    if sink.scheme != "service":
        return Refused(ErrorCode.SINK_SCHEME, sink.display)
    latest = latest_revision(view, sink.authority)
    handlers = () if latest is None else definition_of(latest).handlers
    if all(handler.name != sink.path[1:] for handler in handlers):
        return Refused(ErrorCode.SINK_UNKNOWN, sink.display)
    return None


def _options(event: CreateSubscription, cluster: KafkaCluster) -> Pairs:
    """What was given and what a reader needs besides, in the order of the names.

    The group is fixed now: it is where reading goes on, whatever becomes of the cluster.
    """
    options = dict(event.options)
    properties = msgspec.json.decode(cluster.properties, type=dict[str, str])
    options.setdefault("group.id", properties.get("group.id", event.id))
    if "client.id" not in properties:
        options.setdefault("client.id", CLIENT_ID)
    return tuple(sorted(options.items()))


def _without_cluster(view: View, source: ResourceUri) -> Refused:
    names = [f'"{cluster.name}"' for cluster in view.scan(KafkaCluster, limit=CLUSTERS_SHOWN_MAX)]
    known = f"[{', '.join(names)}]"
    return Refused(
        ErrorCode.SOURCE_CLUSTER,
        f"'{source.authority}' not found. Available clusters: {known}",
    )
