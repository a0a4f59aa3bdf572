"""The official CLI works unmodified: what it prints against us is what it printed before.

Needs the CLI: the environment variable `RESTATE_CLI` names it, or npm installs it.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.real.official.cli import Cli
from tests.real.official.installed import official_cli
from tests.real.official.sessions import (
    Session,
    comparable,
    names_in,
    names_of_ids,
    recorded,
    translated,
)
from tests.real.official.shop import LONG_MS, Shop, open_shop, ticket_stage

pytestmark = [pytest.mark.real, pytest.mark.slow]
AGED_S: Final = 11.0  # younger attempts and suspensions are shown without notes
SESSIONS: Final = recorded()
RECORDED_SERVICES: Final = "http://127.0.0.1:29480"


@pytest.fixture(scope="module")
def binary() -> Path:
    """The official CLI."""
    return official_cli()


class Replay:
    """Every recorded command, run once and in order."""

    def __init__(self, cli: Cli, shop: Shop, forgotten: str) -> None:
        self.theirs = names_in(SESSIONS)
        deployments = cli.out("deployments list")
        self.ours = names_of_ids(cli.out("invocations list --all"), deployments)
        self.ours[forgotten] = "<forgotten>"
        self.done = [cli.run(self._command(one, shop)) for one in SESSIONS]

    def _command(self, session: Session, shop: Shop) -> str:
        command = translated(session.command, self.ours, self.theirs)
        return command.replace(RECORDED_SERVICES, shop.services)


@pytest.fixture(scope="module")
def replay(binary: Path) -> Iterator[Replay]:
    """The recorded commands against a daemon in the recorded state."""
    with tempfile.TemporaryDirectory(prefix="rd-") as path, ticket_stage(Path(path)) as stage:
        shop = Shop(stage)
        forgotten = open_shop(shop)
        time.sleep(AGED_S)
        yield Replay(Cli(binary, shop.daemon.admin, Path(path)), shop, forgotten)


@pytest.mark.parametrize(
    "number", range(len(SESSIONS)), ids=[f"{n}-{one.command}" for n, one in enumerate(SESSIONS)]
)
def test_a_recorded_command_prints_what_it_printed(replay: Replay, number: int) -> None:
    """cli.md: output, error output and exit status of every recorded command."""
    wanted, found = SESSIONS[number], replay.done[number]
    is_any = wanted.command.startswith("sql")  # LIMIT without ORDER BY: any rows
    theirs, ours = ({}, {}) if is_any else (replay.theirs, replay.ours)
    assert comparable(found.stdout, ours) == comparable(wanted.stdout, theirs)
    assert comparable(found.stderr, ours) == comparable(wanted.stderr, theirs)
    assert found.exit == wanted.exit


@pytest.fixture(scope="module")
def place(binary: Path) -> Iterator[tuple[Cli, Shop]]:
    """The CLI and a shop in which nothing happened yet."""
    with tempfile.TemporaryDirectory(prefix="rd-") as path, ticket_stage(Path(path)) as stage:
        shop = Shop(stage)
        shop.register("/")
        yield Cli(binary, shop.daemon.admin, Path(path)), shop


def test_invocations_are_paused_resumed_cancelled(place: tuple[Cli, Shop]) -> None:
    """cli.md, invocations: on one that runs."""
    cli, shop = place
    one = shop.until(shop.send("TicketDesk/nap", LONG_MS), "running")
    assert "Paused 1 invocations" in cli.out(f"-y invocations pause {one}")
    shop.until(one, "paused")
    assert "Resumed 1 invocations" in cli.out(f"-y invocations resume {one}")
    shop.until(one, "running")
    assert "Cancelled 1 invocations" in cli.out(f"-y invocations cancel {one}")
    shop.until(one, "completed")


def test_invocations_are_killed_restarted_purged(place: tuple[Cli, Shop]) -> None:
    """cli.md, invocations: on targets, with and without a key."""
    cli, shop = place
    held = shop.until(shop.send("TicketObject/k/block", LONG_MS), "running")
    assert "Killed 1 invocations" in cli.out("-y invocations kill TicketObject/k")
    shop.until(held, "completed")
    quoted = shop.until(shop.send("TicketDesk/quote", {"n": 1}), "completed")
    assert "Restarted 1 invocations" in cli.out(f"-y invocations restart-as-new {quoted}")
    again = shop.until_called("TicketDesk/quote", 2, "completed")
    assert quoted in again
    assert "Purged 2 invocations" in cli.out("-y invocations purge TicketDesk/quote")
    assert [shop.status_of(one) for one in again] == ["", ""]


def test_state_is_read_edited_cleared(place: tuple[Cli, Shop], tmp_path: Path) -> None:
    """cli.md, state: with an editor that is a program."""
    cli, shop = place
    shop.until(shop.send("TicketObject/s/fill", {"n": 1, "name": "Sue"}), "completed")
    assert cli.out("state get -p TicketObject s").strip() == '{"n":1,"name":"Sue"}'
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nexec sed -i s/Sue/Zoe/ "$@"\n')
    editor.chmod(0o700)
    cli.out("-y state edit TicketObject s", EDITOR=str(editor), VISUAL=str(editor))
    assert cli.out("state get -p TicketObject s").strip() == '{"n":1,"name":"Zoe"}'
    assert "Enqueued successfully" in cli.out("-y state clear TicketObject/s")
    assert cli.out("state get -p TicketObject s").strip() == "{}"


def test_a_service_is_configured(place: tuple[Cli, Shop]) -> None:
    """cli.md, services config: view shows what patch set."""
    cli, _ = place
    cli.out("-y services config patch TicketDesk --abort-timeout 3m --public false")
    shown = cli.out("services config view TicketDesk")
    assert "Abort timeout:  3m" in shown
    assert "Public:  false" in shown
    cli.out("-y services config patch TicketDesk --public true")


def test_a_deployment_is_registered_described_removed(place: tuple[Cli, Shop]) -> None:
    """cli.md, deployments: one that nothing is pinned to."""
    cli, shop = place
    assert "TicketPlain" in cli.out(f"-y deployments register {shop.services}/reqresp")
    added = str(
        shop.rows("SELECT deployment_id FROM sys_service WHERE name = 'TicketPlain'")[0][
            "deployment_id"
        ]
    )
    assert "TicketPlain" in cli.out(f"deployments describe {added}")
    cli.out(f"-y deployments remove {added} --force")
    assert added not in cli.out("deployments list")


def test_queries_are_answered(place: tuple[Cli, Shop]) -> None:
    """cli.md, sql: as a table from Arrow, as JSON."""
    cli, shop = place
    one = shop.until(shop.send("TicketDesk/refuse", ""), "completed")
    query = f"SELECT id, completion_failure AS why FROM sys_invocation WHERE id = '{one}'"
    assert cli.out(f'sql "{query}"').split() == ["ID", "WHY", one, "[409]", "sold", "out"]
    shown = cli.out(f'sql --json "{query}"').strip()
    assert shown == f'[{{"id":"{one}","why":"[409] sold out"}}]'
    assert cli.out('sql "SELECT 1 AS a, NULL AS b"').split() == ["A", "B", "1"]


def test_f71_what_is_listed_is_what_sql_answers(place: tuple[Cli, Shop]) -> None:
    """F71: services, deployments and invocations of a list are those of the tables."""
    cli, shop = place
    one = shop.until(shop.send("TicketDesk/nap", LONG_MS), "running")
    listed = cli.out("invocations list --all")
    assert one in listed
    assert all(row["id"] in listed for row in shop.rows("SELECT id FROM sys_invocation"))
    services = cli.out("services list")
    assert all(row["name"] in services for row in shop.rows("SELECT name FROM sys_service"))
    deployments = cli.out("deployments list")
    assert all(row["id"] in deployments for row in shop.rows("SELECT id FROM sys_deployment"))
    assert "Sleep [rest]" in cli.out(f"invocations describe {one}")
    assert "Cancelled 1 invocations" in cli.out(f"-y invocations cancel {one}")
    shop.until(one, "completed")


def test_f71_a_failure_has_its_exit_status(place: tuple[Cli, Shop]) -> None:
    """F71: an option that is none, a query that is none, a server that is not there."""
    cli, _ = place
    assert cli.run("services list --no-such-option").exit == 2
    refused = cli.run('sql "SELECT * FROM no_such_table"')
    assert refused.exit == 1
    assert "no_such_table" in refused.stdout + refused.stderr
    assert cli.run("services list", RESTATE_ADMIN_URL="http://127.0.0.1:1").exit == 1
