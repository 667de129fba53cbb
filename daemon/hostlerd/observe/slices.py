"""Slices of devices: PFs and their VFs, mediated devices and their types, NVIDIA's vGPUs, what mdevctl has defined.

Rules. Of a device that must not be read only names and links are looked at, and `progress` hears of every other before
its first attribute is read. sriov_numvfs is not read: it takes the device lock on Linux 6.1 (sriov_numvfs_show); the
virtfn links are counted. The attributes of a type take no lock of the driver core (mdev_type_attr_show), but ask the
vendor's driver. A mediated device whose remove() waits has left /sys/bus/mdev already (bus_remove_device).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hostlerd.host import Files
from hostlerd.model.devices import DEVICES, Function
from hostlerd.model.slices import Mdev, MdevDefinition, MdevType, Slices, Sriov, VgpuSlot, VgpuType
from hostlerd.observe.reading import link_name, names, number, text, to_number

PARENTS = "/sys/class/mdev_bus"
MDEVS = "/sys/bus/mdev/devices"
DEFINITIONS = "/etc/mdevctl.d"

Progress = Callable[[str], None]
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_VIRTFN = re.compile(r"virtfn\d+")
_ATTRIBUTE = re.compile(r"[\w.-]+(?:/[\w.-]+)*")


def observe_slices(
    files: Files,
    functions: Mapping[str, Function],
    *,
    unreadable: frozenset[str] = frozenset(),
    progress: Progress = lambda _: None,
) -> Slices:
    sriov: dict[str, Sriov] = {}
    vgpus: dict[str, VgpuSlot] = {}
    for function in functions.values():
        if function.readable and function.physfn is None and not function.bridge:
            progress(function.address)
            found = _sriov(files, function.address)
            if found is not None:
                sriov[function.address] = found
        elif function.readable and function.physfn is not None:
            progress(function.address)
            slot = _vgpu(files, function.address)
            if slot is not None:
                vgpus[function.address] = slot
    types = tuple(
        kind
        for parent in sorted(names(files, PARENTS))
        for kind in _types(files, parent, unreadable, progress)
    )
    mdevs = {
        uuid.lower(): _mdev(files, uuid) for uuid in sorted(names(files, MDEVS)) if _UUID.fullmatch(uuid)
    }
    return Slices(
        sriov=sriov,
        types=types,
        mdevs=mdevs,
        definitions={found.uuid: found for found in _definitions(files)},
        vgpus=vgpus,
    )


def as_function(mdev: Mdev) -> Function:
    """For who has it open: a device on VFIO like any other, and called by its UUID."""
    return Function(
        address=mdev.uuid, vendor=0, device=0, class_code=0, group=mdev.group, on_vfio=True, readable=False
    )


def _sriov(files: Files, address: str) -> Sriov | None:
    folder = f"{DEVICES}/{address}"
    total = number(files, f"{folder}/sriov_totalvfs")
    if not total:
        return None
    return Sriov(
        address=address,
        total=total,
        count=sum(1 for name in names(files, folder) if _VIRTFN.fullmatch(name)),
        offset=number(files, f"{folder}/sriov_offset") or 0,
        stride=number(files, f"{folder}/sriov_stride") or 0,
    )


def _vgpu(files: Files, address: str) -> VgpuSlot | None:
    """NVIDIA's driver makes the folder on VFs whose vGPUs are no mediated devices (vGPU 17 and newer, Linux 6.8)."""
    folder = f"{DEVICES}/{address}/nvidia"
    current = number(files, f"{folder}/current_vgpu_type")
    if current is None:
        return None
    creatable = text(files, f"{folder}/creatable_vgpu_types") or ""
    return VgpuSlot(address=address, current=current, creatable=tuple(_vgpu_types(creatable)))


def _vgpu_types(table: str) -> Iterator[VgpuType]:
    """``1414 : NVIDIA H200X-1-18C`` a line; some releases have a line of titles above."""
    for line in table.splitlines():
        id_, colon, name = line.partition(":")
        word = to_number(id_.strip())
        if colon and word is not None:
            yield VgpuType(id=word, name=name.strip())


def _types(files: Files, parent: str, unreadable: frozenset[str], progress: Progress) -> Iterator[MdevType]:
    folder = f"{PARENTS}/{parent}/mdev_supported_types"
    for kind in sorted(names(files, folder)):
        if parent in unreadable:
            yield MdevType(parent=parent, id=kind)
            continue
        progress(parent)
        yield MdevType(
            parent=parent,
            id=kind,
            name=text(files, f"{folder}/{kind}/name") or "",
            description=text(files, f"{folder}/{kind}/description") or "",
            api=text(files, f"{folder}/{kind}/device_api") or "",
            available=number(files, f"{folder}/{kind}/available_instances"),
        )


def _mdev(files: Files, uuid: str) -> Mdev:
    """By links alone. Its folder is in its parent's."""
    try:
        parent = files.readlink(f"{MDEVS}/{uuid}").rstrip("/").rpartition("/")[0].rpartition("/")[2]
    except OSError:
        parent = ""
    return Mdev(
        uuid=uuid.lower(),
        parent=parent,
        type=link_name(files, f"{MDEVS}/{uuid}/mdev_type"),
        group=to_number(link_name(files, f"{MDEVS}/{uuid}/iommu_group")),
    )


def _definitions(files: Files) -> Iterator[MdevDefinition]:
    """mdevctl(8): PARENT/UUID with mdev_type, start (auto, manual) and attrs. What is no definition is left out."""
    for parent in sorted(names(files, DEFINITIONS)):
        for uuid in sorted(names(files, f"{DEFINITIONS}/{parent}")):
            if _UUID.fullmatch(uuid):
                found = _definition(text(files, f"{DEFINITIONS}/{parent}/{uuid}") or "", parent, uuid.lower())
                if found is not None:
                    yield found


def _definition(content: str, parent: str, uuid: str) -> MdevDefinition | None:
    try:
        value: Any = json.loads(content)
        attrs = tuple((str(k), str(v)) for one in value.get("attrs") or () for k, v in one.items())
        kind = value["mdev_type"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(kind, str) or not all(map(_is_inside, (kind, *(name for name, _ in attrs)))):
        return None
    return MdevDefinition(uuid=uuid, parent=parent, type=kind, auto=value.get("start") == "auto", attrs=attrs)


def _is_inside(path: str) -> bool:
    return _ATTRIBUTE.fullmatch(path) is not None and ".." not in path.split("/")
