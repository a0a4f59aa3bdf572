"""Where deployments may live: base URIs and the addresses that are allowed behind them.

Lives here: parsing of base URIs, the check of a resolved address.
Does not: resolving and connecting (dial.py), what a registration answers (admin).
Rules: Z3 the *resolved* address is checked at each connect, so that a name that changes its
address later gains nothing.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from restated.invoker.transport import UnsendableError
from restated.model.records import Record

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
URI_CHARS_MAX: Final = 2_048
# Addresses where clouds keep credentials; 169.254.0.0/16 is link-local and needs no entry.
METADATA_ADDRESSES: Final = frozenset(
    ip_address(text) for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192")
)
NAT64: Final = IPv6Network("64:ff9b::/96")
_URI_CHARS: Final = re.compile(r"[!-~]+")
_PORT: Final = re.compile(r"[0-9]+(?:[/?#]|$)")
_HOST_CHARS: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")

Address = IPv4Address | IPv6Address


class InvalidUriError(ValueError):
    """A text is no base URI of a deployment; the message is the reason, for operators."""


class UnsupportedSchemeError(InvalidUriError):
    """The URI is absolute, but what it names is not called over HTTP."""


class TargetRefusedError(UnsendableError):
    """The address behind a base URI is not allowed."""


class BaseUri(Record):
    """A parsed base URI. `path` has no trailing slash, `query` no question mark."""

    scheme: str
    host: str  # without brackets, lower case
    port: int
    authority: str  # as written: host and, if given, port
    path: str
    query: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Requests with the same origin share connections."""
        return self.scheme, self.host, self.port

    @property
    def display(self) -> str:
        """As error texts and the admin API show it: an empty path is a slash."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.authority}{self.path or '/'}{query}"

    def target(self, path: str) -> str:
        """The request target of `path` below this URI; the registered query is kept."""
        return f"{self.path}{path}?{self.query}" if self.query else self.path + path


@lru_cache(maxsize=1_024)
def parse_uri(text: str) -> BaseUri:
    """Parse the base URI of an HTTP deployment. Raises InvalidUriError, UnsupportedSchemeError."""
    if len(text) > URI_CHARS_MAX or not _URI_CHARS.fullmatch(text):
        raise InvalidUriError(
            f"The provided uri {text[:80]!a} must be 1 to {URI_CHARS_MAX} printable ASCII "
            "characters; percent-encode the others."
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidUriError(f"The provided uri {text} cannot be parsed: {error}.") from error
    # `localhost:9080`: what the parser takes for a scheme is a host.
    has_scheme = bool(parts.scheme) and not _PORT.match(text.partition(":")[2])
    if not has_scheme or (not parts.netloc and parts.scheme in DEFAULT_PORTS):
        raise InvalidUriError(
            f"The provided uri {text} is not absolute, only absolute URIs can be used."
        )
    _check_parts(text, parts, port)
    scheme, host = parts.scheme, (parts.hostname or "")
    return BaseUri(
        scheme=scheme,
        host=host,
        port=DEFAULT_PORTS[scheme] if port is None else port,
        authority=parts.netloc,
        path=parts.path.rstrip("/"),
        query=parts.query,
    )


def _check_parts(text: str, parts: SplitResult, port: int | None) -> None:
    if parts.scheme not in DEFAULT_PORTS:
        raise UnsupportedSchemeError(
            f"The provided uri {text} has the scheme '{parts.scheme}'; use http or https."
        )
    if "@" in parts.netloc:
        raise InvalidUriError(
            "The provided uri contains a user name or password; "
            "send credentials as additional headers instead."
        )
    if not parts.hostname or not _HOST_CHARS.fullmatch(parts.hostname):
        raise InvalidUriError(f"The provided uri {text} has no valid host.")
    if port == 0:
        raise InvalidUriError(f"The provided uri {text} has the port 0; name the real one.")


class Targets:
    """Which addresses may be connected to: all but link-local, metadata and our own listeners.

    `networks` (texts such as `10.0.0.0/8`), when not empty, narrows it to these networks; it
    never widens it. Raises ValueError for a text that is no network.
    """

    __slots__ = ("_listeners", "_networks")

    def __init__(
        self, listeners: Collection[tuple[str, int]] = (), networks: Collection[str] = ()
    ) -> None:
        self._listeners: set[tuple[Address, int]] = set()
        self._networks = tuple(ip_network(network, strict=False) for network in networks)
        for address, port in listeners:
            self.add_listener(address, port)

    def add_listener(self, address: str, port: int) -> None:
        """Refuse one more of our own listeners from now on."""
        self._listeners.add((_bare(address), port))

    def check(self, address: str, port: int, *, is_local: bool = False) -> None:
        """Raise TargetRefusedError unless a numeric address may be connected to.

        `is_local`: the address is known to belong to this machine, so that a listener on all
        addresses is reached through it.
        """
        reason = self._refusal(_bare(address), port, is_local=is_local)
        if reason is not None:
            raise TargetRefusedError(f"the address {address} port {port} is refused: {reason}")

    def _refusal(self, address: Address, port: int, *, is_local: bool) -> str | None:
        if address.is_link_local or address in METADATA_ADDRESSES:
            return (
                "link-local and cloud metadata addresses are no deployments; "
                "register the address of the service itself"
            )
        if address.is_multicast or address == IPv4Address("255.255.255.255"):
            return "multicast and broadcast addresses are no deployments"
        if address.is_unspecified:
            return "the unspecified address is no target; register 127.0.0.1 or [::1] instead"
        if self._is_own(address, port, is_local=is_local):
            return (
                "this server itself listens there; register the address where the service "
                "listens, not the one of the server"
            )
        if self._networks and not any(address in network for network in self._networks):
            return (
                "it is outside the networks that deployments are restricted to; "
                "widen that setting or register an address inside them"
            )
        return None

    def _is_own(self, address: Address, port: int, *, is_local: bool) -> bool:
        if (address, port) in self._listeners:
            return True
        if not (is_local or address.is_loopback):
            return False
        return any(own.is_unspecified and port == own_port for own, own_port in self._listeners)


def _bare(text: str) -> Address:
    """The address that packets go to: IPv4 inside IPv6 notation is taken out, scopes dropped."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError as error:
        raise TargetRefusedError(f"'{text}' is no numeric address") from error
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address
