"""Services in a process of their own."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from tests.real.waiting import eventually, is_listening


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


class Program:
    """A program that serves a port; the same one when it is started again."""

    def __init__(
        self,
        port: int,
        command: Sequence[str],
        variables: Mapping[str, str] | None = None,
        *,
        is_quiet: bool = True,
    ) -> None:
        self._port = port
        self.uri = f"http://127.0.0.1:{port}"
        self._command = command
        self._environment = os.environ | dict(variables or {})
        self._stderr = subprocess.DEVNULL if is_quiet else None
        self.start()

    def start(self) -> None:
        """Run it; returns when it listens."""
        self._child = subprocess.Popen(self._command, env=self._environment, stderr=self._stderr)
        try:
            eventually(lambda: is_listening(self._port))
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL and wait. Idempotent."""
        self._child.kill()
        self._child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()


class Services(Program):
    """`python -m MODULE PORT ARGUMENTS...`."""

    def __init__(self, module: str, *arguments: str, is_quiet: bool = True) -> None:
        port = free_port()
        command = [sys.executable, "-m", module, str(port), *arguments]
        super().__init__(port, command, is_quiet=is_quiet)
