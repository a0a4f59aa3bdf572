"""Effects are routed once; waiters and live-tail clients are told, and bounded."""

import pytest
import trio
import trio.testing

from restated.core.effects import Changed, Effect, Settled
from restated.engine.dispatch import (
    EFFECTS,
    TAIL_CLIENTS_MAX,
    TAIL_EVENTS_MAX,
    Dispatch,
    ShuttingDownError,
    Tail,
    TailClient,
    Waiter,
    Waiters,
)
from restated.store.store import Committed


def change(number: int) -> Changed:
    """A change that only its number tells apart."""
    return Changed("inv_a", number, "Greeter", None, "greet", 0, "accepted", 1)


def test_every_effect_type_needs_exactly_one_route() -> None:
    """design.md 3.8: the daemon does not start otherwise."""
    dispatch = Dispatch()
    with pytest.raises(AssertionError, match="StartAttempt"):
        dispatch.check()
    seen: list[Effect] = []
    for effect in EFFECTS:
        dispatch.route(effect, seen.append)
    dispatch.check()
    with pytest.raises(AssertionError, match="two routes"):
        dispatch.route(Settled, seen.append)
    effects = [Settled("inv_a", b"1"), change(1)]
    dispatch.release(Committed(1), effects)
    assert seen == effects


def test_waiter_that_registered_first_misses_nothing() -> None:
    """C48: settled before the wait, and after it began."""

    async def body() -> None:
        waiters = Waiters()
        early, late = waiters.expect("inv_a"), waiters.expect("inv_a")
        waiters.settle(Settled("inv_a", b"1"))
        waiters.settle(Settled("inv_a", b"2"))
        assert (await early.wait()).outcome == b"1"
        assert (await late.wait()).outcome == b"1"

    trio.run(body)


def test_forgotten_waiters_leave_nothing() -> None:
    """C55: ten thousand disconnects."""
    waiters = Waiters()
    expected = [waiters.expect(f"inv_{index % 7}") for index in range(10_000)]
    assert waiters.count == 10_000
    for waiter in expected:
        waiters.forget(waiter)
        waiters.forget(waiter)
    assert waiters.count == 0


def test_stopping_wakes_present_and_future_waiters() -> None:
    """design.md 3.10."""

    async def body() -> None:
        waiters = Waiters()
        present = waiters.expect("inv_a")
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(ShuttingDownError):
                    await present.wait()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            waiters.stop()
        with pytest.raises(ShuttingDownError):
            await waiters.expect("inv_b").wait()

    trio.run(body)


def test_stalled_tail_client_loses_and_the_other_does_not() -> None:
    """design.md 3.15: a bounded queue and a count of what is missing."""

    async def body() -> None:
        tail = Tail()
        stalled, quick = TailClient(lambda _: True), TailClient(lambda seen: seen.number % 2 == 0)
        assert tail.attach(stalled)
        assert tail.attach(quick)
        seen: list[int] = []
        for number in range(TAIL_EVENTS_MAX + 10):
            tail.publish(change(number))
            if number % 2 == 0:
                changes, lost = await quick.take()
                seen += [item.number for item in changes]
                assert lost == 0
        assert seen == list(range(0, TAIL_EVENTS_MAX + 10, 2))
        changes, lost = await stalled.take()
        assert (len(changes), lost) == (TAIL_EVENTS_MAX, 10)
        tail.publish(change(1))
        assert await stalled.take() == ([change(1)], 0)

    trio.run(body)


def test_tail_is_observed_only_while_somebody_listens() -> None:
    """Changes are built only then."""
    tail = Tail()
    assert not tail.is_observed
    clients = [TailClient(lambda _: True) for _ in range(TAIL_CLIENTS_MAX)]
    assert all(tail.attach(client) for client in clients)
    assert not tail.attach(TailClient(lambda _: True))
    for client in clients:
        tail.detach(client)
        tail.detach(client)
    assert not tail.is_observed
    tail.listen(lambda _: None)
    assert tail.is_observed


def test_waiter_forgotten_before_its_reply_stays_out() -> None:
    """C55: the client went away while its request was being stored."""
    waiters = Waiters()
    waiter = Waiter("inv_a")
    waiters.forget(waiter)
    waiters.admit(waiter)
    assert waiters.count == 0
