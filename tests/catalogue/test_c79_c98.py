"""Catalogue C79-C98, memory, flow and admin: what the tests of the rooms do not show."""

import logging
import tracemalloc
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from restated.core.events import DiscoveredService, RegisterDeployment
from restated.ingress.inputs import check_input
from restated.ingress.paths import RequestError
from restated.invoker.attempt import BYTES_UNSETTLED_MAX
from restated.invoker.invoker import InvokerLimits
from restated.model.records import Entry, StateValue
from restated.model.services import Handler, Payload, ServiceDefinition
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import FrameDecoder, frame
from tests.ingress.http import post
from tests.invoker.handlers import Output, echo, silent
from tests.invoker.world import ADD, GREET, deployment, seed
from tests.sim.sdk import Context, Peer, Wait
from tests.sim.world import SimWorld, run_sim

KIB = 1_024


def test_c82_large_journals_are_admitted_gradually_after_a_restart() -> None:
    """C82, M1: what all replays hold together stays within the pool and one page of a journal."""
    pool, page = 256 * KIB, 64 * KIB

    async def body(world: SimWorld) -> None:
        world.sdk.script(GREET, silent)
        started = [await world.invoke() for _ in range(100)]
        await trio.sleep(0.1)
        for invocation_id in started:
            row = world.row(invocation_id)
            kept = Entry(row.number, 1, messages.CLEAR_ALL_STATE_COMMAND, bytes(page - KIB), 0)
            seed(world.store, replace(row, journal_length=2, command_count=2), kept)
        held: list[int] = []
        opened = world.sdk.open

        def watched(request: Any, content: Any, receiver: Any) -> Peer:
            held.append(world.rooms.invoker.held_bytes)
            return opened(request, content, receiver)

        world.sdk.open = watched  # type: ignore[method-assign, assignment]  # the network
        await world.crash()
        await trio.sleep(1)
        assert world.rooms.invoker.open_count == 100
        assert len(held) == 100
        assert 0 < max(held) <= pool + page
        assert world.rooms.invoker.held_bytes == 0

    run_sim(body, InvokerLimits(payload_pool_bytes=pool))


def test_c83_a_stream_larger_than_its_budget_goes_on_as_it_is_stored() -> None:
    """C83: what one message holds is given back by its own commit, not by the next message."""
    count = 3 * BYTES_UNSETTLED_MAX // (256 * KIB)

    def handler(peer: Peer) -> Wait:
        for index in range(count):
            value = pb.Value(content=bytes(256 * KIB))
            body = pb.SetStateCommandMessage(key=b"%d" % index, value=value)
            peer.message(messages.SET_STATE_COMMAND, body)
        peer.message(messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=pb.Value(content=b"1")))
        peer.message(messages.END, pb.EndMessage())
        peer.finish()
        yield

    async def body(world: SimWorld) -> None:
        world.sdk.script(ADD, handler)
        invocation_id = await world.invoke("add", "Counter", "k")
        await trio.sleep(1)
        assert world.outcome(invocation_id) == b"1"
        assert len(world.journal(invocation_id)) == count + 2

    run_sim(body)


def test_c84_state_beyond_the_pool_waits_for_nobody_least_of_all_for_itself() -> None:
    """C84: such an attempt reads its state lazily; the next ones are served one by one."""

    async def body(world: SimWorld) -> None:
        world.sdk.serve(ADD, echo)
        for index in range(20):
            seed(world.store, StateValue("", "Counter", f"k{index}", "n", bytes(10 * KIB)))
        invoked = [
            await world.invoke("add", "Counter", f"k{index}", payload=bytes(5 * KIB))
            for index in range(20)
        ]
        await trio.sleep(1)
        assert [world.row(one).status for one in invoked] == ["completed"] * 20
        assert all(Context(peer).start.partial_state for peer in world.peers)

    run_sim(body, InvokerLimits(payload_pool_bytes=4 * KIB))


def test_c85_a_small_message_that_is_kept_does_not_keep_the_bytes_around_it() -> None:
    """C85: bodies are copies, also where a large message is in between."""
    small = frame(messages.SET_STATE_COMMAND, b"x" * 100)
    large = frame(messages.SET_STATE_COMMAND, bytes(8 * KIB * KIB))
    tracemalloc.start()
    try:
        decoder = FrameDecoder()
        kept = [decoder.receive(small + large + small)[0]]
        kept += decoder.receive((small + large)[:-1])
        del large
        kept += decoder.receive(b"\0")[1:]
        del decoder
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [len(each.body) for each in kept] == [100, 100]
    assert held < 1_000_000


@pytest.mark.parametrize(
    ("content_type", "is_taken"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ('application/json;charset="a;b"', True),
        ("text/plain; application/json", False),
        ("application/jsonp", False),
    ],
)
def test_c96_parameters_of_a_content_type_are_not_its_type(
    content_type: str, is_taken: bool
) -> None:
    """C96; ingress.md 7."""
    rules = Payload(content_type="application/json", schema=b"true")
    if is_taken:
        check_input(rules, content_type, b"1")
    else:
        with pytest.raises(RequestError):
            check_input(rules, content_type, b"1")


def test_c97_no_payload_and_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """C97, Z5: at debug level, through success, failure, retry, crash."""
    secret = b"s3cr3t"
    text = secret.decode()

    def handler(context: Context) -> Output:
        context.set_state("n", secret)
        ran = yield from context.run(lambda: secret)
        return ran

    def fails(peer: Peer) -> Wait:
        value = pb.Value(content=secret)
        peer.message(messages.SET_STATE_COMMAND, pb.SetStateCommandMessage(key=secret, value=value))
        peer.fail()
        yield

    async def body(world: SimWorld) -> None:
        headers = (("authorization", text), ("content-type", "application/json"))
        row = deployment(headers=b'{"authorization":"%s"}' % secret)
        seed(world.store, row)
        world.rooms.catalog.load(world.store)
        world.sdk.script(ADD, fails)
        found = await world.invoke("add", "Counter", "k", payload=secret, headers=headers)
        await trio.sleep(0.06)
        world.sdk.script(ADD, silent)
        await world.crash()
        answer = await world.ask(post("/Nope/nope", secret, authorization=text))
        assert answer.status == 404
        world.sdk.serve(GREET, handler)  # a plain service: state is a violation of the protocol
        await world.invoke(payload=secret, headers=headers)
        await trio.sleep(1)
        assert world.row(found).attempt > 1

    with caplog.at_level(logging.DEBUG):
        run_sim(body)
    assert len(caplog.records) >= 2
    assert not [record for record in caplog.records if text in record.getMessage()]
    assert text not in caplog.text


def test_c98_a_registration_is_stored_not_only_applied() -> None:
    """C98: the process dies right behind the commit, before it could apply anything."""

    async def body(world: SimWorld) -> None:
        definition = ServiceDefinition("service", (Handler("hello", "shared"),))
        event = RegisterDeployment(
            deployment("dp_2", uri="http://other"), (DiscoveredService("New", definition),)
        )
        world.crash_at(1, "behind")
        await world.submit(event)
        assert world.crashes == 1
        world.sdk.serve("/invoke/New/hello", echo)
        answer = await world.ask(post("/New/hello", b'"hi"'))
        assert (answer.status, answer.body) == (200, b'"hi"')
        assert world.peers[-1].request.deployment.id == "dp_2"

    run_sim(body)
