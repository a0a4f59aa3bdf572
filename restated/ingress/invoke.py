"""Calls and sends: from a request to an accepted invocation, and for calls to its outcome.

Lives here: the order of checks, the event `Invoke`, the wait for a call's end.
Does not: decide about identities, delays and locks (core/accept.py).
Rules: A1 nothing is answered before it is durable; C44-C47 identity is derived from service, key,
handler and idempotency key; C55 a call that nobody waits for any more leaves nothing behind.
Source: ingress.md 4, 5, 9, 11.
"""

import re
from collections.abc import Callable
from typing import Final

import msgspec

from restated.core.effects import Accepted, Refused, Reply, Settled
from restated.core.events import Invoke
from restated.engine.catalog import (
    PROTOCOL_VERSION_MAX,
    PROTOCOL_VERSION_MIN,
    Catalog,
    HandlerEntry,
    ServiceEntry,
    retentions_ms,
)
from restated.engine.dispatch import ShuttingDownError, Waiter, Waiters
from restated.engine.writer import QUEUE_MAX, Writer
from restated.ingress.delays import parse_delay_ms
from restated.ingress.exchange import (
    JSON,
    YEAR_10000_MS,
    IngressLimits,
    Request,
    Response,
    Share,
    execution_time,
    failure_response,
    ingress_error,
)
from restated.ingress.inputs import check_input, parse_limit_key, restricted_problem
from restated.ingress.paths import RequestError, ToHandler, parse_query
from restated.ingress.retrieve import outcome_response
from restated.model import ids
from restated.model.errors import ErrorCode, IngressError, InternalError
from restated.model.records import WORKFLOW_ALREADY_INVOKED, Record, Target
from restated.seams import Clock, Rng

NOT_FORWARDED: Final = frozenset({"connection", "host", "idempotency-key", "idempotency-expires"})
ENTROPY_BYTES: Final = ids.ULID_ENTROPY_BYTES + ids.INVOCATION_ENTROPY_BYTES
TRACE_PARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)

Admits = Callable[[], str | None]
"""Why no new work is taken; None while it is."""


class _SendBody(msgspec.Struct, omit_defaults=True):
    """The JSON of a send's answer, in the reference's order of fields."""

    invocationId: str  # noqa: N815 - the wire's name
    executionTime: str | None = None  # noqa: N815 - the wire's name
    status: str = ""


class _Admitted(Record):
    """What the head of a request says, checked."""

    service: ServiceEntry
    handler: HandlerEntry
    idempotency_key: str | None


class _Call:
    """One call that waits: for the end of its invocation, or for a reply that is one already."""

    __slots__ = ("_share", "_waiters", "reply", "waiter")

    def __init__(self, invocation_id: str, waiters: Waiters, share: Share) -> None:
        self.waiter = Waiter(invocation_id)
        self.reply: Reply | None = None
        self._waiters = waiters
        self._share = share

    def on_reply(self, reply: Reply | None) -> None:
        """Register for the end, which is told later; wake the caller if none will come (C48)."""
        self.reply = reply
        self._share.give_back()
        if isinstance(reply, Accepted) and reply.outcome is None:
            self._waiters.admit(self.waiter)
        else:
            self.waiter.settle(Settled(self.waiter.id, b""))


class Invocations:
    """Turns requests into invocations."""

    __slots__ = ("_admits", "_clock", "_limits", "_rng", "_waiters", "_writer")

    def __init__(
        self,
        writer: Writer,
        waiters: Waiters,
        clock: Clock,
        rng: Rng,
        limits: IngressLimits,
        admits: Admits,
    ) -> None:
        self._writer = writer
        self._waiters = waiters
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._admits = admits

    async def invoke(
        self, request: Request, share: Share, route: ToHandler, catalog: Catalog
    ) -> Response:
        """Call or send; see ingress.md 4 for the order of checks."""
        admitted = _admit(request, route, catalog)
        request.require_method("GET", "POST")
        event = await self._prepare(request, share, route, admitted)
        if not route.waits:
            return await self._send(event)
        if self._writer.backlog >= QUEUE_MAX:
            await self._writer.room()
        call = _Call(event.id, self._waiters, share)
        self._writer.post(event, call.on_reply)
        del event  # its payload may be large, and a call may wait for long (M1)
        return await self._outcome(call, admitted.handler)

    async def _prepare(
        self, request: Request, share: Share, route: ToHandler, admitted: _Admitted
    ) -> Invoke:
        """The checks behind the method, and the event."""
        body = await request.body.read(self._limits.body_bytes_max, share)
        check_input(admitted.handler.handler.input, request.ascii_header("content-type"), body)
        delay_ms = _delay_ms(request)
        _check_limit_key(request)
        headers = forwarded_headers(request)
        if route.waits and delay_ms is not None:
            raise RequestError(IngressError.UNSUPPORTED_DELAY)
        refusal = self._admits()
        if refusal is not None:
            raise RequestError(IngressError.REFUSES_WORK, refusal)
        return self._event(route, admitted, body, headers, delay_ms)

    def _event(
        self,
        route: ToHandler,
        admitted: _Admitted,
        payload: bytes,
        headers: tuple[tuple[str, str], ...],
        delay_ms: int | None,
    ) -> Invoke:
        handler = admitted.handler
        handler_type = handler.handler.type
        service_type = admitted.service.definition.type
        now_ms = self._clock.wall_ms()
        entropy = self._rng.bytes(ENTROPY_BYTES)
        idempotency_key = admitted.idempotency_key
        if idempotency_key is None and service_type != "workflow":
            # Shown by SQL and the official CLI; the id is then hashed like that of a given key.
            idempotency_key = ids.new_ulid_text(now_ms, entropy)
        raw_id = ids.raw_invocation_id_for(
            service=route.service,
            handler=route.handler,
            handler_type=handler_type,
            key=route.key,
            scope="",
            idempotency_key=idempotency_key,
            now_ms=now_ms,
            entropy=entropy[ids.ULID_ENTROPY_BYTES :],
        )
        completion_ms, journal_ms = retentions_ms(
            handler,
            is_workflow_run=handler_type == "workflow",
            has_idempotency_key=idempotency_key is not None,
        )
        return Invoke(
            ids.invocation_id_of_raw(raw_id),
            Target(route.service, route.handler, service_type, handler_type, route.key),
            payload,
            headers,
            "ingress",
            ids.random_seed_of_raw(raw_id),
            completion_ms,
            journal_ms,
            idempotency_key,
            None if delay_ms is None else _due_ms(now_ms, delay_ms),
            route.waits,
            trace_parent=_trace_parent(headers),
        )

    async def _outcome(self, call: _Call, handler: HandlerEntry) -> Response:
        waiter = call.waiter
        try:
            settled = await waiter.wait()
        except ShuttingDownError:
            return stopping_response(waiter.id)
        finally:
            self._waiters.forget(waiter)
        reply = call.reply
        if not isinstance(reply, Accepted):
            return _refused(waiter.id, reply)
        if reply.outcome is not None:
            return outcome_response(
                handler.handler, reply.id, reply.outcome, expires_at_ms=reply.expires_at_ms
            )
        return outcome_response(
            handler.handler, waiter.id, settled.outcome, stacktrace=settled.stacktrace
        )

    async def _send(self, event: Invoke) -> Response:
        reply = await self._writer.submit(event)
        if not isinstance(reply, Accepted):
            return _refused(event.id, reply)
        due_ms = reply.scheduled_for_ms
        body = _SendBody(
            reply.id,
            None if due_ms is None else execution_time(due_ms),
            "Accepted" if reply.is_new else "PreviouslyAccepted",
        )
        return Response(202, (JSON, ("x-restate-id", reply.id)), msgspec.json.encode(body))


def stopping_response(invocation_id: str) -> Response:
    """The answer to those who wait for an accepted invocation when the daemon stops."""
    error = IngressError.STOPPING
    return ingress_error(error, error.message(), ("x-restate-id", invocation_id))


def forwarded_headers(request: Request) -> tuple[tuple[str, str], ...]:
    """What the handler sees; RequestError for the first that is not visible ASCII."""
    forwarded = [("x-restate-ingress-path", request.target)]
    for name, value in request.headers.items():
        if name not in NOT_FORWARDED:
            if not value.isascii():
                raise RequestError(IngressError.BAD_HEADER, name)
            forwarded.append((name, value))
    return tuple(forwarded)


def _admit(request: Request, route: ToHandler, catalog: Catalog) -> _Admitted:
    """Everything that can be refused before the method is looked at."""
    service = catalog.services[route.service]
    handler = service.handlers.get(route.handler)
    if handler is None:
        raise RequestError(IngressError.HANDLER_NOT_FOUND, route.service, route.handler)
    if not handler.settings.public:
        raise RequestError(IngressError.PRIVATE_SERVICE)
    deployment = service.deployment
    if (
        deployment.protocol_version_max < PROTOCOL_VERSION_MIN
        or deployment.protocol_version_min > PROTOCOL_VERSION_MAX
    ):
        raise RequestError(
            IngressError.DEPRECATED_DEPLOYMENT, route.service, deployment.id, route.service
        )
    idempotency_key = request.ascii_header("idempotency-key")
    if idempotency_key is not None and handler.handler.type == "workflow":
        raise RequestError(IngressError.UNSUPPORTED_IDEMPOTENCY_KEY)
    if route.scope is not None:
        reason = restricted_problem(route.scope)
        if reason is not None:
            raise RequestError(IngressError.BAD_SCOPE, reason)
        raise RequestError(IngressError.SCOPE_UNSUPPORTED)
    return _Admitted(service, handler, idempotency_key)


def _delay_ms(request: Request) -> int | None:
    if not request.query:
        return None
    text = parse_query(request.query, "delay")
    return None if text is None else parse_delay_ms(text)


def _due_ms(now_ms: int, delay_ms: int) -> int:
    due_ms = now_ms + delay_ms
    if due_ms >= YEAR_10000_MS:
        reason = "the execution time would lie after the year 9999"
        raise RequestError(IngressError.BAD_DELAY, reason)
    return due_ms


def _check_limit_key(request: Request) -> None:
    """Limit keys need a scope, and scopes are off."""
    text = request.ascii_header("x-restate-limit-key")
    if text is None and request.query:
        text = parse_query(request.query, "limit-key")
    if text and parse_limit_key(text) is not None:
        raise RequestError(IngressError.LIMIT_KEY_WITHOUT_SCOPE)


def _trace_parent(headers: tuple[tuple[str, str], ...]) -> str | None:
    for name, value in headers:
        if name == "traceparent":
            return value if TRACE_PARENT.fullmatch(value) else None
    return None


def _refused(invocation_id: str, reply: Reply | None) -> Response:
    match reply:
        case Refused(code=ErrorCode.WORKFLOW_ALREADY_INVOKED, subject=known_id):
            return failure_response(WORKFLOW_ALREADY_INVOKED, "", ("x-restate-id", known_id))
        case Refused(code=ErrorCode.IDENTITY_TAKEN):
            raise RequestError(IngressError.IDENTITY_TAKEN, invocation_id)
        case _:
            raise InternalError(f"no answer for {invocation_id}: {reply!r}")
