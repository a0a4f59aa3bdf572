"""Bytes of HTTP/2 frames and header blocks, against hpack and h2."""

import contextlib

import h2.config
import h2.connection
import h2.events
import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from restated.invoker import frames

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300)
header_lists = st.lists(st.tuples(names, values), max_size=8)


def read_by_hpack(decoder: Decoder, block: bytes) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in decoder.decode(block)]


@given(header_lists)
def test_what_is_encoded_is_what_hpack_reads(headers: list[tuple[str, str]]) -> None:
    """RFC 7541 6.2.2: literals without indexing leave no trace in the peer's table."""
    decoder = Decoder()
    block = b"".join(frames.encode_field(name, value) for name, value in headers)
    assert read_by_hpack(decoder, block) == headers
    assert len(decoder.header_table.dynamic_entries) == 0


@pytest.mark.parametrize("size", [0, 126, 127, 128, 254, 255, 1_023, 1_024, 16_383, 40_000])
def test_lengths_are_encoded_at_their_borders(size: int) -> None:
    """RFC 7541 5.1: prefix integers."""
    block = frames.encode_field("x-long", "v" * size)
    assert read_by_hpack(Decoder(), block) == [("x-long", "v" * size)]


@pytest.mark.parametrize(
    "field", [(":method", "POST"), (":method", "GET"), (":method", "PUT"), (":scheme", "https")]
)
def test_pseudo_fields_are_what_hpack_reads(field: tuple[str, str]) -> None:
    """The static table (RFC 7541 A)."""
    assert read_by_hpack(Decoder(), frames.encode_pseudo(*field)) == [field]


@given(st.lists(st.tuples(header_lists, st.booleans()), max_size=20), st.booleans())
def test_blocks_in_order_are_decoded_as_hpack_would(
    blocks: list[tuple[list[tuple[str, str]], bool]], is_small: bool
) -> None:
    """Remembered blocks must not outlive a change of the dynamic table."""
    encoder = Encoder()
    encoder.header_table_size = 100 if is_small else 4_096
    ours, theirs = frames.HeaderDecoder(1 << 20), Decoder(1 << 20)
    for headers, huffman in blocks:
        block = encoder.encode(headers, huffman=huffman)
        assert ours.decode(block) == tuple(headers)
        assert read_by_hpack(theirs, block) == headers


def test_a_repeated_block_follows_the_table_it_refers_to() -> None:
    """The same bytes mean something else after an insertion."""
    decoder = frames.HeaderDecoder(1 << 16)
    assert decoder.decode(b"\x40\x01a\x011") == (("a", "1"),)
    assert decoder.decode(b"\xbe") == (("a", "1"),)
    assert decoder.decode(b"\xbe") == (("a", "1"),)
    assert decoder.decode(b"\x40\x01b\x012") == (("b", "2"),)
    assert decoder.decode(b"\xbe") == (("b", "2"),)
    assert decoder.decode(b"\x20\x88") == ((":status", "200"),)
    with pytest.raises(frames.ConnectionFaultError):
        decoder.decode(b"\xbe")


@given(st.binary(max_size=60))
def test_no_block_raises_anything_else(block: bytes) -> None:
    """N1."""
    with contextlib.suppress(frames.ConnectionFaultError, frames.MalformedResponseError):
        status, fields, _ = frames.check_response(frames.HeaderDecoder(16_384).decode(block))
        assert 100 <= status <= 999
        assert all(name == name.lower() for name, _ in fields)


def test_a_block_of_several_frames_is_what_h2_reads() -> None:
    """RFC 9113 6.10: HEADERS, then CONTINUATION until END_HEADERS."""
    block = b"".join(
        (
            frames.encode_pseudo(":method", "POST"),
            frames.encode_pseudo(":scheme", "http"),
            frames.encode_field(":path", "/"),
            frames.encode_field(":authority", "h"),
            frames.encode_field("x-long", "v" * 50_000),
        )
    )
    config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
    server = h2.connection.H2Connection(config)
    server.decoder.max_header_list_size = 1 << 20
    server.initiate_connection()
    server.receive_data(frames.PREFACE + frames.settings_frame(()))
    events = server.receive_data(frames.long_block(frames.END_STREAM, 1, block))
    (request,) = [e for e in events if isinstance(e, h2.events.RequestReceived)]
    assert [(str(name), len(value)) for name, value in request.headers or ()][-1] == (
        "x-long",
        50_000,
    )
    assert request.stream_ended is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "v"), ("a b", "v"), ("a:", "v"), ("ä", "v"), ("a", "b\nc"), ("a", "\0")],
)
def test_fields_that_would_break_a_request_are_found(name: str, value: str) -> None:
    """N3: CR, LF and NUL are refused in names and values."""
    assert frames.field_problem(name, value)


def test_fields_of_every_day_are_no_problem() -> None:
    """Values may hold any text on one line."""
    assert frames.field_problem("x-Shop", "w\tä €") is None
