"""Heads and chunks of HTTP/1."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.ingress.exchange import IngressLimits
from restated.ingress.head import (
    ChunkedDecoder,
    ChunkError,
    Head,
    HeadError,
    find_head_end,
    parse_head,
)

LIMITS = IngressLimits()


def parse(data: bytes) -> Head:
    """The head at the start of `data`, which must hold all of it."""
    end = find_head_end(data, 0, LIMITS)
    assert end > 0
    return parse_head(data[:end], LIMITS)


def head(*lines: bytes, start: bytes = b"POST /a HTTP/1.1") -> bytes:
    """A head of these lines."""
    return b"\r\n".join((start, *lines)) + b"\r\n\r\n"


def test_the_first_value_of_a_name_is_kept_in_order() -> None:
    """ingress.md 5: names in lower case, outer blanks gone."""
    parsed = parse(head(b"B: \t1 2 ", b"a:x", b"b: 3", b"Empty:"))
    assert list(parsed.headers.items()) == [("b", "1 2"), ("a", "x"), ("empty", "")]


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a/b/", "/a/b", None),
        (b"//a/b?x=/&y", "/a/b", "x=/&y"),
        (b"/a?", "/a", ""),
        (b"/a#b?c", "/a", None),
        (b"http://h:1/a/b?c", "/a/b", "c"),
        (b"HTTPS://h?c", "/", "c"),
        (b"*", "*", None),
        (b"h:80", "", None),
        ("/caf\u00e9".encode(), "/caf\u00e9", None),
    ],
)
def test_targets_come_in_four_forms(target: bytes, path: str, query: str | None) -> None:
    """ingress.md 1, 2."""
    parsed = parse(head(start=b"GET " + target + b" HTTP/1.1"))
    assert (parsed.path, parsed.query) == (path, query)


@pytest.mark.parametrize(
    "data",
    [
        head(b"content-length: 1", b"transfer-encoding: chunked"),
        head(b"content-length: 1", b"content-length: 1"),
        head(b"content-length: 1, 1"),
        head(b"content-length: +1"),
        head(b"content-length: \xb2"),
        head(b"content-length:"),
        head(b"transfer-encoding: gzip, chunked"),
        head(b"transfer-encoding: chunked", b"transfer-encoding: chunked"),
        head(b"transfer-encoding: identity"),
        head(b"transfer-encoding: chunked", start=b"POST /a HTTP/1.0"),
        head(b"a: b", b" folded: c"),
        head(b"a : b"),
        head(b": b"),
        head(b"a"),
        head(b"a: b\x00"),
        head(b"a: b\x7f"),
        head(b"a: b\rc"),
        head(b"a: b\nc: d"),
        head(start=b"GET  / HTTP/1.1"),
        head(start=b"GET / HTTP/2.0"),
        head(start=b"GET / HTTP/1.2"),
        head(start=b"GET /"),
        head(start=b"G@T / HTTP/1.1"),
        head(start=b"GET /\x01 HTTP/1.1"),
        head(start=b"GET /\xff HTTP/1.1"),
        head(start=b" GET / HTTP/1.1"),
        head(start=b""),
    ],
)
def test_doubtful_heads_are_refused(data: bytes) -> None:
    """N2: nothing that two parsers could understand differently."""
    with pytest.raises(HeadError) as refused:
        parse(data)
    assert refused.value.status == 400


def test_a_bare_line_feed_is_refused_before_the_head_is_complete() -> None:
    """N2: a client that ends lines with LF alone learns it at once, not at its deadline."""
    with pytest.raises(HeadError) as refused:
        find_head_end(b"GET / HTTP/1.1\n\n", 0, LIMITS)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head(*[b"a: b"] * 101), 431),
        (head(b"a: " + b"b" * 131_072), 431),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 131_072, 431),
        (head(start=b"GET /" + b"x" * 65_534 + b" HTTP/1.1"), 414),
        (b"GET /" + b"x" * 131_072, 414),
    ],
)
def test_heads_have_bounds(data: bytes, status: int) -> None:
    """design.md 3.15."""
    with pytest.raises(HeadError) as refused:
        parse(data)
    assert refused.value.status == status


def test_what_is_just_within_the_bounds_is_taken() -> None:
    """design.md 3.15."""
    assert len(parse(head(*[b"a%d: b" % n for n in range(100)])).headers) == 100
    assert len(parse(head(start=b"GET /" + b"x" * 65_533 + b" HTTP/1.1")).path) == 65_534


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(data: bytes) -> None:
    """N1."""
    with suppress(HeadError):
        assert parse_head(head(data), LIMITS).method == "POST"


def decode(pieces: list[bytes]) -> tuple[bytes, bytes, bool]:
    """Content, bytes behind the end, whether the end was seen."""
    decoder, content = ChunkedDecoder(), bytearray()
    rest = b""
    for piece in pieces:
        if decoder.is_complete:
            rest += piece
            continue
        used = decoder.feed(piece, content)
        rest += piece[used:]
    return bytes(content), rest, decoder.is_complete


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.data())
def test_chunks_may_arrive_in_any_pieces(chunks: list[bytes], data: st.DataObject) -> None:
    """N1: content, end and what follows do not depend on how bytes are cut."""
    framed = b"".join(b"%x;e=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    message = framed + b"0\r\nTrailer: x\r\n\r\n"
    stream = message + b"GET"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(pieces) == (b"".join(chunks), b"GET", True)


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"123456789\r\n",
        b"1\r\nab\r\n",
        b"1\na\r\n",
        b"1\r\na\n0\r\n",
        b"1;" + b"x" * 300,
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n" + b"a: " + b"b" * 9_000,
        b"0\r\n" + b"a: b\r\n" * 3_000,
    ],
)
def test_broken_chunks_are_refused(data: bytes) -> None:
    """N2; every line has a bound."""
    with pytest.raises(ChunkError):
        decode([data])
