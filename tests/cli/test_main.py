"""The command line without a daemon: usage, exit statuses, start-up."""

import subprocess
import sys
from pathlib import Path

import pytest

from restated.cli.main import FAILED, OK, UNREACHABLE, USAGE, main


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output, status 0."""
    assert main(words) == OK
    assert "serve" in capsys.readouterr().out


def test_without_a_command_there_is_help_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error, status 2."""
    assert main([]) == USAGE
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", "usage: restated COMMAND")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The version of the installed package."""
    assert main(["--version"]) == OK
    assert capsys.readouterr().out.startswith("restated ")


@pytest.mark.parametrize(
    "words",
    [
        ["frob"],
        ["services", "frob"],
        ["services", "list", "--bogus"],
        ["services", "list", "--output", "xml"],
        ["sql"],
        ["invocations", "list", "--status", "sleeping"],
        ["deployments", "register", "http://x", "--header", "none"],
    ],
)
def test_what_cannot_be_understood_is_a_usage_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, one line on standard error."""
    assert main(words) == USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("restated: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["services", "list"],
        ["invocations", "cancel", "Desk", "--yes"],
        ["invocations", "tail"],
        ["sql", "SELECT 1"],
    ],
)
def test_without_a_daemon_the_hint_says_how_to_start_one(
    words: list[str], short_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 4."""
    address = f"unix:{short_path}/none.sock"
    assert main([*words, "--admin", address]) == UNREACHABLE
    err = capsys.readouterr().err
    assert err.startswith(f"restated: no daemon answers at {address}: ")
    assert "restated serve" in err


def test_an_address_of_another_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a socket nor HTTP."""
    assert main(["services", "list", "--admin", "ftp://x"]) == FAILED
    assert "neither unix:PATH nor http://HOST:PORT" in capsys.readouterr().err


def test_serve_loads_nothing_of_the_command_line() -> None:
    """design.md 2: start-up is a feature."""
    code = (
        "import sys\n"
        "from restated.cli.main import main\n"
        "assert main(['serve', '--help']) == 0\n"
        "late = {'cyclopts', 'rich', 'httpx', 'starlette', 'trio_websocket', 'sqlglot'}\n"
        "sys.exit(', '.join(sorted(late & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")
