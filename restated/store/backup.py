"""A consistent copy of the database.

Lives here: copy, which writes one commit into a new file and verifies it.
Does not: when and where (cli/, admin/); which thread (sqlite.py).
"""

import os
from pathlib import Path

import apsw

from restated.store.schema import APPLICATION_ID, SCHEMA_VERSION
from restated.store.store import StoreRefusedError


def copy(source: apsw.Connection, target: Path) -> None:
    """Copy the last commit to `target`, which must not exist; complete and durable at return.

    One step is one read transaction: later commits neither show nor restart it (C79). The copy
    gets its name only when it is verified. StoreRefusedError says what failed.
    """
    if target.exists():
        msg = f"backup target {target} exists; choose a new file"
        raise StoreRefusedError(msg)
    part = target.with_name(f"{target.name}.part")
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            _fill(source, part)
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)
        _sync_directory(target.parent)
    except (OSError, apsw.Error) as error:
        msg = f"backup to {target} failed: {error}"
        raise StoreRefusedError(msg) from error


def _fill(source: apsw.Connection, part: Path) -> None:
    copied = apsw.Connection(str(part))
    try:
        with copied.backup("main", source, "main") as backup:
            backup.step(-1)
        # One file without a WAL beside it: that is what people copy around.
        copied.pragma("journal_mode", "delete")
        marks = copied.pragma("application_id"), copied.pragma("user_version")
        verdict = copied.execute("PRAGMA integrity_check(1)").get
        if verdict != "ok" or marks != (APPLICATION_ID, SCHEMA_VERSION):
            msg = f"backup to {part} is not intact: {verdict}, marks {marks}"
            raise StoreRefusedError(msg)
    finally:
        copied.close(force=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
