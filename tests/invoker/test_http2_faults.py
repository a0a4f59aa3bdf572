"""What a peer may do wrong on HTTP/2: broken rules, malformed answers, floods, any bytes."""

import h2.events
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from restated.invoker import frames
from tests.invoker.peers import (
    Bench,
    begin,
    run_virtually,
    settle,
)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return frames.frame(kind, flags, stream_id, payload)


EMPTY_BLOCK = b"\x88"  # :status 200
BROKEN = {
    "a frame that is too large": (frame(0, 0, 1, b"x" * 16_385), "FRAME_SIZE_ERROR"),
    "data of the connection": (frame(0, 0, 0, b"x"), "PROTOCOL_ERROR"),
    "data on a stream never opened": (frame(0, 0, 77, b"x"), "PROTOCOL_ERROR"),
    "data on a stream of the server": (frame(0, 0, 2, b"x"), "PROTOCOL_ERROR"),
    "nothing but padding": (frame(0, 8, 1, b"\x05abc"), "PROTOCOL_ERROR"),
    "a push": (frame(5, 4, 1, b"\0\0\0\2\x88"), "PROTOCOL_ERROR"),
    "settings on a stream": (frame(4, 0, 1), "PROTOCOL_ERROR"),
    "settings cut off": (frame(4, 0, 0, b"abc"), "FRAME_SIZE_ERROR"),
    "an acknowledgement with settings": (frame(4, 1, 0, b"\0" * 6), "FRAME_SIZE_ERROR"),
    "a window too large": (frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"), "FLOW_CONTROL_ERROR"),
    "a frame size too small": (frame(4, 0, 0, b"\0\5\0\0\0\1"), "PROTOCOL_ERROR"),
    "push enabled by a server": (frame(4, 0, 0, b"\0\2\0\0\0\1"), "PROTOCOL_ERROR"),
    "ping of a wrong length": (frame(6, 0, 0, b"1234567"), "FRAME_SIZE_ERROR"),
    "ping on a stream": (frame(6, 0, 1, b"12345678"), "PROTOCOL_ERROR"),
    "goaway cut off": (frame(7, 0, 0, b"\0\0\0\0"), "FRAME_SIZE_ERROR"),
    "an update by nothing": (frame(8, 0, 0, b"\0\0\0\0"), "FLOW_CONTROL_ERROR"),
    "an update cut off": (frame(8, 0, 0, b"\0\0"), "FRAME_SIZE_ERROR"),
    "a window beyond its maximum": (frame(8, 0, 0, b"\x7f\xff\xff\xff"), "FLOW_CONTROL_ERROR"),
    "a reset cut off": (frame(3, 0, 1, b"\0"), "FRAME_SIZE_ERROR"),
    "a reset of nothing": (frame(3, 0, 99, b"\0\0\0\0"), "PROTOCOL_ERROR"),
    "a lone continuation": (frame(9, 4, 1, EMPTY_BLOCK), "PROTOCOL_ERROR"),
    "an interrupted block": (frame(1, 0, 1, EMPTY_BLOCK) + frame(6, 0, 0, b"x" * 8), "PROTOCOL"),
    "headers of another stream": (frame(1, 0, 1, b"") + frame(9, 4, 3, b""), "PROTOCOL_ERROR"),
    "a header block that is none": (frame(1, 4, 1, b"\xff\xff\xff\xff\xff"), "COMPRESSION_ERROR"),
    "a header list too large": (frame(1, 4, 1, b"\x88" * 600), "COMPRESSION_ERROR"),
}
MALFORMED = {
    "data before headers": frame(0, 0, 1, b"x"),
    "no status": frame(1, 4, 1, frames.encode_field("a", "b")),
    "two statuses": frame(1, 4, 1, b"\x88\x88"),
    "an upper-case name": frame(1, 4, 1, b"\x88" + frames.encode_field("A", "b")),
    "a line break": frame(1, 4, 1, b"\x88" + frames.encode_field("a", "b\r\nc: d")),
    "a connection header": frame(1, 4, 1, b"\x88" + frames.encode_field("upgrade", "b")),
    "no number as length": frame(1, 4, 1, b"\x88" + frames.encode_field("content-length", "x")),
    "too short": frame(1, 5, 1, b"\x88" + frames.encode_field("content-length", "3")),
    "too long": frame(1, 4, 1, b"\x88" + frames.encode_field("content-length", "1"))
    + frame(0, 0, 1, b"xx"),
    "a second head": frame(1, 4, 1, b"\x88") + frame(1, 4, 1, b"\x88"),
    "an update by nothing": frame(8, 0, 1, b"\0\0\0\0"),
    "a window beyond its maximum": frame(8, 0, 1, b"\x7f\xff\xff\xff"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_of_the_connection_ends_it(name: str) -> None:
    """N1, N3: a clear error, GOAWAY's reason in the text, the next exchange dials again."""

    async def test(nursery: trio.Nursery) -> None:
        octets, code = BROKEN[name]
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        peer = await bench.peer()
        await peer.request()
        await peer.send_raw(octets)
        assert code in str(await recorder.failure())
        again = begin(bench, b"y")
        other = await bench.peer()
        await other.answer(await other.request(), b"ok")
        await again.over.wait()
        assert again.body == b"ok"

    run_virtually(test)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_answer_ends_its_stream_only(name: str) -> None:
    """RFC 9113 8.1.1: RST_STREAM, the connection goes on."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder, other = begin(bench, b"x"), begin(bench, b"y")
        peer = await bench.peer()
        await peer.request()
        await peer.request()
        await peer.send_raw(MALFORMED[name])
        assert "_ERROR" in str(await recorder.failure())
        assert (await peer.next(h2.events.StreamReset)).stream_id == 1
        await peer.answer(3, b"ok")
        await other.over.wait()
        assert other.body == b"ok"
        assert bench.net.connects == 1

    run_virtually(test)


CHATTER = {
    "empty data": (frame(0, 0, 1), 1_000),
    "pings": (frame(6, 0, 0, b"12345678"), 20_000),
    "settings": (frame(4, 0, 0), 20_000),
    "priorities": (frame(2, 0, 1, b"12345"), 20_000),
    "resets": (frame(3, 0, 1, b"\0\0\0\0"), 20_000),
    "updates": (frame(8, 0, 0, b"\0\0\0\1"), 20_000),
    "unknown frames": (frame(200, 0, 0, b""), 20_000),
    "informational answers": (frame(1, 4, 1, b"\x08\x03100"), 2_000),
    "continuations": (frame(1, 0, 1, b"") + frame(9, 0, 1, b"") * 2_000, 1),
}


@pytest.mark.parametrize("name", CHATTER)
def test_frames_that_carry_nothing_have_a_budget(name: str) -> None:
    """C87, N3: ENHANCE_YOUR_CALM instead of endless work."""

    async def test(nursery: trio.Nursery) -> None:
        octets, count = CHATTER[name]
        bench = Bench(nursery)
        recorders = [begin(bench, b"x"), begin(bench, b"y")]
        peer = await bench.peer()
        await peer.request()
        await peer.request()
        if octets[3] == frames.DATA:
            await peer.answer(1, ends=False)
        await peer.send_raw(octets * count)
        assert "ENHANCE_YOUR_CALM" in str(await recorders[1].failure())

    run_virtually(test)


def test_a_minute_of_moderate_chatter_is_no_flood() -> None:
    """The budget is one of a minute."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        peer = await bench.peer()
        await peer.request()
        for _ in range(5):
            await peer.send_raw(frame(6, 0, 0, b"12345678") * 4_000)
            await trio.sleep(35)
            await peer.stream.receive_some(1 << 20)
        await peer.answer(1, b"ok")
        await recorder.over.wait()
        assert recorder.body == b"ok"

    run_virtually(test)


def test_padding_priority_and_continuation_are_understood() -> None:
    """RFC 9113 6.1, 6.2, 6.10; padding counts for flow control and is given back."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        peer = await bench.peer()
        await peer.request()
        block = b"\x88" + frames.encode_field("content-type", "a/b")
        await peer.send_raw(
            frame(1, 0x28, 1, b"\x02" + b"\0\0\0\0\x10" + block[:4] + b"\0\0")
            + frame(9, 0, 1, block[4:7])
            + frame(9, 4, 1, block[7:])
            + frame(0, 8, 1, b"\x03body\0\0\0")
            + frame(0, 9, 1, b"\x00")
        )
        await recorder.over.wait()
        assert recorder.headers == (("content-type", "a/b"),)
        assert (recorder.body, recorder.ended) == (b"body", True)

    run_virtually(test)


@settings(max_examples=60, deadline=None)
@given(octets=st.binary(max_size=200), greets=st.booleans())
def test_no_bytes_do_more_than_fail_the_exchange(octets: bytes, greets: bool) -> None:
    """N1: bytes from the network never raise anything but the transport's own error."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorder = begin(bench, b"x")
        stream = await bench.net.accept()
        if greets:
            await stream.send_all(frame(4, 0, 0))
        await stream.send_all(octets)
        await settle()
        await stream.aclose()
        await recorder.over.wait()

    run_virtually(test)


kinds = st.integers(0, 10)
some_frames = st.lists(
    st.builds(frames.frame, kinds, st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(pieces=some_frames)
def test_no_frames_do_more_than_fail_the_exchange(pieces: list[bytes]) -> None:
    """N1, with bytes that get further."""

    async def test(nursery: trio.Nursery) -> None:
        bench = Bench(nursery)
        recorders = [begin(bench, b"x"), begin(bench, b"y", streams=False)]
        stream = await bench.net.accept()
        await stream.send_all(frame(4, 0, 0))
        await settle()
        await stream.send_all(frame(1, 4, 1, b"\x88"))
        await settle()
        await stream.send_all(b"".join(pieces))
        await settle()
        await stream.aclose()
        for recorder in recorders:
            await recorder.over.wait()

    run_virtually(test)
