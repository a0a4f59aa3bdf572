"""Start the daemon and the sample service, register it, call it once; Ctrl-C stops both.

Lives here: what `make run` does. Standard library only.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
START_S = 15
STOP_S = 15


class StartFailedError(Exception):
    """Something did not come up; the text says what."""


def main() -> int:
    """Exit status: 0 after Ctrl-C, 1 when something did not start or ended by itself."""
    options = _options()
    signal.signal(signal.SIGTERM, _interrupt)
    children: list[subprocess.Popen[bytes]] = []
    try:
        _start(options, children)
        while all(child.poll() is None for child in children):
            time.sleep(0.2)
        print("one of the processes ended by itself, stopping", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nstopping")
        return 0
    except StartFailedError as error:
        print(f"run: {error}", file=sys.stderr)
    finally:
        _stop(children)
    return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-dir", default="restated-data")
    parser.add_argument("--ingress", type=int, default=8080, metavar="PORT")
    parser.add_argument("--admin", type=int, default=9070, metavar="PORT")
    parser.add_argument("--service", type=int, default=9080, metavar="PORT")
    return parser.parse_args()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _start(options: argparse.Namespace, children: list[subprocess.Popen[bytes]]) -> None:
    for port, use in (
        (options.ingress, "the ingress (--ingress PORT)"),
        (options.admin, "the admin API (--admin PORT)"),
        (options.service, "the sample service (--service PORT)"),
    ):
        _require_free(port, use)
    ingress, admin = (f"127.0.0.1:{port}" for port in (options.ingress, options.admin))
    serve = [BIN / "restated", "serve", "--base-dir", options.base_dir]
    daemon = _spawn([*serve, "--ingress", ingress, "--admin", admin])
    children.append(daemon)
    address = f"127.0.0.1:{options.service}"
    # The SDK's app has no lifespan, of which Hypercorn warns.
    service = _spawn([BIN / "hypercorn", "--log-level", "error", "--bind", address, "service:app"])
    children.append(service)
    _wait_for(f"http://{admin}/health", daemon, "the daemon")
    _wait_for_port(options.service, service)
    _post(
        f"http://{admin}/deployments",
        {"uri": f"http://{address}", "force": True},
    )
    url = f"http://{ingress}/Greeter/greet"
    answer = _post(url, "World")
    print(f"\nregistered the sample service and called it: {answer}")
    print("call it again (Ctrl-C here stops everything):\n")
    print(f"    curl {url} --json '\"World\"'\n", flush=True)


def _require_free(port: int, use: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StartFailedError(
                f"port {port} for {use} is not free: {error.strerror}; stop what listens there, "
                "or choose another port"
            ) from error


def _spawn(command: list[str | Path]) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C reaches this script only, which stops them in order.
    return subprocess.Popen(command, cwd=_directory(command), start_new_session=True)


def _directory(command: list[str | Path]) -> Path:
    return HERE if command[-1] == "service:app" else Path.cwd()


def _wait_for(url: str, child: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise StartFailedError(f"{name} ended with status {child.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise StartFailedError(f"{name} did not answer {url} within {START_S} s")


def _wait_for_port(port: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise StartFailedError(f"the sample service ended with status {child.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise StartFailedError(f"the sample service did not listen within {START_S} s")


def _post(url: str, value: object) -> object:
    request = urllib.request.Request(
        url, json.dumps(value).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=START_S) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        raise StartFailedError(f"{url} answered {error.code}: {text}") from error
    except OSError as error:
        raise StartFailedError(f"{url}: {error}") from error


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    """The daemon first: it still speaks to the service while it drains."""
    for child in children:
        if child.poll() is None:
            child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
