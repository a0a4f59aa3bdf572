"""Where the official CLI is: named by `RESTATE_CLI`, or installed by npm once for a test run."""

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import pytest

VERSION: Final = "1.7.12"
INSTALL_S: Final = 300


@cache
def _installed() -> Path | str:
    """The program, or why there is none."""
    npm = shutil.which("npm")
    if npm is None:
        return "RESTATE_CLI is not set, there is no npm"
    directory = Path(tempfile.gettempdir()) / f"restate-cli-{VERSION}-{os.getuid()}"
    package = f"@restatedev/restate@{VERSION}"
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(directory), package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    found = sorted(directory.glob("node_modules/@restatedev/restate-*/bin/restate"))
    return found[0] if found else f"npm does not install {package}: {done.stderr[-300:]}"


def official_cli() -> Path:
    """The program; the test is skipped, with the reason, when there is none."""
    named = os.environ.get("RESTATE_CLI")
    found = Path(named) if named else _installed()
    if isinstance(found, str):
        pytest.skip(f"no official CLI: {found}")
    return found
