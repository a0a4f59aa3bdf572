"""The tree as text and syntax, for the tests of this folder."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ("_pb2.py", "_pb2.pyi")


@cache
def files() -> tuple[Path, ...]:
    """Every file that is or would be in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return tuple(ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file())


def modules(room: str = "restated") -> tuple[Path, ...]:
    """Python files below a room that people wrote."""
    below = ROOT / room
    return tuple(
        path
        for path in files()
        if path.suffix == ".py" and below in path.parents and not path.name.endswith(GENERATED)
    )


@cache
def syntax(path: Path) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(path.read_text(), str(path))


def shown(path: Path) -> str:
    """A path as test output shows it."""
    return str(path.relative_to(ROOT))


def subclasses(parent: type) -> list[type]:
    """Our classes below `parent` that have no further subclass, by name; none of tests."""
    leaves: list[type] = []
    known: list[type] = parent.__subclasses__()
    children = [child for child in known if child.__module__.startswith("restated.")]
    for child in children:
        leaves.extend(subclasses(child) or [child])
    return sorted(leaves, key=lambda leaf: leaf.__name__)
