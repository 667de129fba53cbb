"""What a driver makes below a device and in /dev while it is bound, and takes away when it lets go.

Numbers are the lowest free ones, as ida_alloc and the DRM minors give them: a card that comes back may have another.
"""

from __future__ import annotations

from itertools import count

from hostlerd.host.simulated.drivers import Nodes
from hostlerd.host.simulated.functions import FunctionSpec
from hostlerd.host.simulated.tree import Tree


def make(tree: Tree, kind: Nodes, spec: FunctionSpec, folder: str) -> None:
    match kind:
        case Nodes.DRM:
            card = _lowest(tree, "/dev/dri", "card")
            render = _lowest(tree, "/dev/dri", "renderD", start=128)
            for name in (card, render):
                _node(tree, f"{folder}/drm/{name}", "drm", name, f"/dev/dri/{name}")
        case Nodes.SOUND:
            card = _lowest(tree, "/sys/class/sound", "card")
            number = card.removeprefix("card")
            _node(tree, f"{folder}/sound/{card}", "sound", card, None)
            for name in (f"controlC{number}", f"pcmC{number}D0p"):
                _node(tree, f"{folder}/sound/{card}/{name}", "sound", name, f"/dev/snd/{name}")
        case Nodes.NET:
            name = _lowest(tree, "/sys/class/net", "eth")
            _node(tree, f"{folder}/net/{name}", "net", name, None)
        case Nodes.NVME:
            name = _lowest(tree, "/dev", "nvme")
            _node(tree, f"{folder}/nvme/{name}", "nvme", name, f"/dev/{name}")
            _node(tree, f"{folder}/nvme/{name}/{name}n1", "block", f"{name}n1", f"/dev/{name}n1")
        case Nodes.VFIO:
            # vfio_init_device (6.1): a child vfio-dev/vfioN for every VFIO device; vfio_create_group: /dev/vfio/GROUP.
            name = _lowest(tree, "/sys/class/vfio-dev", "vfio")
            _node(tree, f"{folder}/vfio-dev/{name}", "vfio-dev", name, None)
            tree.put(f"/dev/vfio/{spec.group}", "")
        case Nodes.NONE:
            pass


def dev_files(tree: Tree, folder: str) -> list[str]:
    """The nodes in /dev through which a process can hold the device."""
    found: list[str] = []
    for path, text in tree.flat(folder).items():
        if path.endswith("/uevent") and "DEVNAME=" in text:
            found += [f"/dev/{line[8:]}" for line in text.splitlines() if line.startswith("DEVNAME=")]
    return found


def take_away(tree: Tree, kind: Nodes, spec: FunctionSpec, folder: str, *, last_of_group: bool) -> None:
    for path in dev_files(tree, folder):
        tree.discard(path)
    if kind is Nodes.VFIO and last_of_group:
        tree.discard(f"/dev/vfio/{spec.group}")
    part = {
        Nodes.DRM: "drm",
        Nodes.SOUND: "sound",
        Nodes.NET: "net",
        Nodes.NVME: "nvme",
        Nodes.VFIO: "vfio-dev",
    }
    if kind is Nodes.NONE or not tree.is_folder(f"{folder}/{part[kind]}"):
        return
    top = f"{folder}/{part[kind]}"
    for path in [path for path in tree.flat(top) if path.endswith("/uevent")]:
        *_, name, _ = path.split("/")
        for class_name in ("drm", "sound", "net", "nvme", "block", "vfio-dev"):
            tree.discard(f"/sys/class/{class_name}/{name}")
    tree.discard(top)


def _node(tree: Tree, folder: str, class_name: str, name: str, dev: str | None) -> None:
    tree.put(f"{folder}/uevent", f"DEVNAME={dev.removeprefix('/dev/')}\n" if dev else "")
    tree.folder(f"/sys/class/{class_name}")
    tree.link(f"{folder}/subsystem", f"/sys/class/{class_name}")
    tree.link(f"/sys/class/{class_name}/{name}", folder)
    if dev is not None:
        tree.put(dev, "")


def _lowest(tree: Tree, folder: str, prefix: str, *, start: int = 0) -> str:
    taken = set(tree.listdir(folder)) if tree.is_folder(folder) else set[str]()
    return next(f"{prefix}{number}" for number in count(start) if f"{prefix}{number}" not in taken)
