"""The process from outside: start, what it tells its supervisor, stop, refusals."""

import json
import signal
import socket
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.running import RealDaemon, serve_fails

pytestmark = pytest.mark.real


def get(url: str) -> tuple[int, bytes]:
    """Status and body of a request that succeeds."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.status, response.read()


def unix_get(path: Path, target: str) -> bytes:
    """The whole answer of a request over a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        parts = iter(lambda: client.recv(65_536), b"")
        return b"".join(parts)


def test_ready_means_that_every_listener_answers(real_daemon: RealDaemon) -> None:
    """design.md 3.10: READY comes behind the listeners."""
    assert get(f"{real_daemon.ingress}/restate/health")[0] == 200
    assert get(f"{real_daemon.admin}/health")[0] == 200
    assert unix_get(real_daemon.socket_path, "/health").startswith(b"HTTP/1.1 200")
    ingress_socket = real_daemon.base_dir / "run" / "ingress.sock"
    assert unix_get(ingress_socket, "/restate/health").startswith(b"HTTP/1.1 200")


def test_nobody_else_can_read_the_state_or_use_the_sockets(real_daemon: RealDaemon) -> None:
    """Z7."""
    modes = {
        path.relative_to(real_daemon.base_dir).as_posix(): stat.S_IMODE(path.lstat().st_mode)
        for path in real_daemon.base_dir.rglob("*")
    }
    assert stat.S_IMODE(real_daemon.base_dir.stat().st_mode) == 0o700
    assert modes.pop("run") == 0o750
    assert modes.pop("run/ingress.sock") == 0o660
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(real_daemon.socket_path.stat().st_mode) == 0o660


def test_the_version_tells_where_the_ingress_is(real_daemon: RealDaemon) -> None:
    """admin.md 3: `ingress_endpoint` is derived when nothing is set."""
    version = json.loads(get(f"{real_daemon.admin}/version")[1])
    assert version["ingress_endpoint"] == f"{real_daemon.ingress}/"


def test_sigterm_is_told_stops_with_0_and_leaves_no_socket(real_daemon: RealDaemon) -> None:
    """STOPPING=1, exit 0, files removed; the log ends with it."""
    assert real_daemon.terminate() == 0
    assert real_daemon.wait_for("STOPPING=1")
    assert not real_daemon.socket_path.exists()
    assert "message=stopped" in real_daemon.log()
    assert "Traceback" not in real_daemon.log()


def test_the_watchdog_is_fed_twice_in_its_interval(short_path: Path) -> None:
    """sd_notify(3): the first beat does not wait for the first half."""
    environment = {"WATCHDOG_USEC": "200000"}
    with RealDaemon(short_path, environment=environment) as daemon:
        beats = [daemon.wait_for("WATCHDOG=1") for _ in range(3)]
    assert len(beats) == 3


def test_a_daemon_that_was_killed_starts_again_on_its_directory(short_path: Path) -> None:
    """Stale sockets are replaced, the lock died with the process."""
    with RealDaemon(short_path) as first:
        first.kill()
    with RealDaemon(short_path) as second:
        assert get(f"{second.admin}/health")[0] == 200
        assert second.terminate() == 0


def test_a_second_daemon_on_the_directory_is_refused_in_one_line(real_daemon: RealDaemon) -> None:
    """C77: one line that names the directory and the process, exit 1."""
    status, text = serve_fails(
        "--base-dir", str(real_daemon.base_dir), "--ingress", "127.0.0.1:0", "--admin", "none"
    )
    assert status == 1
    assert text.count("\n") == 1
    assert str(real_daemon.base_dir) in text
    assert str(real_daemon.child.pid) in text
    assert get(f"{real_daemon.admin}/health")[0] == 200


def test_a_port_in_use_is_named_in_one_line(short_path: Path) -> None:
    """Exit 1, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, text = serve_fails(
            "--base-dir", str(short_path / "data"), "--ingress", address, "--admin", "none"
        )
    assert status == 1
    assert text == f"restated: cannot listen on {address} for ingress: address already in use\n"


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--nonsense"], {}),
        (["--ingress", "nowhere"], {}),
        ([], {"RESTATED_NONSENSE": "1"}),
        ([], {"RESTATED_LOG_FILTER": "loud"}),
        (["--config", "/nonexistent/restated.toml"], {}),
        (["--admin", "0.0.0.0:0"], {}),
        ([], {"RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE": "/nonexistent/key.pem"}),
    ],
)
def test_wrong_settings_end_with_2_and_one_line(
    arguments: list[str], environment: dict[str, str]
) -> None:
    """The unit has RestartPreventExitStatus=2."""
    status, text = serve_fails(*arguments, **environment)
    assert status == 2
    assert text.startswith("restated: ")
    assert text.count("\n") == 1


def test_an_unusable_base_directory_ends_with_1_and_one_line(short_path: Path) -> None:
    """The directory is named."""
    (short_path / "file").write_text("")
    status, text = serve_fails("--base-dir", str(short_path / "file"), "--ingress", "127.0.0.1:0")
    assert status == 1
    assert text.startswith("restated: ")
    assert str(short_path / "file") in text
    assert text.count("\n") == 1


@pytest.fixture
def inherited(short_path: Path) -> Iterator[dict[str, socket.socket]]:
    """Listening sockets as systemd would make them, by name."""
    admin_path = short_path / "inherited.sock"
    admin = socket.socket(socket.AF_UNIX)
    admin.bind(str(admin_path))
    admin.listen()
    with socket.create_server(("127.0.0.1", 0)) as ingress, admin:
        yield {"ingress": ingress, "admin-socket": admin}


def test_sockets_of_the_supervisor_are_served_instead_of_own_ones(
    short_path: Path, inherited: dict[str, socket.socket]
) -> None:
    """LISTEN_FDS: by name, whatever the settings say."""
    with RealDaemon.socket_activated(short_path, inherited) as daemon:
        host, port = inherited["ingress"].getsockname()
        assert daemon.ingress == f"http://{host}:{port}"
        assert get(f"{daemon.ingress}/restate/health")[0] == 200
        answer = unix_get(short_path / "inherited.sock", "/health")
        assert answer.startswith(b"HTTP/1.1 200")
        assert not daemon.socket_path.exists()
        assert daemon.terminate() == 0
    assert (short_path / "inherited.sock").exists(), "not ours to remove"


def test_an_inherited_socket_without_a_known_name_is_refused(
    short_path: Path, inherited: dict[str, socket.socket]
) -> None:
    """A unit that was written wrongly must not come up half."""
    passed = {"restated.socket": inherited["ingress"]}
    with pytest.raises(AssertionError, match="FileDescriptorName"):
        RealDaemon.socket_activated(short_path, passed)


def test_a_second_signal_stops_at_once(real_daemon: RealDaemon) -> None:
    """A caller that is still sending does not hold it."""
    host, _, port = real_daemon.ingress.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /Greeter/greet HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
        get(f"{real_daemon.ingress}/restate/health")
        real_daemon.child.send_signal(signal.SIGTERM)
        real_daemon.wait_for("STOPPING=1")
        real_daemon.child.send_signal(signal.SIGTERM)
        assert real_daemon.child.wait(3) == 0
    assert "second signal" in real_daemon.log()
