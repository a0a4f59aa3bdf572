"""Trials of the official CLI: command lines with what they printed against the reference.

Lives here: the steps of a trial, the recording of them, `Player`, which plays them anywhere.
Does not: what of an output must be equal (sessions.py), the daemon (test_official_trials.py).

`python -m tests.real.official.trials CLI ADMIN INGRESS NAME` plays a trial's steps against a fresh
server and writes what it prints into the recording.
"""

import re
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from tests.real.launched import Services
from tests.real.official.cli import Cli
from tests.real.waiting import eventually

TRIALS_PATH: Final = Path(__file__).parents[2] / "data" / "cli_trials.json"


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that a trial does: it runs the CLI, makes a call, waits or shows a file.

    `<name>` in `run` and in outputs stands for what has that name.
    """

    run: str = ""  # arguments of the CLI
    editor: str = ""  # what its editor does: a shell script
    show: str = ""  # a file of the CLI's directory that an editor kept
    write: dict[str, str] = {}  # files of the CLI's directory
    send: str = ""  # a target to call one-way
    body: Any = None
    delay: str = ""
    name: str = ""  # of the invocation that was sent; keyed by it unless it is a workflow
    until: dict[str, str] = {}  # names of invocations and the statuses to wait for
    exit: int = 0
    stdout: str = ""
    stderr: str = ""

    @property
    def is_compared(self) -> bool:
        """Whether it has an outcome."""
        return bool(self.run or self.show)


class Trial(msgspec.Struct, frozen=True):
    """Steps that begin with an empty server."""

    name: str
    steps: list[Step]


def recorded_trials() -> list[Trial]:
    """All of them."""
    return msgspec.json.decode(TRIALS_PATH.read_bytes(), type=list[Trial])


class Player:
    """Plays the steps of a trial with the official CLI against one server."""

    def __init__(self, binary: Path, admin: str, ingress: str, services: str, home: Path) -> None:
        self._cli = Cli(binary, admin, home)
        self._home = home
        self._admin, self._ingress = admin, ingress
        self._http = httpx.Client(timeout=30, trust_env=False)
        self._names = {"services": services, "home": str(home), "admin": admin, "ingress": ingress}
        self._counts: dict[str, int] = {}

    def play(self, step: Step) -> Step:
        """Do it: the step with its outcome, in which names stand for what they name."""
        for name, text in step.write.items():
            (self._home / name).write_text(text)
        if step.send:
            self._send(step)
        for name, status in step.until.items():
            eventually(partial(self._is, name, status))
        if step.run:
            return self._run(step)
        if step.show:
            text = self._named((self._home / step.show).read_text())
            return msgspec.structs.replace(step, stdout=text)
        return step

    def _send(self, step: Step) -> None:
        time.sleep(0.002)  # created in a millisecond of its own: lists are ordered by it
        headers = {"content-type": "application/json"}
        if not step.send.startswith("TicketFlow/"):
            headers["idempotency-key"] = f"key-{step.name}"
        path = f"/{step.send}/send" + (f"?delay={step.delay}" if step.delay else "")
        answer = self._http.post(self._ingress + path, json=step.body, headers=headers)
        assert answer.status_code == 202, answer.text
        self._names[step.name] = str(answer.json()["invocationId"])

    def _is(self, name: str, status: str) -> bool:
        query = f"SELECT status FROM sys_invocation WHERE id = '{self._names[name]}'"
        answer = self._http.post(
            f"{self._admin}/query", json={"query": query}, headers={"accept": "application/json"}
        )
        rows = answer.json()["rows"]
        return bool(rows) and rows[0]["status"] == status

    def _run(self, step: Step) -> Step:
        variables = {"EDITOR": "true", "VISUAL": "true"}
        if step.editor:
            editor = self._home / "editor"
            editor.write_text(f"#!/bin/sh\n{step.editor}\n")
            editor.chmod(0o700)
            variables = {"EDITOR": str(editor), "VISUAL": str(editor)}
        done = self._cli.run(self._translated(step.run), **variables)
        if step.run.startswith("-y "):  # only what is confirmed makes something new
            self._name_the_new()
        return msgspec.structs.replace(
            step,
            exit=done.exit,
            stdout=self._named(done.stdout),
            stderr=self._named(done.stderr),
        )

    def _name_the_new(self) -> None:
        """Number deployments and subscriptions in the order in which they appear."""
        for kind in ("deployments", "subscriptions"):
            for one in self._http.get(f"{self._admin}/{kind}").json()[kind]:
                if one["id"] not in self._names.values():
                    self._counts[kind] = self._counts.get(kind, 0) + 1
                    self._names[f"{kind[:-1]}-{self._counts[kind]}"] = one["id"]

    def _translated(self, command: str) -> str:
        return re.sub(r"<([\w-]+)>", lambda found: self._names.get(found[1], found[0]), command)

    def _named(self, text: str) -> str:
        for name, value in sorted(self._names.items(), key=lambda item: -len(item[1])):
            text = text.replace(value, f"<{name}>")
        address = self._names["services"].removeprefix("http://")
        return text.replace(address, "<services>")


def record(binary: Path, admin: str, ingress: str, name: str) -> None:
    """Play one trial against a fresh server and keep what is printed."""
    trials = recorded_trials()
    number = [trial.name for trial in trials].index(name)
    with tempfile.TemporaryDirectory() as home, Services("tests.real.official.tickets") as tickets:
        player = Player(binary, admin, ingress, tickets.uri, Path(home))
        steps = [player.play(step) for step in trials[number].steps]
    trials[number] = Trial(name, steps)
    TRIALS_PATH.write_bytes(msgspec.json.format(msgspec.json.encode(trials), indent=1) + b"\n")


if __name__ == "__main__":
    record(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4])
