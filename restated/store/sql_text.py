"""Functions of text that SQLite lacks, or that DataFusion means otherwise.

Lives here: `TEXT_FUNCTIONS`: parts of texts, padding, case of all of Unicode, digests, encodings.
Does not: regular expressions (sql_regular.py), JSON (sql_json.py), types (sql_calls.py).
"""

import base64
import hashlib
from typing import Any, Final

from restated.store.sql_calendar import SqlValueError, Value
from restated.store.sql_function import Function, check_length, unless_null

LEVENSHTEIN_CELLS_MAX: Final = 4_000_000  # about a second

_CLIPPED: Final = 1 << 31  # longer than any text: positions beyond mean the same


def _left(text: Value, count: int) -> str:
    return str(text)[:count]


def _right(text: Value, count: int) -> str:
    whole = str(text)
    if count < 0:
        return whole[-count:]
    return whole[max(len(whole) - count, 0) :]


def _substr(text: Value, start: int, length: int = _CLIPPED) -> str:
    """Positions count from 1; those before the text count too, but hold nothing."""
    if length < 0:
        msg = f"negative substring length not allowed: substr(<str>, {start}, {length})"
        raise SqlValueError(f"Execution error: {msg}")
    return str(text)[max(start - 1, 0) : max(start - 1 + length, 0)]


def _split_part(text: Value, separator: Value, position: int) -> str:
    if position == 0:
        raise SqlValueError("Execution error: field position must not be zero")
    parts = str(text).split(str(separator)) if separator else [str(text)]
    at = position - 1 if position > 0 else len(parts) + position
    return parts[at] if 0 <= at < len(parts) else ""


def _substr_index(text: Value, separator: Value, count: int) -> str:
    """What stands before separator number `count`; after it, counted from the end, if negative."""
    if not separator or count == 0:
        return ""
    parts = str(text).split(str(separator))
    return str(separator).join(parts[:count] if count > 0 else parts[count:])


def _find_in_set(text: Value, comma_separated: Value) -> int:
    parts = str(comma_separated).split(",")
    return parts.index(str(text)) + 1 if str(text) in parts else 0


def _repeat(text: Value, count: int) -> str:
    check_length(len(str(text)) * max(count, 0))
    return str(text) * count


def _lpad(text: Value, length: int, fill: Value = " ") -> str:
    return _padding(str(text), length, str(fill)) + str(text)[: max(length, 0)]


def _rpad(text: Value, length: int, fill: Value = " ") -> str:
    return str(text)[: max(length, 0)] + _padding(str(text), length, str(fill))


def _padding(text: str, length: int, fill: str) -> str:
    check_length(length)
    missing = length - len(text)
    if missing <= 0 or not fill:
        return ""
    return (fill * (missing // len(fill) + 1))[:missing]


def _replace(text: Value, old: Value, new: Value) -> str:
    whole, one, other = str(text), str(old), str(new)
    check_length(len(whole) + whole.count(one) * max(len(other) - len(one), 0))
    return whole.replace(one, other)


def _overlay(text: Value, part: Value, start: int, length: int | None = None) -> str:
    whole, new = str(text), str(part)
    count = len(new) if length is None else length
    check_length(len(whole) + len(new))
    return whole[: max(start - 1, 0)] + new + whole[max(start - 1 + count, 0) :]


def _translate(text: Value, old: Value, new: Value) -> str:
    table: dict[int, str] = {}
    for position, character in enumerate(str(old)):
        table.setdefault(ord(character), str(new)[position : position + 1])
    return str(text).translate(table)


def _initcap(text: Value) -> str:
    written: list[str] = []
    is_inside = False
    for character in str(text):
        written.append(character.lower() if is_inside else character.upper())
        is_inside = character.isalnum()
    return "".join(written)


def _chr(code: int) -> str:
    try:
        text = chr(code)
        text.encode()
    except (ValueError, OverflowError):
        raise SqlValueError("Execution error: invalid Unicode scalar value") from None
    return text


def _levenshtein(one: Value, other: Value) -> int:
    short, long = sorted((str(one), str(other)), key=len)
    if len(short) * len(long) > LEVENSHTEIN_CELLS_MAX:
        raise SqlValueError("Resources exhausted: levenshtein of texts that are too long")
    row = list(range(len(short) + 1))
    for number, character in enumerate(long, 1):
        above, row[0] = row[0], number
        for place, beside in enumerate(short, 1):
            cost = above + (character != beside)
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, cost)
    return row[-1]


# -- digests and encodings

_DIGESTS: Final = {
    "md5": "md5", "sha224": "sha224", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512",
    "blake2s": "blake2s", "blake2b": "blake2b",
}  # fmt: skip
_BAD_FORM: Final = "There is no built-in encoding named '{}', currently supported: base64, hex"


def _bytes(value: Value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _digest(value: Value, method: Value) -> bytes:
    name = _DIGESTS.get(str(method).lower())
    if name is None:
        msg = (
            f"Error during planning: There is no built-in digest algorithm named '{method!s}',"
            f" currently supported algorithms are: {', '.join(_DIGESTS)}"
        )
        raise SqlValueError(msg)
    return hashlib.new(name, _bytes(value), usedforsecurity=False).digest()


def _md5(value: Value) -> str:
    return _digest(value, "md5").hex()


def _encode(value: Value, form: Value) -> str:
    if form == "hex":
        return _bytes(value).hex()
    if form in {"base64", "base64pad"}:
        text = base64.b64encode(_bytes(value)).decode()
        return text if form == "base64pad" else text.rstrip("=")
    raise SqlValueError(_BAD_FORM.format(str(form)))


def _decode(text: Value, form: Value) -> bytes:
    if form not in {"hex", "base64", "base64pad"}:
        raise SqlValueError(_BAD_FORM.format(str(form)))
    try:
        if form == "hex":
            return bytes.fromhex(str(text))
        return base64.b64decode(str(text) + "=" * (-len(str(text)) % 4), validate=True)
    except ValueError:
        msg = f"Failed to decode value using {form!s}"
        raise SqlValueError(msg) from None


def _row(name: str, call: Any, arguments: int) -> Function:  # noqa: ANN401 - typed where defined
    return Function(name, unless_null(call), arguments)


TEXT_FUNCTIONS: Final[tuple[Function, ...]] = (
    _row("lower_text", lambda text: str(text).lower(), 1),
    _row("upper_text", lambda text: str(text).upper(), 1),
    _row("left_text", _left, 2),
    _row("right_text", _right, 2),
    _row("substr_text", _substr, -1),
    _row("split_part", _split_part, 3),
    _row("substr_index", _substr_index, 3),
    _row("find_in_set", _find_in_set, 2),
    _row("repeat_text", _repeat, 2),
    _row("lpad", _lpad, -1),
    _row("rpad", _rpad, -1),
    _row("replace_text", _replace, 3),
    _row("overlay_text", _overlay, -1),
    _row("translate_text", _translate, 3),
    _row("initcap", _initcap, 1),
    _row("reverse_text", lambda text: str(text)[::-1], 1),
    _row("ascii_code", lambda text: ord(str(text)[0]) if text else 0, 1),
    _row("chr", _chr, 1),
    _row("levenshtein", _levenshtein, 2),
    _row("bit_length", lambda text: 8 * len(_bytes(text)), 1),
    _row("starts_with", lambda text, start: int(str(text).startswith(str(start))), 2),
    _row("ends_with", lambda text, end: int(str(text).endswith(str(end))), 2),
    _row("contains_text", lambda text, part: int(str(part) in str(text)), 2),
    _row("digest_bytes", _digest, 2),
    _row("md5", _md5, 1),
    _row("sha224", lambda value: _digest(value, "sha224"), 1),
    _row("sha256", lambda value: _digest(value, "sha256"), 1),
    _row("sha384", lambda value: _digest(value, "sha384"), 1),
    _row("sha512", lambda value: _digest(value, "sha512"), 1),
    _row("encode_bytes", _encode, 2),
    _row("decode_bytes", _decode, 2),
    _row("to_hex", lambda value: f"{value & (1 << 64) - 1:x}", 1),
)
