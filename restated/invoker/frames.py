"""HTTP/2 frames and header blocks as bytes.

Lives here: frame heads, settings, error names, encoding of request header blocks, decoding and
checking of response header blocks.
Does not: connections and flow control (http2_connection.py).

Hand-cut because of a measurement: python-h2 takes 79 us of CPU for the client's side of one
exchange, this file and http2_connection.py together about a fifth of it, and an exchange is a
quarter of the budget of a call. hpack still decodes what dynamic tables touch.

Requests are encoded without indexing and without Huffman codes, so a block depends on no
connection and its fixed parts are encoded once per deployment.
"""

import re
from functools import lru_cache
from struct import Struct
from typing import Final

from hpack import Decoder, HPACKError
from hpack.table import HeaderTable

from restated.invoker.transport import TransportLimits

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

KIND_NAMES: Final = (
    "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS",
    "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION",
)  # fmt: skip
_SIZES: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_CONNECTION_KINDS: Final = frozenset((SETTINGS, PING, GOAWAY))

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 2, 3, 4
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, CANCEL, COMPRESSION_ERROR = 5, 6, 8, 9
ENHANCE_YOUR_CALM, HTTP_1_1_REQUIRED = 11, 13
ERROR_NAMES: Final = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
    "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
    "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip

FRAME_BYTES_MAX: Final = 16_384
WINDOW_MAX: Final = (1 << 31) - 1
DEFAULT_WINDOW: Final = 65_535

FRAME_HEAD: Final = Struct(">IBI")  # length << 8 | type, flags, stream id
SETTING: Final = Struct(">HI")
UINT32: Final = Struct(">I")
_pack_head = FRAME_HEAD.pack

BLOCKS_CACHED_MAX: Final = 64
# Header fields that belong to one HTTP/1.1 connection; RFC 9113 8.2.2 forbids them.
CONNECTION_FIELDS: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
)
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE: Final = re.compile(r"[\x00\r\n]")

Headers = tuple[tuple[str, str], ...]


class ConnectionFaultError(Exception):
    """The peer broke a rule that ends the whole connection; `code` goes into our GOAWAY."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class MalformedResponseError(Exception):
    """One response breaks a rule of RFC 9113; the connection goes on."""


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return _pack_head(len(payload) << 8 | kind, flags, stream_id) + payload


def frame_head(kind: int, flags: int, stream_id: int, size: int) -> bytes:
    """The nine bytes in front of a payload of `size` bytes."""
    return _pack_head(size << 8 | kind, flags, stream_id)


def settings_frame(settings: tuple[tuple[int, int], ...]) -> bytes:
    """A SETTINGS frame of (identifier, value) pairs."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*setting) for setting in settings))


def window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, UINT32.pack(increment))


def goaway(code: int) -> bytes:
    """A GOAWAY frame of a client: no stream of the server was ever accepted."""
    return frame(GOAWAY, 0, 0, UINT32.pack(0) + UINT32.pack(code))


def read_goaway(payload: bytes) -> tuple[int, int]:
    """The last stream that the peer takes care of, and its error code."""
    return UINT32.unpack_from(payload)[0] & 0x7FFFFFFF, UINT32.unpack_from(payload, 4)[0]


def greeting(limits: TransportLimits) -> bytes:
    """What a client sends first: preface, SETTINGS, the connection's window."""
    settings = (
        (ENABLE_PUSH, 0),
        (INITIAL_WINDOW_SIZE, limits.stream_window_bytes),
        (MAX_HEADER_LIST_SIZE, limits.header_list_bytes_max),
    )
    window = window_update(0, limits.connection_window_bytes - DEFAULT_WINDOW)
    return PREFACE + settings_frame(settings) + window


def is_greeting(octets: bytes) -> bool:
    """Whether a server's first bytes begin with SETTINGS, as far as can be seen (C89)."""
    if len(octets) < 5:
        return len(octets) < 3 or not b"HTTP/".startswith(octets)
    size = int.from_bytes(octets[:3], "big")
    return octets[3] == SETTINGS and not octets[4] & ACK and size <= FRAME_BYTES_MAX


def check_shape(kind: int, stream_id: int, payload: bytes) -> None:
    """Refuse a frame of a wrong length, or of a stream where it is the connection's."""
    if kind in _CONNECTION_KINDS and stream_id:
        raise ConnectionFaultError(PROTOCOL_ERROR, f"{KIND_NAMES[kind]} on a stream")
    size = _SIZES.get(kind)
    is_short = kind == GOAWAY and len(payload) < 8
    if is_short or (size is not None and len(payload) != size):
        raise ConnectionFaultError(FRAME_SIZE_ERROR, f"{KIND_NAMES[kind]} of a wrong length")


def without_padding(payload: bytes) -> bytes:
    """The payload of a PADDED frame. Raises ConnectionFaultError (RFC 9113 6.1)."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFaultError(PROTOCOL_ERROR, "a frame is all padding")
    return payload[1 : len(payload) - payload[0]]


def block_of(flags: int, payload: bytes) -> bytes:
    """The header block in a HEADERS frame, without padding and priority."""
    if flags & PADDED:
        payload = without_padding(payload)
    if not flags & HAS_PRIORITY:
        return payload
    if len(payload) < 5:
        raise ConnectionFaultError(FRAME_SIZE_ERROR, "a HEADERS frame is cut off")
    return payload[5:]


def check_setting(setting: int, value: int) -> None:
    """Refuse values that RFC 9113 6.5.2 forbids a server to announce."""
    if setting == INITIAL_WINDOW_SIZE and value > WINDOW_MAX:
        raise ConnectionFaultError(FLOW_CONTROL_ERROR, "an initial window exceeds 2^31-1")
    if setting == MAX_FRAME_SIZE and not FRAME_BYTES_MAX <= value < 1 << 24:
        raise ConnectionFaultError(PROTOCOL_ERROR, "a maximum frame size out of range")
    if setting == ENABLE_PUSH and value:
        raise ConnectionFaultError(PROTOCOL_ERROR, "a server may not enable push")


def long_block(flags: int, stream_id: int, block: bytes) -> bytes:
    """HEADERS and CONTINUATION frames of a header block that needs more than one."""
    pieces = [block[at : at + FRAME_BYTES_MAX] for at in range(0, len(block), FRAME_BYTES_MAX)]
    encoded = [frame(HEADERS, flags, stream_id, pieces[0])]
    encoded += [frame(CONTINUATION, 0, stream_id, piece) for piece in pieces[1:-1]]
    encoded.append(frame(CONTINUATION, END_HEADERS, stream_id, pieces[-1]))
    return b"".join(encoded)


def error_name(code: int) -> str:
    """The name of an HTTP/2 error code."""
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else "unknown error"


def field_problem(name: str, value: str) -> str | None:
    """Why a header field may not be sent; None when it may. Never quotes the value (Z5)."""
    if not _FIELD_NAME.fullmatch(name):
        return f"the header name {name[:80]!a} is not valid"
    if _BAD_VALUE.search(value):
        return f"the value of header '{name}' contains a line break or NUL"
    return None


# -- request header blocks


def _integer(value: int, prefix_max: int, first: int = 0) -> bytes:
    if value < prefix_max:
        return bytes((first | value,))
    rest, encoded = value - prefix_max, bytearray((first | prefix_max,))
    while rest >= 0x80:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


_LENGTHS: Final = tuple(_integer(length, 127) for length in range(1_024))
# Names of the static table (RFC 7541 A) that our requests use.
_STATIC_NAMES: Final = {
    ":authority": 1, ":path": 4, "accept": 19, "content-type": 31, "user-agent": 58,
    "authorization": 23, "accept-encoding": 16,
}  # fmt: skip
_PSEUDO: Final = {
    (":method", "GET"): b"\x82", (":method", "POST"): b"\x83",
    (":scheme", "http"): b"\x86", (":scheme", "https"): b"\x87",
}  # fmt: skip


@lru_cache(maxsize=1_024)
def _encoded_name(name: str) -> bytes:
    index = _STATIC_NAMES.get(name)
    if index is not None:
        return _integer(index, 15)
    raw = name.encode("latin-1")
    return b"\x00" + _integer(len(raw), 127) + raw


def encode_field(name: str, value: str) -> bytes:
    """One header field, literal without indexing. `name` is in lower case, both are checked.

    Values are sent as UTF-8; a value of one byte per character, such as ours, stays as it is.
    """
    raw = value.encode()
    size = len(raw)
    length = _LENGTHS[size] if size < 1_024 else _integer(size, 127)
    return _encoded_name(name) + length + raw


def encode_pseudo(name: str, value: str) -> bytes:
    """A pseudo header field; the usual ones are one byte."""
    return _PSEUDO.get((name, value)) or encode_field(name, value)


# -- response header blocks


class _CountingTable(HeaderTable):
    """A dynamic table that knows whether it has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)


class HeaderDecoder:
    """Decodes the header blocks of one connection, in order, each exactly once.

    A block that leaves the dynamic table as it was means the same the next time, as long as the
    table does not change: such blocks are remembered, which makes the common answer a lookup.
    """

    __slots__ = ("_cached", "_decoder", "_table")

    def __init__(self, list_bytes_max: int) -> None:
        self._table = _CountingTable()
        self._decoder = Decoder(max_header_list_size=list_bytes_max)
        self._decoder.header_table = self._table
        self._cached: dict[bytes, Headers] = {}

    def decode(self, block: bytes) -> Headers:
        """The fields of one block. Raises ConnectionFaultError: the tables are out of step."""
        headers = self._cached.get(block)
        if headers is not None:
            return headers
        before = self._table.changes
        try:
            decoded = self._decoder.decode(block, raw=True)
        except HPACKError as error:
            raise ConnectionFaultError(
                COMPRESSION_ERROR, f"its header block cannot be decoded: {error}"
            ) from error
        except (IndexError, ValueError) as error:  # hpack on truncated input
            raise ConnectionFaultError(COMPRESSION_ERROR, "its header block is cut off") from error
        headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in decoded
        )
        if self._table.changes != before or (block and block[0] & 0xE0 == 0x20):
            self._cached.clear()
        elif len(self._cached) < BLOCKS_CACHED_MAX:
            self._cached[block] = headers
        return headers


@lru_cache(maxsize=256)
def check_response(headers: Headers) -> tuple[int, Headers, int | None]:
    """Status, fields without pseudo fields, and content length. Raises MalformedResponseError."""
    if not headers or headers[0][0] != ":status":
        raise MalformedResponseError("the response has no ':status' in front")
    status = headers[0][1]
    if len(status) != 3 or not status.isascii() or not status.isdigit() or status < "100":
        raise MalformedResponseError("the response has a ':status' that is no status code")
    fields = headers[1:]
    check_fields(fields)
    lengths = {value for name, value in fields if name == "content-length"}
    if not lengths:
        return int(status), fields, None
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit() and len(length) < 16):
        raise MalformedResponseError("the response has no valid content-length")
    return int(status), fields, int(length)


def check_trailers(headers: Headers, *, is_last: bool) -> None:
    """Refuse a second header block that is no trailers. Raises MalformedResponseError."""
    if not is_last:
        raise MalformedResponseError("a second header block does not end the response")
    check_fields(headers)


def check_fields(fields: Headers) -> None:
    """Refuse fields that RFC 9113 8.2 forbids in a response or its trailers."""
    for name, value in fields:
        if name.startswith(":"):
            raise MalformedResponseError("the response has a pseudo field where none may be")
        if name != name.lower() or name in CONNECTION_FIELDS:
            raise MalformedResponseError(f"the response has the forbidden header {name[:80]!a}")
        problem = field_problem(name, value)
        if problem is not None:
            raise MalformedResponseError(f"in the response {problem}")
