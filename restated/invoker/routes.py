"""One Transport for all deployments: each request goes the way its deployment was registered.

Lives here: `DeploymentTransport`; it signs every request when there is a request identity.
Does not: the ways themselves (http1.py, http2.py, lambda_.py), tokens (identity.py).
"""

import ssl
from collections.abc import Iterator

import msgspec
import trio

from restated.invoker.http1 import Http1Transport
from restated.invoker.http2 import Http2Transport
from restated.invoker.identity import RequestIdentity
from restated.invoker.lambda_ import LambdaTransport, Signer
from restated.invoker.targets import Targets
from restated.invoker.transport import (
    Exchange,
    ExchangeRequest,
    Receiver,
    Transport,
    TransportError,
    TransportLimits,
)
from restated.seams import Net


class DeploymentTransport:
    """Routes by `Deployment.transport`; `nursery` must outlive every exchange."""

    __slots__ = ("_identity", "_nursery", "_transports")

    def __init__(  # noqa: PLR0913, PLR0917 - what the ways need, and what is the same for all
        self,
        nursery: trio.Nursery,
        net: Net,
        targets: Targets,
        limits: TransportLimits | None = None,
        tls: ssl.SSLContext | None = None,
        identity: RequestIdentity | None = None,
        signer: Signer | None = None,
    ) -> None:
        limits = limits or TransportLimits()
        http1 = Http1Transport(nursery, net, targets, limits, tls)
        self._identity = identity
        self._nursery = nursery
        self._transports: dict[str, Transport] = {
            "http1": http1,
            "http2": Http2Transport(nursery, net, targets, limits, tls),
        }
        if signer is not None:
            self._transports["lambda"] = LambdaTransport(nursery, http1, limits, signer)

    def open(self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver) -> Exchange:
        """See Transport."""
        transport = self._transports.get(request.deployment.transport)
        if transport is not None:
            if self._identity is not None:
                # Behind the headers of the exchange, before those of the deployment (2.1).
                signature = self._identity.headers(request.path, request.object_key)
                request = msgspec.structs.replace(request, headers=request.headers + signature)
            return transport.open(request, body, receiver)
        refused = _Refused(receiver, request.deployment.transport)
        self._nursery.start_soon(refused.report)
        return refused


class _Refused:
    """The exchange of a deployment that cannot be reached this way."""

    __slots__ = ("_receiver", "_way")

    def __init__(self, receiver: Receiver, way: str) -> None:
        self._receiver: Receiver | None = receiver
        self._way = way

    async def report(self) -> None:
        """Tell the receiver, unless it gave up."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.on_failed(TransportError(
                f"deployments over {self._way} cannot be reached by this server; "
                "register the service with an HTTP URI"
            ))  # fmt: skip

    def send(self, data: bytes) -> None:
        """See Exchange."""

    def send_lazily(self, pieces: Iterator[bytes]) -> None:
        """See Exchange."""

    def end(self) -> None:
        """See Exchange."""

    def abort(self) -> None:
        """See Exchange."""
        self._receiver = None

    def consumed(self, count: int) -> None:
        """See Exchange."""

    def keep(self, count: int) -> None:
        """See Exchange."""
