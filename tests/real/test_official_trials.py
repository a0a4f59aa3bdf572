"""The official CLI prints against us what it printed against the reference, for every command.

Lives here: the comparison of every recorded trial. Does not: the sessions (test_official_cli.py).
Needs the CLI: the environment variable `RESTATE_CLI` names it, or npm installs it.
"""

import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.daemon.running import RealDaemon
from tests.real.launched import Services
from tests.real.official.installed import official_cli
from tests.real.official.sessions import comparable
from tests.real.official.trials import Player, Step, recorded_trials

pytestmark = [pytest.mark.real, pytest.mark.slow]
TRIALS: Final = {trial.name: trial for trial in recorded_trials()}
COMPARED: Final = [
    pytest.param(trial.name, number, id=f"{trial.name}-{number}-{step.run or step.show}")
    for trial in TRIALS.values()
    for number, step in enumerate(trial.steps)
    if step.is_compared
]


@pytest.fixture(scope="module")
def binary() -> Path:
    """The official CLI."""
    return official_cli()


@cache
def _played(binary: Path, name: str) -> list[Step]:
    """All steps of a trial, played against a daemon of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="rd-") as path,
        Services("tests.real.official.tickets") as tickets,
        RealDaemon(Path(path)) as daemon,
    ):
        home = Path(path) / "home"
        home.mkdir()
        player = Player(binary, daemon.admin, daemon.ingress, tickets.uri, home)
        played: list[Step] = []
        with suppress(AssertionError):  # what is not reached fails below, and is not tried again
            for step in TRIALS[name].steps:
                played.append(player.play(step))  # noqa: PERF401 - kept when one fails
        return played


@pytest.mark.parametrize(("name", "number"), COMPARED)
def test_a_command_prints_what_it_printed(binary: Path, name: str, number: int) -> None:
    """cli.md: output, error output and exit status of every command that is not of the cloud."""
    wanted, played = TRIALS[name].steps[number], _played(binary, name)
    assert number < len(played), f"stopped before: {TRIALS[name].steps[len(played)]}"
    found = played[number]
    assert comparable(found.stdout, {}) == comparable(wanted.stdout, {})
    assert comparable(found.stderr, {}) == comparable(wanted.stderr, {})
    assert found.exit == wanted.exit


def test_every_command_is_tried() -> None:
    """The recording has a step of each command that asks the server; the rest is the CLI's own."""
    tried = [step.run for trial in TRIALS.values() for step in trial.steps if step.run]
    missing = [command for command in COMMANDS if not any(command in run for run in tried)]
    assert missing == []


COMMANDS: Final = (
    *(f"services {verb}" for verb in ("list", "describe", "status")),
    *(f"services config {verb}" for verb in ("view", "edit", "patch")),
    *(f"deployments {verb}" for verb in ("register", "describe", "remove")),
    *(
        f"kafka-clusters {verb}"
        for verb in ("list", "create", "describe", "edit", "patch", "delete")
    ),
    *(f"subscriptions {verb}" for verb in ("list", "create", "describe", "delete")),
    *(
        f"invocations {verb}"
        for verb in (
            "list", "describe", "cancel", "kill", "purge", "restart-as-new", "resume", "pause",
        )
    ),
    *(f"vqueues {verb}" for verb in ("list", "describe")),
    *(f"rules {verb}" for verb in ("list", "set", "enable", "disable", "delete")),
    *(f"state {verb}" for verb in ("get", "edit", "patch", "clear")),
    "sql",
)  # fmt: skip
