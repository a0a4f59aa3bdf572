# ruff: noqa: N802, ARG002 - the names and parameters are those of SQLite
"""A disk that loses power and fails, as a VFS of SQLite (reliability.md A.1).

Lives here: Disk (what is durable, what is only in the page cache), SimulatedVfs.
Does not: what is stored (tests); processes and networks (the rest of tests/sim).
There is no shared memory, so a database on it needs `single_connection=True`.
"""

import ctypes
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import apsw

SECTOR = 512


class PowerCutError(Exception):
    """The machine is off: nothing works any more."""


@dataclass
class _Inode:
    durable: bytearray = field(default_factory=bytearray)
    cached: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut at offset


def _apply(image: bytearray, offset: int, content: bytes | None, keeps: Callable[[], bool]) -> None:
    """One write, sector by sector; `keeps` says whether a sector reached the platter."""
    if content is None:
        if keeps():
            del image[offset:]
        return
    for start in range(0, len(content), SECTOR):
        if keeps():
            end = offset + min(start + SECTOR, len(content))
            if len(image) < end:
                image.extend(bytes(end - len(image)))
            image[offset + start : end] = content[start : start + SECTOR]


class Disk:
    """Files of one machine. `cut_at`: that call and all later ones fail with PowerCutError.

    `faults`: call number -> makes the exception that this call raises; a failed sync marks its
    pages clean, as Linux does (reliability.md 1.5).
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.files: dict[str, _Inode] = {}
        self.durable_files: dict[str, _Inode] = {}
        self.calls = 0
        self.cut_at: int | None = None
        self.faults: dict[int, Callable[[], Exception]] = {}

    def tick(self) -> None:
        """Count one call that reaches the disk."""
        self.calls += 1
        if self.cut_at is not None and self.calls >= self.cut_at:
            raise PowerCutError
        fault = self.faults.get(self.calls)
        if fault is not None:
            raise fault()

    def lose_power(self) -> None:
        """Keep what was synced and an arbitrary, torn part of the rest; then work again."""
        survivors: dict[str, _Inode] = {}
        for name in sorted({*self.files, *self.durable_files}):
            now, old = self.files.get(name), self.durable_files.get(name)
            inode = now if now is old or self.random.random() < 0.5 else old
            if inode is not None:
                image = self._surviving(inode)
                survivors[name] = _Inode(image, bytearray(image))
        self.files, self.durable_files = survivors, dict(survivors)
        self.cut_at = None

    def _surviving(self, inode: _Inode) -> bytearray:
        image = bytearray(inode.durable)
        mode = self.random.choice(("none", "all", "mix", "mix", "prefix"))
        pending = inode.pending
        if mode == "none":
            pending = []
        if mode == "prefix":
            pending = pending[: self.random.randrange(len(pending) + 1)]
        keeps = (lambda: self.random.random() < 0.5) if mode == "mix" else (lambda: True)
        for offset, content in pending:
            _apply(image, offset, content, keeps)
        return image


class _File:
    """An open file. Without a base class APSW offers no shared memory, and SQLite asks for none."""

    def __init__(self, disk: Disk, inode: _Inode, *, syncs_directory: bool) -> None:
        self._disk = disk
        self._inode = inode
        self._syncs_directory = syncs_directory
        self._keeps_log = False

    def xClose(self) -> None: ...

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self._inode.cached[offset : offset + amount])

    def xWrite(self, content: bytes, offset: int) -> None:
        self._disk.tick()
        written = bytes(content)
        _apply(self._inode.cached, offset, written, lambda: True)
        self._inode.pending.append((offset, written))

    def xTruncate(self, size: int) -> None:
        self._disk.tick()
        del self._inode.cached[size:]
        self._inode.pending.append((size, None))

    def xSync(self, flags: int) -> None:
        pending, self._inode.pending = self._inode.pending, []
        try:
            self._disk.tick()
        except PowerCutError:
            self._inode.pending = pending
            raise
        for offset, content in pending:
            _apply(self._inode.durable, offset, content, lambda: True)
        if self._syncs_directory:  # the real VFS does it at the first sync of a new log
            self._disk.durable_files = dict(self._disk.files)
            self._syncs_directory = False

    def xFileSize(self) -> int:
        return len(self._inode.cached)

    def xFileControl(self, op: int, pointer: int) -> bool:
        if op != apsw.SQLITE_FCNTL_PERSIST_WAL:
            return False
        flag = ctypes.c_int.from_address(pointer)
        if flag.value < 0:
            flag.value = self._keeps_log
        else:
            self._keeps_log = bool(flag.value)
        return True

    def xLock(self, level: int) -> None: ...

    def xUnlock(self, level: int) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE


class SimulatedVfs(apsw.VFS):
    """Registers `name` with SQLite; keep it for longer than the connections that use it."""

    def __init__(self, name: str, disk: Disk) -> None:
        self._disk = disk
        super().__init__(name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        filename = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        is_new = filename not in self._disk.files
        if is_new:
            self._disk.tick()
            self._disk.files[filename] = _Inode()
        flags[1] = flags[0]
        logs = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        creates = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & logs)
        inode = self._disk.files[filename]
        return _File(self._disk, inode, syncs_directory=creates)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._disk.tick()
        self._disk.files.pop(filename, None)
        if syncdir:
            self._disk.durable_files.pop(filename, None)

    def xAccess(self, pathname: str, flags: int) -> bool:
        return pathname in self._disk.files

    def xFullPathname(self, name: str) -> str:
        return name
