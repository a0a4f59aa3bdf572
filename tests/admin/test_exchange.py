"""What requests and failures are answered with, whatever the route. Source: admin.md 1."""

import logging
from typing import Any

import httpx
import msgspec
import pytest
import trio
from starlette.requests import Request
from starlette.responses import Response

from restated.admin.exchange import Resource, empty, json_body
from restated.model.errors import InternalError, OverloadedError
from restated.store.store import StoreFailedError

URL = "http://127.0.0.1/x"


def asked(endpoint: Any, method: str = "POST", **request: Any) -> httpx.Response:
    """The answer of a resource whose POST is `endpoint`."""

    async def main() -> httpx.Response:
        resource = Resource({"POST": endpoint}, deps=None)  # type: ignore[arg-type]  # not looked at
        transport = httpx.ASGITransport(app=resource)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, URL, **request)

    return trio.run(main)


def failing(error: Exception) -> Any:
    """An endpoint that raises."""

    async def endpoint(_request: Request) -> Response:
        raise error

    return endpoint


async def decoding(request: Request) -> Response:
    """An endpoint that takes a list of numbers."""
    await json_body(request, list[int])
    return empty(200)


async def decoding_any(request: Request) -> Response:
    """An endpoint that looks at what it takes later."""
    await json_body(request, msgspec.Raw)
    return empty(200)


@pytest.mark.parametrize(
    ("error", "status", "part"),
    [
        (OverloadedError("4096 events wait; try again later"), 503, "try again later"),
        (InternalError("a defect dropped Cancel"), 500, "nothing was changed"),
        (ValueError("secret"), 500, "See the log"),
    ],
)
def test_failures_are_answered_as_json(error: Exception, status: int, part: str) -> None:
    """Details go to the log, not to the client."""
    response = asked(failing(error))
    assert response.status_code == status
    assert part in response.json()["message"]
    assert "secret" not in response.text


def test_a_defect_is_logged_with_its_route(caplog: pytest.LogCaptureFixture) -> None:
    """style.md 7: method and path, no payload."""
    with caplog.at_level(logging.ERROR, logger="restated.admin"):
        asked(failing(ValueError("x")), content=b"payload")
    (record,) = caplog.records
    assert record.getMessage() == "admin defect method=POST path=/x"


def test_nobody_is_told_anything_when_the_store_failed() -> None:
    """A3: the process stops instead."""
    with pytest.raises(StoreFailedError):
        asked(failing(StoreFailedError("disk")))


def test_other_methods_are_not_allowed() -> None:
    """405, empty, with the methods that are."""
    response = asked(decoding, "GET")
    assert (response.status_code, response.headers["allow"], response.content) == (405, "POST", b"")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/a+json",
    ],
)
def test_bodies_of_json_types_are_read(content_type: str) -> None:
    """1."""
    response = asked(decoding, content=b"[1]", headers={"content-type": content_type})
    assert response.status_code == 200


@pytest.mark.parametrize("content_type", ["", "text/plain", "text/json", "application/jsonx"])
def test_bodies_of_other_types_are_refused(content_type: str) -> None:
    """415: also what keeps forms of web pages out."""
    response = asked(decoding, content=b"[1]", headers={"content-type": content_type})
    assert response.status_code == 415
    assert response.text == "Expected request with `Content-Type: application/json`"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"[1,", 400, "at line 1 column 3"),
        (b"[1,\n x]", 400, "at line 2 column 2"),
        (b"[1] x", 400, "trailing characters at line 1 column 5"),
        (b"\xff", 400, "invalid unicode code point at line 1 column 1"),
        (b'["a\xff"]', 400, "invalid unicode code point at line 1 column 4"),
        (b"", 400, "at line 1 column 0"),
        (b'["a"]', 422, "[0]: Expected `int`, got `str` at line 1 column 4"),
        (b"[1,\n2,\n true]", 422, "[2]: Expected `int`, got `bool` at line 3 column 5"),
        (b"{}", 422, "Expected `array`, got `object` at line 1 column 1"),
    ],
)
def test_bodies_that_do_not_fit_are_told_where(body: bytes, status: int, text: str) -> None:
    """400 for the syntax, 422 for the shape."""
    response = asked(decoding, content=body, headers={"content-type": "application/json"})
    assert response.status_code == status
    assert response.text.endswith(text)
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("body", [b'{"uri":"\xff"}', b'{"\xff":1}', b'{"x":"\xed\xa0\x80"}'])
def test_bodies_that_are_no_utf8_are_refused_before_anybody_looks(body: bytes) -> None:
    """1: also in members that nobody reads."""
    response = asked(decoding_any, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert "invalid unicode code point at line 1 column" in response.text


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"force":true,"force": false}', "duplicate field `force` at line 1 column 21"),
        (b'[{"a":1},\n{"b":{"c":[]},"b":2}]', "[1]: duplicate field `b` at line 2 column 17"),
    ],
)
def test_a_member_that_stands_twice_is_refused(body: bytes, where: str) -> None:
    """422, as the reference: which of the two is meant nobody knows."""
    response = asked(decoding_any, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert response.text.endswith(where)


def test_a_body_that_is_nested_too_deeply_is_refused() -> None:
    """400: it is the client's mistake, no defect of ours."""
    body = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    response = asked(decoding_any, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, "nested too deeply" in response.text) == (400, True)
