"""Waiting until a path is there, by inotify(7): a socket that its daemon has yet to make.

Rules: for ordinary folders; the kernel's own files (sysfs, /dev/vfio) send no such events. Watch first, then
look. Python has no inotify of its own.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

_CREATE, _MOVED_TO, _DELETE_SELF, _MOVE_SELF = 0x100, 0x80, 0x400, 0x800
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
            if any(self._concerns(*event) for event in self._events(os.read(self._fd, 65536))):
                return

    def _events(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at < len(data):
            watch, _mask, _cookie, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size + length
            yield watch, data[at - length : at].rstrip(b"\0")

    def _concerns(self, watch: int, name: bytes) -> bool:
        return not name or name in self._names.get(watch, ())  # no name: the folder itself, or an overflow


@contextmanager
def appearances(paths: Sequence[str]) -> Iterator[Appearances]:
    """Raises OSError when the kernel has no watch left."""
    fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        names: dict[int, set[bytes]] = {}
        for path in paths:
            folder, name = _nearest(path)
            mask = _CREATE | _MOVED_TO | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
            watch: int = _libc.inotify_add_watch(fd, os.fsencode(folder), mask)
            if watch < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", folder)
            names.setdefault(watch, set()).add(os.fsencode(name))
        yield Appearances(fd, names)
    finally:
        os.close(fd)


def _nearest(path: str) -> tuple[str, str]:
    """The nearest folder that is there, and the name in it that leads to the path."""
    folder, name = os.path.split(os.path.abspath(path))
    while not os.path.isdir(folder):
        folder, name = os.path.split(folder)
    return folder, name
