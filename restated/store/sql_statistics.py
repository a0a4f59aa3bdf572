"""Aggregates that SQLite lacks, row by row.

Lives here: `STATISTICS`: moments (deviation, variance, correlation, regression), percentiles,
bits, the first and the last of a group.
Does not: their types (sql_calls.py), ORDER BY, FILTER and OVER (sql_aggregates.py).

A percentile keeps all the values of its group; the memory of the process bounds them.
"""

import math
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from restated.store.sql_calendar import Value


class Gathering(Protocol):
    """One group on its way."""

    def step(self, *values: Any) -> None:  # noqa: ANN401 - of the types that sql_calls.py says
        """One row."""
        ...

    def final(self) -> Value:
        """The value of the group."""
        ...


class FirstOf:
    """The value of the first row of a group, NULL too."""

    __slots__ = ("_is_empty", "_value")

    def __init__(self) -> None:
        self._is_empty = True
        self._value: Value = None

    def step(self, *values: Value) -> None:
        """One row."""
        if self._is_empty:
            self._is_empty = False
            self._value = values[0]

    def final(self) -> Value:
        """NULL of no rows."""
        return self._value


class LastOf:
    """The value of the last row of a group, NULL too."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value: Value = None

    def step(self, *values: Value) -> None:
        """One row."""
        self._value = values[0]

    def final(self) -> Value:
        """NULL of no rows."""
        return self._value


class Moments:
    """Means and central moments of one number, or of a pair (y, x), kept as rows come.

    Updated by differences from the mean: sums of squares would lose all digits of times.
    """

    __slots__ = ("_answer", "count", "mean_x", "mean_y", "xx", "xy", "yy")

    def __init__(self, answer: Callable[["Moments"], float | None]) -> None:
        self._answer = answer
        self.count = 0
        self.mean_x = self.mean_y = self.xx = self.xy = self.yy = 0.0

    def step(self, *values: float | None) -> None:
        """One row; one with a NULL does not count."""
        y, x = values[0], values[-1]
        if y is None or x is None:
            return
        self.count += 1
        from_y, from_x = y - self.mean_y, x - self.mean_x
        self.mean_y += from_y / self.count
        self.mean_x += from_x / self.count
        self.yy += from_y * (y - self.mean_y)
        self.xx += from_x * (x - self.mean_x)
        self.xy += from_x * (y - self.mean_y)

    def final(self) -> float | None:
        """NULL of too few rows."""
        return self._answer(self)

    def over(self, sum_: float, less: int) -> float | None:
        """A sum divided by the number of rows, `less` of them; NULL of too few."""
        return sum_ / (self.count - less) if self.count > less else None


def _root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(max(value, 0.0))


def _correlation(m: Moments) -> float | None:
    spread = math.sqrt(m.xx * m.yy)
    return m.xy / spread if m.count > 1 and spread else None


def _slope(m: Moments) -> float | None:
    return m.xy / m.xx if m.count > 1 and m.xx else None


def _intercept(m: Moments) -> float | None:
    slope = _slope(m)
    return None if slope is None else m.mean_y - slope * m.mean_x


class Percentile:
    """A percentile as a t-digest finds it in which every value is kept for itself."""

    __slots__ = ("_fraction", "_values")

    def __init__(self) -> None:
        self._values = array("d")
        self._fraction = 0.5

    def step(self, *values: float | None) -> None:
        """One row: the value, and the fraction, the same in all rows."""
        if values[0] is not None:
            self._values.append(float(values[0]))
        if values[1] is not None:
            self._fraction = min(max(float(values[1]), 0.0), 1.0)

    def final(self) -> float | None:
        """NULL of no rows."""
        values = sorted(self._values)
        if len(values) < 2:
            return values[0] if values else None
        rank = self._fraction * len(values)
        at = min(int(rank), len(values) - 1)
        low, high = values[max(at - 1, 0)], values[min(at + 1, len(values) - 1)]
        width = 1 if at in {0, len(values) - 1} else 2
        found = values[at] + (rank - at - 0.5) * (high - low if width == 1 else (high - low) / 2)
        least = values[at] if at == 0 else low
        return min(max(found, least), values[at] if at == len(values) - 1 else high)


class Bits:
    """The bits of all rows together."""

    __slots__ = ("_join", "_value")

    def __init__(self, join: Callable[[int, int], int]) -> None:
        self._join = join
        self._value: int | None = None

    def step(self, *values: int | None) -> None:
        """One row; NULL does not count."""
        if values[0] is not None:
            one = values[0]
            self._value = one if self._value is None else self._join(self._value, one)

    def final(self) -> int | None:
        """NULL of no rows."""
        return self._value


class Aggregate(NamedTuple):
    """One registered aggregate."""

    name: str
    start: Callable[[], Gathering]
    arguments: int = 1


STATISTICS: Final[tuple[Aggregate, ...]] = (
    Aggregate("first_of", FirstOf),
    Aggregate("last_of", LastOf),
    Aggregate("variance_of", partial(Moments, lambda m: m.over(m.yy, 1))),
    Aggregate("population_variance_of", partial(Moments, lambda m: m.over(m.yy, 0))),
    Aggregate("deviation_of", partial(Moments, lambda m: _root(m.over(m.yy, 1)))),
    Aggregate("population_deviation_of", partial(Moments, lambda m: _root(m.over(m.yy, 0)))),
    Aggregate("correlation_of", partial(Moments, _correlation), 2),
    Aggregate("covariance_of", partial(Moments, lambda m: m.over(m.xy, 1)), 2),
    Aggregate("population_covariance_of", partial(Moments, lambda m: m.over(m.xy, 0)), 2),
    Aggregate("slope_of", partial(Moments, _slope), 2),
    Aggregate("intercept_of", partial(Moments, _intercept), 2),
    Aggregate("pair_count_of", partial(Moments, lambda m: m.count), 2),
    Aggregate("percentile_of", Percentile, 2),
    Aggregate("and_of", partial(Bits, int.__and__)),
    Aggregate("or_of", partial(Bits, int.__or__)),
    Aggregate("xor_of", partial(Bits, int.__xor__)),
)
