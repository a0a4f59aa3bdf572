"""Addresses of deployments: what is accepted, how it is kept, when two are the same.

Lives here: HTTP base URIs and Lambda ARNs.
Does not: whether a target may be connected to (invoker/targets.py).
Source: admin.md 4.1, 4.2.
"""

import re
from typing import Final, Literal
from urllib.parse import SplitResult, urlsplit

from restated.model.records import Deployment

URI_CHARACTERS_MAX: Final = 2_048
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+\Z")
_ARN_PARTS: Final = 8


class AddressError(ValueError):
    """The text is no address of a deployment; `kind` says how the admin API answers.

    `syntax`: it cannot be read at all; `refused`: it can, but is not allowed here.
    """

    def __init__(self, kind: Literal["syntax", "refused"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


def base_uri(text: str) -> str:
    """The kept form of an HTTP base URI: no trailing slash; raises AddressError."""
    if not text or len(text) > URI_CHARACTERS_MAX or not _VISIBLE.match(text):
        raise AddressError("syntax", "invalid uri character")
    if text.startswith("/"):
        raise AddressError(
            "refused",
            f"The provided uri {text} is not absolute, only absolute URIs can be used.",
        )
    parts = _split(text)
    if parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
        raise AddressError(
            "refused",
            f"The provided uri {text} is not absolute, only absolute URIs can be used. It must "
            "begin with http:// or https:// and a host.",
        )
    if parts.username is not None or parts.fragment:
        raise AddressError(
            "refused", "User names and fragments are not supported; use additional_headers."
        )
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme.lower()}://{parts.netloc}{parts.path.rstrip('/')}{query}"


def lambda_arn(text: str) -> str:
    """The same text if it is the qualified ARN of a Lambda function; raises AddressError."""
    parts = text.split(":")
    if len(parts) == _ARN_PARTS - 1:
        raise AddressError(
            "refused",
            "A qualified ARN needs a version or alias suffix. If you want to use the unpublished "
            "version, provide $LATEST and make sure your shell doesn't treat it as a variable",
        )
    if len(parts) != _ARN_PARTS:
        raise AddressError(
            "refused", "A qualified ARN must have 8 components delimited by `:`"
        )  # fmt: skip
    if parts[0] != "arn" or parts[2] != "lambda" or parts[5] != "function" or not all(parts):
        raise AddressError("refused", f"{text} is not the ARN of a Lambda function")
    return text


def shown_uri(uri: str) -> str:
    """A kept base URI as the admin API shows it: an empty path is `/`."""
    parts = urlsplit(uri)
    return uri if parts.path else f"{uri.partition('?')[0]}/{uri[len(uri.partition('?')[0]) :]}"


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


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # reading it checks it
    except ValueError as error:
        raise AddressError("syntax", f"invalid uri: {error}") from error
    return parts
