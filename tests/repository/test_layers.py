"""Rooms import downwards only; the pure ones import nothing that acts."""

import subprocess
import sys
from pathlib import Path

from tests.repository.tree import ROOT


def test_the_import_contracts_hold() -> None:
    """style.md 1: the contracts stand in pyproject.toml."""
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
