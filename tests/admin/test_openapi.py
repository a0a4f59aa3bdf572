"""OpenAPI documents. Source: admin.md 2, 5; style.md 12: every admin route is in it."""

import json
from typing import Any

import msgspec
from openapi_spec_validator import OpenAPIV31SpecValidator

from restated.admin.openapi import document_of
from restated.admin.routes import ROUTES
from tests.admin.world import AdminWorld, run_admin

HIDDEN = {"/", "/ui", "/ui/{path:path}", "/openapi"}


def test_every_route_but_the_internal_ones_is_in_the_document() -> None:
    """2: hidden are the document itself, /internal, PUT and the web interface."""
    document: Any = document_of([route for route in ROUTES if route.summary])
    listed = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    hidden = {(route.method, route.path) for route in ROUTES if not route.summary}
    assert {(route.method, route.path) for route in ROUTES} - hidden == listed
    assert {path for _, path in hidden if not path.startswith("/internal")} <= HIDDEN | {
        "/deployments/{deployment}"
    }


def test_the_documents_are_valid() -> None:
    """OpenAPI 3.1, as generators of clients read it."""
    own = msgspec.json.encode(document_of([route for route in ROUTES if route.summary]))
    OpenAPIV31SpecValidator(msgspec.json.decode(own)).validate()

    async def body(world: AdminWorld) -> None:
        await world.register("/next")
        for service in ("TicketDesk", "TicketObject", "TicketFlow"):
            document = (await world.client.get(f"/services/{service}/openapi")).json()
            OpenAPIV31SpecValidator(document).validate()

    run_admin(body)


def test_operations_have_one_name_each() -> None:
    """Generated clients make a function of each."""
    document: Any = document_of([route for route in ROUTES if route.summary])
    names = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    assert len(names) == len(set(names))


def references(value: Any) -> set[str]:
    """Every `$ref` inside."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(one) for one in value.values()))
    if isinstance(value, list):
        return set().union(*(references(one) for one in value))
    return set()


def resolved(document: Any, reference: str) -> Any:
    """What a reference points to."""
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_references_point_to_something() -> None:
    """Both documents are whole."""

    async def body(world: AdminWorld) -> None:
        await world.register("/next")
        for path in ("/openapi", "/services/TicketDesk/openapi", "/services/TicketFlow/openapi"):
            document = (await world.client.get(path)).json()
            assert document["openapi"] == "3.1.0"
            for reference in references(document):
                assert resolved(document, reference) is not None

    run_admin(body)


def test_a_service_document_has_the_routes_of_the_ingress() -> None:
    """5: private handlers are left out; a workflow has its own two."""

    async def body(world: AdminWorld) -> None:
        await world.register("/next")
        desk = (await world.client.get("/services/TicketDesk/openapi")).json()
        assert desk["servers"] == [
            {"url": "http://127.0.0.1:8080/", "description": "Restate Ingress URL"}
        ]
        assert "/restate/call/TicketDesk/quote" in desk["paths"]
        assert "/restate/invocation/TicketDesk/quote/{idempotencyKey}/output" in desk["paths"]
        assert "/restate/call/TicketDesk/private_audit" not in desk["paths"]
        assert desk["components"]["schemas"]["napRequest"] == {"type": "integer"}
        flow = (await world.client.get("/services/TicketFlow/openapi")).json()
        assert sorted(path for path in flow["paths"] if "/call/" not in path) == [
            "/restate/send/TicketFlow/{key}/approve",
            "/restate/send/TicketFlow/{key}/peek_stage",
            "/restate/send/TicketFlow/{key}/run",
            "/restate/workflow/TicketFlow/{key}/attach",
            "/restate/workflow/TicketFlow/{key}/output",
        ]

    run_admin(body)


def test_references_inside_a_schema_of_a_handler_point_into_it() -> None:
    """Pydantic, zod and Go's reflection write them; generators of clients follow them."""
    schema = {
        "$defs": {"order": {"type": "object", "properties": {"next": {"$ref": "#"}}}},
        "allOf": [{"$ref": "#/$defs/order"}],
    }

    async def body(world: AdminWorld) -> None:
        recorded = world.transport.answers["/next"]
        manifest = json.loads(recorded["body"])
        handler = manifest["services"][0]["handlers"][0]
        handler["input"] = {"contentType": "application/json", "jsonSchema": schema}
        world.transport.answers["/refers"] = {**recorded, "body": json.dumps(manifest)}
        assert (await world.register("/refers")).status_code == 201
        service = manifest["services"][0]["name"]
        document = (await world.client.get(f"/services/{service}/openapi")).json()
        place = f"#/components/schemas/{handler['name']}Request"
        found = resolved(document, place)
        assert found["allOf"] == [{"$ref": f"{place}/$defs/order"}]
        assert found["$defs"]["order"]["properties"]["next"] == {"$ref": place}
        for reference in references(document):
            assert resolved(document, reference) is not None

    run_admin(body)
