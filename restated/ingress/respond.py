"""Answer one request: the pipeline of the ingress, whatever protocol brought it.

Lives here: Ingress, the branch for each route, the mapping of errors to answers, the count of
requests in progress.
Does not: parse paths (paths.py), calls and sends (invoke.py), attach and output (retrieve.py),
connections (http1.py, asgi.py, listener.py).
Source: ingress.md 2, 3, 10, 14, 16, 17.
"""

import logging
from typing import assert_never

from msgspec.structs import replace

from restated.core.events import Signal
from restated.engine.catalog import Catalog, LiveCatalog
from restated.engine.dispatch import ShuttingDownError, Waiters
from restated.engine.writer import Writer
from restated.ingress.exchange import (
    BodyPool,
    IngressLimits,
    PeerGoneError,
    Request,
    Response,
    Share,
    cors_headers,
    ingress_error,
    json_response,
    preflight,
    refusal,
)
from restated.ingress.invoke import Admits, Invocations, stopping_response
from restated.ingress.paths import (
    RequestError,
    ToAwakeable,
    ToBody,
    ToHandler,
    ToHealth,
    ToIdempotent,
    ToInvocation,
    ToWorkflow,
    parse_path,
)
from restated.ingress.retrieve import Retrieval
from restated.ingress.targets import canonical_id, idempotent_id, parse_target, workflow_id
from restated.model import ids
from restated.model.errors import IngressError, InternalError, OverloadedError
from restated.model.records import Failure, Outcome
from restated.seams import Clock, Rng
from restated.store.store import Store, StoreFailedError

log = logging.getLogger("restated.ingress")


class Ingress:
    """Answers requests; what it needs of the other rooms is given by the daemon."""

    def __init__(  # noqa: PLR0913, PLR0917 - one parameter for each room and seam
        self,
        writer: Writer,
        waiters: Waiters,
        catalog: LiveCatalog,
        store: Store,
        clock: Clock,
        rng: Rng,
        limits: IngressLimits,
        admits: Admits = lambda: None,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.requests_in_progress = 0
        self.bodies = BodyPool(limits.bodies_bytes_max)
        self._writer = writer
        self._catalog = catalog
        self._retrieval = Retrieval(store, waiters, catalog, clock)
        self._invocations = Invocations(writer, waiters, clock, rng, limits, admits)

    async def respond(self, request: Request) -> Response:
        """The complete answer; raises only PeerGoneError and StoreFailedError."""
        self.requests_in_progress += 1
        share = Share(self.bodies)
        try:
            response = await self._answer(request, share)
        except RequestError as error:
            response = refusal(error)
        except OverloadedError as error:
            response = _error(IngressError.OVERLOADED, str(error))
        except InternalError:
            response = _error(IngressError.DEFECT)  # the writer has logged it
        except (PeerGoneError, StoreFailedError):
            raise  # nobody to answer; fail-stop: nothing may be answered any more
        except Exception:
            log.exception("request failed method=%s", request.method)
            response = _error(IngressError.DEFECT)
        finally:
            self.requests_in_progress -= 1
            share.give_back()
        cors = cors_headers(request.headers)
        return replace(response, headers=response.headers + cors) if cors else response

    async def _answer(self, request: Request, share: Share) -> Response:
        self._check_length(request)
        if request.method == "OPTIONS":
            return preflight(request.headers)
        requests_max = self.limits.requests_max
        if requests_max is not None and self.requests_in_progress > requests_max:
            raise RequestError(IngressError.TOO_MANY_REQUESTS)
        catalog = self._catalog.current  # one picture for the whole request

        def is_keyed(service: str) -> bool | None:
            entry = catalog.services.get(service)
            return None if entry is None else entry.is_keyed

        route = parse_path(request.path, is_keyed)
        if isinstance(route, ToHandler):
            return await self._invocations.invoke(request, share, route, catalog)
        if isinstance(route, ToHealth):
            return _health(request, catalog)
        if isinstance(route, ToAwakeable):
            return await self._complete_awakeable(request, share, route)
        return await self._retrieve(request, share, route)

    def _check_length(self, request: Request) -> None:
        """An announced body that is too large is refused before anything else."""
        length = request.headers.get("content-length")
        if length is None:
            return
        digits = length.lstrip("0")
        bytes_max = self.limits.body_bytes_max
        if len(digits) > len(str(bytes_max)) or int(digits or "0") > bytes_max:
            raise RequestError(IngressError.BODY_TOO_LARGE)

    async def _retrieve(
        self,
        request: Request,
        share: Share,
        route: ToInvocation | ToIdempotent | ToWorkflow | ToBody,
    ) -> Response:
        waits = route.wants == "attach" if isinstance(route, ToBody) else route.waits
        request.require_method("POST" if isinstance(route, ToBody) else "GET")
        match route:
            case ToInvocation():
                invocation_id = canonical_id(route.id)
            case ToIdempotent():
                invocation_id = idempotent_id(
                    service=route.service,
                    key=route.key,
                    handler=route.handler,
                    idempotency_key=route.idempotency_key,
                )
            case ToWorkflow():
                invocation_id = workflow_id(route.workflow, route.key)
            case ToBody():
                body = await request.body.read(self.limits.target_body_bytes_max, share)
                invocation_id = parse_target(body, is_lookup=route.wants == "lookup")
                if route.wants == "lookup":
                    return json_response(200, {"invocationId": invocation_id})
            case _:
                assert_never(route)
        if not waits:
            return self._retrieval.output(invocation_id)
        try:
            return await self._retrieval.attach(invocation_id)
        except ShuttingDownError:
            return stopping_response(invocation_id)

    async def _complete_awakeable(
        self, request: Request, share: Share, route: ToAwakeable
    ) -> Response:
        request.require_method("POST")
        try:
            awakeable = ids.parse_awakeable_id(route.id)
        except ids.IdError as error:
            raise RequestError(IngressError.BAD_AWAKEABLE_ID, route.id, str(error)) from None
        body = await request.body.read(self.limits.body_bytes_max, share)
        if not awakeable.is_old:  # protocols that made old ids are no longer spoken
            result: Outcome = body
            if not route.succeeds:
                result = Failure(500, body.decode(errors="replace"))
            name = f"s{awakeable.index}"
            await self._writer.submit(Signal(awakeable.invocation_id, name, result))
        return Response(202, ())


def _health(request: Request, catalog: Catalog) -> Response:
    request.require_method("GET")
    return json_response(200, {"services": sorted(catalog.services)})


def _error(error: IngressError, *subjects: str) -> Response:
    return ingress_error(error, error.message(*subjects))
