"""Deployments on AWS Lambda: a real daemon, the Python SDK's Lambda handler, a fake API."""

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.daemon.running import RealDaemon
from tests.real.lambda_api import ARN, OWN_KEY, ROLE, ROLE_KEY, LambdaApi
from tests.real.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture
def api() -> Iterator[LambdaApi]:
    with LambdaApi() as api:
        yield api


@pytest.fixture
def daemon(short_path: Path, api: LambdaApi) -> Iterator[RealDaemon]:
    with RealDaemon(short_path, environment=api.environment) as daemon:
        yield daemon


def register(daemon: RealDaemon, **members: str) -> httpx.Response:
    return httpx.post(f"{daemon.admin}/deployments", json={"arn": ARN, **members}, timeout=30)


def test_handlers_of_a_function_are_called_suspended_and_resumed(
    daemon: RealDaemon, api: LambdaApi
) -> None:
    """service-protocol.md 2.2, 2.4; admin.md 4: the ARN in place of the URI."""
    registered = register(daemon)
    assert registered.status_code == 201
    shown = httpx.get(f"{daemon.admin}/deployments/{registered.json()['id']}").json()
    assert (shown["arn"], "uri" in shown) == (ARN, False)
    added = httpx.post(f"{daemon.ingress}/Tally/k%201/add", json=4)
    assert (added.status_code, added.json()) == (200, 4)
    relayed = httpx.post(f"{daemon.ingress}/Work/relay", json={"key": "k 1", "mark": "m"})
    assert (relayed.status_code, relayed.json()) == (200, 5)
    napped = httpx.post(f"{daemon.ingress}/Work/nap", json={"ms": "50", "mark": "n"})
    assert (napped.status_code, napped.json()) == (200, "n")
    assert set(api.keys) == {OWN_KEY[0]}


def test_the_envelope_is_the_request(daemon: RealDaemon, api: LambdaApi) -> None:
    """service-protocol.md 2.4; no compression is offered."""
    register(daemon)
    httpx.post(f"{daemon.ingress}/Tally/k%201/read", json=None).raise_for_status()
    discovery, invocation = api.events
    assert (discovery["httpMethod"], discovery["path"]) == ("GET", "/discover")
    assert (discovery["body"], discovery["isBase64Encoded"]) == ("", True)
    assert (invocation["httpMethod"], invocation["path"]) == ("POST", "/invoke/Tally/read")
    assert base64.b64decode(invocation["body"])[:2] == b"\0\0"
    headers = invocation["headers"]
    assert headers["content-type"] == headers["accept"] == "application/vnd.restate.invocation.v6"
    assert headers["x-restate-invocation-id"].startswith("inv_1")
    assert headers["x-restate-service-key"] == "k%201"
    assert headers["x-restate-cluster-name"] == "localcluster"
    assert "accept-encoding" not in headers


def test_a_function_is_invoked_in_a_role(daemon: RealDaemon, api: LambdaApi) -> None:
    """admin.md 4: assume_role_arn; the role is assumed once, not for each invocation."""
    registered = register(daemon, assume_role_arn=ROLE)
    assert registered.status_code == 201
    httpx.post(f"{daemon.ingress}/Tally/k/add", json=1).raise_for_status()
    assert api.assumed == [ROLE]
    assert len(api.keys) >= 2
    assert set(api.keys) == {ROLE_KEY[0]}


def test_a_function_that_fails_fails_the_attempt(daemon: RealDaemon, api: LambdaApi) -> None:
    """service-protocol.md 2.4: RT0010; the invocation is tried again."""
    register(daemon)
    api.failure = '{"errorMessage":"Task timed out after 3.00 seconds"}'
    sent = httpx.post(f"{daemon.ingress}/Tally/k/add/send", json=1).raise_for_status().json()
    query = f"""SELECT last_failure_error_code AS code, last_failure AS failure
                FROM sys_invocation WHERE id = '{sent["invocationId"]}'"""
    asked = {"json": {"query": query}, "headers": {"accept": "application/json"}}
    (row,) = eventually(
        lambda: [
            row
            for row in httpx.post(f"{daemon.admin}/query", **asked).json()["rows"]  # type: ignore[arg-type]  # httpx's keywords
            if row.get("code")
        ]
    )
    assert row["code"] == "RT0010"
    assert "Task timed out after 3.00 seconds" in row["failure"]
    api.failure = None
    attached = httpx.get(f"{daemon.ingress}/restate/invocation/{sent['invocationId']}/attach")
    assert (attached.status_code, attached.json()) == (200, 1)


def test_wrong_credentials_are_named(short_path: Path, api: LambdaApi) -> None:
    """admin.md 4.2: META0003, what AWS said, after the retries."""
    environment = api.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    with RealDaemon(short_path, environment=environment) as daemon:
        refused = register(daemon)
    assert (refused.status_code, refused.json()["restate_code"]) == (500, "META0003")
    assert "signature does not match" in refused.json()["message"]


def test_without_botocore_the_registration_names_the_extra(
    short_path: Path, api: LambdaApi
) -> None:
    """Design 2: the extra is optional; what is missing is said where it is missed, at once."""
    (short_path / "botocore").mkdir()
    (short_path / "botocore" / "__init__.py").write_text("raise ImportError")
    environment = api.environment | {"PYTHONPATH": str(short_path)}
    with RealDaemon(short_path, environment=environment) as daemon:
        refused = register(daemon)
    assert (refused.status_code, refused.json()["restate_code"]) == (500, "META0003")
    assert "pip install 'restated[lambda]'" in refused.json()["message"]
