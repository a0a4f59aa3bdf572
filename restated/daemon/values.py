"""The kinds of value that a setting can have, and how each is written.

Lives here: parsers for durations, byte counts, addresses, numbers, flags and choices, each with the
form it accepts in words.
Does not: which settings there are (config.py), where their text comes from (config.py).
A parser takes what TOML or the environment gave (text, integer, float, boolean) and raises
ValueError when it is not of the kind; the text of that error is never shown, the form is.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")
C = TypeVar("C", bound=str | int)
Raw = object  # what TOML or the environment gave

DURATION_MS_MAX: Final = 100 * 365 * 86_400_000  # a hundred years: stored times stay in 64 bits

_UNITS_MS: Final[dict[str, float]] = {
    "ms": 1, "millisecond": 1, "milliseconds": 1, "millis": 1, "msec": 1, "msecs": 1,
    "s": 1_000, "sec": 1_000, "secs": 1_000, "second": 1_000, "seconds": 1_000,
    "m": 60_000, "min": 60_000, "mins": 60_000, "minute": 60_000, "minutes": 60_000,
    "h": 3_600_000, "hr": 3_600_000, "hrs": 3_600_000, "hour": 3_600_000, "hours": 3_600_000,
    "d": 86_400_000, "day": 86_400_000, "days": 86_400_000,
    "w": 604_800_000, "week": 604_800_000, "weeks": 604_800_000,
}  # fmt: skip
_FRIENDLY: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*,?")
_ISO: Final = re.compile(
    r"P(?:(\d+(?:\.\d+)?)W)?(?:(\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_ISO_UNITS_MS: Final = (604_800_000, 86_400_000, 3_600_000, 60_000, 1_000)
_HOST: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_BYTES: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")
_BYTE_UNITS: Final[dict[str, int]] = {
    "": 1, "b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000,
    "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
}  # fmt: skip


class Kind(NamedTuple, Generic[T]):
    """A kind of value: how it is recognised, and its form in words for errors and the manual."""

    parse: Callable[[Raw], T]
    form: str


class Address(NamedTuple):
    """Where to listen on TCP."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _text(raw: Raw) -> str:
    if not isinstance(raw, str) or not raw.strip() or "\0" in raw:
        raise ValueError
    return raw.strip()


def _optional(parse: Callable[[Raw], T], word: str) -> Callable[[Raw], T | None]:
    """The same kind, or one word that means there is none."""

    def parse_optional(raw: Raw) -> T | None:
        return None if isinstance(raw, str) and raw.strip().lower() == word else parse(raw)

    return parse_optional


def _path(raw: Raw) -> Path:
    return Path(_text(raw)).expanduser()


def duration_ms(raw: Raw) -> int:
    """Milliseconds of a friendly (`1m 30s`) or ISO-8601 (`PT90S`) duration; ValueError if neither.

    A bare number is refused, 0 excepted: nobody would know its unit.
    """
    if raw in (0, "0") and not isinstance(raw, bool):
        return 0
    text = _text(raw)
    total = _iso_ms(text.upper()) if text[0] in "Pp" else _friendly_ms(text)
    if total > DURATION_MS_MAX:
        raise ValueError
    return round(total)


def _friendly_ms(text: str) -> float:
    total, position = 0.0, 0
    while position < len(text):
        part = _FRIENDLY.match(text, position)
        if part is None:
            raise ValueError
        unit_ms = _UNITS_MS.get(part[2].lower())
        if unit_ms is None:
            raise ValueError
        total += float(part[1]) * unit_ms
        position = part.end()
    return total


def _iso_ms(text: str) -> float:
    parts = _ISO.fullmatch(text)
    if parts is None or text.endswith(("P", "T")):
        raise ValueError
    return sum(
        float(count) * unit_ms
        for count, unit_ms in zip(parts.groups(), _ISO_UNITS_MS, strict=True)
        if count
    )


def _bytes(raw: Raw) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
        return raw
    parts = _BYTES.fullmatch(_text(raw))
    if parts is None or parts[2].lower() not in _BYTE_UNITS:
        raise ValueError
    return round(float(parts[1]) * _BYTE_UNITS[parts[2].lower()])


def _address(raw: Raw) -> Address:
    text = _text(raw).removeprefix("http://").rstrip("/")
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError
    if host.startswith("[") and host.endswith("]"):
        return Address(host[1:-1], int(port))
    if not host or ":" in host or "/" in host:
        raise ValueError
    return Address(host, int(port))


def _texts(raw: Raw) -> list[str]:
    texts = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError
    return [text.strip() for text in texts if text.strip()]


def _networks(raw: Raw) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(text, strict=False)) for text in _texts(raw))


def _hosts(raw: Raw) -> tuple[str, ...]:
    hosts = tuple(text.lower() for text in _texts(raw))
    if not all(_HOST.fullmatch(host) for host in hosts):
        raise ValueError
    return hosts


def _integer(lowest: int, highest: int) -> Callable[[Raw], int]:
    def parse(raw: Raw) -> int:
        number = int(str(raw))  # refuses booleans and fractions
        if not lowest <= number <= highest:
            raise ValueError
        return number

    return parse


def _number(lowest: float, highest: float) -> Callable[[Raw], float]:
    def parse(raw: Raw) -> float:
        number = float(str(raw))  # refuses booleans
        if not lowest <= number <= highest:  # false for NaN too
            raise ValueError
        return number

    return parse


def _flag(raw: Raw) -> bool:
    if isinstance(raw, bool):
        return raw
    try:
        return {"true": True, "false": False}[_text(raw).lower()]
    except KeyError:
        raise ValueError from None


def integer(lowest: int, highest: int) -> Kind[int]:
    """An integer from `lowest` to `highest`."""
    return Kind(_integer(lowest, highest), f"an integer from {lowest:,} to {highest:,}")


def optional_integer(lowest: int, highest: int) -> Kind[int | None]:
    """An integer, or the word `unlimited`."""
    return Kind(
        _optional(_integer(lowest, highest), "unlimited"),
        f"an integer from {lowest:,} to {highest:,}, or unlimited",
    )


def number(lowest: float, highest: float) -> Kind[float]:
    """A number from `lowest` to `highest`."""
    return Kind(_number(lowest, highest), f"a number from {lowest:g} to {highest:g}")


def choice(words: Mapping[str, C]) -> Kind[C]:
    """One of a few words, and what each means; several may mean the same."""

    def parse(raw: Raw) -> C:
        try:
            return words[str(raw).strip().lower()]
        except KeyError:
            raise ValueError from None

    return Kind(parse, f"one of {', '.join(dict.fromkeys(map(str, words.values())))}")


TEXT: Final = Kind(_text, "text, not empty")
OPTIONAL_TEXT: Final = Kind(_optional(_text, "none"), "text, or none")
PATH: Final = Kind(_path, "a path")
OPTIONAL_PATH: Final = Kind(_optional(_path, "none"), "a path, or none")
FLAG: Final = Kind(_flag, "true or false")
NETWORKS: Final = Kind(_networks, "a list of networks such as 10.0.0.0/8, 192.168.1.5/32, fd00::/8")
HOSTS: Final = Kind(_hosts, "a list of host names without port, such as restated.internal")
DURATION: Final = Kind(duration_ms, "a duration such as 500ms, 30s, 1m 30s, 1d or PT1M30S")
BYTES: Final = Kind(_bytes, "a number of bytes such as 65536, 512KiB or 32 MiB")
ADDRESS: Final = Kind(_address, "ADDRESS:PORT such as 127.0.0.1:8080 or [::1]:8080")
OPTIONAL_ADDRESS: Final = Kind(
    _optional(_address, "none"), "ADDRESS:PORT such as 127.0.0.1:9070 or [::1]:9070, or none"
)
