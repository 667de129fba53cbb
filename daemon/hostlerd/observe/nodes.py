"""The nodes in /dev through which a function can be held.

Rules. Whatever has a `dev` attribute below the function has a node, of any class; it is known by its number, because a
container may call it otherwise. Reading `dev` takes no lock (drivers/base/core.c, dev_show); uevent does, so it is only
read where neither udev's links in /dev/char nor the name tell. Of a function that must not be read, names of folders
alone are looked at.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hostlerd.host import DeviceNumber, Files
from hostlerd.model.devices import DEVICES, Function
from hostlerd.observe import blocks
from hostlerd.observe.reading import link_name, names, text
from hostlerd.observe.screen import PLATFORM, boot_framebuffer

CLASSES: Mapping[str, str] = {
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

MDEVS = "/sys/bus/mdev/devices"
ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_BARREN = frozenset(
    {"power", "msi_irqs", "queue", "queues", "mq", "statistics", "integrity", "trace", "firmware"}
)
_DEPTH, _MOST = 14, 6000
_USB = re.compile(r"usb(\d+)")
_SOUND = re.compile(r"(?:controlC|pcmC|hwC|midiC)\d.*")
_INPUT = re.compile(r"input\d*")
_EVENT = re.compile(r"(?:event|js|mouse)\d+")
_MEDIATED = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PATH_OF_MANY = re.compile(r"nvme(\d+)c\d+n(\d+)")
_MINOR = re.compile(r"Device Minor:\s*(\d+)")

NVIDIA = ("/dev/nvidiactl", "/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
NVIDIA_FOLDERS = ("/dev/nvidia-caps", "/dev/nvidia-caps-imex-channels")
_NVIDIA_CONTROL = 254
"""From this minor on a node of the module's own major is modeset's or the control node's (nv-frontend: 254, 255)."""
ALONGSIDE: Mapping[str, str] = {"/dev/vfio/vfio": "vfio", "/dev/iommu": "vfio", "/dev/kfd": "amdgpu"}
"""Nodes of no device in particular: told of a process that holds one. Whoever has only these holds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """`path` ends in a slash where all that is in a folder is meant."""

    path: str
    number: DeviceNumber | None = None


def nodes(files: Files, function: Function) -> Iterator[Node]:
    """Those through which this function, and no other, is held."""
    if function.on_vfio and function.group is not None:
        yield group_node(files, str(function.group))
    if function.driver == "nvidia" and function.readable:
        information = text(files, f"/proc/driver/nvidia/gpus/{function.address}/information") or ""
        for minor in _MINOR.findall(information):
            yield _named(files, f"/dev/nvidia{minor}")
    mediated = _MEDIATED.fullmatch(function.address)
    todo = [(f"{MDEVS if mediated else DEVICES}/{function.address}", "", 0)]
    boot = boot_framebuffer(files, function)
    if boot is not None:  # as long as one has its node open, its driver keeps the card's memory
        todo.append((f"{PLATFORM}/{boot.device}", "", 0))
    looked = 0
    while todo and looked < _MOST:
        folder, inside, depth = todo.pop()
        looked += 1
        for name in _folders(files, folder):
            if name in _BARREN or ADDRESS.fullmatch(name):
                continue
            path, below = _by_name(name, inside)
            yield from _at(files, f"{folder}/{name}", path, readable=function.readable)
            if depth < _DEPTH:
                todo.append((f"{folder}/{name}", below, depth + 1))


def nvidia_nodes(files: Files) -> Iterator[Node]:
    """Nodes that hold NVIDIA's module, and with it every device of it."""
    for path in NVIDIA:
        yield _named(files, path)
    for folder in NVIDIA_FOLDERS:
        for name in names(files, folder):
            yield _named(files, f"{folder}/{name}")


def nvidia_majors(files: Files) -> Mapping[int, int]:
    """Major of a character device of NVIDIA's modules to the first minor that is no single card's."""
    found: dict[int, int] = {}
    for line in (text(files, "/proc/devices") or "").partition("Block devices:")[0].splitlines():
        number, _, name = line.strip().partition(" ")
        if number.isdecimal() and name.startswith("nvidia"):
            cards = name in ("nvidia", "nvidia-frontend", "nvidiactl", "nvidia-modeset")
            found[int(number)] = _NVIDIA_CONTROL if cards else 0
    return found


def group_node(files: Files, group: str) -> Node:
    """Of a VFIO group; `noiommu-5` for one without an IOMMU."""
    dev = blocks.number("c", text(files, f"/sys/class/vfio/{group}/dev"))
    path = f"/dev/vfio/{group}"
    return Node(path=path, number=dev or files.device(path))


def alongside(files: Files) -> Mapping[Node, str]:
    return {_named(files, path): whose for path, whose in ALONGSIDE.items()}


def _named(files: Files, path: str) -> Node:
    return Node(path=path, number=files.device(path))


def _folders(files: Files, path: str) -> list[str]:
    try:
        return files.folders(path)
    except OSError:
        return []


def _at(files: Files, folder: str, path: str, *, readable: bool) -> Iterator[Node]:
    """What the folder of one device gives; `path` is what its name says, empty where that says nothing."""
    name = folder.rpartition("/")[2]
    if _MEDIATED.fullmatch(name):
        group = link_name(files, f"{folder}/iommu_group")
        if group is not None:
            yield group_node(files, group)
        return
    match = _PATH_OF_MANY.fullmatch(name)
    if match:
        yield from _disk(files, f"nvme{match[1]}n{match[2]}")
        return
    dev = text(files, f"{folder}/dev") if readable else None
    if dev is None:
        if path:
            yield Node(path=path) if path.endswith("/") else _named(files, path)
        return
    is_block = link_name(files, f"{folder}/subsystem") == "block" or "/block/" in folder
    number = blocks.number("b" if is_block else "c", dev)
    yield Node(path=_path(files, folder, path, number), number=number)
    if is_block:
        for above in blocks.built_on(files, name):
            yield _block(files, above)


def _disk(files: Files, name: str) -> Iterator[Node]:
    """The disk that several ways lead to, which is in no device's folder (drivers/nvme/host/multipath.c)."""
    for one in (name, *blocks.partitions(files, name)):
        yield _block(files, one)
        for above in blocks.built_on(files, one):
            yield _block(files, above)


def _block(files: Files, name: str) -> Node:
    return Node(path=f"/dev/{name}", number=blocks.number_of(files, name))


def _path(files: Files, folder: str, by_name: str, number: DeviceNumber | None) -> str:
    if number is not None:
        kind = "block" if number[0] == "b" else "char"
        try:
            target = files.readlink(f"/dev/{kind}/{number[1]}:{number[2]}")
            return posixpath.normpath(posixpath.join(f"/dev/{kind}", target))
        except OSError:
            pass
    if by_name and not by_name.endswith("/"):
        return by_name
    for line in (text(files, f"{folder}/uevent") or "").splitlines():
        if line.startswith("DEVNAME="):
            return "/dev/" + line.removeprefix("DEVNAME=")
    return by_name or "/dev/" + folder.rpartition("/")[2].replace("!", "/")


def _by_name(name: str, inside: str) -> tuple[str, str]:
    """The node of a folder called `name`, if it is one, and what is below it: a class, or "/dev/sda" and more."""
    usb = _USB.fullmatch(name)
    if usb is not None:
        return f"/dev/bus/usb/{int(usb[1]):03d}/", ""
    if name in CLASSES:
        return "", name
    if _INPUT.fullmatch(name):
        return "", "input"
    if inside == "sound":
        return (f"/dev/snd/{name}", "") if _SOUND.fullmatch(name) else ("", "sound")
    if inside == "input":
        return (f"/dev/input/{name}", "") if _EVENT.fullmatch(name) else ("", "input")
    if inside in CLASSES:
        return f"{CLASSES[inside]}{name}", f"{CLASSES[inside]}{name}"
    if inside.startswith("/dev/") and f"/dev/{name}".startswith(inside):  # a partition, a namespace
        return f"/dev/{name}", f"/dev/{name}"
    return "", ""
