"""The client of the admin API: addresses and errors. Answers are tested in tests/cli."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from restated.client import (
    AdminClient,
    ClientError,
    NotFoundError,
    RefusedError,
    UnreachableError,
    default_address,
    socket_path,
)


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[str]:
    """A server that gives one answer on a Unix socket; its address."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "s"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"unix:{path / 's'}"
        thread.join()


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def test_errors_of_the_daemon_keep_status_code_and_text(short_path: Path) -> None:
    """admin.md 1: JSON errors."""
    body = b'{"message":"[META0003] no","restate_code":"META0003"}'
    with (
        answering(short_path, http("500 X", body)) as address,
        AdminClient(address) as client,
        pytest.raises(RefusedError, match="no") as caught,
    ):
        client.services()
    assert (caught.value.status, caught.value.restate_code) == (500, "META0003")


def test_what_does_not_exist_is_an_error_of_its_own(short_path: Path) -> None:
    """Status 404."""
    body = b'{"message":"The requested service \'x\' does not exist","restate_code":null}'
    with (
        answering(short_path, http("404 X", body)) as address,
        AdminClient(address) as client,
        pytest.raises(NotFoundError, match="'x' does not exist"),
    ):
        client.service("x")


def test_errors_that_are_plain_text_are_shown(short_path: Path) -> None:
    """admin.md 1: what the framework finds."""
    with (
        answering(short_path, http("415 X", b"Expected request with")) as address,
        AdminClient(address) as client,
        pytest.raises(RefusedError, match="Expected request with"),
    ):
        client.query("SELECT 1")


def test_somebody_else_at_the_address_is_told_apart(short_path: Path) -> None:
    """A web server that answers 200 to everything."""
    with (
        answering(short_path, http("200 X", b"<html>")) as address,
        AdminClient(address) as client,
        pytest.raises(ClientError, match="answers what no restated answers"),
    ):
        client.services()


def test_a_connection_that_is_cut_is_no_answer(short_path: Path) -> None:
    """The daemon stopped meanwhile."""
    with (
        answering(short_path, b"") as address,
        AdminClient(address) as client,
        pytest.raises(UnreachableError, match="restated serve"),
    ):
        client.version()


@pytest.mark.parametrize(
    ("address", "path"),
    [("unix:/a/b", "/a/b"), ("unix:///a/b", "/a/b"), ("unix:b", "b"), ("http://h", None)],
)
def test_addresses_of_sockets(address: str, path: str | None) -> None:
    """`unix:PATH`, also with two slashes."""
    assert socket_path(address) == path


def test_the_default_is_the_first_socket_that_exists(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the unit around us, of the working directory; else the one that `serve` would make."""
    monkeypatch.chdir(short_path)
    assert default_address({}) == "unix:restated-data/run/admin.sock"
    (short_path / "unit").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("unit/admin.sock")
        environment = {"RUNTIME_DIRECTORY": f"{short_path}/unit:/other"}
        assert default_address(environment) == f"unix:{short_path}/unit/admin.sock"
