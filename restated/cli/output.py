"""What commands print.

Lives here: tables, headed sections, JSON, times as people read them, protection of the terminal.
Does not: what is printed (commands.py).
Texts come from services and their callers: control characters in them are shown, never sent to
the terminal.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDTH_UNKNOWN: Final = 10_000  # not a terminal: a line is a row, however long
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_STYLES: Final = {
    "running": "green", "ready": "green", "pending": "yellow", "scheduled": "blue",
    "suspended": "cyan", "backing-off": "red", "paused": "magenta", "completed": "dim",
    "public": "green", "private": "yellow", "Active": "green", "Draining": "yellow",
    "Drained": "dim",
}  # fmt: skip


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 0
) -> None:
    """Rows under headings; cells with several lines stay aligned."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    _print(table, indent)


def print_section(title: str, members: Iterable[tuple[str, object]] = ()) -> None:
    """A heading with names and values below it; values that are None or '' are left out."""
    print_line()
    print_line(title, style="bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in members:
        if value is not None and value != "":
            table.add_row(f"{name}:", _cell(value))
    if table.row_count:
        _print(table, 2)


def print_line(text: str = "", *, style: str = "") -> None:
    """One line on standard output."""
    _write(Text(shown(text), style=style), soft_wrap=True)


def print_note(text: str) -> None:
    """One line for the person, not for the program that reads the output."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(shown(text), style="dim"))


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def counted(count: int, noun: str) -> str:
    """`1 invocation`, `2 invocations`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shown(text: str) -> str:
    """`text` without anything that would move the cursor or change the terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def moment(text: object) -> str:
    """A timestamp of the API as people read it: UTC to the millisecond."""
    if not isinstance(text, str) or not text:
        return ""
    return text.replace("T", " ")[:23].removesuffix("Z")


def ago(text: object, now: datetime) -> str:
    """How long a timestamp of the API is past or ahead: `3m 20s ago`, `in 5s`."""
    if not isinstance(text, str) or not text:
        return ""
    # Python reads up to six fraction digits, the API may write nine.
    at = datetime.fromisoformat(text[:23].rstrip("Z")).replace(tzinfo=UTC)
    seconds = (now - at).total_seconds()
    return f"{_length(seconds)} ago" if seconds >= 0 else f"in {_length(-seconds)}"


def _length(seconds: float) -> str:
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    parts = []
    rest = int(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _cell(value: object) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    text = value if isinstance(value, str) else str(value)
    return Text(shown(text), style=_STYLES.get(text, ""))


def _print(table: Table, indent: int) -> None:
    _write(Padding(table, (0, 0, 0, indent), expand=False) if indent else table)


def _write(what: RenderableType, *, soft_wrap: bool = False) -> None:
    width = None if sys.stdout.isatty() else WIDTH_UNKNOWN
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    # Printed by ourselves: rich would end the process when the reader has gone.
    with console.capture() as captured:
        console.print(what, soft_wrap=soft_wrap)
    sys.stdout.write(captured.get())
