"""Every command against a real daemon and real services."""

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from restated.cli.main import FAILED, INTERRUPTED, NOT_FOUND, OK, USAGE, main
from tests.daemon.running import RESTATED, RealDaemon
from tests.real.launched import Services
from tests.real.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]
UNKNOWN = "inv_1kUxJ2cUzZXQ2oszvJhS2wFLtyb3fo3Fn4"


class Place:
    """A daemon with registered services; `run` is a command line on its Unix socket."""

    def __init__(self, daemon: RealDaemon, services: str, capsys: Any = None) -> None:
        self.daemon = daemon
        self.services = services
        self.address = f"unix:{daemon.socket_path}"
        self.capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        status = main([*words, "--admin", self.address])
        out, err = self.capsys.readouterr()
        return status, out, err

    def json(self, *words: str) -> Any:
        """The document that a command prints."""
        status, out, err = self.run(*words, "--output", "json")
        assert status == OK, err
        return json.loads(out)

    def send(self, target: str, body: object) -> str:
        """Send an invocation; its id."""
        answer = httpx.post(f"{self.daemon.ingress}/{target}/send", json=body)
        return str(answer.json()["invocationId"])

    def status_of(self, invocation_id: str) -> str:
        """Its status; '' when it is unknown."""
        query = f"SELECT status FROM sys_invocation WHERE id = '{invocation_id}'"
        rows = self.json("sql", query)
        return str(rows[0]["status"]) if rows else ""

    def becomes(self, invocation_id: str, status: str) -> None:
        """Wait until it has this status."""
        eventually(lambda: self.status_of(invocation_id) == status)


@pytest.fixture(scope="module")
def started() -> Iterator[Place]:
    """One daemon for all tests of this file: each uses invocations of its own."""
    with (
        Services("tests.real.services", is_quiet=False) as running,
        tempfile.TemporaryDirectory(prefix="rd-") as path,
        RealDaemon(Path(path)) as daemon,
    ):
        place = Place(daemon, running.uri)
        admin = f"{daemon.admin}/deployments"
        httpx.post(admin, json={"uri": place.services}).raise_for_status()
        yield place


@pytest.fixture
def place(started: Place, capsys: pytest.CaptureFixture[str]) -> Place:
    """The daemon, and what this test prints."""
    return Place(started.daemon, started.services, capsys)


def test_services_are_listed_and_described(place: Place) -> None:
    """Tables for people, JSON for programs."""
    status, out, _ = place.run("services", "list")
    assert status == OK
    assert [line.split()[:4] for line in out.splitlines()] == [
        ["NAME", "ACCESS", "TYPE", "REVISION"],
        ["Tally", "public", "VirtualObject", "1"],
        ["Work", "public", "Service", "1"],
    ]
    assert [one["name"] for one in place.json("services", "list")] == ["Tally", "Work"]
    status, out, _ = place.run("services", "describe", "Tally")
    assert status == OK
    assert "Exclusive" in out
    assert place.json("services", "describe", "Tally")["ty"] == "VirtualObject"
    assert place.run("services", "describe", "Nope")[0] == NOT_FOUND


def test_a_deployment_goes_from_registration_to_removal(place: Place) -> None:
    """Register, list, describe, remove; removal asks."""
    address = place.services.replace("127.0.0.1", "localhost")
    planned = place.json("deployments", "register", address, "--dry-run")
    assert {one["revision"] for one in planned["services"]} == {2}
    status, out, _ = place.run("deployments", "register", address, "--metadata", "a=b")
    assert status == OK
    assert "1 -> 2" in out
    assert "nothing changes" in place.run("deployments", "register", address)[1]
    newest = place.json("deployments", "list")[0]
    assert (newest["uri"], newest["metadata"]) == (f"{address}/", {"a": "b"})
    assert "Drained" in place.run("deployments", "list")[1]
    assert newest["id"] in place.run("deployments", "describe", newest["id"])[1]
    status, out, err = place.run("deployments", "remove", newest["id"])
    assert (status, out) == (USAGE, "")
    assert "--yes" in err
    assert place.run("deployments", "remove", newest["id"], "--yes")[0] == OK
    assert place.run("deployments", "describe", newest["id"])[0] == NOT_FOUND


def test_a_deployment_that_is_needed_is_not_removed(place: Place) -> None:
    """Invocations are bound to it."""
    nap = place.send("Work/nap", {"ms": "600000", "mark": "needed"})
    place.becomes(nap, "running")
    deployment = place.json("deployments", "list")[0]["id"]
    status, _, err = place.run("deployments", "remove", deployment, "--yes")
    assert status == FAILED
    assert "bound to" in err
    assert place.run("invocations", "kill", nap, "--yes")[0] == OK


def test_invocations_are_listed_by_filters_and_described(place: Place) -> None:
    """Open ones by default."""
    nap = place.send("Work/nap", {"ms": "600000", "mark": "listed"})
    place.becomes(nap, "running")
    status, out, _ = place.run("invocations", "list", "--service", "Work", "--handler", "nap")
    assert status == OK
    assert nap in out
    assert place.json("invocations", "list", "--status", "paused,scheduled") == []
    assert nap in [one["id"] for one in place.json("invocations", "list", "--all")]
    assert len(place.json("invocations", "list", "--all", "--limit", "1")) == 1
    described = place.json("invocations", "describe", nap)
    assert described["invocation"]["id"] == nap
    assert [entry["entry_type"] for entry in described["journal"]] == [
        "Command: Input",
        "Command: Sleep",
    ]
    assert "Command: Sleep" in place.run("invocations", "describe", nap)[1]
    assert place.run("invocations", "describe", UNKNOWN)[0] == NOT_FOUND
    assert place.run("invocations", "kill", nap, "-y")[0] == OK


def test_operations_change_an_invocation(place: Place) -> None:
    """pause, resume, cancel; then purge. Each tells what it did."""
    nap = place.send("Work/nap", {"ms": "600000", "mark": "operated"})
    place.becomes(nap, "running")
    assert place.run("invocations", "pause", nap, "--yes")[0] == OK
    place.becomes(nap, "paused")
    assert "Resumed 1 invocation." in place.run("invocations", "resume", nap, "--yes")[1]
    place.becomes(nap, "running")
    assert place.json("invocations", "cancel", "Work/nap", "--yes")["succeeded"] == [nap]
    place.becomes(nap, "completed")
    status, _, err = place.run("invocations", "cancel", nap, "--yes")
    assert (status, "already completed" in err) == (FAILED, True)
    (pair,) = place.json("invocations", "restart", nap, "--yes")["succeeded"]
    place.becomes(pair["new_invocation_id"], "running")
    new = pair["new_invocation_id"]
    assert place.run("invocations", "cancel", "--kill", new, "--yes")[0] == OK
    place.becomes(new, "completed")
    assert place.run("invocations", "purge", nap, new, "--yes")[0] == OK
    assert place.status_of(nap) == ""


def test_operations_on_nothing_are_not_found(place: Place) -> None:
    """Status 3; the operation is never sent."""
    assert place.run("invocations", "cancel", "Nope", "--yes")[0] == NOT_FOUND
    assert place.run("invocations", "purge", UNKNOWN, "--yes")[0] == NOT_FOUND


def test_without_a_terminal_nobody_is_asked(place: Place) -> None:
    """Status 2, and nothing happened."""
    nap = place.send("Work/nap", {"ms": "600000", "mark": "asked"})
    place.becomes(nap, "running")
    status, _, err = place.run("invocations", "kill", nap)
    assert (status, "--yes" in err) == (USAGE, True)
    assert place.status_of(nap) == "running"
    assert place.run("invocations", "kill", nap, "--yes")[0] == OK


def test_at_a_terminal_no_means_no(place: Place) -> None:
    """A person is asked, with colours; anything but yes leaves all as it was."""
    nap = place.send("Work/nap", {"ms": "600000", "mark": "declined"})
    place.becomes(nap, "running")
    ours, theirs = pty.openpty()
    command = [str(RESTATED), "invocations", "kill", nap, "--admin", place.address]
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 4_096)
    os.write(ours, b"n\n")
    assert child.wait(20) == FAILED
    os.close(ours)
    assert b"\x1b[" in shown
    assert place.status_of(nap) == "running"
    assert place.run("invocations", "kill", nap, "--yes")[0] == OK


def test_sql_prints_tables_and_json(place: Place) -> None:
    """Errors are those of the query."""
    status, out, err = place.run("sql", "SELECT 'x' AS a, 2 AS b")
    assert (status, [line.split() for line in out.splitlines()]) == (OK, [["A", "B"], ["x", "2"]])
    assert err == "1 row\n"
    assert place.json("sql", "SELECT 'x' AS a, NULL AS b") == [{"a": "x"}]
    status, out, err = place.run("sql", "SELECT nope FROM sys_service")
    assert (status, out) == (FAILED, "")
    assert "nope" in err


@pytest.mark.parametrize("over", ["unix", "tcp"])
def test_the_tail_shows_changes_until_it_is_interrupted(place: Place, over: str) -> None:
    """One line a change, at once; an interrupt is quiet."""
    address = place.address if over == "unix" else place.daemon.admin
    command = [
        str(RESTATED), "invocations", "tail", "--admin", address, "--key", over, "-o", "json",
    ]  # fmt: skip
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    sent: list[str] = []

    def told() -> bytes:
        # The first ones may come before the tail listens.
        sent.append(place.send(f"Tally/{over}/add", 1))
        assert child.stdout is not None
        return child.stdout.read() or b""

    line = eventually(told).splitlines()[0]
    change = json.loads(line)
    assert (change["key"], change["id"] in sent) == (over, True)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert (child.returncode, err) == (INTERRUPTED, b"")


def test_an_interrupt_of_the_tail_is_seen_while_a_message_arrives(place: Place) -> None:
    """Where the websocket is read, an exception would be replaced by a cancellation."""
    at_a_message = (
        "import os, signal, sys\n"
        "from wsproto import WSConnection\n"
        "from restated.cli.main import main\n"
        "receive = WSConnection.receive_data\n"
        "def interrupted(connection, data):\n"
        "    receive(connection, data)\n"
        "    if connection.state.name == 'OPEN' and data[:1] != b'H':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "WSConnection.receive_data = interrupted\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", at_a_message, "invocations", "tail", "--admin", place.address]
    # Which task goes on first is a matter of chance.
    children = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(6)
    ]

    def ended() -> bool:
        place.send("Tally/seen/add", 1)
        return all(child.poll() is not None for child in children)

    eventually(ended)
    ends = [(child.communicate(timeout=20)[1], child.returncode) for child in children]
    assert ends == [(b"", INTERRUPTED)] * len(children)


def test_a_reader_that_has_seen_enough_is_no_error(place: Place) -> None:
    """`restated ... | head -1`."""
    words = f"{RESTATED} sql 'SELECT name FROM sys_service' --admin {place.address}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words} | true"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.count(b"Error")) == (OK, 0)
