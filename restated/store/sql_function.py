"""What a function of a query connection is, and what holds for all of them.

Lives here: `Function`; NULL in, NULL out; the bound of what a function may make.
Does not: the functions (sql_functions.py lists the tables of all families).
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from restated.store.sql_calendar import SqlValueError, Value

TEXT_CHARACTERS_MAX: Final = 16 * 1024 * 1024  # what one call may make
ELEMENTS_MAX: Final = 1_000_000  # of a list that one call may make


class Function(NamedTuple):
    """One registered function."""

    name: str
    call: Callable[..., Value]
    arguments: int  # -1: any number


def unless_null(call: Callable[..., Value]) -> Callable[..., Value]:
    """The function that is NULL when one of its arguments is."""

    def answer(*values: Any) -> Value:  # noqa: ANN401 - whatever SQLite holds
        return None if None in values else call(*values)

    return answer


def check_length(characters: int) -> None:
    """SqlValueError when a text of this length must not be made."""
    if characters > TEXT_CHARACTERS_MAX:
        msg = f"a text of {characters} characters; {TEXT_CHARACTERS_MAX} at most"
        raise SqlValueError(f"Resources exhausted: {msg}")


def check_elements(count: int) -> None:
    """SqlValueError when a list of this length must not be made."""
    if count > ELEMENTS_MAX:
        msg = f"Resources exhausted: a list of {count} elements; {ELEMENTS_MAX} at most"
        raise SqlValueError(msg)
