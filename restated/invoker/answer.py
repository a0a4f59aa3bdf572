"""The head of a deployment's answer, accepted or turned into a failure.

Lives here: statuses and content types that fail an attempt, `Retry-After`, an answer that ends too
late, durations as text.
Does not: the body (session.py). Source: service-protocol.md 2.1; C68.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from restated.invoker.session import RETRY_AFTER_MS_MAX
from restated.model.errors import AttemptCode
from restated.model.records import AttemptError

Headers = tuple[tuple[str, str], ...]
_BUSY: Final = frozenset({429, 503})
_UNAVAILABLE: Final = frozenset({502, 504})


def header_of(headers: Headers, name: str) -> str | None:
    """The first value of a header; names are in lower case."""
    for header, value in headers:
        if header == name:
            return value
    return None


def problem_of(
    status: int, headers: Headers, expected: str, protocol_version: int
) -> AttemptError | None:
    """Why an answer with this head fails the attempt; None when it does not."""
    if not 200 <= status < 300:
        return _refusal(status, headers, protocol_version)
    content_type = header_of(headers, "content-type")
    if content_type == expected:
        return None
    got = "none" if content_type is None else f"'{content_type[:200]}'"
    return AttemptError(
        500,
        f"unexpected content type {got}, expected '{expected}'; is this a Restate SDK endpoint?",
        AttemptCode.PROTOCOL_VIOLATION,
    )


def retry_after_ms(status: int, headers: Headers, now_ms: int) -> int | None:
    """The delay that a busy deployment asks for: seconds or an HTTP date; None when unreadable."""
    value = header_of(headers, "retry-after") if status in _BUSY else None
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Longer numbers are years beyond any meaning, and int() of them costs quadratic time.
        return min(int(value[:18]) * 1000, RETRY_AFTER_MS_MAX)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    wait = at - datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    return max(0, int(wait.total_seconds() * 1000))


def _refusal(status: int, headers: Headers, protocol_version: int) -> AttemptError:
    text = _status_text(status)
    if status in _UNAVAILABLE:
        message = f"service is temporary unavailable '{text}'"
        return AttemptError(500, message, AttemptCode.NETWORK)
    if status in _BUSY:
        message = f"service is rate limited due to '{text}'"
        value = header_of(headers, "retry-after")
        if value is not None:
            unit = " seconds" if value.strip().isdigit() else ""
            message += f" (retry after: {value.strip()[:64]}{unit})"
        return AttemptError(500, message, AttemptCode.RATE_LIMITED)
    if status == 415:
        message = (
            "cannot start the invocation because the SDK doesn't support the protocol version "
            f"'{protocol_version}' negotiated at discovery time"
        )
        return AttemptError(415, message, AttemptCode.UNSUPPORTED_MEDIA_TYPE)
    if status == 413:
        message = "service replied with content too large"
        return AttemptError(500, message, AttemptCode.PAYLOAD_TOO_LARGE)
    message = f"unexpected http status code: {text}"
    return AttemptError(500, message, AttemptCode.PROTOCOL_VIOLATION)


def _status_text(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} <unknown status code>"


def aborted(abort_timeout_ms: int) -> AttemptError:
    """The failure of an attempt that did not even suspend in time (4.6)."""
    return AttemptError(
        500,
        f"the invocation stream was closed after the 'abort timeout'"
        f" ({duration_text(abort_timeout_ms)}) fired.",
        AttemptCode.ABORT_TIMEOUT,
    )


def duration_text(milliseconds: int) -> str:
    """A duration as operators write it: `10m`, `1h 30m`, `200ms`."""
    parts = []
    rest = milliseconds
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"
