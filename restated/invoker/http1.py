"""Exchanges with deployments over HTTP/1.1: connections kept alive, one exchange at a time each.

Lives here: `Http1Transport`, the lanes of idle connections, the life of a connection.
Does not: bytes of requests and answers (http1_exchange.py), HTTP/2 (http2.py).

A connection is one task: it dials, carries an exchange, waits for the next one, and ends when the
peer closes it, when it was idle too long (C86) or when an answer forbids to go on.
"""

import logging
import ssl
from collections import deque
from collections.abc import Iterator
from typing import Final

import trio

from restated.invoker.dial import Dialer, Wire
from restated.invoker.endpoint import Endpoint, checked, endpoint_of
from restated.invoker.http1_exchange import Http1Exchange
from restated.invoker.targets import BaseUri, Targets
from restated.invoker.transport import ExchangeRequest, Receiver, TransportError, TransportLimits
from restated.seams import Net
from restated.store.store import StoreFailedError

log = logging.getLogger(__name__)

ALPN: Final = ("http/1.1",)


class Http1Transport:
    """The Transport of deployments registered with HTTP/1.1; its tasks run in `nursery`."""

    __slots__ = ("_dialer", "_lanes", "_limits", "_nursery")

    def __init__(
        self,
        nursery: trio.Nursery,
        net: Net,
        targets: Targets,
        limits: TransportLimits,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._nursery = nursery
        self._limits = limits
        self._dialer = Dialer(net, targets, limits.connect_timeout_seconds, tls)
        self._lanes: dict[tuple[str, str, int], _Lane] = {}

    def open(
        self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver
    ) -> Http1Exchange:
        """See Transport."""
        deployment = request.deployment
        has_body = request.method != "GET"
        try:
            endpoint = endpoint_of(deployment.uri, deployment.headers, self._limits.cluster_name)
            head = request_head(request, endpoint, has_body=has_body)
        except TransportError as error:
            exchange = Http1Exchange(b"", body, receiver, self._limits)
            self._nursery.start_soon(_report, exchange, error)
            return exchange
        exchange = Http1Exchange(
            head, body, receiver, self._limits, streams=request.streams, has_body=has_body
        )
        self._lane(endpoint.uri).place(exchange)
        return exchange

    def send(self, uri: BaseUri, message: bytes, receiver: Receiver) -> Http1Exchange:
        """Send a request that is complete as it is, head and body; the rest is as with `open`."""
        exchange = Http1Exchange(message, iter(()), receiver, self._limits, has_body=False)
        self._lane(uri).place(exchange)
        return exchange

    def _lane(self, uri: BaseUri) -> "_Lane":
        """Requests with the same origin share connections."""
        lane = self._lanes.get(uri.origin)
        if lane is None:
            for origin in [origin for origin, lane in self._lanes.items() if lane.is_unused]:
                del self._lanes[origin]
            lane = _Lane(self._nursery, self._dialer, uri, self._limits)
            self._lanes[uri.origin] = lane
        return lane


class _Lane:
    """The connections of one origin and the exchanges that wait for one."""

    __slots__ = ("_count", "_dialer", "_idle", "_limits", "_nursery", "_uri", "_waiting")

    def __init__(
        self, nursery: trio.Nursery, dialer: Dialer, uri: BaseUri, limits: TransportLimits
    ) -> None:
        self._nursery = nursery
        self._dialer = dialer
        self._uri = uri
        self._limits = limits
        self._idle: list[_Seat] = []  # the one that waits longest first
        self._waiting: deque[Http1Exchange] = deque()
        self._count = 0

    @property
    def is_unused(self) -> bool:
        """Whether there is no connection."""
        return not self._count

    def place(self, exchange: Http1Exchange) -> None:
        """Give an exchange to an idle connection or to a new one, within the bound."""
        if self._idle:
            self._idle.pop().give(exchange)
            return
        if self._count < self._limits.connections_max:
            self._count += 1
            self._nursery.start_soon(self._connect, exchange)
            return
        if len(self._waiting) >= self._limits.waiting_max:
            self._waiting = deque(each for each in self._waiting if not each.is_closed)
        if len(self._waiting) < self._limits.waiting_max:
            self._waiting.append(exchange)
            return
        error = TransportError("too many requests wait for a connection to this service already")
        self._nursery.start_soon(_report, exchange, error)

    async def _connect(self, exchange: Http1Exchange) -> None:
        try:
            await self._carry(exchange)
        except* StoreFailedError:
            raise
        except* Exception:
            log.exception("event=connection_failed uri=%s", self._uri.display)
        finally:
            self._count -= 1
            if self._waiting:
                self.place(self._waiting.popleft())

    async def _carry(self, first: Http1Exchange) -> None:
        if first.is_closed:
            return
        try:
            wire = await self._dialer.dial(self._uri, ALPN)
        except TransportError as error:
            first.fail(error)
            return
        except BaseException:
            first.fail(TransportError("the server is stopping"))
            raise
        exchange: Http1Exchange | None = first
        try:
            while exchange is not None:
                if not exchange.is_closed and not await exchange.run(wire):
                    return
                exchange = await self._next(wire)
        finally:
            await wire.aclose()

    async def _next(self, wire: Wire) -> Http1Exchange | None:
        """The next exchange for a connection that is free; None when it should be closed."""
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.is_closed:
                return exchange
        seat = _Seat()
        self._idle.append(seat)
        is_open = await seat.wait(wire, self._limits.idle_seconds)
        if seat in self._idle:
            self._idle.remove(seat)
        if seat.exchange is not None and not is_open:
            # The peer closed it in the very turn in which it was chosen; nothing was sent.
            self.place(seat.exchange)
            return None
        return seat.exchange


class _Seat:
    """Where an idle connection waits for its next exchange."""

    __slots__ = ("_given", "exchange")

    def __init__(self) -> None:
        self.exchange: Http1Exchange | None = None
        self._given = trio.Event()

    def give(self, exchange: Http1Exchange) -> None:
        """End the waiting."""
        self.exchange = exchange
        self._given.set()

    async def wait(self, wire: Wire, seconds: float) -> bool:
        """Until an exchange is given, the peer closes or time is up; whether it is still open."""
        is_open = True

        async def watch() -> None:
            nonlocal is_open
            try:
                await wire.receive()  # an answer without a request ends it as well
            except OSError as error:
                log.debug("event=idle_connection_lost error=%s", error)
            is_open = False
            nursery.cancel_scope.cancel()

        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await self._given.wait()
                nursery.cancel_scope.cancel()
        return is_open


async def _report(exchange: Http1Exchange, error: TransportError) -> None:
    exchange.fail(error)


def request_head(request: ExchangeRequest, endpoint: Endpoint, *, has_body: bool) -> bytes:
    """The head of a request. Raises TransportError for a header that cannot be sent."""
    lines = [f"{request.method} {endpoint.uri.target(request.path)} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in checked(request.headers)]
    lines += [f"{name}: {value}" for name, value in endpoint.headers]
    lines.append(f"host: {endpoint.uri.authority}")
    if has_body:
        lines.append("transfer-encoding: chunked")
    lines.append("\r\n")
    return "\r\n".join(lines).encode()
