"""The functions and casts that statements may use.

Lives here: `FUNCTIONS`, one row each: SQLite's or our name for it, types in, type out; other
spellings of the same; targets of CAST; types of lists.
Does not: functions with a form or a type of their own (sql_expressions.py, sql_times.py), what our
functions do (sql_functions.py).
"""

from typing import Final, Literal, NamedTuple

from restated.store.sql_tables import ARROW_NAMES, SqlType
from restated.store.sql_typing import NUMBERS, SqlError, unify

ARGUMENTS_MAX: Final = 100  # of one function


class Call(NamedTuple):
    """A function that clients may call: SQLite's or our name for it, types in, type out.

    `result` is a type, or `first` for that of the first argument, or `common` for what all
    arguments unify to, or `element` for that of the elements of a list, or `list` for the type of
    the first argument that is one, or `list_of` for a list of the first argument. The last of
    `arguments` stands for all that follow it.
    """

    name: str
    arguments: tuple[SqlType | None, ...]
    result: SqlType | Literal["first", "common", "element", "list", "list_of"]
    least: int = 1
    most: int = 1

    def wanted(self, position: int) -> SqlType | None:
        """The type that the argument at a position is wanted as; None for any."""
        return self.arguments[min(position, len(self.arguments) - 1)]


_T: Final = ("text",)
_ANY: Final = (None,)
FUNCTIONS: Final[dict[str, Call]] = {
    "lower": Call("lower_text", _T, "text"),
    "upper": Call("upper_text", _T, "text"),
    "length": Call("length", _T, "i32"),
    "octet_length": Call("octet_length", _T, "i32"),
    "substr": Call("substr_text", ("text", "i64"), "text", 2, 3),
    "left": Call("left_text", ("text", "i64"), "text", 2, 2),
    "right": Call("right_text", ("text", "i64"), "text", 2, 2),
    "initcap": Call("initcap", _T, "text"),
    "overlay": Call("overlay_text", ("text", "text", "i64"), "text", 3, 4),
    "translate": Call("translate_text", _T, "text", 3, 3),
    "ascii": Call("ascii_code", _T, "i32"),
    "chr": Call("chr", ("i64",), "text"),
    "levenshtein": Call("levenshtein", _T, "i32", 2, 2),
    "substr_index": Call("substr_index", ("text", "text", "i64"), "text", 3, 3),
    "find_in_set": Call("find_in_set", _T, "i32", 2, 2),
    "bit_length": Call("bit_length", _T, "i32"),
    "regexp_like": Call("regexp_like", _T, "bool", 2, 3),
    "regexp_match": Call("regexp_match", _T, "list_text", 2, 3),
    "regexp_replace": Call("regexp_replace", _T, "text", 3, 4),
    "regexp_count": Call("regexp_count", ("text", "text", "i64", "text"), "i64", 2, 4),
    "regexp_instr": Call("regexp_instr", ("text", "text", "i64", "i64", "text"), "i64", 2, 5),
    "btrim": Call("trim", _T, "text", 1, 2),
    "ltrim": Call("ltrim", _T, "text", 1, 2),
    "rtrim": Call("rtrim", _T, "text", 1, 2),
    "replace": Call("replace_text", _T, "text", 3, 3),
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
    "signum": Call("sign", ("f64",), "f64"),
    "ceil": Call("ceil", ("f64",), "f64"),
    "floor": Call("floor", ("f64",), "f64"),
    "trunc": Call("truncate_number", ("f64", "i64"), "f64", 1, 2),
    "round": Call("round_number", ("f64", "i64"), "f64", 1, 2),
    "sqrt": Call("sqrt", ("f64",), "f64"),
    "power": Call("pow", ("f64",), "f64", 2, 2),
    "exp": Call("exp", ("f64",), "f64"),
    "ln": Call("ln", ("f64",), "f64"),
    "log": Call("log", ("f64",), "f64", 1, 2),
    "log10": Call("log10", ("f64",), "f64"),
    "log2": Call("log2", ("f64",), "f64"),
    "cbrt": Call("cube_root", ("f64",), "f64"),
    "pi": Call("pi", (), "f64", 0, 0),
    **{
        name: Call(name, ("f64",), "f64")
        for name in (
            "degrees",
            "radians",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
            "atan",
            "sinh",
            "cosh",
            "tanh",
            "asinh",
            "acosh",
            "atanh",
        )
    },
    "cot": Call("cotangent", ("f64",), "f64"),
    "atan2": Call("atan2", ("f64",), "f64", 2, 2),
    "gcd": Call("gcd", ("i64",), "i64", 2, 2),
    "lcm": Call("lcm", ("i64",), "i64", 2, 2),
    "factorial": Call("factorial", ("i64",), "i64"),
    "md5": Call("md5", _ANY, "text"),
    "encode": Call("encode_bytes", (None, "text"), "text", 2, 2),
    "decode": Call("decode_bytes", ("text", "text"), "binary", 2, 2),
    "to_hex": Call("to_hex", ("i64",), "text"),
    **{name: Call(name, _ANY, "binary") for name in ("sha224", "sha256", "sha384", "sha512")},
    "digest": Call("digest_bytes", (None, "text"), "binary", 2, 2),
    "cardinality": Call("json_array_length", _ANY, "u64"),
    "array_length": Call("list_length", (None, "i64"), "u64", 1, 2),
    "array_element": Call("list_element", (None, "i64"), "element", 2, 2),
    "array_slice": Call("list_slice", (None, "i64"), "list", 3, 3),
    "array_has": Call("list_has", _ANY, "bool", 2, 2),
    "list_is_all": Call("list_is_all", _ANY, "bool", 2, 2),
    "array_has_all": Call("list_has_all", _ANY, "bool", 2, 2),
    "array_has_any": Call("list_has_any", _ANY, "bool", 2, 2),
    "array_position": Call("list_position", _ANY, "u64", 2, 2),
    "array_append": Call("list_append", _ANY, "list", 2, 2),
    "array_prepend": Call("list_prepend", _ANY, "list", 2, 2),
    "array_concat": Call("list_concat", _ANY, "list", 1, ARGUMENTS_MAX),
    "array_sort": Call("list_sort", (None, "text"), "list", 1, 3),
    "array_reverse": Call("list_reverse", _ANY, "list"),
    "array_distinct": Call("list_distinct", _ANY, "list"),
    "array_remove": Call("list_remove", _ANY, "list", 2, 2),
    "array_remove_all": Call("list_remove_all", _ANY, "list", 2, 2),
    "array_pop_back": Call("list_without_last", _ANY, "list"),
    "array_pop_front": Call("list_without_first", _ANY, "list"),
    "array_union": Call("list_union", _ANY, "list", 2, 2),
    "array_intersect": Call("list_intersect", _ANY, "list", 2, 2),
    "array_except": Call("list_except", _ANY, "list", 2, 2),
    "array_min": Call("list_min", _ANY, "element"),
    "array_max": Call("list_max", _ANY, "element"),
    "array_to_string": Call("list_join", (None, "text"), "text", 2, 3),
    "string_to_array": Call("list_split", _T, "list_text", 2, 3),
    "array_repeat": Call("list_repeat", (None, "i64"), "list_of", 2, 2),
    "empty": Call("list_is_empty", _ANY, "bool"),
    "generate_series": Call("series", ("i64",), "list_i64", 1, 3),
    "range": Call("series_before", ("i64",), "list_i64", 1, 3),
    "json_get": Call("json_get", _ANY, "text", 2, ARGUMENTS_MAX),
    "json_get_json": Call("json_get_json", _ANY, "text", 2, ARGUMENTS_MAX),
    "json_get_str": Call("json_get_str", _ANY, "text", 2, ARGUMENTS_MAX),
    "json_get_int": Call("json_get_int", _ANY, "i64", 2, ARGUMENTS_MAX),
    "json_get_float": Call("json_get_float", _ANY, "f64", 2, ARGUMENTS_MAX),
    "json_get_bool": Call("json_get_bool", _ANY, "bool", 2, ARGUMENTS_MAX),
    "json_get_array": Call("json_get_array", _ANY, "list_text", 2, ARGUMENTS_MAX),
    "json_as_text": Call("json_as_text", _ANY, "text", 2, ARGUMENTS_MAX),
    "json_contains": Call("json_contains", _ANY, "bool", 2, ARGUMENTS_MAX),
    "json_length": Call("json_length", _ANY, "u64", 1, ARGUMENTS_MAX),
    "json_object_keys": Call("json_object_keys", _ANY, "list_text", 1, ARGUMENTS_MAX),
    "make_date": Call("date_of", ("i64",), "date", 3, 3),
    "version": Call("server_version", (), "text", 0, 0),
    "row_number": Call("row_number", (), "u64", 0, 0),
    "rank": Call("rank", (), "u64", 0, 0),
    "dense_rank": Call("dense_rank", (), "u64", 0, 0),
    "percent_rank": Call("percent_rank", (), "f64", 0, 0),
    "cume_dist": Call("cume_dist", (), "f64", 0, 0),
    "nth_value": Call("nth_value", (None, "i64"), "first", 2, 2),
    "ntile": Call("ntile", ("i64",), "u64"),
    "lag": Call("lag", _ANY, "first", 1, 3),
    "lead": Call("lead", _ANY, "first", 1, 3),
    "first_value": Call("first_value", _ANY, "first"),
    "last_value": Call("last_value", _ANY, "first"),
    "min": Call("min", _ANY, "first"),
    "max": Call("max", _ANY, "first"),
    "avg": Call("avg", ("f64",), "f64"),
    "median": Call("median", ("f64",), "f64"),
    "string_agg": Call("group_concat", _T, "text", 2, 2),
    "bool_and": Call("min", ("bool",), "bool"),
    "bool_or": Call("max", ("bool",), "bool"),
    "bit_and": Call("and_of", ("i64",), "i64"),
    "bit_or": Call("or_of", ("i64",), "i64"),
    "bit_xor": Call("xor_of", ("i64",), "i64"),
    "stddev": Call("deviation_of", ("f64",), "f64"),
    "stddev_pop": Call("population_deviation_of", ("f64",), "f64"),
    "var": Call("variance_of", ("f64",), "f64"),
    "var_pop": Call("population_variance_of", ("f64",), "f64"),
    "corr": Call("correlation_of", ("f64",), "f64", 2, 2),
    "covar_samp": Call("covariance_of", ("f64",), "f64", 2, 2),
    "covar_pop": Call("population_covariance_of", ("f64",), "f64", 2, 2),
    "regr_slope": Call("slope_of", ("f64",), "f64", 2, 2),
    "regr_intercept": Call("intercept_of", ("f64",), "f64", 2, 2),
    "regr_count": Call("pair_count_of", ("f64",), "u64", 2, 2),
    "percentile_cont": Call("percentile_cont", ("f64",), "f64", 2, 2),
    "approx_percentile_cont": Call("percentile_of", ("f64",), "f64", 2, 2),
}
SPELLINGS: Final = {
    "char_length": "length", "character_length": "length", "trim": "btrim", "substring": "substr",
    "position": "strpos", "instr": "strpos", "ifnull": "nvl", "pow": "power", "mean": "avg",
    "substring_index": "substr_index", "array_extract": "array_element",
    "array_contains": "array_has", "array_join": "array_to_string", "array_cat": "array_concat",
    "array_push_back": "array_append", "array_push_front": "array_prepend",
    "array_indexof": "array_position", "array_empty": "empty", "string_to_list": "string_to_array",
    "stddev_samp": "stddev", "var_samp": "var", "var_sample": "var", "var_population": "var_pop",
    "covar": "covar_samp", "quantile_cont": "percentile_cont", "array_any": "array_has_any",
}  # fmt: skip


def known_as(name: str) -> str:
    """The name in `FUNCTIONS` of a function as clients spell it."""
    if name.startswith("list_") and name not in FUNCTIONS:
        name = f"array_{name.removeprefix('list_')}"
    return SPELLINGS.get(name, name)


CASTS: Final[dict[str, SqlType]] = {
    "VARCHAR": "text", "TEXT": "text", "CHAR": "text", "NVARCHAR": "text", "NCHAR": "text",
    "INT": "i32", "SMALLINT": "i32", "TINYINT": "i32", "BIGINT": "i64", "UBIGINT": "u64",
    "UINT": "u32", "DOUBLE": "f64", "FLOAT": "f64", "DECIMAL": "f64", "BOOLEAN": "bool",
    "TIMESTAMP": "timestamp_ns", "TIMESTAMPTZ": "timestamp_ns", "DATETIME": "timestamp_ns",
    "DATE": "date", "BINARY": "binary", "VARBINARY": "binary",
}  # fmt: skip
_NO_NUMBERS: Final[frozenset[SqlType]] = frozenset({"interval", "date"})
LISTS: Final[dict[SqlType, SqlType]] = {
    "text": "list_text", "u32": "list_u32", "i32": "list_i64", "i64": "list_i64",
    "u64": "list_i64", "f64": "list_f64", "bool": "list_bool",
}  # fmt: skip
ELEMENTS: Final[dict[SqlType, SqlType]] = {
    "list_text": "text", "list_u32": "u32", "list_i64": "i64", "list_f64": "f64",
    "list_bool": "bool",
}  # fmt: skip


def check_count(name: str, have: int, least: int, most: int) -> None:
    """SqlError when a function does not take so many arguments."""
    if not least <= have <= most:
        counted = str(least) if least == most else f"{least} to {most}"
        plural = "" if counted == "1" else "s"
        msg = f"Function '{name}' takes {counted} argument{plural}, not {have}"
        raise SqlError(f"Error during planning: {msg}")


def check_types(name: str, found: Call, types: list[SqlType]) -> None:
    """SqlError when an argument is of a type that never is what the function wants."""
    for position, have in enumerate(types):
        want = found.wanted(position)
        if want is not None and want in NUMBERS and (have in ELEMENTS or have in _NO_NUMBERS):
            msg = (
                f"Error during planning: Failed to coerce argument {position + 1} of function"
                f" '{name}' from {ARROW_NAMES[have]} to {ARROW_NAMES[want]}"
            )
            raise SqlError(msg)


def result_of(found: Call, types: list[SqlType]) -> SqlType:
    """The type of a call whose arguments have these types."""
    lists = [one for one in types if one in ELEMENTS]
    match found.result:
        case "first":
            return types[0]
        case "list":
            return lists[0] if lists else "list_text"
        case "list_of":
            return LISTS.get(types[0], "list_text")
        case "element":
            return ELEMENTS[lists[0]] if lists else "text"
        case "common":
            pass
        case _:
            return found.result
    common: SqlType = "null"
    for one in types:
        common = unify(common, one)
    return common
