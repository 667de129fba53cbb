"""What a driver makes below a device and in /dev while it is bound, and takes away when it lets go.

Numbers are the lowest free ones, as ida_alloc and the DRM minors give them: a card that comes back may have another.
"""

from __future__ import annotations

import re
from itertools import count
from typing import Literal

from hostlerd.host.simulated.drivers import Nodes
from hostlerd.host.simulated.functions import FunctionSpec
from hostlerd.host.simulated.tree import Tree

MAJORS = {
    "drm": 226, "sound": 116, "graphics": 29, "nvme": 240, "block": 259, "vfio-dev": 242, "vfio": 243, "nvidia": 195,
}  # fmt: skip
"""Documentation/admin-guide/devices.txt; those from 240 on are given as they are asked for."""
NVIDIA = "/proc/driver/nvidia/gpus"
FRAMEBUFFER_CONSOLE = "/sys/class/vtconsole/vtcon1"

_PARTS = {
    Nodes.DRM: ("drm", "graphics"),
    Nodes.NVIDIA: ("drm",),
    Nodes.SOUND: ("sound",),
    Nodes.NET: ("net",),
    Nodes.NVME: ("nvme",),
    Nodes.VFIO: ("vfio-dev",),
}
_SOUND = re.compile(r"(control|pcm)C(\d+)")
_CLASSES = ("drm", "graphics", "sound", "net", "nvme", "block", "vfio-dev")


def make(tree: Tree, kind: Nodes, spec: FunctionSpec, folder: str) -> None:
    match kind:
        case Nodes.DRM:
            make_drm(tree, folder)
        case Nodes.NVIDIA:
            minor = _lowest(tree, "/dev", "nvidia").removeprefix("nvidia")
            _device(tree, f"/dev/nvidia{minor}", "c", MAJORS["nvidia"], int(minor))
            tree.put(
                f"{NVIDIA}/{spec.address}/information", f"Model: \t\t Simulated\nDevice Minor: \t {minor}\n"
            )
        case Nodes.SOUND:
            card = _lowest(tree, "/sys/class/sound", "card")
            number = card.removeprefix("card")
            _node(tree, f"{folder}/sound/{card}", "sound", card, None)
            for name in (f"controlC{number}", f"pcmC{number}D0p"):
                _node(tree, f"{folder}/sound/{card}/{name}", "sound", name, f"/dev/snd/{name}")
            tree.put(f"/proc/asound/{card}/pcm0p/sub0/status", "closed\n")
        case Nodes.NET:
            name = _lowest(tree, "/sys/class/net", "eth")
            _node(tree, f"{folder}/net/{name}", "net", name, None)
            tree.put(f"{folder}/net/{name}/flags", "0x1002\n")
        case Nodes.NVME:
            name = _lowest(tree, "/dev", "nvme")
            _node(tree, f"{folder}/nvme/{name}", "nvme", name, f"/dev/{name}")
            _node(tree, f"{folder}/nvme/{name}/{name}n1", "block", f"{name}n1", f"/dev/{name}n1")
        case Nodes.VFIO:
            # vfio_init_device (6.1): a child vfio-dev/vfioN for every VFIO device; vfio_create_group: /dev/vfio/GROUP.
            name = _lowest(tree, "/sys/class/vfio-dev", "vfio")
            _node(tree, f"{folder}/vfio-dev/{name}", "vfio-dev", name, None)
            _device(tree, f"/dev/vfio/{spec.group}", "c", MAJORS["vfio"], spec.group or 0)
            tree.put(f"/sys/class/vfio/{spec.group}/dev", f"{MAJORS['vfio']}:{spec.group}\n")
        case Nodes.NONE:
            pass


def make_drm(tree: Tree, folder: str) -> None:
    """What a display driver, or nvidia-drm for nvidia, gives a card."""
    card = _lowest(tree, "/dev/dri", "card")
    render = _lowest(tree, "/dev/dri", "renderD", start=128)
    for name in (card, render):
        _node(tree, f"{folder}/drm/{name}", "drm", name, f"/dev/dri/{name}")


def make_framebuffer(tree: Tree, folder: str, screen: str = "simulateddrmfb") -> None:
    """drm_fbdev or efifb: a frame buffer, and fbcon takes the console to it (fbcon_fb_registered)."""
    name = _lowest(tree, "/dev", "fb")
    _node(tree, f"{folder}/graphics/{name}", "graphics", name, f"/dev/{name}")
    tree.put(f"{FRAMEBUFFER_CONSOLE}/name", "(M) frame buffer device\n")
    tree.put(f"{FRAMEBUFFER_CONSOLE}/bind", "1\n")
    tree.put(f"{folder}/graphics/{name}/name", f"{screen}\n")
    _list_screens(tree)


def dev_files(tree: Tree, folder: str) -> list[str]:
    """The nodes in /dev through which a process can hold the device."""
    found: list[str] = []
    for path, text in tree.flat(folder).items():
        if path.endswith("/uevent") and "DEVNAME=" in text:
            found += [f"/dev/{line[8:]}" for line in text.splitlines() if line.startswith("DEVNAME=")]
    information = f"{NVIDIA}/{folder.rpartition('/')[2]}/information"
    if tree.exists(information):
        found += [f"/dev/nvidia{minor}" for minor in re.findall(r"Minor: \t (\d+)", tree.read(information))]
    return found


def take_away(tree: Tree, kind: Nodes, spec: FunctionSpec, folder: str, *, last_of_group: bool) -> None:
    for path in dev_files(tree, folder):
        _discard_device(tree, path)
    if kind is Nodes.VFIO and last_of_group:
        _discard_device(tree, f"/dev/vfio/{spec.group}")
        tree.discard(f"/sys/class/vfio/{spec.group}")
    if kind is Nodes.NVIDIA:
        tree.discard(f"{NVIDIA}/{spec.address}")
    for part in _PARTS.get(kind, ()):
        _take_away_class(tree, f"{folder}/{part}")
    _without_console(tree)


def take_away_framebuffer(tree: Tree, folder: str) -> None:
    for path in dev_files(tree, folder):
        _discard_device(tree, path)
    _take_away_class(tree, f"{folder}/graphics")
    _without_console(tree)


def _without_console(tree: Tree) -> None:
    """fbcon_fb_unregistered, do_unregister_con_driver: with the last frame buffer its console goes."""
    if not any(name.startswith("fb") for name in tree.listdir("/dev")):
        tree.discard(FRAMEBUFFER_CONSOLE)
    _list_screens(tree)


def _list_screens(tree: Tree) -> None:
    """fb_seq_show."""
    names = [name for name in tree.listdir("/dev") if name.startswith("fb")]
    lines = [f"{name[2:]} {tree.read(f'/sys/class/graphics/{name}/name')}" for name in names]
    tree.put("/proc/fb", "".join(lines))


def take_away_drm(tree: Tree, folder: str) -> None:
    """nvidia-drm goes and nvidia stays."""
    for path in dev_files(tree, folder):
        if path.startswith("/dev/dri/"):
            _discard_device(tree, path)
    _take_away_class(tree, f"{folder}/drm")


def _take_away_class(tree: Tree, top: str) -> None:
    if not tree.is_folder(top):
        return
    for path in [path for path in tree.flat(top) if path.endswith("/uevent")]:
        *_, name, _ = path.split("/")
        for class_name in _CLASSES:
            tree.discard(f"/sys/class/{class_name}/{name}")
        if path.startswith(f"{top}/card") and top.endswith("/sound") and tree.exists(f"/proc/asound/{name}"):
            tree.discard(f"/proc/asound/{name}")
    tree.discard(top)


def _node(tree: Tree, folder: str, class_name: str, name: str, dev: str | None) -> None:
    tree.put(f"{folder}/uevent", f"DEVNAME={dev.removeprefix('/dev/')}\n" if dev else "")
    tree.folder(f"/sys/class/{class_name}")
    tree.link(f"{folder}/subsystem", f"/sys/class/{class_name}")
    tree.link(f"/sys/class/{class_name}/{name}", folder)
    if dev is not None:
        kind: Literal["b", "c"] = "b" if class_name == "block" else "c"
        major, minor = MAJORS[class_name], _minor(tree, class_name, name)
        tree.put(f"{folder}/dev", f"{major}:{minor}\n")
        _device(tree, dev, kind, major, minor)
        if class_name == "block":
            tree.link(f"/sys/class/block/{name}", folder)


def _minor(tree: Tree, class_name: str, name: str) -> int:
    """DRM, frame buffers and sound cards carry it in the name; others take the lowest that is free."""
    if class_name in ("drm", "graphics"):
        return int(re.sub(r"\D", "", name))
    if match := _SOUND.match(name):  # SNDRV_MINOR: 32 a card, 0 is its control, from 16 on playback
        return 32 * int(match[2]) + (16 if match[1] == "pcm" else 0)
    number = _lowest(tree, f"/dev/{'block' if class_name == 'block' else 'char'}", f"{MAJORS[class_name]}:")
    return int(number.rpartition(":")[2])


def _device(tree: Tree, path: str, kind: Literal["b", "c"], major: int, minor: int) -> None:
    """The node (devtmpfs), and the link by its number, which udev keeps."""
    tree.put_device(path, (kind, major, minor))
    tree.link_as_is(
        f"/dev/{'block' if kind == 'b' else 'char'}/{major}:{minor}", f"../{path.removeprefix('/dev/')}"
    )


def _discard_device(tree: Tree, path: str) -> None:
    number = tree.device(path)
    if number is not None:
        tree.discard(f"/dev/{'block' if number[0] == 'b' else 'char'}/{number[1]}:{number[2]}")
    tree.discard(path)


def make_module_node(tree: Tree, path: str, major: int, minor: int) -> None:
    """A node of a module that is no single device's."""
    _device(tree, path, "c", major, minor)


def discard_module_node(tree: Tree, path: str) -> None:
    _discard_device(tree, path)


def _lowest(tree: Tree, folder: str, prefix: str, *, start: int = 0) -> str:
    taken = set(tree.listdir(folder)) if tree.is_folder(folder) else set[str]()
    return next(f"{prefix}{number}" for number in count(start) if f"{prefix}{number}" not in taken)
