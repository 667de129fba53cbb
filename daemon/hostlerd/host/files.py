"""Reading under a root: the live host ("/"), a folder, or a tar file, all as `hostlerd.host.Files`.

Rules. Nothing outside the root is ever read: an absolute link of a recorded host means a place in the
recording, and ".." stops at its top. The live root takes no detour (8 us a file: os.open, one os.read), since
there the kernel resolves links as it should. A tar file is held in memory and never unpacked; what is hostile
in it (names that climb, devices, endless links, bombs) is left out or refused.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

from hostler.errors import BadInput
from hostlerd.host import DeviceNumber, Files
from hostlerd.host.lines import lines_with_words

MAX_TEXT = 1 << 20
"""Bytes of one file that `read` returns."""
MAX_TAR = 1 << 29
"""Bytes of a tar file, uncompressed. A host with 2,000 CPUs has about 100 MiB."""
MAX_MEMBERS = 1_000_000
MAX_LINKS = 40
"""As the kernel's MAXSYMLINKS."""

_CHUNK = 1 << 14
_BIG_CHUNK = 1 << 17
_PAGE = 1 << 12
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_files(path: str) -> Files:
    """The host recorded at `path`, a folder or a tar file. Raises BadInput if it is neither."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            files: Files = RootFiles(path)
        elif stat.S_ISREG(mode):
            files = TarFiles(path)
        else:
            raise BadInput(f"{path} is neither a folder nor a tar file", remedy="name a recorded host")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}", remedy="name a recorded host") from None
    if not (files.exists("/sys") or files.exists("/proc")):
        raise BadInput(
            f"{path} has neither sys nor proc in it",
            remedy="a recorded host is a folder with these, or a tar file of one such folder",
        )
    return files


def _os_error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class RootFiles:
    """A tree of the file system as a host. With root "/" it is this one."""

    def __init__(self, root: str = "/") -> None:
        self._live = os.path.realpath(root) == "/"
        self._root = os.path.realpath(root)
        self._folders: dict[str, str] = {}

    def read(self, path: str) -> str:
        fd = os.open(path if self._live else self._resolve(path), _OPEN)
        try:
            if not self._live and not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _os_error(errno.EINVAL, path)
            chunk = os.read(fd, _CHUNK)
            # One read has all of a sysfs attribute, which is at most a page; procfs may stop anywhere.
            if len(chunk) < _PAGE and path.startswith("/sys/"):
                return chunk.decode(errors="replace")
            chunks, size = [chunk], len(chunk)
            while chunk and size < MAX_TEXT:
                chunk = os.read(fd, min(_CHUNK, MAX_TEXT - size))
                chunks.append(chunk)
                size += len(chunk)
            return b"".join(chunks).decode(errors="replace")
        finally:
            os.close(fd)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path if self._live else self._resolve(path))

    def readlink(self, path: str) -> str:
        return os.readlink(path if self._live else self._resolve(path, follow=False))

    def exists(self, path: str) -> bool:
        try:
            os.stat(path if self._live else self._resolve(path))
        except OSError:
            return False
        return True

    def folders(self, path: str) -> list[str]:
        with os.scandir(path if self._live else self._resolve(path)) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]

    def links(self, path: str) -> Mapping[str, str]:
        """By a descriptor of the folder: in /proc every lookup from the top costs more than the link's own."""
        folder = os.open(
            path if self._live else self._resolve(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
        found: dict[str, str] = {}
        try:
            for name in os.listdir(folder):
                try:
                    found[name] = os.readlink(name, dir_fd=folder)
                except OSError:  # no link, or closed meanwhile
                    continue
        finally:
            os.close(folder)
        return found

    def device(self, path: str) -> DeviceNumber | None:
        if not self._live:
            return None
        try:
            found = os.stat(path)
        except OSError:
            return None
        if stat.S_ISCHR(found.st_mode):
            return "c", os.major(found.st_rdev), os.minor(found.st_rdev)
        if stat.S_ISBLK(found.st_mode):
            return "b", os.major(found.st_rdev), os.minor(found.st_rdev)
        return None

    def executable(self, path: str) -> bool | None:
        if not self._live:
            return None
        try:
            return bool(os.stat(path).st_mode & 0o111)
        except OSError:
            return None

    def lines_with(self, path: str, words: Sequence[str]) -> list[str]:
        fd = os.open(path if self._live else self._resolve(path), _OPEN)
        try:
            return lines_with_words(iter(lambda: os.read(fd, _BIG_CHUNK), b""), words)
        finally:
            os.close(fd)

    def _resolve(self, path: str, *, follow: bool = True) -> str:
        """Where `path` is in the file system, links resolved inside the root.

        Raises OSError (ELOOP) for links without end; a part that does not exist is left to the caller's call. Folders
        are remembered: a recording does not change.
        """
        folder, _, name = path.strip("/").rpartition("/")
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = self._walk(self._root, folder.split("/"))
        return self._walk(real, [name]) if follow else f"{real}/{name}"

    def _walk(self, real: str, parts: list[str]) -> str:
        todo = parts[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                real = os.path.dirname(real) if real != self._root else real
                continue
            try:
                target = os.readlink(f"{real}/{part}")
            except OSError:  # no link, or not there
                real = f"{real}/{part}"
                continue
            links += 1
            if links > MAX_LINKS:
                raise _os_error(errno.ELOOP, f"{real}/{part}")
            if target.startswith("/"):
                real = self._root
            todo.extend(target.split("/")[::-1])
        return real


class _Info(tarfile.TarInfo):
    """Refuses names and comments too long to be true before they are read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]  # None is what tarfile itself passes on
        if info.type in _HEADERS and info.size > MAX_TEXT:
            raise BadInput("the tar file has a header of more than 1 MiB", remedy="record the host again")
        return info


_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Bounded(io.RawIOBase):
    """Lets MAX_TAR bytes through, no more."""

    def __init__(self, source: io.BufferedIOBase) -> None:
        super().__init__()
        self._source = source
        self._left = MAX_TAR

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(_CHUNK if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise BadInput(
                f"the tar file unpacks to more than {MAX_TAR >> 20} MiB", remedy="record only /sys and /proc"
            )
        return data


_Tree = dict[str, "_Tree | bytes | str"]
"""A folder: name to folder, to the bytes of a file, or to the target of a link."""

_MAGIC = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open), (b"]\0\0", lzma.open))


class TarFiles:
    """A host in a tar file, with or without compression. Raises BadInput if it is none."""

    def __init__(self, path: str) -> None:
        try:
            self._top = _load(path)
        except BadInput as error:
            raise BadInput(f"{path}: {error.message}", remedy=error.remedy) from None
        except (
            tarfile.TarError,
            EOFError,
            zlib.error,
            lzma.LZMAError,
            ValueError,
            OverflowError,
            OSError,
        ) as error:
            raise BadInput(
                f"{path} is no tar file that can be read: {error}", remedy="name a recorded host"
            ) from None
        if "sys" not in self._top and "proc" not in self._top:
            below = [entry for entry in self._top.values() if isinstance(entry, dict)]
            folders = [entry for entry in below if "sys" in entry or "proc" in entry]
            if len(folders) == 1:
                self._top = folders[0]

    def read(self, path: str) -> str:
        entry = self._find(path)
        if not isinstance(entry, bytes):
            raise _os_error(errno.EISDIR, path)
        return entry.decode(errors="replace")

    def listdir(self, path: str) -> list[str]:
        return list(self._folder(path))

    def readlink(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        parent = self._find(folder)
        entry = parent.get(name) if isinstance(parent, dict) else None
        if entry is None:
            raise _os_error(errno.ENOENT, path)
        if not isinstance(entry, str):
            raise _os_error(errno.EINVAL, path)
        return entry

    def exists(self, path: str) -> bool:
        try:
            self._find(path)
        except OSError:
            return False
        return True

    def folders(self, path: str) -> list[str]:
        return [name for name, entry in self._folder(path).items() if isinstance(entry, dict)]

    def links(self, path: str) -> Mapping[str, str]:
        return {name: entry for name, entry in self._folder(path).items() if isinstance(entry, str)}

    def device(self, path: str) -> DeviceNumber | None:  # noqa: ARG002 - a tar file's nodes are left out
        return None

    def executable(self, path: str) -> bool | None:  # noqa: ARG002 - modes are not kept
        return None

    def lines_with(self, path: str, words: Sequence[str]) -> list[str]:
        return [line for line in self.read(path).splitlines() if any(word in line for word in words)]

    def _folder(self, path: str) -> _Tree:
        entry = self._find(path)
        if not isinstance(entry, dict):
            raise _os_error(errno.ENOTDIR, path)
        return entry

    def _find(self, path: str) -> _Tree | bytes:
        todo = path.split("/")[::-1]
        way: list[_Tree] = [self._top]
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if len(way) > 1:
                    way.pop()
                continue
            entry = way[-1].get(part)
            if entry is None:
                raise _os_error(errno.ENOENT, path)
            if isinstance(entry, str):
                links += 1
                if links > MAX_LINKS:
                    raise _os_error(errno.ELOOP, path)
                if entry.startswith("/"):
                    del way[1:]
                todo.extend(entry.split("/")[::-1])
            elif isinstance(entry, dict):
                way.append(entry)
            elif any(rest not in ("", ".") for rest in todo):
                raise _os_error(errno.ENOTDIR, path)
            else:
                return entry
        return way[-1]


def _load(path: str) -> _Tree:
    top: _Tree = {}
    hard: list[tuple[str, str]] = []
    with open(path, "rb") as raw:
        magic = raw.read(8)
        raw.seek(0)
        opener: Any = next((opener for start, opener in _MAGIC if magic.startswith(start)), None)
        source = cast("io.BufferedIOBase", opener(raw) if opener else raw)
        with tarfile.open(fileobj=_Bounded(source), mode="r|", tarinfo=_Info) as tar:
            listing: Any = tar
            for count, member in enumerate(tar):
                if count >= MAX_MEMBERS:
                    raise BadInput(
                        f"it has more than {MAX_MEMBERS} members", remedy="record only /sys and /proc"
                    )
                if member.isdir():
                    _put(top, member.name, {})
                elif member.issym():
                    _put(top, member.name, member.linkname)
                elif member.islnk():
                    hard.append((member.name, member.linkname))
                elif member.isreg():
                    stream = tar.extractfile(member)
                    _put(top, member.name, stream.read(MAX_TEXT) if stream else b"")
                listing.members = []  # tarfile's own list is of no use here and grows by 1 KiB a member
    for name, target in hard:
        entry = _get(top, target)
        if isinstance(entry, bytes):
            _put(top, name, entry)
    return top


def _parts(name: str) -> list[str] | None:
    """The folders of a member's name; None for one that climbs."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if ".." in parts or not parts else parts


def _put(top: _Tree, name: str, entry: _Tree | bytes | str) -> None:
    parts = _parts(name)
    if parts is None:
        return
    folder = top
    for part in parts[:-1]:
        below = folder.setdefault(part, {})
        if not isinstance(below, dict):
            return  # through a link or below a file: no true recording has that
        folder = below
    if isinstance(entry, dict):
        folder.setdefault(parts[-1], entry)
    else:
        folder[parts[-1]] = entry


def _get(top: _Tree, name: str) -> _Tree | bytes | str | None:
    entry: _Tree | bytes | str | None = top
    for part in _parts(name) or ():
        entry = entry.get(part) if isinstance(entry, dict) else None
    return entry
