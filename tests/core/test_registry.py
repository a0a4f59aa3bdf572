"""Which deployment serves what, in which revision. Source: admin.md 4, 5."""

from typing import Any

import msgspec

from restated.core.effects import Done, Planned, Refused, RegistryChanged, Reply
from restated.core.events import (
    DiscoveredService,
    PatchService,
    RegisterDeployment,
    RemoveDeployment,
    UpdateDeployment,
)
from restated.core.registry import definition_of, latest_revision
from restated.model.errors import ErrorCode
from restated.model.records import Deployment, Row, ServiceRevision
from restated.model.services import Handler, Options, ServiceDefinition
from tests.core.world import StepWorld


def deployment(
    deployment_id: str = "dp_1", uri: str = "http://h:9080", **fields: Any
) -> Deployment:
    row = Deployment(deployment_id, uri, "http2", "bidi_stream", 5, 7, b"{}", b"{}", 1_000)
    return msgspec.structs.replace(row, **fields)


def service(name: str = "Desk", type_: Any = "service", **fields: Any) -> DiscoveredService:
    handlers = fields.pop("handlers", (Handler("do", "shared"),))
    return DiscoveredService(name, ServiceDefinition(type_, handlers, **fields))


def register(world: StepWorld, row: Deployment, *services: Any, **flags: bool) -> Reply:
    return world.apply(RegisterDeployment(row, services, **flags))


def revisions(world: StepWorld) -> list[tuple[str, int, str]]:
    rows = world.store.scan(ServiceRevision)
    return [(row.name, row.revision, row.deployment_id) for row in rows]


def rows(world: StepWorld) -> list[Row]:
    return [*world.store.scan(Deployment), *world.store.scan(ServiceRevision)]


def test_a_new_address_gets_its_id_and_first_revisions(world: StepWorld) -> None:
    """4.1: 201."""
    assert register(world, deployment(), service("A"), service("B")) == Done(id="dp_1")
    assert revisions(world) == [("A", 1, "dp_1"), ("B", 1, "dp_1")]
    assert world.effects == [RegistryChanged()]


def test_services_get_the_next_revision_on_another_deployment(world: StepWorld) -> None:
    """4.1: older deployments stay for pinned invocations."""
    register(world, deployment(), service())
    register(world, deployment("dp_2", "http://h:9080/next"), service())
    assert revisions(world) == [("Desk", 1, "dp_1"), ("Desk", 2, "dp_2")]


def test_a_known_address_is_left_alone(world: StepWorld) -> None:
    """4.1: scheme, case of the host and a trailing slash do not count."""
    register(world, deployment(), service())
    before = rows(world)
    same = deployment("dp_2", "https://H:9080/")
    assert register(world, same, service("Other")) == Done(id="dp_1")
    assert rows(world) == before
    assert world.effects == []


def test_another_path_or_query_is_another_deployment(world: StepWorld) -> None:
    """4.1."""
    register(world, deployment(), service())
    assert register(world, deployment("dp_2", "http://h:9080/x"), service()) == Done(id="dp_2")
    assert register(world, deployment("dp_3", "http://h:9080?x=1"), service()) == Done(id="dp_3")


def test_force_keeps_the_id_and_raises_every_revision(world: StepWorld) -> None:
    """4.1: also of unchanged services; a service that is gone loses its revision here."""
    register(world, deployment("dp_0", "http://old"), service("Gone"))
    register(world, deployment(), service("A"), service("Gone"))
    again = deployment("dp_9", created_at_ms=2_000, headers=b'{"x":"y"}')
    assert register(world, again, service("A"), force=True) == Done(id="dp_1")
    assert revisions(world) == [("A", 2, "dp_1"), ("Gone", 1, "dp_0")]
    stored = world.store.get(Deployment, "dp_1")
    assert stored == msgspec.structs.replace(again, id="dp_1")
    assert world.store.get(Deployment, "dp_9") is None


def test_force_forgets_the_operators_settings(world: StepWorld) -> None:
    """4.1: options patched earlier fall back to the manifest."""
    register(world, deployment(), service())
    world.apply(PatchService("Desk", Options(public=False)))
    register(world, deployment("dp_9"), service(), force=True)
    latest = latest_revision(world.store, "Desk")
    assert latest is not None
    assert definition_of(latest).options.public is None


def test_a_service_keeps_its_type(world: StepWorld) -> None:
    """META0006, unless breaking or force; nothing is stored."""
    register(world, deployment(), service())
    before = rows(world)
    other = deployment("dp_2", "http://other")
    reply = register(world, other, service("New"), service("Desk", "virtual_object"))
    assert reply == Refused(ErrorCode.SERVICE_TYPE_CHANGED, "Desk")
    assert rows(world) == before
    assert register(world, other, service("Desk", "workflow"), breaking=True) == Done(id="dp_2")


def test_a_dry_run_tells_and_stores_nothing(world: StepWorld) -> None:
    """4.1: dry_run."""
    register(world, deployment(), service())
    before = rows(world)
    reply = register(world, deployment("dp_2", "http://x"), service(), dry_run=True)
    assert isinstance(reply, Planned)
    assert reply.deployment.id == "dp_2"
    assert [(row.name, row.revision) for row in reply.revisions] == [("Desk", 2)]
    assert rows(world) == before
    assert world.effects == []


def test_removal_lets_services_fall_back(world: StepWorld) -> None:
    """4.5: to the next older remaining revision, or to nothing."""
    register(world, deployment(), service("A"))
    register(world, deployment("dp_2", "http://x"), service("A"), service("B"))
    assert world.apply(RemoveDeployment("dp_2")) == Done(id="dp_2")
    assert revisions(world) == [("A", 1, "dp_1")]
    assert world.effects == [RegistryChanged()]
    register(world, deployment("dp_3", "http://y"), service("A"))
    assert revisions(world) == [("A", 1, "dp_1"), ("A", 2, "dp_3")]


def test_an_unknown_deployment_cannot_be_removed(world: StepWorld) -> None:
    """4.5: 404."""
    assert world.apply(RemoveDeployment("dp_1")) == Refused(ErrorCode.DEPLOYMENT_UNKNOWN, "dp_1")


def test_patches_change_the_latest_revision_only(world: StepWorld) -> None:
    """5: revision and deployment unchanged."""
    register(world, deployment(), service())
    register(world, deployment("dp_2", "http://x"), service())
    assert world.apply(PatchService("Desk", Options(abort_timeout_ms=0))) == Done()
    first, second = world.store.scan(ServiceRevision)
    assert definition_of(first).options == Options()
    assert definition_of(second).options == Options(abort_timeout_ms=0)
    assert world.effects == [RegistryChanged()]


def test_a_patch_leaves_other_settings(world: StepWorld) -> None:
    """5: all members are optional."""
    register(world, deployment(), service(options=Options(journal_retention_ms=1, public=True)))
    world.apply(PatchService("Desk", Options(idempotency_retention_ms=2, inactivity_timeout_ms=3)))
    latest = latest_revision(world.store, "Desk")
    assert latest is not None
    assert definition_of(latest).options == Options(
        public=True, journal_retention_ms=1, idempotency_retention_ms=2, inactivity_timeout_ms=3
    )


def test_making_a_service_private_hides_handlers_that_were_public(world: StepWorld) -> None:
    """5: private services answer 400 at the ingress, all handlers."""
    shown = Handler("do", "shared", Options(public=True))
    register(world, deployment(), service(handlers=(shown,)))
    world.apply(PatchService("Desk", Options(public=False)))
    latest = latest_revision(world.store, "Desk")
    assert latest is not None
    assert definition_of(latest).handlers[0].options.public is None


def test_patches_of_unknown_services_and_wrong_types_are_refused(world: StepWorld) -> None:
    """5."""
    register(world, deployment(), service())
    unknown = world.apply(PatchService("Nope", Options(public=True)))
    assert unknown == Refused(ErrorCode.SERVICE_UNKNOWN, "Nope")
    wrong = world.apply(PatchService("Desk", Options(workflow_retention_ms=1)))
    assert wrong == Refused(ErrorCode.RETENTION_UNSUPPORTED, "Service")


def test_an_update_moves_a_deployment_and_keeps_its_services(world: StepWorld) -> None:
    """4.4 and supplement: without overwrite what differs at the new address is ignored."""
    register(world, deployment(), service("A"), service("B"))
    moved = deployment(uri="http://new", created_at_ms=5)
    reply = world.apply(UpdateDeployment(moved, (service("A", "virtual_object"), service("C"))))
    assert reply == Done(id="dp_1")
    assert revisions(world) == [("A", 1, "dp_1"), ("B", 1, "dp_1")]
    stored = world.store.get(Deployment, "dp_1")
    assert stored == deployment(uri="http://new")
    latest = latest_revision(world.store, "A")
    assert latest is not None
    assert definition_of(latest).type == "service"


def test_an_update_with_overwrite_takes_everything_over(world: StepWorld) -> None:
    """4.4: revision numbers are kept; types may change; the missing are gone."""
    register(world, deployment("dp_0", "http://old"), service("A"))
    register(world, deployment(), service("A"), service("B"))
    event = UpdateDeployment(
        deployment(uri="http://new"), (service("A", "workflow"), service("C")), overwrite=True
    )
    assert world.apply(event) == Done(id="dp_1")
    assert revisions(world) == [("A", 1, "dp_0"), ("A", 2, "dp_1"), ("C", 1, "dp_1")]
    latest = latest_revision(world.store, "A")
    assert latest is not None
    assert definition_of(latest).type == "workflow"


def test_an_update_keeps_the_range_of_versions(world: StepWorld) -> None:
    """META0016: narrower or wider, with overwrite too."""
    register(world, deployment(), service())
    event = UpdateDeployment(deployment(protocol_version_max=6), (service(),), overwrite=True)
    reply = world.apply(event)
    assert reply == Refused(ErrorCode.PROTOCOL_RANGE_CHANGED, "5..=7 to 5..=6")


def test_an_update_of_headers_alone_asks_nobody(world: StepWorld) -> None:
    """4.4: `additional_headers` alone works."""
    register(world, deployment(), service())
    assert world.apply(UpdateDeployment(deployment(headers=b'{"a":"b"}'))) == Done(id="dp_1")
    assert revisions(world) == [("Desk", 1, "dp_1")]


def test_a_dry_update_stores_nothing(world: StepWorld) -> None:
    """4.4: the would-be object."""
    register(world, deployment(), service())
    before = rows(world)
    reply = world.apply(UpdateDeployment(deployment(uri="http://n"), (service(),), dry_run=True))
    assert isinstance(reply, Planned)
    assert reply.deployment.uri == "http://n"
    assert rows(world) == before


def test_an_unknown_deployment_cannot_be_updated(world: StepWorld) -> None:
    """4.4: 404."""
    reply = world.apply(UpdateDeployment(deployment("dp_7")))
    assert reply == Refused(ErrorCode.DEPLOYMENT_UNKNOWN, "dp_7")
