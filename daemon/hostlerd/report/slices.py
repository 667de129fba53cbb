"""What devices are cut into and could be: of each parent for `hostler devices`, of each domain for `domains`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hostlerd.model.devices import Function
from hostlerd.model.domains import Definition
from hostlerd.model.plan import Owner
from hostlerd.model.slices import Slices

Json = dict[str, Any]


def sriov_json(address: str, slices: Slices, functions: Mapping[str, Function]) -> Json | None:
    """`vfs`: the addresses of those that are there."""
    found = slices.sriov.get(address)
    if found is None:
        return None
    vfs = [function.address for function in functions.values() if function.physfn == address]
    return {"total": found.total, "count": found.count, "vfs": vfs}


def slices_json(
    parent: str, slices: Slices, functions: Mapping[str, Function], owners: Mapping[str, Owner]
) -> Json | None:
    """Types with how many more of each could be made now, and who has those there are; null where it has none.

    Types share what the parent has: making one may leave fewer of all. Of NVIDIA's VFs `available` counts those that
    could be given the type, each by itself.
    """
    types = [
        {"type": t.id, "name": t.name or t.id, "description": t.description, "available": t.available}
        for t in slices.types
        if t.parent == parent
    ]
    instances: list[Json] = [
        {"uuid": m.uuid, "address": None, "type": m.type, "domain": _domain(m.uuid, owners)}
        for m in slices.mdevs.values()
        if m.parent == parent
    ]
    slots = [
        slot
        for slot in slices.vgpus.values()
        if slot.address in functions and functions[slot.address].physfn == parent
    ]
    kinds = {kind.id: kind.name for slot in slots for kind in slot.creatable}
    types += [
        {
            "type": str(number),
            "name": name,
            "description": "",
            "available": sum(1 for slot in slots for kind in slot.creatable if kind.id == number),
        }
        for number, name in sorted(kinds.items())
    ]
    instances += [
        {
            "uuid": None,
            "address": slot.address,
            "type": str(slot.current),
            "domain": _domain(slot.address, owners),
        }
        for slot in slots
        if slot.current
    ]
    return {"types": types, "instances": instances} if types or instances else None


def _domain(thing: str, owners: Mapping[str, Owner]) -> str | None:
    owner = owners.get(thing)
    return owner.who if owner is not None and owner.kind == "domain" else None


def other_parents(slices: Slices, functions: Mapping[str, Function]) -> list[str]:
    """Those that are no PCI functions: the kernel's samples, a mainframe's channels."""
    found = {*(t.parent for t in slices.types), *(m.parent for m in slices.mdevs.values())}
    return sorted(found - {""} - functions.keys())


def slices_of_domain(definition: Definition, slices: Slices, functions: Mapping[str, Function]) -> list[Json]:
    """Those its hostdevs name: as they are now, else as its metadata or mdevctl has them."""
    specs = {spec.uuid or spec.vf: spec for spec in definition.slices}
    found: list[Json] = []
    for uuid in definition.mdev_uuids:
        said = slices.mdevs.get(uuid) or specs.get(uuid) or slices.definitions.get(uuid)
        found.append(
            {
                "uuid": uuid,
                "address": None,
                "type": said.type if said is not None else None,
                "parent": said.parent if said is not None else None,
            }
        )
    for address in definition.pci_addresses:
        function, spec, slot = functions.get(address), specs.get(address), slices.vgpus.get(address)
        place = slices.parent_of_vf(address) if function is None else None
        parent = (function.physfn if function is not None else None) or (place[0].address if place else None)
        if parent is None and spec is None:
            continue
        current = str(slot.current) if slot is not None and slot.current else None
        found.append(
            {
                "uuid": None,
                "address": address,
                "type": current or (spec.type if spec else None),
                "parent": parent or (spec.parent if spec else None),
            }
        )
    return found
