"""Control groups: which CPUs the host's units may run on, and do.

Rules: cgroup v2 alone is read (Documentation/admin-guide/cgroup-v2.rst, cpuset). AllowedCPUs as systemd has it is asked
for elsewhere; here it is what the kernel was given. Where the cpuset controller is off a group has its ancestor's CPUs.
A recording without control groups is taken for a host with the usual units and no limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from hostlerd.host import Files
from hostlerd.model.cpus import Topology
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.isolation import CGROUPS, DOMAIN, HOST_UNITS, MACHINE_SLICE, Group, Groups
from hostlerd.model.programs import SCOPE, SLICE
from hostlerd.observe.reading import cpu_list, names, text

_UNITS = (".slice", ".scope", ".service")
_ANY_UNIT = (*_UNITS, ".mount", ".swap", ".socket")


def observe_groups(files: Files, topology: Topology) -> Groups:
    """The units at the top, those directly in machine.slice, and what is beside domains in slices further down."""
    top = names(files, CGROUPS)
    if not top:
        usual = (*HOST_UNITS, MACHINE_SLICE)
        return Groups(
            units=tuple(
                Group(unit=unit, allowed=frozenset(), effective=topology.online, path=f"{CGROUPS}/{unit}")
                for unit in usual
            )
        )
    if "cgroup.controllers" not in top:
        return Groups(unified=False)
    everything = cpu_list(files, f"{CGROUPS}/cpuset.cpus.effective") or topology.online
    units: list[Group] = []
    first = [*HOST_UNITS, MACHINE_SLICE]
    others = sorted(
        name for name in top if name.endswith((".slice", ".scope")) and name not in (*first, SLICE)
    )
    for unit in (*first, *others):
        if unit not in top:
            continue
        group, below = _with_below(files, unit, f"{CGROUPS}/{unit}", everything)
        units.append(group)
        if unit == MACHINE_SLICE or group.is_domain:
            units.extend(below)
    return Groups(
        units=tuple(units),
        strangers=_strangers(files, top, everything),
        programs=tuple(_programs(files, everything)),
    )


def _programs(files: Files, everything: CpuSet) -> Iterator[Group]:
    """The scopes of programs that have a process: systemd removes one a moment after its last has ended."""
    for name in sorted(names(files, f"{CGROUPS}/{SLICE}")):
        path = f"{CGROUPS}/{SLICE}/{name}"
        if name.startswith(SCOPE) and "populated 0" not in (text(files, f"{path}/cgroup.events") or ""):
            yield _group(files, name, path, everything)


def _strangers(files: Files, top: Iterable[str], inherited: CpuSet) -> tuple[Group, ...]:
    """What a program made at the top without systemd, as long as something runs in it (cgroup.events)."""
    found = [
        name
        for name in sorted(top)
        if not name.endswith(_ANY_UNIT)
        and "populated 1" in (text(files, f"{CGROUPS}/{name}/cgroup.events") or "").splitlines()
    ]
    return tuple(_group(files, name, f"{CGROUPS}/{name}", inherited) for name in found)


def _with_below(files: Files, unit: str, path: str, inherited: CpuSet) -> tuple[Group, list[Group]]:
    """A unit, and those below it as far as a slice that holds domains goes (<resource><partition> in a domain's XML).

    Such a slice counts as a domain: whom it is kept from, its domains are kept from.
    """
    group, below = _group(files, unit, path, inherited), list[Group]()
    if not unit.endswith(".slice") or unit in HOST_UNITS:
        return group, below
    for name in sorted(names(files, path)):
        if not name.endswith(_UNITS):
            continue
        child, grandchildren = _with_below(files, name, f"{path}/{name}", group.effective)
        below.append(child)
        if child.is_domain:
            below += grandchildren
            group = replace(group, is_domain=unit != MACHINE_SLICE)
    return group, below


def _group(files: Files, unit: str, path: str, inherited: CpuSet) -> Group:
    return Group(
        unit=unit,
        allowed=cpu_list(files, f"{path}/cpuset.cpus") or frozenset(),
        effective=cpu_list(files, f"{path}/cpuset.cpus.effective") or inherited,
        path=path,
        is_domain=unit.startswith(DOMAIN) and unit.endswith(".scope"),
    )
