"""Connections to deployments: resolve, check, connect, TLS; bytes without needless waiting.

Lives here: `Dialer` and the `Wire` it returns.
Does not: what is said on a wire (http1.py, http2_connection.py), which addresses are allowed
(targets.py).
"""

import contextlib
import os
import socket
import ssl
from typing import Final

import trio
from trio.abc import Stream

from restated.invoker.targets import BaseUri, Targets
from restated.invoker.transport import TransportError
from restated.seams import Net

RECEIVE_BYTES: Final = 65_536
ADDRESSES_TRIED_MAX: Final = 8


class Wire:
    """One connected byte stream; one task receives, one sends.

    A plain TCP socket is written to directly, so that a small send costs one system call and
    no task switch; anything else (TLS, the streams of tests) only by `send_all`.
    """

    __slots__ = ("_fd", "_stream", "alpn")

    def __init__(self, stream: Stream, alpn: str | None = None) -> None:
        self._stream = stream
        self._fd = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else -1
        self.alpn = alpn  # protocol that TLS agreed upon

    @property
    def sends_directly(self) -> bool:
        """Whether `send_now` may take anything at all."""
        return self._fd >= 0

    def send_now(self, octets: bytes) -> int:
        """How many bytes the kernel took at once, perhaps none. Raises OSError."""
        if self._fd < 0:
            return 0
        try:
            return os.write(self._fd, octets)
        except (BlockingIOError, InterruptedError):
            return 0

    async def send_all(self, octets: bytes | memoryview) -> None:
        """Send everything, however long it takes. Raises OSError."""
        try:
            await self._stream.send_all(octets)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _as_os_error(error) from error

    async def receive(self) -> bytes:
        """Up to 64 KiB; empty at the end of the stream. Raises OSError."""
        try:
            if self._fd < 0:
                return bytes(await self._stream.receive_some(RECEIVE_BYTES))
            while True:
                # Waiting first: after a burst the socket is nearly always empty.
                await trio.lowlevel.wait_readable(self._fd)
                try:
                    return os.read(self._fd, RECEIVE_BYTES)
                except (BlockingIOError, InterruptedError):
                    continue
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _as_os_error(error) from error

    async def aclose(self, last: bytes = b"") -> None:
        """Close without a TLS farewell; never waits for the peer, who may miss `last`."""
        with contextlib.suppress(OSError):
            self.send_now(last)
        self._fd = -1  # the kernel may give the number to another connection at once
        await trio.aclose_forcefully(self._stream)


def _as_os_error(error: Exception) -> OSError:
    cause = error.__cause__
    if isinstance(cause, OSError):
        return cause
    return ConnectionResetError("the connection was lost" if not error.args else str(error))


class Dialer:
    """Opens wires to base URIs; every address is checked right before it is connected to (Z3)."""

    __slots__ = ("_net", "_targets", "_timeout_seconds", "_tls")

    def __init__(
        self,
        net: Net,
        targets: Targets,
        timeout_seconds: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._net = net
        self._targets = targets
        self._timeout_seconds = timeout_seconds
        self._tls = tls

    async def dial(self, uri: BaseUri, alpn: tuple[str, ...]) -> Wire:
        """Connect, within the time limit. Raises TransportError; never retries."""
        try:
            with trio.fail_after(self._timeout_seconds):
                stream = await self._connect(uri)
                if uri.scheme != "https":
                    return Wire(stream)
                return await self._secure(stream, uri.host, alpn)
        except trio.TooSlowError as error:
            raise TransportError(
                f"no connection within {self._timeout_seconds:g} seconds; "
                "check that the service runs and is reachable from this server"
            ) from error
        except ssl.SSLError as error:
            raise TransportError(f"TLS failed: {error.reason or error}") from error
        except OSError as error:
            raise TransportError(describe(error)) from error

    async def _connect(self, uri: BaseUri) -> Stream:
        addresses = await self._net.resolve(uri.host, uri.port)
        failure: Exception = OSError(f"the name '{uri.host}' has no address")
        for address, port in addresses[:ADDRESSES_TRIED_MAX]:
            try:
                self._targets.check(address, port)
                stream = await self._net.connect(address, port)
            except (OSError, TransportError) as error:
                failure = error
                continue
            try:
                self._targets.check(address, port, is_local=_is_local(stream, address))
            except TransportError:
                await trio.aclose_forcefully(stream)
                raise
            return stream
        raise failure

    async def _secure(self, stream: Stream, host: str, alpn: tuple[str, ...]) -> Wire:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        # One context serves both transports: each connection offers its own list, set right
        # before the object that reads it is made.
        self._tls.set_alpn_protocols(list(alpn))
        secured = trio.SSLStream(stream, self._tls, server_hostname=host, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(secured)
            cause = error.__cause__
            if isinstance(error, trio.BrokenResourceError):
                raise cause if isinstance(cause, OSError) else _as_os_error(error) from error
            raise
        return Wire(secured, secured.selected_alpn_protocol())


def _is_local(stream: Stream, address: str) -> bool:
    """Whether a connected address is one of this machine's: then both ends have it."""
    if not isinstance(stream, trio.SocketStream):
        return False
    local = stream.socket.getsockname()
    return isinstance(local, tuple) and bool(local[0] == address)


def describe(error: OSError) -> str:
    """An operating system error for operators, e.g. `Connection refused (os error 111)`."""
    if isinstance(error, socket.gaierror):
        return f"the name of the host cannot be resolved: {error.strerror}"
    if error.errno:
        return f"{os.strerror(error.errno)} (os error {error.errno})"
    return str(error) or type(error).__name__
