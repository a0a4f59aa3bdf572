"""The reference model: what one event must do, written from the documents and for clarity.

Lives here: `Oracle.apply`, one `on_<event>` for each event about invocations and the procedures
they share (start, finish, notify). It keeps plain objects and scans them; nothing is indexed,
encoded or made fast, and nothing is shared with `restated.core` but events and records.
Does not: shapes (oracle_state.py), commands (oracle_commands.py), operators
(oracle_operators.py), deployments and services (`core/registry.py`), the live tail.
Sources: state-machine.md, service-protocol.md 4, admin.md 6 and 7, ingress.md 11 to 15,
design.md 3.4; named at each rule that one could doubt.
"""

from collections.abc import Callable
from typing import Any, Final

from restated.core import events as ev
from restated.core.effects import Accepted, Done, Ignored, Refused, Reply
from restated.model.errors import ErrorCode
from restated.model.records import (
    NOT_FOUND,
    WORKFLOW_ALREADY_INVOKED,
    AttemptError,
    Await,
    Failure,
    Outcome,
    RetryPolicy,
    StatePatch,
    Target,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from tests.core.oracle_commands import COMMANDS, outcome_body
from tests.core.oracle_operators import OPERATORS, on_cancel, patch_state
from tests.core.oracle_state import (
    FOREVER_MS,
    NOT_STARTED,
    OPEN,
    Expected,
    Item,
    Life,
    Pin,
    Place,
    failed,
    judge,
    names_in,
)

STALE = Ignored("")  # reasons are for humans: only the kind of reply is compared
VIOLATION = AttemptError(500, "", "RT0012")


class Oracle:
    """Every invocation and key there is, and the rules."""

    def __init__(self) -> None:
        self.lives: dict[int, Life] = {}
        self.places: dict[tuple[str, str, str], Place] = {}
        self.numbers = 0
        self.now_ms = 0
        self.out = Expected(Done())
        self.messages: list[ev.Event] = []

    def apply(self, event: ev.Event, now_ms: int) -> Expected:
        """Apply one event and the messages it causes, in order."""
        self.now_ms = now_ms
        self.messages = [event]
        self.out = Expected(Done())
        for number, message in enumerate(self.messages):  # grows meanwhile
            reply = RULES[type(message)](self, message)
            if number == 0:
                self.out.reply = reply
        return self.out

    # -- finding things

    def find(self, invocation_id: str) -> Life | None:
        """The invocation with this id; one whose retention has passed is gone (ingress.md 11)."""
        for life in self.lives.values():
            if life.id == invocation_id:
                is_over = life.expires_at_ms is not None and life.expires_at_ms <= self.now_ms
                return None if is_over else life
        return None

    def current(self, event: ev.AttemptEvent) -> Life | None:
        """The invocation that the attempt of this event still works on (B3)."""
        life = self.lives.get(event.number)
        return life if life and life.is_live and life.attempt == event.attempt else None

    def place(self, life: Life) -> Place:
        assert life.place is not None
        return self.places.setdefault(life.place, Place())

    # -- new invocations (state-machine.md 4.1)

    def on_invoke(self, event: ev.Invoke) -> Reply:
        found = self.find(event.id)
        if found is not None:
            return self.join(found, event)
        self.forget_id(event.id)
        self.numbers += 1
        life = Life(
            self.numbers, event.id, event.target, event.source, event.random_seed,
            event.completion_retention_ms, event.journal_retention_ms, event.idempotency_key,
            event.caller_id,
        )  # fmt: skip
        self.lives[life.number] = life
        header = [pb.Header(key=key, value=value) for key, value in event.headers]
        body = pb.InputCommandMessage(headers=header, value=pb.Value(content=event.payload))
        self.append(life, messages.INPUT_COMMAND, body.SerializeToString())
        life.commands = 1
        if event.caller is not None and event.caller_completion_id is not None:
            life.sinks.append((event.caller, event.caller_completion_id))
        if event.scheduled_for_ms is None:
            self.start_or_enqueue(life)
            return Accepted(event.id, True)
        life.status = "scheduled"
        life.scheduled_for_ms = min(event.scheduled_for_ms, FOREVER_MS)
        life.timers["start", 0] = life.scheduled_for_ms
        return Accepted(event.id, True, life.scheduled_for_ms)

    def join(self, life: Life, event: ev.Invoke) -> Reply:
        """The id is taken: attach to what has it (4.1 step 2)."""
        sink = (event.caller, event.caller_completion_id)
        waits = event.wants_result or event.caller_completion_id is not None
        if not same_identity(life.target, event.target):
            self.answer(sink, Failure(500, f"invocation id {event.id} is taken"))
            return Refused(ErrorCode.IDENTITY_TAKEN, event.id)
        if life.target.handler_type == "workflow" and waits:
            self.answer(sink, WORKFLOW_ALREADY_INVOKED)
            return Refused(ErrorCode.WORKFLOW_ALREADY_INVOKED, event.id)
        self.answer_or_wait(life, sink)
        at_ms = life.scheduled_for_ms if life.status in NOT_STARTED else None
        return Accepted(event.id, False, at_ms, life.result, life.expires_at_ms)

    def answer(self, sink: tuple[int | None, int | None], result: ev.Result) -> None:
        if sink[0] is not None and sink[1] is not None:
            self.messages.append(ev.Complete(sink[0], sink[1], result))

    def answer_or_wait(self, life: Life, sink: tuple[int | None, int | None]) -> None:
        if life.result is not None:
            self.answer(sink, life.result)
        elif sink[0] is not None and sink[1] is not None and sink not in life.sinks:
            life.sinks.append((sink[0], sink[1]))

    def start_or_enqueue(self, life: Life) -> None:
        if life.target.handler_type != "exclusive":
            self.start(life)
            return
        place = self.place(life)
        if place.holder is None:
            place.holder = life.number
            self.start(life)
        else:
            place.inbox.append(life.number)
            life.status = "inboxed"

    def start(self, life: Life) -> None:
        """Give it to the invoker: a new attempt that replays everything."""
        life.status = "invoked"
        life.attempt += 1
        life.started_with = len(life.journal)
        life.awaiting = None
        life.retry_at_ms = None
        life.timers = {key: at for key, at in life.timers.items() if key[0] == "sleep"}
        life.pause_requested = False
        self.out.started.append((life.number, life.attempt))

    # -- the journal

    def append(self, life: Life, type_code: int, payload: bytes) -> int:
        life.journal.append(Item(type_code, payload, self.now_ms))
        return len(life.journal) - 1

    def notify(self, life: Life, type_code: int, body: pb.NotificationMessage) -> int:
        """Append a notification and forward it to the attempt in flight."""
        payload = body.SerializeToString()
        index = self.append(life, type_code, payload)
        if life.is_live:
            self.out.pushed.append((life.number, life.attempt, index, type_code, payload))
        return index

    def complete(self, life: Life, completion_id: int, body: pb.NotificationMessage) -> bool:
        """Settle what a command promised, once (B4)."""
        awaited = life.completions.get(completion_id)
        if awaited is None or awaited.index is not None:
            return False
        code = {row.completion: row.code for row in messages.MESSAGES}[awaited.kind]  # type: ignore[index]
        body.completion_id = completion_id
        awaited.index = self.notify(life, code, body)
        awaited.failed = body.HasField("failure")
        return True

    def wake(self, life: Life) -> None:
        """Attempt again if what it awaits has happened; forget the branches that have."""
        if life.status == "suspended":
            assert life.awaiting is not None
            verdict, life.awaiting = judge(life, life.awaiting)
            if verdict is not None:
                self.start(life)

    def on_complete(self, event: ev.Complete) -> Reply:
        life = self.lives.get(event.number)
        if life is None or life.status not in OPEN:
            return STALE
        if not self.complete(life, event.completion_id, outcome_body(event.result)):
            return STALE
        self.wake(life)
        return Done()

    def on_signal(self, event: ev.Signal) -> Reply:
        """Signal 1 is the cancel row of state-machine.md 3, the others its notification row."""
        life = self.find(event.id)
        if event.name == "s1":
            on_cancel(self, ev.Cancel(event.id))
            return Done()
        if life is None or life.status not in OPEN:
            return STALE
        is_awakeable = event.name[0] == "s" and int(event.name[1:]) >= 17
        if is_awakeable and event.name in life.signals:
            return STALE  # design.md 3.4: the first settles (P1)
        self.store_signal(life, event.name, event.result)
        self.wake(life)
        return Done()

    def store_signal(self, life: Life, name: str, result: ev.Result) -> None:
        body = outcome_body(result)
        if name.startswith("s"):
            body.idx = int(name[1:])
        else:
            body.name = name[2:]
        index = self.notify(life, messages.SIGNAL_NOTIFICATION, body)
        life.signals.setdefault(name, []).append((index, failed(result)))

    # -- attempts

    def on_deployment_pinned(self, event: ev.DeploymentPinned) -> Reply:
        life = self.current(event)
        if life is None or life.pin is not None:
            return STALE
        life.pin = Pin(event.deployment_id, event.service_revision, event.protocol_version)
        return Done()

    def on_command_received(self, event: ev.CommandReceived) -> Reply:
        life = self.current(event)
        if life is None:
            return STALE
        index = self.append(life, event.type, event.payload)
        life.commands += 1
        life.failures = 0
        if event.ack:
            self.out.acknowledged.append((life.number, life.attempt, life.commands - 1))
        rule = COMMANDS.get(event.type)
        if rule is not None:
            rule(self, life, event, index)
        return Done()

    def on_run_proposed(self, event: ev.RunProposed) -> Reply:
        life = self.current(event)
        if life is None:
            return STALE
        awaited = life.completions.get(event.completion_id)
        if awaited is None or awaited.kind != "run":
            return STALE
        if not self.complete(life, event.completion_id, outcome_body(event.result)):
            return STALE
        return Done()

    def on_attempt_suspended(self, event: ev.AttemptSuspended) -> Reply:
        life = self.current(event)
        if life is None:
            return STALE
        names = [name for name in names_in(event.awaiting_on) if name != "s1"]
        awaited = {name: life.completions.get(int(name[1:])) for name in names if name[0] == "c"}
        unknown = any(found is None for found in awaited.values())
        own_runs = bool(names) and all(
            found is not None and found.kind == "run" and found.index is None
            for found in map(awaited.get, names)
        )
        life.floor = event.known_entries
        verdict, rest = judge(life, event.awaiting_on)
        if unknown or (own_runs and verdict is None):
            self.fail(life, VIOLATION, RetryPolicy(), 0)
            return Done()
        life.failures = life.budget_used = 0
        if life.pause_requested:
            self.pause(life)
        elif verdict is not None:
            self.start(life)
        else:
            self.suspend(life, rest, event.protocol_version)
        return Done()

    def suspend(self, life: Life, rest: Await, version: int) -> None:
        life.status = "suspended"
        life.awaiting = rest
        if version >= 7:
            life.events.append(("Suspended", ""))

    def on_attempt_failed(self, event: ev.AttemptFailed) -> Reply:
        life = self.current(event)
        if life is None:
            return STALE
        if event.behavior == "fail" and not life.pause_requested:
            self.finish(life, Failure(event.error.code, event.error.message))
            return Done()
        life.failures += event.counts
        if event.behavior == "pause":
            self.pause(life, event.error)
        elif event.retry_after_ms is not None and not life.pause_requested:
            self.back_off(life, event.error, event.retry_after_ms)
        else:
            self.fail(life, event.error, event.policy, event.jitter, counted=True)
        return Done()

    def fail(
        self, life: Life, error: AttemptError, policy: RetryPolicy, jitter: int, *,
        counted: bool = False,
    ) -> None:  # fmt: skip
        """A failure that the policy judges (service-protocol.md 4.5)."""
        life.failures += not counted
        if life.pause_requested:
            self.pause(life, error)
            return
        life.budget_used += 1
        if policy.attempts_max is None or life.budget_used < policy.attempts_max:
            grown = policy.interval_ms * policy.factor ** (life.budget_used - 1)
            delay_ms = int(grown if life.budget_used == 1 else min(grown, policy.interval_ms_max))
            self.back_off(life, error, delay_ms + max(3, int(0.3 * delay_ms * jitter / 1000)))
        elif policy.at_most == "pause":
            self.pause(life, error)
        else:
            self.finish(life, Failure(error.code, error.message))

    def back_off(self, life: Life, error: AttemptError, delay_ms: int) -> None:
        life.retry_at_ms = min(self.now_ms + delay_ms, FOREVER_MS)
        life.timers["retry", life.attempt] = life.retry_at_ms
        life.last_error = error
        event = ("TransientError", error.message)
        if not life.events or life.events[-1] != event:
            life.events.append(event)

    def pause(self, life: Life, error: AttemptError | None = None) -> None:
        life.status = "paused"
        life.pause_requested = False
        life.retry_at_ms = None
        life.timers = {key: at for key, at in life.timers.items() if key[0] == "sleep"}
        life.events.append(("Paused", error.message if error else ""))

    def on_attempt_yielded(self, event: ev.AttemptYielded) -> Reply:
        life = self.current(event)
        if life is None:
            return STALE
        if life.pause_requested:
            self.pause(life)
        else:
            self.start(life)
        return Done()

    def on_attempt_ended(self, event: ev.AttemptEnded) -> Reply:
        life = self.current(event)
        if life is None:
            return STALE
        if life.output is None:  # state-machine.md 10.3: a violation
            self.fail(life, VIOLATION, RetryPolicy(), 0)
        else:
            self.finish(life, life.output)
        return Done()

    # -- timers

    def on_timer_fired(self, event: ev.TimerFired) -> Reply:
        life = self.lives.get(event.number)
        at_ms = life.timers.get((event.kind, event.token)) if life else None
        if life is None or at_ms is None or at_ms > self.now_ms:
            return STALE
        del life.timers[event.kind, event.token]
        if event.kind == "start":
            self.start_or_enqueue(life)
        elif event.kind == "retry":
            self.start(life)
        else:
            self.complete(life, event.token, outcome_body(None))
            self.wake(life)
        return Done()

    def on_expired(self, event: ev.Expired) -> Reply:
        life = self.lives.get(event.number)
        if life is None or life.status != "completed":
            return STALE
        if life.expires_at_ms is not None and life.expires_at_ms <= self.now_ms:
            self.remove(life)
        elif life.journal and (life.journal_expires_at_ms or 0) <= self.now_ms:
            self.drop_journal(life)
        else:
            return STALE
        return Done()

    # -- the end (state-machine.md 4.3)

    def finish(self, life: Life, result: Outcome) -> None:
        """Answer who waits, keep what is retained, hand the key over."""
        self.settle(life, result)
        life.status = "completed"
        life.result = result
        life.timers = {}
        life.awaiting = life.retry_at_ms = None
        life.pause_requested = False
        for place in self.places.values():
            place.listeners = [one for one in place.listeners if one[1][0] != life.number]
        life.expires_at_ms = self.now_ms + life.completion_retention_ms
        life.journal_expires_at_ms = self.now_ms + life.journal_retention_ms
        if life.completion_retention_ms == 0:
            self.remove(life)
        elif life.journal_retention_ms == 0:
            self.drop_journal(life)
        if life.target.handler_type == "exclusive":
            self.release(self.place(life))

    def settle(self, life: Life, result: Outcome) -> None:
        self.out.settled.append((life.id, result))
        for sink in life.sinks:
            self.answer(sink, result)
        life.sinks = []

    def release(self, place: Place) -> None:
        """Start the next in line; state patches on the way are applied."""
        place.holder = None
        while place.inbox:
            first = place.inbox.pop(0)
            if isinstance(first, StatePatch):
                patch_state(place, first)
            else:
                place.holder = first
                self.start(self.lives[first])
                return

    def remove(self, life: Life) -> None:
        """Purge it; a workflow run takes the state and the promises of its key with it."""
        del self.lives[life.number]
        if life.target.handler_type == "workflow" and life.result is not None:
            place = self.place(life)
            place.state = {}
            place.promises = {}

    def forget_id(self, invocation_id: str) -> None:
        """Purge what has outlived its retention under this id, before the id is used again."""
        for life in list(self.lives.values()):
            if life.id == invocation_id:
                self.remove(life)

    def drop_journal(self, life: Life) -> None:
        life.journal = []
        life.commands = 0
        life.completions = {}
        life.signals = {}
        life.events = []

    def end_unstarted(self, life: Life, result: Failure) -> None:
        """Cancel or kill of what never ran: nothing of it is kept (ingress.md 15)."""
        self.settle(life, result)
        if life.status == "inboxed":
            self.place(life).inbox.remove(life.number)
        del self.lives[life.number]

    # -- attach

    def on_attach(self, event: ev.Attach) -> Reply:
        life = self.find(event.id)
        sink = (event.caller, event.completion_id)
        if life is None:
            self.answer(sink, NOT_FOUND)
        elif event.wait:
            self.answer_or_wait(life, sink)
        else:
            self.answer(sink, life.result)  # void while it runs
        return Done()


def same_identity(ours: Target, theirs: Target) -> bool:
    """Whether both name one invocation; a run is one per workflow key, whatever it is called."""
    if (ours.handler_type, theirs.handler_type) == ("workflow", "workflow"):
        return (ours.service, ours.key, ours.scope) == (theirs.service, theirs.key, theirs.scope)
    return ours == theirs


RULES: Final[dict[type[ev.Event], Callable[[Oracle, Any], Reply]]] = {
    ev.Invoke: Oracle.on_invoke,
    ev.Attach: Oracle.on_attach,
    ev.Complete: Oracle.on_complete,
    ev.Signal: Oracle.on_signal,
    ev.DeploymentPinned: Oracle.on_deployment_pinned,
    ev.CommandReceived: Oracle.on_command_received,
    ev.RunProposed: Oracle.on_run_proposed,
    ev.AttemptSuspended: Oracle.on_attempt_suspended,
    ev.AttemptFailed: Oracle.on_attempt_failed,
    ev.AttemptYielded: Oracle.on_attempt_yielded,
    ev.AttemptEnded: Oracle.on_attempt_ended,
    ev.TimerFired: Oracle.on_timer_fired,
    ev.Expired: Oracle.on_expired,
    **OPERATORS,
}
