"""What one process has open or mapped of the nodes that are looked for.

Rules: links are read first, and only what may be a node is asked for its device number (mounts). Of a memory map the
kernel shows the path, and its number where we may ask (map_files, CAP_CHECKPOINT_RESTORE). A VFIO device that was
opened through its group has a file without a name: fdinfo tells whose it is, since Linux 6.18.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from hostlerd.host import DeviceNumber, Files
from hostlerd.observe.mounts import Namespaces, may_ask
from hostlerd.observe.nodes import ADDRESS
from hostlerd.observe.reading import names, text
from hostlerd.observe.wanted import Wanted

VFIO_DEVICE = "anon_inode:[vfio-device]"
"""The file of a device that was opened through its group (drivers/vfio/group.c, vfio_device_open_file)."""
SYSPATH = "vfio-device-syspath:"
"""In its fdinfo (Documentation/filesystems/proc.rst, "VFIO Device files")."""

_DELETED = " (deleted)"
_HARMLESS = frozenset(
    f"/dev/{name}" for name in "null zero full random urandom tty ptmx console kmsg".split()
)
_NEVER_NODES = tuple(f"/dev/{name}/" for name in ("pts", "shm", "hugepages", "mqueue"))
_PROGRAMS = ("/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/memfd:", "/SYSV", "/dmabuf:", "/anon_hugepage")
"""What is mapped and is no device node: most of all maps."""
_MAPPED = ("/dev/", "-s ", "xs ", "[vfio-device]")
"""Words one of which is in every line of maps that may be of a node: its path, or that the map is shared."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a process holds a function. `at`: the link in /proc that shows it, with its target; None for a map."""

    address: str
    node: str
    how: Literal["fd", "map"]
    at: tuple[str, str] | None = None


class Opened:
    """Looks at process after process, and keeps what it learns of their mounts."""

    def __init__(self, files: Files, wanted: Wanted) -> None:
        self._files, self._wanted, self._namespaces = files, wanted, Namespaces(files)
        self._explained = set[str]()
        """Processes whose open files tell what they have on VFIO, be it asked for or not."""

    def in_files(self, pid: str) -> list[Way]:
        """By open files. Never blocks on a process."""
        links = self._links(f"/proc/{pid}/fd")
        if links:
            return list(self._of_links(pid, f"/proc/{pid}/fd", links))
        # The first thread may have ended before the others, and has no files then.
        tasks = names(self._files, f"/proc/{pid}/task")
        folders = [f"/proc/{pid}/task/{task}/fd" for task in tasks] if len(tasks) > 1 else []
        return [way for folder in folders for way in self._of_links(pid, folder, self._links(folder))]

    def in_maps(self, pid: str) -> Iterator[Way]:
        """By memory maps, after its files. May block on a process that hangs in a page fault."""
        seen = set[tuple[str, ...]]()
        points: Mapping[str, bool] | None = None
        for span, mode, device, inode, mapped in self._maps(pid):
            path = mapped.removesuffix(_DELETED)
            if (path, device, inode) in seen:
                continue
            seen.add((path, device, inode))
            if path == VFIO_DEVICE and pid not in self._explained:
                yield from (Way(address, path, "map") for address in sorted(self._wanted.vfio))
            if not path.startswith("/dev/") and (mode[3:] != "s" or path.startswith(_PROGRAMS)):
                continue
            if path[:1] != "/" or path in _HARMLESS or path.startswith(_NEVER_NODES):
                continue
            if points is None:
                points = self._namespaces.of(pid)
            number = self._number(points, path, f"/proc/{pid}/map_files/{_span(span)}")
            yield from self._matching(path, number, "map", None)

    def completed(self, ways: Iterable[Way]) -> list[Way]:
        """Each function and node once; nodes alongside for the functions that the process holds anyway."""
        ways = tuple(ways)
        held = {way.address for way in ways if way.address}
        found: dict[tuple[str, str], Way] = {}
        for way in ways:
            for address in (way.address,) if way.address else self._wanted.alongside(way.node) & held:
                found.setdefault((address, way.node), replace(way, address=address))
        return list(found.values())

    def _links(self, folder: str) -> Mapping[str, str]:
        try:
            return self._files.links(folder)
        except OSError:
            return {}

    def _of_links(self, pid: str, folder: str, links: Mapping[str, str]) -> Iterator[Way]:
        points: Mapping[str, bool] | None = None
        through_node = False
        unknown: tuple[str, str] | None = None
        for fd, target in links.items():
            at = (f"{folder}/{fd}", target)
            if target[:1] != "/":
                if target == VFIO_DEVICE and self._wanted.vfio:
                    self._explained.add(pid)
                    address = self._of_vfio(f"{folder}info/{fd}")
                    if address is None:
                        unknown = at
                    elif address in self._wanted.vfio:
                        yield Way(address, VFIO_DEVICE, "fd", at)
                continue
            if target in _HARMLESS or target.startswith(_NEVER_NODES):
                continue
            if points is None:
                points = self._namespaces.of(pid)
            if _is_vfio(target):
                through_node = True
                self._explained.add(pid)
            number = self._number(points, target, at[0])
            yield from self._matching(target.removesuffix(_DELETED), number, "fd", at)
        if unknown is not None and not through_node:
            for address in sorted(
                self._wanted.vfio
            ):  # it has one of them, and until it has not it may be any
                yield Way(address, VFIO_DEVICE, "fd", unknown)

    def _of_vfio(self, fdinfo: str) -> str | None:
        """The function of an open VFIO device (a mediated one's is its parent), None where the kernel does not tell."""
        for line in (text(self._files, fdinfo) or "").splitlines():
            if line.startswith(SYSPATH):
                parts = line.removeprefix(SYSPATH).strip().split("/")
                return next((part for part in reversed(parts) if ADDRESS.fullmatch(part)), "")
        return None

    def _maps(self, pid: str) -> Iterator[tuple[str, str, str, str, str]]:
        """Span, mode, device, inode and path of maps with a path (proc(5))."""
        try:
            lines = self._files.lines_with(f"/proc/{pid}/maps", _MAPPED)
        except OSError:
            return
        for line in lines:
            fields = line.split(None, 5)
            if len(fields) == 6:
                yield fields[0], fields[1], fields[3], fields[4], fields[5]

    def _number(self, points: Mapping[str, bool], path: str, link: str) -> DeviceNumber | None:
        return self._files.device(link) if may_ask(points, path) else None

    def _matching(
        self, path: str, number: DeviceNumber | None, how: Literal["fd", "map"], at: tuple[str, str] | None
    ) -> Iterator[Way]:
        match = self._wanted.match(path, number)
        if match is not None:
            node, addresses = match
            for address in addresses or ("",):  # none yet: see `completed`
                yield Way(address, node, how, at)


def _is_vfio(path: str) -> bool:
    """The node of a group or of a device, which tells what a process has on VFIO."""
    return path.startswith("/dev/vfio/") and path != "/dev/vfio/vfio"


def _span(span: str) -> str:
    """As map_files names it: without the zeros in front that maps has (fs/proc/base.c, dname_to_vma_addr)."""
    return "-".join(part.lstrip("0") or "0" for part in span.split("-"))
