"""Running the official CLI.

Lives here: `Cli`. Does not: where the program is (installed.py), what it must print (sessions.py).
"""

import shlex
import subprocess
from pathlib import Path
from typing import Final

from tests.daemon.running import clean_environment
from tests.real.official.sessions import Session

COMMAND_S: Final = 60


class Cli:
    """The official CLI at a daemon, with a home of its own."""

    def __init__(self, binary: Path, admin: str, home: Path) -> None:
        self._binary = binary
        self._home = home
        self._environment = clean_environment() | {
            "HOME": str(home), "RESTATE_ADMIN_URL": admin, "DO_NOT_TRACK": "1", "NO_COLOR": "1",
        }  # fmt: skip

    def run(self, command: str, **variables: str) -> Session:
        """Run a command line."""
        done = subprocess.run(
            [str(self._binary), *shlex.split(command)],
            env=self._environment | variables,
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        return Session(command, done.returncode, done.stdout, done.stderr)

    def out(self, command: str, **variables: str) -> str:
        """What a command that succeeds prints."""
        done = self.run(command, **variables)
        assert done.exit == 0, done.stdout + done.stderr
        return done.stdout
