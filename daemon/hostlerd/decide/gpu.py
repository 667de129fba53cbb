"""Which of a domain's hostdevs are its GPU, and what a device is meant by a word of the user's.

Pure. What class a PCI function has only the host knows. Of one that is not there it may be remembered; where it is not,
it counts as the GPU of a domain that has no other one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hostlerd.decide.closure import companions
from hostlerd.model.devices import Function
from hostlerd.model.domains import Definition, Gpu
from hostlerd.model.edits import SliceChoice
from hostlerd.model.identity import Known
from hostlerd.model.settings import Settings
from hostlerd.model.slices import Slices

NOTHING: Mapping[str, Known] = MappingProxyType({})


def gpu_addresses(
    definition: Definition, functions: Mapping[str, Function], known: Mapping[str, Known] = NOTHING
) -> tuple[str, ...]:
    """The PCI hostdevs that are the domain's GPU: display functions, what is in their slots, and what is missing."""
    if definition.gpu is not Gpu.PASSTHROUGH:
        return ()  # what it has, it has as network interface or disk
    asked = definition.pci_addresses
    missing = [a for a in asked if a not in functions]
    cards = [a for a in asked if a in functions and functions[a].is_display]
    cards += [a for a in missing if a in known and known[a].is_display]
    if not cards:
        cards = [a for a in missing if a not in known]
    slots = {_slot(address) for address in cards}
    return tuple(address for address in asked if _slot(address) in slots)


def _slot(address: str) -> str:
    return address.rpartition(".")[0]


def summary(
    definition: Definition, functions: Mapping[str, Function], known: Mapping[str, Known] = NOTHING
) -> str:
    """How it has its GPU, for people: ``passthrough 0000:01:00.0 0000:01:00.1``."""
    mdevs = [h.uuid for h in definition.hostdevs if h.kind == "mdev" and h.uuid is not None]
    cards = gpu_addresses(definition, functions, known)
    if cards:
        return " ".join((Gpu.PASSTHROUGH, *cards))
    if mdevs and definition.gpu is Gpu.SLICE:
        return " ".join((Gpu.SLICE, *mdevs))
    return definition.gpu if definition.gpu is not Gpu.PASSTHROUGH else Gpu.NONE


def find_device(
    word: str, functions: Mapping[str, Function], names: Mapping[str, str], settings: Settings
) -> list[str]:
    """The functions meant by an address, a `[[device]]` section's name, or a part of a display card's name."""
    if word in functions:
        return [word]
    named = [
        f.address
        for f in functions.values()
        if f.is_endpoint and (policy := settings.device(f)) is not None and policy.name == word
    ]
    cards = [a for a in named if functions[a].is_display]
    if named:
        return cards or named
    return [
        f.address
        for f in functions.values()
        if f.is_display and f.is_endpoint and word.lower() in names.get(f.address, "").lower()
    ]


def whole_card(address: str, functions: Mapping[str, Function], settings: Settings) -> tuple[str, ...]:
    """The function and its companions as far as policy lets them go with it, function 0 first."""
    policy = settings.device(functions[address])
    alone = policy is not None and policy.companions == "none"
    return tuple(sorted((address, *(() if alone else companions(functions, address)))))


def find_slice(
    word: str, uuid: str, functions: Mapping[str, Function], taken: frozenset[str], slices: Slices
) -> SliceChoice | str:
    """``TYPE`` or ``TYPE@PARENT`` of a mediated device; ``vf:PF`` or a PF's address for a free virtual function, of
    those that are there, else of those that are made when the domain starts.

    A sentence that says why there is none. Whether an instance is left is judged at each start.
    """
    pf = word.removeprefix("vf:")
    if word.startswith("vf:") or pf in functions:
        if pf not in functions:
            return f"there is no PCI function {pf} on this host"
        vfs = [f.address for f in functions.values() if f.physfn == pf]
        sriov = slices.sriov.get(pf)
        could = sriov.addresses if sriov is not None and not vfs else ()
        if not vfs and sriov is None:
            return f"{pf} cannot have virtual functions"
        free = [address for address in (*sorted(vfs), *could) if address not in taken]
        if not free:
            return f"{pf} has {len(vfs) or len(could)} virtual functions, and none is free"
        return SliceChoice(vf=free[0], parent=pf)
    kind, _, parent = word.partition("@")
    offered = [t for t in slices.types if parent in ("", t.parent)]
    found = next((t for t in offered if t.is_called(kind)), None)
    if found is None:
        known = ", ".join(sorted({t.id for t in offered})) or "nothing"
        who = f"{parent} cannot" if parent else "no device of this host can"
        return f"{who} be cut into {kind!r}; there is {known}"
    return SliceChoice(uuid=uuid, type=found.id, parent=parent or None)
