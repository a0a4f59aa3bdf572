"""Whatever a function is given, a client gets rows or hears what is wrong: never a 500."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from restated.store.query import QueryError
from restated.store.sql_calls import FUNCTIONS
from restated.store.sql_named import NAMED
from tests.store.querying import QueryWorld, run_queries

VALUES = (
    "1", "-1", "0", "1.5", "1e308", "9223372036854775807", "18446744073709551615", "'NaN'::double",
    "null", "true", "'a'", "''", "'(a'", "'[1,2]'", '\'{"a":[1]}\'', "'2020-01-01'", "'%Y-%m-%d'",
    "now()", "current_date", "timestamp '2020-01-01T00:00:00'", "interval '1 day'", "X'00ff'",
    "make_array(1,2)", "make_array('a',null)", "make_array(make_array(1))", "make_array()",
    "t.number", "t.text", "t.time",
)  # fmt: skip
ROW = "(SELECT 3 AS number, 'k' AS text, now() AS time) t"


def calls(seed: int) -> Iterator[str]:
    """Some calls of every function, with fitting numbers of arguments and others."""
    random = Random(seed)
    for name in (*FUNCTIONS, *NAMED):
        for count in range(4):
            given = ", ".join(random.choice(VALUES) for _ in range(count))
            yield f"{name}({given})"


@pytest.mark.parametrize("seed", range(3))
def test_every_function_takes_any_value(seed: int, tmp_path: Path) -> None:
    async def body(world: QueryWorld) -> None:
        answered, failed = 0, {}
        for call in calls(seed):
            try:
                await world.rows(f"SELECT {call} AS x FROM {ROW}")
                answered += 1
            except QueryError as error:
                if error.status != 400:
                    failed[call] = error.message
        assert failed == {}
        assert answered > 50

    run_queries(body, tmp_path)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "left('abc', make_array(1, 2))",
            "Error during planning: Failed to coerce argument 2 of function 'left'"
            " from List(Int64) to Int64",
        ),
        (
            "datetrunc((SELECT 1), now())",
            "This feature is not implemented: a unit of time that is not a literal",
        ),
        (
            "to_timestamp(X'00ff')",
            "Execution error: a function does not take such a value:"
            " unsupported operand type(s) for divmod(): 'bytes' and 'int'",
        ),
        ("sha256()", "Error during planning: Function 'sha256' takes 1 argument, not 0"),
    ],
)
def test_what_a_function_does_not_take_is_told(query: str, message: str, tmp_path: Path) -> None:
    async def body(world: QueryWorld) -> None:
        refusal = await world.refusal(f"SELECT {query} AS x")
        assert (refusal.status, refusal.message) == (400, message)

    run_queries(body, tmp_path)


def test_coalesce_of_one_value_is_that_value(tmp_path: Path) -> None:
    async def body(world: QueryWorld) -> None:
        assert await world.row("SELECT coalesce('a') AS x") == {"x": "a"}

    run_queries(body, tmp_path)
