"""Which processes have a device open, and what the kernel itself has it open for.

Rules. One pass over /proc: open files first, which never blocks; then memory maps, because a mapping outlives its file,
and reading those of a process that hangs in a page fault hangs, too (mmap_lock): `progress` hears whose they are, and
`look_for_holders` goes on without that one. A file is known by its device number, else by its path. What may not be read
is skipped, so without root a user sees their own. A process is told by pid and start time, read while it had the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from hostler.errors import TimedOut
from hostlerd.host import DeviceNumber, Engines, Files, Host
from hostlerd.model.devices import Function
from hostlerd.model.holders import KERNEL, Holder
from hostlerd.observe import nodes
from hostlerd.observe.blocks import kernel_uses
from hostlerd.observe.mounts import Namespaces, may_ask
from hostlerd.observe.nodes import Node
from hostlerd.observe.places import place
from hostlerd.observe.reading import names, text, to_number

VFIO_DEVICE = "anon_inode:[vfio-device]"
"""The file of a device that was opened through its group (vfio_device_open_file)."""
SYSPATH = "vfio-device-syspath:"
"""In its fdinfo since Linux 6.18 (Documentation/filesystems/proc.rst, "VFIO Device files")."""
HANGING = 3
"""Processes whose maps are given up before the whole look is."""

_DELETED = " (deleted)"
_HARMLESS = frozenset(
    f"/dev/{name}" for name in "null zero full random urandom tty ptmx console kmsg".split()
)
_NEVER_NODES = ("/dev/pts/", "/dev/shm/", "/dev/hugepages/", "/dev/mqueue/")
_PROGRAMS = ("/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/memfd:", "/SYSV", "/dmabuf:", "/anon_hugepage")
"""What is mapped and is no device node: most of all maps."""
_MAPPED = ("/dev/", "-s ", "xs ", "[vfio-device]")

How = Literal["fd", "map", "kernel"]


@dataclass(frozen=True, slots=True)
class _Open:
    """One way in which a process holds a function. `at`: the link in /proc that shows it, with its target."""

    address: str
    node: str
    how: How
    at: tuple[str, str] | None = None


def holders(
    files: Files,
    functions: Iterable[Function],
    *,
    unmapped: frozenset[str] = frozenset(),
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Holder, ...]:
    """Who has a node of one of these functions open or mapped, by address, pid and node; pid 0 is the kernel.

    `unmapped`: processes whose maps are not read.
    """
    wanted = _Wanted(files, functions)
    if not wanted:
        return ()
    namespaces, users = Namespaces(files), _Users(files)
    found = list(_kernel(files, wanted))
    opened = dict[str, list[_Open]]()
    pids = [name for name in names(files, "/proc") if name.isdecimal()]
    for pid in pids:
        ways = list(_open_files(files, pid, wanted, namespaces))
        if ways:
            opened[pid] = ways
    for pid in pids:
        if pid not in unmapped:
            progress(pid)
            ways = list(_mapped(files, pid, wanted, namespaces, opened.get(pid, ())))
            if ways:
                opened.setdefault(pid, []).extend(ways)
    progress("")
    for pid, ways in opened.items():
        found.extend(_holders(files, pid, wanted.completed(ways), users))
    return tuple(sorted(found, key=lambda holder: (holder.address, holder.pid, holder.node)))


async def look_for_holders(host: Host, functions: Iterable[Function], *, limit: float) -> tuple[Holder, ...]:
    """As `holders`, and does not hang with a process that hangs. `limit`: seconds of one try. Raises TimedOut."""
    functions, unmapped = tuple(functions), frozenset[str]()
    while True:
        at = [""]
        try:
            return await host.look(
                lambda: holders(
                    host.files, functions, unmapped=unmapped, progress=lambda pid: at.append(pid)
                ),  # noqa: B023
                limit=limit,
            )
        except TimedOut:
            if not at[-1] or len(unmapped) == HANGING:
                raise
            unmapped |= {at[-1]}


async def with_names(engines: Engines, found: Iterable[Holder]) -> tuple[Holder, ...]:
    """The same with what the engines call the containers. It takes as long as they may take to answer."""
    found = tuple(found)
    containers = {holder.in_container: None for holder in found if holder.in_container is not None}
    if not containers:
        return found
    known = await engines.names(tuple(one for one in containers if one is not None))
    return tuple(
        replace(holder, container_name=known[holder.in_container]) if holder.in_container in known else holder
        for holder in found
    )


class _Wanted:
    """What is looked for, by number and by path."""

    def __init__(self, files: Files, functions: Iterable[Function]) -> None:
        self.numbers: dict[DeviceNumber, tuple[str, set[str]]] = {}
        self.paths: dict[str, set[str]] = {}
        self.vfio: set[str] = set()
        self._alongside: dict[str, set[str]] = {}
        self._nvidia: set[str] = set()
        every: dict[str, set[str]] = {"vfio": self.vfio, "amdgpu": set(), "nvidia": self._nvidia}
        for function in functions:
            if function.on_vfio:
                self.vfio.add(function.address)
            if function.driver in ("amdgpu", "nvidia"):
                every[function.driver].add(function.address)
            for node in nodes.nodes(files, function):
                self._add(node, function.address)
                if node.path.startswith("/dev/vfio/"):  # a mediated device's is its parent's
                    self.vfio.add(function.address)
        self._majors = nodes.nvidia_majors(files) if self._nvidia else {}
        for node in nodes.nvidia_nodes(files) if self._nvidia else ():
            for address in self._nvidia:
                self._add(node, address)
        for node, whose in nodes.alongside(files).items() if self else ():
            if every[whose]:
                self._alongside[node.path] = every[whose]
                if node.number is not None:
                    self.numbers.setdefault(node.number, (node.path, set()))

    def __bool__(self) -> bool:
        return bool(self.paths)

    def _add(self, node: Node, address: str) -> None:
        self.paths.setdefault(node.path, set()).add(address)
        if node.number is not None:
            self.numbers.setdefault(node.number, (node.path, set()))[1].add(address)

    def match(self, path: str, number: DeviceNumber | None) -> tuple[str, Iterable[str]] | None:
        """The node's name here, and the functions it is one of; none for a node that is only alongside."""
        if number is not None:
            found = self.numbers.get(number)
            if found is None and number[0] == "c" and number[2] >= self._majors.get(number[1], 1 << 20):
                return path, self._nvidia
            return found
        if path in self._alongside:
            return path, ()
        if path.startswith("/dev/bus/usb/") and path not in self.paths:
            return path, self.paths.get(path[: path.rindex("/") + 1], ())
        return (path, self.paths[path]) if path in self.paths else None

    def completed(self, ways: list[_Open]) -> list[_Open]:
        """Each function and node once; nodes alongside for the functions that the process holds anyway."""
        held = {way.address for way in ways if way.address}
        found: dict[tuple[str, str], _Open] = {}
        for way in ways:
            shared = self._alongside.get(way.node, set()) & held
            for address in (way.address,) if way.address else shared:
                found.setdefault((address, way.node), replace(way, address=address))
        return list(found.values())


def _open_files(files: Files, pid: str, wanted: _Wanted, namespaces: Namespaces) -> Iterator[_Open]:
    folder = f"/proc/{pid}/fd"
    links = _links(files, folder)
    if links:
        yield from _of_links(files, pid, folder, links, wanted, namespaces)
        return
    # The first thread may have ended before the others, and has no files then.
    tasks = names(files, f"/proc/{pid}/task")
    for task in tasks if len(tasks) > 1 else ():
        folder = f"/proc/{pid}/task/{task}/fd"
        yield from _of_links(files, pid, folder, _links(files, folder), wanted, namespaces)


def _links(files: Files, folder: str) -> Mapping[str, str]:
    try:
        return files.links(folder)
    except OSError:
        return {}


def _of_links(
    files: Files, pid: str, folder: str, links: Mapping[str, str], wanted: _Wanted, namespaces: Namespaces
) -> Iterator[_Open]:
    points: Mapping[str, bool] | None = None
    through_node = False
    unknown: tuple[str, str] | None = None
    for fd, target in links.items():
        at = (f"{folder}/{fd}", target)
        if target[:1] != "/":
            if target == VFIO_DEVICE and wanted.vfio:
                address = _of_vfio(files, f"{folder}info/{fd}")
                if address is None:
                    unknown = at
                elif address in wanted.vfio:
                    yield _Open(address, VFIO_DEVICE, "fd", at)
            continue
        if target in _HARMLESS or target.startswith(_NEVER_NODES):
            continue
        if points is None:
            points = namespaces.of(pid)
        through_node = through_node or _is_vfio(target)
        number = files.device(at[0]) if may_ask(points, target) else None
        match = wanted.match(target.removesuffix(_DELETED), number)
        if match is not None:
            for address in match[1] or ("",):
                yield _Open(address, match[0], "fd", at)
    if unknown is not None and not through_node:
        for address in sorted(wanted.vfio):  # it has one of them, and until it has not it may be any
            yield _Open(address, VFIO_DEVICE, "fd", unknown)


def _is_vfio(path: str) -> bool:
    """The node of a group or of a device, which tells what a process has on VFIO."""
    return path.startswith("/dev/vfio/") and path != "/dev/vfio/vfio"


def _of_vfio(files: Files, fdinfo: str) -> str | None:
    """The function of an open VFIO device (a mediated one's is its parent), None where the kernel does not tell."""
    for line in (text(files, fdinfo) or "").splitlines():
        if line.startswith(SYSPATH):
            parts = line.removeprefix(SYSPATH).strip().split("/")
            return next((part for part in reversed(parts) if nodes.ADDRESS.fullmatch(part)), "")
    return None


def _mapped(
    files: Files, pid: str, wanted: _Wanted, namespaces: Namespaces, opened: Iterable[_Open]
) -> Iterator[_Open]:
    try:
        lines = files.lines_with(f"/proc/{pid}/maps", _MAPPED)
    except OSError:
        return
    points: Mapping[str, bool] | None = None
    seen = set[tuple[str, ...]]()
    for line in lines:
        fields = line.split(None, 5)
        if len(fields) < 6:
            continue
        span, mode, _, device, inode, path = fields
        path = path.removesuffix(_DELETED)
        if path == VFIO_DEVICE and (path, "", "") not in seen:
            seen.add((path, "", ""))
            if not any(_is_vfio(way.node) or way.node == VFIO_DEVICE for way in opened):
                yield from (_Open(address, path, "map") for address in sorted(wanted.vfio))
        is_dev = path.startswith("/dev/")
        if path[:1] != "/" or (not is_dev and (mode[3:] != "s" or path.startswith(_PROGRAMS))):
            continue
        if (path, device, inode) in seen or path in _HARMLESS or path.startswith(_NEVER_NODES):
            continue
        seen.add((path, device, inode))
        if points is None:
            points = namespaces.of(pid)
        number = files.device(f"/proc/{pid}/map_files/{_span(span)}") if may_ask(points, path) else None
        match = wanted.match(path, number)
        if match is not None:
            for address in match[1] or ("",):
                yield _Open(address, match[0], "map")


def _span(text_: str) -> str:
    """As map_files names it: without the zeros in front that maps has (dname_to_vma_addr)."""
    return "-".join(part.lstrip("0") or "0" for part in text_.split("-"))


def _kernel(files: Files, wanted: _Wanted) -> Iterator[Holder]:
    found: dict[tuple[str, str], list[str]] = {}
    for number, source, use in kernel_uses(files):
        known = wanted.numbers.get(number) if number is not None else None
        path, addresses = known or (source, wanted.paths.get(source, ()))
        for address in addresses:
            found.setdefault((address, path), []).append(use)
    for (address, path), uses in found.items():
        more = f" and in {len(uses) - 1} more" if len(uses) > 1 else ""
        yield Holder(
            address=address,
            pid=KERNEL,
            command=f"kernel: {uses[0]}{more}",
            user="root",
            unit=None,
            container=None,
            node=path,
            how="kernel",
        )


@dataclass(slots=True)
class _Users:
    """uid to name; users of a directory service are shown by number."""

    files: Files
    _names: dict[str, str] | None = field(default=None)

    def name(self, uid: str) -> str:
        if self._names is None:
            lines = (text(self.files, "/etc/passwd") or "").splitlines()
            self._names = {parts[2]: parts[0] for line in lines if len(parts := line.split(":")) > 2}
        return self._names.get(uid, uid)


def _holders(files: Files, pid: str, ways: Iterable[_Open], users: _Users) -> Iterator[Holder]:
    status = text(files, f"/proc/{pid}/status")
    if status is None:
        return  # it has ended
    uid = next((line.split()[1] for line in status.splitlines() if line.startswith("Uid:\t")), "")
    where = place(text(files, f"/proc/{pid}/cgroup") or "")
    # The name may have spaces and brackets in it (proc(5)); the start is field 22.
    stat = (text(files, f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    command = text(files, f"/proc/{pid}/comm") or pid
    for way in ways:
        if way.at is not None and not _still(files, *way.at):
            continue  # closed meanwhile, or the pid is another process's by now
        yield Holder(
            address=way.address,
            pid=int(pid),
            command=command,
            user=users.name(uid),
            unit=where.unit,
            container=where.container,
            node=way.node,
            session=where.session,
            manager=where.manager,
            engine=where.engine,
            start=to_number(stat[19]) if len(stat) > 19 else None,
            how=way.how,
        )


def _still(files: Files, link: str, target: str) -> bool:
    try:
        return files.readlink(link) == target
    except OSError:
        return False
