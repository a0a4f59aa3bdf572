"""HTTP/1 bytes: the head of a request, chunked bodies.

Lives here: what a head says and which ones are refused, the decoder of the chunked coding.
Does not: read from a connection or know deadlines (http1.py), route (paths.py).
Why not httptools: its parser neither bounds anything nor says where a message ends, refuses raw
UTF-8 targets and unknown methods; what would be left to it costs the same here (2.6 us a head).
Rules: N1 every pattern is linear in its input; N2 nothing ambiguous is let through: one framing, no
bare LF, no folded lines, no list of transfer codings.
"""

import re
from typing import Final

from restated.ingress.exchange import IngressLimits
from restated.ingress.paths import normalised

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([^\x00-\x20\x7f]+) HTTP/1\.([01])")
_FIELDS: Final = re.compile(rb"(?:" + _TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_ABSOLUTE: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
CHUNK_LINE_BYTES_MAX: Final = 256  # length and extensions, which nobody uses
TRAILER_BYTES_MAX: Final = 8_192
LENGTH_DIGITS_MAX: Final = 18
HEAD_END: Final = b"\r\n\r\n"


class HeadError(Exception):
    """The head cannot be taken; the connection is closed after an empty answer with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ChunkError(Exception):
    """The chunked coding is broken; nothing behind it can be trusted."""


class Head:
    """The head of a request, checked. `headers` as in exchange.Request."""

    __slots__ = (
        "content_length", "expects_continue", "headers", "is_chunked", "keeps_alive", "method",
        "minor", "path", "query",
    )  # fmt: skip

    def __init__(self, method: str, target: str, minor: int, headers: dict[str, str]) -> None:
        self.method = method
        self.minor = minor  # of the version: HTTP/1.minor
        self.headers = headers
        self.path, self.query = split_target(target)
        self.content_length = 0
        self.is_chunked = False
        self.keeps_alive = minor == 1
        self.expects_continue = False

    @property
    def has_body(self) -> bool:
        """Whether bytes follow the head."""
        return self.is_chunked or self.content_length > 0


def find_head_end(data: bytes | bytearray, start: int, limits: IngressLimits) -> int:
    """Position behind the empty line that ends the head, -1 when it is not there yet.

    `start`: what lies before it was searched already. HeadError when the head is too large or
    cannot become a head any more.
    """
    end = data.find(HEAD_END, max(0, start - len(HEAD_END)))
    length = len(data) if end < 0 else end + len(HEAD_END)
    if length > limits.head_bytes_max:
        is_target = data.find(b"\r\n", 0, limits.target_bytes_max) < 0
        raise HeadError(414 if is_target else 431)
    if end >= 0:
        return length
    if _BARE_LF.search(data, max(0, start - 1)) is not None:
        raise HeadError(400)
    return -1


def parse_head(data: bytes, limits: IngressLimits) -> Head:
    """A head up to and including its empty line; HeadError for anything doubtful."""
    line_end = data.find(b"\r\n")
    line = _REQUEST_LINE.fullmatch(data, 0, line_end)
    if line is None:
        raise HeadError(400)
    method, octets, minor = line.groups()
    if len(octets) > limits.target_bytes_max:
        raise HeadError(414)
    block = data[line_end + 2 : -2]
    if _FIELDS.fullmatch(block) is None:
        raise HeadError(400)
    fields = [
        (name.lower(), value.strip(" \t"))
        for name, _, value in (
            field.partition(":") for field in block.decode("latin-1").split("\r\n")[:-1]
        )
    ]
    if len(fields) > limits.fields_max:
        raise HeadError(431)
    headers: dict[str, str] = {}
    for name, value in fields:
        headers.setdefault(name, value)
    try:
        target = octets.decode()
    except UnicodeDecodeError:
        raise HeadError(400) from None
    head = Head(method.decode(), target, minor[0] - ord("0"), headers)
    _frame(head, fields)
    _read_connection(head, fields)
    return head


def split_target(target: str) -> tuple[str, str | None]:
    """Normalised path and query of a request target in any form."""
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        target = target[absolute.end() :]
        if not target.startswith("/"):
            target = "/" + target
    elif target != "*" and not target.startswith("/"):
        target = ""  # the authority form of CONNECT has no path
    path, mark, query = target.partition("#")[0].partition("?")
    return normalised(path), query if mark else None


def _frame(head: Head, fields: list[tuple[str, str]]) -> None:
    """How the body ends. Two answers, or an unknown one, is how requests are smuggled (N2)."""
    lengths = [value for name, value in fields if name == "content-length"]
    codings = [value for name, value in fields if name == "transfer-encoding"]
    if codings:
        if lengths or head.minor == 0 or [value.lower() for value in codings] != ["chunked"]:
            raise HeadError(400)
        head.is_chunked = True
    elif lengths:
        digits = lengths[0].lstrip("0") or "0"
        if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
            raise HeadError(400)
        if len(digits) > LENGTH_DIGITS_MAX:
            digits = "9" * LENGTH_DIGITS_MAX  # beyond any limit
        head.content_length = int(digits)


def _read_connection(head: Head, fields: list[tuple[str, str]]) -> None:
    if "connection" in head.headers:
        for name, value in fields:
            if name == "connection":
                words = [word.strip(" \t") for word in value.lower().split(",")]
                if "close" in words:
                    head.keeps_alive = False
                    return
                if "keep-alive" in words:
                    head.keeps_alive = True
    expectation = head.headers.get("expect")
    if expectation is not None and head.minor == 1 and head.has_body:
        head.expects_continue = expectation.lower() == "100-continue"


class ChunkedDecoder:
    """The chunked coding; takes bytes as they arrive and stops exactly at its end."""

    __slots__ = ("_line", "_rest", "_stage", "_trailer_bytes", "is_complete")

    def __init__(self) -> None:
        self._line = bytearray()  # of a chunk's head or of the trailer, incomplete
        self._rest = 0  # bytes of the current chunk that are to come
        self._stage = "length"  # length, content, end, trailer
        self._trailer_bytes = 0
        self.is_complete = False

    def feed(self, data: bytes, content: bytearray) -> int:
        """Append what is content; the count of bytes that were used. Raises ChunkError."""
        position, end = 0, len(data)
        while position < end and not self.is_complete:
            if self._stage == "content":
                count = min(self._rest, end - position)
                content += memoryview(data)[position : position + count]
                position += count
                self._rest -= count
                if self._rest == 0:
                    self._stage = "end"
                continue
            position = self._take_line(data, position)
        return position

    def _take_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position, position + CHUNK_LINE_BYTES_MAX + 1)
        stop = len(data) if end < 0 else end + 1
        self._line += memoryview(data)[position : min(stop, position + CHUNK_LINE_BYTES_MAX + 1)]
        bound = TRAILER_BYTES_MAX if self._stage == "trailer" else CHUNK_LINE_BYTES_MAX
        if len(self._line) > bound:
            raise ChunkError("line too long")
        if end < 0:
            return min(stop, position + CHUNK_LINE_BYTES_MAX + 1)
        if not self._line.endswith(b"\r\n"):
            raise ChunkError("bare LF")
        line = bytes(self._line[:-2])
        self._line.clear()
        self._on_line(line)
        return stop

    def _on_line(self, line: bytes) -> None:
        if self._stage == "end":
            if line:
                raise ChunkError("chunk is longer than announced")
            self._stage = "length"
        elif self._stage == "length":
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise ChunkError("invalid chunk size")
            self._rest = int(match[1], 16)
            self._stage = "content" if self._rest else "trailer"
        elif not line:
            self.is_complete = True
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > TRAILER_BYTES_MAX or _FIELDS.fullmatch(line + b"\r\n") is None:
                raise ChunkError("invalid trailer")
