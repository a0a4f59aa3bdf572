"""The real seams: clock, chance, sockets."""

import errno
import socket
import stat
import time
from collections import Counter
from pathlib import Path

import pytest
import trio
import trio.testing

from restated.daemon import system
from restated.daemon.system import SystemClock, SystemFs, SystemNet, SystemRng


def test_a_sleep_is_never_early_when_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """T1, T4: wall time is read again at least each second."""
    wall = iter([1_000.0, 1_000.9, 990.0, 991.0, 1_001.0])
    monkeypatch.setattr(time, "time", lambda: next(wall))

    async def main() -> float:
        started = trio.current_time()
        await SystemClock().sleep_until_ms(1_001_000)
        return trio.current_time() - started

    elapsed_s = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert elapsed_s == pytest.approx(1.0 + 0.1 + 1.0 + 1.0)
    assert next(wall, None) is None


def test_random_bytes_are_handed_out_once() -> None:
    """Ids are drawn from a block: no byte of it may serve twice."""
    rng = SystemRng()
    drawn = [rng.bytes(16) for _ in range(2_000)]
    assert len({*drawn}) == 2_000
    assert {len(one) for one in drawn} == {16}
    assert len(rng.bytes(system.RANDOM_BYTES + 1)) == system.RANDOM_BYTES + 1


def test_below_reaches_every_number_and_no_other() -> None:
    """0 <= n < bound."""
    rng = SystemRng()
    assert set(Counter(rng.below(5) for _ in range(1_000))) == {0, 1, 2, 3, 4}


def test_a_stale_socket_is_replaced_a_live_one_is_not(short_path: Path) -> None:
    """What a killed process left behind must not stop the next one."""
    path = short_path / "run" / "a.sock"

    async def main() -> int | None:
        net = SystemNet()
        first = await net.listen_unix(str(path), 0o660)
        with pytest.raises(OSError) as refused:  # noqa: PT011 - the number is asserted
            await net.listen_unix(str(path), 0o660)
        first.socket.close()
        second = await net.listen_unix(str(path), 0o600)
        second.socket.close()
        return refused.value.errno

    assert trio.run(main) == errno.EADDRINUSE
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_a_file_in_the_place_of_a_socket_is_left_alone(short_path: Path) -> None:
    """Somebody's data may be in it."""
    path = short_path / "precious"
    path.write_text("data")
    with pytest.raises(FileExistsError):
        trio.run(SystemNet().listen_unix, str(path), 0o660)
    assert path.read_text() == "data"


def test_connections_are_without_delay_and_refusals_are_oserrors() -> None:
    """Net: OSError when the peer refuses."""

    async def main() -> int:
        net = SystemNet()
        (listener,) = await net.listen("127.0.0.1", 0)
        port = listener.socket.getsockname()[1]
        assert await net.resolve("127.0.0.1", port) == [("127.0.0.1", port)]
        stream = await net.connect("127.0.0.1", port)
        no_delay: int = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await stream.aclose()
        await listener.aclose()
        with pytest.raises(OSError, match="refused"):
            await net.connect("127.0.0.1", port)
        return no_delay

    assert trio.run(main) != 0


def test_the_length_of_a_missing_file_is_0(tmp_path: Path) -> None:
    """Fs.file_bytes."""
    file = tmp_path / "file"
    assert SystemFs().file_bytes(str(file)) == 0
    file.write_bytes(b"abc")
    assert SystemFs().file_bytes(str(file)) == 3
    assert SystemFs().free_bytes(str(tmp_path)) > 0
