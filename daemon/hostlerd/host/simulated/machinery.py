"""What a host shows of its processor, firmware, boot and packages, and nobody writes: /proc/cpuinfo, ACPI tables,
modules.

Documentation/ABI/testing/sysfs-firmware-acpi; a table is there, its bytes are not. Interrupts are remapped where the
IOMMU is on, which the names of their chips begin with (arch/x86/kernel/apic/msi.c, "IR-PCI-MSI").
"""

from __future__ import annotations

from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import CpuSet

HOOK = "/etc/libvirt/hooks/qemu.d/hostler"
_FLAGS = {"AuthenticAMD": "svm", "GenuineIntel": "vmx"}
_TABLES = {"AuthenticAMD": "IVRS", "GenuineIntel": "DMAR"}


def show(tree: Tree, *, vendor: str, release: str, cpus: CpuSet, iommu: bool) -> None:
    """A Debian that GRUB has booted, with libvirt and hostler installed."""
    tree.put(
        "/proc/cpuinfo",
        "".join(
            f"processor\t: {cpu}\nvendor_id\t: {vendor}\nflags\t\t: fpu {_FLAGS[vendor]}\n\n"
            for cpu in sorted(cpus)
        ),
    )
    tree.put("/dev/kvm", "")
    tree.folder("/sys/firmware/acpi/tables")
    if iommu:  # else it is off in the firmware's setup, and the table is not there
        tree.put(f"/sys/firmware/acpi/tables/{_TABLES[vendor]}", None)
    if not tree.exists("/proc/interrupts"):
        chip = "IR-PCI-MSI" if iommu else "PCI-MSI"
        tree.put("/proc/interrupts", f"            CPU0\n  24:          1  {chip} 524288-edge      nvme0q0\n")
    tree.put(f"/lib/modules/{release}/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko:\n")
    tree.put("/etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n')
    tree.put("/usr/sbin/update-grub", "")
    tree.put("/boot/grub/grub.cfg", "")
    tree.put("/proc/1/comm", "systemd\n")
    tree.put(HOOK, "#!/bin/sh\n")
