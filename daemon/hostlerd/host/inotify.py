"""Waiting until a path is there, by inotify(7): a socket that its daemon has yet to make; for folders that come and go
in others; and for files of the kernel's that tell of it.

Rules: for ordinary folders; what the kernel itself puts into its file systems (sysfs, /dev/vfio) sends no such events,
but a control group is made and removed by a process, and mkdir(2) and rmdir(2) tell everywhere (vfs_mkdir, vfs_rmdir).
Watch first, then look. Python has no inotify of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import trio

_CREATE, _MOVED_TO, _DELETE_SELF, _MOVE_SELF = 0x100, 0x80, 0x400, 0x800
_DELETE = 0x200
_MODIFY = 0x2
_ONLYDIR = 0x01000000
_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Appearances:
    """Has seen, since it was made, whatever led to one of its paths."""

    def __init__(self, fd: int, names: dict[int, set[bytes]]) -> None:
        self._fd, self._names = fd, names

    async def wait(self) -> None:
        """Until one of the paths, or the next folder on the way to it, was made or moved there."""
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            if any(self._concerns(*event) for event in _events(os.read(self._fd, 65536))):
                return

    def _concerns(self, watch: int, name: bytes) -> bool:
        return not name or name in self._names.get(watch, ())  # no name: the folder itself, or an overflow


class Folders:
    """Some folders, and what is made and removed in each."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._watched: dict[str, int] = {}

    def keep(self, folders: Iterable[str], files: Iterable[str] = ()) -> frozenset[str]:
        """Watch these from now on, and no others. Returns the new ones; one that is gone by now is left out.

        `files`: what is said to be modified, by the kernel also where it tells of it (cgroup_file_notify).

        Raises OSError when the kernel has no watch left.
        """
        before, self._watched = self._watched, {}
        for folder in folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._watched[folder] = _watch(self._fd, folder, _CREATE | _DELETE | _ONLYDIR)
        for file in files:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._watched[file] = _watch(self._fd, file, _MODIFY)
        for watch in set(before.values()).difference(self._watched.values()):
            _libc.inotify_rm_watch(self._fd, watch)  # gone by itself with its folder, mostly
        return frozenset(f for f, watch in self._watched.items() if before.get(f) != watch)

    async def wait(self) -> frozenset[str]:
        """Until something happened: the names of what was made or removed.

        Empty where the kernel lost count, and where a file was modified.
        """
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            events = list(_events(os.read(self._fd, 65536)))
            known = set(self._watched.values())
            if any(watch < 0 or (watch in known and not name) for watch, name in events):
                return frozenset()
            if any(watch in known for watch, _ in events):
                return frozenset(os.fsdecode(name) for watch, name in events if watch in known and name)


@contextmanager
def folders() -> Iterator[Folders]:
    """Raises OSError."""
    with _inotify() as fd:
        yield Folders(fd)


@contextmanager
def appearances(paths: Sequence[str]) -> Iterator[Appearances]:
    """Raises OSError when the kernel has no watch left."""
    with _inotify() as fd:
        names: dict[int, set[bytes]] = {}
        for path in paths:
            folder, name = _nearest(path)
            watch = _watch(fd, folder, _CREATE | _MOVED_TO | _DELETE_SELF | _MOVE_SELF | _ONLYDIR)
            names.setdefault(watch, set()).add(os.fsencode(name))
        yield Appearances(fd, names)


@contextmanager
def _inotify() -> Iterator[int]:
    fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        yield fd
    finally:
        os.close(fd)


def _watch(fd: int, folder: str, mask: int) -> int:
    watch: int = _libc.inotify_add_watch(fd, os.fsencode(folder), mask)
    if watch < 0:
        raise OSError(ctypes.get_errno(), "inotify_add_watch", folder)
    return watch


def _events(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        watch, _mask, _cookie, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size + length
        yield watch, data[at - length : at].rstrip(b"\0")


def _nearest(path: str) -> tuple[str, str]:
    """The nearest folder that is there, and the name in it that leads to the path."""
    folder, name = os.path.split(os.path.abspath(path))
    while not os.path.isdir(folder):
        folder, name = os.path.split(folder)
    return folder, name
