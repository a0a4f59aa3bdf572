"""URIs of sources and sinks of subscriptions, and names of Kafka clusters.

Lives here: which texts are such a URI or name, and how one is written back.
Does not: whether anything stands behind it (core/subscriptions.py), base URIs of deployments
(invoker/targets.py).
Source: admin.md 8, 9. A URI is more here than RFC 3986 says: what the reference stores under a
source, such as a topic with braces, must be storable here.
"""

import re
from typing import Final

from restated.model.records import Record, Subscription

URI_CHARS_MAX: Final = 4_096
CLUSTER_NAME_CHARS_MAX: Final = 1_024  # a host name has 253; names stand in every list of them

_AUTHORITY_CHARS: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@\[\]%]*")
_PATH_CHARS: Final = re.compile(r"[^\x00-\x20<>`\x7f]*")
_SCHEME: Final = re.compile(r"([A-Za-z0-9+\-.]{1,64})://")
_HOST: Final = re.compile(r"(?:\[[^\[\]:@]*(?::[^\[\]:@]*){0,8}\]|[^\[\]:@%]*)(?::[^\[\]:@%]*)?")


class UriError(ValueError):
    """A text is no such URI or name; the message is the reason users see."""


class ResourceUri(Record):
    """A parsed URI. `path` starts with a slash, unless there is no authority; no fragment."""

    scheme: str
    authority: str
    path: str
    query: str = ""

    @property
    def display(self) -> str:
        """As error texts show it."""
        start = f"{self.scheme}://{self.authority}" if self.scheme else self.authority
        return f"{start}{self.path}?{self.query}" if self.query else start + self.path


def parse_resource_uri(text: str) -> ResourceUri:
    """Read the source or sink of a subscription; raises `UriError`.

    A text without a scheme can be a URI too: whoever needs a scheme says that it is missing.
    """
    if not text:
        raise UriError("empty string")
    if len(text) > URI_CHARS_MAX:
        raise UriError("uri too long")
    found = _SCHEME.match(text)
    if found is None:
        return _without_scheme(text)
    rest = text[found.end() :]
    if not rest:
        raise UriError("empty string")
    authority, path, query = _split(rest)
    if not authority:
        raise UriError("invalid format")
    _check_authority(authority)
    _check_path(path + query)
    return ResourceUri(found[1], authority, path or "/", query)


def parse_cluster_name(text: str) -> str:
    """The same text if a URI can name a cluster so; raises `UriError`."""
    if not text:
        raise UriError("empty string")
    if len(text) > CLUSTER_NAME_CHARS_MAX:
        raise UriError(f"longer than {CLUSTER_NAME_CHARS_MAX} characters")
    _check_authority(text)
    return text


def source_uri(subscription: Subscription) -> str:
    """What a subscription reads."""
    return f"kafka://{subscription.cluster}/{subscription.topic}"


def sink_uri(subscription: Subscription) -> str:
    """What a subscription invokes."""
    return f"service://{subscription.service}/{subscription.handler}"


def _without_scheme(text: str) -> ResourceUri:
    if text.startswith(("/", "://")):
        start, path, query = _split(text)
        _check_path(path + query)
        return ResourceUri("", start, path, query)
    if text == "*":
        return ResourceUri("", "", text)
    authority, path, query = _split(text)
    if not authority and text.startswith("#"):
        raise UriError("invalid uri character")
    if not authority or path or query:
        raise UriError("invalid format")
    _check_authority(authority)
    return ResourceUri("", authority, "")


def _split(text: str) -> tuple[str, str, str]:
    """Authority, path and query; a fragment is dropped."""
    place = re.search(r"[/?#]", text)
    start = len(text) if place is None else place.start()
    path, _, query = text[start:].partition("#")[0].partition("?")
    return text[:start], path, query


def _check_authority(authority: str) -> None:
    if _AUTHORITY_CHARS.fullmatch(authority) is None:
        raise UriError("invalid uri character")
    host = authority.rpartition("@")[2]
    if not host or _HOST.fullmatch(host) is None:
        raise UriError("invalid authority")


def _check_path(path: str) -> None:
    if _PATH_CHARS.fullmatch(path) is None:
        raise UriError("invalid uri character")
