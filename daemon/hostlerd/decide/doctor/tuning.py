"""SMT, clocks, huge pages: what a guest feels and no plan of hostler's can make up for.

Sources: Documentation/admin-guide/pm/cpufreq.rst (the governor powersave is the lowest clock, but for drivers that set
the clock themselves: intel_pstate, amd-pstate-epp), Documentation/admin-guide/hw-vuln/l1tf.rst (SMT control),
Documentation/admin-guide/mm/transhuge.rst, mm/hugetlbpage.rst.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.model.checkup import Checkup
from hostlerd.model.cpuset import format_cpu_list
from hostlerd.model.domains import Definition
from hostlerd.model.findings import Finding

BY_THEMSELVES = frozenset({"intel_pstate", "amd-pstate-epp", "amd_pstate_epp"})
GIB = 1024 * 1024


def examine(checkup: Checkup) -> Iterator[Finding]:
    yield from _threads(checkup)
    yield from _clock(checkup)
    yield from _memory(checkup)


def _threads(checkup: Checkup) -> Iterator[Finding]:
    smt = checkup.tuning.smt
    if smt in ("off", "forceoff"):
        yield Finding(
            id="smt",
            severity="note",
            what="the second threads of the cores are switched off",
            why="a vCPU has a core of its own then, and there are half as many CPUs; often it is a choice for safety",
            do="give domains <topology threads='1'>",
            evidence=f"/sys/devices/system/cpu/smt/control: {smt}",
        )


def _clock(checkup: Checkup) -> Iterator[Finding]:
    tuning = checkup.tuning
    slow = tuning.governors.get("powersave", frozenset())
    if slow and tuning.driver and tuning.driver not in BY_THEMSELVES:
        yield Finding(
            id="clock",
            severity="warning",
            what=f"CPUs {format_cpu_list(slow)} stay at their lowest clock",
            why=f"that is what the governor powersave does with the driver {tuning.driver}",
            do="choose schedutil or performance (cpupower frequency-set -g schedutil)",
            evidence=f"scaling_governor: powersave; scaling_driver: {tuning.driver}",
        )
    elif tuning.governors:
        told = ", ".join(
            f"{name} on {format_cpu_list(cpus)}" for name, cpus in sorted(tuning.governors.items())
        )
        yield Finding(
            id="clock",
            severity="ok",
            what=f"the clock governor is {told}",
            evidence=f"scaling_governor; scaling_driver: {tuning.driver or 'not said'}",
        )


def _memory(checkup: Checkup) -> Iterator[Finding]:
    tuning, snapshot = checkup.tuning, checkup.observed.snapshot
    every = [r.live for r in snapshot.running] + list(snapshot.inactive)
    if tuning.huge == "never" and any(not domain.hugepages for domain in every):
        yield Finding(
            id="huge-pages.transparent",
            severity="note",
            what="transparent huge pages are off",
            why="guests' memory is in pages of 4 KiB then, which costs a few per cent where a domain asks for "
            "no huge pages",
            do="echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (QEMU asks for them)",
            evidence="/sys/kernel/mm/transparent_hugepage/enabled: never",
        )
    asking = [domain for domain in every if domain.hugepages]
    need = sum(map(_kib, asking))
    have = sum(pages.kib * pages.total for pages in tuning.pages)
    names = ", ".join(sorted(domain.name for domain in asking))
    evidence = f"MemTotal: {tuning.memory_kib} kB; " + ", ".join(
        f"hugepages-{pages.kib}kB: {pages.total}, {pages.free} free" for pages in tuning.pages
    )
    if tuning.memory_kib and need > tuning.memory_kib:
        yield Finding(
            id="huge-pages",
            severity="warning",
            what=f"{names} ask for {_gib(need)} of huge pages, and the host has {_gib(tuning.memory_kib)} of memory",
            why="they cannot all run at once",
            do="give them less memory, or start them in turn",
            evidence=evidence,
        )
    elif need > have and tuning.pages:
        yield Finding(
            id="huge-pages",
            severity="note",
            what=f"{names} ask for {_gib(need)} of huge pages, and {_gib(have)} are reserved now",
            why="pages are hard to find once memory is in pieces",
            do="hugepages= on the kernel command line, or vm.nr_hugepages in /etc/sysctl.d, reserves them "
            "early, for good",
            evidence=evidence,
        )
    elif have and not asking and checkup.domains and have == sum(p.kib * p.free for p in tuning.pages):
        yield Finding(
            id="huge-pages",
            severity="note",
            what=f"{_gib(have)} are reserved as huge pages, and no domain asks for any",
            why="nothing else can use that memory",
            do="say <memoryBacking><hugepages/> in a domain, or take the reservation away",
            evidence=evidence,
        )


def _kib(domain: Definition) -> int:
    return domain.memory_kib or sum(cell.memory_kib for cell in domain.cells)


def _gib(kib: int) -> str:
    return f"{kib / GIB:.3g} GiB"
