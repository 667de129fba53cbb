"""How a person changes the kernel command line with the boot loader that is there. Never carried out.

By what is on the disk, the most particular first: NixOS, rpm-ostree and Proxmox own the line whatever loads the kernel;
grubby is Fedora's and Red Hat's way for all loaders; then systemd-boot and GRUB, by what the loader calls itself in EFI
or by their files. Sources: nixos manual (boot.kernelParams); rpm-ostree(1), kargs; pve-docs, system-booting.adoc;
grubby(8); kernelstub(8); kernel-install(8) (add-all from systemd 255 on); mkinitcpio(8); grub-mkconfig, update-grub(8).
"""

from __future__ import annotations

from dataclasses import dataclass

from hostlerd.model.checkup import Boot

GRUB = "/etc/default/grub"
CMDLINE = "/etc/kernel/cmdline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    name: str
    steps: tuple[str, ...]


def loader(boot: Boot, add: tuple[str, ...], remove: tuple[str, ...]) -> Loader | None:
    """None where nothing is known."""
    change = _change(add, remove)
    for found in (_owned(boot, add, remove), _by_file(boot, change)):
        if found is not None:
            return Loader(name=found.name, steps=(*found.steps, "reboot"))
    return None


def _change(add: tuple[str, ...], remove: tuple[str, ...]) -> str:
    words = [f"add {' '.join(add)}"] if add else []
    words += [f"take out {' '.join(remove)}"] if remove else []
    return ", ".join(words)


def _owned(boot: Boot, add: tuple[str, ...], remove: tuple[str, ...]) -> Loader | None:
    """Where a program keeps the line."""
    marks, line = boot.marks, boot.command_line
    if "/etc/NIXOS" in marks:
        listed = " ".join(f'"{word}"' for word in add)
        steps = [f"boot.kernelParams in /etc/nixos/configuration.nix: add {listed}"] if add else []
        steps += [f"boot.kernelParams: take out {' '.join(remove)}"] if remove else []
        return Loader(name="NixOS", steps=(*steps, "nixos-rebuild boot"))
    if "/run/ostree-booted" in marks or (line is not None and line.values("ostree")):
        words = [f"--append-if-missing={_quoted(w)}" for w in add]
        words += [f"--delete-if-present={_quoted(w)}" for w in remove]
        return Loader(name="rpm-ostree", steps=(" ".join(["rpm-ostree", "kargs", *words]),))
    if "/etc/kernel/proxmox-boot-uuids" in marks:
        by_systemd = CMDLINE in marks and "grub" not in boot.loader_info.lower()
        file = CMDLINE if by_systemd else f"GRUB_CMDLINE_LINUX_DEFAULT in {GRUB}"
        name = f"Proxmox ({'systemd-boot' if by_systemd else 'GRUB'})"
        return Loader(name=name, steps=(f"{file}: {_change(add, remove)}", "proxmox-boot-tool refresh"))
    if "/usr/bin/kernelstub" in marks:
        steps = [f"kernelstub --add-options {_quoted(' '.join(add))}"] if add else []
        steps += [f"kernelstub --delete-options {_quoted(' '.join(remove))}"] if remove else []
        return Loader(name="kernelstub", steps=tuple(steps))
    if {"/usr/sbin/grubby", "/usr/bin/grubby"} & marks:
        words = [f"--args={_quoted(' '.join(add))}"] if add else []
        words += [f"--remove-args={_quoted(' '.join(remove))}"] if remove else []
        return Loader(name="grubby", steps=(" ".join(["grubby", "--update-kernel=ALL", *words]),))
    return None


def _by_file(boot: Boot, change: str) -> Loader | None:
    """Where a person edits a file."""
    marks = boot.marks
    entries = sorted(mark for mark in marks if mark.endswith("/loader/entries"))
    has_grub = bool({"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"} & marks)
    by_systemd = boot.loader_info.lower().startswith("systemd-boot") or (
        not has_grub and bool(entries or CMDLINE in marks)
    )
    if by_systemd and CMDLINE in marks:
        return Loader(name="systemd-boot", steps=(f"{CMDLINE}, which is one line: {change}", _install(boot)))
    if by_systemd:
        folder = entries[0] if entries else "/boot/loader/entries"
        return Loader(name="systemd-boot", steps=(f"the line `options` in {folder}/*.conf: {change}",))
    if GRUB in marks:
        step = f"GRUB_CMDLINE_LINUX_DEFAULT in {GRUB}: {change}"
        return Loader(name="GRUB", steps=(step, _mkconfig(marks)))
    return None


def _install(boot: Boot) -> str:
    if "/usr/bin/sdbootutil" in boot.marks:
        return "sdbootutil update-all-entries"
    if "/usr/bin/mkinitcpio" in boot.marks:
        return "mkinitcpio -P"
    release = boot.release or "$(uname -r)"
    return (
        f"kernel-install add-all (before systemd 255: kernel-install add {release} /boot/vmlinuz-{release})"
    )


def _mkconfig(marks: frozenset[str]) -> str:
    if "/usr/sbin/update-grub" in marks:
        return "update-grub"
    if {"/usr/sbin/grub2-mkconfig", "/usr/bin/grub2-mkconfig"} & marks:
        return "grub2-mkconfig -o /boot/grub2/grub.cfg"
    return "grub-mkconfig -o /boot/grub/grub.cfg"


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word
