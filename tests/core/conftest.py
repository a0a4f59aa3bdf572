"""Fixtures of the core's tests."""

import pytest

from tests.core.world import StepWorld


@pytest.fixture
def world() -> StepWorld:
    """An empty store and a clock at a fixed time."""
    return StepWorld()
