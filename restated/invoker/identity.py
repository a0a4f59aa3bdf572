"""Request identity: tokens by which a deployment knows that a request comes from this server.

Lives here: `RequestIdentity` (two headers per request), reading its private key from a file.
Does not: which requests are signed (routes.py signs all of them), the settings (daemon).
Source: service-protocol.md 2.3. `cryptography` is imported when a key is configured, not before.
"""

import os
import re
import stat
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from restated.seams import Clock

SCHEME_HEADER: Final = "x-restate-signature-scheme"
TOKEN_HEADER: Final = "x-restate-jwt-v1"  # noqa: S105 - a name
SCHEME: Final = "v1"
KEY_PREFIX: Final = "publickeyv1_"
EXPIRATION_MS: Final = 60_000
EXPIRATION_MS_MIN: Final = 1_000  # claims are whole seconds
KEY_FILE_BYTES_MAX: Final = 65_536
TOKENS_MAX: Final = 1_024  # remembered within one second
BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
OTHERS_BITS: Final = stat.S_IRWXG | stat.S_IRWXO

_PEM_LABEL: Final = re.compile(r"^-----BEGIN ([A-Z0-9 ]+)-----\s*$", re.MULTILINE)


class IdentityError(Exception):
    """The private key cannot be used; the text names the file and says what to do."""


class _Header(msgspec.Struct, frozen=True):
    """The order of the members is that of the wire."""

    typ: str
    alg: str
    kid: str


class _Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """Times are seconds since the epoch; the order of the members is that of the wire."""

    aud: str
    exp: int
    iat: int
    nbf: int
    sub: str | None = None


class RequestIdentity:
    """Signs requests with one Ed25519 key.

    A token depends on path, key and second alone, so those of the current second are remembered:
    a signature costs more than all other headers together.
    """

    __slots__ = ("_clock", "_expiration_s", "_head", "_second", "_sign", "_tokens", "key_id")

    def __init__(
        self,
        sign: Callable[[bytes], bytes],
        public_key: bytes,
        clock: Clock,
        expiration_ms: int = EXPIRATION_MS,
    ) -> None:
        self.key_id = KEY_PREFIX + base58(public_key)  # what services are configured with
        self._sign = sign
        self._clock = clock
        self._expiration_s = max(expiration_ms, EXPIRATION_MS_MIN) // 1_000
        self._head = _encoded(_Header("JWT", "EdDSA", self.key_id)) + b"."
        self._second = 0
        self._tokens: dict[tuple[str, str | None], str] = {}

    def headers(self, path: str, object_key: str | None) -> tuple[tuple[str, str], ...]:
        """The headers of a request; `path` is below the base URI, the key is not encoded."""
        second = self._clock.wall_ms() // 1_000
        if second != self._second or len(self._tokens) >= TOKENS_MAX:
            self._second = second
            self._tokens.clear()
        token = self._tokens.get((path, object_key))
        if token is None:
            token = self._token(path, object_key, second)
            self._tokens[path, object_key] = token
        return (SCHEME_HEADER, SCHEME), (TOKEN_HEADER, token)

    def _token(self, path: str, object_key: str | None, second: int) -> str:
        leeway_s = self._expiration_s
        claims = _Claims(path, second + leeway_s, second, second - leeway_s, object_key)
        signed = self._head + _encoded(claims)
        return (signed + b"." + _base64(self._sign(signed))).decode("ascii")


def load_identity(path: Path, clock: Clock, expiration_ms: int = EXPIRATION_MS) -> RequestIdentity:
    """The identity whose key is in a PEM file. Raises IdentityError, its text without the key.

    The file holds exactly one PKCS#8 Ed25519 private key, is ours, and nobody else may read it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _read_private(path)
    labels = _PEM_LABEL.findall(pem.decode("latin-1"))
    if labels != ["PRIVATE KEY"]:
        found = ", ".join(labels[:5]) if labels else "none"
        raise _unusable(path, f"expected exactly one PEM block PRIVATE KEY (PKCS#8), found {found}")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's text may quote what it read.
        raise _unusable(path, "its PEM block PRIVATE KEY is damaged") from None
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.strip("_").removesuffix("PrivateKey")
        raise _unusable(path, f"it is a key for {kind}, only Ed25519 signs requests")
    return RequestIdentity(key.sign, key.public_key().public_bytes_raw(), clock, expiration_ms)


def _unusable(path: Path, why: str) -> IdentityError:
    return IdentityError(
        f"the request identity key {path} cannot be used: {why}; "
        "make one with: openssl genpkey -algorithm ed25519 -out FILE"
    )


def _read_private(path: Path) -> bytes:
    """The content of a file that is ours alone; the checks are on what was opened."""
    try:
        # Without O_NONBLOCK a named pipe would make the start wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise IdentityError(
            f"cannot read the request identity key {path}: {error.strerror}"
        ) from error
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise IdentityError(f"the request identity key {path} is not a regular file")
        if status.st_uid != os.geteuid():
            raise IdentityError(
                f"the request identity key {path} belongs to user {status.st_uid}, "
                f"the daemon runs as user {os.geteuid()}; make it its owner with chown"
            )
        if status.st_mode & OTHERS_BITS:
            raise IdentityError(
                f"the request identity key {path} is open to others "
                f"(mode {stat.S_IMODE(status.st_mode):04o}); close it with chmod 600"
            )
        if status.st_size > KEY_FILE_BYTES_MAX:
            raise _unusable(path, f"it is larger than {KEY_FILE_BYTES_MAX:,} bytes")
        return opened.read(KEY_FILE_BYTES_MAX)


def base58(octets: bytes) -> str:
    """Base58 in the alphabet of Bitcoin; a leading zero byte is a leading `1`."""
    number = int.from_bytes(octets, "big")
    digits = ""
    while number:
        number, digit = divmod(number, len(BASE58))
        digits = BASE58[digit] + digits
    zeros = len(octets) - len(octets.lstrip(b"\0"))
    return BASE58[0] * zeros + digits


def _encoded(part: msgspec.Struct) -> bytes:
    return _base64(msgspec.json.encode(part))


def _base64(octets: bytes) -> bytes:
    return urlsafe_b64encode(octets).rstrip(b"=")
