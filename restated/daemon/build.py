"""The composition root: settings become limits, rooms are made and wired.

Lives here: `build`, the routes of effects, limits of each room from the settings.
Does not: start or stop anything (daemon.py), open the store or sockets (daemon.py, sockets.py).
"""

import logging
import os
from collections.abc import Callable
from typing import Final

import trio

from restated import __version__
from restated.admin.app import AdminDeps, build_admin
from restated.core import effects
from restated.daemon import config, system
from restated.daemon.aws import AwsSigner
from restated.daemon.config import Settings
from restated.daemon.listeners import AdminListeners
from restated.daemon.sockets import Sockets
from restated.daemon.system import Seams
from restated.daemon.upkeep import Upkeep
from restated.daemon.values import Address
from restated.engine import catalog
from restated.engine.catalog import LiveCatalog
from restated.engine.dispatch import Dispatch, Tail, Waiters
from restated.engine.hypercorn_stream import StreamLimits
from restated.engine.timers import Timers
from restated.engine.writer import Writer
from restated.ingress.exchange import IngressLimits
from restated.ingress.listener import IngressServer
from restated.ingress.respond import Ingress
from restated.invoker.identity import RequestIdentity, load_identity
from restated.invoker.invoker import Invoker, InvokerLimits
from restated.invoker.routes import DeploymentTransport
from restated.invoker.targets import Targets
from restated.invoker.transport import TransportLimits
from restated.model.records import RetryPolicy
from restated.seams import Clock
from restated.store.query import QueryRunner
from restated.store.query_wire import LiveAttempt
from restated.store.sqlite import SqliteStore
from restated.store.startup import StoreLimits

GRACE_S: Final = 5.0  # for callers to get their answers when the daemon stops

log = logging.getLogger("restated.daemon")


def handler_defaults(settings: Settings) -> catalog.Settings:
    """What holds for a handler that says nothing of its own."""
    return catalog.Settings(
        public=True,
        inactivity_timeout_ms=settings[config.INACTIVITY_TIMEOUT_MS],
        abort_timeout_ms=settings[config.ABORT_TIMEOUT_MS],
        journal_retention_ms=settings[config.JOURNAL_RETENTION_MS],
        idempotency_retention_ms=settings[config.IDEMPOTENCY_RETENTION_MS],
        workflow_retention_ms=settings[config.WORKFLOW_RETENTION_MS],
        lazy_state=False,
        retry=RetryPolicy(
            interval_ms=settings[config.RETRY_INTERVAL_MS],
            factor=settings[config.RETRY_FACTOR],
            interval_ms_max=settings[config.RETRY_INTERVAL_MS_MAX],
            attempts_max=settings[config.RETRY_ATTEMPTS_MAX],
            at_most=settings[config.RETRY_AT_MOST],
        ),
    )


def store_limits(settings: Settings) -> StoreLimits:
    """Bounds of the store."""
    return StoreLimits(stop_wal_bytes=settings[config.STOP_WAL_BYTES])


def invoker_limits(settings: Settings) -> InvokerLimits:
    """Bounds of attempts."""
    return InvokerLimits(
        attempts_max=settings[config.ATTEMPTS_MAX],
        eager_state_bytes=settings[config.EAGER_STATE_BYTES_MAX],
        protocol_version_max=settings[config.PROTOCOL_VERSION_MAX],
    )


def transport_limits(settings: Settings) -> TransportLimits:
    """Bounds of connections to deployments."""
    return TransportLimits(
        streams_max=settings[config.STREAMS_MAX],
        connect_timeout_seconds=settings[config.CONNECT_TIMEOUT_MS] / 1_000,
        idle_seconds=settings[config.IDLE_TIMEOUT_MS] / 1_000,
        ping_interval_seconds=settings[config.PING_INTERVAL_MS] / 1_000,
        ping_timeout_seconds=settings[config.PING_TIMEOUT_MS] / 1_000,
        cluster_name=settings[config.CLUSTER_NAME],
    )


def request_identity(settings: Settings, clock: Clock) -> RequestIdentity | None:
    """The identity that requests to deployments are signed with, if any. IdentityError."""
    path = settings[config.IDENTITY_KEY]
    if path is None:
        return None
    identity = load_identity(path, clock, settings[config.IDENTITY_EXPIRATION_MS])
    log.info("requests to deployments are signed public_key=%s", identity.key_id)
    return identity


def ingress_limits(settings: Settings) -> IngressLimits:
    """Bounds of requests."""
    return IngressLimits(
        body_bytes_max=settings[config.INGRESS_BODY_BYTES_MAX],
        requests_max=settings[config.INGRESS_REQUESTS_MAX],
        connections_max=system.connections_max(settings[config.INGRESS_CONNECTIONS_MAX]),
        streams_max=settings[config.INGRESS_STREAMS_MAX],
    )


class Daemon:
    """The rooms, wired; nothing runs yet."""

    __slots__ = (
        "admin", "admin_closed", "catalog", "ingress", "invoker", "listening", "query",
        "stopping", "store", "timers", "upkeep", "waiters", "writer",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913, PLR0917 - the rooms that are started and stopped
        self,
        store: SqliteStore,
        writer: Writer,
        timers: Timers,
        invoker: Invoker,
        waiters: Waiters,
        catalog: LiveCatalog,
        ingress: IngressServer,
        admin: AdminListeners,
        query: QueryRunner,
        upkeep: Upkeep,
        listening: Sockets,
        stopping: trio.Event,
    ) -> None:
        self.store = store
        self.writer = writer
        self.timers = timers
        self.invoker = invoker
        self.waiters = waiters
        self.catalog = catalog
        self.ingress = ingress
        self.admin = admin
        self.query = query
        self.upkeep = upkeep
        self.listening = listening
        self.stopping = stopping  # set: the admin API accepts no connections
        self.admin_closed = trio.Event()  # set when its last connection is closed

    def progress(self) -> tuple[int, int]:
        """(batches so far, events that wait), for the watchdog."""
        return self.writer.batches, self.writer.backlog


def build(
    settings: Settings,
    seams: Seams,
    store: SqliteStore,
    listening: Sockets,
    nursery: trio.Nursery,
    identity: RequestIdentity | None = None,
) -> Daemon:
    """Make and wire every room; connections to deployments live in `nursery`."""
    dispatch, tail, waiters = Dispatch(), Tail(), Waiters()
    live_catalog = LiveCatalog(handler_defaults(settings))
    writer = Writer(store, dispatch, tail, seams.clock)
    timers = Timers(store, writer, seams.clock, settings[config.CLEANUP_INTERVAL_MS])
    networks = settings[config.NETWORKS_ALLOWED]
    own = [*listening.addresses("ingress"), *listening.addresses("admin")]
    targets = Targets(own, networks)
    transport = DeploymentTransport(
        nursery, seams.net, targets, transport_limits(settings), identity=identity,
        signer=AwsSigner(os.environ),
    )  # fmt: skip
    invoker = Invoker(
        writer,
        live_catalog,
        store,
        transport,
        seams.clock,
        seams.rng,
        invoker_limits(settings),
    )

    def reload() -> None:
        with store.snapshot() as view:
            live_catalog.load(view)

    route_effects(
        dispatch, invoker=invoker, waiters=waiters, timers=timers, tail=tail, reload=reload
    )
    reload()
    upkeep = Upkeep(store, settings[config.CHECKPOINT_WAL_BYTES], settings[config.FREE_BYTES_MIN])
    ingress = Ingress(
        writer, waiters, live_catalog, store, seams.clock, seams.rng, ingress_limits(settings),
        upkeep.admits,
    )  # fmt: skip
    stopping = trio.Event()
    query = QueryRunner(str(store.path), live=lambda: live_rows(invoker), clock=seams.clock)
    allowed_hosts = settings[config.ADMIN_ALLOWED_HOSTS]
    deps = AdminDeps(
        writer=writer, catalog=live_catalog, store=store, transport=transport, clock=seams.clock,
        rng=seams.rng, tail=tail, version=__version__,
        advertised_ingress=advertised_ingress(settings, listening),
        query=query, allowed_hosts=allowed_hosts,
    )  # fmt: skip
    admin = AdminListeners(build_admin(deps), StreamLimits(), seams.clock, stopping)
    return Daemon(
        store, writer, timers, invoker, waiters, live_catalog, IngressServer(ingress), admin,
        query, upkeep, listening, stopping,
    )  # fmt: skip


def route_effects(
    dispatch: Dispatch, *, invoker: Invoker, waiters: Waiters, timers: Timers, tail: Tail,
    reload: Callable[[], None],
) -> None:  # fmt: skip
    """The table effect -> room, complete."""
    dispatch.route(effects.StartAttempt, invoker.start)
    dispatch.route(effects.StopAttempt, invoker.stop)
    dispatch.route(effects.AckCommand, invoker.acknowledge)
    dispatch.route(effects.PushNotification, invoker.push)
    dispatch.route(effects.Settled, waiters.settle)
    dispatch.route(effects.ArmTimer, timers.arm)
    dispatch.route(effects.RegistryChanged, lambda _effect: reload())
    dispatch.route(effects.Changed, tail.publish)
    dispatch.check()


def live_rows(invoker: Invoker) -> list[LiveAttempt]:
    """What only the invoker knows, in the form that the query child takes."""
    return [
        (live.id, live.in_flight, live.started_at_ms, live.deployment_id, live.server)
        for live in invoker.live()
    ]


def advertised_ingress(settings: Settings, listening: Sockets) -> str | None:
    """The URL that clients are told: as set, else where we listen; a wildcard is this host."""
    if settings[config.INGRESS_ADVERTISED] is not None:
        return settings[config.INGRESS_ADVERTISED]
    for host, port in listening.addresses("ingress"):
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
        return f"http://{Address(reachable, port)}"
    return None
