"""One run of a command: which daemon, which form of output, may it ask.

Lives here: the options that every command has, confirmation of destructive commands.
Does not: what a command does (commands.py), how tables look (output.py).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from restated.client import AdminClient, ClientError, default_address


class UsageError(Exception):
    """The command line does not say what to do."""


class DeclinedError(ClientError):
    """The person at the terminal said no."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """Options of every command."""

    admin: Annotated[str | None, Parameter(env_var="RESTATED_ADMIN")] = None
    """Address of the admin API: http://HOST:PORT or unix:PATH."""
    output: Annotated[Literal["table", "json"], Parameter(alias="-o")] = "table"
    """Form of the output."""

    @property
    def wants_json(self) -> bool:
        """Whether a program reads the output."""
        return self.output == "json"

    @contextmanager
    def client(self) -> Iterator[AdminClient]:
        """A conversation with the daemon that was asked for."""
        with AdminClient(self.admin or default_address(os.environ)) as client:
            yield client


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Changing(Reading):
    """Options of commands that change something that cannot be changed back."""

    yes: Annotated[bool, Parameter(alias="-y", negative="")] = False
    """Do not ask."""

    def confirm(self, question: str) -> None:
        """Return if it may be done. UsageError when nobody can be asked, DeclinedError on no."""
        if self.yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"{question} Nobody can be asked here: confirm with --yes.")
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise DeclinedError("nothing was changed")
