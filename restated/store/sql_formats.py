"""Times as text in formats of the client: `to_char`, `to_date`, `to_timestamp` with a format.

Lives here: the letters of formats, which are strftime's with fractions of a second of their own.
Does not: the forms that need no format (sql_calendar.py).
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from restated.store.sql_calendar import SqlValueError, Value, parse_timestamp_ns

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LETTERS: Final = "aAbBcCdDeFGgHhIjklmMnpPrRsSStTuUVwWxXyYzZ"
_DIRECTIVE: Final = re.compile(r"%(?P<fraction>\.?[369]?f)|%(?P<other>:?.)", re.DOTALL)
FORMAT_CHARACTERS_MAX: Final = 1_000


def write_time_as(value: Value, form: Value) -> str | None:
    """A time of nanoseconds in a format; SqlValueError when it has letters that mean nothing."""
    if value is None or form is None:
        return None
    if len(str(form)) > FORMAT_CHARACTERS_MAX:
        raise SqlValueError("Execution error: the format of a time is too long")
    seconds, nanoseconds = divmod(int(value), 1_000_000_000)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise SqlValueError(f"timestamp out of range: {value!s} ns") from None

    def written(found: re.Match[str]) -> str:
        fraction, letter = found["fraction"], found["other"]
        if fraction is not None:
            return _fraction(fraction, f"{nanoseconds:09d}")
        if letter == "%":
            return "%"
        if letter not in _LETTERS:
            msg = f"Execution error: Error formatting time: unsupported '%{letter}'"
            raise SqlValueError(msg)
        return moment.strftime(f"%{letter}")

    return _DIRECTIVE.sub(written, str(form))


def _fraction(directive: str, digits: str) -> str:
    point = "." if directive.startswith(".") else ""
    places = directive.strip(".f")
    if places:
        return point + digits[: int(places)]
    if not point:
        return digits
    for shortest in (0, 3, 6, 9):
        if not digits[shortest:].strip("0"):
            break
    return f".{digits[:shortest]}" if shortest else ""


def read_time_as(text: Value, *forms: Value) -> int | None:
    """Nanoseconds since the epoch of a text in the first of the formats that it has."""
    if text is None:
        return None
    if not forms:
        return parse_timestamp_ns(str(text))
    for form in forms:
        wanted = re.sub(r"%\.?[369]?f", lambda m: ".%f" if "." in m[0] else "%f", str(form))
        wanted = wanted.replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S")
        try:
            moment = datetime.strptime(str(text), wanted)  # noqa: DTZ007 - a zone may be in it
        except (ValueError, re.error):
            continue
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
    msg = f"Execution error: Error parsing timestamp from '{text!s}' using format '{forms[-1]!s}'"
    raise SqlValueError(msg)
