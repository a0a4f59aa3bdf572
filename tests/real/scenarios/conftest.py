"""One world per module."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.scenarios.raw_endpoint import RawEndpoint
from tests.real.scenarios.world import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A daemon with the services of the scenarios, shared by the tests of a module."""
    with tempfile.TemporaryDirectory(prefix="rd-") as directory, World(Path(directory)) as world:
        yield world
        print(world.daemon.log()[-20_000:])


@pytest.fixture(scope="module")
def h1(world: World) -> Iterator[RawEndpoint]:
    """The raw HTTP/1.1 endpoint, registered."""
    with RawEndpoint() as endpoint:
        answer = world.register(endpoint.uri, use_http_11=True)
        assert answer.status_code == 201, answer.text
        yield endpoint
