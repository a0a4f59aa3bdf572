"""What all requests to one deployment have in common: base URI and additional headers.

Lives here: `Endpoint`, made once per deployment and remembered.
Does not: encoding for a version of HTTP (http1.py, http2.py), addresses (targets.py).
"""

from functools import lru_cache
from typing import Final

import msgspec

from restated.invoker.frames import CONNECTION_FIELDS, field_problem
from restated.invoker.targets import BaseUri, InvalidUriError, parse_uri
from restated.invoker.transport import UnsendableError
from restated.model.records import Record

CLUSTER_NAME: Final = "x-restate-cluster-name"
HEADER_BYTES_MAX: Final = 16 << 10
# Set by the transport itself; a second one would contradict it.
OWN_FIELDS: Final = frozenset(("host", "content-length", "te", "expect")) | CONNECTION_FIELDS


class Endpoint(Record):
    """`headers` stand behind those of each exchange, names in lower case (2.1)."""

    uri: BaseUri
    headers: tuple[tuple[str, str], ...]

    @property
    def origin(self) -> tuple[str, str, int]:
        """Requests with the same origin share connections."""
        return self.uri.origin


@lru_cache(maxsize=1_024)
def endpoint_of(uri: str, headers: bytes, cluster_name: str) -> Endpoint:
    """The endpoint of a base URI and a JSON object of additional headers.

    Raises UnsendableError for a URI or a header that cannot be sent.
    """
    try:
        base = parse_uri(uri)
    except InvalidUriError as error:
        raise UnsendableError(str(error)) from error
    return Endpoint(uri=base, headers=additional_headers(headers, cluster_name))


@lru_cache(maxsize=1_024)
def additional_headers(headers: bytes, cluster_name: str) -> tuple[tuple[str, str], ...]:
    """What every request to a deployment carries; `headers` is a JSON object.

    An additional header replaces the default cluster name. Raises UnsendableError for a header
    that cannot be sent.
    """
    try:
        additional = msgspec.json.decode(headers or b"{}", type=dict[str, str])
    except msgspec.DecodeError as error:
        raise UnsendableError(str(error)) from error
    fields = {CLUSTER_NAME: cluster_name}
    fields |= {name.lower(): value for name, value in additional.items()}
    for name, value in fields.items():
        problem = field_problem(name, value)
        if problem is None and name in OWN_FIELDS:
            problem = f"the header '{name}' is set by the server itself"
        if problem is not None:
            raise UnsendableError(f"{problem}; correct the additional headers of the deployment")
    if sum(len(name) + len(value.encode()) for name, value in fields.items()) > HEADER_BYTES_MAX:
        raise UnsendableError(
            f"the additional headers of the deployment exceed {HEADER_BYTES_MAX} bytes; "
            "register fewer or shorter ones"
        )
    return tuple(fields.items())


def checked(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The headers of one exchange, as they are. Raises UnsendableError if one cannot be sent."""
    for name, value in headers:
        problem = field_problem(name, value)
        if problem is not None:
            raise UnsendableError(problem)
    return headers
