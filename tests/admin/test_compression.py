"""Compressed answers: who gets them, and that they are the same. Source: admin.md 1."""

import zlib
from typing import Any

import pytest
import trio

from restated.admin.compression import BYTES_MIN, STEP_BYTES, _packed, accepts_gzip, compressed
from tests.admin.world import AdminWorld, run_admin

Pieces = list[bytes]


def asked(pieces: Pieces, **headers: str) -> tuple[dict[str, str], Pieces]:
    """Headers and pieces of an answer that is made of these pieces."""
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        length = [(b"content-length", b"%d" % len(pieces[0]))] if len(pieces) == 1 else []
        await send({"type": "http.response.start", "status": 200, "headers": length})
        for number, piece in enumerate(pieces, 1):
            more = number < len(pieces)
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    async def receive() -> Any:
        raise AssertionError("nobody asked for a body")

    async def send(message: Any) -> None:
        sent.append(message)

    fields = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    trio.run(compressed(app), {"type": "http", "headers": fields}, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return found, [message["body"] for message in sent[1:]]


def unpacked(pieces: Pieces) -> Pieces:
    """What each piece adds when it arrives."""
    reader = zlib.decompressobj(31)
    texts = [reader.decompress(piece) for piece in pieces]
    assert reader.eof
    return texts


def test_who_accepts_gzip_gets_it() -> None:
    """1: content-encoding and vary; the length is no longer known."""
    body = b"ticket " * BYTES_MIN
    headers, pieces = asked([body], accept_encoding="gzip, br")
    assert headers == {"vary": "accept-encoding", "content-encoding": "gzip"}
    assert unpacked(pieces) == [body]
    assert len(pieces[0]) < len(body) // 10


def test_streamed_answers_can_be_read_as_they_arrive() -> None:
    """1: rows of a slow query; an empty last piece ends the stream."""
    headers, pieces = asked([b"one", b"two", b""], accept_encoding="gzip")
    assert headers["content-encoding"] == "gzip"
    assert unpacked(pieces) == [b"one", b"two", b""]


def test_a_large_piece_is_packed_in_steps() -> None:
    """Others have their turn in between, and it comes out whole."""
    body = bytes(range(256)) * 1_024
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            packed.append(await _packed(zlib.compressobj(1, zlib.DEFLATED, 31), body, is_last=True))
            nursery.cancel_scope.cancel()

    packed: Pieces = []
    trio.run(main)
    assert unpacked(packed) == [body]
    assert turns >= len(body) // STEP_BYTES - 2


@pytest.mark.parametrize("offer", ["", "br", "deflate", "identity", "gzip;q=0", "*", "xgzip"])
def test_nobody_else_does(offer: str) -> None:
    """1: as it is, with the header that tells caches."""
    body = b"x" * BYTES_MIN
    headers, pieces = asked([body], accept_encoding=offer)
    assert headers == {"vary": "accept-encoding", "content-length": str(BYTES_MIN)}
    assert pieces == [body]


@pytest.mark.parametrize(
    ("size", "is_varying"), [(0, False), (31, False), (32, True), (BYTES_MIN - 1, True)]
)
def test_small_answers_stay_as_they_are(size: int, is_varying: bool) -> None:
    """1: they fit one packet anyway."""
    headers, pieces = asked([b"x" * size], accept_encoding="gzip")
    assert pieces == [b"x" * size]
    assert ("vary" in headers) is is_varying
    assert "content-encoding" not in headers


@pytest.mark.parametrize("offer", ["gzip", "GZIP", "br;q=1, gzip;q=0.5", "deflate,gzip ; q=0.001"])
def test_gzip_is_found_among_offers(offer: str) -> None:
    """RFC 9110, 12.5.3."""
    assert accepts_gzip([offer])
    assert accepts_gzip(["br", offer])
    assert not accepts_gzip([])


def test_answers_of_routes_are_compressed() -> None:
    """1: at every route; errors too are told from others by `vary`."""

    async def body(world: AdminWorld) -> None:
        answer = await world.client.get("/openapi", headers={"accept-encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.json()["openapi"] == "3.1.0"
        plain = await world.client.get("/openapi", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.json() == answer.json()
        missing = await world.client.get("/services/Nope", headers={"accept-encoding": "gzip"})
        assert missing.headers["vary"] == "accept-encoding"

    run_admin(body)
