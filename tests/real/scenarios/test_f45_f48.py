"""Crashes: of an endpoint, of the server (scenarios F45 and F48)."""

import os
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.real.scenarios.world import World
from tests.real.waiting import eventually

pytestmark = pytest.mark.real
SERVED_WITHIN_CPU_S = 0.5  # the daemon's own: other processes use the machine, too
SERVED_WITHIN_S = 2.0  # whatever else runs, it waits for nobody
LATE_S = 0.2
LOADED_S = 0.3  # what the shared machine may add


def test_f45_endpoint_dies_midway(world: World) -> None:
    invocation_id = world.sent("X/side", {"id": "f45", "ms": 3_000})
    world.until_noted("step", "f45")
    eventually(lambda: world.invocation(invocation_id)["journal_size"] >= 3)
    world.services.kill()
    row = world.until_status(invocation_id, "backing-off")
    row = eventually(
        lambda: (
            one
            if "Connection refused" in (one := world.invocation(invocation_id))["last_failure"]
            else None
        )
    )
    assert row["status"] in ("backing-off", "running")
    world.services.start()
    assert world.attach(invocation_id).json() == "done"
    assert [note.text for note in world.notes.of("step", "f45")] == ["one", "two"]


def test_f48_kill_of_the_server(world: World) -> None:
    """Everything in flight completes once, on time and in order."""
    keyed = world.call("Svc/pub", {"id": "f48-keyed"}, key="f48")
    awaiting = world.sent("Svc/awk", {"id": "f48-awk"})
    awakeable = world.until_noted("awakeable", "f48-awk")
    begun = time.time()
    nap = world.sent("Svc/nap", {"id": "f48-nap", "ms": 4_000})
    delayed = world.send("Svc/pub", {"id": "f48-delayed"}, delay="4s").json()
    queued = [world.sent("Obj/f48/slow", {"id": name, "ms": 500}) for name in ("1", "2", "3", "4")]
    world.until_noted("slow", "f48")
    world.until_noted("attempt", "f48-nap")
    world.daemon.kill()
    restarted = time.monotonic()
    world.restart_daemon()
    assert world.call("Svc/echo", 1).json() == 1
    assert cpu_s(world.daemon.child.pid) < SERVED_WITHIN_CPU_S
    assert time.monotonic() - restarted < SERVED_WITHIN_S

    again = world.call("Svc/pub", {"id": "f48-keyed"}, key="f48")
    assert again.headers["x-restate-id"] == keyed.headers["x-restate-id"]
    assert world.request("POST", f"/restate/awakeables/{awakeable}/resolve", json=7).is_success
    assert world.attach(awaiting).json() == 7
    assert [world.attach(one).json() for one in queued] == ["1", "2", "3", "4"]
    assert world.attach(delayed["invocationId"]).json() == "f48-delayed"
    assert world.attach(nap).json() == "woke"

    assert len(world.notes.of("pub", "f48-keyed")) == 1
    ran = [note.text for note in world.notes.of("slow", "f48")]
    assert ran == sorted(ran)  # an attempt may be repeated, never overtaken
    assert set(ran) == {"1", "2", "3", "4"}
    fired = world.notes.of("pub", "f48-delayed")
    assert len(fired) == 1
    due_s = datetime.fromisoformat(delayed["executionTime"][:26] + "+00:00").timestamp()
    assert 0 <= fired[0].at_s - due_s < LATE_S + LOADED_S
    woke = datetime.fromisoformat(world.invocation(nap)["completed_at"]).timestamp()
    assert 4 <= woke - begun < 4 + LATE_S + LOADED_S


def cpu_s(pid: int) -> float:
    """The processor time that a process has used, its threads' too (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")
