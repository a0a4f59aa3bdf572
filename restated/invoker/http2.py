"""Exchanges with deployments over HTTP/2: which connection carries which request.

Lives here: `Http2Transport`, one pool of connections per origin, the clock of their keep-alive.
Does not: what happens on a connection (http2_connection.py), HTTP/1.1 (http1.py).

A request takes the first connection with a free stream; when there is none it waits for the
connection that is dialled for it (service-protocol.md, supplement to 2.1). Connections are used
only after the peer's SETTINGS came: no request is then refused for one stream too many, and a
server that speaks HTTP/1.1 is recognised before anything was sent (C89).
"""

import logging
import ssl
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import trio

from restated.invoker.dial import Dialer
from restated.invoker.endpoint import Endpoint, checked, endpoint_of
from restated.invoker.frames import encode_field, encode_pseudo
from restated.invoker.http2_connection import ONLY_HTTP1, Http2Connection
from restated.invoker.http2_exchange import Http2Exchange
from restated.invoker.targets import BaseUri, Targets
from restated.invoker.transport import (
    ExchangeRequest,
    Receiver,
    TransportError,
    TransportLimits,
    WrongHttpVersionError,
)
from restated.seams import Net
from restated.store.store import StoreFailedError

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
ALPN: Final = ("h2", "http/1.1")
TOO_MANY_WAIT: Final = "too many requests wait for a connection to this service already"


class Http2Transport:
    """The Transport of deployments registered with HTTP/2; its tasks run in `nursery`."""

    __slots__ = ("_dialer", "_is_ticking", "_limits", "_nursery", "_pools")

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
        self._pools: dict[tuple[str, str, int], Http2Pool] = {}
        self._is_ticking = False

    def open(
        self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver
    ) -> Http2Exchange:
        """See Transport."""
        deployment = request.deployment
        try:
            endpoint = endpoint_of(deployment.uri, deployment.headers, self._limits.cluster_name)
            block = header_block(request, endpoint)
        except TransportError as error:
            exchange = Http2Exchange(b"", body, receiver, streams=request.streams)
            self._nursery.start_soon(_report, exchange, error)
            return exchange
        exchange = Http2Exchange(block, body, receiver, streams=request.streams)
        self._pool(endpoint).place(exchange)
        return exchange

    def _pool(self, endpoint: Endpoint) -> "Http2Pool":
        pool = self._pools.get(endpoint.origin)
        if pool is None:
            pool = Http2Pool(self._nursery, self._dialer, endpoint.uri, self._limits)
            self._pools[endpoint.origin] = pool
        if not self._is_ticking:
            self._is_ticking = True
            self._nursery.start_soon(self._tick)
        return pool

    async def _tick(self) -> None:
        while self._pools:
            await trio.sleep(TICK_SECONDS)
            for origin, pool in list(self._pools.items()):
                pool.tick(TICK_SECONDS)
                if pool.is_unused:
                    del self._pools[origin]
        self._is_ticking = False


class Http2Pool:
    """The connections of one origin and the exchanges that wait for one."""

    __slots__ = ("_connections", "_dialer", "_dialing", "_limits", "_nursery", "_uri", "_waiting")

    def __init__(
        self, nursery: trio.Nursery, dialer: Dialer, uri: BaseUri, limits: TransportLimits
    ) -> None:
        self._nursery = nursery
        self._dialer = dialer
        self._uri = uri
        self._limits = limits
        self._connections: list[Http2Connection] = []  # oldest first, ungreeted ones too
        self._waiting: deque[Http2Exchange] = deque()
        self._dialing = 0  # connections under way, until they are greeted or lost

    @property
    def is_unused(self) -> bool:
        """Whether nothing is connected, dialled or waiting."""
        return not self._connections and not self._waiting and not self._dialing

    def place(self, exchange: Http2Exchange) -> None:
        """Give an exchange to a connection, now or as soon as there is one."""
        for connection in self._connections:
            if connection.has_room:
                connection.adopt(exchange)
                return
        if len(self._waiting) >= self._limits.waiting_max:
            self._waiting = deque(each for each in self._waiting if not each.is_closed)
        if len(self._waiting) >= self._limits.waiting_max:
            self._nursery.start_soon(_report, exchange, TransportError(TOO_MANY_WAIT))
            return
        self._waiting.append(exchange)
        self._dial_if_needed()

    def tick(self, seconds: float) -> None:
        """Let time pass for all connections."""
        for connection in list(self._connections):
            connection.tick(seconds)

    # -- for connections

    def on_greeted(self) -> None:
        """See Owner."""
        self._dialing -= 1

    def on_room(self, connection: Http2Connection) -> None:
        """See Owner."""
        while self._waiting and connection.has_room:
            exchange = self._waiting.popleft()
            if not exchange.is_closed:
                connection.adopt(exchange)
        if self._waiting:
            self._dial_if_needed()

    def on_lost(
        self, connection: Http2Connection, unsent: list[Http2Exchange], error: TransportError
    ) -> None:
        """See Owner. What was not sent may go elsewhere, once."""
        if connection.is_closed:
            self._connections.remove(connection)
            if not connection.is_greeted:
                self._dialing -= 1
                self._refuse(error)
        for exchange in unsent:
            if exchange.is_moved:
                exchange.fail(error)
            else:
                exchange.is_moved = True
                self.place(exchange)
        if self._waiting:
            self._dial_if_needed()

    # -- dialling

    def _dial_if_needed(self) -> None:
        count = len(self._connections) + self._dialing
        if (
            len(self._waiting) > self._dialing * self._limits.streams_max
            and count < self._limits.connections_max
        ):
            self._dialing += 1
            self._nursery.start_soon(self._connect)

    async def _connect(self) -> None:
        try:
            wire = await self._dialer.dial(self._uri, ALPN)
        except TransportError as error:
            self._dialing -= 1
            self._refuse(error)
            return
        if self._uri.scheme == "https" and wire.alpn != "h2":
            self._dialing -= 1
            self._refuse(WrongHttpVersionError(ONLY_HTTP1))
            await wire.aclose()
            return
        connection = Http2Connection(wire, self._limits, self)
        self._connections.append(connection)
        try:
            await connection.run()
        except* StoreFailedError:
            raise
        except* Exception:
            log.exception("event=connection_failed uri=%s", self._uri.display)

    def _refuse(self, error: TransportError) -> None:
        """A connection did not come about; nobody waits for what may never come."""
        if self._dialing:
            return
        waiting = list(self._waiting)
        self._waiting.clear()
        for exchange in waiting:
            exchange.fail(error)


async def _report(exchange: Http2Exchange, error: TransportError) -> None:
    exchange.fail(error)


def header_block(request: ExchangeRequest, endpoint: Endpoint) -> bytes:
    """The encoded header block of a request. Raises TransportError for a bad header."""
    before, after = _fixed_parts(request.method, endpoint)
    parts = [before, encode_field(":path", endpoint.uri.target(request.path))]
    parts += [encode_field(name, value) for name, value in checked(request.headers)]
    parts.append(after)
    return b"".join(parts)


@lru_cache(maxsize=1_024)
def _fixed_parts(method: str, endpoint: Endpoint) -> tuple[bytes, bytes]:
    before = (
        encode_pseudo(":method", method)
        + encode_pseudo(":scheme", endpoint.uri.scheme)
        + encode_field(":authority", endpoint.uri.authority)
    )
    return before, b"".join(encode_field(name, value) for name, value in endpoint.headers)
