"""Every call into the operating system: the real Clock, Rng, Net and Fs, and limits of the process.

Lives here: time, chance, sockets, sizes of files, umask, the limit on descriptors, threads for
what can only block.
Does not: sockets inherited from systemd (sockets.py), log lines (logs.py).
The only room besides the store's threads where the banned calls are allowed (`pyproject.toml`).
"""

import ctypes
import errno
import os
import resource
import socket
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import trio

from restated.seams import Clock, Fs, Net, Rng

SLEEP_S_MAX: Final = 1.0  # wall time may step while we sleep (T4)
RANDOM_BYTES: Final = 4_096  # one system call for about two hundred ids
BACKLOG: Final = 1_024
DIRECTORY_MODE: Final = 0o750
DESCRIPTORS_KEPT: Final = 256  # for the store, deployments, logs
LARGE_BLOCK_BYTES: Final = 1 << 20
_M_MMAP_THRESHOLD: Final = -3  # <malloc.h>


T = TypeVar("T")


def return_large_blocks() -> None:
    """Have freed memory of large payloads go back to the system at once.

    glibc raises its threshold for blocks of their own to 32 MiB once the first such block was
    freed; later ones then stay in the heap behind whatever was allocated after them (M1).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


class SystemClock:
    """The clocks of the machine."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Milliseconds that never go back."""
        return time.monotonic_ns() / 1_000_000

    async def sleep_until_ms(self, wall_ms: int) -> None:
        """Return at or after `wall_ms`, never early; a step of the clock is noticed in a second."""
        while (left_ms := wall_ms - time.time() * 1_000) > 0:  # noqa: ASYNC110 - time is no event
            await trio.sleep(min(left_ms / 1_000, SLEEP_S_MAX))
        await trio.lowlevel.checkpoint()


class SystemRng:
    """The kernel's chance, drawn in blocks: a system call for each id costs more than the id."""

    def __init__(self) -> None:
        self._block = b""
        self._position = 0

    def bytes(self, count: int) -> bytes:
        """`count` random bytes, each handed out once."""
        if count > RANDOM_BYTES:
            return os.urandom(count)
        start = self._position
        end = start + count
        if end > len(self._block):
            self._block = os.urandom(RANDOM_BYTES)
            start, end = 0, count
        self._position = end
        return self._block[start:end]

    def below(self, bound: int) -> int:
        """A random integer, 0 <= n < `bound`; the bias of 128 bits is beyond measure."""
        return int.from_bytes(self.bytes(16), "big") % bound


class SystemNet:
    """The machine's sockets."""

    async def resolve(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        """Numeric addresses of a host, in the order of the resolver, without repeats."""
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys((str(sockaddr[0]), int(sockaddr[1])) for *_, sockaddr in found))

    async def connect(self, address: str, port: int) -> trio.SocketStream:
        """A TCP connection to a numeric address; SocketStream sets TCP_NODELAY."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return await _connected(trio.socket.socket(family, socket.SOCK_STREAM), (address, port))

    async def connect_unix(self, path: str) -> trio.SocketStream:
        """A connection to a Unix socket."""
        return await _connected(trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)

    async def listen(self, host: str, port: int) -> Sequence[trio.SocketListener]:
        """Listening TCP sockets, one for each address of the host."""
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)

    async def listen_unix(self, path: str, mode: int) -> trio.SocketListener:
        """A listening Unix socket; one that nobody listens on is replaced.

        OSError EADDRINUSE when somebody does, EEXIST when the path is something else. It is
        never more open than `mode`, not for a moment: the umask of the process is 077.
        """
        make_directory(Path(path).parent)
        await self._remove_stale(path)
        bound = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await bound.bind(path)
            os.chmod(path, mode)  # noqa: PTH101 - at once, before it listens
            bound.listen(BACKLOG)
        except BaseException:
            bound.close()
            raise
        return trio.SocketListener(bound)

    async def _remove_stale(self, path: str) -> None:
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise FileExistsError(errno.EEXIST, "exists and is no socket", path)
        try:
            stream = await self.connect_unix(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108 - at once, before somebody else binds
        else:
            await trio.aclose_forcefully(stream)
            raise OSError(errno.EADDRINUSE, "another process listens on it", path)


async def _connected(
    unconnected: trio.socket.SocketType, address: tuple[str, int] | str
) -> trio.SocketStream:
    try:
        await unconnected.connect(address)
    except BaseException:
        unconnected.close()
        raise
    return trio.SocketStream(unconnected)


class SystemFs:
    """The machine's file systems."""

    def free_bytes(self, path: str) -> int:
        """Bytes that an unprivileged writer may still use."""
        file_system = os.statvfs(path)
        return file_system.f_bavail * file_system.f_frsize

    def file_bytes(self, path: str) -> int:
        """Length of a file; 0 when it does not exist."""
        try:
            return Path(path).stat().st_size
        except FileNotFoundError:
            return 0


class Seams:
    """The outside world as the rooms see it; the simulator brings another one."""

    __slots__ = ("clock", "fs", "net", "rng")

    def __init__(self, clock: Clock, rng: Rng, net: Net, fs: Fs) -> None:
        self.clock = clock
        self.rng = rng
        self.net = net
        self.fs = fs


def system_seams() -> Seams:
    """The real ones."""
    return Seams(SystemClock(), SystemRng(), SystemNet(), SystemFs())


async def in_thread(call: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """The result of something that can only block; when cancelled, it goes on unheard."""
    return await trio.to_thread.run_sync(call, limiter=limiter, abandon_on_cancel=True)


def make_directory(path: Path, mode: int = DIRECTORY_MODE) -> None:
    """Create a directory and its parents; the mode of one that exists is left alone."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)


def prepare_process() -> None:
    """Nothing we create is for others to read (Z7); as many descriptors as the system grants."""
    os.umask(0o077)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_max(wanted: int) -> int:
    """`wanted`, or what the limit on descriptors leaves for connections."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(16, min(wanted, soft - DESCRIPTORS_KEPT))
