"""`hostler devices`: functions with their owner, companions, the others of their IOMMU group, and holders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hostlerd.model.devices import Function
from hostlerd.model.holders import Grip, Holder
from hostlerd.model.plan import Owner
from hostlerd.model.slices import Slices
from hostlerd.report.slices import other_parents, slices_json, sriov_json

Json = dict[str, Any]
HOST = Owner(kind="host")
NOTHING: Mapping[str, Grip] = {}
NO_SLICES = Slices()
NOT_PCI = (
    *("vendor", "device", "class", "driver", "iommu_group", "numa_node", "path", "slot", "serial"),
    *("physfn", "sriov"),
)
"""What only a PCI function has."""


def devices_json(
    functions: Mapping[str, Function],
    *,
    owners: Mapping[str, Owner],
    names: Mapping[str, str],
    companions: Callable[[str], Sequence[str]],
    holders: Iterable[Holder],
    grips: Mapping[str, Grip] = NOTHING,
    slices: Slices = NO_SLICES,
) -> list[Json]:
    """One object a function, by address. Ids are text as sysfs has it; null where it is not known.

    `busy`: sentences about what keeps it busy and is no process; of functions without a grip there are none.

    `sriov`, `slices`: see report.slices. What has slices and is no PCI function comes last, its name for an address.
    """
    held: dict[str, list[Json]] = {}
    for holder in holders:
        held.setdefault(holder.address, []).append(_holder(holder))
    # A file on one card is a reference to the module of all that the driver has.
    open_drivers = {functions[address].driver for address in held if address in functions}
    members: dict[int, list[str]] = {}
    for function in functions.values():
        if function.group is not None:
            members.setdefault(function.group, []).append(function.address)
    return [
        {
            "address": function.address,
            "name": names.get(function.address, ""),
            "vendor": _hex(function, function.vendor, 4),
            "device": _hex(function, function.device, 4),
            "class": _hex(function, function.class_code, 6),
            "driver": function.driver,
            "iommu_group": function.group,
            "group": [a for a in _of(members, function) if a != function.address],
            "companions": list(companions(function.address)),
            "numa_node": function.numa_node,
            "boot_vga": function.boot_vga,
            "path": function.path,
            "slot": function.slot_label,
            "serial": function.serial,
            "owner": _owner(owners.get(function.address, HOST)),
            "holders": held.get(function.address, []),
            "busy": _busy(grips.get(function.address), explained=function.driver in open_drivers),
            "physfn": function.physfn,
            "sriov": sriov_json(function.address, slices, functions),
            "slices": slices_json(function.address, slices, functions, owners),
        }
        for function in functions.values()
    ] + [
        {
            **dict.fromkeys(NOT_PCI),
            "address": parent,
            "name": parent,
            "group": [],
            "companions": [],
            "boot_vga": False,
            "owner": _owner(HOST),
            "holders": [],
            "busy": [],
            "slices": slices_json(parent, slices, functions, owners),
        }
        for parent in other_parents(slices, functions)
    ]


def _busy(grip: Grip | None, *, explained: bool) -> list[str]:
    return [] if grip is None else list(grip.told(explained=explained))


def _of(members: Mapping[int, list[str]], function: Function) -> list[str]:
    return [] if function.group is None else members[function.group]


def _hex(function: Function, value: int, digits: int) -> str | None:
    return f"0x{value:0{digits}x}" if function.readable and value else None


def _owner(owner: Owner) -> Json:
    return {"kind": owner.kind, "who": owner.who or None}


def _holder(holder: Holder) -> Json:
    return {
        "pid": holder.pid,
        "command": holder.command,
        "user": holder.user,
        "unit": holder.unit,
        "container": holder.container,
        "node": holder.node,
        "session": holder.session,
        "engine": holder.engine,
        "container_name": holder.container_name,
        "how": holder.how,
    }
