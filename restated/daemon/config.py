"""Settings: one row per setting, and where their values come from.

Lives here: the table SETTINGS, the sources (flags, environment, file, defaults) and their order.
Does not: how a value is written (values.py), what a setting does (the rooms).
An unknown key of ours is an error wherever it stands: a setting that was misspelt is a setting
that does not hold. Names of the reference server (`RESTATE_*`) that mean nothing here are ignored,
because its unit files and containers carry many of them.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from restated.daemon import logs
from restated.daemon.values import (
    ADDRESS,
    BYTES,
    DURATION,
    FLAG,
    HOSTS,
    NETWORKS,
    OPTIONAL_ADDRESS,
    OPTIONAL_PATH,
    OPTIONAL_TEXT,
    PATH,
    TEXT,
    Address,
    Kind,
    choice,
    integer,
    number,
    optional_integer,
)
from restated.invoker.choice import ProtocolVersionMax
from restated.model.records import AtMostAttempts

T = TypeVar("T")
LogFormat = Literal["text", "json"]

CONFIG_BYTES_MAX: Final = 1 << 20
OURS: Final = "RESTATED_"
REFERENCE: Final = "RESTATE_"
OTHERS_VARIABLES: Final = frozenset(  # ours by prefix, but no setting of the daemon
    {
        "RESTATED_ADMIN",  # where the other verbs of `restated` find the daemon
        "RESTATED_CMD",  # how harnesses that compare servers start this one
    }
)
USAGE: Final = """\
usage: restated serve [--config FILE] [--base-dir DIR] [--ingress ADDRESS:PORT]
                      [--admin ADDRESS:PORT|none] [--admin-socket PATH]

Run the daemon. Flags go before the environment, the environment before the file.

  --config FILE           settings as TOML, see restated.toml(5)
  --base-dir DIR          directory of the state (./restated-data)
  --ingress ADDRESS:PORT  where invocations come in (0.0.0.0:8080)
  --admin ADDRESS:PORT    where the admin API listens, or none (127.0.0.1:9070)
  --admin-socket PATH     Unix socket of the admin API (DIR/run/admin.sock)
  --help                  show this"""


class ConfigError(Exception):
    """A setting is unknown or its value is not of its kind; the text is one line for the user."""


class HelpRequested(Exception):  # noqa: N818 - not an error: `--help` was given
    """The usage is wanted, nothing else."""


class Setting(Generic[T]):
    """One row: `unit` is for the manual; `references` are names of the reference server."""

    __slots__ = ("default", "flag", "help", "kind", "name", "references", "unit")

    def __init__(
        self,
        name: str,
        kind: Kind[T],
        default: T,
        help: str,  # noqa: A002 - the column's name
        *references: str,
        unit: str = "",
        flag: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.help = help
        self.references = references
        self.unit = unit
        self.flag = flag

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return OURS + self.name.upper().replace(".", "_")


def _filter(raw: object) -> str:
    """A text that `logs.set_up` takes."""
    text = TEXT.parse(raw)
    logs.parse_filter(text)
    return text


MIB: Final = 1 << 20
DAY_MS: Final = 86_400_000

SETTINGS: Final[tuple[Setting[Any], ...]] = (
    BASE_DIR := Setting(
        "base_dir", PATH, Path("restated-data"), "Directory of the state.",
        "RESTATE_BASE_DIR", flag="--base-dir",
    ),
    INGRESS_BIND := Setting(
        "ingress.bind", ADDRESS, Address("0.0.0.0", 8080),  # noqa: S104 - as the reference
        "Where invocations come in.",
        "RESTATE_INGRESS__BIND_ADDRESS", flag="--ingress",
    ),
    INGRESS_SOCKET := Setting[Path | None](
        "ingress.socket", OPTIONAL_PATH, Path("run/ingress.sock"),
        "Unix socket of the ingress; a relative path starts at base_dir.",
    ),
    INGRESS_ADVERTISED := Setting[str | None](
        "ingress.advertised", OPTIONAL_TEXT, None,
        "URL under which clients reach the ingress, for the admin API to tell.",
        "RESTATE_INGRESS__ADVERTISED_ADDRESS", "RESTATE_INGRESS__ADVERTISED_INGRESS_ENDPOINT",
    ),
    INGRESS_BODY_BYTES_MAX := Setting(
        "ingress.body_bytes_max", BYTES, 32 * MIB, "Largest request body; more is a 413.",
        "RESTATE_INGRESS__REQUEST_SIZE_LIMIT", unit="bytes",
    ),
    INGRESS_REQUESTS_MAX := Setting[int | None](
        "ingress.requests_max", optional_integer(1, 1_000_000), None,
        "Requests served at once; more get a 429.",
        "RESTATE_INGRESS__CONCURRENT_API_REQUESTS_LIMIT",
    ),
    INGRESS_CONNECTIONS_MAX := Setting(
        "ingress.connections_max", integer(1, 1_000_000), 10_000,
        "Connections at once; also bounded by the descriptors the system grants, less 256.",
    ),
    INGRESS_STREAMS_MAX := Setting(
        "ingress.streams_max", integer(1, 65_535), 200,
        "Requests at once over one HTTP/2 connection.",
        "RESTATE_INGRESS__HTTP2_MAX_CONCURRENT_STREAMS",
    ),
    ADMIN_BIND := Setting[Address | None](
        "admin.bind", OPTIONAL_ADDRESS, Address("127.0.0.1", 9070),
        "Where the admin API listens on TCP.",
        "RESTATE_ADMIN__BIND_ADDRESS", flag="--admin",
    ),
    ADMIN_SOCKET := Setting[Path | None](
        "admin.socket", OPTIONAL_PATH, Path("run/admin.sock"),
        "Unix socket of the admin API; a relative path starts at base_dir. Under systemd the "
        "default is admin.sock in the runtime directory.",
        flag="--admin-socket",
    ),
    ADMIN_ALLOW_REMOTE := Setting(
        "admin.allow_remote", FLAG, False,
        "Let admin.bind be an address that other machines reach. The admin API asks nobody who "
        "they are: put a proxy that does in front of it.",
    ),
    ADMIN_ALLOWED_HOSTS := Setting[tuple[str, ...]](
        "admin.allowed_hosts", HOSTS, (),
        "Host names under which browsers may use the admin API, beside IP addresses and localhost.",
    ),
    LOG_FILTER := Setting(
        "log.filter", Kind(_filter, "a level (debug, info, warn, error, off) or a list of "
        "LEVEL and ROOM=LEVEL such as warn,restated.invoker=debug"), "info",
        "What is logged.",
        "RESTATE_LOG_FILTER",
    ),
    LOG_FORMAT := Setting[LogFormat](
        "log.format",
        choice({"text": "text", "json": "json", "pretty": "text", "compact": "text"}), "text",
        "Lines of key=value, or of JSON.",
        "RESTATE_LOG_FORMAT",
    ),
    FREE_BYTES_MIN := Setting(
        "store.free_bytes_min", BYTES, 512 * MIB,
        "With less free disk new invocations are refused; those accepted go on.",
        unit="bytes",
    ),
    CHECKPOINT_WAL_BYTES := Setting(
        "store.checkpoint_wal_bytes", BYTES, 16 * MIB,
        "Size of the write-ahead log from which it is moved into the database.", unit="bytes",
    ),
    STOP_WAL_BYTES := Setting(
        "store.stop_wal_bytes", BYTES, 1024 * MIB,
        "Size of the write-ahead log from which new invocations are refused.", unit="bytes",
    ),
    CLEANUP_INTERVAL_MS := Setting(
        "retention.cleanup_interval", DURATION, 3_600_000,
        "How often results and journals whose retention is over are removed.",
        "RESTATE_WORKER__CLEANUP_INTERVAL", unit="duration",
    ),
    JOURNAL_RETENTION_MS := Setting(
        "retention.journal", DURATION, DAY_MS, "How long journals of ended invocations are kept.",
        "RESTATE_DEFAULT_JOURNAL_RETENTION", unit="duration",
    ),
    IDEMPOTENCY_RETENTION_MS := Setting(
        "retention.idempotency", DURATION, DAY_MS,
        "How long the result of an invocation with an idempotency key is kept.",
        "RESTATE_DEFAULT_IDEMPOTENCY_RETENTION", unit="duration",
    ),
    WORKFLOW_RETENTION_MS := Setting(
        "retention.workflow", DURATION, DAY_MS, "How long the result of a workflow is kept.",
        "RESTATE_DEFAULT_WORKFLOW_COMPLETION_RETENTION", unit="duration",
    ),
    RETRY_INTERVAL_MS := Setting(
        "retry.interval", DURATION, 500, "Delay before the first retry of a failed attempt.",
        "RESTATE_DEFAULT_RETRY_POLICY__INITIAL_INTERVAL", unit="duration",
    ),
    RETRY_FACTOR := Setting(
        "retry.factor", number(1, 1_000), 2.0, "Growth of the delay from retry to retry.",
        "RESTATE_DEFAULT_RETRY_POLICY__EXPONENTIATION_FACTOR",
    ),
    RETRY_INTERVAL_MS_MAX := Setting(
        "retry.interval_max", DURATION, 60_000, "Longest delay before each later retry.",
        "RESTATE_DEFAULT_RETRY_POLICY__MAX_INTERVAL", unit="duration",
    ),
    RETRY_ATTEMPTS_MAX := Setting[int | None](
        "retry.attempts_max", optional_integer(1, 1_000_000_000), 70,
        "Attempts of an invocation, the first one included.",
        "RESTATE_DEFAULT_RETRY_POLICY__MAX_ATTEMPTS",
    ),
    RETRY_AT_MOST := Setting[AtMostAttempts](
        "retry.at_most", choice({"pause": "pause", "kill": "kill"}), "pause",
        "What happens to an invocation after its last attempt.",
        "RESTATE_DEFAULT_RETRY_POLICY__ON_MAX_ATTEMPTS",
    ),
    INACTIVITY_TIMEOUT_MS := Setting(
        "invoker.inactivity_timeout", DURATION, 60_000,
        "After this long without a message, an attempt is asked to suspend.",
        "RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT", unit="duration",
    ),
    ABORT_TIMEOUT_MS := Setting(
        "invoker.abort_timeout", DURATION, 600_000,
        "How long after being asked to suspend an attempt is aborted.",
        "RESTATE_WORKER__INVOKER__ABORT_TIMEOUT", unit="duration",
    ),
    ATTEMPTS_MAX := Setting(
        "invoker.attempts_max", integer(1, 100_000), 1_000,
        "Attempts that run at once; where others wait, silent ones are asked to suspend early.",
        "RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT",
    ),
    EAGER_STATE_BYTES_MAX := Setting(
        "invoker.eager_state_bytes_max", BYTES, 32 * MIB,
        "State sent with the start of an attempt; a larger state is fetched key by key.",
        "RESTATE_WORKER__INVOKER__EAGER_STATE_SIZE_LIMIT", unit="bytes",
    ),
    NETWORKS_ALLOWED := Setting[tuple[str, ...]](
        "invoker.networks", NETWORKS, (),
        "Networks where deployments may live; empty means all. Link-local and metadata addresses "
        "and the daemon's own listeners are refused in any case.",
    ),
    CONNECT_TIMEOUT_MS := Setting(
        "invoker.connect_timeout", DURATION, 10_000, "Bound of connecting to a deployment.",
        "RESTATE_WORKER__INVOKER__CONNECT_TIMEOUT", unit="duration",
    ),
    IDLE_TIMEOUT_MS := Setting(
        "invoker.idle_timeout", DURATION, 300_000,
        "After this long without a request a connection to a deployment is closed.",
        "RESTATE_WORKER__INVOKER__HTTP2_IDLE_CONNECTION_TIMEOUT", unit="duration",
    ),
    PING_INTERVAL_MS := Setting(
        "invoker.ping_interval", DURATION, 40_000,
        "How often a busy HTTP/2 connection is probed.",
        "RESTATE_WORKER__INVOKER__HTTP2_KEEP_ALIVE_INTERVAL", unit="duration",
    ),
    PING_TIMEOUT_MS := Setting(
        "invoker.ping_timeout", DURATION, 20_000, "How long the answer to a probe may take.",
        "RESTATE_WORKER__INVOKER__HTTP2_KEEP_ALIVE_TIMEOUT", unit="duration",
    ),
    STREAMS_MAX := Setting(
        "invoker.streams_max", integer(1, 65_535), 128,
        "Requests at once over one HTTP/2 connection, unless the deployment allows fewer.",
        "RESTATE_WORKER__INVOKER__HTTP2_STREAMS_PER_CONNECTION_LIMIT",
    ),
    PROTOCOL_VERSION_MAX := Setting[ProtocolVersionMax](
        "invoker.protocol_version_max", choice({"auto": "auto", "6": 6, "7": 7}), "auto",
        "Highest service protocol version that is spoken; auto is 6, and 7 where it is needed.",
    ),
    IDENTITY_KEY := Setting[Path | None](
        "invoker.request_identity_private_key_pem_file", OPTIONAL_PATH, None,
        "PEM file with the Ed25519 private key that signs requests to deployments; it must belong "
        "to the user of the daemon, and nobody else may read it.",
        "RESTATE_WORKER__INVOKER__REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE",
        "RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE",
    ),
    IDENTITY_EXPIRATION_MS := Setting(
        "invoker.request_identity_expiration", DURATION, 60_000,
        "How far the clock of a deployment may be off for it to accept a signature; at least 1s.",
        "RESTATE_WORKER__INVOKER__REQUEST_IDENTITY_EXPIRATION", unit="duration",
    ),
    CLUSTER_NAME := Setting(
        "invoker.cluster_name", TEXT, "localcluster",
        "Sent to deployments as the header x-restate-cluster-name.",
        "RESTATE_CLUSTER_NAME",
    ),
)  # fmt: skip


class Settings:
    """The value of every setting: `settings[INGRESS_BIND]`."""

    __slots__ = ("_values", "ignored")

    def __init__(self, values: Mapping[str, object], ignored: tuple[str, ...] = ()) -> None:
        self._values = values
        self.ignored = ignored  # names of the reference server without a meaning here

    def __getitem__(self, setting: Setting[T]) -> T:
        value: T = self._values.get(setting.name, setting.default)  # type: ignore[assignment]  # parsed by its kind
        return value

    def is_given(self, setting: Setting[T]) -> bool:
        """Whether some source names it."""
        return setting.name in self._values


class _Given(NamedTuple):
    """A value before it is parsed, with the words that name its place."""

    setting: Setting[Any]
    raw: object
    source: str


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of `restated serve ARGUMENTS`. ConfigError, HelpRequested."""
    flags, file = _flags(arguments)
    from_environment, ignored = _environment(environment)
    values: dict[str, object] = {}
    for given in (*_file(file), *from_environment, *flags):
        values[given.setting.name] = _parse(given)
    settings = Settings(values, tuple(ignored))
    _check(settings)
    return settings


def _parse(given: _Given) -> object:
    setting = given.setting
    try:
        return setting.kind.parse(given.raw)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{setting.name}: {str(given.raw)[:200]!r} ({given.source}) is not {setting.kind.form}"
        ) from None


def _flags(arguments: Sequence[str]) -> tuple[list[_Given], Path | None]:
    by_flag = {setting.flag: setting for setting in SETTINGS if setting.flag}
    given: list[_Given] = []
    file: Path | None = None
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag in {"--help", "-h"}:
            raise HelpRequested
        if flag != "--config" and flag not in by_flag:
            known = ", ".join(["--config", *by_flag])
            raise ConfigError(f"unknown argument {flag!r}; restated serve takes {known}")
        if not equals:
            if not rest:
                raise ConfigError(f"{flag} needs a value, see restated serve --help")
            value = rest.pop(0)
        if flag == "--config":
            file = Path(value)
        else:
            given.append(_Given(by_flag[flag], value, f"flag {flag}"))
    return given, file


def _environment(environment: Mapping[str, str]) -> tuple[list[_Given], list[str]]:
    """What the environment says, names of the reference first: ours go before them."""
    ours = {setting.variable: setting for setting in SETTINGS}
    references = {name: setting for setting in SETTINGS for name in setting.references}
    given_by_reference: list[_Given] = []
    given_by_us: list[_Given] = []
    ignored: list[str] = []
    for name, value in sorted(environment.items()):
        source = f"environment variable {name}"
        if name in references:
            given_by_reference.append(_Given(references[name], value, source))
        elif name in ours:
            given_by_us.append(_Given(ours[name], value, source))
        elif name.startswith(OURS) and name not in OTHERS_VARIABLES:
            raise ConfigError(f"unknown setting in {source}; restated.toml(5) lists the settings")
        elif name.startswith(REFERENCE):
            ignored.append(name)
    return given_by_reference + given_by_us, ignored


def _file(file: Path | None) -> Iterator[_Given]:
    if file is None:
        return
    import tomllib

    known = {setting.name: setting for setting in SETTINGS}
    try:
        with file.open("rb") as opened:
            document = opened.read(CONFIG_BYTES_MAX + 1)
        if len(document) > CONFIG_BYTES_MAX:
            raise ConfigError(f"{file}: larger than {CONFIG_BYTES_MAX:,} bytes")
        tree = tomllib.loads(document.decode())
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    for name, raw in _leaves(tree, ""):
        if name not in known:
            raise ConfigError(f"{file}: unknown setting {name!r}; restated.toml(5) lists them")
        yield _Given(known[name], raw, f"file {file}")


def _leaves(tree: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    """Dotted names and values; tables nest one level, deeper ones are unknown names."""
    for name, value in tree.items():
        if isinstance(value, dict) and value and not prefix:
            yield from _leaves(value, f"{name}.")
        else:
            yield prefix + name, value


def _check(settings: Settings) -> None:
    """Rules that involve more than one setting."""
    bind = settings[ADMIN_BIND]
    if bind is None and settings[ADMIN_SOCKET] is None:
        raise ConfigError("admin.bind and admin.socket are both none: nobody could operate it")
    if bind is not None and not is_loopback(bind.host) and not settings[ADMIN_ALLOW_REMOTE]:
        raise ConfigError(
            f"admin.bind: {bind} is open to other machines, and the admin API asks nobody who "
            "they are; use a loopback address, or set admin.allow_remote = true"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a listener on `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name: whoever answers for it decides


def base_dir(settings: Settings) -> Path:
    """The directory of the state, absolute."""
    return settings[BASE_DIR].absolute()


def admin_socket(settings: Settings, environment: Mapping[str, str]) -> Path | None:
    """Path of the admin socket, absolute; None when there is to be none."""
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime and not settings.is_given(ADMIN_SOCKET):
        return Path(runtime) / "admin.sock"
    return _below_base(settings, ADMIN_SOCKET)


def ingress_socket(settings: Settings) -> Path | None:
    """Path of the ingress's Unix socket, absolute; None when there is to be none."""
    return _below_base(settings, INGRESS_SOCKET)


def _below_base(settings: Settings, setting: Setting[Path | None]) -> Path | None:
    path = settings[setting]
    return None if path is None else base_dir(settings) / path
