"""The process that runs SQL for clients: reads the database file, and can do nothing else.

Lives here: its life (`main`), its connections and what SQLite may do on them, one statement from
plan to last row.
Does not: who asks (query.py), what is asked (dialect.py), how an answer looks (answer.py).

Why a process: SQLite's memory limit is one for a process and would hit the writer; a deadline that
nothing obeys any more ends in SIGKILL; a rlimit holds whatever a statement makes SQLite do. Inside,
up to four threads, each with a connection of its own, so that a long statement does not delay a
short one. Clocks and threads are used directly: nothing of the daemon lives here, and a simulator
replaces the whole process.

Three fences around a statement (Z2, 4.11): the dialect writes it anew from what its tables list;
the authorizer lets SQLite read stored tables only from inside our views; the connection is
read-only, defensive, without ATTACH, with limits on everything.

Sorting and grouping of more than a cache's worth goes to temporary files without a name, each of
bounded size: in memory a million rows would take sixty bytes each and more. What operators ask
does not delay the work of the daemon (priority.py).
"""

import contextlib
import logging
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import apsw
import msgspec

from restated.store.answer import Answer, ArrowAnswer, JsonAnswer, Row
from restated.store.dialect import Bound, Planner
from restated.store.priority import Standing, be_nice, can_step_back
from restated.store.query_wire import (
    CREDITS_AT_START,
    Credit,
    End,
    Failed,
    Form,
    Frames,
    LiveAttempt,
    Message,
    Piece,
    Run,
    Started,
    Stop,
    frame,
    requests,
)
from restated.store.sql_calendar import SqlValueError, Value
from restated.store.sql_functions import FUNCTIONS
from restated.store.sql_statistics import STATISTICS
from restated.store.sql_tables import LIST_TABLE, SqlColumn
from restated.store.sql_typing import SqlError
from restated.store.views import CLEAR_LIVE, INSERT_LIVE, VIEW_PREFIX, statements

THREADS_MAX: Final = 4
MEMORY_BYTES_MAX: Final = 512 * 1024 * 1024
FILE_BYTES_MAX: Final = 256 * 1024 * 1024  # of one temporary file: one sort, one grouping
VALUE_BYTES_MAX: Final = 160 * 1024 * 1024  # a value of 32 MiB as JSON numbers
STEPS_A_CHECK: Final = 50_000  # virtual machine steps between two looks at the clock, about 1 ms
ROWS_FIRST: Final = 64  # rows of the first piece: it leaves early
ROWS_A_PIECE: Final = 512
PIECE_BYTES: Final = 256 * 1024
RECURSION_MAX: Final = 10_000
THREAD_STACK_BYTES: Final = 16 * 1024 * 1024  # for that recursion

_LIMITS: Final = {
    apsw.SQLITE_LIMIT_LENGTH: VALUE_BYTES_MAX,
    apsw.SQLITE_LIMIT_SQL_LENGTH: 4 * 1024 * 1024,
    apsw.SQLITE_LIMIT_COLUMN: 2_000,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 1_000,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    apsw.SQLITE_LIMIT_VDBE_OP: 250_000,
    apsw.SQLITE_LIMIT_FUNCTION_ARG: 127,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 10_000,
    apsw.SQLITE_LIMIT_VARIABLE_NUMBER: 32_766,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}

_HARMLESS: Final = frozenset({
    apsw.SQLITE_SELECT, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE,
})  # fmt: skip
_FORBIDDEN_FUNCTIONS: Final = frozenset({
    "load_extension", "fts3_tokenizer", "writefile", "readfile", "edit", "zeroblob", "randomblob",
    "sqlite_compileoption_get", "sqlite_compileoption_used", "sqlite_source_id",
})  # fmt: skip


class Stopped(Exception):  # noqa: N818 - not an error: the client left
    """The client does not want the rest."""


class Statement:
    """One statement on its way: its credits, its deadline, whether it is still wanted."""

    __slots__ = ("_credits", "deadline", "is_stopped", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.deadline = time.monotonic() + run.timeout_ms / 1_000  # noqa: TID251 - see above
        self.is_stopped = False
        self._credits = threading.Semaphore(CREDITS_AT_START)

    def add_credit(self) -> None:
        """One more piece may leave."""
        self._credits.release()

    def stop(self) -> None:
        """Nobody wants the rest."""
        self.is_stopped = True
        self._credits.release()

    def take_credit(self) -> None:
        """Wait until a piece may leave; Stopped, or SqlError at the deadline."""
        remaining = self.deadline - time.monotonic()  # noqa: TID251 - see above
        if not self._credits.acquire(timeout=max(remaining, 0)):
            raise SqlError(self.late())
        if self.is_stopped:
            raise Stopped

    def is_over(self) -> bool:
        """Whether SQLite should give up: asked every few thousand steps."""
        return self.is_stopped or time.monotonic() > self.deadline  # noqa: TID251 - see above

    def late(self) -> str:
        """The text for a statement that took too long."""
        return (
            f"Resources exhausted: the statement took more than {self.run.timeout_ms / 1_000:g} s;"
            " select less, or filter by id"
        )


class Session:
    """One connection and the thread that uses it."""

    def __init__(self, path: str, planner: Planner, standing: Standing) -> None:
        self._planner = planner
        self._standing = standing
        self._statement: Statement | None = None
        self._live: bytes | None = None
        self._is_own = True  # we are setting up: the authorizer looks away
        self._connection = self._open(path)
        self._is_own = False

    def _open(self, path: str) -> apsw.Connection:
        connection = apsw.Connection(f"file:{_quoted(path)}?mode=ro", flags=_OPEN_FLAGS)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0)
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
        connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
        for function in FUNCTIONS:
            connection.create_scalar_function(
                function.name, function.call, function.arguments, deterministic=True,
                flags=apsw.SQLITE_INNOCUOUS,
            )  # fmt: skip
        for aggregate in STATISTICS:
            connection.create_aggregate_function(
                aggregate.name, aggregate.start, aggregate.arguments, flags=apsw.SQLITE_INNOCUOUS
            )
        now_ms: Callable[..., Value] = self._now_ms
        connection.create_scalar_function(
            "now_ms", now_ms, 0, deterministic=True, flags=apsw.SQLITE_INNOCUOUS
        )
        connection.execute("PRAGMA temp_store = FILE; PRAGMA cache_size = -4096")
        connection.execute("PRAGMA case_sensitive_like = ON; PRAGMA mmap_size = 0")
        for statement in statements():
            connection.execute(statement)
        connection.execute("PRAGMA query_only = ON")
        for limit, value in _LIMITS.items():
            connection.limit(limit, value)
        connection.authorizer = self._authorize
        connection.set_progress_handler(self._is_over, STEPS_A_CHECK)
        return connection

    def _now_ms(self) -> int:
        assert self._statement is not None
        return self._statement.run.now_ms

    def _is_over(self) -> bool:
        if self._statement is None:
            return False
        self._standing.look()
        return self._statement.is_over()

    def _authorize(
        self, action: int, one: str | None, two: str | None, schema: str | None, view: str | None
    ) -> int:
        if self._is_own:
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_FUNCTION:
            allowed = (two or "").lower() not in _FORBIDDEN_FUNCTIONS
        elif action == apsw.SQLITE_READ:
            table = one or ""
            # A table of which no column is read, as in count(*), is reported without its view.
            inside = not two or (view is not None and view.startswith(VIEW_PREFIX))
            is_view = schema == "temp" and table.startswith(VIEW_PREFIX)
            # No schema: a common table expression, a subquery.
            allowed = inside or is_view or not schema or (schema == "temp" and not table)
            allowed = allowed or table == LIST_TABLE
            allowed = allowed and not table.startswith("sqlite_")
        else:
            allowed = action in _HARMLESS
        return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY

    def answer(self, statement: Statement, send: Callable[[Message], None]) -> None:
        """Run one statement to its end; everything it has to say goes through `send`."""
        number = statement.run.number
        self._statement = statement
        self._standing.begin()
        try:
            self._run(statement, send)
        except Stopped:
            send(End(number))
        except (SqlError, SqlValueError) as error:
            send(Failed(number, 400, str(error)))
        except apsw.InterruptError:
            send(End(number) if statement.is_stopped else Failed(number, 400, statement.late()))
        except (MemoryError, apsw.NoMemError):
            send(Failed(number, 400, "Resources exhausted: the statement needs too much memory"))
        except (apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
            msg = f"Resources exhausted: no room to sort ({error}); select less, or use LIMIT"
            send(Failed(number, 400, msg))
        except (apsw.SQLError, apsw.AuthError, apsw.TooBigError, apsw.MismatchError) as error:
            send(Failed(number, 400, f"Execution error: {error}"))
        except RecursionError:
            send(Failed(number, 400, "Execution error: a value is nested too deeply"))
        except _UNFIT as error:
            msg = f"Execution error: a function does not take such a value: {error}"
            send(Failed(number, 400, msg))
        except Exception as error:  # noqa: BLE001 - the top of one statement: tell, and go on
            send(Failed(number, 500, f"Execution error: {type(error).__name__}: {error}"))
        finally:
            self._standing.end()
            self._statement = None

    def _run(self, statement: Statement, send: Callable[[Message], None]) -> None:
        run = statement.run
        bound = self._planner.plan(run.sql)
        if bound.plan.reads_live:
            self._load_live(run.live)
        with contextlib.closing(self._connection.cursor()) as cursor:
            source = _rows(cursor, bound)
            first = list(islice(source, ROWS_FIRST))  # what is wrong with it shows here at latest
            send(Started(run.number))
            for piece in _pieces(bound.columns, run.form, first, source):
                statement.take_credit()
                send(Piece(run.number, piece))
        send(End(run.number))

    def _load_live(self, live: bytes) -> None:
        """Make the attempts of this request the content of `live`; nothing if they are it."""
        if live == self._live:
            return
        attempts = msgspec.msgpack.decode(live, type=list[LiveAttempt])
        self._is_own = True
        try:
            self._live = None
            self._connection.execute("PRAGMA query_only = OFF")
            with self._connection:
                self._connection.execute(CLEAR_LIVE)
                self._connection.executemany(INSERT_LIVE, attempts)
            self._live = live
        finally:
            self._connection.execute("PRAGMA query_only = ON")
            self._is_own = False


_UNFIT: Final = (TypeError, ValueError, ArithmeticError, LookupError)  # of functions of ours
_OPEN_FLAGS: Final = (
    apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOMUTEX
    | apsw.SQLITE_OPEN_PRIVATECACHE | apsw.SQLITE_OPEN_EXRESCODE
)  # fmt: skip


def _quoted(path: str) -> str:
    """A path inside a `file:` URI."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _rows(cursor: apsw.Cursor, bound: Bound) -> Iterator[Row]:
    if not bound.plan.explains:
        yield from cursor.execute(bound.plan.sql, bound.parameters)
        return
    yield "logical_plan", bound.plan.sql
    steps = cursor.execute(f"EXPLAIN QUERY PLAN {bound.plan.sql}", bound.parameters)
    yield "physical_plan", "".join(f"{row[3]}\n" for row in steps)


def _pieces(
    columns: tuple[SqlColumn, ...], form: Form, first: list[Row], rest: Iterator[Row]
) -> Iterator[bytes]:
    """The answer in pieces of some hundred kilobytes; one piece if it is short."""
    answer: Answer = JsonAnswer(columns) if form == "json" else ArrowAnswer(columns)
    held = answer.begin()
    rows = first
    count = ROWS_A_PIECE
    while rows:
        written = answer.rows(rows)
        held += written
        # Rows of large values: fewer at a time.
        if len(written) > PIECE_BYTES:
            count = max(count // 2, 1)
        if len(held) >= PIECE_BYTES:
            yield held
            held = b""
        rows = list(islice(rest, count))
    yield held + answer.end()


class Child:
    """The socket to the daemon, the threads, the statements under way."""

    def __init__(self, path: str, link: socket.socket) -> None:
        self._path = path
        self._link = link
        self._planner = Planner()
        self._can_step_back = can_step_back()
        self._statements: dict[int, Statement] = {}
        self._waiting: queue.SimpleQueue[Statement] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._threads = 0

    def serve(self) -> None:
        """Until the daemon closes the socket."""
        frames = Frames()
        while received := self._link.recv(65_536):
            for body in frames.feed(received):
                self._take(requests.decode(body))

    def _take(self, request: Run | Credit | Stop) -> None:
        if isinstance(request, Run):
            statement = Statement(request)
            self._statements[request.number] = statement
            self._waiting.put(statement)
            if not self._idle.acquire(blocking=False) and self._threads < THREADS_MAX:
                self._threads += 1
                threading.Thread(target=self._work, daemon=True).start()
            return
        found = self._statements.get(request.number)
        if found is None:
            return  # it ended while this was under way
        if isinstance(request, Stop):
            found.stop()
        else:
            found.add_credit()

    def _work(self) -> None:
        session: Session | None = None
        while True:
            statement = self._waiting.get()
            try:
                session = session or Session(
                    self._path, self._planner, Standing(can_step_back=self._can_step_back)
                )
                session.answer(statement, self._send)
            except apsw.Error as error:
                message = f"Execution error: the database cannot be opened: {error}"
                self._send(Failed(statement.run.number, 500, message))
            finally:
                self._statements.pop(statement.run.number, None)
                self._idle.release()

    def _send(self, message: Message) -> None:
        content = frame(message)
        with self._sending:
            try:
                self._link.sendall(content)
            except OSError:
                os._exit(0)  # the daemon is gone


def main() -> None:
    """Serve the socket that is our standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the daemon closes us in order
    be_nice()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # clients' mistakes are theirs to hear
    sys.setrecursionlimit(RECURSION_MAX)
    sys.setswitchinterval(0.0005)  # a short statement beside a long one waits no longer
    threading.stack_size(THREAD_STACK_BYTES)
    link = socket.socket(fileno=os.dup(0))
    link.setblocking(True)
    Child(sys.argv[1], link).serve()
    os._exit(0)  # threads may still be inside SQLite: nothing of ours needs an orderly end


if __name__ == "__main__":
    main()
