"""An immutable picture of deployments and services, replaced when the registry changes.

Lives here: the latest revision of each service, the revision that a pinned deployment serves, the
effective settings of a handler (handler over service over server default), retentions.
Does not: registration rules (core/registry.py), the rows themselves (model/records.py).
Read by ingress, invoker and admin; a reader keeps the picture it started with.
"""

from collections.abc import Callable

import msgspec

from restated.core.view import View
from restated.model.records import Deployment, Record, RetryPolicy, ServiceRevision, ServiceType
from restated.model.services import Handler, Options, RetryOptions, ServiceDefinition

DAY_MS = 86_400_000
PROTOCOL_VERSION_MIN = 5
PROTOCOL_VERSION_MAX = 7


class Settings(Record):
    """Effective settings of a handler, everything resolved."""

    public: bool
    inactivity_timeout_ms: int
    abort_timeout_ms: int
    journal_retention_ms: int
    idempotency_retention_ms: int
    workflow_retention_ms: int
    lazy_state: bool
    retry: RetryPolicy


DEFAULT_SETTINGS = Settings(
    public=True,
    inactivity_timeout_ms=60_000,
    abort_timeout_ms=600_000,
    journal_retention_ms=DAY_MS,
    idempotency_retention_ms=DAY_MS,
    workflow_retention_ms=DAY_MS,
    lazy_state=False,
    retry=RetryPolicy(),
)


class HandlerEntry(Record):
    """A handler with its effective settings."""

    service: str
    handler: Handler
    settings: Settings


class ServiceEntry(Record):
    """One revision of a service with its deployment."""

    name: str
    revision: int
    deployment: Deployment
    definition: ServiceDefinition
    settings: Settings
    handlers: dict[str, HandlerEntry]

    @property
    def type(self) -> ServiceType:
        """Plain service, virtual object or workflow."""
        return self.definition.type

    @property
    def is_keyed(self) -> bool:
        """Whether targets of this service have a key."""
        return self.definition.type != "service"


class Catalog(Record):
    """One picture. `services` holds latest revisions only, `pinned` every one still served."""

    services: dict[str, ServiceEntry]
    pinned: dict[tuple[str, str], ServiceEntry]  # (deployment id, service) -> its newest there
    deployments: dict[str, Deployment]


class LiveCatalog:
    """The current picture, and who wants to know when it is replaced."""

    __slots__ = ("_defaults", "_listeners", "current")

    def __init__(self, defaults: Settings = DEFAULT_SETTINGS) -> None:
        self._defaults = defaults
        self._listeners: list[Callable[[Catalog], None]] = []
        self.current = Catalog({}, {}, {})

    @property
    def defaults(self) -> Settings:
        """What holds where neither handler nor service says anything."""
        return self._defaults

    def load(self, view: View) -> None:
        """Read deployments and services anew; bounded by what operators registered."""
        self.current = picture(view, self._defaults)
        for listener in self._listeners:
            listener(self.current)

    def entry(self, row: ServiceRevision, deployment: Deployment) -> ServiceEntry:
        """A revision that may not be stored (a dry run), as it would appear here."""
        return _entry(row, deployment, self._defaults)

    def listen(self, listener: Callable[[Catalog], None]) -> None:
        """Call `listener` with each new picture; it must not raise."""
        self._listeners.append(listener)


def picture(view: View, defaults: Settings) -> Catalog:
    """The catalog as of `view`."""
    deployments = {deployment.id: deployment for deployment in view.scan(Deployment)}
    services: dict[str, ServiceEntry] = {}
    pinned: dict[tuple[str, str], ServiceEntry] = {}
    for row in view.scan(ServiceRevision):  # by name, then revision: the last one wins
        deployment = deployments.get(row.deployment_id)
        if deployment is None:
            continue
        entry = _entry(row, deployment, defaults)
        services[row.name] = entry
        pinned[row.deployment_id, row.name] = entry
    return Catalog(services, pinned, deployments)


def retentions_ms(
    entry: HandlerEntry, *, is_workflow_run: bool, has_idempotency_key: bool
) -> tuple[int, int]:
    """(completion, journal) retention of a new invocation; state-machine.md 4.8."""
    settings = entry.settings
    if is_workflow_run:
        completion = settings.workflow_retention_ms
    elif has_idempotency_key:
        completion = settings.idempotency_retention_ms
    else:
        return settings.journal_retention_ms, settings.journal_retention_ms
    return completion, min(settings.journal_retention_ms, completion)


def _entry(row: ServiceRevision, deployment: Deployment, defaults: Settings) -> ServiceEntry:
    definition = msgspec.msgpack.decode(row.definition, type=ServiceDefinition)
    settings = resolve(definition.options, defaults)
    handlers = {
        handler.name: HandlerEntry(row.name, handler, resolve(handler.options, settings))
        for handler in definition.handlers
    }
    return ServiceEntry(row.name, row.revision, deployment, definition, settings, handlers)


def resolve(options: Options, inherited: Settings) -> Settings:
    """`inherited` with what `options` say themselves."""

    def pick(own: int | None, outer: int) -> int:
        return outer if own is None else own

    return Settings(
        public=inherited.public if options.public is None else options.public,
        inactivity_timeout_ms=pick(options.inactivity_timeout_ms, inherited.inactivity_timeout_ms),
        abort_timeout_ms=pick(options.abort_timeout_ms, inherited.abort_timeout_ms),
        journal_retention_ms=pick(options.journal_retention_ms, inherited.journal_retention_ms),
        idempotency_retention_ms=pick(
            options.idempotency_retention_ms, inherited.idempotency_retention_ms
        ),
        workflow_retention_ms=pick(options.workflow_retention_ms, inherited.workflow_retention_ms),
        lazy_state=inherited.lazy_state if options.lazy_state is None else options.lazy_state,
        retry=_resolve_retry(options.retry, inherited.retry),
    )


def _resolve_retry(own: RetryOptions, outer: RetryPolicy) -> RetryPolicy:
    return RetryPolicy(
        interval_ms=outer.interval_ms if own.interval_ms is None else own.interval_ms,
        factor=outer.factor if own.factor is None else own.factor,
        interval_ms_max=(
            outer.interval_ms_max if own.interval_ms_max is None else own.interval_ms_max
        ),
        attempts_max=outer.attempts_max if own.attempts_max is None else own.attempts_max,
        at_most=outer.at_most if own.at_most is None else own.at_most,
    )
