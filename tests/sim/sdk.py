"""A deployment without a network: scripted handlers that speak the SDK's side of the protocol.

Lives here: FakeSdk (a Transport), Peer (one exchange as the deployment sees it), Context (a small
SDK on top of it: replays its journal, waits, suspends).
Does not: HTTP (tests of http2, http1), real SDKs (tests/real).

A handler is a generator function of a Context; `yield` means "until the server says more". What
the server sends and what the handler answers travel through `defer`, so that nobody is called
back in the middle of a call, as with a real network.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator

from google.protobuf.message import Message as Body

from restated.invoker.transport import ExchangeRequest, Receiver, TransportError
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import Frame, FrameDecoder, frame

Wait = Generator[None, None, None]
Handler = Callable[["Context"], Generator[None, None, bytes | None]]
Script = Callable[["Peer"], Generator[None, None, None]]
Defer = Callable[[Callable[[], None]], None]


class Later:
    """The default of `defer`: what was deferred runs when a test says so."""

    def __init__(self) -> None:
        self._queue: deque[Callable[[], None]] = deque()

    def __call__(self, action: Callable[[], None]) -> None:
        self._queue.append(action)

    def run(self) -> None:
        """Run everything deferred, and what that defers."""
        while self._queue:
            self._queue.popleft()()


class Peer:
    """One exchange; implements `Exchange` for the server, and is driven by a script."""

    def __init__(
        self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver, defer: Defer
    ) -> None:
        self.request = request
        self.headers = dict(request.headers)
        self.chunks: list[bytes] = []  # as the server sent them
        self.received: list[Frame] = []
        self.is_ended = False  # the server half-closed
        self.is_aborted = False
        self.consumed_bytes = 0
        self.kept_bytes = 0
        self.hears_of_window = False  # its script runs on when the server opens the window
        self.sent_bytes = 0
        self.has_responded = False
        self.is_over = False
        self._body: Iterator[bytes] | None = body
        self._receiver = receiver
        self._decoder = FrameDecoder()
        self._defer = defer
        self._script: Generator[None, None, None] | None = None

    # -- Exchange, called by the server

    def send(self, data: bytes) -> None:
        assert not self.is_ended, "the server sends behind its own half-close"
        self._defer(lambda: self._arrive(data))

    def send_lazily(self, pieces: Iterator[bytes]) -> None:
        assert not self.is_ended, "the server sends behind its own half-close"

        def arrive() -> None:
            for piece in pieces:
                self._arrive(piece)

        self._defer(arrive)

    def end(self) -> None:
        if not self.is_ended:
            self.is_ended = True
            self._defer(self.wake)

    def abort(self) -> None:
        self.is_aborted = True
        self.is_over = True

    def consumed(self, count: int) -> None:
        self.consumed_bytes += count
        assert self.consumed_bytes <= self.sent_bytes, "more window than was used"
        if self.hears_of_window:
            self._defer(self.wake)

    def keep(self, count: int) -> None:
        self.kept_bytes += count

    # -- for the script

    @property
    def version(self) -> int:
        """The protocol version that the server chose."""
        return int(self.headers["content-type"].rpartition("v")[2])

    @property
    def bodies(self) -> list[Body]:
        """Everything received, decoded."""
        return [messages.decode(message.type, message.body) for message in self.received]

    def start(self, script: Script) -> None:
        """Take the replay, then run the script until it waits."""
        self.pull()
        self._script = script(self)
        self.wake()

    def pull(self) -> None:
        """Take the whole request body that is there at once."""
        if self._body is not None:
            body, self._body = self._body, None
            for chunk in body:
                self._arrive(chunk)
        if not self.request.streams:
            self.is_ended = True

    def respond(
        self, status: int = 200, headers: tuple[tuple[str, str], ...] | None = None
    ) -> None:
        """Send the head of the answer."""
        self.has_responded = True
        if headers is None:
            headers = (
                ("content-type", self.headers["accept"]),
                ("x-restate-server", "fake-sdk/1.0.0"),
            )
        chosen = headers
        self._tell(lambda: self._receiver.on_response(status, chosen))

    def write(self, data: bytes) -> None:
        """Send raw bytes of the body, behind a head if there was none yet."""
        if not self.has_responded:
            self.respond()
        self.sent_bytes += len(data)
        self._tell(lambda: self._receiver.on_data(data))

    def message(self, type_code: int, body: Body, *, ack: bool = False) -> None:
        """Send one message."""
        self.write(frame(type_code, body.SerializeToString(), requested_ack=ack))

    def finish(self) -> None:
        """Close the answer."""
        if not self.has_responded:
            self.respond()
        self._tell(self._receiver.on_end)
        self._tell(self._mark_over)

    def fail(self, message: str = "connection reset", code: str = "RT0010") -> None:
        """Break the connection."""
        self._tell(lambda: self._receiver.on_failed(TransportError(message, code)))
        self._tell(self._mark_over)

    def wake(self) -> None:
        """Let the script look at what has changed."""
        if self._script is None or self.is_aborted:
            return
        script = self._script
        try:
            next(script)
        except StopIteration:
            self._script = None

    def _arrive(self, data: bytes) -> None:
        if self.is_aborted:
            return
        self.chunks.append(data)
        self.received.extend(self._decoder.receive(data))
        self.wake()

    def _tell(self, action: Callable[[], None]) -> None:
        def deliver() -> None:
            if not self.is_over:
                action()

        self._defer(deliver)

    def _mark_over(self) -> None:
        self.is_over = True


class _Suspend(Exception):  # noqa: N818 - control flow of the fake, not an error
    """What is awaited cannot arrive on this exchange any more."""


class Context:
    """What a handler of the fake SDK works with."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        frames = peer.received
        start = messages.decode(frames[0].type, frames[0].body)
        assert isinstance(start, pb.StartMessage)
        self.start = start
        self._replayed = deque(
            (message.type, messages.decode(message.type, message.body))
            for message in frames[1 : 1 + start.known_entries]
            if message.type in messages.COMMAND_CODES
        )
        _, given = self._replayed.popleft()
        assert isinstance(given, pb.InputCommandMessage)
        self.input = given.value.content
        self._next_completion_id = 1
        self._seen_signals: dict[str, int] = {}

    @property
    def is_replaying(self) -> bool:
        """Whether the next command was sent by an older attempt."""
        return bool(self._replayed)

    def new_id(self) -> int:
        """The next completion id."""
        self._next_completion_id += 1
        return self._next_completion_id - 1

    def command(self, type_code: int, body: Body, *, ack: bool = False) -> None:
        """Issue a command, unless the journal has it already."""
        if self._replayed:
            replayed_type, _ = self._replayed.popleft()
            assert replayed_type == type_code, "the fake SDK is not deterministic"
            return
        self.peer.message(type_code, body, ack=ack)

    def result(self, name: str) -> Generator[None, None, pb.NotificationMessage]:
        """Wait for a completion (`c7`), a signal (`s17`) or a named signal (`n:name`)."""
        nth = self._seen_signals.get(name, 0)
        while True:
            found = [body for body in self._notifications() if _name_of(body) == name]
            if len(found) > nth:
                if not name.startswith("c"):
                    self._seen_signals[name] = nth + 1
                return found[nth]
            if self.peer.is_ended:
                raise _Suspend(name)
            yield

    def sleep(self, until_ms: int) -> Wait:
        """A durable sleep."""
        completion_id = self.new_id()
        self.command(
            messages.SLEEP_COMMAND,
            pb.SleepCommandMessage(wake_up_time=until_ms, result_completion_id=completion_id),
        )
        yield from self.result(f"c{completion_id}")

    def run(self, action: Callable[[], bytes]) -> Generator[None, None, bytes]:
        """A run; the action is executed when no result is in the journal."""
        completion_id = self.new_id()
        name = f"c{completion_id}"
        self.command(messages.RUN_COMMAND, pb.RunCommandMessage(result_completion_id=completion_id))
        known = [body for body in self._notifications() if _name_of(body) == name]
        if not known:
            proposal = pb.ProposeRunCompletionMessage(
                result_completion_id=completion_id, value=action()
            )
            wants_ack = self.peer.version >= 7
            self.peer.message(messages.PROPOSE_RUN_COMPLETION, proposal, ack=wants_ack)
            if wants_ack:
                yield from self._acked(completion_id)
                return proposal.value
        result = yield from self.result(name)
        return result.value.content

    def call(
        self, service: str, handler: str, argument: bytes, key: str = ""
    ) -> Generator[None, None, pb.NotificationMessage]:
        """Call another handler and wait for its end."""
        id_id, result_id = self.new_id(), self.new_id()
        self.command(
            messages.CALL_COMMAND,
            pb.CallCommandMessage(
                service_name=service,
                handler_name=handler,
                parameter=argument,
                key=key,
                invocation_id_notification_idx=id_id,
                result_completion_id=result_id,
            ),
        )
        return (yield from self.result(f"c{result_id}"))

    def set_state(self, name: str, value: bytes) -> None:
        """Write one state entry."""
        self.command(
            messages.SET_STATE_COMMAND,
            pb.SetStateCommandMessage(key=name.encode(), value=pb.Value(content=value)),
        )

    def state(self) -> dict[str, bytes]:
        """The state map of Start."""
        return {entry.key.decode(): entry.value for entry in self.start.state_map}

    def _acked(self, completion_id: int) -> Wait:
        while True:
            for message in self.peer.received:
                if message.type == messages.PROPOSE_RUN_COMPLETION_ACK:
                    ack = pb.ProposeRunCompletionAckMessage.FromString(message.body)
                    if ack.completion_id == completion_id:
                        return
            if self.peer.is_ended:
                raise _Suspend(f"c{completion_id}")
            yield

    def _notifications(self) -> Iterator[pb.NotificationMessage]:
        for message in self.peer.received:
            if message.type in messages.NOTIFICATION_CODES:
                yield pb.NotificationMessage.FromString(message.body)


class FakeSdk:
    """A Transport whose deployments are handlers of a test; unknown paths answer 404."""

    def __init__(self, defer: Defer | None = None) -> None:
        self.later = Later()
        self.peers: list[Peer] = []
        self._defer: Defer = self.later if defer is None else defer
        self._scripts: dict[str, Script] = {}

    def script(self, path: str, script: Script) -> None:
        """Serve a path with a script that sees raw messages."""
        self._scripts[path] = script

    def serve(self, path: str, handler: Handler) -> None:
        """Serve a path with a handler that returns its output."""
        self._scripts[path] = lambda peer: _drive(peer, handler)

    def open(self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver) -> Peer:
        peer = Peer(request, body, receiver, self._defer)
        self.peers.append(peer)
        script = self._scripts.get(request.path, _not_found)
        self._defer(lambda: None if peer.is_aborted else peer.start(script))
        return peer


def _drive(peer: Peer, handler: Handler) -> Generator[None, None, None]:
    context = Context(peer)
    try:
        output = yield from handler(context)
    except _Suspend as suspended:
        peer.message(messages.SUSPENSION, _suspension(peer.version, str(suspended)))
        peer.finish()
        return
    if output is not None:
        context.command(
            messages.OUTPUT_COMMAND, pb.OutputCommandMessage(value=pb.Value(content=output))
        )
    peer.message(messages.END, pb.EndMessage())
    peer.finish()


def _suspension(version: int, name: str) -> pb.SuspensionMessage:
    """Waits for `name`, or a cancel, as real SDKs do."""
    node = pb.Future(waiting_signals=[messages.SIGNAL_CANCEL], combinator_type=pb.FIRST_COMPLETED)
    if name.startswith("c"):
        node.waiting_completions.append(int(name[1:]))
    elif name.startswith("s"):
        node.waiting_signals.append(int(name[1:]))
    else:
        node.waiting_named_signals.append(name[2:])
    if version >= 7:
        return pb.SuspensionMessage(awaiting_on=node)
    return pb.SuspensionMessage(
        waiting_completions=node.waiting_completions,
        waiting_signals=node.waiting_signals,
        waiting_named_signals=node.waiting_named_signals,
    )


def _name_of(body: pb.NotificationMessage) -> str:
    match body.WhichOneof("id"):
        case "completion_id":
            return f"c{body.completion_id}"
        case "idx":
            return f"s{body.idx}"
        case _:
            return f"n:{body.name}"


def _not_found(peer: Peer) -> Generator[None, None, None]:
    peer.respond(404, ())
    peer.finish()
    yield
