"""Both sides of the comparison in one form: nested dictionaries that a reader can diff.

Lives here: `of_store` and `of_oracle` (everything visible), `effects_of` and `effects_expected`
(what one event causes outside).
Does not: decide what is right (oracle.py), structure that holds by itself (invariants.py).
"""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from restated.core.awaits import restored
from restated.core.effects import (
    AckCommand,
    Done,
    Effect,
    PushNotification,
    Settled,
    StartAttempt,
    StopAttempt,
)
from restated.model.records import (
    Completion,
    Entry,
    Failure,
    InboxItem,
    Invocation,
    JournalEvent,
    Lock,
    Promise,
    PromiseWaiter,
    Result,
    SignalRow,
    StatePatch,
    StateValue,
    Timer,
    Waiter,
)
from tests.core.oracle import Oracle
from tests.core.oracle_state import Expected, Life, Place
from tests.sim.memory_store import MemoryStore

Picture = dict[str, Any]


# -- the core's rows


def of_store(store: MemoryStore) -> Picture:
    """Everything that the rows say."""
    lives = {f"{row.number} {row.id}": _row(store, row) for row in store.scan(Invocation)}
    return {"invocations": lives, "keys": _keys(store)}


def _row(store: MemoryStore, row: Invocation) -> Picture:
    number = row.number
    result = store.get(Result, number)
    picture: Picture = {
        "target": row.target,
        "source": row.source,
        "seed": row.random_seed,
        "idempotency key": row.idempotency_key,
        "retention": (row.completion_retention_ms, row.journal_retention_ms),
        "scheduled for": row.scheduled_for_ms,
        "restarted from": row.restarted_from,
        "status": row.status,
        "attempt": row.attempt,
        "commands": row.command_count,
        "length": row.journal_length,
        "journal": [
            (item.type, item.payload, item.appended_at_ms) for item in store.scan(Entry, number)
        ],
        "completions": {
            one.completion_id: (
                one.kind, one.command_index, one.entry_index, one.polarity, one.callee,
            )
            for one in store.scan(Completion, number)
        },
        "signals": {
            one.name: (one.entry_index, one.polarity) for one in store.scan(SignalRow, number)
        },
        "timers": {(one.kind, one.token): one.at_ms for one in store.scan(Timer, number)},
        "waiters": sorted((one.caller, one.completion_id) for one in store.scan(Waiter, number)),
        "events": [
            (one.kind, _message(one.payload)) for one in store.scan(JournalEvent, number)
        ],
        "result": None if result is None else result.outcome,
    }  # fmt: skip
    if row.status == "completed":
        ends = (row.expires_at_ms, row.journal_expires_at_ms)
        kept = [at for at in ends if at is not None]
        picture["expires"] = row.expires_at_ms
        picture["journal expires"] = min(kept) if picture["journal"] else None
        return picture
    pin = (row.deployment_id, row.service_revision, row.protocol_version)
    picture["pin"] = None if row.deployment_id is None else pin
    picture["pause requested"] = bool(row.pause_requested)
    picture["retry at"] = row.next_retry_at_ms
    picture["failures"] = (row.failures_since_command, row.policy_attempts)
    if row.status == "suspended":
        assert row.awaiting_on is not None
        picture["awaiting"] = (restored(row.awaiting_on), row.awaiting_floor)
    return picture


def _message(payload: bytes) -> str:
    """The error in the JSON of a journal event; refused suspensions are all alike."""
    content = json.loads(payload)
    error = content.get("last_failure", content)
    message = str(error.get("error_message", ""))
    return "" if message.startswith("suspended on") else message


def _keys(store: MemoryStore) -> dict[tuple[str, str, str], Picture]:
    keys: dict[tuple[str, str, str], Picture] = {}

    def at(row: Any) -> Picture:
        return keys.setdefault((row.scope, row.service, row.key), _nothing())

    for lock in store.scan(Lock):
        at(lock)["holder"] = lock.holder
    for item in store.scan(InboxItem):
        patch = item.patch and msgspec.msgpack.decode(item.patch, type=StatePatch)
        at(item)["inbox"].append(item.number if item.number is not None else patch)
    for value in store.scan(StateValue):
        at(value)["state"][value.name] = value.value
    for promise in store.scan(Promise):
        failure = promise.failure and msgspec.msgpack.decode(promise.failure, type=Failure)
        at(promise)["promises"][promise.name] = failure or promise.value
    for waiter in store.scan(PromiseWaiter):
        at(waiter)["listeners"].append((waiter.name, (waiter.caller, waiter.completion_id)))
    return keys


def _nothing() -> Picture:
    return {"holder": None, "inbox": [], "state": {}, "promises": {}, "listeners": []}


# -- the oracle's objects


def of_oracle(oracle: Oracle) -> Picture:
    """The same form, from the oracle."""
    lives = {f"{life.number} {life.id}": _life(life) for life in oracle.lives.values()}
    keys = {key: _place(place) for key, place in oracle.places.items()}
    return {
        "invocations": lives,
        "keys": {key: place for key, place in keys.items() if place != _nothing()},
    }


def _life(life: Life) -> Picture:
    picture: Picture = {
        "target": life.target,
        "source": life.source,
        "seed": life.seed,
        "idempotency key": life.idempotency_key,
        "retention": (life.completion_retention_ms, life.journal_retention_ms),
        "scheduled for": life.scheduled_for_ms,
        "restarted from": life.restarted_from,
        "status": life.status,
        "attempt": life.attempt,
        "commands": life.commands,
        "length": len(life.journal),
        "journal": [(item.type, item.payload, item.at_ms) for item in life.journal],
        "completions": {
            completion_id: (
                one.kind, one.command_index, one.index,
                None if one.index is None else _polarity(one.failed), one.callee,
            )
            for completion_id, one in life.completions.items()
        },
        "signals": {
            name: (entries[-1][0], _polarity(entries[-1][1]))
            for name, entries in life.signals.items()
        },
        "timers": life.timers,
        "waiters": sorted(life.sinks),
        "events": life.events,
        "result": life.result,
    }  # fmt: skip
    if life.status == "completed":
        assert life.expires_at_ms is not None
        assert life.journal_expires_at_ms is not None
        journal_ends = min(life.expires_at_ms, life.journal_expires_at_ms)
        picture["expires"] = life.expires_at_ms
        picture["journal expires"] = journal_ends if life.journal else None
        return picture
    pin = life.pin
    picture["pin"] = pin and (pin.deployment_id, pin.revision, pin.version)
    picture["pause requested"] = life.pause_requested
    picture["retry at"] = life.retry_at_ms
    picture["failures"] = (life.failures, life.budget_used)
    if life.status == "suspended":
        picture["awaiting"] = (life.awaiting, life.floor)
    return picture


def _polarity(is_failure: bool) -> str:
    return "failure" if is_failure else "success"


def _place(place: Place) -> Picture:
    return {
        "holder": place.holder,
        "inbox": place.inbox,
        "state": place.state,
        "promises": place.promises,
        "listeners": sorted(place.listeners),
    }


# -- effects


def effects_of(effects: Iterable[Effect], oracle: Oracle, live_before: set[Any]) -> Picture:
    """What the core wants done, without what has no consequence."""
    found = Expected(Done())
    for effect in effects:
        match effect:
            case StartAttempt():
                found.started.append((effect.invocation.number, effect.invocation.attempt))
            case StopAttempt():
                found.stopped.append((effect.number, effect.attempt, effect.how))
            case AckCommand():
                found.acknowledged.append((effect.number, effect.attempt, effect.command_index))
            case PushNotification():
                found.pushed.append(
                    (effect.number, effect.attempt, effect.index, effect.type, effect.payload)
                )
            case Settled():
                found.settled.append((effect.id, effect.outcome))
            case _:
                pass
    return effects_expected(found, oracle, live_before)


def effects_expected(expected: Expected, oracle: Oracle, live_before: set[Any]) -> Picture:
    """What the oracle wants done, in the same form.

    An attempt that is started and fenced off by the same event need not run; an attempt that
    starts reads notifications from the journal, pushes to it are dropped; one that was not in
    flight cannot be stopped.
    """
    live_now = {(life.number, life.attempt) for life in oracle.lives.values() if life.is_live}
    return {
        "started": sorted(one for one in expected.started if one in live_now),
        "stopped": sorted({one for one in expected.stopped if one[:2] in live_before}),
        "acknowledged": expected.acknowledged,
        "pushed": sorted(one for one in expected.pushed if one[:2] in live_now & live_before),
        "settled": sorted(expected.settled, key=repr),
    }


def difference(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where two pictures differ, one line for each place: core, then oracle."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        lines = []
        for key in sorted({*ours, *theirs}, key=repr):
            lines += difference(ours.get(key), theirs.get(key), f"{path}/{key}")
        return lines
    return [] if ours == theirs else [f"{path}: core {ours!r}, oracle {theirs!r}"]
