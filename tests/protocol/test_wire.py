"""Frames: any cut gives the same frames, limits hold, foreign bytes raise only our error."""

import itertools
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.protocol.wire import (
    MESSAGE_BYTES_MAX,
    Frame,
    FrameDecoder,
    MessageTooLargeError,
    frame,
)

FRAMES = st.lists(
    st.builds(
        Frame,
        type=st.integers(0, 0xFFFF),
        requested_ack=st.booleans(),
        body=st.binary(max_size=40),
    ),
    max_size=8,
)


def encoded(frames: list[Frame]) -> bytes:
    return b"".join(
        frame(each.type, each.body, requested_ack=each.requested_ack) for each in frames
    )


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(borders)]


def received(decoder: FrameDecoder, pieces: list[bytes]) -> list[Frame]:
    return [each for piece in pieces for each in decoder.receive(piece)]


def test_header_is_type_flags_and_length_in_big_endian() -> None:
    """service-protocol.md 3.1."""
    assert frame(0x040C, b"abc").hex() == "040c000000000003616263"
    assert frame(0x0005, b"", requested_ack=True).hex() == "0005800000000000"


def test_only_the_ack_flag_counts() -> None:
    """service-protocol.md 3.1: all other flags are 0, and skipped if they are not."""
    decoder = FrameDecoder()
    assert decoder.receive(bytes.fromhex("0401 7fff 00000001 00")) == [Frame(0x0401, False, b"\0")]
    assert decoder.receive(bytes.fromhex("0401 ffff 00000000")) == [Frame(0x0401, True, b"")]


@given(FRAMES, st.lists(st.integers(min_value=0), max_size=12))
def test_any_cut_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    """service-protocol.md 3.1: the borders of DATA frames mean nothing."""
    decoder = FrameDecoder()
    assert received(decoder, pieces_of(encoded(frames), cuts)) == frames
    assert not decoder.has_partial


@given(FRAMES)
def test_single_bytes_give_the_same_frames(frames: list[Frame]) -> None:
    """service-protocol.md 3.1."""
    stream = encoded(frames)
    pieces = [stream[at : at + 1] for at in range(len(stream))]
    assert received(FrameDecoder(), pieces) == frames


@given(st.lists(st.binary(max_size=64), max_size=6))
def test_foreign_bytes_raise_only_the_size_error(pieces: list[bytes]) -> None:
    """N1: bytes from the network never raise anything but the decoder's own error."""
    decoder = FrameDecoder(message_bytes_max=1_000)
    try:
        kept = received(decoder, pieces)
    except MessageTooLargeError:
        return
    kept_bytes = sum(8 + len(each.body) for each in kept)
    assert decoder.has_partial == (kept_bytes < sum(map(len, pieces)))


def test_a_stream_may_not_end_inside_a_frame() -> None:
    """service-protocol.md 2.1: the end in the middle of a message is RT0007; we can tell."""
    stream = frame(0x0401, b"abcd")
    for length in range(1, len(stream)):
        decoder = FrameDecoder()
        assert decoder.receive(stream[:length]) == []
        assert decoder.has_partial


def test_size_limit_has_the_reference_s_number_and_text() -> None:
    """service-protocol.md 3.1: RT0003."""
    header = struct.pack(">HHI", 0x0401, 0, 33_816_576)
    with pytest.raises(MessageTooLargeError) as caught:
        FrameDecoder().receive(header)
    assert str(caught.value) == (
        "message encoding error: hit message size limit: 33816576 >= 33816576"
    )


def test_a_cut_header_is_refused_as_soon_as_it_is_complete() -> None:
    """N5: the limit holds before the body is kept."""
    header = struct.pack(">HHI", 0x0401, 0, 100)
    decoder = FrameDecoder(message_bytes_max=100)
    assert decoder.receive(header[:7]) == []
    with pytest.raises(MessageTooLargeError, match="100 >= 100"):
        decoder.receive(header[7:])


def test_the_largest_message_below_the_limit_passes() -> None:
    """service-protocol.md 3.1."""
    decoder = FrameDecoder(message_bytes_max=100)
    assert decoder.receive(frame(0x0401, b"x" * 99)) == [Frame(0x0401, False, b"x" * 99)]


def test_frames_before_the_oversized_one_are_not_lost() -> None:
    """service-protocol.md 4.4: commands before a violation stay stored."""
    first, second = frame(0x0403, b"1"), frame(0x0404, b"2")
    oversized = struct.pack(">HHI", 0x0401, 0, 100)
    decoder = FrameDecoder(message_bytes_max=100)
    assert decoder.receive(first[:3]) == []
    with pytest.raises(MessageTooLargeError) as caught:
        decoder.receive(first[3:] + second + oversized)
    assert caught.value.frames == (Frame(0x0403, False, b"1"), Frame(0x0404, False, b"2"))


def test_a_body_does_not_share_memory_with_the_stream() -> None:
    """Style 5: a small part must not pin a large buffer."""
    body = b"x" * 10
    [only] = FrameDecoder().receive(frame(0x0401, body))
    assert type(only.body) is bytes
    assert only.body == body


def cpu_seconds(pieces: list[bytes]) -> float:
    decoder = FrameDecoder()
    started = time.process_time()
    received(decoder, pieces)
    return time.process_time() - started


def test_single_bytes_cost_linear_time() -> None:
    """N1: no input makes work super-linear; eight times the input must not cost 64 times."""
    small = [b"x"] * 25_000
    large = [b"x"] * 200_000
    header = frame(0x0401, b"")[:4] + struct.pack(">I", 1_000_000)
    cpu_seconds([header, *small])
    assert cpu_seconds([header, *large]) < 24 * max(cpu_seconds([header, *small]), 0.002)


def test_thirty_two_mebibytes_in_small_pieces_cost_few_copies() -> None:
    """N1: 2,048 pieces of 16 KiB; a copy of the buffer for each would be 32 GiB."""
    body = bytes(32 << 20)
    stream = frame(0x0401, body)
    pieces = [stream[at : at + 16_384] for at in range(0, len(stream), 16_384)]
    decoder = FrameDecoder()
    started = time.process_time()
    [only] = received(decoder, pieces)
    assert time.process_time() - started < 2.0
    assert len(only.body) == len(body)
    assert not decoder.has_partial


def test_many_small_frames_in_one_piece_cost_linear_time() -> None:
    """N1: the piece is cut by offset; a copy of the rest for each frame would be 8 GB."""
    stream = frame(0x0405, b"") * 45_000
    started = time.process_time()
    frames = FrameDecoder().receive(stream)
    assert time.process_time() - started < 2.0
    assert len(frames) == 45_000


def test_default_limit_is_that_of_the_reference() -> None:
    """Design 3.15."""
    assert MESSAGE_BYTES_MAX == 33_816_576
