"""The command `restated`: which program this is, and how it ends.

Lives here: the short way to the daemon, exit statuses, what happens to errors and interrupts.
Does not: the commands (commands.py), their output (output.py).
Start-up: `restated serve` imports nothing of the command line but this file (design 2).
"""

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
INTERRUPTED: Final = 128 + signal.SIGINT

SUMMARY: Final = """usage: restated COMMAND

  serve          run the daemon

  deployments    list, describe, register, remove
  services       list, describe
  invocations    list, describe, cancel, kill, pause, resume, purge, restart, tail
  sql            run an SQL query

`restated COMMAND --help` says more; restated(1) and restated(8) say all.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["serve"]:
        gc.disable()  # a tenth of the time of the imports; the daemon enables it when it serves
        from restated.daemon.daemon import run

        return run(words[1:])
    if words in ([], ["--help"], ["-h"], ["help"]):
        (sys.stdout if words else sys.stderr).write(SUMMARY)
        return OK if words else USAGE
    if words == ["--version"]:
        from importlib.metadata import version

        sys.stdout.write(f"restated {version('restated')}\n")
        return OK
    try:
        return _command(words)
    except (KeyboardInterrupt, BrokenPipeError, BaseExceptionGroup) as error:
        return _ended(error)


def _ended(error: BaseException) -> int:
    """What is no failure of ours: an interrupt, a reader of our output that has seen enough."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # Trio wraps what happens beside a connection
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # Python must not complain at exit that it cannot flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    raise error


def _command(words: list[str]) -> int:
    from restated.cli.commands import run_command
    from restated.cli.session import UsageError
    from restated.client import ClientError, NotFoundError, UnreachableError

    try:
        run_command(words)
        sys.stdout.flush()
    except UsageError as error:
        return _complain(error, USAGE)
    except NotFoundError as error:
        return _complain(error, NOT_FOUND)
    except UnreachableError as error:
        return _complain(error, UNREACHABLE)
    except ClientError as error:
        return _complain(error, FAILED)
    return OK


def _complain(error: Exception, status: int) -> int:
    sys.stderr.write(f"restated: {error}\n")
    return status
