"""Deployments and services: who serves what, in which revision.

Lives here: registration, update in place, removal, an operator's settings of a service.
Does not: what one manifest may say (manifest.py), fetching it (invoker/discovery.py), the picture
that others read (engine/catalog.py).
Rules: admin.md 4, 5. The latest revision of a service is the highest one that is stored; a
revision goes with its deployment, so that removing the newest lets the service fall back.
"""

from collections.abc import Iterator

import msgspec

from restated.core.effects import Done, Planned, Refused, RegistryChanged, Reply
from restated.core.events import (
    DiscoveredService,
    PatchService,
    RegisterDeployment,
    RemoveDeployment,
    UpdateDeployment,
)
from restated.core.manifest import SHOWN_SERVICE_TYPES
from restated.core.view import Step, View
from restated.model.addresses import identity
from restated.model.errors import ErrorCode
from restated.model.records import Deployment, ServiceRevision
from restated.model.services import Handler, Options, ServiceDefinition

replace = msgspec.structs.replace


def same_identity(view: View, deployment: Deployment) -> Deployment | None:
    """The stored deployment with the identity of `deployment`; the oldest if there are several."""
    wanted = identity(deployment)
    found = [stored for stored in view.scan(Deployment) if identity(stored) == wanted]
    return min(found, key=lambda stored: (stored.created_at_ms, stored.id), default=None)


def on_register_deployment(step: Step, event: RegisterDeployment) -> Reply:
    """Store a deployment and a new revision of each of its services.

    A known identity is left alone without `force`; the reply then carries its id.
    """
    existing = same_identity(step, event.deployment)
    if existing is not None and not event.force:
        return _done(existing, tuple(revisions_of(step, existing.id)), dry=event.dry_run)
    deployment = event.deployment
    if existing is not None:
        deployment = replace(deployment, id=existing.id)
    revisions: list[ServiceRevision] = []
    for service in event.services:
        latest = latest_revision(step, service.name)
        may_change = event.force or event.breaking
        if latest is not None and not may_change and _type_changed(latest, service):
            return Refused(ErrorCode.SERVICE_TYPE_CHANGED, service.name)
        number = 1 if latest is None else latest.revision + 1
        revisions.append(_revision(service, number, deployment.id))
    if not event.dry_run:
        _replace_deployment(step, deployment, tuple(revisions))
    return _done(deployment, tuple(revisions), dry=event.dry_run)


def on_update_deployment(step: Step, event: UpdateDeployment) -> Reply:
    """Change where a deployment is, under its id.

    Stored services are kept, in their revisions, unless `overwrite`: then the discovered ones
    count, type changes included. The range of protocol versions must not differ (META0016): open
    journals were written in it.
    """
    stored = step.get(Deployment, event.deployment.id)
    if stored is None:
        return Refused(ErrorCode.DEPLOYMENT_UNKNOWN, event.deployment.id)
    before, after = _versions(stored), _versions(event.deployment)
    if event.services is not None and before != after:
        return Refused(ErrorCode.PROTOCOL_RANGE_CHANGED, f"{before} to {after}")
    deployment = replace(event.deployment, created_at_ms=stored.created_at_ms)
    revisions = tuple(revisions_of(step, deployment.id))
    if event.services is not None and event.overwrite:
        revisions = _overwritten(step, event.services, revisions, deployment.id)
    if not event.dry_run:
        _replace_deployment(step, deployment, revisions)
    return _done(deployment, revisions, dry=event.dry_run)


def on_remove_deployment(step: Step, event: RemoveDeployment) -> Reply:
    """Forget a deployment with its revisions; services fall back to their next older one."""
    if step.get(Deployment, event.id) is None:
        return Refused(ErrorCode.DEPLOYMENT_UNKNOWN, event.id)
    for revision in list(revisions_of(step, event.id)):
        step.delete(ServiceRevision, revision.name, revision.revision)
    step.delete(Deployment, event.id)
    step.emit(RegistryChanged())
    return Done(id=event.id)


def on_patch_service(step: Step, event: PatchService) -> Reply:
    """Change settings of the latest revision; lost on the next registration."""
    latest = latest_revision(step, event.name)
    if latest is None:
        return Refused(ErrorCode.SERVICE_UNKNOWN, event.name)
    definition = definition_of(latest)
    if event.options.workflow_retention_ms is not None and definition.type != "workflow":
        return Refused(ErrorCode.RETENTION_UNSUPPORTED, SHOWN_SERVICE_TYPES[definition.type])
    options = _merged(definition.options, event.options)
    if options != definition.options:
        patched = replace(definition, options=options, handlers=_hidden(definition, event.options))
        step.put(replace(latest, definition=msgspec.msgpack.encode(patched)))
        step.emit(RegistryChanged())
    return Done()


def latest_revision(view: View, service: str) -> ServiceRevision | None:
    """The revision that new invocations use, or None for an unknown service."""
    latest = None
    for revision in view.scan(ServiceRevision, service):
        latest = revision
    return latest


def revisions_of(view: View, deployment_id: str) -> Iterator[ServiceRevision]:
    """The revisions that a deployment serves; bounded by what operators registered."""
    return (row for row in view.scan(ServiceRevision) if row.deployment_id == deployment_id)


def definition_of(revision: ServiceRevision) -> ServiceDefinition:
    """What the revision's manifest said, with the operator's patches."""
    return msgspec.msgpack.decode(revision.definition, type=ServiceDefinition)


def _done(deployment: Deployment, revisions: tuple[ServiceRevision, ...], *, dry: bool) -> Reply:
    if dry:
        return Planned(deployment, revisions)
    return Done(id=deployment.id)


def _replace_deployment(
    step: Step,
    deployment: Deployment,
    revisions: list[ServiceRevision] | tuple[ServiceRevision, ...],
) -> None:
    for old in list(revisions_of(step, deployment.id)):
        step.delete(ServiceRevision, old.name, old.revision)
    step.put(deployment)
    for revision in revisions:
        step.put(revision)
    step.emit(RegistryChanged())


def _overwritten(
    step: Step,
    services: tuple[DiscoveredService, ...],
    stored: tuple[ServiceRevision, ...],
    deployment_id: str,
) -> tuple[ServiceRevision, ...]:
    """The discovered services under the revision numbers that they have here already."""
    numbers = {revision.name: revision.revision for revision in stored}
    revisions = []
    for service in services:
        number = numbers.get(service.name)
        if number is None:
            latest = latest_revision(step, service.name)
            number = 1 if latest is None else latest.revision + 1
        revisions.append(_revision(service, number, deployment_id))
    return tuple(revisions)


def _merged(options: Options, patch: Options) -> Options:
    """`options` with everything that `patch` sets; retry policies cannot be patched."""

    def pick(new: int | None, old: int | None) -> int | None:
        return old if new is None else new

    return replace(
        options,
        public=options.public if patch.public is None else patch.public,
        inactivity_timeout_ms=pick(patch.inactivity_timeout_ms, options.inactivity_timeout_ms),
        abort_timeout_ms=pick(patch.abort_timeout_ms, options.abort_timeout_ms),
        journal_retention_ms=pick(patch.journal_retention_ms, options.journal_retention_ms),
        idempotency_retention_ms=pick(
            patch.idempotency_retention_ms, options.idempotency_retention_ms
        ),
        workflow_retention_ms=pick(patch.workflow_retention_ms, options.workflow_retention_ms),
    )


def _hidden(definition: ServiceDefinition, patch: Options) -> tuple[Handler, ...]:
    """The handlers; a service made private has none that is explicitly public."""
    if patch.public is not False:
        return definition.handlers
    return tuple(
        replace(handler, options=replace(handler.options, public=None))
        if handler.options.public
        else handler
        for handler in definition.handlers
    )


def _revision(service: DiscoveredService, number: int, deployment_id: str) -> ServiceRevision:
    definition = msgspec.msgpack.encode(service.definition)
    return ServiceRevision(service.name, number, deployment_id, definition)


def _type_changed(latest: ServiceRevision, service: DiscoveredService) -> bool:
    return definition_of(latest).type != service.definition.type


def _versions(deployment: Deployment) -> str:
    return f"{deployment.protocol_version_min}..={deployment.protocol_version_max}"
