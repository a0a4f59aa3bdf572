"""Deployments and SQL (scenarios F60 and F66)."""

import socket
import time

import httpx
import pytest

from tests.real.scenarios.raw_endpoint import RawEndpoint
from tests.real.scenarios.world import World

pytestmark = pytest.mark.real
UNKNOWN_DEPLOYMENT = "dp_17GMUEcPFczhJj4u7BHXyTL"


@pytest.mark.parametrize("uri", ["/services", "localhost:9080"])
def test_f60_a_uri_without_scheme_is_refused_at_once(world: World, uri: str) -> None:
    begun = time.monotonic()
    answer = world.register(uri)
    assert answer.status_code == 400
    assert "is not absolute" in answer.json()["message"]
    assert time.monotonic() - begun < 0.5


def test_f60_a_refused_connection(world: World) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        answer = world.register(f"http://127.0.0.1:{held.getsockname()[1]}")
    assert (answer.status_code, answer.json()["restate_code"]) == (500, "META0003")


def test_f60_an_http1_endpoint_needs_the_flag(world: World) -> None:
    with RawEndpoint() as endpoint:
        plain = world.register(endpoint.uri)
        assert (plain.status_code, plain.json()["restate_code"]) == (500, "META0014")
        assert "--use-http1.1" in plain.json()["message"]
        assert world.register(endpoint.uri, use_http_11=True).status_code == 201


def test_f60_another_scheme(world: World) -> None:
    assert world.register("ftp://127.0.0.1:21").status_code == 500


def test_f60_registering_again(world: World) -> None:
    uri = world.services.uri
    again = [world.register(uri), world.register(f"{uri}/"), world.register(uri, dry_run=True)]
    assert [(answer.status_code, answer.json()["id"]) for answer in again] == [
        (200, world.deployment)
    ] * 3
    before = world.admin("GET", "/services/Svc").json()["revision"]
    forced = world.register(uri, force=True)
    assert (forced.status_code, forced.json()["id"]) == (200, world.deployment)
    assert world.admin("GET", "/services/Svc").json()["revision"] == before + 1


def test_f60_deletion(world: World) -> None:
    unknown = world.admin("DELETE", f"/deployments/{UNKNOWN_DEPLOYMENT}?force=true")
    assert unknown.status_code == 404
    assert world.admin("DELETE", f"/deployments/{world.deployment}").status_code == 501


def query(world: World, text: str, accept: str) -> httpx.Response:
    return world.http.post(
        f"{world.daemon.admin}/query", json={"query": text}, headers={"accept": accept}
    )


def test_f66_json_only_if_asked_for_exactly(world: World) -> None:
    as_json = query(world, "select 1 as a", "application/json")
    assert as_json.status_code == 200
    assert as_json.json() == {"rows": [{"a": 1}]}
    for accept in ("*/*", "text/csv", "application/json, text/plain"):
        as_arrow = query(world, "select 1 as a", accept)
        assert as_arrow.status_code == 200
        assert as_arrow.headers["content-type"] == "application/vnd.apache.arrow.stream"
        assert as_arrow.content.startswith(b"\xff\xff\xff\xff")
        assert as_arrow.content.endswith(b"\xff\xff\xff\xff\x00\x00\x00\x00")


@pytest.mark.parametrize(
    "text",
    [
        "show tables",
        "explain select * from sys_invocation",
        "select table_name from information_schema.tables",
        "select column_name from information_schema.columns where table_name = 'state'",
    ],
)
def test_f66_queries_about_the_tables(world: World, text: str) -> None:
    answer = query(world, text, "application/json")
    assert answer.status_code == 200
    assert answer.json()["rows"]
