"""Kafka clusters and subscriptions. Source: admin.md 8, 9; the reference."""

from typing import Any

import msgspec
import pytest

from restated.core import subscriptions
from restated.core.effects import Affected, Done, Refused, Reply
from restated.core.events import (
    CreateKafkaCluster,
    CreateSubscription,
    DiscoveredService,
    RegisterDeployment,
    RemoveDeployment,
    RemoveKafkaCluster,
    RemoveSubscription,
    UpdateKafkaCluster,
)
from restated.model.errors import ErrorCode
from restated.model.records import Deployment, KafkaCluster, Row, Subscription
from restated.model.services import Handler, ServiceDefinition
from restated.model.uris import parse_resource_uri, sink_uri, source_uri
from tests.core.world import StepWorld

BROKERS = (("bootstrap.servers", "127.0.0.1:1"),)
SOURCE, SINK = "kafka://box/orders", "service://Desk/do"


@pytest.fixture
def desk(world: StepWorld) -> StepWorld:
    """A world with the service Desk and the cluster box."""
    row = Deployment("dp_1", "http://h:9080", "http2", "bidi_stream", 5, 7, b"{}", b"{}", 1_000)
    service = DiscoveredService("Desk", ServiceDefinition("service", (Handler("do", "shared"),)))
    world.apply(RegisterDeployment(row, (service,)))
    world.apply(CreateKafkaCluster("box", BROKERS))
    return world


def subscribe(world: StepWorld, source: str = SOURCE, sink: str = SINK, **fields: Any) -> Reply:
    options = tuple(sorted(fields.pop("options", {}).items()))
    uris = parse_resource_uri(source), parse_resource_uri(sink)
    return world.apply(CreateSubscription(fields.pop("id", "sub_1a"), *uris, options))


def options_of(world: StepWorld, subscription_id: str = "sub_1a") -> dict[str, str]:
    row = world.store.get(Subscription, subscription_id)
    assert row is not None
    return msgspec.json.decode(row.options, type=dict[str, str])


def stored(world: StepWorld) -> list[Row]:
    return [*world.store.scan(KafkaCluster), *world.store.scan(Subscription)]


def test_a_cluster_is_stored_with_its_secrets(world: StepWorld) -> None:
    """8: hiding them is for those who show them."""
    properties = (*BROKERS, ("sasl.password", "hush"))
    reply = world.apply(CreateKafkaCluster("box", properties))
    row = world.store.get(KafkaCluster, "box")
    assert row is not None
    assert reply == Affected((row,))
    assert msgspec.json.decode(row.properties) == dict(properties)
    assert row.created_at_ms == world.now_ms


def test_a_cluster_names_its_brokers(world: StepWorld) -> None:
    """8: 400, before anything else."""
    refused = Refused(ErrorCode.CLUSTER_INCOMPLETE, "box")
    assert world.apply(CreateKafkaCluster("box", (("client.id", "x"),))) == refused
    assert world.apply(UpdateKafkaCluster("box", ())) == refused
    assert isinstance(
        world.apply(CreateKafkaCluster("box", (("metadata.broker.list", "h:1"),))), Affected
    )


def test_a_name_is_taken_once(desk: StepWorld) -> None:
    """8: 409."""
    before = stored(desk)
    reply = desk.apply(CreateKafkaCluster("box", (("bootstrap.servers", "other:1"),)))
    assert reply == Refused(ErrorCode.CLUSTER_EXISTS, "box")
    assert stored(desk) == before


def test_an_update_replaces_all_properties(desk: StepWorld) -> None:
    """8: PATCH."""
    created_at_ms, desk.now_ms = desk.now_ms, desk.now_ms + 5
    desk.apply(UpdateKafkaCluster("box", (("metadata.broker.list", "h:2"),)))
    row = desk.store.get(KafkaCluster, "box")
    assert row == KafkaCluster("box", b'{"metadata.broker.list":"h:2"}', created_at_ms)


def test_a_cluster_that_is_not_there(world: StepWorld) -> None:
    """8: 404."""
    assert world.apply(UpdateKafkaCluster("box", BROKERS)) == Refused(
        ErrorCode.CLUSTER_UNKNOWN, "box"
    )
    assert world.apply(RemoveKafkaCluster("box")) == Refused(ErrorCode.CLUSTER_GONE, "box")


def test_a_cluster_stays_while_a_subscription_names_it(desk: StepWorld) -> None:
    """8: 409, unless forced; the subscription stays in either case."""
    subscribe(desk)
    refused = desk.apply(RemoveKafkaCluster("box"))
    assert isinstance(refused, Refused)
    assert refused.code.message(refused.subject) == (
        "Removing the kafka cluster 'box' leads to subscription 'sub_1a' being orphan. "
        "Remove the subscription first, or use the 'force' flag."
    )
    assert desk.apply(RemoveKafkaCluster("box", force=True)) == Done(id="box")
    assert [row.id for row in desk.store.scan(Subscription)] == ["sub_1a"]
    assert list(desk.store.scan(KafkaCluster)) == []


def test_a_subscription_keeps_source_sink_and_defaults(desk: StepWorld) -> None:
    """9: client.id and group.id are added."""
    reply = subscribe(desk, "kafka://box/a/b?x=1")
    row = desk.store.get(Subscription, "sub_1a")
    assert row is not None
    assert reply == Affected((row,))
    assert (source_uri(row), sink_uri(row)) == ("kafka://box/a/b", SINK)
    assert options_of(desk) == {"client.id": "restate", "group.id": "sub_1a"}


def test_given_options_count_before_those_of_the_cluster(desk: StepWorld) -> None:
    """9: a group is always stored, a client only where neither names one."""
    properties = (("client.id", "cc"), ("group.id", "gg"), *BROKERS)
    desk.apply(UpdateKafkaCluster("box", tuple(sorted(properties))))
    subscribe(desk, options={"auto.offset.reset": "earliest"})
    subscribe(desk, options={"group.id": "mine", "client.id": "me"}, id="sub_1b")
    assert options_of(desk) == {"auto.offset.reset": "earliest", "group.id": "gg"}
    assert options_of(desk, "sub_1b") == {"group.id": "mine", "client.id": "me"}


@pytest.mark.parametrize(
    ("source", "sink", "code", "subject"),
    [
        ("amqp://box/t", "service://Nope/x", ErrorCode.SOURCE_SCHEME, "amqp://box/t"),
        ("/box/t", SINK, ErrorCode.SOURCE_SCHEME, "/box/t"),
        ("kafka://none/t", "http://Desk/do", ErrorCode.SINK_SCHEME, "http://Desk/do"),
        ("kafka://none/t", "service://Nope/do", ErrorCode.SINK_UNKNOWN, "service://Nope/do"),
        (SOURCE, "service://Desk/nope?x", ErrorCode.SINK_UNKNOWN, "service://Desk/nope?x"),
        (SOURCE, "service://Desk", ErrorCode.SINK_UNKNOWN, "service://Desk/"),
        (SOURCE, "service://desk/do", ErrorCode.SINK_UNKNOWN, "service://desk/do"),
        (
            "kafka://none/t", SINK, ErrorCode.SOURCE_CLUSTER,
            "'none' not found. Available clusters: [\"box\"]",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_in_order(
    desk: StepWorld, source: str, sink: str, code: ErrorCode, subject: str
) -> None:
    """9: 400; the source, then the sink, then the cluster."""
    assert subscribe(desk, source, sink) == Refused(code, subject)
    assert list(desk.store.scan(Subscription)) == []


def test_a_subscription_outlives_its_handler(desk: StepWorld) -> None:
    """9: the next deployment may bring it back."""
    subscribe(desk)
    desk.apply(RemoveDeployment("dp_1"))
    assert [sink_uri(row) for row in desk.store.scan(Subscription)] == [SINK]


def test_a_subscription_is_removed_once(desk: StepWorld) -> None:
    """9: 202, then 404."""
    subscribe(desk)
    assert desk.apply(RemoveSubscription("sub_1a")) == Done(id="sub_1a")
    assert desk.apply(RemoveSubscription("sub_1a")) == Refused(
        ErrorCode.SUBSCRIPTION_UNKNOWN, "sub_1a"
    )


def test_full_tables_take_no_more(desk: StepWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything has a limit."""
    monkeypatch.setattr(subscriptions, "CLUSTERS_MAX", 1)
    monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_MAX", 1)
    assert desk.apply(CreateKafkaCluster("other", BROKERS)) == Refused(
        ErrorCode.TABLE_FULL, "1 Kafka clusters"
    )
    subscribe(desk)
    assert subscribe(desk, id="sub_1b") == Refused(ErrorCode.TABLE_FULL, "1 subscriptions")
