"""Services in a process of their own."""

import socket
import subprocess
import sys
from types import TracebackType

from tests.real.waiting import eventually, is_listening


class Services:
    """`python -m MODULE PORT ARGUMENTS...`; it keeps its port when it is started again."""

    def __init__(self, module: str, *arguments: str, is_quiet: bool = True) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self._port = int(held.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self._port}"
        self._command = [sys.executable, "-m", module, str(self._port), *arguments]
        self._stderr = subprocess.DEVNULL if is_quiet else None
        self.start()

    def start(self) -> None:
        """Run it; returns when it listens."""
        self._child = subprocess.Popen(self._command, stderr=self._stderr)
        try:
            eventually(lambda: is_listening(self._port))
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL and wait. Idempotent."""
        self._child.kill()
        self._child.wait()

    def __enter__(self) -> "Services":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
