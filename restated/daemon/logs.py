"""Log lines: one line an event, key=value or JSON, on standard error.

Lives here: formats, levels from a filter text, the limit on repeats.
Does not: what is logged (every room).
Z6: a line is one line; control characters in it are escaped. Under systemd a line starts with its
priority (`<4>`) and carries no time, the journal has both.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

LEVELS: Final[dict[str, int]] = {
    "trace": logging.DEBUG, "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING,
    "warning": logging.WARNING, "error": logging.ERROR, "off": logging.CRITICAL + 10,
}  # fmt: skip
WORDS: Final[dict[int, str]] = {
    logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn",
    logging.ERROR: "error", logging.CRITICAL: "error",
}  # fmt: skip
PRIORITIES: Final[dict[str, int]] = {"debug": 7, "info": 6, "warn": 4, "error": 3}

REPEATS_MAX: Final = 20  # lines from one place in the code ...
REPEATS_S: Final = 10.0  # ... in this time (M8)
PLACES_MAX: Final = 1_024
OUR_ROOT: Final = "restated"


class BadFilterError(ValueError):
    """A filter text names a level that there is not."""


def parse_filter(text: str) -> tuple[int, dict[str, int]]:
    """Level of everything, and levels of single loggers, of `warn,restated.invoker=debug`.

    `restate=info`, as the reference's filters have it, means all our rooms; other targets of the
    reference have no room here and are skipped. BadFilterError.
    """
    everything = LEVELS["info"]
    single: dict[str, int] = {}
    for directive in filter(None, (part.strip() for part in text.split(","))):
        target, equals, word = directive.rpartition("=")
        level = LEVELS.get(word.strip().lower())
        if level is None:
            raise BadFilterError(word)
        target = target.strip()
        if not equals:
            everything = level
        elif target == "restate":
            single[OUR_ROOT] = level
        elif target == OUR_ROOT or target.startswith(f"{OUR_ROOT}."):
            single[target] = level
    return everything, single


class _Lines(logging.Formatter):
    """Record -> fields -> one line."""

    def __init__(self, *, as_json: bool, in_journal: bool) -> None:
        super().__init__()
        self._as_json = as_json
        self._in_journal = in_journal

    def format(self, record: logging.LogRecord) -> str:
        """One line without its newline."""
        level = WORDS.get(record.levelno, "info")
        fields: dict[str, str] = {}
        if not self._in_journal:
            seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            fields["time"] = f"{seconds}.{int(record.msecs):03}Z"
        fields["level"] = level
        fields["logger"] = record.name
        fields["message"] = record.getMessage()
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        line = json.dumps(fields) if self._as_json else _pairs(fields)
        return f"<{PRIORITIES[level]}>{line}" if self._in_journal else line


def _pairs(fields: Mapping[str, str]) -> str:
    return " ".join(
        f"{name}={value if value.isascii() and _is_plain(value) else json.dumps(value)}"
        for name, value in fields.items()
    )


def _is_plain(value: str) -> bool:
    return bool(value) and value.isprintable() and not (set(' "=\\') & set(value))


class _Repeats(logging.Filter):
    """Lets a place in the code speak so often, then counts; the count goes with its next line."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[tuple[str, int], tuple[float, int]] = {}  # since when, how often

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is let through."""
        place = (record.pathname, record.lineno)
        since, count = self._places.get(place, (record.created, 0))
        if not 0 <= record.created - since < REPEATS_S:
            if count > REPEATS_MAX:
                record.msg = f"{record.msg} suppressed_before={count - REPEATS_MAX}"
            since, count = record.created, 0
        if len(self._places) >= PLACES_MAX:
            self._places.clear()
        self._places[place] = (since, count + 1)
        return count < REPEATS_MAX


def set_up(filter_text: str, log_format: str, stream: TextIO = sys.stderr) -> None:
    """Replace all handlers of the root logger. BadFilterError."""
    everything, single = parse_filter(filter_text)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines(as_json=log_format == "json", in_journal=_is_journal(stream)))
    handler.addFilter(_Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries below us talk about bytes: only their warnings are ours to tell.
    root.setLevel(max(everything, logging.WARNING))
    logging.getLogger(OUR_ROOT).setLevel(everything)
    for name, level in single.items():
        logging.getLogger(name).setLevel(level)


def _is_journal(stream: TextIO) -> bool:
    """Whether the stream is the one that systemd connected to its journal."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
