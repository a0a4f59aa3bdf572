"""What handlers did, told outside of every journal: a file that outlives their process.

Lives here: appending and reading notes.
Does not: which handler notes what (services.py).
"""

import json
import time
from pathlib import Path
from typing import NamedTuple


class Note(NamedTuple):
    """One thing a handler did: `what`, for the test case `name`, when (seconds since 1970)."""

    what: str
    name: str
    text: str
    at_s: float


class Notes:
    """A file of notes, appended to by one process and read by another."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, what: str, name: str, text: str = "") -> None:
        """Append; one write of one line, so that readers see whole lines."""
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps((what, name, text, time.time())).encode() + b"\n")

    def of(self, what: str, name: str) -> list[Note]:
        """The notes of this kind for this test case, oldest first."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().splitlines()
        notes = [Note(*json.loads(line)) for line in lines]
        return [note for note in notes if (note.what, note.name) == (what, name)]
