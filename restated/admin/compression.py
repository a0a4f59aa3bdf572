"""Compressed answers for who asks for them.

Lives here: gzip around the routes, `vary`, which answers are worth it.
Does not: request bodies, the ingress; brotli and zstd, which need more than the standard library.
Source: admin.md 1. Unlike the reference, what fits one packet goes out as it is.
"""

import zlib
from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from trio.lowlevel import checkpoint

BYTES_MIN: Final = 1_024
VARYING_BYTES_MIN: Final = 32  # the reference leaves `vary` out below
LEVEL: Final = 1  # most answers go to this machine or the next: time counts, not size
STEP_BYTES: Final = 16 * 1024  # packed at a time: more would hold calls up
_GZIP_WINDOW: Final = 31
_ACCEPT: Final = b"accept-encoding"


def compressed(app: ASGIApp) -> ASGIApp:
    """`app` with answers in gzip where the client accepts it."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        offers = [value.decode("latin-1") for name, value in scope["headers"] if name == _ACCEPT]
        await app(scope, receive, _Answer(send, accepts_gzip=accepts_gzip(offers)))

    return outer


def accepts_gzip(offers: Iterable[str]) -> bool:
    """Whether values of accept-encoding name gzip, with a weight that is not zero."""
    for offer in ",".join(offers).split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip().lower() == "gzip":
            return weight.replace(" ", "").lower() not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


class _Answer:
    """Sends one answer on; the head waits for the first piece of the body, which decides."""

    __slots__ = ("_accepts_gzip", "_head", "_packer", "_send")

    def __init__(self, send: Send, *, accepts_gzip: bool) -> None:
        self._send = send
        self._accepts_gzip = accepts_gzip
        self._head: Message | None = None
        self._packer: zlib._Compress | None = None  # of an answer that goes out in gzip

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = message
            return
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self._head is not None:
            head, self._head = self._head, None
            await self._send(self._decided(head, len(body), is_whole=not more))
        if self._packer is not None:
            body = await _packed(self._packer, body, is_last=not more)
        await self._send({**message, "body": body})

    def _decided(self, head: Message, size: int, *, is_whole: bool) -> Message:
        headers: list[tuple[bytes, bytes]] = list(head["headers"])
        if size >= VARYING_BYTES_MIN or not is_whole:
            headers.append((b"vary", _ACCEPT))
        if self._accepts_gzip and (size >= BYTES_MIN or not is_whole):
            self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
            headers = [pair for pair in headers if pair[0] != b"content-length"]
            headers.append((b"content-encoding", b"gzip"))
        return {**head, "headers": headers}


async def _packed(packer: "zlib._Compress", body: bytes, *, is_last: bool) -> bytes:
    parts = [packer.compress(body[:STEP_BYTES])]
    for start in range(STEP_BYTES, len(body), STEP_BYTES):
        await checkpoint()
        parts.append(packer.compress(body[start : start + STEP_BYTES]))
    # Every piece can be read when it arrives: slow queries show what there is.
    parts.append(packer.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH))
    return b"".join(parts)
