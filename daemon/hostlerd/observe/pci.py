"""PCI functions, what is bound to them, and which drivers there are.

Rules. An attribute's read can hang: while remove() is stuck the kernel holds the device lock, which driver_override and
uevent take too (drivers/base). So of a function in `unreadable` only links and the names of folders are looked at, and
`progress` hears of every other function before its first attribute is read. `config` is never read, it wakes the card.
A function that goes away meanwhile is left out.

A remove() that waits: its driver link has gone first (__device_release_driver). Up to 6.5 the vfio-dev folder of a card
that a guest has stays until the guest lets go, so driver_override is not touched; from 6.6 on that folder goes first
(vfio_unregister_group_dev), and uevent, which answers there (seen on 6.12), still has DRIVER= in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from hostlerd.host import Files
from hostlerd.model.devices import DEVICES, Function
from hostlerd.observe.reading import link_name, names, number, text, to_number

DRIVERS = "/sys/bus/pci/drivers"
SLOTS = "/sys/bus/pci/slots"
GROUPS = "/sys/kernel/iommu_groups"

BRIDGES = frozenset({0x0604, 0x0607, 0x0608, 0x0609})
"""Classes with a bridge's config header: PCI to PCI, CardBus, RACEway, semi-transparent."""
VFIO_DEV = (6, 1)
"""From this kernel on every device on VFIO has a vfio-dev folder, whatever its driver is called (vfio_main.c)."""

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_GPU_UUID = re.compile(r"GPU UUID:\s*(\S+)")
_RELEASE = re.compile(r"(?:Linux version )?(\d+)\.(\d+)")


def observe_functions(
    files: Files,
    *,
    unreadable: frozenset[str] = frozenset(),
    progress: Callable[[str], None] = lambda _: None,
) -> Mapping[str, Function]:
    """Address to function, in the order of addresses."""
    slots = _slots(files)
    found: dict[str, Function] = {}
    for address, folder in sorted(_folders(files).items(), key=lambda item: _order(item[0])):
        by_links = _of_links(files, address, folder)
        if address in unreadable:
            found[address] = by_links
            continue
        progress(address)
        function = _with_attributes(files, folder, by_links, slots)
        if function is not None:
            found[address] = function
    return found


def observe_links(files: Files, address: str) -> Function:
    """One function without reading an attribute of it."""
    return _of_links(files, address, f"{DEVICES}/{address}")


def moved(files: Files, functions: Iterable[Function]) -> bool:
    """Whether any is on another driver than it was, by its link alone. One that is gone is no move."""
    return any(
        link_name(files, f"{DEVICES}/{f.address}/driver") != f.driver
        and files.exists(f"{DEVICES}/{f.address}")
        for f in functions
    )


def observe_drivers(files: Files) -> frozenset[str]:
    """PCI drivers that are loaded or built in."""
    return frozenset(names(files, DRIVERS))


def observe_kernel(files: Files) -> tuple[int, int]:
    """(6, 1) for 6.1.55; (0, 0) if nothing says it."""
    for path in ("/proc/sys/kernel/osrelease", "/proc/version"):
        match = _RELEASE.match(text(files, path) or "")
        if match is not None:
            return int(match[1]), int(match[2])
    return 0, 0


def has_iommu(files: Files) -> bool:
    """Is any device in an IOMMU group?"""
    return bool(names(files, GROUPS))


def _order(address: str) -> tuple[int, ...]:
    return tuple(int(part, 16) for part in re.split("[:.]", address))


def _folders(files: Files) -> dict[str, str]:
    """Address to sysfs folder. Recordings may lack the bus' links: then the tree of devices is walked."""
    listed = [name for name in names(files, DEVICES) if _ADDRESS.fullmatch(name)]
    if listed:
        return {address: f"{DEVICES}/{address}" for address in listed}
    roots = [f"/sys/devices/{name}" for name in names(files, "/sys/devices") if name.startswith("pci")]
    return dict(_below(files, roots))


def _below(files: Files, folders: list[str]) -> Iterator[tuple[str, str]]:
    todo = folders[::-1]
    while todo:
        folder = todo.pop()
        for name in names(files, folder):
            if _ADDRESS.fullmatch(name):
                yield name, f"{folder}/{name}"
                todo.append(f"{folder}/{name}")


def _slots(files: Files) -> dict[str, str]:
    """Address without function to the slot's name, as the firmware calls it. Reading these takes no device lock."""
    addresses = {name: text(files, f"{SLOTS}/{name}/address") for name in names(files, SLOTS)}
    return {address: name for name, address in sorted(addresses.items()) if address}


def is_on_vfio(files: Files, folder: str, driver: str | None) -> bool:
    """Whatever its driver is called; kernels before 6.1 show no more than the name."""
    if files.exists(f"{folder}/vfio-dev"):
        return True
    return _is_vfio_driver(driver) and observe_kernel(files) < VFIO_DEV


def is_on_vfio_now(files: Files, address: str) -> bool:
    """By the links alone, which never block."""
    folder = f"{DEVICES}/{address}"
    return is_on_vfio(files, folder, link_name(files, f"{folder}/driver"))


def _of_links(files: Files, address: str, folder: str) -> Function:
    """What is known without reading an attribute."""
    driver = link_name(files, f"{folder}/driver")
    has_vfio_dev = files.exists(f"{folder}/vfio-dev")
    if driver is None and has_vfio_dev:
        driver = link_name(files, f"{folder}/driver")  # it may have come between the two looks
    return Function(
        address=address,
        vendor=0,
        device=0,
        class_code=0,
        driver=driver,
        group=to_number(link_name(files, f"{folder}/iommu_group")),
        on_vfio=has_vfio_dev or is_on_vfio(files, folder, driver),
        physfn=link_name(files, f"{folder}/physfn"),
        path=_path(files, address, folder),
        module=link_name(files, f"{DRIVERS}/{driver}/module") if driver is not None else None,
        readable=False,
        leaving=has_vfio_dev and driver is None,
    )


def _let_go_by(files: Files, folder: str) -> str | None:
    """The driver whose remove() has not returned, of a function without a driver link.

    The kernel forgets a device's driver only after remove() (device_unbind_cleanup).
    """
    lines = (text(files, f"{folder}/uevent") or "").splitlines()
    driver = next((line.removeprefix("DRIVER=") for line in lines if line.startswith("DRIVER=")), None)
    # A recording may have lines without links.
    known = driver is not None and files.exists(f"{DRIVERS}/{driver}")
    return driver if known and link_name(files, f"{folder}/driver") is None else None


def _path(files: Files, address: str, folder: str) -> str | None:
    """The way over the slots: what stands in the tree of devices, without the numbers of buses that may change."""
    try:
        way = files.readlink(folder) if folder.startswith(DEVICES) else folder
    except OSError:
        return None
    parts = [part for part in way.split("/") if part.startswith("pci") or _ADDRESS.fullmatch(part)]
    if len(parts) < 2 or parts[-1] != address:
        return None
    root, *functions = parts
    return "/".join([root.removeprefix("pci"), *(part.rpartition(":")[2] for part in functions)])


def _serial(files: Files, known: Function, folder: str) -> str | None:
    """As the host's driver tells it: a drive's, an AMD card's unique_id, NVIDIA's GPU UUID. None on VFIO.

    The serial number capability of config space is not read: that wakes the card.
    """
    match known.driver:
        case "nvme":
            paths = [f"{folder}/nvme/{name}/serial" for name in sorted(names(files, f"{folder}/nvme"))]
        case "amdgpu":
            paths = [f"{folder}/unique_id"]
        case "nvidia":
            information = text(files, f"/proc/driver/nvidia/gpus/{known.address}/information") or ""
            match = _GPU_UUID.search(information)
            return match[1] if match else None
        case _:
            return None
    return next((found for path in paths if (found := text(files, path))), None)


def _is_vfio_driver(driver: str | None) -> bool:
    """vfio-pci and its variants: mlx5_vfio_pci, hisi-acc-vfio-pci, nvgrace-gpu-vfio-pci, ..."""
    return driver is not None and driver.replace("_", "-").endswith("vfio-pci")


def _with_attributes(files: Files, folder: str, known: Function, slots: Mapping[str, str]) -> Function | None:
    """The function in full; None if it is gone."""
    class_code = number(files, f"{folder}/class", 16)
    vendor = number(files, f"{folder}/vendor", 16)
    override = None if known.leaving else text(files, f"{folder}/driver_override")
    waits = None if known.leaving or known.driver is not None else _let_go_by(files, folder)
    node = number(files, f"{folder}/numa_node")
    function = Function(
        address=known.address,
        vendor=vendor or 0,
        device=number(files, f"{folder}/device", 16) or 0,
        class_code=class_code or 0,
        subsystem_vendor=number(files, f"{folder}/subsystem_vendor", 16) or 0,
        subsystem_device=number(files, f"{folder}/subsystem_device", 16) or 0,
        driver=known.driver,
        override=None if override in (None, "", "(null)") else override,
        group=known.group,
        numa_node=None if node is None or node < 0 else node,
        boot_vga=number(files, f"{folder}/boot_vga") == 1,
        bridge=(class_code or 0) >> 8 in BRIDGES,
        on_vfio=known.on_vfio or _is_vfio_driver(waits),
        physfn=known.physfn,
        slot_label=slots.get(known.slot) or text(files, f"{folder}/label") or None,
        path=known.path,
        serial=_serial(files, known, folder),
        module=known.module,
        modalias=text(files, f"{folder}/modalias") or None,
        leaving=known.leaving or waits is not None,
    )
    # Some recordings have a class alone.
    gone = (vendor is None and class_code is None) or not files.exists(folder)
    return None if gone else function
