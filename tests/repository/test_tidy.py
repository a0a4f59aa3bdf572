"""What a reviewer would otherwise have to count: lengths, docstrings, words, paths."""

import ast
import re
from pathlib import Path

import pytest

from tests.repository.tree import ROOT, files, modules, shown, syntax

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
COLUMNS_MAX = 100
# Not counted: a pragma behind the code, as the linter has it; a name of the standard library.
PRAGMA = re.compile(r"\s*# (?:type: ignore|noqa).*|\bemail\.utils\b")
BANNED = re.compile(
    r"\b(?:utils?|managers?|misc|helpers?|TODO|FIXME|XXX|HACK|breakpoint|pdb)\b", re.IGNORECASE
)
ABSOLUTE = re.compile(r"(?:/home/|/root/|/Users/|/work/)[\w.-]+")
TEXT = {
    ".py", ".md", ".toml", ".proto", ".sql", ".1", ".5", ".7", ".8", ".service", ".socket", ".conf",
}  # fmt: skip
PURE = ("model", "protocol", "core")
ENTRY_POINTS = {"restated/__main__.py", "restated/cli/main.py"}

OURS = modules()
NAMES = [shown(path) for path in OURS]


@pytest.mark.parametrize("path", [*OURS, *modules("tests")], ids=shown)
def test_a_file_is_one_topic(path: Path) -> None:
    """style.md 1.7: too long means two topics."""
    lines = path.read_text().splitlines()
    assert len(lines) <= FILE_LINES_MAX
    assert [
        number for number, line in enumerate(lines, 1) if len(PRAGMA.sub("", line)) > COLUMNS_MAX
    ] == []


@pytest.mark.parametrize("path", OURS, ids=NAMES)
def test_a_function_fits_a_screen(path: Path) -> None:
    """style.md 1.7."""
    long = [
        node.name
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


@pytest.mark.parametrize("path", OURS, ids=NAMES)
def test_a_module_says_what_lives_there_and_what_does_not(path: Path) -> None:
    """style.md 3; `__main__.py` is one line."""
    docstring = ast.get_docstring(syntax(path)) or ""
    root = path.parent == ROOT / "restated" and path.name in {"__init__.py", "__main__.py"}
    assert docstring
    assert root or ("Lives here:" in docstring and "Does not:" in docstring)


def test_every_folder_of_modules_is_a_package() -> None:
    """A folder without `__init__.py` has no docstring to say what it is."""
    folders = sorted({path.parent for path in OURS})
    assert [shown(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", OURS, ids=NAMES)
def test_no_banned_word_in_names_or_comments(path: Path) -> None:
    """style.md 2: these words say nothing."""
    found = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if BANNED.search(PRAGMA.sub("", line))
    ]
    assert found == []


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    """Nobody else has these paths."""
    found = [
        f"{shown(path)}: {match.group()}"
        for path in files()
        if path.suffix in TEXT or path.name in {"Makefile", "run"}
        for match in ABSOLUTE.finditer(path.read_text())
        if path != Path(__file__).resolve()
    ]
    assert found == []


def test_no_module_is_dead() -> None:
    """A module nobody imports is read by nobody."""
    imported: set[str] = set()
    for path in OURS:
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                imported.add(node.module)
                imported.update(f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
    dead = [
        name
        for path, name in zip(OURS, NAMES, strict=True)
        if path.name != "__init__.py"
        and name not in ENTRY_POINTS
        and name.removesuffix(".py").replace("/", ".") not in imported
        and f'"{name.removesuffix(".py").replace("/", ".")}"' not in _all_text()
    ]
    assert dead == []


def _all_text() -> str:
    """For modules started as a program of their own (`python -m`)."""
    return "".join(path.read_text() for path in OURS)


@pytest.mark.parametrize("path", [path for path in OURS if path.parent.name in PURE], ids=shown)
def test_a_pure_room_has_no_state_of_its_own(path: Path) -> None:
    """design.md 5.7: a mutable global would make `step` depend on what ran before."""
    mutable = [
        ast.unparse(node)[:60]
        for node in syntax(path).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.List | ast.Set | ast.ListComp | ast.SetComp)
    ]
    assert mutable == []
