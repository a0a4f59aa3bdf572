"""The error catalogue: every refusal a user can see, with its status and text.

Lives here: `ErrorCode` (what the core and the admin API refuse), `IngressError` (what the ingress
answers), `AttemptCode` (the RT codes of failed attempts), the exceptions that cross rooms.
Does not: how an error is rendered (ingress/respond.py, admin/app.py).
"""

from enum import Enum


class ErrorCode(Enum):
    """A refusal: HTTP status, restate_code or None, text with `{}` for the subject."""

    INVOCATION_NOT_FOUND = (404, None, "The requested invocation '{}' does not exist")
    INVOCATION_COMPLETED = (409, None, "The invocation '{}' was already completed.")
    INVOCATION_NOT_COMPLETED = (409, None, "The invocation '{}' is not yet completed.")
    JOURNAL_FULL = (
        409, None,
        "The journal of the invocation '{}' is full, the request to cancel it has no room in it. "
        "Kill it instead.",
    )  # fmt: skip
    PAUSE_NOT_RUNNING = (409, None, "The invocation '{}' is not running, cannot be paused.")
    RESUME_NOT_STARTED = (
        425, None, "The invocation '{}' is either inboxed or scheduled, cannot be resumed.",
    )  # fmt: skip
    RESUME_COMPLETED = (409, None, "The invocation '{}' is completed, cannot be resumed.")
    RESUME_RUNNING = (
        409, None,
        "The invocation '{}' is still running or the deployment id is not pinned yet, "
        "deployment id cannot be changed.",
    )  # fmt: skip
    RESTART_NOT_STARTED = (
        425, None, "The invocation '{}' cannot be restarted because it's not running yet.",
    )  # fmt: skip
    RESTART_RUNNING = (409, None, "The invocation '{}' is still running.")
    RESTART_NO_INPUT = (
        410, None,
        "The invocation '{}' cannot be restarted because the input is not available. This "
        "indicates that the journal was already purged, or not retained at all.",
    )  # fmt: skip
    RESTART_UNSUPPORTED = (
        422, None,
        "Restarting the invocation '{}' is not supported. Restarting workflows is not supported, "
        "and restarting invocations created using the old service protocol.",
    )  # fmt: skip
    RESTART_PREFIX = (
        400, None,
        "The prefix of the journal '{}' up to 'from' (included) contains some Commands without "
        "respective Completions.",
    )  # fmt: skip
    WORKFLOW_ALREADY_INVOKED = (409, None, "the workflow method was already invoked")
    IDENTITY_TAKEN = (
        409, None, "The invocation id '{}' belongs to another target; nothing was changed.",
    )  # fmt: skip
    SERVICE_NOT_FOUND = (404, None, "The requested service '{}' does not exist")
    SERVICE_UNKNOWN = (404, None, "not found in the schema registry: service with name '{}'")
    DEPLOYMENT_NOT_FOUND = (404, None, "The requested deployment '{}' does not exist")
    DEPLOYMENT_UNKNOWN = (
        404, None, "not found in the schema registry: deployment with id '{}'",
    )  # fmt: skip
    DEPLOYMENT_EXISTS = (409, None, "Conflict: deployment {} already exists")
    SERVICE_TYPE_CHANGED = (
        409, "META0006",
        "detected a new service revision for '{}' changing the service type from previous "
        "revision. Service type cannot be changed across revisions.",
    )  # fmt: skip
    PROTOCOL_RANGE_CHANGED = (
        400, "META0016",
        "an update deployment operation must provide an endpoint with the same services and "
        "handlers. The update tried to change the supported protocol versions from {}",
    )  # fmt: skip
    RETENTION_UNSUPPORTED = (
        400, None, "modifying retention time for service type {} is unsupported",
    )  # fmt: skip
    STATE_UNSUPPORTED = (400, None, "Cannot modify state for service type {}")
    CLUSTER_NOT_FOUND = (404, None, "The requested Kafka cluster '{}' does not exist")
    CLUSTER_UNKNOWN = (404, None, "not found in the schema registry: kafka cluster '{}'")
    CLUSTER_GONE = (404, None, "not found in the schema registry: kafka cluster named '{}'")
    CLUSTER_EXISTS = (409, None, "kafka cluster '{}' already exists in schema registry")
    CLUSTER_INCOMPLETE = (
        400, None,
        "kafka cluster '{}' properties must contain either 'bootstrap.servers' or "
        "'metadata.broker.list'",
    )  # fmt: skip
    CLUSTER_USED = (
        409, None,
        "Removing the kafka cluster {} being orphan. Remove the subscription first, or use the "
        "'force' flag.",
    )  # fmt: skip
    SUBSCRIPTION_NOT_FOUND = (404, None, "The requested subscription '{}' does not exist")
    SUBSCRIPTION_UNKNOWN = (
        404, None, "not found in the schema registry: subscription with id '{}'",
    )  # fmt: skip
    SOURCE_SCHEME = (
        400, "META0009",
        "invalid source URI '{}': must have a scheme segment, with supported schemes: [kafka].",
    )  # fmt: skip
    SOURCE_CLUSTER = (400, None, "Kafka cluster {}")
    SINK_SCHEME = (
        400, "META0009",
        "invalid sink URI '{}': must have a scheme segment, with supported schemes: [service].",
    )  # fmt: skip
    SINK_UNKNOWN = (
        400, "META0009",
        "invalid sink URI '{}': cannot find service/handler specified in the sink URI.",
    )  # fmt: skip
    RULE_PRECONDITION = (409, None, "rule precondition {}")
    TABLE_FULL = (409, None, "there are {} already, the most that are kept; remove some first")

    def __init__(self, status: int, restate_code: str | None, template: str) -> None:
        self.status = status
        self.restate_code = restate_code
        self.template = template

    def message(self, subject: str) -> str:
        """The text a user sees; a restate_code stands in front of it in brackets."""
        text = self.template.replace("{}", subject)
        return f"[{self.restate_code}] {text}" if self.restate_code else text


class IngressError(Enum):
    """A refusal of the ingress: HTTP status, text with `{}` for each subject (ingress.md 10)."""

    NOT_FOUND = (404, "not found")
    SERVICE_NOT_FOUND = (
        404, "service '{}' not found, make sure to register the service before calling it.",
    )  # fmt: skip
    HANDLER_NOT_FOUND = (
        404,
        "the service '{}' exists, but the handler '{}' was not found, check that the handler "
        "exists in the latest registered service version.",
    )
    INVOCATION_NOT_FOUND = (404, "invocation not found")
    BAD_PATH = (400, "bad path: {}")
    BAD_SERVICE_PATH = (
        400,
        "bad path, expected either /:service-name/:handler or /:object-name/:object-key/:handler",
    )
    BAD_AWAKEABLES_PATH = (
        400,
        "bad path, expected either /restate/awakeables/:id/resolve or "
        "/restate/awakeables/:id/reject",
    )
    BAD_INVOCATION_PATH = (
        400,
        "bad path, expected either /restate/invocation/:invocation_id/output or "
        "/restate/invocation/:invocation_id/attach or "
        "/restate/invocation/:invocation_target/:idempotency_key/output or "
        "/restate/invocation/:invocation_target/:idempotency_key/attach",
    )
    BAD_WORKFLOW_PATH = (
        400,
        "bad path, expected either /restate/workflow/:workflow_name/:workflow_key/output or "
        "/restate/workflow/:workflow_name/:workflow_key/attach",
    )
    BAD_API_PATH = (
        400,
        "bad path, expected /restate/call/:service/:handler, /restate/send/:service/:handler, "
        "/restate/scope/:scope/call/:service/:handler, /restate/attach/:invocation_id, "
        "/restate/output/:invocation_id, or /restate/lookup",
    )
    BAD_KEY = (400, "bad path, cannot decode key: {}")
    PRIVATE_SERVICE = (400, "the invoked service is not public")
    DEPRECATED_DEPLOYMENT = (
        400,
        "the service {} is exposed by the deprecated deployment {}. Upgrade the SDK used by {}.",
    )
    UNSUPPORTED_IDEMPOTENCY_KEY = (
        400,
        "cannot use the idempotency key with workflow handlers. The handler invocation will "
        "already be idempotent by the workflow key itself.",
    )
    BAD_HEADER = (400, "bad header {}: ToStrError {{ _priv: () }}")
    BAD_INPUT = (400, "input validation error: {}")
    BAD_DELAY = (400, "bad delay query parameter, must be a ISO8601 duration: {}")
    UNSUPPORTED_DELAY = (
        400,
        "cannot use the delay query parameter with calls. The delay is supported only with sends",
    )
    BAD_INVOCATION_ID = (400, "bad invocation id '{}': {}")
    BAD_AWAKEABLE_ID = (400, "bad awakeable id '{}': {}")
    BAD_SCOPE = (400, "bad scope value: {}")
    BAD_LIMIT_KEY = (400, "invalid limit-key: {}")
    LIMIT_KEY_WITHOUT_SCOPE = (400, "limit-key requires a scope to be set")
    SCOPE_UNSUPPORTED = (400, "scoped invocations require vqueues to be enabled")
    METHOD_NOT_ALLOWED = (405, "method not allowed")
    IDENTITY_TAKEN = (
        409, "The invocation id '{}' belongs to another target; nothing was changed.",
    )  # fmt: skip
    BODY_TOO_LARGE = (413, "cannot read body: LengthLimitError")
    TOO_MANY_REQUESTS = (429, "too many requests, the ingress is overloaded. Retry later.")
    NOT_READY = (470, "the invocation exists but has not completed yet")
    BAD_BODY = (500, "cannot read body: {}")
    DEFECT = (500, "internal error: the request was not applied; the server's log says why")
    OVERLOADED = (503, "the server is overloaded: {}")
    REFUSES_WORK = (503, "the server takes no new work: {}")
    STOPPING = (
        503,
        "the server is stopping. The invocation was accepted and goes on when it is back; attach "
        "to it by its id.",
    )

    def __init__(self, status: int, template: str) -> None:
        self.status = status
        self.template = template

    def message(self, *subjects: str) -> str:
        """The text a client sees."""
        return self.template.format(*subjects)


class AttemptCode:
    """RT codes of failed attempts (service-protocol.md 6)."""

    ABORT_TIMEOUT = "RT0001"
    MESSAGE_TOO_LARGE = "RT0003"
    INTERNAL = "RT0006"
    HANDLER = "RT0007"
    NETWORK = "RT0010"
    NO_DEPLOYMENT = "RT0011"
    PROTOCOL_VIOLATION = "RT0012"
    NO_COMMON_VERSION = "RT0013"
    PINNED_VERSION_UNSUPPORTED = "RT0014"
    UNSUPPORTED_MEDIA_TYPE = "RT0015"
    JOURNAL_MISMATCH = "RT0016"
    PRECONDITION = "RT0017"
    TARGET_NOT_FOUND = "RT0018"
    PAYLOAD_TOO_LARGE = "RT0019"
    DEPRECATED_DEPLOYMENT = "RT0020"
    RATE_LIMITED = "RT0023"
    FLOW_CONTROL = "RT0024"
    AWAIT_TOO_DEEP = "RT0025"


class InternalError(Exception):
    """A defect in the core dropped one event; everything else is untouched."""


class OverloadedError(Exception):
    """The writer's queue stayed full for longer than a client should wait."""
