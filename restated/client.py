"""A typed client of the admin API, over the Unix socket or TCP.

Lives here: where a daemon is found, one method for each operation, the shapes of the answers,
three kinds of errors.
Does not: print or ask anything (cli/). httpx and trio-websocket are imported when first needed.
Requests are synchronous: a command-line program has one conversation at a time. Only the live
tail, which never ends by itself, is asynchronous.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

if TYPE_CHECKING:
    import httpx
    import trio
    from trio_websocket import WebSocketConnection

DbRow: TypeAlias = dict[str, object]  # JSON values
Operation = Literal["cancel", "kill", "pause", "resume", "purge", "purge-journal", "restart-as-new"]

SOCKET: Final = "admin.sock"
REQUEST_S: Final = 60.0  # discovery alone may take 20 s
CONNECT_S: Final = 5.0
TAIL_MESSAGE_BYTES_MAX: Final = 1_048_576

T = TypeVar("T")


class ClientError(Exception):
    """A request did not succeed; the text is for people."""


class UnreachableError(ClientError):
    """No daemon answers at the address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"no daemon answers at {address}: {reason}. Start one with `restated serve`, or say "
            "where it is with --admin URL or --admin unix:PATH (environment: RESTATED_ADMIN)."
        )


class RefusedError(ClientError):
    """The daemon answered, and refuses."""

    def __init__(self, status: int, message: str, restate_code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.restate_code = restate_code


class NotFoundError(RefusedError):
    """What was asked for does not exist."""


# -- answers


class RetryPolicyView(msgspec.Struct, frozen=True, omit_defaults=True):
    """Retries as shown: what is absent is inherited."""

    initial_interval: str | None = None
    exponentiation_factor: float | None = None
    max_attempts: int | None = None
    max_interval: str | None = None
    on_max_attempts: str | None = None


class Hint(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something the operator should know about a setting."""

    message: str
    code: str | None = None


class HandlerView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A handler; durations are texts such as `1m 30s`."""

    name: str
    public: bool
    input_description: str
    output_description: str
    ty: str | None = None
    documentation: str | None = None
    metadata: dict[str, str] = {}
    idempotency_retention: str | None = None
    journal_retention: str | None = None
    inactivity_timeout: str | None = None
    abort_timeout: str | None = None
    enable_lazy_state: bool | None = None
    input_json_schema: object = None
    output_json_schema: object = None
    retry_policy: RetryPolicyView = RetryPolicyView()
    info: tuple[Hint, ...] = ()


class ServiceView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One revision of a service."""

    name: str
    ty: str
    handlers: tuple[HandlerView, ...]
    deployment_id: str
    revision: int
    public: bool
    idempotency_retention: str
    inactivity_timeout: str
    abort_timeout: str
    enable_lazy_state: bool
    documentation: str | None = None
    metadata: dict[str, str] = {}
    workflow_completion_retention: str | None = None
    journal_retention: str | None = None
    retry_policy: RetryPolicyView = RetryPolicyView()
    info: tuple[Hint, ...] = ()


class ServiceName(msgspec.Struct, frozen=True):
    """A service in a list of deployments."""

    name: str
    revision: int


class _DeploymentView(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    created_at: str
    min_protocol_version: int
    max_protocol_version: int
    uri: str | None = None
    arn: str | None = None
    assume_role_arn: str | None = None
    compression: str | None = None
    protocol_type: str | None = None
    http_version: str | None = None
    additional_headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    sdk_version: str | None = None

    @property
    def endpoint(self) -> str:
        """Its URI or ARN."""
        return self.uri or self.arn or ""


class DeploymentItem(_DeploymentView, frozen=True, omit_defaults=True):
    """A deployment in a list."""

    services: tuple[ServiceName, ...] = ()


class DeploymentView(_DeploymentView, frozen=True, omit_defaults=True):
    """A deployment with its services in full."""

    services: tuple[ServiceView, ...] = ()


class DeploymentList(msgspec.Struct, frozen=True):
    """Every deployment."""

    deployments: tuple[DeploymentItem, ...]


class ServiceList(msgspec.Struct, frozen=True):
    """Every service."""

    services: tuple[ServiceView, ...]


class HandlerList(msgspec.Struct, frozen=True):
    """Every handler of a service."""

    handlers: tuple[HandlerView, ...]


class NewInvocation(msgspec.Struct, frozen=True):
    """The answer to a restart."""

    new_invocation_id: str


class Registered(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a registration. `is_new` is False when the address was known."""

    id: str
    services: tuple[ServiceView, ...]
    min_protocol_version: int
    max_protocol_version: int
    sdk_version: str | None = None
    is_new: bool = True


class Registration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to register: an HTTP URI, or an ARN."""

    uri: str | None = None
    arn: str | None = None
    assume_role_arn: str | None = None
    additional_headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    use_http_11: bool = False
    breaking: bool = False
    force: bool = False
    dry_run: bool = False


class FailedOperation(msgspec.Struct, frozen=True):
    """One invocation of a batch that refused."""

    invocation_id: str
    error: str


class Restarted(msgspec.Struct, frozen=True):
    """An invocation and the new one that repeats it."""

    old_invocation_id: str
    new_invocation_id: str


class Batch(msgspec.Struct, frozen=True):
    """Outcome of an operation on several invocations."""

    succeeded: tuple[str, ...]
    failed: tuple[FailedOperation, ...]


class RestartBatch(msgspec.Struct, frozen=True):
    """Outcome of restarting several invocations."""

    succeeded: tuple[Restarted, ...]
    failed: tuple[FailedOperation, ...]


class _Error(msgspec.Struct, frozen=True):
    message: str
    restate_code: str | None = None


class _Rows(msgspec.Struct, frozen=True):
    rows: list[DbRow]


# -- the address


def default_address(environment: Mapping[str, str]) -> str:
    """`unix:PATH` of the daemon that a command without --admin means.

    The first socket that exists: of the systemd unit around us, below the working directory, of
    the system's service. If there is none, the one that `restated serve` would create here.
    """
    here = Path("restated-data") / "run" / SOCKET
    candidates = [here, Path("/run/restated") / SOCKET]
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime:
        candidates.insert(0, Path(runtime) / SOCKET)
    found = next((path for path in candidates if path.is_socket()), candidates[0])
    return f"unix:{found}"


class AdminClient:
    """A conversation with one daemon. `address` is `unix:PATH` or an HTTP URL."""

    __slots__ = ("_client", "address")

    def __init__(self, address: str) -> None:
        import httpx

        self.address = address
        timeout = httpx.Timeout(REQUEST_S, connect=CONNECT_S)
        path = socket_path(address)
        if path is not None:
            transport = httpx.HTTPTransport(uds=path)
            self._client = httpx.Client(
                transport=transport, base_url="http://localhost", timeout=timeout
            )
        else:
            parts = urlsplit(address)
            if parts.scheme not in {"http", "https"} or not parts.netloc:
                raise ClientError(
                    f"the admin address {address!r} is neither unix:PATH nor http://HOST:PORT"
                )
            # A proxy of the environment is for the web, not for a daemon on this machine.
            self._client = httpx.Client(base_url=address, timeout=timeout, trust_env=False)

    def __enter__(self) -> "AdminClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    # -- deployments and services

    def deployments(self) -> list[DeploymentItem]:
        """Every deployment, newest first."""
        answer = self._get("/deployments", DeploymentList).deployments
        return sorted(answer, key=lambda one: (one.created_at, one.id), reverse=True)

    def deployment(self, deployment_id: str) -> DeploymentView:
        """One deployment; NotFoundError."""
        return self._get(f"/deployments/{quote(deployment_id, safe='')}", DeploymentView)

    def register(self, registration: Registration) -> Registered:
        """Have a deployment discovered and registered; RefusedError says what it did wrong."""
        response = self._send("POST", "/deployments", body=registration)
        registered = _decoded(response, Registered)
        return msgspec.structs.replace(registered, is_new=response.status_code == 201)

    def remove_deployment(self, deployment_id: str) -> None:
        """Forget a deployment, whatever still runs there; NotFoundError."""
        self._send("DELETE", f"/deployments/{quote(deployment_id, safe='')}?force=true")

    def services(self) -> list[ServiceView]:
        """The latest revision of every service, by name."""
        answer = self._get("/services", ServiceList).services
        return sorted(answer, key=lambda one: one.name)

    def service(self, name: str) -> ServiceView:
        """The latest revision of one service; NotFoundError."""
        return self._get(f"/services/{quote(name, safe='')}", ServiceView)

    # -- invocations

    def operate(
        self, operation: Operation, invocation_ids: Sequence[str], deployment: str | None = None
    ) -> Batch:
        """One operation on up to 1,000 invocations; tells which of them refused."""
        return self._batch(operation, invocation_ids, deployment, Batch)

    def restart(self, invocation_ids: Sequence[str], deployment: str | None = None) -> RestartBatch:
        """Repeat completed invocations under new ids."""
        return self._batch("restart-as-new", invocation_ids, deployment, RestartBatch)

    def _batch(
        self,
        operation: Operation,
        invocation_ids: Sequence[str],
        deployment: str | None,
        type_: type[T],
    ) -> T:
        body: dict[str, object] = {"invocation_ids": list(invocation_ids)}
        if deployment is not None:
            body["deployment"] = deployment
        path = f"/internal/invocations_batch_operations/{operation}"
        return _decoded(self._send("POST", path, body=body), type_)

    # -- SQL and the live tail

    def query(self, sql: str) -> list[DbRow]:
        """The rows of one SQL statement; a column that is null is absent from its row."""
        response = self._send("POST", "/query", body={"query": sql})
        return _decoded(response, _Rows).rows

    def version(self) -> str:
        """The version of the admin API."""
        return str(self._get("/version", dict[str, object])["version"])

    async def tail(self, filters: Sequence[tuple[str, str]], show: Callable[[bytes], None]) -> None:
        """Give each change to `show`, one JSON document each, until the daemon closes.

        UnreachableError, RefusedError; cancel it to stop.
        """
        import trio
        from trio_websocket import ConnectionClosed, HandshakeError

        resource = f"/tail?{urlencode(filters)}" if filters else "/tail"
        failure: ClientError | None = None
        async with trio.open_nursery() as nursery:
            try:
                socket = await self._websocket(nursery, resource)
            except HandshakeError as error:
                failure = RefusedError(0, f"the daemon refuses a live tail: {error!r}")
            except OSError as error:
                failure = UnreachableError(self.address, str(error))
            else:
                with suppress(ConnectionClosed):
                    while True:
                        message = await socket.get_message()
                        show(message.encode() if isinstance(message, str) else message)
                closed = socket.closed
                if closed is None or closed.code not in {1000, 1001}:
                    why = "no reason given" if closed is None else closed.reason or closed.name
                    failure = ClientError(f"the daemon ended the tail: {why}")
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _websocket(self, nursery: "trio.Nursery", resource: str) -> "WebSocketConnection":
        import trio
        from trio_websocket import connect_websocket_url, wrap_client_stream

        limit = TAIL_MESSAGE_BYTES_MAX
        path = socket_path(self.address)
        if path is None:
            url = self.address.rstrip("/").replace("http", "ws", 1) + resource
            return await connect_websocket_url(nursery, url, max_message_size=limit)
        stream = await trio.open_unix_socket(path)
        return await wrap_client_stream(
            nursery,
            stream,
            "localhost",
            resource,
            max_message_size=limit,
        )

    # -- one exchange

    def _get(self, path: str, type_: type[T]) -> T:
        return _decoded(self._send("GET", path), type_)

    def _send(self, method: str, path: str, *, body: object = None) -> "httpx.Response":
        import httpx

        # Packing costs the daemon more than the way from it to us.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = msgspec.json.encode(body)
        try:
            response = self._client.request(method, path, content=content, headers=headers)
        except httpx.TimeoutException as error:
            raise ClientError(f"the daemon at {self.address} did not answer in time") from error
        except httpx.TransportError as error:
            raise UnreachableError(self.address, str(error) or type(error).__name__) from error
        if response.status_code >= 300:
            raise _refused(response)
        return response


def socket_path(address: str) -> str | None:
    """The path of a `unix:PATH` or `unix://PATH` address; None for others."""
    if not address.startswith("unix:"):
        return None
    return address.removeprefix("unix:").removeprefix("//")


def _decoded(response: "httpx.Response", type_: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=type_)
    except msgspec.DecodeError as error:
        raise ClientError(f"{response.url} answers what no restated answers: {error}") from error


def _refused(response: "httpx.Response") -> RefusedError:
    try:
        error = msgspec.json.decode(response.content, type=_Error)
    except msgspec.DecodeError:
        text = response.text.strip() or f"HTTP status {response.status_code}"
        error = _Error(text[:4_096])
    kind = NotFoundError if response.status_code == 404 else RefusedError
    return kind(response.status_code, error.message, error.restate_code)
