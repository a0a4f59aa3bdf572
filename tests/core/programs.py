"""Random programs against the core and the oracle at the same time.

Lives here: `Program`, a Hypothesis state machine: one rule for each kind of event; after every
event both sides are compared and the invariants of the rows are checked.
Does not: commands (drafts.py), profiles and the rule of minimum success (test_against_oracle.py).
"""

from collections import Counter
from typing import Any, ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from restated.core import events as ev
from restated.core.effects import ArmTimer, Ignored, Refused, Reply
from restated.model.records import AttemptError, Await, Failure, Outcome, RetryPolicy, StatePatch
from restated.protocol import messages
from tests.core import drafts, picture
from tests.core.invariants import violations
from tests.core.oracle import Oracle
from tests.core.oracle_operators import version_of
from tests.core.oracle_state import Life, Place
from tests.core.world import StepWorld

MOSTLY_NOT = st.sampled_from([False] * 9 + [True])
OUTCOMES = st.one_of(
    st.sampled_from([b"", b"1", b"two"]),
    st.sampled_from([Failure(500, "no"), Failure(418, "teapot", (("a", "1"),))]),
)
POLICIES = [
    RetryPolicy(),
    RetryPolicy(interval_ms=100, factor=2.0, interval_ms_max=300, attempts_max=3),
    RetryPolicy(interval_ms=100, attempts_max=2, at_most="kill"),
    RetryPolicy(interval_ms=700, interval_ms_max=200),
    RetryPolicy(interval_ms=0, attempts_max=None),
    RetryPolicy(attempts_max=1),
]
COMBINATORS = ["unknown", "first_completed", "all_completed", "first_succeeded", "all_succeeded"]


class Program(RuleBasedStateMachine):
    """One random history of one server."""

    kinds: ClassVar[Counter[str]] = Counter()  # what succeeded, over all programs of this process

    def __init__(self) -> None:
        super().__init__()
        self.world = StepWorld()
        self.oracle = Oracle()
        self.ids = 0
        self.seen: list[str] = [drafts.fresh_id(0)]  # ids that operators name; the first never is

    # -- one event on both sides

    def apply(self, event: ev.Event, kind: str | None = None) -> Reply:
        """Step the core and the oracle, compare, check the rows."""
        note(f"at {self.world.now_ms}: {event}")
        live_before = {
            (life.number, life.attempt) for life in self.oracle.lives.values() if life.is_live
        }
        deadline_before = self.world.store.next_deadline_ms()
        reply = self.world.apply(event)
        expected = self.oracle.apply(event, self.world.now_ms)
        problems = picture.difference(
            picture.of_store(self.world.store), picture.of_oracle(self.oracle)
        )
        problems += picture.difference(
            picture.effects_of(self.world.effects, self.oracle, live_before),
            picture.effects_expected(expected, self.oracle, live_before),
        )
        problems += compare_replies(reply, expected.reply)
        problems += self.unarmed(deadline_before)
        problems += violations(self.world.store)
        assert not problems, "\n".join([f"after {event}", *problems])
        if not isinstance(reply, Ignored | Refused):
            self.kinds[kind or type(event).__name__] += 1
        elif isinstance(reply, Refused):
            self.kinds[f"refused {reply.code.name}"] += 1
        else:
            self.kinds[f"ignored {type(event).__name__}"] += 1
        return reply

    def unarmed(self, deadline_before: int | None) -> list[str]:
        """T3: the timers must learn of an earlier deadline (C07)."""
        deadline = self.world.store.next_deadline_ms()
        if deadline is None or (deadline_before is not None and deadline >= deadline_before):
            return []
        armed = [effect.at_ms for effect in self.world.effects if isinstance(effect, ArmTimer)]
        return [] if deadline in armed else [f"deadline {deadline} not armed, only {armed}"]

    # -- picking

    def having(self, *statuses: str) -> list[Life]:
        """Invocations in one of these statuses, newest first."""
        lives = self.oracle.lives.values()
        return [life for life in reversed(lives) if life.status in statuses]

    def is_live(self) -> bool:
        """Whether any attempt is in flight."""
        return any(life.is_live for life in self.oracle.lives.values())

    def has_any(self) -> bool:
        """Whether there is any invocation."""
        return bool(self.oracle.lives)

    def pick_live(self, data: st.DataObject) -> tuple[Life, int]:
        """An invocation with an attempt in flight; now and then an attempt that is over (B3)."""
        numbers = [life.number for life in self.having("invoked") if life.is_live]
        if data.draw(st.sampled_from([False] * 5 + [True])):
            life = self.oracle.lives[data.draw(st.sampled_from([*self.oracle.lives]))]
            return life, life.attempt - 1 if life.is_live else life.attempt
        life = self.oracle.lives[data.draw(st.sampled_from(numbers))]
        return life, life.attempt

    def pick_id(self, data: st.DataObject) -> str:
        """Mostly of something that has not ended; else any id that was ever used, or never."""
        open_ids = [life.id for life in self.having("invoked", "suspended", "paused", "inboxed")]
        if not open_ids or data.draw(MOSTLY_NOT):
            return data.draw(st.sampled_from(self.seen[::-1]))
        return data.draw(st.sampled_from(open_ids))

    def pick_completed(self, data: st.DataObject) -> str:
        """Mostly of something that has ended, is retained and can be restarted."""
        ids = [life.id for life in self.having("completed") if life.journal]
        if not ids or data.draw(MOSTLY_NOT):
            return data.draw(st.sampled_from(self.seen[::-1]))
        return data.draw(st.sampled_from(ids))

    def new_id(self, target: Any, idempotency_key: str | None) -> str:
        """Derived ids collide on purpose, the others never do."""
        if target.handler_type == "workflow" or idempotency_key is not None:
            found = drafts.derived_id(target, idempotency_key)
        else:
            self.ids += 1
            found = drafts.fresh_id(self.ids)
        if found not in self.seen:
            self.seen.append(found)
        return found

    def draw_invoke(self, data: st.DataObject, source: str = "ingress", **more: Any) -> ev.Invoke:
        """A request for any target."""
        target = data.draw(st.sampled_from(drafts.TARGETS))
        key = data.draw(st.sampled_from([None, None, "i1", "i2"]))
        if target.handler_type == "workflow":
            key = None
        delays = [None] * 12 + [-5, 0, 100, 1_000, 2**64]
        delay = data.draw(st.sampled_from(delays))
        completion, journal = data.draw(st.sampled_from(drafts.RETENTIONS))
        if "caller_completion_id" in more:
            delay = None
        return ev.Invoke(
            self.new_id(target, key), target, data.draw(st.sampled_from([b"", b"x"])),
            (("a", "1"), ("a", "2")), source, self.ids, completion, journal,  # type: ignore[arg-type]
            idempotency_key=key,
            scheduled_for_ms=None if delay is None else self.world.now_ms + delay,
            **more,
        )  # fmt: skip

    # -- requests

    @initialize(data=st.data())
    def first(self, data: st.DataObject) -> None:
        """A program without any invocation is a waste."""
        self.invoke(data)

    @rule(data=st.data())
    def invoke(self, data: st.DataObject) -> None:
        event = self.draw_invoke(data, wants_result=data.draw(st.booleans()))
        kind = "Invoke delayed" if event.scheduled_for_ms is not None else "Invoke"
        is_known = any(life.id == event.id for life in self.oracle.lives.values())
        self.apply(event, "Invoke known" if is_known else kind)

    @rule(data=st.data())
    def invoke_with_the_id_of_another_target(self, data: st.DataObject) -> None:
        event = self.draw_invoke(data)
        taken = ev.Invoke(
            self.pick_id(data), event.target, b"", (), "ingress", 1, drafts.DAY_MS, drafts.DAY_MS
        )
        if any(life.id == taken.id for life in self.oracle.lives.values()):
            self.apply(taken, "Invoke known")

    @rule(data=st.data(), name=st.sampled_from(["s1", "s2", "s17", "s18", "n:a", "n:b"]))
    def signal(self, data: st.DataObject, name: str) -> None:
        result = None if name == "s1" else data.draw(st.one_of(st.none(), OUTCOMES))
        self.apply(ev.Signal(self.pick_id(data), name, result), f"Signal {name}")

    # -- attempts

    @precondition(is_live)
    @rule(data=st.data(), version=st.sampled_from([5, 6, 6, 7]))
    def pin(self, data: st.DataObject, version: int) -> None:
        life, attempt = self.pick_live(data)
        if life.pin is None or attempt != life.attempt:  # attempts pin what is not pinned
            self.apply(ev.DeploymentPinned(life.number, attempt, "dp_1", 1, version))

    @precondition(is_live)
    @rule(data=st.data())
    def command(self, data: st.DataObject) -> None:
        """Any command that the service of the invocation may issue."""
        life, attempt = self.pick_live(data)
        if life.pin is None and data.draw(st.booleans()):
            version = data.draw(st.sampled_from([6, 7, 5]))
            self.apply(ev.DeploymentPinned(life.number, life.attempt, "dp_1", 1, version))
        draft = data.draw(st.sampled_from(drafts.allowed(life.target)))
        event = drafts.command(self, data, life, attempt, draft)
        self.apply(event, messages.BY_CODE[event.type].full_name)

    @rule(data=st.data(), count=st.integers(2, 8))
    def commands(self, data: st.DataObject, count: int) -> None:
        """Several in a row: programs get deeper."""
        if not self.is_live():
            self.invoke(data)
        for _ in range(count):
            if self.is_live():
                self.command(data)

    def has_open_run(self) -> bool:
        """Whether an attempt in flight executes something."""
        return any(
            one.kind == "run" and one.index is None
            for life in self.oracle.lives.values()
            if life.is_live
            for one in life.completions.values()
        )

    @precondition(has_open_run)
    @rule(data=st.data(), outcome=OUTCOMES)
    def propose(self, data: st.DataObject, outcome: Outcome) -> None:
        open_runs = [
            (life.number, completion_id)
            for life in self.having("invoked")
            if life.is_live
            for completion_id, one in life.completions.items()
            if one.kind == "run" and one.index is None
        ]
        number, completion_id = data.draw(st.sampled_from(open_runs))
        attempt = self.oracle.lives[number].attempt
        if data.draw(st.sampled_from([False] * 4 + [True])):
            completion_id, attempt = data.draw(
                st.sampled_from([(1, attempt), (99, attempt), (completion_id, attempt - 1)])
            )
        self.apply(ev.RunProposed(number, attempt, completion_id, outcome))

    @precondition(is_live)
    @rule(data=st.data(), replayed=st.booleans())
    def suspend(self, data: st.DataObject, replayed: bool) -> None:
        life, attempt = self.pick_live(data)
        known = life.started_with
        if not replayed:
            newest = max(life.started_with, len(life.journal))
            known = data.draw(st.integers(life.started_with, newest))
        tree = data.draw(self.trees(life))
        version = data.draw(st.sampled_from([6, 7])) if life.pin is None else life.pin.version
        event = ev.AttemptSuspended(life.number, attempt, tree, known, protocol_version=version)
        before = life.status
        self.apply(event, "AttemptSuspended")
        if life.status != before:
            self.kinds[f"AttemptSuspended, {life.status}"] += 1

    def trees(self, life: Life) -> st.SearchStrategy[Await]:
        """Flat lists as v5 and v6 send them, cancellable awaits as SDKs do, any tree of v7."""
        is_open = [f"c{key}" for key, one in life.completions.items() if one.index is None]
        is_settled = [f"c{key}" for key, one in life.completions.items() if one.index is not None]
        often = [*is_open, *is_open, *is_open, *is_settled, "n:a", "n:b", "s17", "s18"]
        names = st.sampled_from([*often, *often, "s1", "c99"])
        flat = st.lists(names, min_size=1, max_size=4, unique=True)
        leaves = st.builds(Await, st.sampled_from(COMBINATORS), flat.map(tuple))
        deep = st.recursive(
            leaves,
            lambda inner: st.builds(
                Await,
                st.sampled_from(COMBINATORS),
                st.lists(names, max_size=2, unique=True).map(tuple),
                st.lists(inner, min_size=1, max_size=3).map(tuple),
            ),
            max_leaves=4,
        )
        cancellable = st.builds(
            lambda inner: Await("first_completed", ("s1",), (inner,)), st.one_of(leaves, deep)
        )
        plain = st.lists(names, min_size=1, max_size=3, unique=True).map(
            lambda on: Await("first_completed", tuple(on))
        )
        if len(is_settled) < 2 or not is_open:
            return st.one_of(plain, cancellable, deep)
        settled = st.lists(st.sampled_from(is_settled), min_size=2, max_size=3, unique=True)
        decided = st.builds(
            lambda outer, inner, names, still: Await(
                outer, (still,), (Await(inner, tuple(names)),)
            ),
            st.sampled_from(COMBINATORS[2:]),
            st.sampled_from(COMBINATORS[1:]),
            settled,
            st.sampled_from(is_open),
        )
        return st.one_of(plain, cancellable, deep, decided)

    @precondition(is_live)
    @rule(
        data=st.data(), policy=st.sampled_from(POLICIES), jitter=st.sampled_from([0, 500, 1000]),
        behavior=st.sampled_from(["retry"] * 5 + ["pause", "fail"]),
        after=st.sampled_from([None] * 4 + [0, 70]), counts=st.booleans(),
        message=st.sampled_from(["boom", "bang"]),
    )  # fmt: skip
    def fail(self, data: st.DataObject, message: str, **more: Any) -> None:
        life, attempt = self.pick_live(data)
        error = AttemptError(500, message, "RT0007")
        event = ev.AttemptFailed(
            life.number, attempt, error, more["policy"], more["jitter"], more["behavior"],
            more["after"], more["counts"],
        )  # fmt: skip
        self.apply(event, f"AttemptFailed {more['behavior']}")
        self.kinds[f"AttemptFailed, {life.status}"] += 1

    @precondition(is_live)
    @rule(data=st.data(), outcome=OUTCOMES, with_output=st.booleans())
    def end(self, data: st.DataObject, outcome: Outcome, with_output: bool) -> None:
        life, attempt = self.pick_live(data)
        if with_output or life.output is None:  # the session refuses an End without Output
            self.apply(drafts.output(life, attempt, outcome))
        self.apply(ev.AttemptEnded(life.number, attempt))
        self.kinds[f"AttemptEnded, {life.status}"] += 1

    @precondition(is_live)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        life, attempt = self.pick_live(data)
        self.apply(ev.AttemptYielded(life.number, attempt, "no memory"))

    # -- time

    @rule(milliseconds=st.sampled_from([0, 1, 99, 100, 1_000, 70_000]))
    def wait(self, milliseconds: int) -> None:
        """Time passes and everything that is due happens, in order."""
        self.world.now_ms += milliseconds
        while due := self.world.store.due(self.world.now_ms, 1):
            self.fire(due[0].number, due[0].kind, due[0].token)

    @rule(milliseconds=st.sampled_from([100, 1_000, drafts.DAY_MS]))
    def oversleep(self, milliseconds: int) -> None:
        """Time passes and nobody looks: other events come before the timers."""
        self.world.now_ms += milliseconds

    @rule(data=st.data())
    def fire_too_early_or_too_late(self, data: st.DataObject) -> None:
        """C10: the timer of something that was removed, or not due."""
        number = data.draw(st.sampled_from([*self.oracle.lives, 99]))
        kind = data.draw(st.sampled_from(["start", "sleep", "retry"]))
        self.fire(number, kind, data.draw(st.integers(0, 3)))

    def fire(self, number: int, kind: str, token: int) -> None:
        self.apply(ev.TimerFired(number, kind, token), f"TimerFired {kind}")

    @precondition(has_any)
    @rule(data=st.data(), passed=st.booleans())
    def expire(self, data: st.DataObject, passed: bool) -> None:
        """What the cleaner found, or something that it would not find."""
        found = self.world.store.expired(self.world.now_ms, 5) if passed else []
        if not found:
            found = [data.draw(st.sampled_from([*self.oracle.lives, 99]))]
        for number in found:
            self.apply(ev.Expired(number))

    # -- operators

    @precondition(has_any)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.apply(ev.Cancel(self.pick_id(data)))

    @precondition(has_any)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        self.apply(ev.Kill(self.pick_id(data)))

    @precondition(has_any)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        self.apply(ev.Pause(self.pick_id(data)))

    @precondition(has_any)
    @rule(data=st.data(), deployment=st.sampled_from([None, None, "dp_2"]))
    def resume(self, data: st.DataObject, deployment: str | None) -> None:
        found = self.pick_id(data)
        self.apply(ev.Resume(found, deployment, deployment and 2))  # type: ignore[arg-type]

    @precondition(has_any)
    @rule(data=st.data(), deployment=st.sampled_from([None, "dp_2"]), whole=st.booleans())
    def restart(self, data: st.DataObject, deployment: str | None, whole: bool) -> None:
        """From the input, or from anywhere in the journal and a little beyond its end."""
        old = self.pick_completed(data)
        able = [
            life
            for life in self.having("completed")
            if life.target.service_type != "workflow" and life.pin and life.pin.version >= 6
        ]
        length = 8
        if able and not data.draw(MOSTLY_NOT):
            number = data.draw(st.sampled_from([life.number for life in able]))
            old, length = self.oracle.lives[number].id, len(self.oracle.lives[number].journal)
        from_index = 0 if whole else data.draw(st.integers(0, length))
        self.ids += 1
        new = drafts.fresh_id(self.ids)
        event = ev.RestartAsNew(old, new, self.ids, from_index, deployment, deployment and 2)  # type: ignore[arg-type]
        reply = self.apply(event, "RestartAsNew" if from_index == 0 else "RestartAsNew with prefix")
        if not isinstance(reply, Refused):
            self.seen.append(new)

    @rule(data=st.data())
    def finish_and_restart(self, data: st.DataObject) -> None:
        """Chance alone rarely finishes something pinned that has a prefix worth keeping."""
        numbers = [
            life.number
            for life in self.having("invoked")
            if life.is_live and life.target.service_type != "workflow"
        ]
        if not numbers:
            return
        life = self.oracle.lives[data.draw(st.sampled_from(numbers))]
        if life.pin is None:
            self.apply(ev.DeploymentPinned(life.number, life.attempt, "dp_1", 1, 6))
        for completion_id, one in list(life.completions.items()):
            if one.kind == "run" and one.index is None:
                self.apply(ev.RunProposed(life.number, life.attempt, completion_id, b"1"))
                self.apply(ev.RunProposed(life.number, life.attempt, completion_id, b"2"))
        self.apply(drafts.output(life, life.attempt, b"1"))
        self.apply(ev.AttemptEnded(life.number, life.attempt))
        self.restart(data, deployment=None, whole=False)

    @precondition(has_any)
    @rule(data=st.data(), journal=st.booleans())
    def purge(self, data: st.DataObject, journal: bool) -> None:
        found = self.pick_completed(data)
        self.apply(ev.PurgeJournal(found) if journal else ev.Purge(found))

    @rule(
        place=st.sampled_from([("Counter", "a"), ("Counter", "b"), ("Flow", "w")]),
        values=st.sampled_from([(), (("x", b"9"),), (("x", b""), ("z", b"1"))]),
        version=st.sampled_from(["any", "right", "wrong"]),
    )
    def patch(
        self, place: tuple[str, str], values: tuple[tuple[str, bytes], ...], version: str
    ) -> None:
        found = self.oracle.places.get(("", *place), Place())
        expected = {"any": None, "right": version_of(found.state), "wrong": "wrong"}[version]
        self.apply(ev.PatchState(*place, StatePatch(values, expected)))


def compare_replies(ours: Reply, theirs: Reply) -> list[str]:
    """Replies differ; the words of `Ignored` are for humans."""
    if isinstance(ours, Ignored) and isinstance(theirs, Ignored):
        return []
    return [] if ours == theirs else [f"reply: core {ours}, oracle {theirs}"]
