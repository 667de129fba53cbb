"""The masks that keep the host's own work off dedicated CPUs.

Pure. machine.slice is widened before anything else, because a pin outside it fails (libvirt starts with EINVAL
then), and narrowed again last. What was set before is respected: a unit never gets CPUs it did not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list
from hostlerd.model.isolation import HOST_UNITS, MACHINE_SLICE, Group
from hostlerd.model.ledger import GroupRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import AllowCpus, Refusal

NONE: Mapping[str, CpuSet] = MappingProxyType({})


def decide_masks(
    observed: Observed, dedicated: CpuSet, housekeeping: CpuSet, partitions: Mapping[str, CpuSet] = NONE
) -> tuple[list[AllowCpus], list[str], list[Refusal]]:
    """Steps, the units whose record can be closed, and why isolation is impossible.

    `partitions`: units that have to have these very CPUs for a partition.
    """
    if not observed.groups.unified:
        return [], [], [_no_unified(dedicated)] if dedicated else []
    steps: list[AllowCpus] = []
    settled: list[str] = []
    wanted = (_wanted(observed, dedicated, housekeeping) if dedicated else {}) | dict(partitions)
    for unit, cpus in wanted.items():
        group = observed.groups.get(unit)
        if group is None or observed.ledger.untouchable(unit):
            continue
        record = observed.ledger.groups.get(unit)
        before = parse_cpu_list(record.allowed) if record else group.allowed
        exactly = unit == MACHINE_SLICE or unit in partitions
        target = cpus if exactly else ((before & cpus) or cpus)
        if group.allowed != target:
            why = (
                "a partition of these CPUs"
                if unit in partitions
                else "room for the domains' pins"
                if unit == MACHINE_SLICE
                else "the host's work leaves dedicated CPUs"
            )
            steps.append(_step(group, target, why, record))
    back, settled = _back(observed, wanted)
    return steps + back, settled, []


def _no_unified(dedicated: CpuSet) -> Refusal:
    return Refusal(
        object="isolation",
        reason=f"CPUs {format_cpu_list(dedicated)} cannot be isolated: this host uses control groups v1",
        remedy="boot with systemd.unified_cgroup_hierarchy=1 (the default since systemd 248)",
    )


def _wanted(observed: Observed, dedicated: CpuSet, housekeeping: CpuSet) -> dict[str, CpuSet]:
    wanted: dict[str, CpuSet] = {}
    machine = observed.groups.get(MACHINE_SLICE)
    if machine is not None and machine.allowed and not machine.allowed >= dedicated | housekeeping:
        wanted[MACHINE_SLICE] = machine.allowed | dedicated | housekeeping
    elif MACHINE_SLICE in observed.ledger.groups and machine is not None:
        wanted[MACHINE_SLICE] = machine.allowed
    for unit in HOST_UNITS:
        wanted[unit] = housekeeping
    for group in observed.groups.units:
        if group.unit not in wanted and group.unit != MACHINE_SLICE and not group.is_domain:
            wanted[group.unit] = housekeeping
    return wanted


def _back(observed: Observed, wanted: dict[str, CpuSet]) -> tuple[list[AllowCpus], list[str]]:
    steps: list[AllowCpus] = []
    settled: list[str] = []
    last: list[AllowCpus] = []
    for unit, record in sorted(observed.ledger.groups.items()):
        if unit in wanted or observed.ledger.untouchable(unit):
            continue
        group = observed.groups.get(unit)
        before = parse_cpu_list(record.allowed)
        target = before or observed.topology.possible
        if (
            group is None
            or group.allowed in (target, before)
            or format_cpu_list(group.allowed) not in record.ours
        ):
            settled.append(unit)  # gone, as it was, or changed by somebody else since
            continue
        why = "no domain needs these CPUs any more"
        step = replace(_step(group, target, why, record), residue=not before and not group.is_domain)
        (last if unit == MACHINE_SLICE else steps).append(step)
    return steps + last, settled


def _step(group: Group, target: CpuSet, why: str, record: GroupRecord | None) -> AllowCpus:
    text = format_cpu_list(target)
    before = record.allowed if record else format_cpu_list(group.allowed)
    ours = record.ours if record else ()
    return AllowCpus(
        object=group.unit,
        before=format_cpu_list(group.allowed) or None,
        after=text,
        why=why,
        cpus=target,
        path=group.path,
        record=GroupRecord(unit=group.unit, allowed=before, ours=ours if text in ours else (*ours, text)),
    )
