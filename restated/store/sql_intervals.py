"""INTERVAL literals: how they are read and shown.

Lives here: `Interval`, its reading from SQL, its writing in answers.
Does not: arithmetic with times (sql_expressions.py).
"""

import re
from typing import Final, NamedTuple

from restated.store.sql_calendar import Value
from restated.store.sql_typing import SqlError

NS_A_SECOND: Final = 1_000_000_000
NS_A_DAY: Final = 86_400 * NS_A_SECOND

_UNITS: Final[dict[str, tuple[int, int, int]]] = {  # months, days, nanoseconds
    "millennium": (12_000, 0, 0), "century": (1_200, 0, 0), "decade": (120, 0, 0),
    "year": (12, 0, 0), "quarter": (3, 0, 0), "month": (1, 0, 0), "mon": (1, 0, 0),
    "week": (0, 7, 0), "day": (0, 1, 0), "hour": (0, 0, 3_600 * NS_A_SECOND),
    "minute": (0, 0, 60 * NS_A_SECOND), "min": (0, 0, 60 * NS_A_SECOND),
    "second": (0, 0, NS_A_SECOND), "sec": (0, 0, NS_A_SECOND),
    "millisecond": (0, 0, 1_000_000), "microsecond": (0, 0, 1_000), "nanosecond": (0, 0, 1),
}  # fmt: skip
_ABBREVIATED: Final = {"h": "hour", "m": "minute", "s": "second", "d": "day", "w": "week",
                       "ms": "millisecond", "us": "microsecond", "ns": "nanosecond"}  # fmt: skip
_PART: Final = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*([A-Za-z]*)")


class Interval(NamedTuple):
    """A length of time; months and days have no fixed number of nanoseconds."""

    months: int
    days: int
    nanoseconds: int

    @property
    def fixed_ns(self) -> int:
        """Days and nanoseconds together; a day has 24 hours, as times are UTC."""
        return self.days * NS_A_DAY + self.nanoseconds

    def encoded(self) -> str:
        """As a statement carries it: three numbers."""
        return f"{self.months} {self.days} {self.nanoseconds}"


def read_interval(text: str, unit: str) -> Interval:
    """`1 day 2 hours`, or a number with the unit written behind the literal."""
    months = days = nanoseconds = 0
    position = 0
    stripped = text.strip()
    while position < len(stripped):
        part = _PART.match(stripped, position)
        if part is None:
            msg = f"Arrow error: Parser error: Invalid input syntax for type interval: '{text}'"
            raise SqlError(msg)
        position = part.end()
        one = _unit(part[2] or unit or "second", text)
        amount = float(part[1]) if "." in part[1] else int(part[1])
        months += int(amount * one[0])
        whole = int(amount * one[1])
        days += whole
        nanoseconds += round((amount * one[1] - whole) * NS_A_DAY) + round(amount * one[2])
    return Interval(months, days, nanoseconds)


def _unit(word: str, text: str) -> tuple[int, int, int]:
    name = _ABBREVIATED.get(word, word.lower())
    found = _UNITS.get(name) or _UNITS.get(name.removesuffix("s"))
    if found is None:
        msg = f"Arrow error: Parser error: Invalid interval '{text}': unknown unit '{word}'"
        raise SqlError(msg)
    return found


def write_interval(encoded: str) -> str:
    """`1 mons 2 days 3 hours 30.500000000 secs`, as answers show an interval."""
    months, days, nanoseconds = (int(part) for part in encoded.split(" "))
    words = []
    if months:
        words.append(f"{months} mons")
    if days:
        words.append(f"{days} days")
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), NS_A_SECOND)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        words.append(f"{sign}{hours} hours")
    if minutes:
        words.append(f"{sign}{minutes} mins")
    if seconds or rest:
        words.append(f"{sign}{seconds}.{rest:09d} secs")
    return " ".join(words) or "0 secs"


def text_of_interval(encoded: Value) -> str | None:
    """An interval as text."""
    return None if encoded is None else write_interval(str(encoded))
