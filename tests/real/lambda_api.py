"""AWS as far as a Lambda deployment needs it: Invoke and AssumeRole, with signatures checked.

The function behind every ARN is the Python SDK's own Lambda handler around tests/real/services.py.
"""

import asyncio
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

import restate
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from restate.aws_lambda import wrap_asgi_as_lambda_handler

from tests.real.services import tally, work

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:tally:7"
ROLE = "arn:aws:iam::123456789012:role/caller"
OWN_KEY = ("AKIDOWN", "own-secret", None)
ROLE_KEY = ("ASIAROLE", "role-secret", "role-token")
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/\d{8}/(?P<region>[\w-]+)/(?P<service>\w+)/"
    r"aws4_request, SignedHeaders=(?P<names>[\w;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)
ASSUMED = """\
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>
<SessionToken>{}</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>
<AssumedRoleUser><AssumedRoleId>A:restated</AssumedRoleId><Arn>arn:x</Arn></AssumedRoleUser>
</AssumeRoleResult></AssumeRoleResponse>"""


class LambdaApi:
    """The API on a port of its own, on a thread; a context. Requests one by one."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []  # payloads of Invoke
        self.keys: list[str] = []  # access keys that signed them
        self.assumed: list[str] = []  # roles
        self.failure: str | None = None  # of the function, when set
        api = self

        class Api(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers, answer = api.answer(self.path, dict(self.headers.items()), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Api)
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._serve)

    @property
    def environment(self) -> dict[str, str]:
        """What a daemon needs to find it."""
        key, secret, _ = OWN_KEY
        return {
            "AWS_ENDPOINT_URL_LAMBDA": self.uri,
            "AWS_ENDPOINT_URL_STS": self.uri,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> "LambdaApi":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self) -> None:
        # The SDK's handler finds its loop by the thread.
        self._function = wrap_asgi_as_lambda_handler(restate.app([tally, work]))
        self._server.serve_forever(poll_interval=0.05)
        asyncio.get_event_loop().close()

    def answer(
        self, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to one request."""
        signer = signer_of(self.uri + path, {key.lower(): headers[key] for key in headers}, body)
        if signer is None:
            return 403, {}, b'{"Message":"The request signature does not match"}'
        if path == "/":
            self.assumed += parse_qs(body.decode())["RoleArn"]
            return 200, {"content-type": "text/xml"}, ASSUMED.format(*ROLE_KEY).encode()
        assert unquote(path) == f"/2015-03-31/functions/{ARN}/invocations"
        event = json.loads(body)
        self.events.append(event)
        self.keys.append(signer)
        if self.failure is not None:
            return 200, {"X-Amz-Function-Error": "Unhandled"}, self.failure.encode()
        return 200, {}, json.dumps(self._function(event, None)).encode()


def signer_of(url: str, headers: dict[str, str], body: bytes) -> str | None:
    """The access key whose signature the request carries; None if it is no good."""
    found = AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    keys = {key[0]: key for key in (OWN_KEY, ROLE_KEY)}
    if found is None or found["key"] not in keys:
        return None
    access_key, secret, token = keys[found["key"]]
    if headers.get("x-amz-security-token") != token:
        return None
    names = found["names"].split(";")
    signer = SigV4Auth(Credentials(access_key, secret, token), found["service"], found["region"])
    signed = {name: headers[name] for name in names}
    request = AWSRequest("POST", url, headers=signed, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    text = signer.string_to_sign(request, signer.canonical_request(request))
    is_right = {"host", "x-amz-date"} <= set(names) and (
        signer.signature(text, request) == found["signature"]
    )
    return access_key if is_right else None
