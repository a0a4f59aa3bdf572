"""Listening sockets: inherited from systemd by name, or opened.

Lives here: adoption of LISTEN_FDS, what is opened for each name, telling which could not be.
Does not: serving them (listeners.py).
Names of `FileDescriptorName=`: `ingress`, `ingress-socket`, `admin`, `admin-socket`. A name that
was inherited is not opened again, whatever the settings say: who passed it decided.
"""

import os
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

import trio

from restated.daemon import config
from restated.daemon.config import Settings
from restated.daemon.values import Address
from restated.seams import Net

FIRST_FD: Final = 3  # SD_LISTEN_FDS_START
NAMES: Final = ("ingress", "ingress-socket", "admin", "admin-socket")
SOCKET_MODES: Final = {"ingress-socket": 0o660, "admin-socket": 0o660}


class ListenError(Exception):
    """A socket could not be opened or adopted; the text is one line for the user."""


class Sockets:
    """Every listening socket, by name; and the files to remove at the end."""

    __slots__ = ("by_name", "files")

    def __init__(self) -> None:
        self.by_name: dict[str, list[trio.SocketListener]] = {name: [] for name in NAMES}
        self.files: list[Path] = []

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """Numeric host and port of the TCP listeners of a name."""
        found: list[tuple[str, int]] = []
        for listener in self.by_name[name]:
            if listener.socket.family != socket.AF_UNIX:
                host, port, *_ = listener.socket.getsockname()
                found.append((host, port))
        return found

    def places(self) -> list[str]:
        """`name=place` of every listener, for people and supervisors."""
        found: list[str] = []
        for name, listeners in self.by_name.items():
            for listener in listeners:
                place = listener.socket.getsockname()
                where = place if isinstance(place, str) else str(Address(*place[:2]))
                found.append(f"{name}={where}")
        return found

    async def close(self) -> None:
        """Stop listening and remove the socket files. Idempotent."""
        for listeners in self.by_name.values():
            for listener in listeners:
                listener.socket.close()
        for file in self.files:
            file.unlink(missing_ok=True)
        self.files.clear()


def adopt(environment: MutableMapping[str, str], pid: int) -> dict[str, list[socket.socket]]:
    """Sockets that systemd passed, by name; the variables are taken away from our children.

    ListenError for a name that is not ours or a descriptor that is no listening stream socket.
    """
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "")
    owner = environment.pop("LISTEN_PID", "")
    if owner != str(pid) or not count.isdigit():
        return {}
    adopted: dict[str, list[socket.socket]] = {}
    given = names.split(":") if names else []
    for offset in range(int(count)):
        name = given[offset] if offset < len(given) else "unknown"
        if name not in NAMES:
            raise ListenError(
                f"inherited socket {offset} has the name {name!r}; "
                f"FileDescriptorName= must be one of {', '.join(NAMES)}"
            )
        adopted.setdefault(name, []).append(_adopted(FIRST_FD + offset, name))
    return adopted


def _adopted(fd: int, name: str) -> socket.socket:
    try:
        inherited = socket.socket(fileno=fd)
        is_listening = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"inherited socket {name!r} is no socket: {error.strerror}") from error
    if inherited.type != socket.SOCK_STREAM or not is_listening:
        raise ListenError(f"inherited socket {name!r} is no listening stream socket")
    os.set_inheritable(fd, False)
    return inherited


async def open_all(
    settings: Settings,
    net: Net,
    environment: Mapping[str, str],
    adopted: Mapping[str, list[socket.socket]],
) -> Sockets:
    """Everything the daemon listens on. ListenError names what could not be opened and why."""
    sockets = Sockets()
    try:
        for name, inherited in adopted.items():
            sockets.by_name[name] = [
                trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in inherited
            ]
        await _open_tcp(sockets, net, "ingress", settings[config.INGRESS_BIND])
        await _open_tcp(sockets, net, "admin", settings[config.ADMIN_BIND])
        await _open_unix(sockets, net, "ingress-socket", config.ingress_socket(settings))
        admin_socket = config.admin_socket(settings, environment)
        await _open_unix(sockets, net, "admin-socket", admin_socket)
    except BaseException:
        await sockets.close()
        raise
    return sockets


async def _open_tcp(sockets: Sockets, net: Net, name: str, address: Address | None) -> None:
    if sockets.by_name[name] or address is None:
        return
    try:
        sockets.by_name[name] = list(await net.listen(address.host, address.port))
    except OSError as error:
        raise ListenError(f"cannot listen on {address} for {name}: {_reason(error)}") from error


async def _open_unix(sockets: Sockets, net: Net, name: str, path: Path | None) -> None:
    if sockets.by_name[name] or path is None:
        return
    try:
        listener = await net.listen_unix(str(path), SOCKET_MODES[name])
    except OSError as error:
        raise ListenError(f"cannot listen on {path} for {name}: {_reason(error)}") from error
    sockets.by_name[name] = [listener]
    sockets.files.append(path)


def _reason(error: OSError) -> str:
    """The cause in words; a group of addresses that all failed is told by its first."""
    cause: BaseException = error
    if error.__cause__ is not None:
        cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    text = cause.strerror if isinstance(cause, OSError) else str(cause)
    return (text or str(error)).lower()
