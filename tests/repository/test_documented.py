"""What users can set or call is in the manual."""

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("page", sorted(MANUAL.iterdir()), ids=lambda path: path.name)
def test_every_page_of_the_manual_has_the_usual_sections(page: Path) -> None:
    """A page that man(1) cannot find its name in is not found by apropos(1)."""
    text = page.read_text()
    assert re.search(r"^\.S[hH] \"?NAME", text, re.MULTILINE)
    assert re.search(r"^\.S[hH] \"?DESCRIPTION", text, re.MULTILINE)
