"""File systems as a process sees them: what is mounted where, and which files may be asked what they are.

stat() of an open file goes to its file system, and one of a network or of a program may never answer; readlink in /proc
does not. So a file is only asked where a device node can be at all: not on a mount with nodev, not on these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hostlerd.host import DeviceNumber, Files
from hostlerd.observe.reading import text

MAY_NOT_ANSWER = frozenset(
    "nfs nfs4 cifs smb3 smbfs ncpfs 9p virtiofs ceph afs coda lustre gpfs beegfs orangefs glusterfs ocfs2 gfs2 "
    "autofs".split()
)
_WITHOUT_NODES = frozenset({"proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "hugetlbfs", "nsfs"})
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """`number`: of what st_dev says there; `source`: what was mounted, "/dev/sda1"."""

    point: str
    kind: str
    options: frozenset[str]
    source: str
    number: DeviceNumber

    @property
    def askable(self) -> bool:
        if self.kind in MAY_NOT_ANSWER or self.kind in _WITHOUT_NODES or self.kind.startswith("fuse"):
            return False
        return "nodev" not in self.options


def mounts(files: Files, pid: str) -> Iterator[Mount]:
    """In the order of mounting; nothing where it cannot be read (proc(5), mountinfo)."""
    for line in (text(files, f"/proc/{pid}/mountinfo") or "").splitlines():
        before, dash, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        major, colon, minor = left[2].partition(":") if len(left) > 5 else ("", "", "")
        if dash and colon and len(right) > 1 and major.isdecimal() and minor.isdecimal():
            yield Mount(
                point=_plain(left[4]),
                kind=right[0],
                options=frozenset(left[5].split(",")),
                source=_plain(right[1]),
                number=("b", int(major), int(minor)),
            )


class Namespaces:
    """Which paths may be asked, by the mount namespace of the process that has them open."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: dict[str, Mapping[str, bool]] = {}

    def of(self, pid: str) -> Mapping[str, bool]:
        """Mount point to whether files there may be asked; of several on one point the last is seen."""
        try:
            name = self._files.readlink(f"/proc/{pid}/ns/mnt")
        except OSError:
            return {}
        if name not in self._known:
            self._known[name] = {mount.point: mount.askable for mount in mounts(self._files, pid)}
        return self._known[name]


def may_ask(points: Mapping[str, bool], path: str) -> bool:
    """Where nothing is known of the mounts it may."""
    while path:
        path = path.rpartition("/")[0]
        found = points.get(path or "/")
        if found is not None:
            return found
    return True


def _plain(word: str) -> str:
    return _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 8)), word) if "\\" in word else word
