"""Tables, times, and what never reaches a terminal."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.cli import output

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


def test_tables_align_cells_of_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a row is one line, however long, and there are no colours."""
    output.print_table(("NAME", "N"), [("a", 1), ("long " * 60, "x\ny")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert [line.split()[-1] for line in lines] == ["N", "1", "x", "y"]
    assert "\x1b" not in "".join(lines)


def test_sections_leave_out_what_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """None and empty values are not shown; zero is."""
    output.print_section("Service", [("Name", "x"), ("Note", None), ("Key", ""), ("Count", 0)])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["", "Service", "  Name:   x", "  Count:  0"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-25T11:59:30.000000000Z", "30s ago"),
        ("2026-11-25T10:29:59Z", "1h 30m ago"),
        ("2026-11-25T11:59:59.900Z", "100ms ago"),
        ("2026-11-25T12:00:05.000Z", "in 5s"),
        (None, ""),
    ],
)
def test_times_are_told_relative_to_now(text: str | None, shown: str) -> None:
    """The API writes three or nine digits, or none."""
    assert output.ago(text, NOW) == shown


@given(st.text())
def test_no_text_controls_the_terminal(text: str) -> None:
    """Keys and failures come from anybody."""
    assert not any(ord(one) < 32 and one not in "\n\t" for one in output.shown(text))
    assert not any(0x7F <= ord(one) <= 0x9F for one in output.shown(text))


def test_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A key named like markup is shown as it is."""
    output.print_table(("KEY",), [("[red]x[/red]",), (":smile:",)])
    assert capsys.readouterr().out.split() == ["KEY", "[red]x[/red]", ":smile:"]


def test_counts_have_their_noun() -> None:
    """One invocation, two invocations."""
    assert output.counted(1, "row") == "1 row"
    assert output.counted(0, "row") == "0 rows"
