"""What this kernel can do for isolation, and its control groups.

Versions: vfio-dev/ says who is on VFIO from 6.1 (drivers/vfio/vfio_main.c); before 6.2 a change of cpuset.cpus wipes
the affinities that programs set themselves (systemd issue 23748; commit da019032819a); partitions that are not below
the root from 6.7 (Documentation/admin-guide/cgroup-v2.rst, cpuset.cpus.exclusive); NVIDIA's vGPUs are made by
attributes of their VFs from 6.8 on. AllowedCPUs= needs the unified hierarchy (systemd.resource-control(5)).
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.model.checkup import Checkup
from hostlerd.model.findings import Finding, unknown

FLOOR = (6, 1)
KEEPS_AFFINITY = (6, 2)
REMOTE = (6, 7)
VGPU = (6, 8)


def examine(checkup: Checkup) -> Iterator[Finding]:
    yield from _version(checkup)
    yield from _groups(checkup)


def _version(checkup: Checkup) -> Iterator[Finding]:
    kernel = checkup.observed.kernel
    if kernel == (0, 0):
        yield unknown(
            "kernel", "which kernel this is", "neither /proc/sys/kernel/osrelease nor /proc/version"
        )
        return
    evidence = f"/proc/sys/kernel/osrelease: {checkup.boot.release or '.'.join(map(str, kernel))}"
    name = f"Linux {kernel[0]}.{kernel[1]}"
    if kernel < FLOOR:
        yield Finding(
            id="kernel",
            severity="warning",
            what=f"{name} is older than hostler is made for",
            why="before 6.1 the kernel does not say which devices are on VFIO",
            do="install Linux 6.1 or newer",
            evidence=evidence,
        )
        return
    nvidia = any(f.vendor == 0x10DE for f in checkup.observed.functions.values())
    lacks = [
        text
        for since, text in (
            (
                KEEPS_AFFINITY,
                "programs that chose their own CPUs lose that choice when a slice is confined (6.2)",
            ),
            (REMOTE, "partitions of CPUs are for all domains together (6.7: one a domain)"),
            (
                VGPU,
                "NVIDIA's vGPUs on virtual functions are made by its own older way (6.8)" if nvidia else "",
            ),
        )
        if text and kernel < since
    ]
    yield Finding(
        id="kernel",
        severity="note" if kernel < KEEPS_AFFINITY else "ok",
        what=f"{name} will do" + ("; newer ones do more" if lacks else ""),
        why="; ".join(lacks),
        evidence=evidence,
    )


def _groups(checkup: Checkup) -> Iterator[Finding]:
    controllers, line = checkup.controllers, checkup.boot.command_line
    if controllers is None and not checkup.mounted:
        yield unknown(
            "control-groups", "whether control groups can confine the host", "no /sys/fs/cgroup to read"
        )
    elif controllers is None:
        words = () if line is None else line.written("systemd.unified_cgroup_hierarchy")
        yield Finding(
            id="control-groups",
            severity="warning",
            what="this host uses control groups v1",
            why="domains get devices and pins, but the host's own work cannot be kept off their CPUs",
            do=f"take {words[0]} off the kernel command line"
            if words
            else "boot with systemd.unified_cgroup_hierarchy=1 (the default since systemd 248)",
            evidence="/sys/fs/cgroup/cgroup.controllers is not there",
        )
    elif "cpuset" not in controllers:
        yield Finding(
            id="control-groups",
            severity="warning",
            what="the cpuset controller is missing",
            why="the host's own work cannot be kept off the domains' CPUs",
            do="take cgroup_disable=cpuset off the kernel command line, or use a kernel with CONFIG_CPUSETS",
            evidence=f"/sys/fs/cgroup/cgroup.controllers: {' '.join(sorted(controllers))}",
        )
    else:
        yield Finding(
            id="control-groups",
            severity="ok",
            what="control groups v2 can keep the host off the domains' CPUs",
            evidence="/sys/fs/cgroup/cgroup.controllers: cpuset",
        )
