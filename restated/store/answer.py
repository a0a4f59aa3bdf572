"""Answers of `POST /query`: rows as JSON text or as an Arrow stream, piece by piece.

Lives here: `JsonAnswer`, `ArrowAnswer`, how a value of each type is written in each form.
Does not: which rows (query_child.py), types (sql_tables.py).

Forms [seen]: sql.md. In JSON a null member is left out; in Arrow every type has its own layout.
nanoarrow is imported with the first Arrow answer: most clients never ask for one.
"""

import io
from array import array
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final, Protocol

import msgspec

from restated.store.sql_calendar import (
    Value,
    write_duration_ns,
    write_timestamp_ms,
    write_timestamp_ns,
)
from restated.store.sql_intervals import write_interval
from restated.store.sql_tables import SqlColumn, SqlType

NS_A_MS: Final = 1_000_000
Row = Sequence[Value]


class Answer(Protocol):
    """Turns rows into the bytes of an answer. Each method may return nothing to send."""

    def begin(self) -> bytes:
        """What precedes the first row."""
        ...

    def rows(self, rows: list[Row]) -> bytes:
        """A run of rows; at least one."""
        ...

    def end(self) -> bytes:
        """What follows the last row."""
        ...


# -- JSON


def _raw(text: Any) -> msgspec.Raw:  # noqa: ANN401 - a column's value
    return msgspec.Raw(str(text).encode())


_JSON: Final[dict[SqlType, Callable[[Any], Any]]] = {
    "key": lambda digits: _raw(str(digits).lstrip("0") or "0"),
    "bool": bool,
    "binary": lambda value: value.hex() if isinstance(value, bytes) else str(value),
    "timestamp": write_timestamp_ms,
    "timestamp_ns": write_timestamp_ns,
    "duration": lambda value: write_duration_ns(value * NS_A_MS),
    "duration_ns": write_duration_ns,
    "interval": write_interval,
    "list_text": _raw,
    "list_u32": _raw,
    "list_i64": _raw,
    "list_f64": _raw,
    "list_bool": _raw,
    "f64": float,
    "text": lambda value: value.decode(errors="replace") if isinstance(value, bytes) else value,
}  # the others are written as they are


class JsonAnswer:
    """`{"rows":[{...},{...}]}`."""

    __slots__ = ("_columns", "_encoder", "_is_first")

    def __init__(self, columns: tuple[SqlColumn, ...]) -> None:
        self._columns = [(column.name, _JSON.get(column.type)) for column in columns]
        self._encoder = msgspec.json.Encoder()
        self._is_first = True

    def begin(self) -> bytes:
        """The opening."""
        return b'{"rows":['

    def rows(self, rows: list[Row]) -> bytes:
        """Objects without their null members, separated from those before."""
        columns = self._columns
        objects = [
            {
                name: value if write is None else write(value)
                for (name, write), value in zip(columns, row, strict=True)
                if value is not None
            }
            for row in rows
        ]
        text = self._encoder.encode(objects)[1:-1]
        if self._is_first:
            self._is_first = False
            return text
        return b"," + text

    def end(self) -> bytes:
        """The closing."""
        return b"]}"


# -- Arrow

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_ARROW: Final[dict[SqlType, Callable[[Any], Any]]] = {
    "key": int,
    "bool": bool,
    "f64": float,
    "text": lambda value: (
        value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    ),
    "binary": lambda value: value if isinstance(value, bytes) else str(value).encode(),
    "date": lambda value: date.fromisoformat(value).toordinal() - _EPOCH_DAY,
    "interval": write_interval,
    "list_text": msgspec.json.decode,
    "list_u32": msgspec.json.decode,
    "list_i64": msgspec.json.decode,
    "list_f64": msgspec.json.decode,
    "list_bool": msgspec.json.decode,
}


class ArrowAnswer:
    """An Arrow IPC stream: schema, one record batch for each run of rows, end marker."""

    __slots__ = ("_columns", "_is_open", "_schema", "_sink", "_writer")

    def __init__(self, columns: tuple[SqlColumn, ...]) -> None:
        import nanoarrow as na
        from nanoarrow import ipc

        self._columns = columns
        self._schema = na.struct(
            {column.name: _arrow_type(na, column) for column in columns}, nullable=False
        )
        self._sink = io.BytesIO()
        self._writer = ipc.StreamWriter.from_writable(self._sink)
        self._is_open = False

    def begin(self) -> bytes:
        """The schema comes with the first batch."""
        return b""

    def rows(self, rows: list[Row]) -> bytes:
        """One record batch."""
        self._write(rows)
        return self._drain()

    def end(self) -> bytes:
        """The end marker; an empty answer gets its schema and an empty batch first."""
        if not self._is_open:
            self._write([])
        self._writer.close()
        return self._drain()

    def _write(self, rows: list[Row]) -> None:
        import nanoarrow as na

        children = [
            _arrow_array(na, column, [row[position] for row in rows])
            for position, column in enumerate(self._columns)
        ]
        batch = na.c_array_from_buffers(self._schema, len(rows), [None], children=children)
        self._writer.write_array(batch)
        self._is_open = True

    def _drain(self) -> bytes:
        content = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return content


def _arrow_array(na: Any, column: SqlColumn, values: list[Value]) -> Any:  # noqa: ANN401 - untyped
    """One column of a batch."""
    write = _ARROW.get(column.type)
    written: list[Any] = values
    if write is not None:
        written = [None if value is None else write(value) for value in values]
    element = _ARROW_LISTS.get(column.type)
    if column.type == "null":
        return na.c_array_from_buffers(na.null(), len(written), [], null_count=len(written))
    if element is None:
        return na.c_array(written, _arrow_type(na, column))
    offsets = array("i", [0])
    elements: list[Any] = []
    present = bytearray((len(written) + 7) // 8)
    for position, value in enumerate(written):
        if isinstance(value, list):
            elements += value
            present[position // 8] |= 1 << position % 8
        offsets.append(len(elements))
    return na.c_array_from_buffers(
        _arrow_type(na, column), len(written), [bytes(present), offsets],
        children=[na.c_array(elements, getattr(na, element)())],
    )  # fmt: skip


def _arrow_type(na: Any, column: SqlColumn) -> Any:  # noqa: ANN401 - nanoarrow has no types
    nullable = column.is_nullable
    element = _ARROW_LISTS.get(column.type)
    if element is not None:
        return na.list_(getattr(na, element)(), nullable=nullable)
    time = _ARROW_TIMES.get(column.type)
    if time is not None:
        return getattr(na, time[0])(*time[1:], nullable=nullable)
    return getattr(na, _ARROW_PLAIN[column.type])(nullable=nullable)


_ARROW_LISTS: Final[dict[SqlType, str]] = {
    "list_text": "large_string", "list_u32": "uint32", "list_i64": "int64", "list_f64": "float64",
    "list_bool": "bool_",
}  # fmt: skip
_ARROW_TIMES: Final[dict[SqlType, tuple[str, ...]]] = {
    "timestamp": ("timestamp", "ms", "+00:00"), "timestamp_ns": ("timestamp", "ns"),
    "duration": ("duration", "ms"), "duration_ns": ("duration", "ns"),
}  # fmt: skip
_ARROW_PLAIN: Final[dict[SqlType, str]] = {
    "text": "large_string", "key": "uint64", "u64": "uint64", "u32": "uint32", "i64": "int64",
    "i32": "int32", "f64": "float64", "bool": "bool_", "binary": "large_binary",
    "interval": "large_string", "date": "date32", "null": "null",
}  # fmt: skip
