"""The write-ahead log, moved and started over.

Lives here: one checkpoint, whether the next commit begins the log anew.
Does not: when, and on which connection (sqlite.py).
"""

import apsw

from restated.store.startup import BUSY_MS


def move(connection: apsw.Connection) -> int:
    """A checkpoint that waits for nobody; the number of frames, from the first, that are moved.

    0 when another checkpoint is at work, ours or that of a tool: it is tried again after growth.
    """
    try:
        _, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.BusyError:
        return 0
    return moved


def starts_over(connection: apsw.Connection) -> bool:
    """Whether the next commit begins a log, all of which is moved, anew: no reader needs it.

    Takes for a moment the lock that a transaction begins with, so the writer asks itself.
    """
    connection.set_busy_timeout(0)
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    except apsw.BusyError:
        return False
    finally:
        connection.set_busy_timeout(BUSY_MS)
    return True
