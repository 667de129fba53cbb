"""What a device that is given away needs of the processor, the IOMMU and the kernel's modules.

Sources: /sys/class/iommu (Documentation/ABI/testing/sysfs-class-iommu), /sys/firmware/acpi/tables
(sysfs-firmware-acpi). Interrupts that are remapped have chips whose names begin with "IR-" in /proc/interrupts, on
Intel and AMD alike (drivers/iommu/{intel/irq_remapping,amd/iommu}.c, arch/x86/kernel/apic/io_apic.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from hostlerd.model.checkup import Iommu, Modules, Processor, Vendor
from hostlerd.observe.checkup.careful import Careful
from hostlerd.observe.pci import DRIVERS, GROUPS

TABLES = frozenset({"DMAR", "IVRS", "IORT", "VIOT"})
"""Of Intel's IOMMU, AMD's, Arm's, and a virtual one."""
UNITS = "/sys/class/iommu"
MODPROBE, UDEV = "/etc/modprobe.d", "/etc/udev/rules.d"
IDS = "/sys/module/vfio_pci/parameters/ids"

_VENDORS: dict[str, Vendor] = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "amd"}
_VENDOR = re.compile(r"^vendor_id\s*:\s*(\S+)", re.MULTILINE)
_FLAGS = re.compile(r"^flags\s*:(.*)$", re.MULTILINE)
_OVERRIDES = re.compile(r"[^#].*\bdriver_override\b.*vfio.*")
_OURS = re.compile(
    r"(options\s+vfio[-_]pci\b.*\bids=.*"
    r"|options\s+vfio_iommu_type1\b.*\ballow_unsafe_interrupts=.*"
    r"|install\s+vfio[-_]pci\b.*"
    r"|softdep\s+\S+\s+pre:.*\bvfio[-_]pci\b.*"
    r"|blacklist\s+(nouveau|nvidia\w*|amdgpu|radeon|i915|xe)\b.*)"
)


def observe_processor(careful: Careful) -> Processor:
    about = careful.text("/proc/cpuinfo") or ""
    vendor, flags = _VENDOR.search(about), _FLAGS.search(about)
    return Processor(
        vendor=None if vendor is None else _VENDORS.get(vendor[1], "other"),
        virtual=None if flags is None else bool({"vmx", "svm"} & set(flags[1].split())),
        kvm=careful.files.exists("/dev/kvm") or (False if careful.live else None),
    )


def observe_iommu(careful: Careful) -> Iommu:
    groups, units = careful.names(GROUPS), careful.names(UNITS)
    tables = careful.names("/sys/firmware/acpi/tables")
    unsafe = careful.text("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts")
    return Iommu(
        groups=None if groups is None else len(groups),
        units=None if units is None else frozenset(units),
        tables=None if not tables else TABLES.intersection(tables),
        remaps=_remaps(careful.text("/proc/interrupts")),
        unsafe=unsafe == "Y",
    )


def _remaps(interrupts: str | None) -> bool | None:
    """None where no interrupt says it: no file, another architecture, a machine without MSIs and IO-APIC."""
    chips = re.findall(r"\s(IR-)?(?:PCI-MSI|IO-APIC|HPET-MSI)", interrupts or "")
    return any(chips) if chips else None


def observe_modules(careful: Careful, release: str) -> Modules:
    folder = careful.exists(f"/lib/modules/{release}") if release else None
    return Modules(
        folder=folder,
        vfio_pci=_vfio_pci(careful, release),
        options=tuple(_options(careful)),
    )


def _vfio_pci(careful: Careful, release: str) -> Literal["loaded", "loadable", "absent"] | None:
    if careful.files.exists(f"{DRIVERS}/vfio-pci"):
        return "loaded"
    known = False
    for name in ("modules.dep", "modules.builtin"):
        try:
            found = careful.files.lines_with(f"/lib/modules/{release}/{name}", ["/vfio-pci.ko"])
        except OSError:
            continue
        if found:
            return "loadable"
        known = known or name == "modules.dep"
    return "absent" if known else None


def _options(careful: Careful) -> list[tuple[str, str]]:
    """modprobe.d(5) and udev(7): one command or rule a line, # begins a comment.

    What vfio_pci itself was given (in an initial ramdisk, say) counts where no file says it.
    """
    found = [
        *_lines(careful, MODPROBE, ".conf", _OURS),
        *_lines(careful, UDEV, ".rules", _OVERRIDES),
    ]
    given = careful.text(IDS)
    if given and not any("ids=" in text for _, text in found):
        found.append((IDS, f"ids={given}"))
    return found


def _lines(careful: Careful, folder: str, ending: str, wanted: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """(file, line): the lines that are `wanted` of the files in a folder."""
    for name in careful.names(folder) or ():
        if name.endswith(ending):
            for line in (careful.text(f"{folder}/{name}") or "").splitlines():
                if wanted.fullmatch(line.strip()):
                    yield f"{folder}/{name}", line.strip()
