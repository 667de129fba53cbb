"""Partitions for the CPUs of domains that want it, as far as the kernel can make them; and why not.

Pure. Three ways (kernel/cgroup/cpuset.c):

- From Linux 6.7 on a domain's own scope is one, wherever it is: its CPUs are handed down in cpuset.cpus.exclusive from
  group to group (remote partitions, 181c8e091aae). Until 6.11 cpuset.cpus has to have them, too (737bb142a00e).
- Before, a partition's parent has to be one. The root is, so machine.slice can be, and what is in it cannot: it is one
  as long as all in it want it, with no CPUs but theirs.
- Nothing of the kind: the domain runs all the same, and why it has none is said.

Every thread in a partition needs a CPU inside, and in an isolated one nothing moves it from there: so the vCPUs are
pinned one to one, and the emulator has CPUs of its own. A partition is made when all pins are seen to be so, and given
up before anything else is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from hostlerd.decide.attributes import Wish
from hostlerd.decide.pinning import Tenant
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.isolation import CGROUPS, MACHINE_SLICE, Group
from hostlerd.model.observed import Observed
from hostlerd.model.partition import EXCLUSIVE, KIND, MEMBER, Partition, asked, is_invalid, reason
from hostlerd.model.plan import Placement, Refusal, SetAttribute, SetPartition
from hostlerd.model.questions import Question

REMOTE, INDEPENDENT = (6, 7), (6, 11)
EINVAL = 22
MACHINES = f"{CGROUPS}/{MACHINE_SLICE}"


@dataclass(slots=True)
class Partitions:
    """`wanted`: those to be made or kept. `masks`: what AllowedCPUs of a unit has to be for that. `kept`: nothing is
    known of domains yet, so what there is stays.
    """

    wanted: list[Partition] = field(default_factory=list[Partition])
    masks: dict[str, CpuSet] = field(default_factory=dict[str, CpuSet])
    questions: list[Question] = field(default_factory=list[Question])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    kept: bool = False
    imagined: list[SetAttribute | SetPartition] = field(default_factory=list[SetAttribute | SetPartition])
    """What would be done if a domain ran that does not: nothing of it can be done now."""


def decide_partitions(
    observed: Observed, domains: Sequence[Tenant], placements: Mapping[str, Placement], dedicated: CpuSet
) -> Partitions:
    found = Partitions()
    if not observed.snapshot.known and all(claim.prepared for claim in observed.ledger.claims.values()):
        return _as_it_is(observed)
    wanting = [
        tenant
        for tenant in domains
        if _wants(tenant) and (tenant.running is not None or tenant.uuid in observed.imagined)
    ]
    if not observed.groups.unified:
        wanting = []  # said where masks are decided
    ready: dict[str, CpuSet] = {}
    for tenant in wanting:
        cpus, why, remedy = _cpus_of(tenant, placements.get(tenant.uuid), dedicated)
        if why:
            found.refusals.append(_refusal(tenant.name, why, remedy))
        else:
            ready[tenant.uuid] = cpus
    able = [tenant for tenant in wanting if tenant.uuid in ready and tenant.running is not None]
    for tenant in wanting:
        if tenant.uuid in ready and tenant.running is None:
            found.imagined += _imagined(observed, tenant, ready[tenant.uuid])
    scopes = {tenant.uuid: _scope(observed, tenant, found) for tenant in able}
    if found.questions:
        return found
    together: list[Tenant] = []
    for tenant in able:
        scope = scopes[tenant.uuid]
        kind = observed.attributes.get(f"{scope}/{KIND}") if scope else None
        if scope is None or kind is None:
            why = "the kernel has no cpuset for its control group"
            found.refusals.append(_refusal(tenant.name, why, "see /sys/fs/cgroup/cgroup.controllers"))
        elif observed.attributes.get(f"{scope}/{EXCLUSIVE}") is None:
            together.append(tenant)
        elif _is_pinned(tenant, ready[tenant.uuid]):
            _alone(found, observed, tenant, scope, ready[tenant.uuid])
    if together:
        _whole_slice(found, observed, domains, together, ready)
    _handed_down(found, observed)
    return found


def _wants(tenant: Tenant) -> bool:
    """A profile that is everybody's means nothing for who shares CPUs, unless a partition is asked for by name."""
    by_name = "partition" in tenant.policy.isolation
    return tenant.policy.isolates.partition != "none" and (tenant.mode == "dedicated" or by_name)


def _as_it_is(observed: Observed) -> Partitions:
    records = observed.ledger.groups
    ours = [
        g for g in observed.groups.units if g.unit in records and (g.is_domain or g.unit == MACHINE_SLICE)
    ]
    narrow = f"{MACHINES}/{KIND}" in observed.ledger.attributes
    masks = {g.unit: g.allowed for g in ours if g.is_domain or narrow}
    return Partitions(masks=masks, kept=True)


def _scope(observed: Observed, tenant: Tenant, found: Partitions) -> str | None:
    if tenant.name not in observed.scopes:
        found.questions.append(Question(kind="scope", object=tenant.name))
        return None
    scope = observed.scopes[tenant.name]
    if scope is not None:
        above = _above(scope)
        files = [f"{scope}/{KIND}", f"{scope}/{EXCLUSIVE}", *(f"{group}/{EXCLUSIVE}" for group in above)]
        missing = [path for path in (*files, f"{MACHINES}/{KIND}") if path not in observed.attributes]
        found.questions += [Question(kind="attribute", object=path) for path in missing]
    return scope


def _above(scope: str) -> tuple[str, ...]:
    parts = scope.removeprefix(f"{CGROUPS}/").split("/")[:-1]
    return tuple(f"{CGROUPS}/{'/'.join(parts[: depth + 1])}" for depth in range(len(parts)))


def _cpus_of(tenant: Tenant, placement: Placement | None, dedicated: CpuSet) -> tuple[CpuSet, str, str]:
    """The CPUs of its partition; or why it can have none, and what to do."""
    if placement is None or placement.vcpus is None:
        return (
            frozenset(),
            "it has no CPUs of its own",
            'set cpus = "dedicated" for it, and see its own refusal',
        )
    vcpus = frozenset[int]().union(*placement.vcpus)
    single = all(len(cpus) == 1 for cpus in placement.vcpus) and len(vcpus) == len(placement.vcpus)
    if tenant.policy.isolates.partition == "isolated" and not single:
        why = "its vCPUs are not pinned one to one, and in an isolated partition nothing spreads them over its CPUs"
        return frozenset(), why, 'mend its <vcpupin> elements, or set isolation = { partition = "root" }'
    cpus = vcpus | placement.idle | placement.emulator
    if not cpus <= dedicated:
        why = f"CPUs {format_cpu_list(cpus - dedicated)}, to which it is pinned, are not its own"
        return frozenset(), why, "pin it to CPUs that the host does not keep"
    outside = {what: there for what, there in _helpers(tenant, placement) if not there or not (there <= cpus)}
    if outside:
        which = "; ".join(
            f"{what} is on CPUs {format_cpu_list(there)}" if there else f"{what} has no CPU of its own"
            for what, there in outside.items()
        )
        why = f"every thread needs a CPU inside ({format_cpu_list(cpus)}), and {which}"
        return frozenset(), why, "leave room for emulator = 1, or pin it inside the domain's CPUs"
    return cpus, "", ""


def _helpers(tenant: Tenant, placement: Placement) -> Iterator[tuple[str, CpuSet]]:
    """Its emulator and iothreads, and where each belongs; empty: on the host's CPUs."""
    live = tenant.definition if tenant.running is None else tenant.running.live
    pinned = live.emulator_pins or live.cpuset or frozenset[int]()
    yield "its emulator", pinned if tenant.emulator_pinned else placement.emulator
    for index in live.iothread_ids:
        pins = live.iothread_pins.get(index, frozenset[int]())
        yield f"its iothread {index}", pins if index in tenant.iothreads_pinned else placement.emulator


def _is_pinned(tenant: Tenant, cpus: CpuSet) -> bool:
    """Every thread is where it belongs, as libvirt says it."""
    assert tenant.running is not None  # noqa: S101 - nobody else is asked about
    live = tenant.running.live
    isolated = tenant.policy.isolates.partition == "isolated"
    vcpus = [live.vcpu_pins.get(index, frozenset[int]()) for index in live.present]
    others = [
        live.emulator_pins or live.cpuset,
        *(live.iothread_pins.get(index) for index in live.iothread_ids),
    ]
    return all(there and there <= cpus and (len(there) == 1 or not isolated) for there in vcpus) and all(
        there and there <= cpus for there in others
    )


def _alone(found: Partitions, observed: Observed, tenant: Tenant, scope: str, cpus: CpuSet) -> None:
    kind = tenant.policy.isolates.partition
    assert kind != "none"  # noqa: S101 - such a one wants no partition
    found.wanted.append(
        Partition(path=scope, kind=kind, cpus=cpus, names=(tenant.name,), above=_above(scope))
    )
    if REMOTE <= observed.kernel < INDEPENDENT:
        found.masks[scope.rpartition("/")[2]] = cpus


def _imagined(observed: Observed, tenant: Tenant, cpus: CpuSet) -> Iterator[SetAttribute | SetPartition]:
    remote = observed.kernel >= REMOTE
    path = f"{MACHINES}/machine-qemu-*-{tenant.name}.scope" if remote else MACHINES
    why = f"the CPUs of {tenant.name} are nobody else's"
    for group in (MACHINES, path) if remote else ():
        yield SetAttribute(object=f"{group}/{EXCLUSIVE}", before="", after=format_cpu_list(cpus), why=why)
    kind = tenant.policy.isolates.partition
    yield SetPartition(object=f"{path}/{KIND}", before=MEMBER, after=kind, why=why)


def _whole_slice(
    found: Partitions,
    observed: Observed,
    domains: Sequence[Tenant],
    together: Sequence[Tenant],
    ready: Mapping[str, CpuSet],
) -> None:
    names = tuple(tenant.name for tenant in together)
    others = [t.name for t in domains if t.running is not None and t.name not in names]
    others += [t.name for t in together if not (observed.scopes.get(t.name) or "").startswith(f"{MACHINES}/")]
    inside = [*others, *(g.unit for g in _containers(observed))]
    if inside:
        why = (
            f"Linux makes a partition of a domain from 6.7 on; before, only all of {MACHINE_SLICE} can be one, and "
            f"{', '.join(inside)} cannot be in it, having no CPUs of the partition's"
        )
        for tenant in together:
            found.refusals.append(_refusal(tenant.name, why, "stop these, or take a newer kernel"))
        return
    starting = any(tenant.running is None for tenant in domains)
    cpus = frozenset[int]().union(*(ready[tenant.uuid] for tenant in together))
    if starting or not all(_is_pinned(tenant, ready[tenant.uuid]) for tenant in together):
        return  # what starts needs CPUs that are not in it, and would run on those of the others if they were
    all_isolated = all(tenant.policy.isolates.partition == "isolated" for tenant in together)
    found.wanted.append(
        Partition(path=MACHINES, kind="isolated" if all_isolated else "root", cpus=cpus, names=names)
    )
    found.masks[MACHINE_SLICE] = cpus


def _containers(observed: Observed) -> list[Group]:
    return [
        g
        for g in observed.groups.units
        if g.path.startswith(f"{MACHINES}/") and not g.is_domain and g.unit != MACHINE_SLICE
    ]


def _handed_down(found: Partitions, observed: Observed) -> None:
    """Before 6.11 the slices on the way have to have the CPUs in cpuset.cpus, too."""
    if not REMOTE <= observed.kernel < INDEPENDENT:
        return
    for partition in found.wanted:
        for path in partition.above:
            unit = path.rpartition("/")[2]
            group = observed.groups.get(unit)
            record = observed.ledger.groups.get(unit)
            if group is not None and (record is not None or not group.allowed >= partition.cpus):
                found.masks[unit] = observed.topology.possible


def partition_wishes(
    observed: Observed, partitions: Partitions, *, masked: bool
) -> tuple[list[Wish], list[Refusal]]:
    """`masked`: the units' masks are as they should be. Until then a partition stays as it is.

    The exclusive lists come first, and the partition when they are seen to be there.
    """
    wishes: list[Wish] = []
    refusals: list[Refusal] = []
    handed: dict[str, CpuSet] = {}
    for partition in partitions.wanted:
        for path in (*partition.above, *([partition.path] if partition.above else [])):
            handed[path] = handed.get(path, frozenset()) | partition.cpus
    whose = ", ".join(sorted(name for partition in partitions.wanted for name in partition.names))
    wishes += [
        Wish(
            path=f"{path}/{EXCLUSIVE}",
            value=format_cpu_list(handed[path]),
            why=f"handed down to the partition of {whose}",
            tolerated=(EINVAL,),
        )
        for path in sorted(handed)
    ]
    given = {wish.path for wish in wishes if observed.attributes.get(wish.path) == wish.value}
    for partition in partitions.wanted:
        lists = {f"{path}/{EXCLUSIVE}" for path in (*partition.above, partition.path) if path in handed}
        wishes.append(
            Wish(
                path=partition.file,
                value=partition.kind if masked and lists <= given else None,
                why=f"the CPUs of {', '.join(partition.names)} are nobody else's",
            )
        )
        why = _why_not(observed, partition, refused=lists & observed.immovable)
        remedy = "mend that; it is tried again when masks or CPUs change"
        refusals += [_refusal(name, why, remedy) for name in partition.names if why]
    if partitions.questions or partitions.kept:
        keep = [p for p in observed.ledger.attributes if p.endswith((f"/{KIND}", f"/{EXCLUSIVE}"))]
        wishes += [Wish(path=path, value=None, why="") for path in keep]
    return wishes, refusals


def _why_not(observed: Observed, partition: Partition, *, refused: AbstractSet[str]) -> str:
    text = observed.attributes.get(partition.file)
    cpus = format_cpu_list(partition.cpus)
    if refused:
        return f"the kernel does not give it CPUs {cpus} alone: another control group has them in {EXCLUSIVE}"
    if text is None or partition.file not in observed.immovable:
        return ""
    if is_invalid(text):
        return f"the kernel calls the partition of CPUs {cpus} invalid: {reason(text)}"
    if asked(text) != partition.kind:
        version = ".".join(map(str, observed.kernel))
        return f"this kernel ({version}) takes no {partition.kind} partition; it came with Linux 6.1"
    return ""


def _refusal(name: str, why: str, remedy: str) -> Refusal:
    return Refusal(object=name, reason=f"{name} gets no partition: {why}", remedy=remedy)


def made(observed: Observed, partitions: Partitions) -> tuple[Partition, ...]:
    """Those that are in force."""
    return tuple(p for p in partitions.wanted if observed.attributes.get(p.file) == p.kind)
