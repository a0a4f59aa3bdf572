"""A short load: echo calls over a service that does nothing. With a directory: its benchmark.

Lives here: what `make bench` does. Server, service and load share this machine's processors, so
that the figures are for comparing two states of the code in one sitting, and for nothing else.
The processor time of the server is its own.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
START_S = 15
WARM_UP_S = 1.0
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Exit status: that of the benchmark, or 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", nargs="?", help="directory with a run.py of its own")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    if options.benchmark:
        return delegate(Path(options.benchmark))
    with tempfile.TemporaryDirectory(prefix="rd-bench-") as directory:
        return own_load(Path(directory), options.seconds)


def delegate(benchmark: Path) -> int:
    """Run that benchmark against this checkout."""
    serve = (
        f"{BIN}/restated serve --base-dir {{data}} --ingress {{ingress}} --admin {{admin}} "
        "--admin-socket {admin_socket}"
    )
    command = [sys.executable, "run.py", "--target", "restated", "--endpoint", "null"]
    environment = os.environ | {"RESTATED_CMD": serve}
    return subprocess.run(command, cwd=benchmark, env=environment, check=False).returncode


def own_load(directory: Path, seconds: float) -> int:
    """Start everything, measure, stop everything."""
    ingress, admin, service = free_ports(3)
    serve = [
        BIN / "restated", "serve", "--base-dir", directory / "data", "--ingress",
        f"127.0.0.1:{ingress}", "--admin", f"127.0.0.1:{admin}",
    ]  # fmt: skip
    environment = os.environ | {"RESTATE_LOG_FILTER": "warn"}
    daemon = subprocess.Popen(serve, env=environment)
    null = subprocess.Popen([sys.executable, HERE / "null_service.py", "--port", str(service)])
    try:
        wait_for_port(admin)
        wait_for_port(service)
        register(admin, service)
        print(f"{'in flight':>9} {'calls/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'server us/call':>15}")
        for width in (1, 64):
            asyncio.run(load(ingress, width, WARM_UP_S))
            before = cpu_s(daemon.pid)
            started = time.monotonic()
            times = asyncio.run(load(ingress, width, seconds))
            elapsed = time.monotonic() - started
            spent_us = (cpu_s(daemon.pid) - before) * 1e6 / len(times)
            print(
                f"{width:>9} {len(times) / elapsed:>9.0f} {statistics.median(times) * 1e3:>8.2f} "
                f"{statistics.quantiles(times, n=100)[98] * 1e3:>8.2f} {spent_us:>15.0f}"
            )
    finally:
        for child in (daemon, null):
            child.terminate()
            child.wait()
        shutil.rmtree(directory / "data", ignore_errors=True)
    return 0


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at this moment."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_for_port(port: int) -> None:
    """Return when somebody listens."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"bench: nobody listens on port {port} after {START_S} s")


def register(admin: int, service: int) -> None:
    """Tell the server where the service is."""
    body = json.dumps({"uri": f"http://127.0.0.1:{service}"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin}/deployments", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=START_S):
        pass


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def load(port: int, width: int, seconds: float) -> list[float]:
    """Call over `width` connections for so long; the seconds of each call."""
    times: list[float] = []
    deadline = time.monotonic() + seconds
    await asyncio.gather(*(call_until(port, deadline, times) for _ in range(width)))
    return times


async def call_until(port: int, deadline: float, times: list[float]) -> None:
    """One connection, one call after the other. SystemExit at anything but a 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = (
        b"POST /Null/echo HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        b'content-length: 9\r\n\r\n"payload"'
    )
    while (started := time.monotonic()) < deadline:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200") or body != b'"payload"':
            raise SystemExit(f"bench: unexpected answer {head + body!r}")
        times.append(time.monotonic() - started)
    writer.close()


if __name__ == "__main__":
    sys.exit(main())
