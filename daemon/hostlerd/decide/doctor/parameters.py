"""Words of the kernel command line that concern devices: what each does here, and which are better gone.

What can be said of CPUs is in `isolation`. Sources: Documentation/admin-guide/kernel-parameters.txt;
drivers/iommu/amd/init.c, parse_amd_iommu_options (there is no "on"); drivers/firmware/sysfb_simplefb.c (the
firmware's screen is a simple-framebuffer where the kernel is built with SYSFB_SIMPLEFB, and video=efifb:off then
names a driver that is not in use). Nothing here ever advises to switch a protection off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hostlerd.model.checkup import Checkup
from hostlerd.model.command_line import CommandLine, name_of
from hostlerd.model.devices import Function
from hostlerd.model.findings import Finding, Severity, unknown
from hostlerd.model.settings import Settings

CMDLINE = "/proc/cmdline"
KEEPERS = ("blacklist", "softdep", "install")
"""Commands of modprobe.d."""
INSTEAD = (
    'when_idle = "vfio" in a [[device]] section does it for one card, and can be taken back without a boot'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What there is to say about a word. `parts`: only where one of these is among its values; empty: always."""

    name: str
    what: str
    why: str = ""
    severity: Severity = "note"
    parts: tuple[str, ...] = ()
    drop: bool = False
    """It is better gone."""


WORDS = (
    Word(
        name="iommu",
        parts=("pt",),
        what="iommu=pt: the host's own devices are not translated",
        why="faster for some of them; what domains have is translated all the same",
    ),
    Word(
        name="amd_iommu",
        parts=("on",),
        what="amd_iommu=on means nothing",
        why="the kernel knows no such value, and AMD's IOMMU is on wherever the firmware has it on",
        drop=True,
    ),
    Word(
        name="intel_iommu",
        parts=("igfx_off", "intgpu_off"),
        what="the integrated GPU is not translated by the IOMMU",
        why="it cannot be given to a domain",
    ),
    Word(
        name="pcie_acs_override",
        severity="warning",
        what="pcie_acs_override= makes IOMMU groups look smaller than they are",
        why="devices that share a path can still reach each other's memory, and the host's through each other; "
        "a kernel without the patch overlooks the word",
        drop=True,
    ),
    *(
        Word(
            name="video",
            parts=(f"{driver}:off",),
            what=f"video={driver}:off is not needed",
            why="hostler takes the boot framebuffer off a card, whatever drives it, before a domain gets that; many "
            "kernels drive it by simpledrm now and overlook this word",
            drop=True,
        )
        for driver in ("efifb", "vesafb", "simplefb")
    ),
    Word(
        name="initcall_blacklist",
        parts=("sysfb_init",),
        what="initcall_blacklist=sysfb_init leaves the host without a boot screen",
        why="it is not needed: hostler takes the boot framebuffer off a card before a domain gets that",
        drop=True,
    ),
    Word(
        name="nomodeset",
        severity="warning",
        what="nomodeset keeps the display drivers from driving any card",
        why="the host has the firmware's picture and no more, and cards come home to no driver",
        drop=True,
    ),
    Word(
        name="pci",
        parts=("realloc", "realloc=on"),
        what="pci=realloc: the kernel may give bridges other windows than the firmware did",
        why="that is what a card with large BARs may need (bar = in its [[device]] section); where cards are "
        "missing, try without it",
    ),
    Word(
        name="pci",
        severity="warning",
        parts=("nomsi",),
        what="pci=nomsi takes MSIs from all devices",
        why="guests get slow shared interrupts, and many a card's driver fails",
        drop=True,
    ),
    Word(
        name="mitigations",
        parts=("off",),
        what="mitigations=off: the processor's holes are open, also between domains and the host",
        why="that is your choice; nothing here needs it",
    ),
)


def examine(checkup: Checkup, settings: Settings) -> Iterator[Finding]:
    line = checkup.boot.command_line
    if line is None:
        yield unknown("command-line", "what the kernel was booted with", f"{CMDLINE} is not there to be read")
    else:
        yield from (_finding(word, written) for word, written in _there(line))
        if checkup.processor.vendor == "amd" and line.written("intel_iommu"):
            yield Finding(
                id="parameter.intel_iommu",
                severity="note",
                what="intel_iommu= means nothing on a processor of AMD's",
                do="take it off",
                evidence=f"{CMDLINE}: {' '.join(line.written('intel_iommu'))}",
            )
    yield from _taken(checkup, settings)
    yield from _kept_away(checkup)


def needless(checkup: Checkup) -> tuple[str, ...]:
    """The words that are better gone, as they stand there."""
    line = checkup.boot.command_line
    if line is None:
        return ()
    found = [written for word, written in _there(line) if word.drop]
    if checkup.processor.vendor == "amd":
        found += line.written("intel_iommu")
    return tuple(dict.fromkeys((*found, *_ids(line))))


def _there(line: CommandLine) -> Iterator[tuple[Word, str]]:
    for word in WORDS:
        for written in line.written(word.name):
            parts = written.replace('"', "").partition("=")[2].split(",")
            if not word.parts or set(word.parts) & set(parts):
                yield word, written


def _finding(word: Word, written: str) -> Finding:
    value = word.parts[0].partition(":")[0] if word.parts else ""
    return Finding(
        id="parameter." + "-".join(filter(None, (word.name, value))).replace("=", "-"),
        severity=word.severity,
        what=word.what,
        why=word.why,
        do=f"take {written} off the kernel command line" if word.drop else "",
        evidence=f"{CMDLINE}: {written}",
    )


def _ids(line: CommandLine) -> tuple[str, ...]:
    """vfio-pci.ids=, for a vfio-pci that is built in or loaded in the initial ramdisk."""
    return line.written("vfio-pci.ids")


def _taken(checkup: Checkup, settings: Settings) -> Iterator[Finding]:
    """Cards that are kept from the host for good: by ids, which take every card of a model, or by driverctl."""
    line = checkup.boot.command_line
    sources = [(CMDLINE, word) for word in (() if line is None else _ids(line))]
    sources += [(file, text) for file, text in checkup.modules.options if "ids=" in text]
    for file, text in sources:
        taken = [f for f in checkup.observed.functions.values() if _named(f, text)]
        meant = taken and all(_idle_on_vfio(settings, f) for f in taken if f.is_display)
        yield Finding(
            id=f"vfio-ids:{file}",
            severity="note" if meant else "warning",
            what=f"{text} takes {_listed(taken)} from the host at every boot",
            why="the host cannot use them while no domain runs, and every card of such a model is meant",
            do=f"take it "
            f"{'off the kernel command line' if file == CMDLINE else 'out, and make the initial ramdisk anew'}; "
            + INSTEAD,
            evidence=f"{file}: {text}",
        )
    for file, text in checkup.modules.options:
        if "driver_override" in text:
            yield Finding(
                id=f"udev:{file}",
                severity="warning",
                what=f"{file} gives cards to VFIO at every boot",
                why="the host cannot use them while no domain runs",
                do=f"take the rule out; {INSTEAD}",
                evidence=f"{file}: {text}",
            )
    for address, driver in sorted(checkup.rivals.driverctl.items()):
        if "vfio" not in driver:
            continue
        yield Finding(
            id=f"driverctl:{address}",
            severity="warning",
            what=f"driverctl gives {address} to {driver} at every boot",
            why="the host cannot use it while no domain runs",
            do=f"driverctl unset-override {address}; {INSTEAD}",
            evidence=f"/etc/driverctl.d: {address} {driver}",
        )


def _named(function: Function, text: str) -> bool:
    """vendor:device[:...], several after commas."""
    ids = text.partition("ids=")[2].split()[0] if text.partition("ids=")[2].split() else ""
    wanted = f"{function.vendor:04x}:{function.device:04x}"
    return any(":".join(one.lower().split(":")[:2]) == wanted for one in ids.strip('"').split(","))


def _idle_on_vfio(settings: Settings, function: Function) -> bool:
    policy = settings.device(function)
    return policy is not None and policy.when_idle == "vfio"


def _listed(functions: list[Function]) -> str:
    return ", ".join(f.address for f in functions) or "no device that is here"


def _kept_away(checkup: Checkup) -> Iterator[Finding]:
    """Drivers of cards that may not be loaded: blacklisted, or after vfio-pci."""
    line = checkup.boot.command_line
    drivers = frozenset({"nouveau", "nvidia", "amdgpu", "radeon", "i915", "xe"})
    told = [
        (file, text)
        for file, text in checkup.modules.options
        if text.split()[0] in KEEPERS and "ids=" not in text
    ]
    for word in () if line is None else line.words:
        name = name_of(word)
        if name in ("modprobe.blacklist", "module_blacklist") and drivers & set(
            word.partition("=")[2].split(",")
        ):
            told.append((CMDLINE, word))
        if name == "rd.driver.pre" and "vfio" in word:
            told.append((CMDLINE, word))
    if told:
        yield Finding(
            id="kept-drivers",
            severity="note",
            what="drivers of cards are kept away: " + "; ".join(dict.fromkeys(text for _, text in told)),
            why="a card that no driver may take is of no use to the host while no domain has it; hostler needs "
            "none of this",
            do="keep it only where the driver itself is the trouble (nouveau beside NVIDIA's own)",
            evidence="; ".join(dict.fromkeys(f"{file}: {text}" for file, text in told)),
        )
