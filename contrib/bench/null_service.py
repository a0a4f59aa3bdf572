"""A service that costs next to nothing, so that a load over it measures the server.

Lives here: discovery and one handler, `Null/echo`, over HTTP/2 without TLS.
Not a service for anything else: it knows the first attempt of a handler that answers its input.
"""

import argparse
import asyncio
import json

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived

from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.wire import FrameDecoder, frame

MANIFEST = {
    "protocolMode": "BIDI_STREAM",
    "minProtocolVersion": 5,
    "maxProtocolVersion": 6,
    "services": [
        {
            "name": "Null",
            "ty": "SERVICE",
            "handlers": [
                {
                    "name": "echo",
                    "input": {"required": False, "contentType": "*/*"},
                    "output": {"contentType": "application/json"},
                }
            ],
        }
    ],
}
MANIFEST_TYPE = "application/vnd.restate.endpointmanifest.v1+json"


class NullService(asyncio.Protocol):
    """One connection of the server under test."""

    def __init__(self) -> None:
        self.http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.open: dict[int, tuple[str, FrameDecoder]] = {}  # stream -> content type, decoder

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.http.initiate_connection()
        self.http.increment_flow_control_window(1 << 30)
        transport.write(self.http.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Answer whatever is complete."""
        for event in self.http.receive_data(data):
            if isinstance(event, RequestReceived):
                self.begin(event.stream_id, dict(event.headers))
            elif isinstance(event, DataReceived):
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.receive(event.stream_id, event.data)
        self.transport.write(self.http.data_to_send())

    def begin(self, stream: int, headers: dict[str, str]) -> None:
        """Discovery is answered at once, an attempt when its input is there."""
        if headers[":path"] == "/discover":
            self.answer(stream, MANIFEST_TYPE, json.dumps(MANIFEST).encode())
        else:
            self.open[stream] = (headers["content-type"], FrameDecoder())

    def receive(self, stream: int, data: bytes) -> None:
        """The input goes back as the output."""
        if stream not in self.open:
            return
        content_type, decoder = self.open[stream]
        for received in decoder.receive(data):
            if received.type == messages.INPUT_COMMAND:
                value = pb.InputCommandMessage.FromString(received.body).value
                output = pb.OutputCommandMessage(value=value).SerializeToString()
                del self.open[stream]
                answer = frame(messages.OUTPUT_COMMAND, output) + frame(messages.END, b"")
                self.answer(stream, content_type, answer)

    def answer(self, stream: int, content_type: str, body: bytes) -> None:
        """A whole answer."""
        self.http.send_headers(stream, [(":status", "200"), ("content-type", content_type)])
        self.http.send_data(stream, body, end_stream=True)


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args().port
    server = await asyncio.get_running_loop().create_server(NullService, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
