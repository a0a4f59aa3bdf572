"""Which attempts run: starts, feeds and stops them, within permits.

Lives here: live attempts by invocation, the ready queue, the payload pool, the one sweeper that
watches every deadline, recovery.
Does not: one attempt (attempt.py), retries and pauses (core/attempts.py), connections (http2.py).
Rules: C08, C25 a place that becomes free is given on at once, whoever freed it; design 3.9: an
attempt is registered before anything else, so no push between is lost or sent twice.

Where all places are taken and others wait, those attempts that have been silent are asked to
suspend before their inactivity timeout. Most of them wait for something, and maybe for just those
that have no place: a thousand callers that hold their places would wait for their callees until
the timeout, a minute, and everybody else with them (C83). Who executes a run is left alone.
"""

import heapq
import logging
from collections.abc import Iterable, Sequence
from typing import Final, NoReturn

import trio

from restated.core.effects import AckCommand, PushNotification, StartAttempt, StopAttempt
from restated.core.events import AttemptEnded, AttemptFailed, AttemptYielded
from restated.engine.catalog import LiveCatalog
from restated.engine.writer import Writer
from restated.invoker.attempt import FOREVER, Attempt
from restated.invoker.choice import Choice, NoChoiceError, ProtocolVersionMax, choose
from restated.invoker.pool import PAYLOAD_POOL_BYTES, PayloadPool
from restated.invoker.replay import Pages, read_page, read_state
from restated.invoker.surroundings import Surroundings
from restated.invoker.transport import Transport
from restated.model.errors import AttemptCode
from restated.model.records import AttemptError, Entry, Invocation, Record, RetryPolicy
from restated.seams import Clock, Rng
from restated.store.store import Store, StoreFailedError

SWEEP_MS_MIN: Final = 5.0  # a sweep looks at every attempt: bounded to 200 a second
SWEEP_MS_MAX: Final = 1_000.0  # while there are attempts; deadlines beyond it wake nobody
STALLED_MS: Final = 100.0  # a word to a service and its answer take less
SILENT_MS: Final = 1_000.0  # while places become free: of a service that computes for so long
ASKED_MS: Final = 1_000.0  # what a service may take to suspend before another one is asked

log = logging.getLogger("restated.invoker")


class InvokerLimits(Record):
    """Bounds of all attempts together (design 3.15)."""

    attempts_max: int = 1_000
    payload_pool_bytes: int = PAYLOAD_POOL_BYTES
    eager_state_bytes: int = 32 * 1024 * 1024  # an attempt
    protocol_version_max: ProtocolVersionMax = "auto"


class LiveAttempt(Record):
    """One row of what only the invoker knows, for SQL."""

    id: str
    in_flight: bool  # False: waits for a permit
    started_at_ms: int | None = None
    deployment_id: str | None = None
    server: str | None = None


class Invoker:
    """Runs attempts. `start`, `stop`, `acknowledge`, `push` are routes of effects."""

    def __init__(  # noqa: PLR0913, PLR0917 - the rooms and seams it stands between
        self,
        writer: Writer,
        catalog: LiveCatalog,
        store: Store,
        transport: Transport,
        clock: Clock,
        rng: Rng,
        limits: InvokerLimits | None = None,
    ) -> None:
        self._around = Surroundings(writer, catalog, store, clock, rng)
        self._around.arm = self._arm
        self._around.closed = self._on_closed
        self._around.failed = self._on_failed
        self._transport = transport
        self._limits = InvokerLimits() if limits is None else limits
        self._around.pool = self._pool = PayloadPool(self._limits.payload_pool_bytes)
        self._pool.freed = self._start_waiting
        self._current: dict[int, Attempt] = {}  # number -> its newest attempt
        self._open: dict[Attempt, None] = {}  # those and older ones that still drain, in order
        self._waiting: dict[int, tuple[int, str]] = {}  # number -> (attempt, id): ready, in order
        self._asked: dict[Attempt, float] = {}  # to make room -> when
        self._given_ms = -FOREVER  # when one that had waited got a place
        self._next_deadline_ms = FOREVER
        self._sleep: trio.CancelScope | None = None
        self._asleep_until_ms = FOREVER
        self._is_starting = False
        self._is_stopping = False
        # Until all is recovered: number -> newest attempt that was given to this invoker (C16).
        self._begun: dict[int, int] | None = {}

    # -- routes

    def start(self, effect: StartAttempt) -> None:
        """Begin an attempt, now or when there is room. A waiting one is read anew then."""
        if self._is_stopping:
            return
        invocation = effect.invocation
        if self._begun is not None:
            if self._begun.get(invocation.number, 0) >= invocation.attempt:
                return  # its row was in a page of recovery before its effect came, or behind it
            self._begun[invocation.number] = invocation.attempt
        older = self._current.pop(invocation.number, None)
        if older is not None and older.phase in ("live", "aborting"):
            older.stop("abort")
        if self._waiting or not self._has_room:
            self._waiting[invocation.number] = (invocation.attempt, invocation.id)
            self._arm(self._around.clock.monotonic_ms() + STALLED_MS)
            return
        self._begin(invocation, effect.entries)

    def stop(self, effect: StopAttempt) -> None:
        """Half-close or abort an attempt; one that waits for room gives its place back."""
        waiting = self._waiting.get(effect.number)
        if waiting is not None and waiting[0] == effect.attempt:
            del self._waiting[effect.number]
            if effect.how == "half_close":
                reason = "paused before it began"
                self._around.writer.post(AttemptYielded(effect.number, effect.attempt, reason))
            return
        attempt = self._attempt(effect.number, effect.attempt)
        if attempt is not None:
            attempt.stop(effect.how)

    def acknowledge(self, effect: AckCommand) -> None:
        """Tell the SDK that a command is stored."""
        attempt = self._attempt(effect.number, effect.attempt)
        if attempt is not None:
            attempt.acknowledge(effect.command_index)

    def push(self, effect: PushNotification) -> None:
        """Tell the SDK of a stored notification; an attempt that is not live will replay it."""
        attempt = self._attempt(effect.number, effect.attempt)
        if attempt is not None:
            attempt.push(effect.index, effect.type, effect.payload)

    # -- for the daemon and SQL

    def recover(self, invocations: Iterable[Invocation]) -> None:
        """Start the attempts that a stopped daemon left, with the numbers they have.

        No older process can speak, so the stored number is still a valid fence. Those that back
        off are left to their timers, those that began in this process to themselves (C16).
        """
        for invocation in invocations:
            if invocation.status == "invoked" and invocation.next_retry_at_ms is None:
                self.start(StartAttempt(invocation))

    def recovered(self) -> None:
        """Everything that a stopped daemon left was given to `recover`."""
        self._begun = None

    def live(self) -> list[LiveAttempt]:
        """Every invocation that has an attempt or waits for room; for SQL's status column."""
        running = [
            LiveAttempt(
                attempt.invocation.id,
                in_flight=True,
                started_at_ms=attempt.started_at_ms,
                deployment_id=attempt.choice.deployment.id,
                server=attempt.server,
            )
            for attempt in self._current.values()
            if attempt.phase in ("live", "aborting")
        ]
        waiting = [LiveAttempt(id_, in_flight=False) for _, id_ in self._waiting.values()]
        return running + waiting

    @property
    def open_count(self) -> int:
        """Attempts that hold a permit, draining ones included."""
        return len(self._open)

    @property
    def waiting_count(self) -> int:
        """Attempts that wait for room."""
        return len(self._waiting)

    @property
    def held_bytes(self) -> int:
        """Payload bytes that attempts keep in memory."""
        return self._pool.held_bytes

    def abort_all(self) -> None:
        """Drop every attempt without a word to the core: recovery starts them again."""
        self._is_stopping = True
        self._waiting.clear()
        for attempt in list(self._open):
            attempt.stop("abort")

    async def run(self) -> NoReturn:
        """Watch the deadlines of all attempts, for ever."""
        while True:
            await self._sleep_until_deadline()
            now_ms = self._around.clock.monotonic_ms()
            for _ in range(2):
                # What has arrived by now is read first: the loop may have been held up.
                await trio.lowlevel.checkpoint()
            self._sweep(now_ms)

    # -- starting

    @property
    def _has_room(self) -> bool:
        return len(self._open) < self._limits.attempts_max and self._pool.left_bytes > 0

    def _begin(self, invocation: Invocation, entries: Sequence[Entry]) -> None:
        if invocation.output_index is not None:
            # The output is stored, only the End was lost: nothing is left to execute (C12).
            self._around.writer.post(AttemptEnded(invocation.number, invocation.attempt))
            return
        try:
            choice = choose(
                self._around.catalog.current, invocation, self._limits.protocol_version_max
            )
        except NoChoiceError as refusal:
            self._refuse(invocation, refusal.error)
            return
        try:
            self._open_attempt(invocation, choice, entries)
        except StoreFailedError:
            raise
        except Exception as defect:
            # The top of one attempt: its invocation backs off, the others go on (C15).
            log.exception("defect invocation_id=%s", invocation.id)
            attempt = self._current.get(invocation.number)
            message = f"internal error: {type(defect).__name__}"
            error = AttemptError(500, message, AttemptCode.INTERNAL)
            if attempt is None:
                self._refuse(invocation, error)
            elif attempt.phase == "live":
                attempt.fail(error)
                attempt.stop("abort")

    def _open_attempt(
        self, invocation: Invocation, choice: Choice, entries: Sequence[Entry]
    ) -> None:
        attempt = Attempt(self._around, invocation, choice)
        self._current[invocation.number] = attempt
        self._open[attempt] = None
        state: list[tuple[str, bytes]] | None = None
        held_bytes = 0
        is_eager = invocation.service_type != "service" and not choice.settings.lazy_state
        if entries and not is_eager:
            held_bytes = sum(len(entry.payload) for entry in entries)
        else:
            with self._around.store.snapshot() as view:
                if is_eager:
                    state, held_bytes = read_state(view, invocation, self._eager_bytes)
                if entries:
                    held_bytes += sum(len(entry.payload) for entry in entries)
                else:
                    entries, page_bytes = read_page(view, invocation.number, None)
                    held_bytes += page_bytes
        pages = Pages(self._around.store, invocation, entries)
        pages.listen(attempt.hold, attempt.abandon)
        attempt.hold(held_bytes)
        body = attempt.session.begin(state, attempt.started_at_ms, pages)
        attempt.open(self._transport, body)

    @property
    def _eager_bytes(self) -> int:
        """What an attempt's state may take now: its limit, or what the pool has left."""
        return max(0, min(self._limits.eager_state_bytes, self._pool.left_bytes))

    def _refuse(self, invocation: Invocation, error: AttemptError) -> None:
        self._log_failure(invocation, error)
        self._around.writer.post(
            AttemptFailed(
                invocation.number,
                invocation.attempt,
                error,
                self._policy(invocation),
                self._around.rng.below(1001),
                counts=False,
            )
        )

    def _policy(self, invocation: Invocation) -> RetryPolicy:
        """The policy of a handler that cannot be reached: its service's latest, if there is one."""
        service = self._around.catalog.current.services.get(invocation.service)
        if service is None:
            return self._around.catalog.defaults.retry
        handler = service.handlers.get(invocation.handler)
        return (service if handler is None else handler).settings.retry

    def _start_waiting(self) -> None:
        # A transport that fails at once frees its place inside `_begin`: the loop below sees it.
        if self._is_starting or self._is_stopping:
            return
        self._is_starting = True
        try:
            while self._waiting and self._has_room:
                self._given_ms = self._around.clock.monotonic_ms()
                number = next(iter(self._waiting))
                attempt_number, _ = self._waiting.pop(number)
                with self._around.store.snapshot() as view:
                    invocation = view.get(Invocation, number)
                if (
                    invocation is not None
                    and invocation.status == "invoked"
                    and invocation.attempt == attempt_number
                ):
                    self._begin(invocation, ())
        finally:
            self._is_starting = False

    # -- callbacks of attempts

    def _attempt(self, number: int, attempt_number: int) -> Attempt | None:
        attempt = self._current.get(number)
        if attempt is None or attempt.attempt != attempt_number:
            return None
        return attempt

    def _on_closed(self, attempt: Attempt) -> None:
        self._open.pop(attempt, None)
        self._asked.pop(attempt, None)
        if self._current.get(attempt.number) is attempt:
            del self._current[attempt.number]
        if self._waiting:
            self._start_waiting()

    def _on_failed(self, attempt: Attempt, error: AttemptError) -> None:
        self._log_failure(attempt.invocation, error)

    def _log_failure(self, invocation: Invocation, error: AttemptError) -> None:
        # Repeats are thinned out by the log itself (daemon/logs.py).
        log.warning(
            "attempt failed invocation_id=%s target=%s/%s attempt=%d error_code=%s error=%r",
            invocation.id,
            invocation.service,
            invocation.handler,
            invocation.attempt,
            error.restate_code,
            error.message[:500],
        )

    # -- deadlines

    def _arm(self, deadline_ms: float) -> None:
        if deadline_ms < self._next_deadline_ms:
            self._next_deadline_ms = deadline_ms
            # Nearly all attempts end long before: one that begins or ends must not cost a sweep.
            if self._sleep is not None and deadline_ms < self._asleep_until_ms:
                self._sleep.cancel()

    async def _sleep_until_deadline(self) -> None:
        is_woken = True  # by a deadline that is nearer than what it slept for
        while is_woken:
            now_ms = self._around.clock.monotonic_ms()
            self._asleep_until_ms = self._next_deadline_ms
            if self._asleep_until_ms != FOREVER:
                self._asleep_until_ms = min(self._asleep_until_ms, now_ms + SWEEP_MS_MAX)
            wait_ms = self._asleep_until_ms - now_ms
            if wait_ms <= SWEEP_MS_MIN:
                break
            with trio.CancelScope() as self._sleep:
                if wait_ms == FOREVER:
                    await trio.sleep_forever()
                await trio.sleep((wait_ms - SWEEP_MS_MIN) / 1000)
            is_woken = self._sleep.cancelled_caught
            self._sleep = None
        # Bounds the rate of sweeps, whatever the deadlines are.
        await trio.sleep(SWEEP_MS_MIN / 1000)

    def _sweep(self, now_ms: float) -> None:
        """Let every deadline that had passed at `now_ms`, and still has, have its effect."""
        self._next_deadline_ms = FOREVER
        for attempt in list(self._open):
            if attempt.deadline_ms <= now_ms:
                attempt.expire()
            self._next_deadline_ms = min(self._next_deadline_ms, attempt.deadline_ms)
        self._pool.sweep(now_ms)
        if self._waiting:
            self._make_room(now_ms)
            self._next_deadline_ms = min(self._next_deadline_ms, now_ms + STALLED_MS)

    def _make_room(self, now_ms: float) -> None:
        """Ask as many attempts as wait for a place to suspend, first those silent for longest."""
        if len(self._open) < self._limits.attempts_max:
            return  # it is memory that they wait for
        self._asked = {
            attempt: asked_ms
            for attempt, asked_ms in self._asked.items()
            if asked_ms > now_ms - ASKED_MS
        }
        is_stalled = self._given_ms <= now_ms - STALLED_MS
        since_ms = now_ms - (STALLED_MS if is_stalled else SILENT_MS)
        silent = [one for one in self._open if one.silent_since_ms <= since_ms]
        count = max(0, len(self._waiting) - len(self._asked))
        for attempt in heapq.nsmallest(count, silent, key=lambda one: one.silent_since_ms):
            attempt.make_room()
            self._asked[attempt] = now_ms
