"""H1: a deployment of raw HTTP/1.1, request/response, that answers what no SDK says.

Its service is `H1`, its handlers are the rows of ANSWERS; each notes its attempts.
"""

import json
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final

from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import frame

FAILURE: Final = pb.Failure(code=70_000, message="no")
HUGE_CODE: Final = frame(
    messages.OUTPUT_COMMAND, pb.OutputCommandMessage(failure=FAILURE).SerializeToString()
) + frame(messages.END, b"")
ANSWERS: Final[dict[str, tuple[int, dict[str, str], bytes]]] = {
    "busy": (429, {"retry-after": "3"}, b"later"),
    "broken": (500, {}, b"broken"),
    "missing": (404, {}, b"nobody here"),
    "garbage": (200, {}, b"\xff" * 64),
    "empty": (200, {}, b""),
    "huge_code": (200, {}, HUGE_CODE),
}
MANIFEST_TYPE: Final = "application/vnd.restate.endpointmanifest.v3+json"


class RawEndpoint:
    """The endpoint on a port of its own, on a thread; a context."""

    def __init__(self, service: str = "H1", service_type: str = "SERVICE") -> None:
        self.attempts: dict[str, list[float]] = defaultdict(list)  # by handler: when, seconds
        noted = self.attempts
        handlers = [{"name": name} for name in ANSWERS]
        manifest = {
            "protocolMode": "REQUEST_RESPONSE",
            "minProtocolVersion": 5,
            "maxProtocolVersion": 6,
            "services": [{"name": service, "ty": service_type, "handlers": handlers}],
        }

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = json.dumps(manifest).encode()
                self._answer(200, {"content-type": MANIFEST_TYPE}, body)

            def do_POST(self) -> None:
                self._read_chunks()
                handler = self.path.rsplit("/", 1)[1]
                noted[handler].append(time.monotonic())
                status, headers, body = ANSWERS[handler]
                invocation_type = "application/vnd.restate.invocation.v6"
                self._answer(status, {"content-type": invocation_type} | headers, body)

            def _read_chunks(self) -> None:
                assert self.headers["transfer-encoding"] == "chunked"
                while count := int(self.rfile.readline(), 16):
                    self.rfile.read(count + len(b"\r\n"))
                self.rfile.readline()

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "RawEndpoint":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
