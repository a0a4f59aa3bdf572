"""Protocols of the outside world: time, chance, network, files.

Lives here: the few things that a simulator replaces.
Does not: implementations; the real ones are in daemon/system.py.
"""

from collections.abc import Sequence
from typing import Protocol

from trio import SocketListener
from trio.abc import Stream


class Clock(Protocol):
    """Wall time for what is stored, monotonic time for how long something took."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch; may step back and forth (T4)."""
        ...

    def monotonic_ms(self) -> float:
        """Milliseconds of a clock that never goes back; only differences mean anything."""
        ...

    async def sleep_until_ms(self, wall_ms: int) -> None:
        """Return at or after `wall_ms`, never early; wall time is re-read at least each second."""
        ...


class Rng(Protocol):
    """Chance: ids, jitter."""

    def bytes(self, count: int) -> bytes:
        """`count` random bytes."""
        ...

    def below(self, bound: int) -> int:
        """A random integer, 0 <= n < `bound`."""
        ...


class Net(Protocol):
    """Sockets. Every method raises OSError when the peer or the address refuses."""

    async def resolve(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        """Numeric addresses of a host, in the order to try them."""
        ...

    async def connect(self, address: str, port: int) -> Stream:
        """A TCP connection to a numeric address, TCP_NODELAY set."""
        ...

    async def connect_unix(self, path: str) -> Stream:
        """A connection to a Unix socket."""
        ...

    async def listen(self, host: str, port: int) -> Sequence[SocketListener]:
        """Listening TCP sockets for a host and port."""
        ...

    async def listen_unix(self, path: str, mode: int) -> SocketListener:
        """A listening Unix socket with permission bits `mode`; a stale file is replaced."""
        ...


class Fs(Protocol):
    """What the store asks of the file system besides SQLite."""

    def free_bytes(self, path: str) -> int:
        """Bytes that an unprivileged writer may still use on the file system of `path`."""
        ...

    def file_bytes(self, path: str) -> int:
        """Length of a file; 0 when it does not exist."""
        ...
