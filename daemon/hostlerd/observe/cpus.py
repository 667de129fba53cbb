"""Processors: which are on line, and what they share.

Rules. Sets are believed, ids are not: `core_id`, cache ids and package ids repeat (hwloc's reading of the same
files, topology-linux.c, is the reference). Masks come before lists, because the oldest kernels and recordings
have only these. Where CPUs disagree about a set, the view that most of them hold counts. Only on-line CPUs
count; a CPU without a topology folder is taken for off-line where others have one (kernels before 2.6.37 have
no list of those on line).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from hostler.errors import BadInput
from hostlerd.host import Files
from hostlerd.model.cpus import L3, CoreClass, Cpu, Node, Topology
from hostlerd.model.cpuset import CpuSet
from hostlerd.observe.core_class import core_classes
from hostlerd.observe.reading import cpu_list, cpu_set, names, number, text, to_number

CPUS = "/sys/devices/system/cpu"
NODES = "/sys/devices/system/node"
LOCAL = 10
"""Distance of a node to itself (ACPI SLIT)."""

_CPU = re.compile(r"cpu([0-9]+)")
_NODE = re.compile(r"node([0-9]+)")
_PROCESSOR = re.compile(r"processor\s*(?::\s*)?([0-9]+)")
_MEMORY = re.compile(r"MemTotal:\s*([0-9]+) kB")

AMD_COMPUTE_UNITS = frozenset({"21", "22"})
"""Families (Bulldozer to Jaguar) whose thread_siblings are cores of one module that share a front end, not threads."""


def observe_cpus(files: Files) -> Topology:
    """The topology under this root. Raises BadInput if no processor is described there."""
    cpuinfo = text(files, "/proc/cpuinfo") or ""
    online, offline = _present(files, cpuinfo)
    if not online:
        raise BadInput(
            "no processors found: neither /sys/devices/system/cpu nor /proc/cpuinfo describes any",
            remedy="name the root of a live or recorded host",
        )
    facts = _cpuinfo_facts(cpuinfo)
    siblings = _siblings(files, online, facts)
    sockets = _sockets(files, online, facts)
    caches = {cache.id: cache for cache in _level3(files, online, siblings)}
    cache_of = {cpu: cache.id for cache in caches.values() for cpu in cache.cpus}
    nodes = _nodes(files, online)
    node_of: dict[int, int] = {}
    for node in nodes:
        for cpu in node.cpus:
            node_of.setdefault(cpu, node.id)
    fastest = {cpu: number(files, f"{CPUS}/cpu{cpu}/cpufreq/cpuinfo_max_freq") for cpu in online}
    classes = core_classes(files, online, fastest, cache_of)
    return Topology(
        cpus=tuple(
            Cpu(
                id=cpu,
                core=min(siblings[cpu]),
                siblings=siblings[cpu],
                socket=sockets[cpu],
                node=node_of.get(cpu, nodes[0].id),
                l3=cache_of.get(cpu),
                core_class=classes.get(cpu, CoreClass.UNIFORM),
                max_mhz=None if (khz := fastest[cpu]) is None or khz <= 0 else khz / 1000,
            )
            for cpu in sorted(online)
        ),
        offline=offline,
        l3=tuple(caches[id_] for id_ in sorted(caches)),
        nodes=nodes,
        isolated=cpu_list(files, f"{CPUS}/isolated") or frozenset(),
        nohz_full=cpu_list(files, f"{CPUS}/nohz_full") or frozenset(),
    )


def _present(files: Files, cpuinfo: str) -> tuple[CpuSet, CpuSet]:
    """On-line and off-line CPUs."""
    present = {int(match[1]) for name in names(files, CPUS) if (match := _CPU.fullmatch(name))}
    online = cpu_list(files, f"{CPUS}/online")
    if not present:
        if online is None:
            online = frozenset(int(n) for n in _PROCESSOR.findall(cpuinfo))
        return online, frozenset()
    if online is None:
        online = frozenset(cpu for cpu in present if number(files, f"{CPUS}/cpu{cpu}/online") != 0)
    online &= present
    described = frozenset(cpu for cpu in online if files.exists(f"{CPUS}/cpu{cpu}/topology"))
    online = described or online
    return online, frozenset(present) - online


def _cpuinfo_facts(cpuinfo: str) -> Mapping[int, Mapping[str, str]]:
    """CPU to what /proc/cpuinfo says of it."""
    facts: dict[int, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "processor" and (cpu := to_number(value.strip())) is not None:
            current = facts.setdefault(cpu, {})
        current[key.strip()] = value.strip()
    return facts


def _share_out(online: CpuSet, view: Callable[[int], CpuSet | None]) -> dict[int, CpuSet]:
    """Disjoint sets from each CPU's view of whom it shares with (None: it does not say).

    Where views overlap and differ, the one that most CPUs hold is right, then the one of the lowest.
    """
    votes: Counter[CpuSet] = Counter()
    for cpu in sorted(online):
        seen = view(cpu)
        if seen is not None and cpu in seen:
            votes[seen & online] += 1
    shared: dict[int, CpuSet] = {}
    for seen, _ in sorted(votes.items(), key=lambda vote: (-vote[1], min(vote[0]))):
        members = seen.difference(shared)
        shared.update(dict.fromkeys(members, members))
    return shared


def _siblings(files: Files, online: CpuSet, facts: Mapping[int, Mapping[str, str]]) -> dict[int, CpuSet]:
    def view(cpu: int) -> CpuSet | None:
        folder = f"{CPUS}/cpu{cpu}/topology"
        found = cpu_set(files, f"{folder}/core_cpus", list_name="core_cpus_list") or cpu_set(
            files, f"{folder}/thread_siblings", list_name="thread_siblings_list"
        )
        if found is None:
            return _same(facts, online, cpu, ("physical id", "core id"))
        return frozenset({cpu}) if _compute_unit(files, facts, cpu, found & online) else found

    shared = _share_out(online, view)
    return {cpu: shared.get(cpu, frozenset({cpu})) for cpu in online}


def _compute_unit(files: Files, facts: Mapping[int, Mapping[str, str]], cpu: int, members: CpuSet) -> bool:
    """The "threads" are cores of an AMD module: their core ids differ."""
    about = facts.get(min(facts, default=-1), {})
    if about.get("vendor_id") != "AuthenticAMD" or about.get("cpu family") not in AMD_COMPUTE_UNITS:
        return False
    ids = {number(files, f"{CPUS}/cpu{member}/topology/core_id") for member in members | {cpu}}
    return len(ids) > 1


def _same(
    facts: Mapping[int, Mapping[str, str]], online: Iterable[int], cpu: int, keys: tuple[str, ...]
) -> CpuSet | None:
    """The CPUs that agree with `cpu` in /proc/cpuinfo on all `keys`; None if it does not have them."""
    own = [facts.get(cpu, {}).get(key) for key in keys]
    if None in own:
        return None
    return frozenset(other for other in online if [facts.get(other, {}).get(key) for key in keys] == own)


def _sockets(files: Files, online: CpuSet, facts: Mapping[int, Mapping[str, str]]) -> dict[int, int]:
    """CPU to the kernel's number of its package; counted from 0 where the numbers are missing or not unique."""

    def view(cpu: int) -> CpuSet | None:
        folder = f"{CPUS}/cpu{cpu}/topology"
        return (
            cpu_set(files, f"{folder}/package_cpus", list_name="package_cpus_list")
            or cpu_set(files, f"{folder}/core_siblings", list_name="core_siblings_list")
            or _same(facts, online, cpu, ("physical id",))
        )

    shared = _share_out(online, view)
    rest = online.difference(shared)
    packages = sorted({min(members): members for members in [*shared.values(), rest] if members}.items())
    ids: list[int | None] = []
    for first, _ in packages:
        id_ = number(files, f"{CPUS}/cpu{first}/topology/physical_package_id")
        ids.append(to_number(facts.get(first, {}).get("physical id")) if id_ is None else id_)
    trusted = len(set(ids)) == len(ids) and all(id_ is not None and id_ >= 0 for id_ in ids)
    return {
        cpu: id_ if trusted and id_ is not None else index
        for index, (id_, (_, members)) in enumerate(zip(ids, packages, strict=True))
        for cpu in members
    }


def _level3(files: Files, online: CpuSet, siblings: Mapping[int, CpuSet]) -> Iterable[L3]:
    sizes: dict[int, int | None] = {}

    def view(cpu: int) -> CpuSet | None:
        for name in sorted(names(files, f"{CPUS}/cpu{cpu}/cache"), reverse=True):
            folder = f"{CPUS}/cpu{cpu}/cache/{name}"
            if number(files, f"{folder}/level") != 3 or text(files, f"{folder}/type") == "Instruction":
                continue
            found = cpu_set(files, f"{folder}/shared_cpu_map", list_name="shared_cpu_list")
            if found is None:
                continue
            sizes[cpu] = _kib(text(files, f"{folder}/size"))
            # Itanium's kernels leave the mask empty: then it is the core's.
            return found or siblings[cpu]
        return None

    shared = _share_out(online, view)
    for members in {min(members): members for members in shared.values()}.values():
        first = min(members)
        yield L3(id=first, cpus=members, kib=sizes.get(first))


def _kib(size: str | None) -> int | None:
    """ "32768K" (kernel: always K)."""
    match = re.fullmatch(r"([0-9]+)([KMG]?)", size or "")
    if match is None or not int(match[1]):
        return None
    return int(match[1]) << {"M": 10, "G": 20}.get(match[2], 0)


def _nodes(files: Files, online: CpuSet) -> tuple[Node, ...]:
    """The NUMA nodes; where there are no files, one node with everything.

    Left out are a GPU's own memory and, as hwloc does, a node whose CPUs an earlier one has: firmware that
    makes no sense, unless the kernel was told to make nodes up (numa=fake=).
    """
    listed = cpu_list(files, f"{NODES}/online")
    found = {int(match[1]) for name in names(files, NODES) if (match := _NODE.fullmatch(name))}
    ids = sorted(found if listed is None else found & listed)
    sets = {
        id_: cpus
        for id_ in ids
        if (cpus := cpu_set(files, f"{NODES}/node{id_}/cpumap", list_name="cpulist")) is not None
    }
    hidden = _gpu_nodes(files)
    made_up = "numa=fake=" in (text(files, "/proc/cmdline") or "")
    kept: list[int] = []
    taken: CpuSet = frozenset()
    for id_, cpus in sets.items():
        if id_ not in hidden and (made_up or not cpus & taken):
            kept.append(id_)
            taken |= cpus
    if not kept:
        memory = _total(text(files, "/proc/meminfo"))
        return (Node(id=0, cpus=online, memory_kib=memory, distances=(LOCAL,)),)
    return tuple(
        Node(
            id=id_,
            cpus=sets[id_] & online,
            memory_kib=_total(text(files, f"{NODES}/node{id_}/meminfo")),
            distances=_distances(text(files, f"{NODES}/node{id_}/distance"), ids, kept, id_),
        )
        for id_ in kept
    )


def _distances(row: str | None, ids: list[int], kept: list[int], own: int) -> tuple[int, ...]:
    """The kernel's row has every on-line node in order; a row that makes no sense gives what SLIT's absence means."""
    values = [to_number(word) for word in (row or "").split()]
    if len(values) == len(ids) and None not in values:
        by_id = dict(zip(ids, values, strict=True))
        return tuple(by_id[id_] or LOCAL for id_ in kept)
    return tuple(LOCAL if id_ == own else 2 * LOCAL for id_ in kept)


def _total(meminfo: str | None) -> int:
    match = _MEMORY.search(meminfo or "")
    return int(match[1]) if match else 0


def _gpu_nodes(files: Files) -> frozenset[int]:
    """Nodes that NVIDIA's driver makes of its cards' memory: no place for a domain's."""
    gpus = "/proc/driver/nvidia/gpus"
    read = partial(text, files)
    found = (
        re.search(r"Node:\s*([0-9]+)", read(f"{gpus}/{gpu}/numa_status") or "") for gpu in names(files, gpus)
    )
    return frozenset(int(match[1]) for match in found if match)
