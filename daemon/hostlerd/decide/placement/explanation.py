"""Why a domain did not get the best there is: each core term it misses in words, with what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.need import Assignment, Need
from hostlerd.decide.placement.topology import Host
from hostlerd.model.cpuset import CpuSet

Assignments = Mapping[str, Assignment | None]


def explain(host: Host, needs: Iterable[Need], assignments: Assignments) -> dict[str, tuple[str, ...]]:
    """By domain one sentence for each term it misses; () where it has the best there is."""
    needs = list(needs)
    return {need.name: tuple(_Reader(host, needs, assignments, need).sentences()) for need in needs}


class _Reader:
    def __init__(self, host: Host, needs: list[Need], assignments: Assignments, need: Need) -> None:
        self.host = host
        self.need = need
        self.needs = needs
        self.assignments = assignments
        self.given = assignments[need.name]
        self.others = {
            cpu: other.name
            for other in needs
            if other.name != need.name and (has := assignments[other.name]) is not None
            for cpu in has.cpus
        }
        self.free = host.usable.difference(self.others)

    def sentences(self) -> Iterator[str]:
        if self.given is None:
            yield self._floating()
            return
        terms = o.domain_terms(self.host, self.need, self.given, None)
        cpus = self.given.vcpus
        if terms.undedicated:
            yield f"{len(self.given.emulator)} emulator CPUs instead of {self.need.emulator}: no CPU is left for them"
        if terms.displaced:
            yield (
                f"{_count(terms.displaced, 'vCPU')} on a node that holds none of their memory: "
                f"{self._shortage('node', self.host.node_sets, self.need.all_memory())}"
            )
        if terms.smt:
            yield self._cores(terms.smt)
        shared = sorted(
            {self.others[c] for cpu in cpus for c in self.host.cores[self._core(cpu)] if c in self.others}
        )
        if shared:
            yield f"a core is shared with {_names(shared)}: too few whole cores are left"
        if terms.core_class:
            yield self._class()
        if terms.node_span:
            spanned = len({self.host.cpus[c].node for c in cpus})
            least = self.host.fewest(self.host.node_sets, len(cpus), whole_cores=self.need.isolated)
            yield f"{spanned} NUMA nodes instead of {least}: {self._shortage('node', self.host.node_sets)}"
        if terms.locality:
            yield self._distance()
        if terms.l3_span:
            spanned = len({self.host.l3_of[c] for c in cpus})
            least = spanned - terms.l3_span
            yield f"{spanned} L3 domains instead of {least}: {self._shortage('L3', self.host.l3_sets)}"
        if terms.cache_pref:
            what = "the largest cache" if self.need.prefer == "vcache" else "the highest clock"
            better = frozenset(
                cpu
                for cpu in self.host.cpus
                if not o.spurned(
                    self.need,
                    small_cache=self.host.l3_of[cpu] in self.host.small_l3,
                    slow=cpu in self.host.slow,
                )
            )
            yield f"{_count(terms.cache_pref, 'vCPU')} without {what}: {self._taken(better)}"

    def _core(self, cpu: int) -> int:
        return self.host.cpus[cpu].core

    def _whole_cores(self, cpus: CpuSet | set[int]) -> int:
        """Cores among `cpus` that take a guest core."""
        wide = [core for core in self.host.cores.values() if len(core) >= self.need.threads]
        return sum(cpus.issuperset(core) for core in wide or self.host.cores.values())

    def _cores_needed(self) -> int:
        need, width = self.need, max((len(core) for core in self.host.cores.values()), default=1)
        return need.vcpus if need.isolated else -(-need.vcpus // width)

    def _floating(self) -> str:
        spare = max(0, min(len(self.free), self.host.most_owned - len(self.others)))
        return (
            f"floats on the host's CPUs: {_count(self.need.vcpus, 'CPU')} needed, {spare} free"
            f"{self._would_free(self.host.usable, self.need.vcpus - spare)}"
        )

    def _shortage(self, what: str, sets: Mapping[int, CpuSet], only: frozenset[int] = frozenset()) -> str:
        """The set that comes nearest, and who is in the way there."""
        needed = self._cores_needed()
        choice = {name: cpus for name, cpus in sets.items() if not only or name in only} or sets
        if self.need.gpu_node is not None and what == "L3":
            near = {
                n: cpus
                for n, cpus in choice.items()
                if cpus & self.host.node_sets.get(self.need.gpu_node, cpus)
            }
            choice = near or choice
        name = max(choice, key=lambda n: (self._whole_cores(choice[n] & self.free), -n))
        free = self._whole_cores(choice[name] & self.free)
        if free >= needed:
            return f"{what} {name} has {_count(free, 'free core')}, but better use is made of them"
        lacking = (needed - free) * max(len(core) for core in self.host.cores.values())
        verb = "is" if needed == 1 else "are"
        return (
            f"{what} {name} has {_count(free, 'free core')}, {needed} {verb} needed"
            f"{self._would_free(choice[name], lacking)}"
        )

    def _would_free(self, cpus: CpuSet, lacking: int) -> str:
        """The smallest domain whose stop would make the room."""
        held: dict[str, int] = {}
        for cpu in cpus & self.others.keys():
            held[self.others[cpu]] = held.get(self.others[cpu], 0) + 1
        enough = sorted((count, name) for name, count in held.items() if count >= lacking)
        return f"; stopping {enough[0][1]} would free them" if enough else ""

    def _taken(self, cpus: CpuSet) -> str:
        names = sorted({self.others[cpu] for cpu in cpus & self.others.keys()})
        return f"taken by {_names(names)}" if names else "too few of these CPUs can be given away"

    def _cores(self, missed: int) -> str:
        width = max(len(core) for core in self.host.cores.values())
        if self.need.threads > width:
            return f"guest cores of {self.need.threads} threads on host cores of {width}"
        what = "isolated vCPU" if self.need.isolated else "guest core"
        whole = _count(
            self._whole_cores(self.free | set(self.given.cpus if self.given else ())), "whole core"
        )
        lacks = "without a host core of its own" if missed == 1 else "without host cores of their own"
        return f"{_count(missed, what)} {lacks}: {self._cores_needed()} needed, {whole} could be had"

    def _class(self) -> str:
        classes: dict[str, int] = {}
        for cpu in self.given.vcpus if self.given else ():
            name = str(self.host.cpus[cpu].core_class)
            classes[name] = classes.get(name, 0) + 1
        parts = " and ".join(
            f"{_count(count, 'vCPU')} on {name} cores" for name, count in sorted(classes.items())
        )
        wanted = self.need.core_class
        if wanted is None:
            return f"{parts} instead of one class: {self._taken(self.host.topology.online)}"
        cpus = frozenset(cpu.id for cpu in self.host.cpus.values() if str(cpu.core_class) == wanted)
        return f"{parts} where {wanted} cores are wanted: {self._taken(cpus)}"

    def _distance(self) -> str:
        nodes = sorted({self.host.cpus[cpu].node for cpu in self.given.vcpus}) if self.given else []
        where = "node " + ", ".join(map(str, nodes))
        gpu = self.need.gpu_node
        if gpu is not None and nodes != [gpu] and gpu in self.host.node_sets:
            return f"on {where} and not with its GPU: {self._shortage('node', self.host.node_sets, frozenset({gpu}))}"
        return f"on {where}, farther from memory than need be on another"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
