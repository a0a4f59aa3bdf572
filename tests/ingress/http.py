"""A small HTTP/1 client for tests: bytes in, answers out, on any stream."""

from typing import Any

import trio


class Answer:
    """One answer; header names in lower case."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, *fields = head.decode("latin-1").split("\r\n")
        self.line = line
        self.status = int(line.split(" ")[1])
        self.headers = dict(field.split(": ", 1) for field in fields)
        self.body = body


class Client:
    """Keeps what came behind an answer for the next one."""

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.stream.send_all(data)

    async def answer(self, *, is_head: bool = False) -> Answer:
        """The next answer; EOFError when the server closes instead."""
        while b"\r\n\r\n" not in self._buffer:
            await self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        answer = Answer(head, b"")
        count = 0 if is_head else int(answer.headers.get("content-length", 0))
        while len(self._buffer) < count:
            await self._receive()
        answer.body, self._buffer = self._buffer[:count], self._buffer[count:]
        return answer

    async def ask(self, data: bytes) -> Answer:
        """Send one request and wait for its answer."""
        await self.send(data)
        return await self.answer(is_head=data.startswith(b"HEAD"))

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        while data := await self.stream.receive_some():
            self._buffer += data
        return self._buffer

    async def _receive(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise EOFError(self._buffer)
        self._buffer += data


def request(
    method: str,
    path: str,
    body: bytes = b"",
    headers: tuple[tuple[str, str], ...] = (),
    version: str = "1.1",
) -> bytes:
    """The bytes of a request with a content length where there is a body or may be one."""
    lines = [f"{method} {path} HTTP/{version}", "host: t"]
    lines += [f"{name}: {value}" for name, value in headers]
    names = {name.lower() for name, _ in headers}
    if "content-length" not in names and (body or method in ("POST", "PUT", "PATCH")):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def post(path: str, body: bytes = b'"Ada"', **headers: str) -> bytes:
    """A POST of JSON; underscores in header names become hyphens."""
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return request("POST", path, body, (("content-type", "application/json"), *fields))


def get(path: str, **headers: str) -> bytes:
    """A GET; underscores in header names become hyphens."""
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return request("GET", path, headers=fields)
