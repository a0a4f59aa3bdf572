"""Kafka clusters and subscriptions: what is shown, said and refused. Source: admin.md 8, 9."""

import logging
from typing import Any

import msgspec
import pytest

from restated.admin.kafka import PROPERTIES_BYTES_MAX
from restated.model.records import KafkaCluster, Subscription
from tests.admin.world import AdminWorld, run_admin

SECRET = {
    "sasl.password": "hush", "SSL.Key.Password": "hush", "sasl.oauthbearer.client.secret": "hush",
    "sasl.username": "hush", "sasl.jaas.config": "hush", "ssl.key.pem": "hush",
    "ssl.keystore.key": "hush", "ssl.key.location": "hush", "my.token": "hush",
    "sasl.oauthbearer.token.endpoint.url": "hush", "aws.secret.access.key": "hush",
}  # fmt: skip
PLAIN = {"bootstrap.servers": "h:1", "group.id": "g", "ssl.ca.pem": "pem", "partition.key": "k"}
SOURCE = {"source": "kafka://box/orders", "sink": "service://TicketDesk/quote"}


async def with_cluster(world: AdminWorld, **properties: str) -> None:
    """Register services, create the cluster box."""
    await world.register()
    members = {"name": "box", "properties": {"bootstrap.servers": "h:1", **properties}}
    assert (await world.client.post("/kafka-clusters", json=members)).status_code == 201


def test_secrets_are_stored_as_given_and_never_shown() -> None:
    """8, Z: neither by the cluster nor by its subscriptions."""

    async def body(world: AdminWorld) -> None:
        await with_cluster(world, **SECRET, **PLAIN)
        await world.client.post("/subscriptions", json={**SOURCE, "options": {**SECRET, **PLAIN}})
        row = world.store.get(KafkaCluster, "box")
        assert row is not None
        assert msgspec.json.decode(row.properties) == {**SECRET, **PLAIN}
        (subscription,) = world.store.scan(Subscription)
        assert SECRET.items() <= msgspec.json.decode(subscription.options).items()
        for path in (
            "/kafka-clusters", "/kafka-clusters/box?include_subscriptions=true", "/subscriptions",
            f"/subscriptions/{subscription.id}",
        ):  # fmt: skip
            shown = await world.client.get(path)
            assert shown.status_code == 200
            assert "hush" not in shown.text
        shown = await world.client.get("/kafka-clusters/box")
        assert shown.json()["properties"] == {**dict.fromkeys(SECRET, "***"), **PLAIN}

    run_admin(body)


def test_the_log_says_once_that_nothing_is_read_yet(caplog: pytest.LogCaptureFixture) -> None:
    """Brief and with the id, without options."""

    async def body(world: AdminWorld) -> None:
        await with_cluster(world)
        await world.client.post("/subscriptions", json={**SOURCE, "options": SECRET})

    with caplog.at_level(logging.INFO, "restated"):
        run_admin(body)
    said = [record for record in caplog.records if "does not read from Kafka" in record.message]
    assert [record.levelname for record in said] == ["WARNING"]
    assert "subscription_id=sub_1" in said[0].message
    assert "hush" not in caplog.text


def test_a_refused_subscription_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    """9: 400."""

    async def body(world: AdminWorld) -> None:
        await with_cluster(world)
        refused = await world.client.post(
            "/subscriptions", json={"source": "kafka://none/t", "sink": SOURCE["sink"]}
        )
        assert refused.status_code == 400
        assert list(world.store.scan(Subscription)) == []

    run_admin(body)
    assert "Kafka" not in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "members", "status", "text"),
    [
        ("POST", "/subscriptions", {**SOURCE, "source": ""}, 422, "source: empty string"),
        ("POST", "/subscriptions", {**SOURCE, "sink": "a/b"}, 422, "sink: invalid format"),
        ("POST", "/subscriptions", {"source": "kafka://box/t"}, 422, "missing field `sink`"),
        ("POST", "/subscriptions", {**SOURCE, "options": {"a": 1}}, 422, "options[...]: Expected"),
        (
            "POST", "/kafka-clusters", {"name": "", "properties": {}}, 422, "name: empty string",
        ),
        (
            "PATCH", "/kafka-clusters/a%20b", {"properties": {}}, 400,
            "The request field 'cluster_name' is invalid. Reason: invalid uri character",
        ),
        ("DELETE", "/kafka-clusters/a%25b", None, 400, "invalid authority"),
        ("GET", "/kafka-clusters/a%20b", None, 404, "The requested Kafka cluster 'a b' does not"),
        (
            "GET", "/kafka-clusters/box?include_subscriptions=x", None, 400,
            "include_subscriptions: provided string was not `true` or `false`",
        ),
        ("DELETE", "/kafka-clusters/box?force=x", None, 400, "force: provided string"),
        (
            "GET", "/subscriptions/xx", None, 400,
            "Invalid URL: Cannot parse `subscription` with value `xx`: bad format",
        ),
        ("DELETE", "/subscriptions/sub_1abc", None, 400, "bad length"),
        ("PUT", "/kafka-clusters/box", None, 405, ""),
        (
            "PATCH", "/kafka-clusters/box",
            {"properties": {"bootstrap.servers": "h" * PROPERTIES_BYTES_MAX}}, 422,
            f"at most {PROPERTIES_BYTES_MAX} are stored",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(
    method: str, path: str, members: Any, status: int, text: str
) -> None:
    """1, 8, 9: framework errors are plain text, those of the application JSON."""

    async def body(world: AdminWorld) -> None:
        await with_cluster(world)
        content = {} if members is None else {"json": members}
        response = await world.client.request(method, path, **content)
        assert response.status_code == status
        assert text in response.text

    run_admin(body)


def test_a_removed_cluster_finds_its_subscriptions_again() -> None:
    """8: forced away and created anew."""

    async def body(world: AdminWorld) -> None:
        await with_cluster(world)
        created = (await world.client.post("/subscriptions", json=SOURCE)).json()
        gone = await world.client.delete("/kafka-clusters/box?force=true")
        assert gone.status_code == 202
        assert (await world.client.get("/subscriptions")).json() == {"subscriptions": [created]}
        await with_cluster(world)
        shown = await world.client.get("/kafka-clusters/box?include_subscriptions=true")
        assert shown.json()["subscriptions"] == [created]

    run_admin(body)
