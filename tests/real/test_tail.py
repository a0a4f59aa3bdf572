"""The live tail of a real daemon: a client that does not read holds up nobody."""

import json
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio

from restated.client import AdminClient, ClientError
from tests.daemon.running import RealDaemon

SENDS = 1_000  # five changes of 400 bytes each: more than a queue and two socket buffers hold
PAYLOAD_KEY = "k" * 200


class Follower:
    """One client of the tail over the Unix socket, in a thread of its own."""

    def __init__(self, address: str, *, reads: bool) -> None:
        self._address = address
        self._may_read = threading.Event()
        if reads:
            self._may_read.set()
        self.seen: list[dict[str, object]] = []
        self.following = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def read(self) -> None:
        """Begin to read what was sent meanwhile."""
        self._may_read.set()

    def wait_for(self, kind: str, count: int = 1) -> None:
        """Return when so many changes of a kind were seen."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count(kind) >= count, 60), self.seen[-3:]

    def count(self, kind: str) -> int:
        """How many changes of a kind were seen."""
        return sum(change["kind"] == kind for change in self.seen)

    def _follow(self) -> None:
        def show(line: bytes) -> None:
            self.following.set()
            self._may_read.wait()
            with self._changed:
                self.seen.append(json.loads(line))
                self._changed.notify_all()

        with suppress(ClientError), AdminClient(self._address) as client:  # the daemon ends first
            trio.run(client.tail, [], show)


@pytest.mark.real
def test_a_stalled_client_gets_a_gap_and_the_other_one_everything(
    short_path: Path, services: str
) -> None:
    """design.md 3.15, M4: a bounded queue for each client; calls go on as if nobody listened."""
    with RealDaemon(short_path) as daemon:
        httpx.post(f"{daemon.admin}/deployments", json={"uri": services}).raise_for_status()
        address = f"unix:{daemon.socket_path}"
        lively, stalled = Follower(address, reads=True), Follower(address, reads=False)
        with httpx.Client() as http:
            while not (lively.following.is_set() and stalled.following.is_set()):
                send(daemon, http)
            before = lively.count("accepted")
            for _ in range(SENDS):
                send(daemon, http)
            lively.wait_for("completed", before + SENDS)
            assert lively.count("gap") == 0
            assert http.post(f"{daemon.ingress}/Work/echo", json="on").json() == "on"
        stalled.read()
        stalled.wait_for("gap")
        lost = sum(int(str(change["lost"])) for change in stalled.seen if change["kind"] == "gap")
        assert lost > 0


def send(daemon: RealDaemon, http: httpx.Client) -> None:
    """One invocation with a long key in each of its changes."""
    answer = http.post(f"{daemon.ingress}/Tally/{PAYLOAD_KEY}/read/send")
    assert answer.status_code == 202
