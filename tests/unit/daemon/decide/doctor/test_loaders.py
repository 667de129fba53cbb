"""How the line is changed, by the boot loader that is there."""

from __future__ import annotations

import pytest

from hostlerd.decide.doctor.loaders import loader
from hostlerd.model.checkup import Boot
from hostlerd.model.command_line import CommandLine

CHANGE = "add intel_iommu=on iommu=pt, take out video=efifb:off"
ADD, REMOVE = ("intel_iommu=on", "iommu=pt"), ("video=efifb:off",)
DEBIAN = ("/etc/default/grub", "/usr/sbin/update-grub", "/boot/grub/grub.cfg")


@pytest.mark.parametrize(
    ("marks", "info", "name", "steps"),
    [
        (
            DEBIAN,
            "",
            "GRUB",
            [
                f"GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub: {CHANGE}",
                "update-grub",
            ],
        ),
        (
            ("/etc/default/grub", "/usr/sbin/grub2-mkconfig"),
            "",
            "GRUB",
            [None, "grub2-mkconfig -o /boot/grub2/grub.cfg"],
        ),
        (
            ("/etc/default/grub", "/usr/bin/grub-mkconfig"),
            "",
            "GRUB",
            [None, "grub-mkconfig -o /boot/grub/grub.cfg"],
        ),
        (
            (*DEBIAN, "/usr/sbin/grubby"),
            "",
            "grubby",
            ['grubby --update-kernel=ALL --args="intel_iommu=on iommu=pt" --remove-args=video=efifb:off'],
        ),
        (
            (*DEBIAN, "/etc/kernel/proxmox-boot-uuids", "/etc/kernel/cmdline"),
            "systemd-boot 252",
            "Proxmox (systemd-boot)",
            [
                f"/etc/kernel/cmdline: {CHANGE}",
                "proxmox-boot-tool refresh",
            ],
        ),
        (
            (*DEBIAN, "/etc/kernel/proxmox-boot-uuids"),
            "",
            "Proxmox (GRUB)",
            [None, "proxmox-boot-tool refresh"],
        ),
        (
            ("/run/ostree-booted", "/usr/sbin/grubby"),
            "",
            "rpm-ostree",
            [
                (
                    "rpm-ostree kargs --append-if-missing=intel_iommu=on --append-if-missing=iommu=pt "
                    "--delete-if-present=video=efifb:off"
                )
            ],
        ),
        (
            ("/etc/kernel/cmdline", "/usr/bin/kernel-install", "/boot/loader/entries"),
            "systemd-boot 255.4",
            "systemd-boot",
            [
                None,
                "kernel-install add-all (before systemd 255: kernel-install add 6.1.0 /boot/vmlinuz-6.1.0)",
            ],
        ),
        (
            ("/etc/kernel/cmdline", "/usr/bin/mkinitcpio"),
            "systemd-boot 257",
            "systemd-boot",
            [None, "mkinitcpio -P"],
        ),
        (
            ("/etc/kernel/cmdline", "/usr/bin/sdbootutil"),
            "",
            "systemd-boot",
            [None, "sdbootutil update-all-entries"],
        ),
        (
            ("/boot/loader/entries",),
            "systemd-boot 257",
            "systemd-boot",
            [f"the line `options` in /boot/loader/entries/*.conf: {CHANGE}"],
        ),
        (
            ("/usr/bin/kernelstub",),
            "systemd-boot 249",
            "kernelstub",
            [
                'kernelstub --add-options "intel_iommu=on iommu=pt"',
                "kernelstub --delete-options video=efifb:off",
            ],
        ),
        (
            ("/etc/NIXOS",),
            "systemd-boot 257",
            "NixOS",
            [
                'boot.kernelParams in /etc/nixos/configuration.nix: add "intel_iommu=on" "iommu=pt"',
                "boot.kernelParams: take out video=efifb:off",
                "nixos-rebuild boot",
            ],
        ),
    ],
)
def test_loaders(marks: tuple[str, ...], info: str, name: str, steps: list[str | None]) -> None:
    found = loader(Boot(release="6.1.0", marks=frozenset(marks), loader_info=info), ADD, REMOVE)
    assert found is not None
    assert found.name == name
    assert len(found.steps) == len(steps) + 1
    assert found.steps[-1] == "reboot"
    for step, wanted in zip(found.steps, steps, strict=False):
        assert wanted is None or step == wanted


def test_ostree_by_its_word() -> None:
    found = loader(Boot(command_line=CommandLine(text="ostree=/ostree/boot.1/x")), ADD, ())
    assert found is not None
    assert found.name == "rpm-ostree"


def test_nothing_known_is_nothing_told() -> None:
    assert loader(Boot(), ADD, REMOVE) is None
