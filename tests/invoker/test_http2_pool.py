"""Which HTTP/2 connection carries an exchange, how long connections live, how they fail."""

from collections.abc import Iterator

import h2.events
import h2.exceptions
import pytest
import trio
from trio.testing import lockstep_stream_pair

from restated.invoker import frames
from restated.invoker.transport import WrongHttpVersionError
from restated.store.store import StoreFailedError
from tests.invoker.peers import (
    Bench,
    FakeNet,
    Recorder,
    address,
    begin,
    deployment,
    run_virtually,
    settle,
    start,
)


def test_exchanges_share_a_connection() -> None:
    """service-protocol.md 2.1: streams of one connection."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorders = [begin(bench, b"x") for _ in range(100)]
        peer = await bench.peer()
        for stream_id in range(1, 201, 2):
            assert await peer.request() == stream_id
            await peer.answer(stream_id, b"%d" % stream_id)
        await recorders[-1].over.wait()
        assert [recorder.body for recorder in recorders] == [b"%d" % n for n in range(1, 201, 2)]
        assert bench.net.connects == 1

    run_virtually(test)


def test_more_exchanges_than_the_peer_allows_open_another_connection() -> None:
    """Supplement to 2.1: the peer's MAX_CONCURRENT_STREAMS, or 128."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        for _ in range(3):
            begin(bench, b"x")
        first = await bench.peer(MAX_CONCURRENT_STREAMS=2)
        second = await bench.peer(MAX_CONCURRENT_STREAMS=2)
        assert [await first.request(), await first.request()] == [1, 3]
        assert await second.request() == 1
        await settle()
        assert bench.net.connects == 2

    run_virtually(test)


def test_a_waiting_exchange_takes_the_first_free_stream() -> None:
    """With all connections allowed in use, it waits for a stream to end."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery, connections_max=1)
        begin(bench, b"x", streams=False)
        late = begin(bench, b"y", streams=False)
        peer = await bench.peer(MAX_CONCURRENT_STREAMS=1)
        assert await peer.request() == 1
        await settle()
        await peer.answer(1)
        assert await peer.request() == 3
        await peer.answer(3, b"yes")
        await late.over.wait()
        assert late.body == b"yes"

    run_virtually(test)


def test_goaway_lets_earlier_streams_finish_and_moves_new_ones() -> None:
    """Supplement to 2.1: above the last id RT0010, up to it as if nothing happened."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        kept, refused = begin(bench, b"a"), begin(bench, b"b")
        peer = await bench.peer()
        await peer.request()
        await peer.request()
        await peer.send_raw(frames.frame(frames.GOAWAY, 0, 0, bytes([0, 0, 0, 1, 0, 0, 0, 0])))
        error = await refused.failure()
        assert error.code == "RT0010"
        assert "GOAWAY NO_ERROR" in str(error)
        await peer.next(h2.events.PingReceived)
        moved = begin(bench, b"c")
        other = await bench.peer()
        await other.answer(await other.request(), b"new")
        await peer.answer(1, b"old")
        await kept.over.wait()
        await moved.over.wait()
        assert (kept.body, moved.body) == (b"old", b"new")
        assert await peer.next(str) == "closed"

    run_virtually(test)


def test_a_peer_that_says_goodbye_and_falls_silent_is_asked_at_once() -> None:
    """Hypercorn's goodbye: it cannot send any more, and closes when it hears something (M5)."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"a")
        peer = await bench.peer()
        await peer.request()
        began = trio.current_time()
        peer.h2.close_connection()
        await peer.flush()
        with pytest.raises(h2.exceptions.ProtocolError):
            await peer.next(str)
        await peer.stream.aclose()
        assert (await recorder.failure()).code == "RT0010"
        assert trio.current_time() - began < 1

    run_virtually(test)


def test_an_answer_that_came_before_the_peer_stopped_listening_counts() -> None:
    """As with HTTP/1.1: a failed send ends an exchange only when its answer is not there."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        answered, cut = begin(bench, b"a"), begin(bench, b"b")
        peer = await bench.peer()
        assert [await peer.request(), await peer.request()] == [1, 3]
        assert isinstance(peer.stream, trio.StapledStream)
        await peer.stream.receive_stream.aclose()
        assert cut.exchange is not None
        cut.exchange.send(b"more")
        began = trio.current_time()
        await settle()
        moved = begin(bench, b"c")
        other = await bench.peer()
        await other.answer(await other.request(), b"new")
        await moved.over.wait()
        await peer.answer(1, b"old")
        await answered.over.wait()
        assert (answered.body, answered.ended, moved.body) == (b"old", True, b"new")
        assert "sending failed" in str(await cut.failure())
        assert trio.current_time() - began <= 3

    run_virtually(test)


def test_a_connection_carries_a_thousand_requests_and_no_more() -> None:
    """Request 1,001 makes hypercorn drop all answers in progress: it goes elsewhere before."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        slow = begin(bench, b"a")
        peer = await bench.peer()
        assert await peer.request() == 1
        for number in range(1, 1_000):
            quick = begin(bench, b"b", streams=False)
            await peer.answer(await peer.request(), b"%d" % number)
            await quick.over.wait()
            assert quick.body == b"%d" % number
        assert bench.net.connects == 1
        moved = begin(bench, b"c")
        other = await bench.peer()
        await other.answer(await other.request(), b"new")
        await moved.over.wait()
        await peer.answer(1, b"old")
        await slow.over.wait()
        assert (slow.body, moved.body) == (b"old", b"new")
        assert await peer.next(str) == "closed"
        again = begin(bench, b"d")
        await other.answer(await other.request(), b"newer")
        await again.over.wait()
        assert (again.body, bench.net.connects) == (b"newer", 2)

    run_virtually(test)


def test_a_burst_is_shared_out_by_what_each_connection_may_still_carry() -> None:
    """What was adopted counts before it is sent; one that is given up leaves its place unused."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery, requests_max=3)
        first = begin(bench, b"x", streams=False)
        peer = await bench.peer()
        await peer.answer(await peer.request())
        await first.over.wait()
        burst = [begin(bench, b"x", streams=False) for _ in range(4)]
        given_up = burst.pop(0).exchange
        assert given_up is not None
        given_up.abort()
        other = await bench.peer()
        assert await peer.request() == 3
        assert [await other.request(), await other.request()] == [1, 3]
        await peer.answer(3)
        await burst[0].over.wait()
        assert await peer.next(str) == "closed"
        assert bench.net.connects == 2

    run_virtually(test)


def test_an_idle_connection_is_closed_after_five_minutes() -> None:
    """C86."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x", streams=False)
        peer = await bench.peer()
        await peer.answer(await peer.request())
        await recorder.over.wait()
        began = trio.current_time()
        assert await peer.next(str) == "closed"
        assert 299 <= trio.current_time() - began <= 302
        begin(bench, b"y")
        assert await (await bench.peer()).request() == 1
        assert bench.net.connects == 2

    run_virtually(test)


def test_a_silent_peer_is_given_up_after_ping_and_patience() -> None:
    """service-protocol.md 2.1: PING after 40 s, 20 s to answer."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        peer = await bench.peer()
        await peer.request()
        began = trio.current_time()
        ping = b""
        while len(ping) < 17:
            ping += await peer.stream.receive_some(17)
        assert ping[3] == frames.PING
        assert 39 <= trio.current_time() - began <= 42
        error = await recorder.failure()
        assert 59 <= trio.current_time() - began <= 62
        assert "PING" in str(error)

    run_virtually(test)


def test_a_peer_that_answers_pings_is_kept() -> None:
    """A handler may be silent for hours."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        peer = await bench.peer()
        await peer.request()
        for _ in range(90):
            await peer.next(h2.events.PingReceived)
        assert trio.current_time() > 3_600
        await peer.answer(1, b"late")
        await recorder.over.wait()
        assert recorder.body == b"late"

    run_virtually(test)


def test_a_refused_connection_fails_the_exchange_once() -> None:
    """RT0010, with the words of the operating system."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        bench.net.refusal = ConnectionRefusedError(111, "whatever")
        recorder = begin(bench, b"x")
        assert not recorder.over.is_set()
        error = await recorder.failure()
        assert (str(error), error.code) == ("Connection refused (os error 111)", "RT0010")

    run_virtually(test)


@pytest.mark.parametrize("accepts", [True, False])
def test_a_peer_that_never_greets_is_given_up_after_ten_seconds(accepts: bool) -> None:
    """M5: half-open services free their slot."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        bench.net.is_silent = not accepts
        recorder = begin(bench, b"x")
        error = await recorder.failure()
        assert 9 <= trio.current_time() <= 12
        assert "within 10 seconds" in str(error)

    run_virtually(test)


def test_a_target_that_is_not_allowed_is_not_connected_to() -> None:
    """Z3: by the resolved address."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery, FakeNet(addresses=[("169.254.169.254", 80)]))
        recorder = begin(bench, b"x", to=deployment("http://harmless.example"))
        assert "169.254.169.254" in str(await recorder.failure())
        assert bench.net.connects == 0

    run_virtually(test)


def test_a_bad_additional_header_fails_the_exchange_later() -> None:
    """Transport.open never raises and never calls back at once; values are not shown (Z5)."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x", to=deployment(headers=b'{"x-a": "secret\\r\\nx: y"}'))
        assert not recorder.over.is_set()
        error = str(await recorder.failure())
        assert "x-a" in error
        assert "secret" not in error

    run_virtually(test)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"HTTP/1.0", b"hello, who is there?\r\n"]
)
def test_a_peer_of_http_1_is_told_apart(answer: bytes) -> None:
    """C89."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        stream = await bench.net.accept()
        await stream.send_all(answer[:2])
        await settle()
        await stream.send_all(answer[2:])
        error = await recorder.failure()
        assert isinstance(error, WrongHttpVersionError)
        assert "HTTP1.1" in str(error)

    run_virtually(test)


def test_a_connection_lost_in_the_middle_fails_its_exchanges() -> None:
    """The peer closes while it answers."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorders = [begin(bench, b"x"), begin(bench, b"y")]
        peer = await bench.peer()
        await peer.answer(await peer.request(), b"par", ends=False)
        await recorders[0].answered.wait()
        await peer.stream.aclose()
        errors = [await recorder.failure() for recorder in recorders]
        assert {error.code for error in errors} == {"RT0010"}
        assert recorders[0].body == b"par"

    run_virtually(test)


def test_a_reset_stream_fails_with_its_name() -> None:
    """RST_STREAM of the service."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder, other = begin(bench, b"x"), begin(bench, b"y")
        peer = await bench.peer()
        await peer.request()
        await peer.request()
        peer.h2.reset_stream(1, 7)
        await peer.answer(3, b"fine")
        assert "REFUSED_STREAM (7)" in str(await recorder.failure())
        await other.over.wait()
        assert other.body == b"fine"

    run_virtually(test)


def test_a_body_that_raises_breaks_off_its_own_exchange_only() -> None:
    """RST_STREAM INTERNAL_ERROR; the connection lives on."""

    async def test(nursery: trio.Nursery) -> None:
        def body() -> Iterator[bytes]:
            yield b"good"
            raise ValueError("bad")

        bench = Bench(nursery)
        recorder = start(bench.transport, body(), to=address())
        other = begin(bench, b"y")
        peer = await bench.peer()
        assert "could not be produced" in str(await recorder.failure())
        await peer.request()
        await peer.answer(await peer.request(), b"fine")
        await other.over.wait()
        assert other.body == b"fine"

    run_virtually(test)


def test_a_receiver_that_raises_loses_its_own_exchange_only() -> None:
    """A defect of one attempt does not take the others of its connection along."""

    class Broken(Recorder):
        def on_data(self, data: bytes) -> None:
            del data
            raise ValueError("defect")

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        begin(bench, b"x", receiver=Broken())
        other = begin(bench, b"y")
        peer = await bench.peer()
        await peer.answer(await peer.request(), b"bang", ends=False)
        assert (await peer.next(h2.events.StreamReset)).error_code == frames.INTERNAL_ERROR
        await peer.answer(3, b"fine")
        await other.over.wait()
        assert other.body == b"fine"

    run_virtually(test)


def test_a_failed_store_is_not_swallowed() -> None:
    """StoreFailedError must stop the process (style 7)."""

    class Stopped(Recorder):
        def on_data(self, data: bytes) -> None:
            del data
            raise StoreFailedError("disk")

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        begin(bench, b"x", receiver=Stopped())
        peer = await bench.peer()
        await peer.answer(await peer.request(), b"x", ends=False)
        await trio.sleep(10)

    with pytest.raises(ExceptionGroup) as caught:
        run_virtually(test)
    assert caught.value.subgroup(StoreFailedError) is not None


def test_exchanges_that_wait_are_bounded() -> None:
    """One more than the bound fails at once, the others are served."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery, waiting_max=2)
        first, second, third = (begin(bench, b"x", streams=False) for _ in range(3))
        assert "too many requests wait" in str(await third.failure())
        peer = await bench.peer()
        for stream_id in (1, 3):
            await peer.answer(await peer.request(), b"%d" % stream_id)
        await second.over.wait()
        assert (first.body, second.body) == (b"1", b"3")

    run_virtually(test)


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_an_exchange_of_which_nothing_was_sent_moves_on(says_goodbye: bool) -> None:
    """GOAWAY or loss of a connection that is still busy with an earlier request."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery, FakeNet(lockstep_stream_pair), outgoing_bytes_max=10_000)
        first = begin(bench, b"x" * 60_000)
        stuck = await bench.net.accept()
        nursery.start_soon(stuck.send_all, frames.settings_frame(()))
        await stuck.receive_some(1_000)
        await settle()
        second = begin(bench, b"y", streams=False)
        await settle()
        if says_goodbye:
            await stuck.send_all(frames.frame(frames.GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\0"))
        else:
            await stuck.aclose()
        stream = await bench.net.accept()
        nursery.start_soon(stream.send_all, frames.settings_frame(()))
        octets = b""
        while not octets.endswith(b"y"):
            octets += await stream.receive_some(1_000)
        answer = frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, b"\x88")
        await settle()
        await stream.send_all(answer)
        await second.over.wait()
        assert second.ended
        assert first.over.is_set() is not says_goodbye

    run_virtually(test)
