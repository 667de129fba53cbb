"""Clocks, threads and memory, as far as a guest feels them.

Sources: Documentation/admin-guide/pm/cpufreq.rst, mm/transhuge.rst, mm/hugetlbpage.rst,
Documentation/ABI/testing/sysfs-devices-system-cpu (smt/control).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hostlerd.model.checkup import Pages, Tuning
from hostlerd.model.cpuset import CpuSet
from hostlerd.observe.checkup.careful import Careful
from hostlerd.observe.cpus import CPUS
from hostlerd.observe.reading import number

HUGE = "/sys/kernel/mm/hugepages"

_MEMORY = re.compile(r"^MemTotal:\s*(\d+) kB", re.MULTILINE)
_SIZE = re.compile(r"hugepages-(\d+)kB")


def observe_tuning(careful: Careful, online: CpuSet) -> Tuning:
    first = min(online, default=0)
    memory = _MEMORY.search(careful.text("/proc/meminfo") or "")
    return Tuning(
        governors=_governors(careful, online),
        driver=careful.text(f"{CPUS}/cpu{first}/cpufreq/scaling_driver") or "",
        smt=careful.text(f"{CPUS}/smt/control"),
        huge=_chosen(careful.text("/sys/kernel/mm/transparent_hugepage/enabled")),
        memory_kib=int(memory[1]) if memory else 0,
        pages=tuple(_pages(careful)),
    )


def _governors(careful: Careful, online: CpuSet) -> Mapping[str, CpuSet]:
    found: dict[str, set[int]] = {}
    for cpu in sorted(online):
        governor = careful.text(f"{CPUS}/cpu{cpu}/cpufreq/scaling_governor")
        if governor:
            found.setdefault(governor, set()).add(cpu)
    return {governor: frozenset(cpus) for governor, cpus in found.items()}


def _chosen(choices: str | None) -> str | None:
    """The one in brackets: "always [madvise] never"."""
    match = re.search(r"\[(\S+)\]", choices or "")
    return match[1] if match else None


def _pages(careful: Careful) -> list[Pages]:
    found: list[Pages] = []
    for name in careful.names(HUGE) or ():
        match = _SIZE.fullmatch(name)
        total = number(careful.files, f"{HUGE}/{name}/nr_hugepages")
        if match and total is not None:
            free = number(careful.files, f"{HUGE}/{name}/free_hugepages")
            found.append(Pages(kib=int(match[1]), total=total, free=total if free is None else free))
    return sorted(found, key=lambda pages: pages.kib)
