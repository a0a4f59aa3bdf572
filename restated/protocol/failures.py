"""Terminal failures: wire form <-> record.

Lives here: both directions, the codes that a record can have.
Does not: which HTTP status a failure is answered with (ingress/exchange.py).
"""

from typing import Final

from restated.model.records import Failure
from restated.protocol import service_protocol_pb2 as pb

FAILURE_CODE_MAX: Final = 65_535
UNKNOWN_CODE: Final = 500


def failure_of(failure: pb.Failure) -> Failure:
    """The record of a wire failure.

    SDKs read codes of 16 bits: a larger one would fail every attempt that is told it, for ever.
    It becomes 500, as on the reference (F08).
    """
    return Failure(
        failure.code if failure.code <= FAILURE_CODE_MAX else UNKNOWN_CODE,
        failure.message,
        tuple((pair.key, pair.value) for pair in failure.metadata),
    )


def wire_failure(failure: Failure) -> pb.Failure:
    """The wire form of a failure."""
    return pb.Failure(
        code=failure.code,
        message=failure.message,
        metadata=[pb.FailureMetadata(key=key, value=value) for key, value in failure.metadata],
    )
