"""Durations as texts, in both directions.

Lives here: the friendly form (`1m 30s`) and ISO 8601 (`PT36H`), read and written.
Does not: which settings are durations (bodies.py), what they mean.
Source: admin.md 1. Months and years have no fixed length and are refused.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_MS: Final = 1_000_000  # nanoseconds
_SECOND: Final = 1_000 * _MS
_HOUR: Final = 3_600 * _SECOND
_DAY: Final = 24 * _HOUR
DURATION_MS_MAX: Final = 7_304_484 * _DAY // _MS  # 20,000 years, as the reference has it
_SHOWN: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
_NAMES: Final = (
    (7 * _DAY, ("w", "wk", "wks", "week", "weeks")),
    (_DAY, ("d", "day", "days")),
    (_HOUR, ("h", "hr", "hrs", "hour", "hours")),
    (60 * _SECOND, ("m", "min", "mins", "minute", "minutes")),
    (_SECOND, ("s", "sec", "secs", "second", "seconds")),
    (_MS, ("ms", "msec", "msecs", "milli", "millis", "millisecond", "milliseconds")),
    (
        1_000,
        (
            "us", "usec", "usecs", "µs", "µsec", "µsecs", "\N{GREEK SMALL LETTER MU}s",
            "micro", "micros", "microsecond", "microseconds",
        ),
    ),
    (1, ("ns", "nsec", "nsecs", "nano", "nanos", "nanosecond", "nanoseconds")),
)  # fmt: skip
_LENGTHS: Final = {name: length for length, names in _NAMES for name in names}
_ISO_LENGTHS: Final = (7 * _DAY, _DAY, _HOUR, 60 * _SECOND, _SECOND)
_NUMBER: Final = r"([0-9]{1,12})(?:[.,]([0-9]{1,9}))?"
_PART: Final = re.compile(_NUMBER + r"\s*([^\W\d_]+)(?:,\s+|\s*)")
_CLOCK: Final = re.compile(r"([0-9]{1,9}):([0-5][0-9]):([0-5][0-9])(?:[.,]([0-9]{1,9}))?\s*\Z")
_ISO: Final = re.compile(
    rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?\Z",
    re.IGNORECASE,
)


class DurationError(ValueError):
    """The text is no duration of weeks or smaller units."""


class _Part(NamedTuple):
    digits: str
    fraction: str | None
    unit_ns: int


def friendly(duration_ms: int) -> str:
    """`1d 12h`, `1s 500ms`, `0s`."""
    parts = []
    for unit, length in _SHOWN:
        count, duration_ms = divmod(duration_ms, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a friendly or ISO 8601 duration; raises DurationError.

    What is shorter than a millisecond counts as one: a short duration is not none.
    """
    unsigned = text.removeprefix("+")
    is_iso = unsigned[:1] in {"P", "p"}
    parts = _iso_parts(unsigned) if is_iso else _friendly_parts(unsigned, text)
    duration_ms = -(-_total_ns(parts, text) // _MS)
    if duration_ms > DURATION_MS_MAX:
        raise DurationError(f"{text!r} is longer than {friendly(DURATION_MS_MAX)}")
    return duration_ms


def _total_ns(parts: Iterable[_Part], text: str) -> int:
    """The sum of parts that go from large to small; only the last may have a fraction."""
    total_ns = 0
    before_ns = 8 * _DAY
    has_fraction = False
    for digits, fraction, unit_ns in parts:
        if unit_ns >= before_ns:
            raise DurationError(f"{text!r}: write units once, from large to small")
        if has_fraction or (fraction is not None and unit_ns > _HOUR):
            raise DurationError(f"{text!r}: only the last part, of hours at most, has a fraction")
        has_fraction = fraction is not None
        before_ns = unit_ns
        total_ns += int(digits) * unit_ns
        if fraction is not None:
            total_ns += int(fraction) * unit_ns // 10 ** len(fraction)
    return total_ns


def _friendly_parts(unsigned: str, text: str) -> Iterator[_Part]:
    if not unsigned:
        raise DurationError("an empty text is no duration, write e.g. `1m 30s`")
    if unsigned == "0":
        return
    position = 0
    while position < len(unsigned):
        clock = _CLOCK.match(unsigned, position)
        if clock is not None:
            yield _Part(clock[1], None, _HOUR)
            yield _Part(clock[2], None, 60 * _SECOND)
            yield _Part(clock[3], clock[4], _SECOND)
            return
        found = _PART.match(unsigned, position)
        if found is None:
            raise DurationError(f"{text!r} is no duration such as `1m 30s`")
        unit_ns = _LENGTHS.get(found[3])
        if unit_ns is None:
            raise DurationError(f"unit {found[3]!r}: please use units of days or smaller")
        yield _Part(found[1], found[2], unit_ns)
        position = found.end()


def _iso_parts(unsigned: str) -> list[_Part]:
    found = _ISO.match(unsigned)
    if found is None or not any(found.groups()) or unsigned[-1] in {"T", "t"}:
        raise DurationError(
            f"{unsigned!r} is no duration such as `PT1H30M`: please use units of days or smaller"
        )
    numbers = zip(found.groups()[::2], found.groups()[1::2], _ISO_LENGTHS, strict=True)
    return [_Part(digits, fraction, unit_ns) for digits, fraction, unit_ns in numbers if digits]
