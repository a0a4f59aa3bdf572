"""What users can set or call is in the manual."""

import re
from pathlib import Path

import pytest
from cyclopts import App

from restated.cli.commands import build_app
from restated.daemon import config
from restated.daemon.config import Setting
from tests.repository.tree import ROOT

MANUAL = ROOT / "man"


@pytest.mark.parametrize("setting", config.SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_in_the_manual_with_its_form_and_variables(
    setting: Setting[object],
) -> None:
    """style.md 12: a setting is a row and an entry in restated.toml(5)."""
    page = (MANUAL / "restated.toml.5").read_text()
    entry = page.partition(f".It Va {setting.name}\n")[2].partition("\n.It ")[0]
    words = re.sub(r"\n(?:\.\w\w )?", " ", entry)
    assert setting.help in words
    assert setting.kind.form in words
    assert [name for name in setting.references if name not in words] == []
    assert not setting.flag or f"-{setting.flag[2:]}" in words


def test_the_manual_has_no_setting_that_does_not_exist() -> None:
    """A removed setting leaves the page too."""
    page = (MANUAL / "restated.toml.5").read_text()
    documented = re.findall(r"^\.It Va (\S+)$", page, re.MULTILINE)
    assert documented == [setting.name for setting in config.SETTINGS]


def commands() -> list[tuple[str, list[str]]]:
    """Every command of the CLI but `serve`, with its own options."""
    app = build_app()
    groups = [name for name in app if not name.startswith("-")]
    leaves = [
        (f"{group} {verb}", app[group][verb])
        for group in groups
        for verb in app[group]
        if not verb.startswith("-")
    ]
    leaves.append(("sql", app["sql"]))
    return [(name, options_of(leaf)) for name, leaf in leaves]


def options_of(command: App) -> list[str]:
    """The long options that only this command has."""
    names = [name for one in command.assemble_argument_collection() for name in one.names]
    return [
        name
        for name in names
        if name.startswith("--")
        and name not in {"--admin", "--output", "--yes"}
        and not re.match(r"--(?:no|empty)-|.*\.no-", name)
    ]


@pytest.mark.parametrize(("name", "options"), commands(), ids=lambda value: str(value)[:30])
def test_every_command_and_its_options_are_in_the_manual(name: str, options: list[str]) -> None:
    """style.md 12: a command is a function and an entry in restated(1)."""
    page = (MANUAL / "restated.1").read_text()
    found = re.search(rf"^\.It Cm {name}(?: Ar .*)?$", page, re.MULTILINE)
    assert found is not None
    entry = page[found.end() :].partition("\n.It Cm ")[0].partition("\n.Ss ")[0]
    assert [option for option in options if f"Fl {option[1:]}" not in entry] == []


@pytest.mark.parametrize("page", sorted(MANUAL.iterdir()), ids=lambda path: path.name)
def test_every_page_of_the_manual_has_the_usual_sections(page: Path) -> None:
    """A page that man(1) cannot find its name in is not found by apropos(1)."""
    text = page.read_text()
    assert re.search(r"^\.S[hH] \"?NAME", text, re.MULTILINE)
    assert re.search(r"^\.S[hH] \"?DESCRIPTION", text, re.MULTILINE)
