"""Each entry of the catalogue has a test that names it, or a reason why it has none."""

import ast
import re
from pathlib import Path

from tests.repository.tree import modules, syntax

EVERY = tuple(f"C{number:02}" for number in range(1, 99))
BUILT = EVERY[:78]
CONTRACT = "contract.py"  # its checks are run by test_contract.py under their own names
IN_NAME = re.compile(r"c\d\d(?=_)")
IN_TEXT = re.compile(r"\bC\d\d\b")
LINE = re.compile(r"^\| (C\d\d) \| (never|later) \| (.+) \|$", re.MULTILINE)


def named() -> set[str]:
    """Ids in the name or the docstring of a test."""
    found: set[str] = set()
    for path in modules("tests"):
        if not path.name.startswith("test_") and path.name != CONTRACT:
            continue
        for node in ast.walk(syntax(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("test_") or path.name == CONTRACT:
                found.update(each.upper() for each in IN_NAME.findall(node.name))
                found.update(IN_TEXT.findall(ast.get_docstring(node) or ""))
    return found


def excused() -> dict[str, str]:
    """Id -> `never` or `later`."""
    text = (Path(__file__).parent / "cannot_occur.md").read_text()
    return {entry: when for entry, when, _ in LINE.findall(text)}


def test_every_entry_has_a_test_or_a_reason() -> None:
    """G8: a number without either is a bug that may come back unseen."""
    assert sorted(set(EVERY) - named() - set(excused())) == []


def test_no_entry_has_both() -> None:
    """A reason that is no longer true misleads."""
    assert sorted(named() & set(excused())) == []


def test_what_is_about_the_engine_itself_is_not_put_off() -> None:
    """Only C79 to C98 may wait for what they are about."""
    assert [entry for entry in BUILT if excused().get(entry) == "later"] == []


def test_no_test_names_an_entry_that_does_not_exist() -> None:
    """A mistyped number would count for nothing."""
    assert sorted(named() - set(EVERY)) == []
