"""A real daemon process, seen as its supervisor sees it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

RESTATED = Path(sys.executable).with_name("restated")
ANSWER_S = 20.0  # a loaded machine, not the daemon, needs it
AS_SYSTEMD = """
import fcntl, json, os, sys
passed = json.loads(sys.argv[1])
copies = [(name, fcntl.fcntl(fd, fcntl.F_DUPFD, 100)) for name, fd in passed]
for offset, (name, fd) in enumerate(copies):
    os.dup2(fd, 3 + offset, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(passed)),
                  LISTEN_FDNAMES=":".join(name for name, _ in passed))
os.execv(sys.argv[2], sys.argv[2:])
"""


def clean_environment() -> dict[str, str]:
    """The environment without settings of ours, of the reference, of a supervisor, of CI.

    With `CI` set the official CLI asks for no confirmation: it would not do what it did elsewhere.
    """
    prefixes = ("RESTATE", "LISTEN_", "NOTIFY_", "WATCHDOG_", "JOURNAL_", "RUNTIME_DIRECTORY")
    return {
        name: value
        for name, value in os.environ.items()
        if name != "CI" and not name.startswith(prefixes)
    }


class RealDaemon:
    """`restated serve` on a directory and ports of its own; READY when the constructor returns.

    Ports are the system's choice, told by the daemon in its status: no race for them.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        inherited: Mapping[str, socket.socket] | None = None,
    ) -> None:
        self.base_dir = directory / "data"
        self.socket_path = directory / "a.sock"
        self._supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._supervisor.settimeout(ANSWER_S)
        notify_path = directory / "n.sock"
        notify_path.unlink(missing_ok=True)
        self._supervisor.bind(str(notify_path))
        self.log_path = directory / "log"
        command: list[str] = [
            str(RESTATED), "serve", "--base-dir", str(self.base_dir), "--ingress", "127.0.0.1:0",
            "--admin", "127.0.0.1:0", "--admin-socket", str(self.socket_path), *arguments,
        ]  # fmt: skip
        variables = clean_environment() | {"NOTIFY_SOCKET": str(notify_path)}
        variables |= dict(environment or {})
        passed = [(name, one.fileno()) for name, one in (inherited or {}).items()]
        if passed:
            command = [sys.executable, "-c", AS_SYSTEMD, json.dumps(passed), *command]
        with self.log_path.open("ab") as log:
            self.child = subprocess.Popen(
                command, env=variables, stderr=log, pass_fds=[fd for _, fd in passed]
            )
        try:
            self.status = self.wait_for("READY=1")["STATUS"]
        except BaseException:
            self.close()
            raise
        self.ingress, self.admin = self._places()

    @classmethod
    def socket_activated(
        cls, directory: Path, inherited: Mapping[str, socket.socket]
    ) -> "RealDaemon":
        """A daemon that gets these sockets as systemd passes them."""
        return cls(directory, inherited=inherited)

    def _places(self) -> tuple[str, str]:
        words = dict(word.partition("=")[::2] for word in self.status.split())
        return f"http://{words['ingress']}", f"http://{words['admin']}"

    def notification(self) -> dict[str, str]:
        """The next thing the daemon tells its supervisor."""
        text = self._supervisor.recv(4_096).decode()
        return dict(line.partition("=")[::2] for line in text.splitlines())

    def wait_for(self, wanted: str) -> dict[str, str]:
        """The first notification with this line; AssertionError with the log if none comes."""
        name, _, value = wanted.partition("=")
        self._supervisor.settimeout(0.2)
        deadline = time.monotonic() + ANSWER_S
        told: dict[str, str] = {}
        while told.get(name) != value:
            gone = self.child.poll() is not None
            try:
                told = self.notification()
            except TimeoutError:
                if gone or time.monotonic() > deadline:
                    raise AssertionError(f"no {wanted}; log:\n{self.log()}") from None
        return told

    def log(self) -> str:
        """Everything logged so far."""
        return self.log_path.read_text()

    def terminate(self) -> int:
        """SIGTERM and wait: the exit status."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(ANSWER_S)

    def kill(self) -> None:
        """SIGKILL and wait."""
        self.child.kill()
        self.child.wait(ANSWER_S)

    def close(self) -> None:
        """End it whatever its state. Idempotent."""
        if self.child.poll() is None:
            self.kill()
        self._supervisor.close()

    def __enter__(self) -> "RealDaemon":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve_fails(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run `restated serve` that is expected to end by itself: exit status and standard error."""
    done = subprocess.run(
        [str(RESTATED), "serve", *arguments],
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
        check=False,
    )
    return done.returncode, done.stderr


def wait_for_port(log: Path, pattern: str) -> str:
    """The first group of `pattern` in a log that another process writes; polls, it cannot tell."""
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        found = re.search(pattern, log.read_text())
        if found is not None:
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"no {pattern} in:\n{log.read_text()}")
