"""Recorded answers of the reference that the ingress gives alone, through HTTP/1 bytes."""

import base64
import json
from typing import Any

import pytest

from restated.model.services import Handler, Options, Payload
from tests.ingress.http import Answer, request
from tests.ingress.world import DATA, IngressWorld, Services, handler, run_ingress

BYTES_IN = Payload(content_type="*/*", schema=b"true")


def text(content_type: str) -> Payload:
    """A text input with a schema, as the SDK announces it."""
    return Payload(content_type=content_type, schema=b"true")


SERVICES: Services = {
    "IngSvc": (
        "service",
        (
            *(
                handler(name)
                for name in ("echo", "greet", "fail", "headers", "meta", "slow", "idem_zero")
            ),
            handler("noinput", input=Payload()),
            handler("raw", input=BYTES_IN),
            handler("text_any", input=text("text/*")),
            handler("text_plain", input=text("text/plain")),
            handler("no_io", input=None, output=None),
            handler("req_json", input=Payload(True, "application/json", False, b"{}")),
            handler("req_any", input=Payload(True, "*/*")),
            handler("req_only", input=Payload(True)),
            handler("hidden", options=Options(public=False)),
        ),
    ),
    "IngPrivate": ("service", (handler("ping", options=Options(public=False)),)),
    "IngObj": ("virtual_object", (Handler("key", "shared"), handler("add", "exclusive"))),
    "IngWf": ("workflow", (handler("run", "workflow"), handler("state"))),
}
DECIDED = {  # answered otherwise on purpose: 413 is an error like every other (F11)
    "protocol/content-length-over-limit-any-path",
    "protocol/content-length-over-limit",
    "protocol/options-content-length-over-limit",
}


def is_given_by_the_ingress(case: dict[str, Any]) -> bool:
    """Neither a handler nor an earlier request takes part."""
    if set(case) & {"setup", "during", "teardown"} or case.get("requires") == "vqueues":
        return False
    asked, wanted = case["request"], case["response"]
    if asked.get("version") == "2" or "IngToggle" in asked["path"] or case["name"] in DECIDED:
        return False
    is_own_error = (wanted.get("headers") or {}).get("x-restate-error-source") == "ingress"
    if "<inv-id" in json.dumps(wanted):
        return False  # made of a key that differs in each run
    return is_own_error or asked["method"] == "OPTIONS" or "/restate/lookup" in asked["path"]


CASES = [
    case
    for case in json.loads((DATA / "ingress_cases.json").read_text())["cases"]
    if is_given_by_the_ingress(case)
]


def octets(case: dict[str, Any]) -> bytes:
    """The request of a case."""
    asked = case["request"]
    body = asked.get("body")
    if isinstance(body, dict) and "base64" in body:
        content = base64.b64decode(body["base64"])
    elif isinstance(body, dict):
        content = body["repeat"].encode() * body["count"]
    else:
        content = (body or "").encode()
    fields = tuple((name, value) for name, value in asked.get("headers") or ())
    if asked.get("chunked"):
        framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
        fields = (*fields, ("transfer-encoding", "chunked"), ("content-length", "0"))
        return (
            request(asked["method"], asked["path"], b"", fields).replace(
                b"content-length: 0\r\n", b""
            )
            + framed
        )
    return request(asked["method"], asked["path"], content, fields)


def differences(wanted: dict[str, Any], got: Answer) -> list[str]:
    """What differs from the recorded answer; `<any>` at the end of a text matches anything."""
    found = []
    if got.status != wanted["status"]:
        found.append(f"status {got.status}")
    for name, value in (wanted.get("headers") or {}).items():
        if got.headers.get(name) != value:
            found.append(f"{name}: {got.headers.get(name)}")
    body = wanted.get("body")
    if body is None:
        return [*found, f"body {got.body!r}"] if got.body else found
    recorded, ours = body["json"], json.loads(got.body)
    if "message" in recorded and recorded["message"].endswith("<any>"):
        start = recorded["message"].removesuffix("<any>")
        ours["message"] = ours["message"][: len(start)] + "<any>"
    return found if ours == recorded else [*found, f"body {ours}"]


def test_there_are_enough_cases() -> None:
    """Guards the selection above."""
    assert len(CASES) > 300


def test_answers_equal_the_recorded_ones() -> None:
    """ingress.md: status, headers and body of every refusal, preflight and lookup."""
    found: dict[str, list[str]] = {}

    async def body(world: IngressWorld) -> None:
        for case in CASES:
            answer = await world.ask(octets(case))
            problems = differences(case["response"], answer)
            if problems:
                found[case["name"]] = problems

    run_ingress(body, services=SERVICES)
    assert found == {}


@pytest.mark.parametrize("name", sorted(DECIDED))
def test_an_announced_body_beyond_the_limit_is_an_error_like_every_other(name: str) -> None:
    """Scenario F11: JSON with its source, and CORS headers, on every path and method."""
    asked = next(
        case["request"]
        for case in json.loads((DATA / "ingress_cases.json").read_text())["cases"]
        if case["name"] == name
    )
    fields = (*((name, value) for name, value in asked["headers"]), ("origin", "http://a"))

    async def body(world: IngressWorld) -> None:
        answer = await world.ask(request(asked["method"], asked["path"], b"", fields))
        assert answer.status == 413
        assert answer.headers["access-control-allow-origin"] == "http://a"
        assert answer.headers["connection"] == "close"
        assert json.loads(answer.body)["source"] == "ingress"

    run_ingress(body)
