"""The ingress as an ASGI application: HTTP/2 connections are served by Hypercorn.

Lives here: ASGI messages to a Request and back, the body of an HTTP/2 stream.
Does not: answer (respond.py), speak HTTP/2 or bound its frames (engine/hypercorn_stream.py).
Messages of a stream are always taken at once: a stream whose body nobody reads would hold up every
other stream of its connection.
"""

import re
from typing import Final

import trio

from restated.engine.hypercorn_stream import Message, Receive, Scope, Send
from restated.ingress.exchange import Request, Response, Share
from restated.ingress.head import split_target
from restated.ingress.paths import RequestError
from restated.ingress.respond import Ingress
from restated.model.errors import IngressError, OverloadedError

LINGER_S: Final = 2.0
_BAD_TEXT: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class IngressApp:
    """Called by Hypercorn once for each HTTP/2 stream."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a stream that is reset frees its waiter (C55)."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        body = _AsgiBody(self._ingress.limits.body_bytes_max)
        request = _request(scope, body)
        response: Response | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.take_all, receive, nursery.cancel_scope)
            if request is None:
                response = Response(400, ())
            else:
                response = await self._ingress.respond(request)
            with trio.move_on_after(LINGER_S):
                # The rest of an unread body: an answer before its end makes Hypercorn cut the
                # connection, and with it every other stream.
                await body.ended.wait()
            nursery.cancel_scope.cancel()
        if response is not None:
            # A stream whose window stays closed must not keep its answer for ever (M4).
            with trio.move_on_after(self._ingress.limits.send_s):
                await _answer(send, response, is_head=scope["method"] == "HEAD")


def _request(scope: Scope, body: "_AsgiBody") -> Request | None:
    """None when it carries bytes that no request may."""
    octets = scope["raw_path"]
    if scope["query_string"]:
        octets = octets + b"?" + scope["query_string"]
    try:
        path, query = split_target(octets.decode())
    except UnicodeDecodeError:
        return None
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        if _BAD_TEXT.search(value) is not None:
            return None
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return Request(scope["method"], path, query, headers, body)


class _AsgiBody:
    """Collects the body of a stream; beyond the limit it only counts."""

    __slots__ = ("_bytes_max", "_content", "_failure", "_settled", "_share", "count", "ended")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._content = bytearray()
        self._failure: Exception | None = None
        self._settled = trio.Event()  # it has ended, or is known to be too large
        self._share: Share | None = None
        self.count = 0
        self.ended = trio.Event()

    async def read(self, bytes_max: int, share: Share) -> bytes:
        """All of it, once it is complete; RequestError when it is too large."""
        self._share = share
        share.take(len(self._content))
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure
        if self.count > bytes_max:
            raise RequestError(IngressError.BODY_TOO_LARGE)
        body, self._content = bytes(self._content), bytearray()
        return body

    async def take_all(self, receive: Receive, scope: trio.CancelScope) -> None:
        """Take every message until the client resets the stream, which cancels `scope`."""
        while True:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                scope.cancel()
                return
            self._take(message.get("body", b""))
            if not message.get("more_body", False):
                self._settled.set()
                self.ended.set()

    def _take(self, data: bytes) -> None:
        self.count += len(data)
        if self._failure is None:
            self._failure = self._refusal(len(data))
        if self._failure is None:
            self._content += data
        else:
            self._content = bytearray()
            self._settled.set()

    def _refusal(self, count: int) -> Exception | None:
        if self.count > self._bytes_max:
            return RequestError(IngressError.BODY_TOO_LARGE)
        if self._share is not None:
            try:
                self._share.take(count)
            except OverloadedError as error:
                return error
        return None


async def _answer(send: Send, response: Response, *, is_head: bool) -> None:
    headers = [
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in response.headers
    ]
    headers.append((b"content-length", str(len(response.body)).encode()))
    start = {"type": "http.response.start", "status": response.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": b"" if is_head else response.body})
