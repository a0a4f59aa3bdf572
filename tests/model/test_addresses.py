"""Addresses of deployments. Source: admin.md 4.1, 4.2."""

import re

import pytest

from restated.model.addresses import AddressError, identity, lambda_arn, uri_identity
from restated.model.records import Deployment

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:tickets:$LATEST"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://h:1", "https://h:1/"),
        ("http://H:1/a", "http://h:1/a/"),
    ],
)
def test_addresses_that_are_the_same_deployment(one: str, other: str) -> None:
    """4.1: the scheme does not count, an empty path equals a slash."""
    assert uri_identity(one) == uri_identity(other)


@pytest.mark.parametrize("other", ["http://h:2", "http://h:1/a", "http://h:1/?a", "http://g:1"])
def test_addresses_that_are_another_deployment(other: str) -> None:
    """4.1."""
    assert uri_identity("http://h:1") != uri_identity(other)


def test_a_function_is_identified_by_its_arn() -> None:
    """4.1."""
    row = Deployment("dp_1", ARN, "lambda", "request_response", 5, 7, b"{}", b"{}", 0)
    assert identity(row) == ("lambda", ARN)


def test_a_qualified_arn_is_kept() -> None:
    """4.2."""
    assert lambda_arn(ARN) == ARN


@pytest.mark.parametrize(
    ("arn", "reason"),
    [
        ("arn:aws:lambda", "A qualified ARN must have 8 components delimited by `:`"),
        (
            "arn:aws:lambda:eu-west-1:123456789012:function:tickets",
            "A qualified ARN needs a version",
        ),
        ("arn:aws:s3:eu-west-1:123456789012:function:tickets:1", "is not the ARN of a Lambda"),
        ("arn:aws:lambda::123456789012:function:tickets:1", "is not the ARN of a Lambda"),
    ],
)
def test_other_texts_are_no_arn(arn: str, reason: str) -> None:
    """4.2."""
    with pytest.raises(AddressError, match=re.escape(reason)):
        lambda_arn(arn)
