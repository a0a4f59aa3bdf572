"""Terminal failures between wire and record."""

import pytest

from restated.model.records import Failure
from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.failures import failure_of, wire_failure


@pytest.mark.parametrize("code", [0, 1, 409, 500, 65_535])
def test_a_failure_survives_both_ways(code: int) -> None:
    failure = Failure(code, "no", (("a", "1"), ("b", "2")))
    assert failure_of(wire_failure(failure)) == failure


@pytest.mark.parametrize("code", [65_536, 70_000, 2**32 - 1])
def test_a_code_beyond_16_bits_becomes_500(code: int) -> None:
    """F08: no SDK could read it back."""
    assert failure_of(pb.Failure(code=code, message="no")) == Failure(500, "no")
