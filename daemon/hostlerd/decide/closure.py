"""What belongs to a device: its companions and the rest of its IOMMU group.

Pure. A *companion* always goes where its function goes; a *member* of the group goes only where policy lets it, because
it may be somebody's network card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostlerd.model.devices import COMPANION_CLASSES, Function

HARMLESS_DRIVERS = frozenset({"pci-stub", "pcieport"})
"""Drivers that leave a group viable (driver_managed_dma in the kernel's drivers/pci)."""


def companions(functions: Mapping[str, Function], address: str) -> tuple[str, ...]:
    """The other functions of the same slot that go with `address`, in order.

    Those in its own IOMMU group, and a display card's audio, USB and UCSI functions in any group. A VF and its PF, or
    two
    VFs, share a slot number by accident and are never companions.
    """
    own = functions.get(address)
    if own is None or own.physfn is not None:
        return ()
    return tuple(
        other.address
        for other in sorted(functions.values(), key=lambda function: function.address)
        if other.address != address
        and other.slot == own.slot
        and other.is_endpoint
        and other.physfn is None
        and (
            (own.group is not None and other.group == own.group)
            or (own.is_display and other.sub_class in COMPANION_CLASSES)
        )
    )


def virtual_functions(functions: Mapping[str, Function], address: str) -> tuple[str, ...]:
    """The VFs of a PF. While it has any, vfio-pci refuses it (vfio_pci_core_register_device), and many a driver's
    remove() takes them away, also from guests.
    """
    return tuple(sorted(f.address for f in functions.values() if f.physfn == address))


def members(functions: Mapping[str, Function], addresses: Iterable[str]) -> tuple[str, ...]:
    """The endpoints that share an IOMMU group with any of `addresses` and are not among them; bridges do not count."""
    own = frozenset(addresses)
    groups = {functions[a].group for a in own if a in functions} - {None}
    return tuple(
        sorted(
            f.address
            for f in functions.values()
            if f.group in groups and f.address not in own and f.is_endpoint
        )
    )


def leaves_group_viable(function: Function) -> bool:
    """VFIO accepts the group although this member is not taken (vfio_dev_viable, drivers/vfio)."""
    return function.on_vfio or function.driver is None or function.driver in HARMLESS_DRIVERS
