"""Where things stand in the text of a JSON body, for the errors that name them.

Lives here: line and column of a value, members that stand twice, nesting, what is no JSON.
Does not: reading bodies and answering (exchange.py), what bodies may contain (bodies.py).
Source: admin.md 1. Columns count characters from 1; that of a text that ends too early is its
length.
"""

import json
import re
from typing import Final, NamedTuple

SCANNED_CHARS_MAX: Final = 65_536
"""Longer texts are written by programs: nobody looks a column up in them, and it takes time."""

_TOKEN: Final = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+)', re.DOTALL)
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]")
_ONE_FURTHER: Final = frozenset({"trailing characters", "invalid escape character in string"})
"""What the decoder notices one character late."""


class Place(NamedTuple):
    """Line and column, from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line} column {self.column}"


class _Scanner:
    """Reads tokens; an empty one is the end, or what is no token."""

    __slots__ = ("at", "start", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0  # after the last token
        self.start = 0  # of the last token

    def token(self) -> str:
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            return ""
        self.start, self.at = found.span(1)
        return found[1]

    def skip_value(self) -> None:
        depth = 0
        while True:
            token = self.token()
            depth += (token in {"[", "{"}) - (token in {"]", "}"})
            if depth <= 0 or not token:
                return

    def enter_element(self, index: int) -> bool:
        if self.token() != "[":
            return False
        for _ in range(index):
            self.skip_value()
            if self.token() != ",":
                return False
        return True

    def enter_member(self, name: str) -> bool:
        if self.token() != "{":
            return False
        while _decoded(self.token()) != name:
            self.token()  # the colon
            self.skip_value()
            if self.token() != ",":
                return False
        return self.token() == ":"


def place_of(raw: bytes, path: str, *, at_end: bool = False) -> Place | None:
    """Where the value at `path`, such as `[0].limits`, stands; None if it is too far or unknown.

    That is the last character of a text or number, and of an object or list the first, or with
    `at_end` the last.
    """
    text = raw[:SCANNED_CHARS_MAX].decode(errors="replace")
    scanner = _Scanner(text)
    # `[...]` is a value of a map, whose name the decoder does not tell: its place is the map's.
    for name, index in _STEP.findall(path.partition("[...]")[0]):
        entered = scanner.enter_member(name) if name else scanner.enter_element(int(index))
        if not entered:
            return None
    before = scanner.at
    is_list = scanner.token() in {"[", "{"}
    if scanner.at == before:
        return None
    if is_list and at_end:
        scanner.at = before
        scanner.skip_value()
    return _place(text, scanner.at)


def repeated_member(raw: bytes) -> str | None:
    """Which member of the body stands in it twice, and where; None if none does.

    Looks at the body's own members, or at those of each element of a list: which of two values is
    meant nobody knows. Only for texts of up to SCANNED_CHARS_MAX that are JSON.
    """
    if len(raw) > SCANNED_CHARS_MAX:
        return None
    scanner = _Scanner(raw.decode())
    first = scanner.token()
    if first == "{":
        return _repeated_in_object(scanner, "")
    if first != "[":
        return None
    index = 0
    while scanner.at < len(scanner.text):
        before = scanner.at
        if scanner.token() == "{":
            found = _repeated_in_object(scanner, f"[{index}]: ")
            if found is not None:
                return found
        else:
            scanner.at = before
            scanner.skip_value()
        if scanner.token() != ",":
            return None
        index += 1
    return None


def _repeated_in_object(scanner: _Scanner, where: str) -> str | None:
    """Reads to the end of the object, or to the member that repeats another."""
    seen: set[str] = set()
    while (token := scanner.token()).startswith('"'):
        name = _decoded(token)
        if name in seen:
            return f"{where}duplicate field `{name}` at {_place(scanner.text, scanner.at)}"
        seen.add(name)
        scanner.token()  # the colon
        scanner.skip_value()
        if scanner.token() != ",":
            break
    return None


def syntax_reason(error: str, raw: bytes) -> str:
    """What the decoder says of a text that is no JSON, and where."""
    reason, _, rest = error.partition(" (byte ")
    reason = reason.removeprefix("JSON is malformed: ")
    digits = rest.rstrip(")")
    if not digits.isdecimal():
        return f"{reason} at {_place(raw, len(raw))}"
    offset = int(digits) - (reason in _ONE_FURTHER)
    return f"{reason} at {_place(raw, offset + 1)}"


def encoding_reason(error: UnicodeDecodeError, raw: bytes) -> str:
    """Where a text is no UTF-8."""
    return f"invalid unicode code point at {_place(raw, error.start + 1)}"


def _decoded(token: str) -> str:
    try:
        return str(json.loads(token, strict=False)) if token.startswith('"') else token
    except ValueError:
        return token


def _place(text: str | bytes, end: int) -> Place:
    """Of the character before `end`."""
    lines = text[:end].split("\n" if isinstance(text, str) else b"\n")  # type: ignore[arg-type]  # as text
    return Place(len(lines), len(lines[-1]))
