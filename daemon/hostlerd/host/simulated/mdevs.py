"""Mediated devices: parents, types that share what their parent has, and devices that come and go.

Follows drivers/vfio/mdev/mdev_core.c (mdev_device_create, mdev_device_remove) and mdev_sysfs.c (create_store,
remove_store), and samples/vfio-mdev/mbochs.c for how types share (mbochs_get_available: what is left of the parent's
memory, divided by what one takes; mbochs_init_dev: ENOSPC). Seen on Linux 6.1:
writing to `remove` while a domain has the device waits, and succeeds when it lets go.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from hostlerd.host.simulated.functions import GROUPS, next_group
from hostlerd.host.simulated.pci import Blocked, Pci, Ticket, fail
from hostlerd.host.simulated.tree import Tree

PARENTS = "/sys/class/mdev_bus"
BUS = "/sys/bus/mdev/devices"
CREATE = re.compile(r"(/sys/devices/.*)/mdev_supported_types/([^/]+)/create")
DEVICE = re.compile(r"/sys/devices/.*/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(.+)")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeSpec:
    """`takes`: of what the parent has. `attribute`: one that its devices have and that can be written, if any."""

    id: str
    name: str
    description: str = ""
    takes: int = 1
    attribute: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentSpec:
    """`folder`: in /sys/devices, its last part is the parent's name; a PCI function's folder is found by its address.

    `has`: what its types share. `alike`: all its devices must be of one type, as NVIDIA's time-sliced vGPUs.
    """

    name: str
    types: tuple[TypeSpec, ...]
    has: int
    alike: bool = False


@dataclass(slots=True)
class Mdev:
    parent: str
    type: str
    group: int
    number: int
    ticket: Ticket | None = None


@dataclass(slots=True)
class Mdevs:
    """`known`: parents by name; the folder of one is in /sys/class/mdev_bus."""

    tree: Tree
    pci: Pci
    emit: Callable[[str, str], None]
    known: dict[str, ParentSpec] = field(default_factory=dict[str, ParentSpec])
    devices: dict[str, Mdev] = field(default_factory=dict[str, Mdev])

    def register(self, parent: ParentSpec) -> None:
        """mdev_register_parent."""
        self.known[parent.name] = parent
        if parent.name in self.pci.devices:
            folder = self.pci.devices[parent.name].folder
        else:
            folder = f"/sys/devices/virtual/{parent.name}/{parent.name}"
        for kind in parent.types:
            top = f"{folder}/mdev_supported_types/{kind.id}"
            self.tree.put(f"{top}/name", f"{kind.name}\n")
            self.tree.put(f"{top}/device_api", "vfio-pci\n")
            self.tree.put(f"{top}/create", None)
            self.tree.folder(f"{top}/devices")
            if kind.description:
                self.tree.put(f"{top}/description", f"{kind.description}\n")
        self.tree.folder(BUS)
        self.tree.link(f"{PARENTS}/{parent.name}", folder)
        self._count(parent)

    def bound(self, address: str) -> None:
        """A driver took a parent: it registers again."""
        if address in self.known and self.pci.devices[address].driver != "vfio-pci":
            self.register(self.known[address])

    def let_go(self, address: str) -> None:
        """mdev_unregister_parent; its devices go first, and wait for who has them open."""
        if address in self.known:
            for uuid in [uuid for uuid, mdev in self.devices.items() if mdev.parent == address]:
                self.remove(uuid, "1")
            self.tree.discard(f"{self.pci.devices[address].folder}/mdev_supported_types")
            self.tree.discard(f"{PARENTS}/{address}")

    def create(self, folder: str, type_id: str, text: str) -> None:
        """create_store: EINVAL for no UUID, EEXIST for one that is there or not quite gone; the driver's ENOSPC."""
        path = f"{folder}/mdev_supported_types/{type_id}/create"
        uuid = text.strip().lower()
        parent = self.known.get(folder.rpartition("/")[2])
        if parent is None:
            raise fail(errno.ENODEV, path)  # of a recorded host: what its types share is not in a recording
        kind = next(t for t in parent.types if t.id == type_id)
        if not _UUID.fullmatch(uuid):
            raise fail(errno.EINVAL, path)
        if uuid in self.devices:
            raise fail(errno.EEXIST, path)
        if self.available(parent, kind) < 1:
            raise fail(errno.ENOSPC, path)
        number = max((m.number for m in self.devices.values()), default=99) + 1
        mdev = self.devices[uuid] = Mdev(
            parent=parent.name, type=type_id, group=next_group(self.tree), number=number
        )
        here = f"{folder}/{uuid}"
        self.tree.put(f"{here}/remove", None)
        self.tree.put(f"{here}/uevent", "DRIVER=vfio_mdev\n")
        if kind.attribute:
            self.tree.put(f"{here}/{kind.attribute}", "\n")
        group = f"{GROUPS}/{mdev.group}"
        self.tree.link(f"{group}/devices/{uuid}", here)
        self.tree.link(f"{here}/iommu_group", group)
        self.tree.folder(f"{here}/vfio-dev/vfio{number}")
        self.tree.link(f"{here}/mdev_type", f"{folder}/mdev_supported_types/{type_id}")
        self.tree.link(f"{folder}/mdev_supported_types/{type_id}/devices/{uuid}", here)
        self.tree.link(f"{BUS}/{uuid}", here)
        self.tree.put(f"/dev/vfio/{mdev.group}", "")
        self._count(parent)
        self.emit("add", uuid)

    def remove(self, uuid: str, text: str) -> None:
        """remove_store. While it is open the driver's remove() waits, and its links are gone already."""
        mdev = self.devices.get(uuid)
        if mdev is None:
            raise fail(errno.ENODEV, uuid)
        here = self.tree.real(f"{BUS}/{uuid}")
        if not text.strip().isdecimal():
            raise fail(errno.EINVAL, f"{here}/remove")
        if not int(text):
            return
        self.tree.discard(f"{here}/remove")
        self.tree.discard(f"{here}/mdev_type")
        self.tree.discard(f"{here.rpartition('/')[0]}/mdev_supported_types/{mdev.type}/devices/{uuid}")
        self.tree.discard(f"{BUS}/{uuid}")
        if mdev.group in self.pci.owners:
            mdev.ticket = Ticket(uuid)
            raise Blocked(mdev.ticket)
        self._gone(uuid)

    def go_on(self) -> None:
        """A group was closed: what waited for it ends."""
        for uuid, mdev in list(self.devices.items()):
            if mdev.ticket is not None and mdev.group not in self.pci.owners:
                self._gone(uuid)
                mdev.ticket.end(None)

    def write(self, uuid: str, name: str, text: str) -> None:
        """An attribute of the device's own."""
        mdev = self.devices.get(uuid)
        if mdev is None:
            raise fail(errno.EACCES, name)
        kind = next(t for t in self.known[mdev.parent].types if t.id == mdev.type)
        path = f"{self.tree.real(f'{BUS}/{uuid}')}/{name}"
        if name != kind.attribute:
            raise fail(errno.EACCES, path)
        self.tree.put(path, text if text.endswith("\n") else f"{text}\n")

    def _gone(self, uuid: str) -> None:
        mdev = self.devices.pop(uuid)
        self.tree.discard(f"{self.tree.real(f'{PARENTS}/{mdev.parent}')}/{uuid}")
        self.tree.discard(f"{GROUPS}/{mdev.group}")
        self.tree.discard(f"/dev/vfio/{mdev.group}")
        self._count(self.known[mdev.parent])
        self.emit("remove", uuid)

    def available(self, parent: ParentSpec, kind: TypeSpec) -> int:
        """available_instances_show."""
        takes = {t.id: t.takes for t in parent.types}
        here = [m.type for m in self.devices.values() if m.parent == parent.name]
        if parent.alike and any(other != kind.id for other in here):
            return 0
        return (parent.has - sum(takes[other] for other in here)) // kind.takes

    def _count(self, parent: ParentSpec) -> None:
        folder = self.tree.real(f"{PARENTS}/{parent.name}")
        for kind in parent.types:
            path = f"{folder}/mdev_supported_types/{kind.id}/available_instances"
            self.tree.put(path, f"{self.available(parent, kind)}\n")

    # --- to and from JSON

    def dump(self) -> dict[str, Any]:
        return {
            "known": [asdict(parent) for parent in self.known.values()],
            "devices": {
                uuid: [m.parent, m.type, m.group, m.number, m.ticket is not None]
                for uuid, m in self.devices.items()
            },
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """One that waited to be removed waits for nobody now, and goes when its group is closed."""
        self.known = {}
        for parent in dumped["known"]:
            row: dict[str, Any] = dict(parent)
            row["types"] = tuple(TypeSpec(**kind) for kind in row["types"])
            self.known[row["name"]] = ParentSpec(**row)
        self.devices = {
            uuid: Mdev(parent, kind, group, number, Ticket(uuid) if waits else None)
            for uuid, (parent, kind, group, number, waits) in dumped["devices"].items()
        }
