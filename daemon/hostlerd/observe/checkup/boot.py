"""How this kernel was booted and built, and what tells the boot loader.

The Boot Loader Interface (systemd.io/BOOT_LOADER_INTERFACE): LoaderInfo is the loader's name and version in UTF-16,
after four bytes of attributes (efivarfs). /boot/config-RELEASE is Debian's and many others' place of the kernel's
configuration, /lib/modules/RELEASE/config Fedora's; /proc/config.gz is not read, it is packed.
"""

from __future__ import annotations

from collections.abc import Mapping

from hostlerd.model.checkup import Boot
from hostlerd.model.command_line import CommandLine
from hostlerd.observe.checkup.careful import Careful

MARKS = (
    "/etc/NIXOS",
    "/run/ostree-booted",
    "/etc/kernel/proxmox-boot-uuids",
    "/usr/sbin/proxmox-boot-tool",
    "/usr/bin/kernelstub",
    "/usr/bin/grubby",
    "/usr/sbin/grubby",
    "/etc/default/grub",
    "/usr/sbin/update-grub",
    "/usr/sbin/grub2-mkconfig",
    "/usr/bin/grub2-mkconfig",
    "/usr/sbin/grub-mkconfig",
    "/usr/bin/grub-mkconfig",
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/etc/kernel/cmdline",
    "/usr/bin/kernel-install",
    "/usr/bin/sdbootutil",
    "/usr/bin/mkinitcpio",
    "/boot/loader/entries",
    "/efi/loader/entries",
    "/boot/efi/loader/entries",
)
LOADER_INFO = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
CONFIG = (
    "CONFIG_INTEL_IOMMU_DEFAULT_ON",
    "CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF",
    "CONFIG_NO_HZ_FULL",
    "CONFIG_RCU_NOCB_CPU",
    "CONFIG_VFIO_PCI",
)


def observe_boot(careful: Careful) -> Boot:
    files = careful.files
    release = (careful.text("/proc/sys/kernel/osrelease") or "").strip() or _of_version(careful)
    line = careful.text("/proc/cmdline")
    return Boot(
        release=release,
        command_line=None if line is None else CommandLine(text=line),
        config=_config(careful, release),
        marks=frozenset(path for path in MARKS if files.exists(path)),
        loader_info=_printable(careful.text(LOADER_INFO) or ""),
    )


def _of_version(careful: Careful) -> str:
    """Some recordings have /proc/version alone: "Linux version 6.1.0-13-amd64 (debian-...) ..."."""
    words = (careful.text("/proc/version") or "").split()
    return words[2] if words[:2] == ["Linux", "version"] and len(words) > 2 else ""


def _config(careful: Careful, release: str) -> Mapping[str, str] | None:
    if not release:
        return None
    for path in (f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        try:
            lines = careful.files.lines_with(path, CONFIG)
        except OSError:
            continue
        found: dict[str, str] = dict.fromkeys(CONFIG, "n")
        for line in lines:
            name, sign, value = line.strip().partition("=")
            if sign and name in found:
                found[name] = value
        return found
    return None


def _printable(text: str) -> str:
    return "".join(
        char for char in text if char.isprintable() and char != "\N{REPLACEMENT CHARACTER}"
    ).strip()
