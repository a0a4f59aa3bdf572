"""SIGKILL under load: nothing acknowledged is lost, nothing happens twice."""

import random
import time
from pathlib import Path

import httpx
import pytest

from tests.daemon.running import RealDaemon
from tests.real.load import Load
from tests.real.waiting import eventually

KILLS = 20
SEED = 20_260_701


@pytest.mark.real
@pytest.mark.slow
def test_twenty_kills_under_load_lose_and_repeat_nothing(short_path: Path, services: str) -> None:
    """A1, A2, B6, K5: sums are exact, every sum was told once."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    daemon = RealDaemon(short_path)
    try:
        httpx.post(f"{daemon.admin}/deployments", json={"uri": services}).raise_for_status()
        load = Load(SEED, clients=12, ingress=lambda: daemon.ingress)
        load.start()
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.05, 0.8))
            daemon.kill()
            daemon.close()
            daemon = RealDaemon(short_path)
        load.stop()
        assert load.wrong == []
        assert set(load.done) == {"_call", "_keyed_send", "_plain_send", "_nap", "_relay"}
        assert min(load.done.values()) >= 20, f"too little happened to tell: {load.done}"
        eventually(lambda: open_invocations(daemon) == 0)
        verify(load, daemon)
        assert "level=error" not in daemon.log()
    finally:
        print(daemon.log()[-20_000:])
        daemon.close()


def open_invocations(daemon: RealDaemon) -> int:
    """How many invocations have not completed."""
    query = "SELECT count(*) AS n FROM sys_invocation WHERE status <> 'completed'"
    answer = httpx.post(
        f"{daemon.admin}/query", json={"query": query}, headers={"accept": "application/json"}
    )
    return int(answer.raise_for_status().json()["rows"][0]["n"])


def verify(load: Load, daemon: RealDaemon) -> None:
    """Every sum equals what was acknowledged; an unacknowledged send happened at most once."""
    query = "SELECT service_key, value_utf8 FROM state WHERE service_name = 'Tally'"
    answer = httpx.post(
        f"{daemon.admin}/query", json={"query": query}, headers={"accept": "application/json"}
    )
    sums = {row["service_key"]: int(row["value_utf8"]) for row in answer.json()["rows"]}
    unknown = {mark: sums.pop(mark) for mark in load.unknown if mark in sums}
    assert set(unknown.values()) <= {1}
    assert sums == dict(load.expected) | dict.fromkeys(load.acknowledged, 1)
    for key, told in load.told.items():
        assert len(set(told)) == len(told), f"two additions to {key} were told the same sum"
        assert max(told) <= sums[key]
