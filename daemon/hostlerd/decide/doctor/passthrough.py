"""What giving a device away needs: virtualisation, an IOMMU, remapped interrupts, VFIO.

Sources. Intel's IOMMU is off unless intel_iommu=on or CONFIG_INTEL_IOMMU_DEFAULT_ON says otherwise
(drivers/iommu/intel/ Kconfig; Debian has a third choice, "but not for the integrated GPU", bug 935270); AMD's is on
wherever the firmware describes one (drivers/iommu/amd/init.c, amd_iommu_detect). VFIO takes no group without isolated
MSIs unless it is told to do without (vfio_iommu_type1.c, vfio_iommu_type1_attach_group).
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.model.checkup import Checkup
from hostlerd.model.command_line import CommandLine
from hostlerd.model.findings import Finding, unknown

FIRMWARE = {
    "intel": ('"VT-d" or "Intel VT for Directed I/O"', '"Intel Virtualization Technology (VMX)"'),
    "amd": ('"IOMMU" (Enabled, as Auto is often off; often under AMD CBS, NBIO)', '"SVM Mode"'),
}
"""What the firmware's menus call the IOMMU and the processor's virtualisation."""
TABLE = {"intel": "DMAR", "amd": "IVRS"}
OFF = (("intel_iommu", "off"), ("amd_iommu", "off"), ("iommu", "off"))


def examine(checkup: Checkup) -> Iterator[Finding]:
    yield from _kvm(checkup)
    yield from _iommu(checkup)
    yield from _remapping(checkup)
    yield from _vfio(checkup)


def switched_off(line: CommandLine | None) -> tuple[str, ...]:
    """The words that switch the IOMMU off."""
    if line is None:
        return ()
    return tuple(
        word for name, part in OFF for word in line.written(name) if part in word.partition("=")[2].split(",")
    )


def needs_intel_iommu(checkup: Checkup) -> bool:
    """The kernel has to be told: an Intel host without groups whose kernel is not known to have it on by itself."""
    line, config = checkup.boot.command_line, checkup.boot.config
    return (
        checkup.processor.vendor == "intel"
        and checkup.iommu.groups == 0
        and not (line is not None and line.has("intel_iommu", "on"))
        and not (config is not None and config.get("CONFIG_INTEL_IOMMU_DEFAULT_ON") == "y")
    )


def _kvm(checkup: Checkup) -> Iterator[Finding]:
    processor = checkup.processor
    switch = FIRMWARE.get(processor.vendor or "", ("", "virtualisation"))[1]
    evidence = f"/proc/cpuinfo: {'' if processor.virtual else 'neither '}vmx or svm among the flags".replace(
        "neither vmx or", "neither vmx nor"
    )
    if processor.virtual is None or processor.vendor not in FIRMWARE:
        if processor.kvm:
            yield Finding(id="kvm", severity="ok", what="KVM is there", evidence="/dev/kvm")
        else:
            yield unknown("kvm", "whether the processor can run guests", "no flags of vmx or svm were found")
    elif not processor.virtual:
        snapshot = checkup.observed.snapshot
        every = [r.live for r in snapshot.running] + list(snapshot.inactive)
        yield Finding(
            id="kvm",
            severity="broken" if any(domain.type == "kvm" for domain in every) else "warning",
            what="the processor's virtualisation is off",
            why="domains of type kvm do not start; others are emulated, a hundred times slower",
            do=f"switch {switch} on in the firmware's setup",
            evidence=evidence,
        )
    elif processor.kvm is False:
        yield Finding(
            id="kvm",
            severity="broken",
            what="/dev/kvm is missing, though the processor can",
            why="domains of type kvm do not start",
            do=f"load kvm_{processor.vendor}; where that fails, switch {switch} on in the firmware's setup",
            evidence=evidence,
        )
    else:
        yield Finding(
            id="kvm",
            severity="ok",
            what="KVM is there" if processor.kvm else "the processor can run guests",
            evidence=evidence,
        )


def _iommu(checkup: Checkup) -> Iterator[Finding]:
    iommu = checkup.iommu
    if iommu.groups is None or (iommu.groups == 0 and not checkup.observed.functions and not checkup.live):
        yield unknown("iommu", "whether the IOMMU is on", "/sys/kernel/iommu_groups is not there to be read")
        return
    units = ", ".join(sorted(iommu.units or ())) or "no unit"
    evidence = f"/sys/kernel/iommu_groups: {iommu.groups} groups; /sys/class/iommu: {units}"
    if iommu.groups:
        yield Finding(
            id="iommu",
            severity="ok",
            what=f"the IOMMU is on: {iommu.groups} groups",
            why="iommu=pt is a matter of taste: some of the host's own devices are faster, and none is kept in bounds",
            evidence=evidence,
        )
        return
    do, more = _how_on(checkup)
    yield Finding(
        id="iommu",
        severity="broken",
        what="the IOMMU is off",
        why="without it no device can be given to a domain: it could reach all of the host's memory",
        do=do,
        evidence="; ".join((evidence, *more)),
    )


def _how_on(checkup: Checkup) -> tuple[str, list[str]]:
    """What to do about an IOMMU that is off, and more evidence."""
    vendor, tables, line = checkup.processor.vendor, checkup.iommu.tables, checkup.boot.command_line
    off = switched_off(line)
    if off:
        return f"take {' '.join(off)} off the kernel command line", [f"/proc/cmdline: {' '.join(off)}"]
    if vendor is None or vendor not in FIRMWARE:
        return "switch the IOMMU on in the firmware's setup", []
    switch = f"switch {FIRMWARE[vendor][0]} on in the firmware's setup"
    table = TABLE[vendor]
    word = "boot with intel_iommu=on" if needs_intel_iommu(checkup) else ""
    if tables is None:
        return " and ".join(filter(None, (switch, word))), []
    if table not in tables:
        seen = [f"/sys/firmware/acpi/tables: no {table}, so the firmware shows no IOMMU"]
        return switch + (f"; then {word}" if word else ""), seen
    seen = [f"/sys/firmware/acpi/tables: {table}"]
    names = "DMAR" if vendor == "intel" else "AMD-Vi"
    return word or f"look in the kernel's log why: dmesg | grep -e {names} -e IOMMU", seen


def _remapping(checkup: Checkup) -> Iterator[Finding]:
    iommu = checkup.iommu
    if not iommu.groups or checkup.processor.vendor == "other":
        return
    file = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
    if iommu.remaps is None:
        yield unknown(
            "interrupt-remapping", "whether interrupts are remapped", "/proc/interrupts does not say"
        )
    elif iommu.remaps:
        yield Finding(
            id="interrupt-remapping",
            severity="ok",
            what="interrupts are remapped",
            evidence='/proc/interrupts: chips called "IR-..."',
        )
    else:
        yield Finding(
            id="interrupt-remapping",
            severity="warning" if iommu.unsafe else "broken",
            what="interrupts are not remapped",
            why="VFIO was told to do without: a guest's device can raise any interrupt of the host"
            if iommu.unsafe
            else "VFIO gives no device to a domain then (allow_unsafe_interrupts would, and opens the host to "
            "its guests)",
            do="take intremap=off or nointremap off the kernel command line, update the firmware, and switch "
            "x2APIC on in its setup",
            evidence='/proc/interrupts: no chip called "IR-..."' + (f"; {file}: Y" if iommu.unsafe else ""),
        )
    if iommu.unsafe and iommu.remaps:
        yield Finding(
            id="unsafe-interrupts",
            severity="warning",
            what="VFIO may do without interrupt remapping, which this host has",
            why="it gains nothing and drops a protection should remapping ever be off",
            do="take allow_unsafe_interrupts out of /etc/modprobe.d and off the kernel command line",
            evidence=f"{file}: Y",
        )


def _vfio(checkup: Checkup) -> Iterator[Finding]:
    modules, release = checkup.modules, checkup.boot.release
    if checkup.live and modules.folder is False:
        yield Finding(
            id="modules",
            severity="warning" if modules.vfio_pci == "loaded" else "broken",
            what=f"the modules of the running kernel {release} are gone",
            why="no driver can be loaded any more, neither VFIO's nor the card's own: the kernel was updated",
            do="reboot into the new kernel",
            evidence=f"/lib/modules/{release} is not there",
        )
        if modules.vfio_pci is None:
            return
    if modules.vfio_pci is None:
        yield unknown(
            "vfio", "whether vfio-pci can be loaded", "it is not loaded, and there is no modules.dep to read"
        )
    elif modules.vfio_pci == "absent":
        yield Finding(
            id="vfio",
            severity="broken",
            what="this kernel has no vfio-pci",
            why="it is the driver by which a domain gets a device",
            do="install the rest of the kernel's modules (linux-modules-extra-... on Ubuntu), or a kernel with "
            "CONFIG_VFIO_PCI",
            evidence=f"/lib/modules/{release}/modules.dep: no vfio-pci.ko",
        )
    else:
        how = "loaded" if modules.vfio_pci == "loaded" else "there, and loaded when it is needed"
        yield Finding(
            id="vfio", severity="ok", what=f"vfio-pci is {how}", evidence="/sys/bus/pci/drivers, modules.dep"
        )
