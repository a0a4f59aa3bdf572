"""What a discovery manifest says about services, with the operator's patches applied.

Lives here: services, handlers, their settings before any default is filled in.
Does not: rows (records.py), effective settings (engine/catalog.py), parsing (core/manifest.py).
"""

from restated.model.records import AtMostAttempts, HandlerType, Record, ServiceType


class Payload(Record):
    """Input or output of a handler as the manifest gives it. `schema` is raw JSON."""

    required: bool = False
    content_type: str | None = None
    set_content_type_if_empty: bool = False
    schema: bytes | None = None


class RetryOptions(Record):
    """What a service or handler says about retries; None = inherited."""

    interval_ms: int | None = None
    factor: float | None = None
    interval_ms_max: int | None = None
    attempts_max: int | None = None
    at_most: AtMostAttempts | None = None


class Options(Record):
    """Settings that both a service and a handler may have; None = inherited."""

    public: bool | None = None
    inactivity_timeout_ms: int | None = None
    abort_timeout_ms: int | None = None
    journal_retention_ms: int | None = None
    idempotency_retention_ms: int | None = None
    workflow_retention_ms: int | None = None
    lazy_state: bool | None = None
    retry: RetryOptions = RetryOptions()


class Handler(Record):
    """One handler of a service revision."""

    name: str
    type: HandlerType
    options: Options = Options()
    input: Payload | None = None  # None: the manifest has no `input` member
    output: Payload | None = None
    documentation: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()


class ServiceDefinition(Record):
    """Everything a manifest says about one service, with the operator's patches applied."""

    type: ServiceType
    handlers: tuple[Handler, ...]
    options: Options = Options()
    documentation: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
