"""The recorded answers of the reference, replayed. Source: admin.md, admin_cases.json."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
from openapi_schema_validator import OAS31Validator

from tests.admin.patterns import fill, misfit
from tests.admin.world import DATA, HOST, AdminWorld, run_admin

CASES = json.loads((DATA / "admin_cases.json").read_text())["cases"]


def request_of(case: dict[str, Any], captured: dict[str, str]) -> dict[str, Any]:
    """Arguments of the request of a case."""
    asked = fill(case["request"], captured)
    arguments: dict[str, Any] = {"method": asked["method"], "url": asked["path"]}
    headers = dict(asked.get("headers", {}))
    if "json" in asked:
        arguments["content"] = json.dumps(asked["json"]).encode()
        headers.setdefault("content-type", "application/json")
    if "repeat" in asked:
        repeated = asked["repeat"]
        members = {repeated["member"]: [repeated["value"]] * repeated["times"]}
        arguments["content"] = json.dumps(members).encode()
        headers.setdefault("content-type", "application/json")
    if "text" in asked:
        arguments["content"] = asked["text"].encode()
    return {**arguments, "headers": headers}


def judge(case: dict[str, Any], response: httpx.Response, captured: dict[str, str]) -> str | None:
    """What is wrong with an answer."""
    expect = fill(case["expect"], captured)
    if response.status_code != expect["status"]:
        return f"status {response.status_code}, expected {expect['status']}: {response.text[:300]}"
    for name, pattern in expect.get("headers", {}).items():
        wrong = misfit(pattern, response.headers.get(name), name)
        if wrong:
            return wrong
    body = expect.get("body", {})
    if body.get("empty"):
        return None if not response.content else f"a body: {response.text[:300]}"
    if "text" in body:
        return misfit(body["text"], response.text, "text")
    if "json" not in body:
        return None
    is_json = response.headers.get("content-type") == "application/json"
    return misfit(body["json"], response.json()) if is_json else f"no JSON: {response.text[:300]}"


def undocumented(document: Any, method: str, url: str, response: httpx.Response) -> str | None:
    """What an answer has that the OpenAPI document does not tell; None for hidden routes."""
    path = re.sub("^/v[234](?=/)", "", url.partition("?")[0])
    operations = (
        methods[method.lower()]
        for template, methods in document["paths"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in methods
    )
    operation = next(operations, None)
    if operation is None or not response.content:
        return None
    answers = operation["responses"]
    found = answers.get(str(response.status_code), answers["default"])
    media_type = response.headers["content-type"].partition(";")[0]
    if media_type not in found.get("content", {}):
        return f"{response.status_code} with {media_type}"
    if media_type != "application/json":
        return None
    schema = {**found["content"][media_type]["schema"], "components": document["components"]}
    errors = OAS31Validator(schema).iter_errors(response.json())
    return next((f"{response.status_code}: {error.message[:300]}" for error in errors), None)


Judge = Callable[[dict[str, Any], httpx.Response, dict[str, str]], str | None]


async def replay(world: AdminWorld, judged: Judge) -> dict[str, str]:
    """Cases in their order: later ones build on earlier ones. All misfits, by the case's id."""
    wrong: dict[str, str] = {}
    captured = {"svc": HOST, "nonce": "n1"}
    for case in CASES:
        response = await world.client.request(**request_of(case, captured))
        reason = judged(case, response, captured)
        if reason:
            wrong[case["id"]] = reason
            continue
        for name, member in case.get("capture", {}).items():
            captured[name] = response.json()[member]
    return wrong


def test_answers_are_what_the_openapi_document_says() -> None:
    """Clients are generated from it: statuses of success, content types, shapes."""

    async def body(world: AdminWorld) -> None:
        document = (await world.client.get("/openapi")).json()

        def judged(
            case: dict[str, Any], response: httpx.Response, captured: dict[str, str]
        ) -> str | None:
            request = request_of(case, captured)
            return undocumented(document, request["method"], request["url"], response)

        assert await replay(world, judged) == {}

    run_admin(body)


def test_answers_fit_what_the_reference_answered() -> None:
    """Statuses, headers and bodies of every recorded case."""

    async def body(world: AdminWorld) -> None:
        assert await replay(world, judge) == {}

    run_admin(body)
    assert len(CASES) > 180
