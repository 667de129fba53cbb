"""Which processes have a device open.

Rules: one pass over /proc, by the links in fd alone (a mapping without an open file is not seen); what may not
be read is skipped, so without root a user sees their own. Device nodes come from the names of folders in sysfs,
whose attributes are not read, so that a stuck device cannot hang this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from hostlerd.host import Files
from hostlerd.model.devices import Function, Holder
from hostlerd.observe.pci import DEVICES
from hostlerd.observe.reading import names, text

NODES: Mapping[str, str] = {
    "drm": "/dev/dri/",
    "sound": "/dev/snd/",
    "graphics": "/dev/",
    "i2c-dev": "/dev/",
    "nvme": "/dev/",
    "block": "/dev/",
    "hidraw": "/dev/",
    "video4linux": "/dev/",
    "vfio-dev": "/dev/vfio/devices/",
    "accel": "/dev/accel/",
}
"""Class folder below a device to where the nodes of what is in it are."""

_DEEPER = re.compile(
    r"(?!resource\d|virtfn\d|consumer:|supplier:|[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$).*[\d:].*"
)
"""Names of folders that hold more devices; most attributes have neither a digit nor a colon."""
_PLAIN = frozenset({"input", "host", "hidraw", "usbmisc", *NODES})
_DEPTH, _MOST = 12, 4000
_USB = re.compile(r"usb(\d+)")
_SOUND = re.compile(r"(?:controlC|pcmC|hwC|midiC)\d.*")
_INPUT = re.compile(r"input\d*")
_EVENT = re.compile(r"(?:event|js|mouse)\d+")
_MINOR = re.compile(r"Device Minor:\s*(\d+)")
_CONTAINER = re.compile(r"(?:docker|libpod|crio|cri-containerd|buildkit)-([0-9a-f]{12,64})\.scope")
_BARE_CONTAINER = re.compile(r"/(?:docker|lxc|kubepods[^/]*)/(?:[^/]+/)*?([0-9a-f]{64})(?:/|$)")
_NAMED_CONTAINER = re.compile(
    r"/(?:lxc\.payload\.([^/]+)|systemd-nspawn@([^/]+)\.service|lxc/([^/]+))(?:/|$)"
)


def holders(files: Files, functions: Iterable[Function]) -> tuple[Holder, ...]:
    """Processes with a node of one of these functions open, by address, then pid."""
    nodes = _Nodes()
    for function in functions:
        if function.readable:
            for path in _device_nodes(files, function):
                nodes.add(path, function.address)
    if not nodes:
        return ()
    users = _users(files)
    found: list[Holder] = []
    for name in names(files, "/proc"):
        if not name.isdecimal():
            continue
        opened = {(a, node): None for node in _open_files(files, name) for a in nodes.addresses(node)}
        if opened:
            found.extend(_holders(files, name, opened, users))
    return tuple(sorted(found, key=lambda holder: (holder.address, holder.pid, holder.node)))


class _Nodes:
    """Device nodes, and folders of them, to addresses."""

    def __init__(self) -> None:
        self._paths: dict[str, set[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._paths)

    def add(self, path: str, address: str) -> None:
        self._paths.setdefault(path, set()).add(address)

    def addresses(self, node: str) -> Iterable[str]:
        found = self._paths.get(node)
        if found is None and node.startswith("/dev/bus/usb/"):
            found = self._paths.get(node[: node.rindex("/") + 1])
        return found or ()


def _device_nodes(files: Files, function: Function) -> Iterator[str]:
    """Nodes in /dev through which a process can hold the function; a folder of them ends in a slash."""
    if function.on_vfio and function.group is not None:
        yield f"/dev/vfio/{function.group}"
    if function.driver == "nvidia":
        information = text(files, f"/proc/driver/nvidia/gpus/{function.address}/information") or ""
        yield from (f"/dev/nvidia{minor}" for minor in _MINOR.findall(information))
    todo = [(f"{DEVICES}/{function.address}", "", 0)]
    looked = 0
    while todo and looked < _MOST:
        folder, inside, depth = todo.pop()
        looked += 1
        for name in names(files, folder):
            node, below = _node(name, inside)
            if node:
                yield node
            if depth < _DEPTH and (node or name in _PLAIN or _DEEPER.fullmatch(name)):
                todo.append((f"{folder}/{name}", below, depth + 1))


def _node(name: str, inside: str) -> tuple[str, str]:
    """The node of a folder called `name`, if it is one, and what is below it: a class, or "/dev/sda" and more."""
    usb = _USB.fullmatch(name)
    if usb is not None:
        return f"/dev/bus/usb/{int(usb[1]):03d}/", ""
    if name in NODES:
        return "", name
    if _INPUT.fullmatch(name):
        return "", "input"
    if inside == "sound":
        return (f"/dev/snd/{name}", "") if _SOUND.fullmatch(name) else ("", "sound")
    if inside == "input":
        return (f"/dev/input/{name}", "") if _EVENT.fullmatch(name) else ("", "input")
    if inside in NODES:
        return f"{NODES[inside]}{name}", f"{NODES[inside]}{name}"
    if inside.startswith("/dev/") and f"/dev/{name}".startswith(inside):  # a partition, a namespace
        return f"/dev/{name}", f"/dev/{name}"
    return "", ""


def _open_files(files: Files, pid: str) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    for fd in names(files, folder):
        try:
            target = files.readlink(f"{folder}/{fd}")
        except OSError:
            continue
        if target.startswith("/dev/"):
            yield target


def _users(files: Files) -> Mapping[str, str]:
    """uid to name; users of a directory service are shown by number."""
    fields = (line.split(":") for line in (text(files, "/etc/passwd") or "").splitlines())
    return {field[2]: field[0] for field in fields if len(field) > 2}


def _holders(
    files: Files, pid: str, opened: Mapping[tuple[str, str], None], users: Mapping[str, str]
) -> Iterator[Holder]:
    status = text(files, f"/proc/{pid}/status")
    if status is None:
        return  # it has ended
    uid = next(
        (
            line.split()[1]
            for line in status.splitlines()
            if line.startswith("Uid:") and len(line.split()) > 1
        ),
        "",
    )
    unit, container = place(text(files, f"/proc/{pid}/cgroup") or "")
    command = text(files, f"/proc/{pid}/comm") or pid
    for address, node in opened:
        yield Holder(
            address=address,
            pid=int(pid),
            command=command,
            user=users.get(uid, uid),
            unit=unit,
            container=container,
            node=node,
        )


def place(cgroup: str) -> tuple[str | None, str | None]:
    """systemd unit and container of a process, from its /proc/PID/cgroup."""
    paths = [line.partition(":")[2].partition(":") for line in cgroup.splitlines()]
    chosen = next((path for controllers, _, path in paths if controllers in ("", "name=systemd")), None)
    if chosen is None:
        return None, None
    parts = [part for part in chosen.split("/") if part.endswith((".service", ".scope", ".mount", ".socket"))]
    match = _CONTAINER.search(chosen) or _BARE_CONTAINER.search(chosen) or _NAMED_CONTAINER.search(chosen)
    container = next((group for group in match.groups() if group), None) if match else None
    return (parts[-1] if parts else None), container
