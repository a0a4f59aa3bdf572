"""Fixtures that every room may use."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.daemon.running import RealDaemon

pytest.register_assert_rewrite("tests.store.contract")  # no test module, but it asserts
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("nightly", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose sockets fit the 108 bytes of a Unix address, wherever pytest works."""
    with tempfile.TemporaryDirectory(prefix="rd-") as directory:
        yield Path(directory)


@pytest.fixture
def real_daemon(short_path: Path) -> Iterator[RealDaemon]:
    """A daemon process with an empty directory of state, ready."""
    with RealDaemon(short_path) as daemon:
        yield daemon
