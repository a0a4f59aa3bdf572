"""One attempt: an exchange with a deployment, its session, its place in the writer's queue.

Lives here: what the answer means for the attempt, posting of events in byte order, back-pressure,
the four ways in which an attempt ends, inactivity and abort timeouts of one attempt.
Does not: bytes (session.py), which attempts run (invoker.py), retries (core/attempts.py).
Rules: B3 an attempt that the core no longer knows stops; B10; C13 the failure is posted behind
everything the attempt sent; C15 a defect fails the attempt, it is never forgotten.

There is no task for an attempt: everything is a callback of the transport, of the writer's commit
or of the one sweeper that looks at deadlines.
"""

import logging
from collections import deque
from collections.abc import Iterator
from typing import Final, Literal

from restated.core.effects import Ignored, Refused, Reply
from restated.core.events import (
    AttemptEnded,
    AttemptEvent,
    AttemptFailed,
    AttemptSuspended,
    AttemptYielded,
    CommandReceived,
    DeploymentPinned,
    RunProposed,
)
from restated.invoker.answer import aborted, header_of, problem_of, retry_after_ms
from restated.invoker.checks import ProtocolViolationError
from restated.invoker.children import CHILD_COMMANDS, child_of, peer_of
from restated.invoker.choice import CONTENT_TYPES, Choice, request_for
from restated.invoker.pool import MEMORY_RETRY_MS, NO_MEMORY, STALLED, Intake
from restated.invoker.replay import is_open_run, payload_of
from restated.invoker.session import (
    Behavior,
    CommandSent,
    Failed,
    RunResult,
    Session,
    SessionEvent,
    Suspended,
    frame_header,
)
from restated.invoker.surroundings import Surroundings
from restated.invoker.transport import Exchange, Transport, TransportError
from restated.model.errors import AttemptCode
from restated.model.records import AttemptError, Invocation
from restated.protocol import service_protocol_pb2 as pb
from restated.store.store import StoreFailedError

EVENTS_UNSETTLED_MAX: Final = 64
BYTES_UNSETTLED_MAX: Final = 1024 * 1024
DRAIN_MS: Final = 5_000.0  # what a peer may take to close its side after a terminal message
FOREVER: Final = float("inf")

Phase = Literal["live", "closing", "aborting", "closed"]
"""live: messages count. closing: the outcome is posted, the peer may finish. aborting: the abort
timeout fired, the outcome is posted after the drain. closed: nothing more comes or goes.
"""

log = logging.getLogger("restated.invoker")


class Attempt:
    """Implements `Receiver`. Created, then opened once; ends by itself or by `stop`."""

    __slots__ = (
        "_around", "_at_end", "_ended", "_exchange", "_half_closed", "_held_bytes",
        "_intake", "_interval_ms", "_is_pinned", "_sizes", "_unsettled_bytes", "_withheld",
        "attempt", "choice", "deadline_ms", "invocation", "number", "phase", "server", "session",
        "started_at_ms",
    )  # fmt: skip

    def __init__(self, around: Surroundings, invocation: Invocation, choice: Choice) -> None:
        self._around = around
        self.invocation = invocation
        self.number = invocation.number
        self.attempt = invocation.attempt
        self.choice = choice
        self.session = Session(invocation, choice.protocol_version)
        self.phase: Phase = "live"
        self.server: str | None = None  # x-restate-server of the answer
        self.started_at_ms = around.clock.wall_ms()
        self.deadline_ms = FOREVER  # monotonic; the sweeper calls `expire` behind it
        self._exchange: Exchange | None = None
        self._is_pinned = invocation.deployment_id is not None
        self._half_closed = not choice.streams
        settings = choice.settings
        self._interval_ms = float(
            settings.inactivity_timeout_ms if choice.streams else settings.abort_timeout_ms
        )
        self._sizes: deque[int] = deque()  # bytes of events that are not committed yet, in order
        self._unsettled_bytes = 0
        self._withheld = 0  # bytes received whose window was not given back
        self._held_bytes = 0  # of the replay, taken from the payload pool
        self._intake = Intake(around.pool, self._on_granted, self._on_stalled)
        self._at_end: AttemptError | None = None  # the answer is over; what that means if no more
        self._ended = False  # the transport will not call any more

    def open(self, transport: Transport, body: Iterator[bytes]) -> None:
        """Begin the exchange. Registered by the caller before, as all of it may happen in here."""
        self._touch()
        self._around.arm(self.deadline_ms)
        exchange = transport.open(request_for(self.choice, self.invocation), body, self)
        self._exchange = exchange
        if self.phase == "closed":
            exchange.abort()
        elif self.phase == "closing":
            exchange.end()

    # -- from the core, by way of the invoker

    def acknowledge(self, command_index: int) -> None:
        """A command that asked for an ack is stored."""
        self._send(self.session.acknowledge(command_index))

    def push(self, index: int, type_code: int, payload: bytes | None) -> None:
        """A notification is stored; None for one that is to be read from there."""
        if payload is None and not self.session.awaits_acks:
            if index >= self.session.known_entries and self._may_send:
                assert self._exchange is not None
                self._touch()
                self._exchange.send_lazily(self._read_out(index, type_code))
            return
        payload = payload_of(self._around.store, self.number, index) if payload is None else payload
        if payload is not None:
            self._send(self.session.notify(index, type_code, payload))

    def stop(self, how: Literal["half_close", "abort"]) -> None:
        """`half_close`: ask it to suspend; `abort`: the core has forgotten it."""
        if how == "abort":
            self._close()
        elif self.phase == "live" and not self._half_closed:
            self._half_close()

    @property
    def silent_since_ms(self) -> float:
        """When the last word came or went; FOREVER for one that is busy or was asked to suspend."""
        is_busy = bool(self._sizes) or self._intake.is_waiting or self.session.executes_run
        if is_busy or self._half_closed or self.phase != "live":
            return FOREVER
        return self.deadline_ms - self._interval_ms

    def make_room(self) -> None:
        """Ask it to suspend before its time; its abort timeout begins when it would anyway."""
        left_ms = self.deadline_ms - self._around.clock.monotonic_ms()
        self._half_close(left_ms)

    def expire(self) -> None:
        """The deadline has passed (service-protocol.md 4.6)."""
        match self.phase:
            case "live" if self._sizes or self._intake.is_waiting:
                self._set_deadline(self._interval_ms)  # it is we who make it wait
            case "live" if not self._half_closed:
                self._half_close()
            case "live":
                self.phase = "aborting"
                self._set_deadline(DRAIN_MS)
            case "aborting":
                self._post_abort()
                self._close()
            case "closing":
                self._close()
            case "closed":
                self.deadline_ms = FOREVER

    def hold(self, payload_bytes: int) -> None:
        """Replay bytes kept in memory now; 0 when the replay is done."""
        if self.phase == "closed":
            return
        change = payload_bytes - self._held_bytes
        self._held_bytes = payload_bytes
        self._touch()
        self._around.pool.replay(change)

    def abandon(self) -> None:
        """The journal in the store is shorter than the invocation's row: begin anew (C14)."""
        if self.phase == "live":
            log.warning("attempt abandoned invocation_id=%s reason=short_journal", self._id)
            self._finish(AttemptYielded(self.number, self.attempt, "the journal was cut short"))

    # -- Receiver

    def on_response(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        """The head of the answer: another status or content type fails the attempt."""
        if self.phase != "live":
            return
        self.server = header_of(headers, "x-restate-server")
        version = self.choice.protocol_version
        error = problem_of(status, headers, CONTENT_TYPES[version], version)
        if error is None:
            self._touch()
            return
        delay_ms = retry_after_ms(status, headers, self._around.clock.wall_ms())
        self.fail(error, retry_after_ms=delay_ms)

    def on_data(self, data: bytes) -> None:
        """Bytes of the answer; their window is given back as long as the writer keeps up."""
        if self.phase != "live":
            if self._exchange is not None:
                self._exchange.consumed(len(data))
            return
        self._touch()
        self._withheld += len(data)
        self.session.receive(data)
        self._pump()

    def on_end(self) -> None:
        """The answer is complete; without a terminal message before it that is a failure."""
        self._on_over(AttemptError(500, "unknown", AttemptCode.HANDLER))

    def on_failed(self, error: TransportError) -> None:
        """Connecting, sending or receiving failed."""
        self._on_over(AttemptError(500, str(error), error.code))

    # -- events, in byte order

    def _pump(self) -> None:
        """Post what was received, up to the bound; the rest waits for commits."""
        try:
            self._pump_events()
        except ProtocolViolationError as violation:
            self.fail(violation.error, behavior=violation.behavior)
        except StoreFailedError:
            raise
        except Exception as defect:
            # The top of one attempt: a defect here must not take down its connection (C15).
            log.exception("defect invocation_id=%s attempt=%d", self._id, self.attempt)
            message = f"internal error: {type(defect).__name__}"
            self.fail(AttemptError(500, message, AttemptCode.INTERNAL))

    def _pump_events(self) -> None:
        session = self.session
        while self.phase == "live":
            if self._is_behind:
                return
            event = session.next_event()
            if event is None:
                break
            self._on_event(event)
        if self.phase == "live" and self._at_end is None and not self._may_receive():
            return
        if self._withheld and not self._ended and self._exchange is not None:
            self._exchange.consumed(self._withheld)
        self._withheld = 0
        if self._at_end is not None and self.phase == "live":
            self.fail(self._at_end)

    def _may_receive(self) -> bool:
        """Whether the rest of the message that is arriving has its place in the payload pool."""
        verdict, kept_bytes = self._intake.judge(self.session.announced_bytes, self._withheld)
        if verdict == "waits" and self._exchange is not None:
            self._exchange.keep(kept_bytes)
        elif verdict == "refused":
            self._begin_anew(NO_MEMORY)
        return verdict == "granted"

    def _begin_anew(self, error: AttemptError) -> None:
        delay_ms = MEMORY_RETRY_MS + self._around.rng.below(MEMORY_RETRY_MS)
        self.fail(error, retry_after_ms=delay_ms, counts=False)

    def _on_granted(self) -> None:
        self._touch()
        self._pump()

    def _on_stalled(self) -> None:
        if self.phase == "live" and not self._sizes:  # else it is we who make it wait
            self._begin_anew(STALLED)

    @property
    def _is_behind(self) -> bool:
        return (
            len(self._sizes) >= EVENTS_UNSETTLED_MAX or self._unsettled_bytes >= BYTES_UNSETTLED_MAX
        )

    def _on_event(self, event: SessionEvent) -> None:
        if isinstance(event, CommandSent):
            self._on_command(event)
        elif isinstance(event, RunResult):
            self._on_run_result(event)
        elif isinstance(event, Suspended):
            self._finish(
                AttemptSuspended(
                    self.number, self.attempt, event.awaiting_on, self.session.known_entries,
                    self.choice.settings.retry, self._around.rng.below(1001),
                    self.choice.protocol_version,
                )
            )  # fmt: skip
        elif isinstance(event, Failed):
            self.fail(event.error, behavior=event.behavior, retry_after_ms=event.retry_after_ms)
        else:
            self._finish(AttemptEnded(self.number, self.attempt))

    def _on_command(self, command: CommandSent) -> None:
        payload = command.payload
        child = None
        body = command.body
        if isinstance(body, pb.OutputCommandMessage):
            body = pb.OutputCommandMessage(name=body.name)  # what it says is in the payload (M3)
        if command.type in CHILD_COMMANDS:
            around = self._around
            child = child_of(
                around.catalog.current,
                self.invocation,
                command,
                around.clock.wall_ms(),
                around.rng.bytes,
            )
            payload = command.body.SerializeToString()  # canonical, as it will be replayed
        event = CommandReceived(
            self.number,
            self.attempt,
            command.type,
            payload,
            body,
            command.ack,
            child,
            peer_of(command),
        )
        self._post_entry(event, len(payload))

    def _on_run_result(self, run: RunResult) -> None:
        completion_id, store = run.completion_id, self._around.store
        if not run.is_declared and not is_open_run(store, self.number, completion_id):
            raise ProtocolViolationError(
                f"received a run completion for id {completion_id}, which is not an open run"
            )
        event = RunProposed(self.number, self.attempt, completion_id, run.result)
        self._post_entry(event, len(run.result) if isinstance(run.result, bytes) else 0)

    def _post_entry(self, event: CommandReceived | RunProposed, size: int) -> None:
        if not self._is_pinned:
            self._is_pinned = True
            choice = self.choice
            pinned = DeploymentPinned(
                self.number,
                self.attempt,
                choice.deployment.id,
                choice.service.revision,
                choice.protocol_version,
            )
            self._post(pinned, 0)
        self._post(event, size)

    def _post(self, event: AttemptEvent, size: int) -> None:
        self._sizes.append(size)
        self._unsettled_bytes += size
        self._around.writer.post(event, self._on_settled)

    def _on_settled(self, reply: Reply | None) -> None:
        self._unsettled_bytes -= self._sizes.popleft()
        if self.phase != "live":
            return
        self._touch()
        if reply is None:
            message = "internal error: a command could not be stored; see the server's log"
            self.fail(AttemptError(500, message, AttemptCode.INTERNAL))
        elif isinstance(reply, Refused):
            message = reply.code.message(reply.subject)
            self.fail(AttemptError(500, message, AttemptCode.INTERNAL))
        elif isinstance(reply, Ignored) and reply.reason == "stale attempt":
            self._close()
        elif self._withheld or self._at_end is not None:
            self._pump()

    # -- the end

    def fail(
        self,
        error: AttemptError,
        *,
        behavior: Behavior = "retry",
        retry_after_ms: int | None = None,
        counts: bool = True,
    ) -> None:
        """Post the failure at once; what the peer still says does not count."""
        around = self._around
        around.failed(self, error)
        self._finish(
            AttemptFailed(
                self.number,
                self.attempt,
                error,
                self.choice.settings.retry,
                around.rng.below(1001),
                behavior,
                retry_after_ms,
                counts,
                started_at_ms=self.started_at_ms,
            )
        )

    def _finish(self, event: AttemptEvent) -> None:
        """Post the outcome, half-close, let the peer finish."""
        self.phase = "closing"
        self.session.close()
        self._intake.release()
        self._post_outcome(event)
        if self._exchange is not None and not self._half_closed:
            self._half_closed = True
            self._exchange.end()
        if self._ended:
            self._close()
            return
        if self._withheld and self._exchange is not None:
            self._exchange.consumed(self._withheld)
            self._withheld = 0
        self._set_deadline(DRAIN_MS)

    def _post_outcome(self, event: AttemptEvent) -> None:
        self._around.writer.post(event, self._on_outcome)

    def _on_outcome(self, reply: Reply | None) -> None:
        if reply is not None:
            return
        # A defect dropped the outcome; without one the invocation would be "running" for ever.
        log.error("outcome dropped invocation_id=%s attempt=%d", self._id, self.attempt)
        message = "internal error: the end of the attempt could not be stored"
        self._around.writer.post(
            AttemptFailed(
                self.number,
                self.attempt,
                AttemptError(500, message, AttemptCode.INTERNAL),
                self.choice.settings.retry,
                self._around.rng.below(1001),
                started_at_ms=self.started_at_ms,
            )
        )

    def _post_abort(self) -> None:
        self.fail(aborted(self.choice.settings.abort_timeout_ms))

    def _on_over(self, error: AttemptError) -> None:
        self._ended = True
        match self.phase:
            case "live":
                self._at_end = error
                self._pump()
            case "aborting":
                self._post_abort()
            case "closing":
                self._close()
            case "closed":
                pass

    def _close(self) -> None:
        """Nothing more comes or goes. Idempotent."""
        if self.phase == "closed":
            return
        self.phase = "closed"
        self.deadline_ms = FOREVER
        if self._exchange is not None and not (self._ended and self._half_closed):
            self._exchange.abort()
        if self._held_bytes:
            self._around.pool.replay(-self._held_bytes)
            self._held_bytes = 0
        self._intake.release()
        self._around.closed(self)

    # -- to the service, and time

    def _send(self, data: bytes) -> None:
        if data and self._may_send:
            assert self._exchange is not None
            self._touch()
            self._exchange.send(data)

    @property
    def _may_send(self) -> bool:
        return self.phase == "live" and not self._half_closed and self._exchange is not None

    def _read_out(self, index: int, type_code: int) -> Iterator[bytes]:
        """A large notification, read when its turn comes: a peer that stalls pins one (M4)."""
        payload = payload_of(self._around.store, self.number, index)
        if payload is not None:
            self.hold(len(payload))
            yield frame_header(type_code, len(payload))
            yield payload
            self.hold(0)

    def _half_close(self, left_ms: float = 0.0) -> None:
        self._half_closed = True
        self._interval_ms = float(self.choice.settings.abort_timeout_ms)
        self._set_deadline(left_ms + self._interval_ms)
        if self._exchange is not None:
            self._exchange.end()

    def _touch(self) -> None:
        # Later only, so the sweeper need not know.
        if self.phase == "live":
            self.deadline_ms = self._around.clock.monotonic_ms() + self._interval_ms

    def _set_deadline(self, after_ms: float) -> None:
        self.deadline_ms = self._around.clock.monotonic_ms() + after_ms
        self._around.arm(self.deadline_ms)

    @property
    def _id(self) -> str:
        return self.invocation.id
