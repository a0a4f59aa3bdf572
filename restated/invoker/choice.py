"""Where an attempt goes and how: deployment, revision, protocol version, request.

Lives here: the pinned deployment or the latest one, the protocol version both sides speak, the
request's head, whether the request stays open.
Does not: the catalog (engine/catalog.py), connections (http2.py, http1.py).
Source: service-protocol.md 0, 2.1, 2.2, 4.7; design 3.4.
"""

from typing import Final, Literal
from urllib.parse import quote

from restated.engine.catalog import (
    PROTOCOL_VERSION_MAX,
    PROTOCOL_VERSION_MIN,
    Catalog,
    ServiceEntry,
    Settings,
)
from restated.invoker.transport import ExchangeRequest
from restated.model.errors import AttemptCode
from restated.model.records import AttemptError, Deployment, Invocation, Record

ProtocolVersionMax = Literal["auto", 6, 7]
CONTENT_TYPES: Final[dict[int, str]] = {
    version: f"application/vnd.restate.invocation.v{version}"
    for version in range(PROTOCOL_VERSION_MIN, PROTOCOL_VERSION_MAX + 1)
}


class NoChoiceError(Exception):
    """The invocation cannot be attempted; `error` says why. It was not the handler's fault."""

    def __init__(self, error: AttemptError) -> None:
        super().__init__(error.message)
        self.error = error


class Choice(Record):
    """Everything about an attempt's peer that was decided before it began."""

    service: ServiceEntry
    settings: Settings
    protocol_version: int
    streams: bool  # the request stays open after the replay

    @property
    def deployment(self) -> Deployment:
        """Where the attempt goes."""
        return self.service.deployment


def choose(
    catalog: Catalog, invocation: Invocation, protocol_version_max: ProtocolVersionMax
) -> Choice:
    """The pinned deployment, or the latest one of the service; raises NoChoiceError."""
    if invocation.deployment_id is None:
        service = catalog.services.get(invocation.service)
        if service is None:
            raise _no_deployment("no deployment was found to process the invocation")
        version = _common_version(service.deployment, invocation, protocol_version_max)
    else:
        service = catalog.pinned.get((invocation.deployment_id, invocation.service))
        if service is None:
            raise _no_deployment(
                f"the deployment {invocation.deployment_id}, which the invocation is pinned to, "
                f"does not serve {invocation.service} any more; pause the invocation and resume it "
                "with another deployment"
            )
        version = _pinned_version(invocation)
    handler = service.handlers.get(invocation.handler)
    # A handler that a later revision lost is still asked for: the deployment itself answers.
    settings = service.settings if handler is None else handler.settings
    deployment = service.deployment
    streams = (
        deployment.mode == "bidi_stream"
        and deployment.transport == "http2"
        and settings.inactivity_timeout_ms > 0
    )
    return Choice(service, settings, version, streams)


def request_for(choice: Choice, invocation: Invocation) -> ExchangeRequest:
    """The head of the request, in the order of service-protocol.md 2.1."""
    content_type = CONTENT_TYPES[choice.protocol_version]
    headers: tuple[tuple[str, str], ...] = (
        ("content-type", content_type),
        ("accept", content_type),
        ("x-restate-invocation-id", invocation.id),
    )
    if invocation.object_key is not None:
        headers = (*headers, ("x-restate-service-key", quote(invocation.object_key, safe="")))
    path = f"/invoke/{invocation.service}/{invocation.handler}"
    return ExchangeRequest(
        choice.deployment, "POST", path, headers, choice.streams, invocation.object_key
    )


def _no_deployment(message: str) -> NoChoiceError:
    return NoChoiceError(AttemptError(500, message, AttemptCode.NO_DEPLOYMENT))


def _common_version(
    deployment: Deployment, invocation: Invocation, protocol_version_max: ProtocolVersionMax
) -> int:
    lowest, highest = deployment.protocol_version_min, deployment.protocol_version_max
    if protocol_version_max == "auto":
        needs_newest = lowest >= 7 or invocation.scope or invocation.limit_key is not None
        top = 7 if needs_newest else 6
    else:
        top = protocol_version_max
    if lowest <= top and highest >= PROTOCOL_VERSION_MIN:
        return min(highest, top)
    raise NoChoiceError(
        AttemptError(
            500,
            f"cannot talk to service endpoint '{deployment.id}' because its service protocol "
            f"versions [{lowest}, {highest}] are incompatible with the server's service protocol "
            f"versions [{PROTOCOL_VERSION_MIN}, {top}].",
            AttemptCode.NO_COMMON_VERSION,
        )
    )


def _pinned_version(invocation: Invocation) -> int:
    version = invocation.protocol_version
    assert version is not None, "deployment and protocol version are pinned together"
    if version in CONTENT_TYPES:
        return version
    raise NoChoiceError(
        AttemptError(
            500,
            f"the invocation is pinned to service protocol version {version}, this server speaks "
            f"[{PROTOCOL_VERSION_MIN}, {PROTOCOL_VERSION_MAX}]",
            AttemptCode.PINNED_VERSION_UNSUPPORTED,
        )
    )
