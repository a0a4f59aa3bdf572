"""Discovery over a scripted transport, on a virtual clock."""

from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from restated.invoker.discovery import (
    ACCEPT,
    MANIFEST_BYTES_MAX,
    DiscoveryAnswer,
    DiscoveryError,
    discover,
)
from restated.invoker.targets import TargetRefusedError
from restated.invoker.transport import (
    Exchange,
    ExchangeRequest,
    Receiver,
    TransportError,
    WrongHttpVersionError,
)
from restated.model.records import Deployment
from tests.invoker.peers import deployment

V3 = "application/vnd.restate.endpointmanifest.v3+json"
Headers = tuple[tuple[str, str], ...]
Answer = tuple[int, Headers, bytes] | TransportError | None  # None: silence
OK: Answer = (200, (("content-type", V3), ("x-restate-server", "sdk/1")), b"{}")
QUOTED = f"'\"{ACCEPT}\"'"


class Script:
    """A Transport that gives one answer after the other, each in its own piece."""

    def __init__(self, nursery: trio.Nursery, answers: list[Answer]) -> None:
        self.nursery = nursery
        self.answers = answers
        self.requests: list[ExchangeRequest] = []
        self.times: list[float] = []
        self.aborted = 0
        self.consumed_bytes = 0

    def open(self, request: ExchangeRequest, body: Iterator[bytes], receiver: Receiver) -> Exchange:
        assert list(body) == []
        self.requests.append(request)
        self.times.append(trio.current_time())
        self.nursery.start_soon(self.play, self.answers.pop(0), receiver)
        return self

    async def play(self, answer: Answer, receiver: Receiver) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(answer, TransportError):
            receiver.on_failed(answer)
        elif answer is not None:
            status, headers, octets = answer
            receiver.on_response(status, headers)
            for at in range(0, len(octets), 1 << 20):
                receiver.on_data(octets[at : at + (1 << 20)])
            receiver.on_end()

    def send(self, data: bytes) -> None:
        raise AssertionError(data)

    def send_lazily(self, pieces: Iterator[bytes]) -> None:
        raise AssertionError(pieces)

    def end(self) -> None:
        raise AssertionError

    def abort(self) -> None:
        self.aborted += 1

    def consumed(self, count: int) -> None:
        self.consumed_bytes += count

    def keep(self, count: int) -> None:
        raise AssertionError(count)


class Outcome:
    """What came of a discovery."""

    script: Script
    answer: DiscoveryAnswer
    error: DiscoveryError
    seconds: float


def play(*answers: Answer, to: Deployment | None = None) -> Outcome:
    outcome = Outcome()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            outcome.script = Script(nursery, list(answers))
            began = trio.current_time()
            try:
                outcome.answer = await discover(outcome.script, to or deployment())
            except DiscoveryError as error:
                outcome.error = error
            outcome.seconds = trio.current_time() - began
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return outcome


def test_a_manifest_is_returned_as_it_came() -> None:
    """service-protocol.md 1.1: the request; 1.2: status and content type."""
    outcome = play((200, (("content-type", V3), ("x-restate-server", "sdk/1")), b'{"a": 1}'))
    assert outcome.answer == DiscoveryAnswer(b'{"a": 1}', V3, "sdk/1", "http2")
    (request,) = outcome.script.requests
    assert (request.method, request.path, request.streams) == ("GET", "/discover", False)
    assert request.headers == (("accept", ACCEPT),)
    assert outcome.script.consumed_bytes == 8


def test_any_2xx_and_no_server_header_will_do() -> None:
    """Supplement: any 2xx is accepted."""
    outcome = play((202, (("content-type", V3),), b"{}"))
    assert outcome.answer.sdk is None


def test_trouble_on_the_way_is_tried_again_four_times() -> None:
    """1.1: exponential from 100 ms, factor 2."""
    outcome = play(*[TransportError("Connection refused (os error 111)")] * 5)
    assert outcome.error.status == 500
    assert outcome.error.restate_code == "META0003"
    assert outcome.error.message == (
        "[META0003] [META0003] error when calling 'http://service:9080/': "
        "Connection refused (os error 111)"
    )
    times = [at - outcome.script.times[0] for at in outcome.script.times]
    assert times == pytest.approx([0, 0.1, 0.3, 0.7, 1.5])


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_temporary_status_is_tried_again(status: int) -> None:
    """1.1."""
    outcome = play((status, (), b""), TransportError("x"), OK)
    assert outcome.answer.sdk == "sdk/1"
    assert len(outcome.script.requests) == 3


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 415, 418, 501])
def test_other_statuses_are_final(status: int) -> None:
    """C90: no retry loop; Z3: redirects are not followed."""
    outcome = play((status, (("location", "http://elsewhere"),), b""))
    assert outcome.error.restate_code == "META0003"
    assert outcome.seconds == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (401, (("content-type", "text/plain"), ("server", "x")), b"who are you"),
            "[META0003] [META0003] got status code '401 Unauthorized'. Response headers: "
            '{"content-type": "text/plain", "server": "x"}. Body: who are you',
        ),
        (
            (404, (("content-type", "text/plain"),), b"no endpoint here"),
            "[META0003] [META0003] got status code '404'. Make sure the provided URI has the "
            "correct path where the Restate SDK endpoint is mounted. Response headers: "
            '{"content-type": "text/plain"}. Body: no endpoint here',
        ),
        (
            (418, (("x-a", 'q"\\\xe4\x01'),), b"hello \xff bad"),
            "[META0003] [META0003] got status code '418 I'm a teapot'. Response headers: "
            '{"x-a": "q\\"\\\\\\xe4\\x01"}. Body: hello \ufffd bad',
        ),
        (
            (599, (), b"z" * 5_000),
            "[META0003] [META0003] got status code '599'. Response headers: {}. Body: "
            + "z" * 4_096
            + "... (5000 bytes)",
        ),
        (
            (200, (), b"{}"),
            "[META0013] [META0013] received a bad response from the SDK: No content type header "
            f"was specified. Expected one of {QUOTED} content type.",
        ),
        (
            (200, (("content-type", "application/json"),), b"{}"),
            "[META0013] [META0013] received a bad response from the SDK: Bad content type "
            f'header: "application/json". Expected one of {QUOTED}',
        ),
    ],
)
def test_a_bad_answer_is_told_in_the_words_of_the_contract(answer: Answer, message: str) -> None:
    """admin.md 4.2, recorded answers of the reference."""
    assert play(answer).error.message == message


@pytest.mark.parametrize("parameter", ["; charset=utf-8", " ", ";"])
def test_a_content_type_with_a_parameter_is_refused(parameter: str) -> None:
    """1.2: exactly one of the four."""
    outcome = play((200, (("content-type", V3 + parameter),), b"{}"))
    assert outcome.error.restate_code == "META0013"


def test_a_peer_of_http_1_is_named_at_once() -> None:
    """META0014, without a retry."""
    outcome = play(WrongHttpVersionError("server possibly supports only HTTP1.1, consider this."))
    assert outcome.error.message == (
        "[META0014] [META0014] error when calling 'http://service:9080/': "
        "server possibly supports only HTTP1.1, consider this."
    )


def test_a_peer_of_http_2_is_named_at_once() -> None:
    """C89, the other way round: META0003 as the reference says it."""
    outcome = play(
        WrongHttpVersionError("server possibly supports only HTTP/2"),
        to=deployment(transport="http1"),
    )
    assert outcome.error.restate_code == "META0003"
    assert "only HTTP/2" in outcome.error.message


def test_over_tls_the_server_may_choose_http_1() -> None:
    """1.1: ALPN; what was spoken is stored."""
    outcome = play(
        WrongHttpVersionError("only HTTP1.1"), OK, to=deployment("https://service", "http2")
    )
    assert outcome.answer.transport == "http1"
    assert [request.deployment.transport for request in outcome.script.requests] == [
        "http2",
        "http1",
    ]
    assert outcome.seconds == 0


def test_a_refused_target_is_final() -> None:
    """Z3, C90."""
    outcome = play(TargetRefusedError("the address 169.254.1.1 port 80 is refused: no"))
    assert outcome.error.message.endswith("is refused: no")
    assert outcome.seconds == 0


def test_an_uri_that_is_none_is_refused_without_a_request() -> None:
    """admin.md 4.2."""
    outcome = play(to=deployment("/tickets"))
    assert (outcome.error.status, outcome.error.restate_code) == (400, None)
    assert outcome.error.message == (
        "The request field 'uri' is invalid. Reason: The provided uri /tickets is not absolute, "
        "only absolute URIs can be used."
    )


def test_a_silent_service_is_given_up() -> None:
    """M5: a minute for all tries together."""
    outcome = play(TransportError("x"), None)
    assert "no complete answer within 60 seconds" in outcome.error.message
    assert outcome.seconds == pytest.approx(60)
    assert outcome.script.aborted == 2


def test_an_endless_manifest_is_cut_off() -> None:
    """Z3: size limit."""
    outcome = play((200, (("content-type", V3),), b"x" * (MANIFEST_BYTES_MAX + 1)))
    assert outcome.error.restate_code == "META0013"
    assert "larger than 16777216 bytes" in outcome.error.message
