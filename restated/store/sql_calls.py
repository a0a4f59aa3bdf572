"""The functions and casts that statements may use.

Lives here: `FUNCTIONS`, one row each: SQLite's or our name for it, types in, type out; other
spellings of the same; targets of CAST; types of lists.
Does not: functions with a form or a type of their own (sql_expressions.py, sql_times.py), what our
functions do (sql_functions.py).
"""

from typing import Final, Literal, NamedTuple

from restated.store.sql_tables import SqlType

ARGUMENTS_MAX: Final = 100  # of one function


class Call(NamedTuple):
    """A function that clients may call: SQLite's or our name for it, types in, type out.

    `result` is a type, or `first` for that of the first argument, or `common` for what all
    arguments unify to. The last of `arguments` stands for all that follow it.
    """

    name: str
    arguments: tuple[SqlType | None, ...]
    result: SqlType | Literal["first", "common"]
    least: int = 1
    most: int = 1


_T: Final = ("text",)
_ANY: Final = (None,)
FUNCTIONS: Final[dict[str, Call]] = {
    "lower": Call("lower", _T, "text"),
    "upper": Call("upper", _T, "text"),
    "length": Call("length", _T, "i32"),
    "octet_length": Call("octet_length", _T, "i32"),
    "substr": Call("substr", ("text", "i64"), "text", 2, 3),
    "btrim": Call("trim", _T, "text", 1, 2),
    "ltrim": Call("ltrim", _T, "text", 1, 2),
    "rtrim": Call("rtrim", _T, "text", 1, 2),
    "replace": Call("replace", _T, "text", 3, 3),
    "split_part": Call("split_part", ("text", "text", "i64"), "text", 3, 3),
    "strpos": Call("instr", _T, "i32", 2, 2),
    "concat": Call("concat", _T, "text", 1, ARGUMENTS_MAX),
    "concat_ws": Call("concat_ws", _T, "text", 2, ARGUMENTS_MAX),
    "starts_with": Call("starts_with", _T, "bool", 2, 2),
    "ends_with": Call("ends_with", _T, "bool", 2, 2),
    "contains": Call("contains_text", _T, "bool", 2, 2),
    "reverse": Call("reverse_text", _T, "text"),
    "repeat": Call("repeat_text", ("text", "i64"), "text", 2, 2),
    "lpad": Call("lpad", ("text", "i64", "text"), "text", 2, 3),
    "rpad": Call("rpad", ("text", "i64", "text"), "text", 2, 3),
    "coalesce": Call("coalesce", _ANY, "common", 1, ARGUMENTS_MAX),
    "nvl": Call("ifnull", _ANY, "common", 2, 2),
    "nullif": Call("nullif", _ANY, "first", 2, 2),
    "greatest": Call("largest", _ANY, "common", 1, ARGUMENTS_MAX),
    "least": Call("smallest", _ANY, "common", 1, ARGUMENTS_MAX),
    "abs": Call("abs", _ANY, "first"),
    "sign": Call("sign", _ANY, "first"),
    "ceil": Call("ceil", ("f64",), "f64"),
    "floor": Call("floor", ("f64",), "f64"),
    "trunc": Call("trunc", ("f64",), "f64"),
    "round": Call("round", ("f64", "i64"), "f64", 1, 2),
    "sqrt": Call("sqrt", ("f64",), "f64"),
    "power": Call("pow", ("f64",), "f64", 2, 2),
    "exp": Call("exp", ("f64",), "f64"),
    "ln": Call("ln", ("f64",), "f64"),
    "log10": Call("log10", ("f64",), "f64"),
    "log2": Call("log2", ("f64",), "f64"),
    "md5": Call("md5", _ANY, "text"),
    "encode": Call("encode_bytes", (None, "text"), "text", 2, 2),
    "decode": Call("decode_bytes", ("text", "text"), "binary", 2, 2),
    "to_hex": Call("to_hex", ("i64",), "text"),
    "sha256": Call("sha256", _ANY, "binary"),
    "cardinality": Call("json_array_length", _ANY, "u64"),
    "array_length": Call("json_array_length", _ANY, "u64"),
    "version": Call("server_version", (), "text", 0, 0),
    "row_number": Call("row_number", (), "u64", 0, 0),
    "rank": Call("rank", (), "u64", 0, 0),
    "dense_rank": Call("dense_rank", (), "u64", 0, 0),
    "ntile": Call("ntile", ("i64",), "u64"),
    "lag": Call("lag", _ANY, "first", 1, 3),
    "lead": Call("lead", _ANY, "first", 1, 3),
    "first_value": Call("first_value", _ANY, "first"),
    "last_value": Call("last_value", _ANY, "first"),
    "min": Call("min", _ANY, "first"),
    "max": Call("max", _ANY, "first"),
    "avg": Call("avg", ("f64",), "f64"),
    "median": Call("median", ("f64",), "f64"),
    "string_agg": Call("group_concat", _T, "text", 1, 2),
}
SPELLINGS: Final = {
    "char_length": "length", "character_length": "length", "len": "length", "trim": "btrim",
    "substring": "substr", "position": "strpos", "instr": "strpos", "ifnull": "nvl",
    "pow": "power", "ceiling": "ceil", "group_concat": "string_agg", "str_position": "strpos",
    "mean": "avg", "first": "first_value", "last": "last_value", "m_d5": "md5",
    "array_size": "cardinality", "hex": "to_hex", "lower_hex": "to_hex",
    "current_version": "version",
}  # fmt: skip

CASTS: Final[dict[str, SqlType]] = {
    "VARCHAR": "text", "TEXT": "text", "CHAR": "text", "NVARCHAR": "text", "NCHAR": "text",
    "INT": "i32", "SMALLINT": "i32", "TINYINT": "i32", "BIGINT": "i64", "UBIGINT": "u64",
    "UINT": "u32", "DOUBLE": "f64", "FLOAT": "f64", "DECIMAL": "f64", "BOOLEAN": "bool",
    "TIMESTAMP": "timestamp_ns", "TIMESTAMPTZ": "timestamp_ns", "DATETIME": "timestamp_ns",
    "DATE": "date", "BINARY": "binary", "VARBINARY": "binary",
}  # fmt: skip
LISTS: Final[dict[SqlType, SqlType]] = {
    "text": "list_text", "u32": "list_u32", "i32": "list_i64", "i64": "list_i64",
    "u64": "list_i64", "f64": "list_f64",
}  # fmt: skip
