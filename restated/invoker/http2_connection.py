"""One HTTP/2 connection to a deployment, client side (RFC 9113).

Lives here: the reader of a connection and what it makes of each frame, the windows that the peer
has, everything that a peer may do wrong and its budget (N3, C87).
Does not: bytes of frames (frames.py), what we send and when (http2_sender.py), the state of one
request (http2_exchange.py), when connections are opened and shared (http2.py).
"""

import logging
from typing import Final, Protocol

import trio

from restated.invoker import frames as h2
from restated.invoker.dial import Wire, describe
from restated.invoker.frames import ConnectionFaultError, MalformedResponseError
from restated.invoker.http2_exchange import Http2Exchange
from restated.invoker.http2_sender import Http2Sender
from restated.invoker.http2_vitals import Http2Vitals
from restated.invoker.transport import TransportError, TransportLimits, WrongHttpVersionError
from restated.store.store import StoreFailedError

log = logging.getLogger(__name__)

BLOCK_BYTES_MAX: Final = 32_768  # of one compressed header block
PING: Final = h2.frame(h2.PING, 0, 0, b"restated")
EMPTY_DATA_WEIGHT: Final = 16  # nobody has a reason to send them
ONLY_HTTP1: Final = "server possibly supports only HTTP1.1, consider discovery with --use-http1.1."


class Owner(Protocol):
    """Who shares out the connection's streams."""

    def on_greeted(self) -> None:
        """It may be used from now on; `on_room` follows."""
        ...

    def on_room(self, connection: "Http2Connection") -> None:
        """It can take more exchanges than before."""
        ...

    def on_lost(
        self, connection: "Http2Connection", unsent: list[Http2Exchange], error: TransportError
    ) -> None:
        """It takes no more exchanges; `unsent` were adopted, and nothing of them was sent."""
        ...


class Http2Connection:
    """A connection; `run` it once."""

    __slots__ = (
        "_block", "_decoder", "_fresh", "_goodbye", "_limits", "_on_frame", "_owed", "_owner",
        "_peer_streams_max", "_receive_window", "_rest", "_scope", "_sender", "_streams",
        "_vitals", "_wire", "count", "is_closed", "is_greeted", "is_leaving",
    )  # fmt: skip

    def __init__(self, wire: Wire, limits: TransportLimits, owner: Owner) -> None:
        self.count = 0  # exchanges adopted and not over
        self.is_greeted = False  # the peer's SETTINGS have come
        self.is_leaving = False  # no new exchanges
        self.is_closed = False
        self._wire = wire
        self._limits = limits
        self._owner = owner
        self._sender = Http2Sender(wire, limits.outgoing_bytes_max, self)
        self._scope = trio.CancelScope()
        self._streams: dict[int, Http2Exchange] = {}
        self._fresh: dict[Http2Exchange, None] = {}  # adopted, no HEADERS sent; in order
        self._decoder = h2.HeaderDecoder(limits.header_list_bytes_max)
        self._rest = b""  # the beginning of a frame
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags; CONTINUATION due
        self._peer_streams_max = 1 << 31
        self._receive_window = limits.connection_window_bytes
        self._owed = 0
        self._goodbye = h2.NO_ERROR
        self._vitals = Http2Vitals(limits)
        self._on_frame = (
            self._on_data, self._on_headers, self._on_priority, self._on_reset,
            self._on_settings, self._on_push, self._on_ping, self._on_goaway,
            self._on_window_update, self._on_continuation,
        )  # fmt: skip

    # -- for the pool

    @property
    def has_room(self) -> bool:
        """Whether one more exchange may be adopted."""
        return self.count < self.streams_max and self.is_greeted and not self.is_leaving

    @property
    def streams_max(self) -> int:
        """How many exchanges it carries at once, by our limit and the peer's."""
        return min(self._limits.streams_max, self._peer_streams_max)

    def adopt(self, exchange: Http2Exchange) -> None:
        """Carry an exchange; none behind the last that the limits allow in all."""
        assert self.has_room
        self.count += 1
        exchange.carrier = self
        exchange.receive_window = self._limits.stream_window_bytes
        self._fresh[exchange] = None
        self.is_leaving = self._sender.opened + len(self._fresh) >= self._limits.requests_max
        self._sender.mark(exchange)

    async def run(self) -> None:
        """Until the connection is of no more use; raises only what is a defect."""
        self._sender.emit(h2.greeting(self._limits))
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._sender.run)
                    await self._read()
        finally:
            self.fail(TransportError("the connection was closed"))
            await self._wire.aclose(self._sender.last_words(h2.goaway(self._goodbye)))

    def tick(self, seconds: float) -> None:
        """Let `seconds` pass: keep-alive, idle eviction, the greeting's deadline (C86, M5)."""
        if self._vitals.tick(seconds, is_idle=not self.count):
            self._sender.work = 0
        reason = self._vitals.overdue(is_greeted=self.is_greeted)
        if reason is not None:
            self.fail(TransportError(reason))
        elif self._vitals.is_ping_due(seconds):
            self._sender.emit(PING)

    def fail(self, error: TransportError, code: int = h2.NO_ERROR) -> None:
        """Close the connection; its exchanges fail, unsent ones go back to the pool."""
        if self.is_closed:
            return
        self.is_closed = self.is_leaving = True
        self._goodbye = code
        self._scope.cancel()
        broken = list(self._streams.values())
        self._streams.clear()
        self._owner.on_lost(self, self._release_fresh(), error)
        for exchange in broken:
            exchange.fail(error)

    # -- for its exchanges

    def mark(self, exchange: Http2Exchange) -> None:
        """See Carrier."""
        self._sender.mark(exchange)

    def reset(self, exchange: Http2Exchange, code: int) -> None:
        """See Carrier."""
        if exchange.id and not (exchange.is_local_ended and exchange.is_remote_ended):
            self._sender.emit(h2.frame(h2.RST_STREAM, 0, exchange.id, h2.UINT32.pack(code)))
        self._remove(exchange)

    def credit_stream(self, exchange: Http2Exchange, count: int) -> None:
        """See Carrier. Announced in pieces of half a window."""
        exchange.owed += count
        if exchange.owed >= self._limits.stream_window_bytes >> 1:
            exchange.receive_window += exchange.owed
            self._sender.emit(h2.window_update(exchange.id, exchange.owed))
            exchange.owed = 0

    # -- for the sender

    def on_headers_sent(self, exchange: Http2Exchange) -> None:
        """See Sending."""
        self._fresh.pop(exchange, None)
        self._streams[exchange.id] = exchange

    def on_end_sent(self, exchange: Http2Exchange) -> None:
        """See Sending."""
        exchange.is_local_ended = exchange.ends = True
        if exchange.is_remote_ended:
            self._remove(exchange)
            exchange.close()

    def on_body_failed(self, exchange: Http2Exchange) -> None:
        """See Sending."""
        self._break(exchange, h2.INTERNAL_ERROR, "the request could not be produced")

    def on_send_failed(self, error: OSError) -> None:
        """See Sending. What the peer had said before is read first: it may be all."""
        if not self.is_closed:
            self.is_leaving = True
            reason = self._vitals.cut(f"sending failed: {describe(error)}")
            self._owner.on_lost(self, self._release_fresh(), TransportError(reason))

    # -- receiving

    async def _read(self) -> None:
        while True:
            try:
                octets = await self._wire.receive()
            except OSError as error:
                self.fail(TransportError(f"receiving failed: {describe(error)}"))
                return
            if not octets:
                self.fail(TransportError("the service closed the connection"))
                return
            self._vitals.has_heard = True
            self._sender.is_held = True
            try:
                self._receive(octets)
            except ConnectionFaultError as fault:
                code = h2.error_name(fault.code)
                self.fail(TransportError(f"the service broke HTTP/2: {fault} ({code})"), fault.code)
            except WrongHttpVersionError as error:
                self.fail(error, h2.PROTOCOL_ERROR)
            finally:
                self._sender.is_held = False
            if self.is_closed:
                return
            self._sender.flush()

    def _receive(self, octets: bytes) -> None:
        if self._rest:
            octets = self._rest + octets
        at, size = 0, len(octets)
        if not self.is_greeted and not h2.is_greeting(octets):
            raise WrongHttpVersionError(ONLY_HTTP1)
        while size - at >= 9 and not self.is_closed:
            head, flags, stream_id = h2.FRAME_HEAD.unpack_from(octets, at)
            end = at + 9 + (head >> 8)
            if end - at > h2.FRAME_BYTES_MAX + 9:
                raise ConnectionFaultError(h2.FRAME_SIZE_ERROR, "a frame is larger than 16384")
            if end > size:
                break
            kind = head & 0xFF
            if self._block is not None and kind != h2.CONTINUATION:
                raise ConnectionFaultError(h2.PROTOCOL_ERROR, "a header block was interrupted")
            if kind <= h2.CONTINUATION:
                self._on_frame[kind](flags, stream_id & 0x7FFFFFFF, octets[at + 9 : end])
            else:
                self._count_chatter(1)
            at = end
        self._rest = octets[at:]

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFaultError(h2.FLOW_CONTROL_ERROR, "it overran the connection window")
        if flags & h2.PADDED:
            payload = h2.without_padding(payload)
        if payload or flags & h2.END_STREAM:
            self._vitals.work += 1
        else:
            self._count_chatter(EMPTY_DATA_WEIGHT)
        exchange = self._streams.get(stream_id)
        if exchange is None or exchange.is_remote_ended:
            self._check_known(stream_id)
            self.credit_connection(size)
            return
        exchange.receive_window -= size
        exchange.unconsumed += len(payload)
        if exchange.receive_window < 0:
            self._break(exchange, h2.FLOW_CONTROL_ERROR, "it overran the window of the stream")
            return
        if size > len(payload):
            self.credit_stream(exchange, size - len(payload))
            self.credit_connection(size - len(payload))
        if exchange.body_left is not None:
            exchange.body_left -= len(payload)
        if not exchange.has_responded or (exchange.body_left or 0) < 0:
            reason = "DATA before HEADERS" if exchange.body_left is None else "too long a body"
            self._break(exchange, h2.PROTOCOL_ERROR, f"it sent {reason}")
            return
        self._deliver(exchange, payload, is_last=bool(flags & h2.END_STREAM))

    def _deliver(
        self,
        exchange: Http2Exchange,
        payload: bytes,
        *,
        is_last: bool,
        head: tuple[int, h2.Headers] | None = None,
    ) -> None:
        try:
            if head is not None and exchange.receiver is not None:
                exchange.receiver.on_response(*head)
            if payload and exchange.receiver is not None:
                exchange.receiver.on_data(payload)
            if is_last and not exchange.is_closed:
                self._end_remote(exchange)
        except StoreFailedError:
            raise
        except Exception:  # a defect of one attempt must not take the others along
            log.exception("event=receiver_failed stream=%d", exchange.id)
            if not exchange.is_closed:
                self.reset(exchange, h2.INTERNAL_ERROR)
                exchange.close()

    def _end_remote(self, exchange: Http2Exchange) -> None:
        if exchange.body_left:
            self._break(exchange, h2.PROTOCOL_ERROR, "its body is shorter than announced")
            return
        exchange.is_remote_ended = True
        self.credit_connection(exchange.forget_unconsumed())
        receiver, exchange.receiver = exchange.receiver, None
        if receiver is not None:
            receiver.on_end()
        if exchange.is_closed:
            return
        # The answer is complete: nothing that we could still send would be read.
        if exchange.is_local_ended:
            self._remove(exchange)
            exchange.close()
        elif exchange.discard():
            self.reset(exchange, h2.CANCEL)
            exchange.close()
        else:
            exchange.ends = True
            self._sender.mark(exchange)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        payload = h2.block_of(flags, payload)
        if flags & h2.END_HEADERS:
            self._on_block(flags, stream_id, payload)
        else:
            self._block = (stream_id, flags, bytearray(payload))

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream_id:
            raise ConnectionFaultError(h2.PROTOCOL_ERROR, "a CONTINUATION continues nothing")
        _, first_flags, block = self._block
        self._count_chatter(EMPTY_DATA_WEIGHT)
        block += payload
        if len(block) > BLOCK_BYTES_MAX:
            raise ConnectionFaultError(h2.ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & h2.END_HEADERS:
            self._block = None
            self._on_block(first_flags, stream_id, bytes(block))

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        headers = self._decoder.decode(block)  # also for streams that are over: tables in step
        exchange = self._streams.get(stream_id)
        if exchange is None or exchange.is_remote_ended:
            self._check_known(stream_id)
            self._count_chatter(1)
            return
        is_last = bool(flags & h2.END_STREAM)
        head: tuple[int, h2.Headers] | None = None
        try:
            if exchange.has_responded:
                h2.check_trailers(headers, is_last=is_last)
            else:
                status, fields, exchange.body_left = h2.check_response(headers)
                head = (status, fields)
        except MalformedResponseError as error:
            self._break(exchange, h2.PROTOCOL_ERROR, str(error))
            return
        if head is not None and head[0] < 200 and not is_last:
            exchange.body_left = None
            self._count_chatter(EMPTY_DATA_WEIGHT)
            return
        self._vitals.work += 1
        exchange.has_responded = True
        self._deliver(exchange, b"", is_last=is_last, head=head)

    def _on_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        h2.check_shape(h2.RST_STREAM, stream_id, payload)
        self._count_chatter(1)
        self._check_known(stream_id)
        exchange = self._streams.get(stream_id)
        if exchange is None:
            return
        error = _refusal("the service reset the stream:", int.from_bytes(payload, "big"))
        self._remove(exchange)
        exchange.fail(error)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        h2.check_shape(h2.SETTINGS, stream_id, payload)
        if len(payload) % 6 or (flags & h2.ACK and payload):
            raise ConnectionFaultError(h2.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        self._count_chatter(1)
        if flags & h2.ACK:
            return
        for setting, value in h2.SETTING.iter_unpack(payload):
            h2.check_setting(setting, value)
            if setting == h2.MAX_CONCURRENT_STREAMS:
                self._peer_streams_max = value
            elif setting == h2.INITIAL_WINDOW_SIZE:
                self._resize_windows(value)
        self._sender.emit(h2.frame(h2.SETTINGS, h2.ACK, 0))
        if not self.is_greeted:
            self.is_greeted = True
            self._owner.on_greeted()
        if self.streams_max < 1 and not self.count:
            self.fail(TransportError("the service allows no HTTP/2 streams"))
        else:
            self._owner.on_room(self)

    def _resize_windows(self, value: int) -> None:
        change = value - self._sender.stream_window
        self._sender.stream_window = value
        for exchange in self._streams.values():
            exchange.window += change
            if exchange.window > h2.WINDOW_MAX:
                raise ConnectionFaultError(h2.FLOW_CONTROL_ERROR, "a window exceeds 2^31-1")
            if change > 0:
                self._sender.mark(exchange)

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        h2.check_shape(h2.PING, stream_id, payload)
        self._count_chatter(1)
        if not flags & h2.ACK:
            self._sender.emit(h2.frame(h2.PING, h2.ACK, 0, payload))

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        h2.check_shape(h2.GOAWAY, stream_id, payload)
        self._count_chatter(1)
        last_id, code = h2.read_goaway(payload)
        error = _refusal(
            "the service is closing the connection and did not accept this request: GOAWAY", code
        )
        self.is_leaving = True
        refused = [exchange for exchange in self._streams.values() if exchange.id > last_id]
        self._owner.on_lost(self, self._release_fresh(), error)
        for exchange in refused:
            self._remove(exchange)
            exchange.fail(error)
        if self.count:
            self._sender.emit(PING)  # hypercorn can answer nothing now, and notices when it hears
        else:
            self.fail(error)

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        h2.check_shape(h2.WINDOW_UPDATE, stream_id, payload)
        self._count_chatter(1)
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if not stream_id:
            if not increment or self._sender.window + increment > h2.WINDOW_MAX:
                raise ConnectionFaultError(h2.FLOW_CONTROL_ERROR, "a bad connection WINDOW_UPDATE")
            self._sender.widen(increment)
            return
        exchange = self._streams.get(stream_id)
        if exchange is None:
            self._check_known(stream_id)
            return
        exchange.window += increment
        if not increment or exchange.window > h2.WINDOW_MAX:
            self._break(exchange, h2.FLOW_CONTROL_ERROR, "it sent a bad WINDOW_UPDATE")
            return
        self._sender.mark(exchange)

    def _on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        h2.check_shape(h2.PRIORITY, stream_id, payload)
        self._count_chatter(1)

    def _on_push(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFaultError(h2.PROTOCOL_ERROR, "a push, which was not allowed")

    # -- the end of exchanges

    def credit_connection(self, count: int) -> None:
        """See Carrier. Announced in pieces of half a window."""
        self._owed += count
        if self._owed >= self._limits.connection_window_bytes >> 1:
            self._receive_window += self._owed
            self._sender.emit(h2.window_update(0, self._owed))
            self._owed = 0

    def _remove(self, exchange: Http2Exchange) -> None:
        self._fresh.pop(exchange, None)
        self._streams.pop(exchange.id, None)
        self.credit_connection(exchange.forget_unconsumed())
        self.count -= 1
        if self.is_closed:
            return
        if not self.is_leaving:
            self._owner.on_room(self)
        elif not self.count:
            self.fail(TransportError("the service is closing the connection"))

    def _release_fresh(self) -> list[Http2Exchange]:
        unsent = [exchange for exchange in self._fresh if not exchange.is_closed]
        self._fresh.clear()
        self.count -= len(unsent)
        self._sender.forget(unsent)
        for exchange in unsent:
            exchange.carrier = None
        return unsent

    def _break(self, exchange: Http2Exchange, code: int, reason: str) -> None:
        """Reset a stream because of its peer, or of us, and tell the receiver."""
        self.reset(exchange, code)
        exchange.fail(
            TransportError(f"the exchange was broken off: {reason} ({h2.error_name(code)})"),
        )

    def _check_known(self, stream_id: int) -> None:
        if not stream_id & 1 or stream_id >= self._sender.next_id:
            raise ConnectionFaultError(h2.PROTOCOL_ERROR, "a frame on a stream never opened")

    def _count_chatter(self, weight: int) -> None:
        self._vitals.count_chatter(weight, self._sender.work)


def _refusal(text: str, code: int) -> TransportError:
    error_type = WrongHttpVersionError if code == h2.HTTP_1_1_REQUIRED else TransportError
    return error_type(f"{text} {h2.error_name(code)} ({code})")
