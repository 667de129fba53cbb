"""Which cores are the fast ones.

Rules: who knows best and sees a difference speaks alone. First the kernel's own lists (the PMUs of Intel
hybrids), then its capacities (Arm), then what the clocks show. Values that differ by little are turbo bins or
favoured cores of one kind, not kinds; so only a gap makes a class, and one class is "uniform". Cores of an X3D's
two dies are one kind: the cache is told in L3.
"""

from __future__ import annotations

from collections.abc import Mapping

from hostlerd.host import Files
from hostlerd.model.cpus import CoreClass
from hostlerd.model.cpuset import CpuSet
from hostlerd.observe.reading import cpu_list, cpu_set, names, number

GAP = 0.85
"""A value below this part of the next higher one is another kind. Favoured cores reach 0.92 (7900X3D: 5.2 of 5.6 GHz),
efficiency cores 0.83 (285H: 4.5 of 5.4 GHz)."""
LOW_POWER = 0.8
"""Efficiency cores below this part of the fastest of them are the low-power ones (Meteor Lake: 2.5 of 3.8 GHz)."""

CPUS = "/sys/devices/system/cpu"


def core_classes(
    files: Files, online: CpuSet, max_khz: Mapping[int, int | None], l3: Mapping[int, int]
) -> dict[int, CoreClass]:
    """Class of each CPU; a CPU that is not in it is uniform. `l3`: CPU to its cache, where it has one."""
    classes = (
        _of_intel(files, online, max_khz, l3)
        or _of_tiers({cpu: number(files, f"{CPUS}/cpu{cpu}/cpu_capacity") for cpu in online}, low_power=False)
        or _of_tiers(max_khz, low_power=True)
        or _of_base(files, online)
    )
    return classes if len(set(classes.values())) > 1 else {}


def _of_intel(
    files: Files, online: CpuSet, max_khz: Mapping[int, int | None], l3: Mapping[int, int]
) -> dict[int, CoreClass]:
    """From /sys/devices/cpu_core, cpu_atom, cpu_lowpower (arch/x86/events/intel/core.c).

    Before kernel 6.13 low-power cores are among the atoms: they are outside the L3 of all others.
    """
    fast = (cpu_list(files, "/sys/devices/cpu_core/cpus") or frozenset()) & online
    small = (cpu_list(files, "/sys/devices/cpu_atom/cpus") or frozenset()) & online
    low = (cpu_list(files, "/sys/devices/cpu_lowpower/cpus") or frozenset()) & online
    small -= fast
    low -= fast
    small -= low
    if not low and small:
        top = max(max_khz.get(cpu) or 0 for cpu in small)
        low = frozenset(
            cpu
            for cpu in small
            if (cpu not in l3 and any(other in l3 for other in online))
            or 0 < (max_khz.get(cpu) or 0) < LOW_POWER * top
        )
        small -= low
    return {
        **dict.fromkeys(fast, CoreClass.PERFORMANCE),
        **dict.fromkeys(small, CoreClass.EFFICIENCY),
        **dict.fromkeys(low, CoreClass.LOW_POWER),
    }


def _of_tiers(values: Mapping[int, int | None], *, low_power: bool) -> dict[int, CoreClass]:
    """CPUs by value, cut at the gaps; nothing without a gap, or unless every CPU has a value.

    `low_power`: a third tier is that.
    """
    known = {cpu: value for cpu, value in values.items() if value}
    if not known or len(known) < len(values):
        return {}
    tier_of: dict[int, int] = {}
    tier, above = 0, 0
    for value in sorted(set(known.values()), reverse=True):
        tier += value < GAP * above
        tier_of[value] = tier
        above = value
    if not tier:
        return {}
    kinds = [CoreClass.PERFORMANCE, *[CoreClass.EFFICIENCY] * tier]
    if low_power and tier > 1:
        kinds[-1] = CoreClass.LOW_POWER
    return {cpu: kinds[tier_of[value]] for cpu, value in known.items()}


def _of_base(files: Files, online: CpuSet) -> dict[int, CoreClass]:
    """From base clocks, where how many share a level-2 cache differs too (Arrow Lake's atoms come in fours).

    Base clocks alone may differ among equal cores (Speed Select).
    """
    base = {cpu: number(files, f"{CPUS}/cpu{cpu}/cpufreq/base_frequency") for cpu in online}
    known = {cpu: khz for cpu, khz in base.items() if khz}
    if len(known) < len(base) or len(set(known.values())) != 2:
        return {}
    top = max(known.values())
    kinds = {khz: {_sharing(files, cpu) for cpu in known if known[cpu] == khz} for khz in set(known.values())}
    if len(set().union(*kinds.values())) < 2 or set.intersection(*kinds.values()):
        return {}
    return {cpu: CoreClass.PERFORMANCE if khz == top else CoreClass.EFFICIENCY for cpu, khz in known.items()}


def _sharing(files: Files, cpu: int) -> int:
    for name in names(files, f"{CPUS}/cpu{cpu}/cache"):
        folder = f"{CPUS}/cpu{cpu}/cache/{name}"
        if number(files, f"{folder}/level") == 2:
            return len(cpu_set(files, f"{folder}/shared_cpu_map", list_name="shared_cpu_list") or ())
    return 0
