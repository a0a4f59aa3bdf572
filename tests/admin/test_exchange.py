"""What requests and failures are answered with, whatever the route. Source: admin.md 1."""

import logging
from typing import Any

import httpx
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
        (b"[1,", 400, "at line 1 column 4"),
        (b"[1,\n x]", 400, "at line 2 column 2"),
        (b"\xff", 400, "at line 1 column 1"),
        (b"", 400, "at line 1 column 1"),
        (b'["a"]', 422, "[0]: Expected `int`, got `str`"),
        (b"{}", 422, "Expected `array`, got `object`"),
    ],
)
def test_bodies_that_do_not_fit_are_told_where(body: bytes, status: int, text: str) -> None:
    """400 for the syntax, 422 for the shape."""
    response = asked(decoding, content=body, headers={"content-type": "application/json"})
    assert response.status_code == status
    assert response.text.endswith(text)
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
