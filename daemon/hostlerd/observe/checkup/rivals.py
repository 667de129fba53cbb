"""Who else does what hostler does: programs that move interrupts or clocks, libvirt hooks that bind or pin, driverctl.

A hook's text is only searched for words; what it does in the end its author knows. libvirt runs /etc/libvirt/hooks/qemu
and, since 6.5, the executables in qemu.d (https://libvirt.org/hooks.html); the usual dispatcher of guides runs what is
further down in there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hostlerd.model.checkup import HookFile, Rivals
from hostlerd.observe.checkup.careful import Careful

HOOKS = "/etc/libvirt/hooks"
OURS = f"{HOOKS}/qemu.d/hostler"
DRIVERCTL = "/etc/driverctl.d"
PROGRAMS = frozenset(
    "irqbalance tuned gamemoded supergfxd ksmtuned auto-cpufreq intel_lpmd system76-power power-profiles- ananicy-cpp "
    "libvirtd virtqemud hostlerd".split()
)
"""Names as /proc/PID/comm has them: 15 characters and no more."""
MOST_HOOKS = 200

_DOES = {
    "binds devices": r"driver_override|new_id|/unbind|/bind\b|drivers_probe|nodedev-(?:dett?ach|reattach)|driverctl"
    r"|modprobe\b.*\bvfio|modprobe\s+-r|rmmod",
    "pins or confines CPUs": r"AllowedCPUs|taskset|\bcset\b|cpuset|vfio-isolate|vcpupin|emulatorpin|smp_affinity",
    "sets the CPU clock": r"scaling_governor|cpupower|energy_performance",
    "reserves huge pages": r"nr_hugepages",
    "stops the display manager": r"display-manager|\b(gdm|sddm|lightdm)\b",
    "unbinds the console": r"vtcon|efi-framebuffer|simple-framebuffer",
}


def observe_rivals(careful: Careful) -> Rivals:
    return Rivals(
        programs=_programs(careful),
        hooks=_hooks(careful),
        driverctl={
            match[0]: careful.text(f"{DRIVERCTL}/{name}") or "another driver"
            for name in careful.names(DRIVERCTL) or ()
            if (match := re.search(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", name))
        },
    )


def _programs(careful: Careful) -> frozenset[str] | None:
    """None where processes are not shown: a recording, or a /proc that shows one's own alone (hidepid)."""
    if careful.text("/proc/1/comm") is None:
        return None
    found = (
        (pid, careful.text(f"/proc/{pid}/comm")) for pid in careful.names("/proc") or () if pid.isdecimal()
    )
    running = {name for pid, name in found if name in PROGRAMS and not _is_none(careful, name, pid)}
    return frozenset(filter(None, running))


def _is_none(careful: Careful, name: str | None, pid: str) -> bool:
    """A hostlerd that is not this host's daemon: one for a simulated host, or the one that looks here and now."""
    words = (careful.text(f"/proc/{pid}/cmdline") or "").split("\0") if name == "hostlerd" else ()
    return "--sim" in words or "offline" in words


def _hooks(careful: Careful) -> tuple[HookFile, ...] | None:
    if careful.names(HOOKS) is None:
        return None
    paths = [f"{HOOKS}/qemu", *_below(careful, f"{HOOKS}/qemu.d", depth=4)]
    found: list[HookFile] = []
    for path in paths[:MOST_HOOKS]:
        if path == OURS or not careful.files.exists(path) or careful.files.executable(path) is False:
            continue
        words = careful.text(path)
        found.append(HookFile(path=path, does=None if words is None else tuple(_does(words))))
    return tuple(found)


def _below(careful: Careful, folder: str, *, depth: int) -> Iterator[str]:
    try:
        folders = set(careful.files.folders(folder))
    except OSError:
        return
    for name in careful.names(folder) or ():
        if name not in folders:
            yield f"{folder}/{name}"
        elif depth:
            yield from _below(careful, f"{folder}/{name}", depth=depth - 1)


def _does(script: str) -> Iterator[str]:
    lines = "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("#"))
    return (what for what, pattern in _DOES.items() if re.search(pattern, lines))
