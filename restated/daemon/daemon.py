"""The process: settings -> store -> rooms -> listeners, and all of it back again.

Lives here: `run`, the order of start and stop, signals, exit statuses, recovery, upkeep of the WAL.
Does not: how rooms are built and wired (build.py), what any of them does.
Start: settings, logs, store, rooms, first recovery page, timers, invoker, listeners, READY, the
other recovery pages. Stop: STOPPING, no new connections, 5 s in which callers get their answers,
the other callers are told, attempts abort (recovery starts them again), the writer drains, close.
Recovery writes nothing: rows with the status `invoked` are given to the invoker as they are; their
stored attempt number is still a valid fence, no older process can speak.
"""

import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import trio

from restated.daemon import config, logs, sockets, system
from restated.daemon.build import GRACE_S, Daemon, build, request_identity, store_limits
from restated.daemon.config import ConfigError, HelpRequested, Settings
from restated.daemon.notify import Notifier, beat, watchdog_interval_s
from restated.daemon.sockets import ListenError
from restated.invoker.identity import IdentityError
from restated.store.sqlite import open_sqlite
from restated.store.store import StoreFailedError, StoreRefusedError

STOPPED, START_FAILED, USAGE, STORE_FAILED = 0, 1, 2, 70  # exit statuses; 70 is EX_SOFTWARE

SWITCH_INTERVAL_S: Final = 0.0005  # with the default 5 ms a busy loop starves COMMIT for seconds
ANSWER_S: Final = 1.0  # for callers to be told that we stop
DRAIN_S: Final = 10.0
RECOVERY_PAGE: Final = 256

log = logging.getLogger("restated.daemon")


def run(arguments: Sequence[str]) -> int:
    """`restated serve ARGUMENTS`; the exit status. Messages go to standard error."""
    environment = os.environ
    try:
        settings = config.load(arguments, environment)
        logs.set_up(settings[config.LOG_FILTER], settings[config.LOG_FORMAT])
    except HelpRequested:
        sys.stdout.write(f"{config.USAGE}\n")
        return STOPPED
    except ConfigError as error:
        return _complain(error, USAGE)
    if settings.ignored:
        log.info("settings of the reference without a meaning here names=%s", settings.ignored)
    system.prepare_process()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    system.return_large_blocks()
    status = START_FAILED
    try:
        status = trio.run(main, settings, environment)
    except* StoreFailedError as failures:
        # Nobody was told anything; what is on the disk decides at the next start (A3).
        log.critical("the store failed, stopping at once reason=%s", _first(failures))
        status = STORE_FAILED
    return status


def _complain(error: Exception, status: int) -> int:
    sys.stderr.write(f"restated: {error}\n")
    return status


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def main(settings: Settings, environment: MutableMapping[str, str]) -> int:
    """The life of the daemon; the exit status. StoreFailedError, possibly in a group."""
    notifier = Notifier(environment)
    seams = system.system_seams()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        try:
            identity = request_identity(settings, seams.clock)
            async with AsyncExitStack() as stack:
                adopted = sockets.adopt(environment, os.getpid())
                store = await open_sqlite(
                    config.base_dir(settings),
                    clock=seams.clock,
                    fs=seams.fs,
                    limits=store_limits(settings),
                )
                stack.push_async_callback(store.aclose)
                listening = await sockets.open_all(settings, seams.net, environment, adopted)
                stack.push_async_callback(listening.close)
                async with trio.open_nursery() as nursery:
                    daemon = build(settings, seams, store, listening, nursery, identity)
                    await _live(daemon, nursery, notifier, environment, signals)
                    nursery.cancel_scope.cancel()
        except IdentityError as error:
            return _complain(error, USAGE)
        except (StoreRefusedError, ListenError) as error:
            return _complain(error, START_FAILED)
    log.info("stopped")
    return STOPPED


async def _live(
    daemon: Daemon,
    nursery: trio.Nursery,
    notifier: Notifier,
    environment: MutableMapping[str, str],
    signals: AsyncIterator[int],
) -> None:
    """Start, serve until a signal comes, stop; a second signal ends it at once."""
    interval_s = watchdog_interval_s(environment, os.getpid())
    if interval_s is not None:
        nursery.start_soon(beat, notifier, interval_s, daemon.progress)
    recovered = await start(daemon, nursery)
    places = " ".join(daemon.listening.places())
    notifier.ready(places)
    log.info("ready %s", places)
    # What is alive now stays alive: passes of the collector over it would find nothing, ever.
    gc.collect()
    gc.freeze()
    gc.enable()
    nursery.start_soon(recover_rest, daemon, recovered)
    await anext(signals)
    notifier.stopping()
    log.info("stopping")
    async with trio.open_nursery() as stopping:
        stopping.start_soon(_stop_at_once, stopping.cancel_scope, signals)
        await stop(daemon)
        stopping.cancel_scope.cancel()


async def _stop_at_once(scope: trio.CancelScope, signals: AsyncIterator[int]) -> None:
    await anext(signals)
    log.warning("second signal, stopping at once")
    scope.cancel()


async def start(daemon: Daemon, nursery: trio.Nursery) -> int:
    """From rooms that are built to a daemon that serves; the last number that was recovered."""
    nursery.start_soon(daemon.writer.run)
    recovered = recover_first(daemon)
    nursery.start_soon(daemon.timers.run)
    nursery.start_soon(daemon.timers.run_cleanup)
    nursery.start_soon(daemon.upkeep.run)
    nursery.start_soon(daemon.invoker.run)
    await nursery.start(daemon.query.serve)
    by_name = daemon.listening.by_name
    await nursery.start(daemon.ingress.run, [*by_name["ingress"], *by_name["ingress-socket"]])
    nursery.start_soon(serve_admin, daemon)
    return recovered


def recover_first(daemon: Daemon) -> int:
    """The first page, before anything new can start; the last number that was recovered."""
    return _recover_page(daemon, 0)


def _recover_page(daemon: Daemon, after: int) -> int:
    """Give the invoker what was running when the last process ended; 0 when there is no more."""
    page = daemon.store.open_invocations(after, RECOVERY_PAGE)
    daemon.invoker.recover(page)
    return page[-1].number if len(page) == RECOVERY_PAGE else 0


async def recover_rest(daemon: Daemon, after: int) -> None:
    """The pages behind the first one, a turn of the loop between them."""
    while after:
        after = _recover_page(daemon, after)
        await trio.lowlevel.checkpoint()
    # A page may have shown what this commit started; its effects must find that remembered.
    await daemon.writer.released()
    daemon.invoker.recovered()


async def serve_admin(daemon: Daemon) -> None:
    """Serve the admin listeners until the daemon stops and their last connection is closed."""
    by_name = daemon.listening.by_name
    async with trio.open_nursery() as serving:
        for listener in (*by_name["admin"], *by_name["admin-socket"]):
            serving.start_soon(daemon.admin.serve, listener)
    daemon.admin_closed.set()


async def stop(daemon: Daemon) -> None:
    """Let callers have their answers, tell the others, abort attempts, drain the writer.

    Tasks that post events may still run; what they post behind the drain is stored or not, and
    nobody is told.
    """
    daemon.stopping.set()
    await daemon.ingress.stop(GRACE_S)
    daemon.waiters.stop()
    await daemon.ingress.aclose()
    with trio.move_on_after(ANSWER_S):
        await daemon.admin_closed.wait()
    daemon.invoker.abort_all()
    with trio.move_on_after(DRAIN_S):
        await daemon.writer.drain()
