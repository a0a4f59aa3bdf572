"""Attach to an invocation, or read its outcome; answers made of outcomes.

Lives here: what the state of an invocation means for attach and output, success and failure
answers.
Does not: name invocations (paths.py, targets.py), start them (invoke.py).
Rules: C48 the waiter is registered before the store is read; C52 output of an accepted invocation
is never 404; C53 a stored answer equals the live one; M1 a large outcome that hundreds read slowly
is in memory once.
"""

from typing import Final
from weakref import WeakValueDictionary

from msgspec.structs import replace

from restated.engine.catalog import LiveCatalog
from restated.engine.dispatch import Waiters
from restated.ingress.exchange import (
    Response,
    expiry_time,
    failure_response,
    ingress_error,
)
from restated.ingress.inputs import output_content_type
from restated.ingress.paths import RequestError
from restated.model.errors import IngressError
from restated.model.records import NOT_FOUND, Invocation, Outcome, Result
from restated.model.services import Handler
from restated.seams import Clock
from restated.store.store import Store

SHARED_BYTES_MIN: Final = 64 << 10  # below it a copy costs less than finding the other


class Kept:
    """An outcome as read from the store; alive as long as an answer carries it."""

    __slots__ = ("__weakref__", "outcome")

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


class Retrieval:
    """Reads what there is about one invocation, and waits for its end."""

    __slots__ = ("_catalog", "_clock", "_shared", "_store", "_waiters")

    def __init__(self, store: Store, waiters: Waiters, catalog: LiveCatalog, clock: Clock) -> None:
        self._store = store
        self._waiters = waiters
        self._catalog = catalog
        self._clock = clock
        self._shared: WeakValueDictionary[int, Kept] = WeakValueDictionary()  # by number

    async def attach(self, invocation_id: str) -> Response:
        """The outcome, as soon as there is one; ShuttingDownError when the daemon stops."""
        waiter = self._waiters.expect(invocation_id)
        try:
            invocation, kept = self._find(invocation_id)
            if invocation is None:
                return failure_response(NOT_FOUND, "", ("x-restate-id", invocation_id))
            if kept is not None:
                return self._stored(invocation, kept)
            settled = await waiter.wait()
        finally:
            self._waiters.forget(waiter)
        handler = self._latest_handler(invocation)
        return outcome_response(
            handler, invocation_id, settled.outcome, stacktrace=settled.stacktrace
        )

    def output(self, invocation_id: str) -> Response:
        """The outcome if there is one by now."""
        invocation, kept = self._find(invocation_id)
        if invocation is None:
            raise RequestError(IngressError.INVOCATION_NOT_FOUND)
        if kept is None:
            raise RequestError(IngressError.NOT_READY)
        return self._stored(invocation, kept)

    def _find(self, invocation_id: str) -> tuple[Invocation | None, Kept | None]:
        """The invocation, None when unknown or expired, and its outcome once completed."""
        with self._store.snapshot() as view:
            invocation = view.by_id(invocation_id)
            if invocation is None or invocation.status != "completed":
                return invocation, None
            expires_at_ms = invocation.expires_at_ms
            if expires_at_ms is not None and expires_at_ms <= self._clock.wall_ms():
                return None, None
            kept = self._shared.get(invocation.number)
            if kept is None:
                result = view.get(Result, invocation.number)
                assert result is not None, "a retained invocation has its result"
                kept = Kept(result.outcome)
        if isinstance(kept.outcome, bytes) and len(kept.outcome) >= SHARED_BYTES_MIN:
            self._shared[invocation.number] = kept
        return invocation, kept

    def _stored(self, invocation: Invocation, kept: Kept) -> Response:
        handler = self._latest_handler(invocation)
        expires_at_ms = invocation.expires_at_ms
        response = outcome_response(
            handler, invocation.id, kept.outcome, expires_at_ms=expires_at_ms
        )
        return replace(response, kept=kept)

    def _latest_handler(self, invocation: Invocation) -> Handler | None:
        service = self._catalog.current.services.get(invocation.service)
        entry = None if service is None else service.handlers.get(invocation.handler)
        return None if entry is None else entry.handler


def outcome_response(
    handler: Handler | None,
    invocation_id: str,
    outcome: Outcome,
    *,
    stacktrace: str = "",
    expires_at_ms: int | None = None,
) -> Response:
    """The answer made of an outcome, by the output rules of the latest revision.

    `expires_at_ms` only for a stored outcome. Without a handler a success cannot be delivered.
    """
    headers: tuple[tuple[str, str], ...] = (("x-restate-id", invocation_id),)
    if expires_at_ms is not None:
        headers = (*headers, ("idempotency-expires", expiry_time(expires_at_ms)))
    if not isinstance(outcome, bytes):
        return failure_response(outcome, stacktrace, *headers)
    if handler is None:
        return ingress_error(IngressError.NOT_FOUND, IngressError.NOT_FOUND.message())
    content_type = output_content_type(handler.output, outcome)
    if content_type is not None:
        headers = (*headers, ("content-type", content_type))
    return Response(200, headers, outcome)
