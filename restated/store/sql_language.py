"""The words of DataFusion's SQL, as far as sqlglot has to know them.

Lives here: `DataFusion`, a dialect of sqlglot: PostgreSQL's grammar, but a function is its name and
its arguments, as they are written.
Does not: which functions there are (sql_calls.py), what is refused (sql_statements.py).

sqlglot gives a function of PostgreSQL a meaning of its own, for translations: `to_date` gets other
format letters, `log10(x)` becomes `log(10, x)`, `left` a node of its own. DataFusion's functions
mean other things under the same names, so only forms with words between their arguments
(`substring(a from 2)`) and what counts rows are taken apart here. Deriving classes is how sqlglot
wants a dialect told.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokenizer_core import TokenType

_NODES = ("ARRAY_AGG", "COUNT", "DATE_BIN", "DATE_TRUNC", "SUM")
_FORMS = (
    "CAST", "DATE_PART", "EXTRACT", "OVERLAY", "POSITION", "STRING_AGG", "SUBSTRING", "TRIM",
    "TRY_CAST",
)  # fmt: skip
_JSON_OPERATORS = {TokenType.ARROW: "json_get", TokenType.DARROW: "json_as_text"}


def _json_call(name: str) -> Callable[[Any, Any, Any], exp.Expression]:
    """`text -> key`, as the function that it stands for."""

    def build(_parser: Any, text: Any, key: Any) -> exp.Expression:  # noqa: ANN401 - sqlglot's
        if isinstance(text, exp.Anonymous) and text.name == "json_get":
            return exp.Anonymous(this=name, expressions=[*text.expressions, key])
        return exp.Anonymous(this=name, expressions=[text, key])

    return build


class DataFusion(Postgres):
    """What `sqlglot.parse` reads statements as."""

    INDEX_OFFSET = 0  # positions in lists stay as they are written

    class Parser(PostgresParser):
        """The tables that a parser of sqlglot goes by."""

        FUNCTIONS: ClassVar = {name: PostgresParser.FUNCTIONS[name] for name in _NODES}
        FUNCTION_PARSERS: ClassVar = {
            name: PostgresParser.FUNCTION_PARSERS[name] for name in _FORMS
        }
        NO_PAREN_FUNCTION_PARSERS: ClassVar = {
            name: PostgresParser.NO_PAREN_FUNCTION_PARSERS[name] for name in ("ANY", "CASE")
        }
        COLUMN_OPERATORS: ClassVar = {
            **PostgresParser.COLUMN_OPERATORS,
            **{token: _json_call(name) for token, name in _JSON_OPERATORS.items()},
        }
