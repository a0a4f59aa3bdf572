"""Addresses of deployments: when two are the same, and the syntax of Lambda ARNs.

Lives here: the identity of a deployment, qualified ARNs.
Does not: the syntax of base URIs, which of them may be connected to (invoker/targets.py).
Source: admin.md 4.1, 4.2.
"""

from typing import Final
from urllib.parse import urlsplit

from restated.model.records import Deployment

_ARN_PARTS: Final = 8


class AddressError(ValueError):
    """The text is no ARN of a function; the message is the reason, for operators."""


def lambda_arn(text: str) -> str:
    """The same text if it is the qualified ARN of a Lambda function; raises AddressError."""
    parts = text.split(":")
    if len(parts) == _ARN_PARTS - 1:
        raise AddressError(
            "A qualified ARN needs a version or alias suffix. If you want to use the unpublished "
            "version, provide $LATEST and make sure your shell doesn't treat it as a variable",
        )
    if len(parts) != _ARN_PARTS:
        raise AddressError(
            "A qualified ARN must have 8 components delimited by `:`"
        )  # fmt: skip
    if parts[0] != "arn" or parts[2] != "lambda" or parts[5] != "function" or not all(parts):
        raise AddressError(f"{text} is not the ARN of a Lambda function")
    return text


def identity(deployment: Deployment) -> tuple[str, ...]:
    """What makes two registrations the same deployment: authority and path, or the ARN.

    The scheme does not count, an empty path equals `/`.
    """
    if deployment.transport == "lambda":
        return ("lambda", deployment.uri)
    return uri_identity(deployment.uri)


def uri_identity(uri: str) -> tuple[str, ...]:
    """The identity of an HTTP deployment at `uri`."""
    parts = urlsplit(uri)
    return ("http", parts.netloc.lower(), parts.path.rstrip("/"), parts.query)
