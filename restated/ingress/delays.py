"""The `delay` parameter: ISO 8601 and "friendly" durations.

Lives here: the two grammars with their error texts, the exact sum in nanoseconds.
Does not: say when a delay is allowed (respond.py), know the time.
Pure. Both grammars are read in one pass from left to right: no input takes more than linear time.
Source: ingress.md 6 and the recorded cases of group `delay/`.
"""

from typing import Final

from restated.ingress.inputs import rust_quoted
from restated.ingress.paths import RequestError
from restated.model.errors import IngressError

UNITS: Final = (
    "year", "month", "week", "day", "hour", "minute", "second", "millisecond", "microsecond",
    "nanosecond",
)  # fmt: skip
YEAR, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND = range(7)
NANOSECOND: Final = len(UNITS) - 1
SECOND_NS: Final = 1_000_000_000
NANOSECONDS: Final = (  # of a unit; years and months have no fixed length
    0, 0, 604_800 * SECOND_NS, 86_400 * SECOND_NS, 3_600 * SECOND_NS, 60 * SECOND_NS, SECOND_NS,
    1_000_000, 1_000, 1,
)  # fmt: skip
INTEGER_MAX: Final = 2**63 - 1
FRACTION_DIGITS_MAX: Final = 9

NAMES: Final[dict[str, int]] = {
    name: unit
    for unit, names in enumerate(
        (
            "years year yrs yr y",
            "months month mos mo",
            "weeks week wks wk w",
            "days day d",
            "hours hour hrs hr h",
            "minutes minute mins min m",
            "seconds second secs sec s",
            "milliseconds millisecond millis milli msecs msec ms",
            "microseconds microsecond micros micro usecs usec us \u00b5secs \u00b5sec \u00b5s",
            "nanoseconds nanosecond nanos nano nsecs nsec ns",
        )
    )
    for name in names.split()
}
NAME_LENGTHS: Final = tuple(sorted({len(name) for name in NAMES}, reverse=True))
DATE_LETTERS: Final = {"Y": YEAR, "M": MONTH, "W": WEEK, "D": DAY}
TIME_LETTERS: Final = {"H": HOUR, "M": MINUTE, "S": SECOND}

DIGITS: Final = frozenset("0123456789")
WHITESPACE: Final = frozenset(" \t\n\r\x0c")

EMPTY: Final = (
    '{} is not a valid duration in either the ISO 8601 format or Jiff\'s "friendly" format'
)
FRIENDLY: Final = 'failed to parse input in the "friendly" duration format: '
NO_DIGIT: Final = (
    "expected duration to start with a unit value (a decimal integer) after an optional sign, but "
    "no integer was found"
)
NO_UNIT: Final = (
    "expected to find unit designator suffix (e.g., `years` or `secs`) after parsing integer"
)
BAD_ORDER: Final = (
    "found value with unit {} after unit {}, but units must be written from largest to smallest "
    "(and they can't be repeated)"
)
BAD_CLOCK: Final = (
    "found `HH:MM:SS` after unit {}, but `HH:MM:SS` can only appear after years, months, weeks or "
    "days"
)
CLOCK_PART: Final = "when parsing the `HH:MM:SS` format, expected to parse {}"
TOO_BIG: Final = "number too big to parse into 64-bit integer"
NO_FRACTION: Final = (
    "found decimal after seconds component, but did not find any digits after decimal"
)
COMMA_SPACE: Final = "expected whitespace after comma, but found {}"
COMMA_END: Final = (
    "found comma at the end of duration, but a comma indicates at least one more unit follows"
)
LEFTOVER: Final = "parsed value '{}', but unparsed input {} remains (expected no unparsed input)"
NO_TIME_UNITS: Final = (
    "found a time designator (`T` or `t`) in an ISO 8601 duration string, but did not find any "
    "time units"
)
NEGATIVE: Final = "negative signed durations cannot be converted to an unsigned duration"
NO_LETTER: Final = "expected to find {} unit designator suffix ({}), but found {}"


class _DelayError(Exception):
    """The value is no duration; the message is the reason a client sees."""


def parse_delay_ms(text: str) -> int:
    """Milliseconds from now, truncated; not negative. RequestError for anything else."""
    try:
        return _parse(text) // 1_000_000
    except _DelayError as error:
        raise RequestError(IngressError.BAD_DELAY, str(error)) from None


def _parse(text: str) -> int:
    if text == "0":
        return 0
    if not text:
        raise _DelayError(EMPTY.format("an empty string"))
    is_negative = text[0] == "-"
    start = 1 if text[0] in "+-" else 0
    if start == len(text):
        raise _DelayError(EMPTY.format(f"found nothing after sign `{text}`, which"))
    if text[start] in "Pp":
        reader = _Reader(text, start + 1, is_negative=is_negative)
        _read_iso(reader)
    else:
        reader = _Reader(text, start, is_negative=is_negative)
        try:
            _read_friendly(reader)
        except _DelayError as error:
            raise _DelayError(FRIENDLY + str(error)) from None
    return reader.total_ns()


class _Reader:
    """The value read so far and the position behind it."""

    __slots__ = ("amounts", "is_negative", "last", "position", "text")

    def __init__(self, text: str, position: int, *, is_negative: bool) -> None:
        self.text = text
        self.position = position
        self.is_negative = is_negative
        self.amounts = [0] * len(UNITS)
        self.last: int | None = None  # unit of the last value

    @property
    def next(self) -> str:
        """The next character; '' at the end."""
        return self.text[self.position : self.position + 1]

    def integer(self) -> int | None:
        """Digits, as far as there are any."""
        start = self.position
        while self.next in DIGITS:
            self.position += 1
        if start == self.position:
            return None
        digits = self.text[start : self.position].lstrip("0")
        if len(digits) > len(str(INTEGER_MAX)) or int(digits or "0") > INTEGER_MAX:
            raise _DelayError(TOO_BIG)
        return int(digits or "0")

    def fraction(self) -> int | None:
        """Billionths behind a decimal separator; None when there is none."""
        if self.next not in (".", ","):
            return None
        start = self.position = self.position + 1
        while self.next in DIGITS and self.position - start < FRACTION_DIGITS_MAX:
            self.position += 1
        if start == self.position:
            raise _DelayError(NO_FRACTION)
        return int(self.text[start : self.position].ljust(FRACTION_DIGITS_MAX, "0"))

    def skip_whitespace(self) -> bool:
        """Whether there was any."""
        start = self.position
        while self.next in WHITESPACE:
            self.position += 1
        return self.position > start

    def put(self, unit: int, amount: int, billionths: int | None) -> None:
        """Take a value; a fraction is spread over the smaller units."""
        if self.last is not None and unit <= self.last:
            raise _DelayError(BAD_ORDER.format(UNITS[unit], UNITS[self.last]))
        self.last = unit
        self.amounts[unit] += amount
        if not billionths:
            return
        rest = NANOSECONDS[unit] * billionths // SECOND_NS
        for smaller in range(unit + 1, len(UNITS)):
            share, rest = divmod(rest, NANOSECONDS[smaller])
            self.amounts[smaller] += share

    def finish(self) -> None:
        """Refuse what was not read."""
        if self.position < len(self.text):
            rest = rust_quoted(self.text[self.position :])
            raise _DelayError(LEFTOVER.format(self.iso(), rest))

    def total_ns(self) -> int:
        """The sum; refuses calendar units and what lies in the past."""
        if self.amounts[YEAR] or self.amounts[MONTH]:
            raise _DelayError("please use units of days or smaller")
        total = sum(map(int.__mul__, self.amounts, NANOSECONDS))
        if self.is_negative and total:
            raise _DelayError(NEGATIVE)
        return total

    def iso(self) -> str:
        """The value as ISO 8601."""
        date = self._written(DATE_LETTERS)
        time = self._written({"H": HOUR, "M": MINUTE})
        nanoseconds = sum(map(int.__mul__, self.amounts[SECOND:], NANOSECONDS[SECOND:]))
        if nanoseconds or not (date or time):
            whole, rest = divmod(nanoseconds, SECOND_NS)
            time += f"{whole}" + f".{rest:09}".rstrip("0").rstrip(".") + "S"
        return ("-" if self.is_negative else "") + "P" + date + ("T" + time if time else "")

    def _written(self, letters: dict[str, int]) -> str:
        amounts = self.amounts
        return "".join(
            f"{amounts[unit]}{letter}" for letter, unit in letters.items() if amounts[unit]
        )


def _read_friendly(reader: _Reader) -> None:
    amount = reader.integer()
    if amount is None:
        raise _DelayError(NO_DIGIT)
    was_spaced = False
    while amount is not None:
        is_last = _friendly_value(reader, amount)
        has_comma = False
        if reader.next == ",":
            has_comma = True
            reader.position += 1
            if reader.next not in WHITESPACE:
                found = f"`{reader.next}`" if reader.next else "end of input"
                raise _DelayError(COMMA_SPACE.format(found))
        was_spaced = reader.skip_whitespace()
        amount = None if is_last else reader.integer()
        if has_comma and amount is None:
            raise _DelayError(COMMA_END)
    if was_spaced and reader.text.startswith("ago", reader.position):
        reader.position += 3
        reader.is_negative = not reader.is_negative
    reader.finish()


def _friendly_value(reader: _Reader, amount: int) -> bool:
    """Take one value and its unit, or a clock; whether nothing may follow it."""
    if reader.next == ":":
        _friendly_clock(reader, amount)
        return True
    billionths = reader.fraction()
    reader.skip_whitespace()
    unit = None
    for length in NAME_LENGTHS:
        unit = NAMES.get(reader.text[reader.position : reader.position + length])
        if unit is not None:
            reader.position += length
            break
    if unit is None:
        raise _DelayError(NO_UNIT)
    if billionths is not None and not HOUR <= unit < NANOSECOND:
        raise _DelayError(f"fractional {UNITS[unit]}s are not supported")
    reader.put(unit, amount, billionths)
    return billionths is not None


def _friendly_clock(reader: _Reader, hours: int) -> None:
    if reader.last is not None and reader.last >= HOUR:
        raise _DelayError(BAD_CLOCK.format(UNITS[reader.last]))
    reader.position += 1
    minutes = reader.integer()
    if minutes is None:
        raise _DelayError(CLOCK_PART.format("minute following hour"))
    if reader.next != ":":
        raise _DelayError(CLOCK_PART.format("`:` following minute"))
    reader.position += 1
    seconds = reader.integer()
    if seconds is None:
        raise _DelayError(CLOCK_PART.format("second following minute"))
    reader.put(HOUR, hours, None)
    reader.put(MINUTE, minutes, None)
    reader.put(SECOND, seconds, reader.fraction())


def _read_iso(reader: _Reader) -> None:
    while (amount := reader.integer()) is not None:
        reader.put(_letter(reader, "date", DATE_LETTERS), amount, None)
    if reader.next in ("T", "t"):
        reader.position += 1
        _read_iso_time(reader)
    elif reader.last is None:
        raise _DelayError("no parsed duration components")
    reader.finish()


def _read_iso_time(reader: _Reader) -> None:
    has_units = False
    while (amount := reader.integer()) is not None:
        has_units = True
        billionths = reader.fraction()
        reader.put(_letter(reader, "time", TIME_LETTERS), amount, billionths)
        if billionths is not None:
            return
    if not has_units:
        raise _DelayError(NO_TIME_UNITS)


def _letter(reader: _Reader, kind: str, letters: dict[str, int]) -> int:
    unit = letters.get(reader.next.upper())
    if unit is None:
        names = [f"`{letter}`" for letter in letters]
        listed = ", ".join(names[:-1]) + " or " + names[-1]
        found = f"`{reader.next}` instead" if reader.next else "end of input"
        raise _DelayError(NO_LETTER.format(kind, listed, found))
    reader.position += 1
    return unit
