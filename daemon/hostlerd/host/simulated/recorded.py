"""A recorded host made live: what a bug report brings is played on the simulated kernel.

Every device stays on the driver it was recorded with. A driver takes again exactly what it had then, and vfio-pci
what is aimed at it: what other hardware a driver knows is not in a recording. A recording without PCI has no devices;
one without control groups gets those of a fresh boot.
"""

from __future__ import annotations

from dataclasses import replace

from hostlerd.host import Files
from hostlerd.host.simulated import functions
from hostlerd.host.simulated import usb as usb_of
from hostlerd.host.simulated.cpus import CPUS
from hostlerd.host.simulated.drivers import KNOWN, VFIO_PCI, Driver, Id
from hostlerd.host.simulated.functions import DRIVERS, GROUPS, FunctionSpec
from hostlerd.host.simulated.kernel import Kernel
from hostlerd.host.simulated.pci import Device
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import CpuSet, parse_cpu_list
from hostlerd.model.devices import DEVICES

FOLDERS = (
    "/sys/devices",
    "/sys/bus/pci",
    "/sys/bus/usb",
    "/sys/kernel/iommu_groups",
    "/sys/kernel/mm/hugepages",
    "/sys/class",
    "/sys/fs/cgroup",
    "/sys/module",
    "/proc",
    "/dev",
    "/lib/modules",
)


def processors(files: Files) -> CpuSet:
    """Those on line; where the list is not there, those that have a folder. Raises OSError or ValueError."""
    if files.exists(f"{CPUS}/online"):
        return parse_cpu_list(files.read(f"{CPUS}/online"))
    numbers = [name[3:] for name in files.listdir(CPUS) if name.startswith("cpu") and name[3:].isdecimal()]
    return frozenset(int(n) for n in numbers if files.exists(f"{CPUS}/cpu{n}/topology"))


def adopt(kernel: Kernel, files: Files) -> None:
    """Fill a kernel that was not booted."""
    tree = kernel.tree
    kernel.cgroups.cpus = kernel.cpus
    kernel.boot(drivers=())
    for folder in FOLDERS:
        if files.exists(folder):
            tree.record(files, folder)
    for name in ("drivers_probe", "rescan"):  # a recording has them as empty files
        tree.put(f"/sys/bus/pci/{name}", None)
    kernel.pci.iommu = bool(tree.listdir(GROUPS))
    addresses = tree.listdir(DEVICES)
    for address in addresses:
        _adopt_device(kernel, address)
    _adopt_drivers(kernel)
    _adopt_usb(kernel)


def _adopt_device(kernel: Kernel, address: str) -> None:
    tree = kernel.tree
    folder = tree.real(f"{DEVICES}/{address}")
    spec = _spec(tree, address, folder)
    for name, content in (
        ("driver_override", functions.NO_OVERRIDE),
        ("remove", None),
        ("uevent", functions.uevent(spec, None)),
    ):
        if content is None or not tree.exists(f"{folder}/{name}"):
            tree.discard(f"{folder}/{name}")
            tree.put(f"{folder}/{name}", content)
    driver = _base(tree, f"{folder}/driver")
    kernel.pci.devices[address] = Device(spec=spec, folder=folder, driver=driver)


def _spec(tree: Tree, address: str, folder: str) -> FunctionSpec:
    def number(name: str, default: int = 0) -> int:
        try:
            return int(tree.read(f"{folder}/{name}"), 0)
        except (OSError, ValueError):
            return default

    group = _base(tree, f"{folder}/iommu_group")
    above = folder.rpartition("/")[0].rpartition("/")[2]
    return FunctionSpec(
        address=address,
        vendor=number("vendor"),
        device=number("device"),
        class_code=number("class"),
        subsystem_vendor=number("subsystem_vendor"),
        subsystem_device=number("subsystem_device"),
        bridge=above if tree.exists(f"{DEVICES}/{above}") else None,
        group=int(group) if group is not None and group.isdecimal() else None,
        numa_node=number("numa_node", -1),
        boot_vga=bool(number("boot_vga")) if tree.exists(f"{folder}/boot_vga") else None,
        physfn=_base(tree, f"{folder}/physfn"),
        total_vfs=number("sriov_totalvfs"),
        vf_offset=number("sriov_offset", 1),
        vf_stride=number("sriov_stride", 1),
    )


def _adopt_drivers(kernel: Kernel) -> None:
    tree, pci = kernel.tree, kernel.pci
    known = {driver.name: driver for driver in KNOWN}
    bound = {device.driver for device in pci.devices.values() if device.driver is not None}
    for name in sorted({*tree.listdir(DRIVERS), *bound}):
        module = _base(tree, f"{DRIVERS}/{name}/module") or name.replace("-", "_")
        ids = {(d.spec.vendor, d.spec.device) for d in pci.devices.values() if d.driver == name}
        like = known.get(
            name, Driver(name=name, module=module, built_in=not tree.exists(f"{DRIVERS}/{name}/module"))
        )
        rows = (
            ()
            if name == VFIO_PCI.name
            else tuple(Id(vendor=vendor, device=device) for vendor, device in sorted(ids))
        )
        pci.drivers[name] = replace(like, ids=rows)
    pci.drivers.setdefault(VFIO_PCI.name, VFIO_PCI)
    # Registering tries drivers on what is free; a recorded host stays as it was recorded.
    pci.autoprobe = False
    for name in sorted({*tree.listdir(DRIVERS), *bound}):
        pci.register(pci.drivers[name])
    pci.autoprobe = True
    for device in pci.devices.values():
        if device.driver is not None:
            tree.link(f"{DRIVERS}/{device.driver}/{device.spec.address}", device.folder)


def _adopt_usb(kernel: Kernel) -> None:
    """Buses and devices keep their numbers, interfaces the drivers they had."""
    tree, usb = kernel.tree, kernel.usb
    listed = sorted(tree.listdir(usb_of.DEVICES)) if tree.exists(usb_of.DEVICES) else []
    for name in listed:
        folder = tree.real(f"{usb_of.DEVICES}/{name}")
        if name.startswith("usb"):
            usb.buses[folder.rpartition("/")[0].rpartition("/")[2]] = int(name[3:])
            usb.following[int(name[3:])] = 2
        elif ":" not in name:
            own = [other for other in listed if other.startswith(f"{name}:")]
            drivers = tuple(_base(tree, f"{usb_of.DEVICES}/{other}/driver") or "" for other in own)
            device = usb_of.Plugged(
                spec=_usb_spec(tree, folder, drivers),
                port=name,
                number=int(tree.read(f"{folder}/devnum")),
                folder=folder,
                configured=bool(own),
            )
            usb.devices[name] = device
    for device in usb.devices.values():
        bus = int(device.port.partition("-")[0])
        usb.following[bus] = max(usb.following.get(bus, 2), device.number + 1)


def _usb_spec(tree: Tree, folder: str, drivers: tuple[str, ...]) -> usb_of.UsbSpec:
    def number(name: str) -> int:
        return int(tree.read(f"{folder}/{name}"), 16)

    return usb_of.UsbSpec(
        vendor=number("idVendor"),
        product=number("idProduct"),
        serial=tree.read(f"{folder}/serial").strip() if tree.exists(f"{folder}/serial") else None,
        device_class=number("bDeviceClass"),
        drivers=drivers,
    )


def _base(tree: Tree, link: str) -> str | None:
    try:
        return tree.readlink(link).rpartition("/")[2]
    except OSError:
        return None
