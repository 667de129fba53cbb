"""Each display card of the host: what goes with it, whose screen is on it, by which driver it is left.

A group is what the IOMMU cannot tell apart, or cannot keep from reaching each other for want of ACS in the bridges
above (Documentation/driver-api/vfio.rst, Groups, Devices, and IOMMUs): VFIO gives all of it to one domain or none of
it. pcie_acs_override= is a patch that no Linux release has: it makes the kernel believe in ACS where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.decide.closure import companions, members
from hostlerd.model.checkup import Checkup
from hostlerd.model.devices import Function
from hostlerd.model.findings import Finding, unknown
from hostlerd.model.settings import Settings


def examine(checkup: Checkup, settings: Settings) -> Iterator[Finding]:
    functions = checkup.observed.functions.values()
    if not functions:
        yield unknown("cards", "which cards this host has", "there are no PCI functions to see")
    cards = [f for f in functions if f.is_display and f.physfn is None]
    bound = checkup.live or any(function.driver for function in functions)
    if cards and not bound:
        yield unknown("drivers", "which drivers the cards are on", "no function shows any")
    for card in cards:
        yield from _group(checkup, settings, card, others=len(cards) - 1)
        yield from _screen(checkup, settings, card, others=len(cards) - 1)
        if bound:
            yield from _driver(checkup, settings, card)


def label(checkup: Checkup, function: Function) -> str:
    name = checkup.names.get(function.address, "unknown")
    return function.address if name == "unknown" else f"{function.address} ({name})"


def _group(checkup: Checkup, settings: Settings, card: Function, *, others: int) -> Iterator[Finding]:
    functions, address = checkup.observed.functions, card.address
    if card.group is None:
        if checkup.iommu.groups:
            yield Finding(
                id=f"card.group:{address}",
                severity="note" if card.boot_vga and others else "warning",
                what=f"{label(checkup, card)} is in no IOMMU group",
                why="no domain can have it",
                do="where it is the integrated GPU, intel_iommu=on instead of its igfx_off",
                evidence=f"/sys/bus/pci/devices/{address}/iommu_group is not there",
            )
        return
    own = (address, *companions(functions, address))
    policy = settings.device(card)
    allowed = () if policy is None else policy.group
    shared = [a for a in members(functions, own) if a not in own]
    foreign = [functions[a] for a in shared if a not in allowed]
    evidence = f"IOMMU group {card.group}: {', '.join((*own, *shared))}"
    if not foreign:
        more = f" with {', '.join([*own[1:], *shared])}" if len(own) + len(shared) > 1 else ""
        yield Finding(
            id=f"card.group:{address}",
            severity="ok",
            what=f"{label(checkup, card)} can be given away{more or ' alone'}",
            evidence=evidence,
        )
        return
    told = ", ".join(f"{label(checkup, f)}, {f.driver or 'without driver'}" for f in foreign)
    listed = ", ".join(f'"{f.address}"' for f in foreign)
    yield Finding(
        id=f"card.group:{address}",
        # The screen of a host with other cards is as a rule not the one to be given away.
        severity="note" if card.boot_vga and others else "warning",
        what=f"{label(checkup, card)} shares its IOMMU group with: {told}",
        why="nothing keeps these from reaching each other's memory (the slot's bridge lacks ACS), so a domain "
        "gets all of them or none",
        do=f"put the card into a slot that hangs on the processor, or say group = [{listed}] in its [[device]] "
        "section if the host can spare these; pcie_acs_override only hides the sharing, it keeps nothing "
        "apart",
        evidence=evidence,
    )


def _screen(checkup: Checkup, settings: Settings, card: Function, *, others: int) -> Iterator[Finding]:
    boot = checkup.screens.get(card.address)
    if not card.boot_vga and boot is None:
        return
    parts: list[str] = []
    if boot is not None:
        parts.append(
            "hostler takes the boot framebuffer off before a domain gets the card, and puts it back afterwards"
        )
    if not others:
        parts.append("it is the only display: while a domain has it, the host has no screen")
    else:
        parts.append("another card is the easier one to give away")
    policy = settings.device(card)
    unit = policy is not None and any("display-manager" in unit for unit in policy.units)
    yield Finding(
        id=f"card.screen:{card.address}",
        severity="note",
        what=f"{label(checkup, card)} is the display that the firmware chose"
        if boot is None
        else f"{label(checkup, card)} has the boot framebuffer ({boot.driver}, {boot.device}) in its memory",
        why="; ".join(parts),
        do=""
        if others or unit
        else 'to give it away, say units = ["display-manager.service"] in its [[device]] section, and have another way '
        "into the host (ssh)",
        evidence=f"boot_vga: {int(card.boot_vga)}" + (f"; {boot.device} on {boot.driver}" if boot else ""),
    )


def _domain(checkup: Checkup, address: str) -> str:
    """Who has it, or is about to."""
    observed = checkup.observed
    having = [r.live for r in observed.snapshot.running] + [
        c.definition for c in observed.ledger.claims.values()
    ]
    return next((domain.name for domain in having if address in domain.pci_addresses), "")


def _driver(checkup: Checkup, settings: Settings, card: Function) -> Iterator[Finding]:
    id_, name = f"card.driver:{card.address}", label(checkup, card)
    evidence = f"/sys/bus/pci/devices/{card.address}/driver: {card.driver or 'none'}"
    policy = settings.device(card)
    if not card.readable or card.leaving:
        yield Finding(
            id=id_,
            severity="warning",
            what=f"{name} is not to be touched now",
            why="a driver's remove() waits, or a write to it did not return",
            do="`hostler status` says whom for",
            evidence=evidence,
        )
    elif card.on_vfio:
        whose = _domain(checkup, card.address)
        meant = whose or (policy is not None and policy.when_idle == "vfio")
        yield Finding(
            id=id_,
            severity="ok" if meant else "note",
            what=f"{name} is on {card.driver}" + (f", for {whose}" if whose else ""),
            why="" if meant else "no domain that is known has it, so something else keeps it from the host",
            evidence=evidence,
        )
    elif card.driver is None:
        yield Finding(
            id=id_,
            severity="note",
            what=f"{name} has no driver" + (" of its own" if card.address in checkup.screens else ""),
            why="the host has the firmware's picture on it and no more"
            if card.address in checkup.screens
            else "the host cannot use it; a domain can",
            evidence=evidence,
        )
    elif card.driver.startswith("nvidia") and (policy is None or policy.leave != "unbind"):
        yield Finding(
            id=id_,
            severity="note",
            what=f"{name} is on {card.driver}",
            why="its driver waits for ever when it is unbound while something has the card open, so hostler "
            "unloads its modules instead: nothing may use any card of NVIDIA's then",
            do='see who has it open with `hostler devices`; units = ["nvidia-persistenced.service"] in its [[device]] '
            "section stops that one",
            evidence=evidence,
        )
    else:
        yield Finding(id=id_, severity="ok", what=f"{name} is on {card.driver}", evidence=evidence)
