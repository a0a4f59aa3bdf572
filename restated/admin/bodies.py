"""Bodies of admin requests: what they may contain.

Lives here: one class for each body, the bounds of its members.
Does not: bodies of answers (client.py has their shapes), what a request does.
Source: admin.md 4 to 7. Unknown members are ignored, as old and new clients send them.
"""

from typing import Annotated, Final

import msgspec

HEADERS_MAX: Final = 100  # additional headers of one deployment
HEADER_NAME: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}\Z"
HEADER_VALUE: Final = r"^[\x20-\x7e\t]{0,8192}\Z"
MEANINGS: Final = (
    (
        HEADER_NAME,
        "a name of a header has 1 to 200 letters, digits and characters of !#$%&'*+.^_`|~-",
    ),
    (
        HEADER_VALUE,
        "a value of a header has up to 8192 printable ASCII characters, blanks and tabs",
    ),
)
"""Patterns, and what they mean to whoever wrote the body."""

HeaderName = Annotated[str, msgspec.Meta(pattern=HEADER_NAME)]
HeaderValue = Annotated[str, msgspec.Meta(pattern=HEADER_VALUE)]
Headers = Annotated[dict[HeaderName, HeaderValue], msgspec.Meta(max_length=HEADERS_MAX)]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class RegisterDeploymentBody(msgspec.Struct, frozen=True, kw_only=True):
    """What every registration may say. `force` None: as the version of the API has it."""

    additional_headers: Headers | None = None
    metadata: dict[str, str] | None = None
    breaking: bool = False
    force: bool | None = None
    dry_run: bool = False


class RegisterHttp(RegisterDeploymentBody, frozen=True, kw_only=True):
    """A deployment behind a base URI."""

    uri: str
    use_http_11: bool = False
    auth: object = None  # identity tokens of a cloud: refused, they cannot be made here


class RegisterLambda(RegisterDeploymentBody, frozen=True, kw_only=True):
    """A deployment that is a Lambda function."""

    arn: str
    assume_role_arn: str | None = None


class UpdateDeploymentBody(msgspec.Struct, frozen=True, kw_only=True):
    """What to change of a deployment; None = leave as is."""

    uri: str | None = None
    arn: str | None = None
    assume_role_arn: str | None = None
    additional_headers: Headers | None = None
    use_http_11: bool | None = None
    overwrite: bool = False
    dry_run: bool = False


class PatchServiceBody(msgspec.Struct, frozen=True, kw_only=True):
    """What to change of a service; durations are texts such as `1m 30s` or `PT36H`."""

    public: bool | None = None
    idempotency_retention: str | None = None
    workflow_completion_retention: str | None = None
    journal_retention: str | None = None
    inactivity_timeout: str | None = None
    abort_timeout: str | None = None


class BatchBody(msgspec.Struct, frozen=True, kw_only=True):
    """The invocations of a batch; `deployment` for resume and restart-as-new."""

    invocation_ids: list[str]
    deployment: str | None = None


class StateBody(msgspec.Struct, frozen=True, kw_only=True):
    """The whole new state of one key; values are texts or lists of bytes."""

    object_key: str
    new_state: dict[str, str | list[Byte]]
    version: str | None = None
    scope: str | None = None
