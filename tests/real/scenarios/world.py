"""The services of the scenarios on a stage, and what they noted."""

from pathlib import Path

from tests.real.launched import Services
from tests.real.scenarios.notes import Notes
from tests.real.stage import Stage
from tests.real.waiting import eventually


def services(notes_path: Path, version: int = 1) -> Services:
    """The process of `services.py`."""
    return Services("tests.real.scenarios.services", str(notes_path), str(version))


class World(Stage):
    """A stage, and the notes of its services."""

    def __init__(self, directory: Path) -> None:
        self.notes = Notes(directory / "notes")
        super().__init__(directory, services(directory / "notes"))

    def until_noted(self, what: str, name: str) -> str:
        """The text of the first such note, once there is one."""
        return eventually(lambda: self.notes.of(what, name))[0].text
