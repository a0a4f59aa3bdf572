"""Fixtures of the black-box tests."""

from collections.abc import Iterator

import pytest

from tests.real.launched import Services


@pytest.fixture
def services() -> Iterator[str]:
    """The URI of the test services in a process of their own."""
    with Services("tests.real.services", is_quiet=False) as running:
        yield running.uri
