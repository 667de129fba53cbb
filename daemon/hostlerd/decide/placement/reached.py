"""What a domain reached in each term of the objective, in words."""

from __future__ import annotations

from collections import Counter

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.need import Assignment
from hostlerd.decide.placement.scene import Scene
from hostlerd.decide.placement.standing import crowded_cores, owners_of
from hostlerd.model.cpuset import format_cpu_list


class Reached:
    """`fewest`: L3 domains it could be on, where that is known."""

    def __init__(self, scene: Scene, domain: str, *, fewest: int | None = None) -> None:
        self.scene, self.host, self.fewest = scene, scene.host, fewest
        self.need = next(need for need in scene.needs if need.name == domain)
        self.owner = owners_of(scene.needs, scene.assignments)
        self.now = scene.standing(domain)

    def text(self, name: str, given: Assignment) -> str:
        value = getattr(self.now, name)
        match name:
            case "undedicated":
                emulator = f", {len(given.emulator)} of {self.need.emulator} for the emulator"
                return f"each of its {self.need.vcpus} vCPUs" + (emulator if self.need.emulator else "")
            case "displaced":
                return self._memory(value)
            case "smt":
                return self._cores(given)
            case "core_class":
                return self._classes(given)
            case "node_span":
                return self._nodes(given)
            case "locality":
                return self._distance(given)
            case "l3_span":
                return self._l3s(sorted({self.host.l3_of[cpu] for cpu in given.vcpus}))
            case "cache_pref":
                wanted = {"vcache": "on the largest cache", "frequency": "on the highest clock"}
                what = wanted.get(self.need.prefer)
                return f"{_of(self.need.vcpus - value, self.need.vcpus)} {what}" if what else "no preference"
            case "migrations":
                before = self.scene.current.get(self.need.name)
                moved = sum(a != b for a, b in zip(before.vcpus if before else (), given.vcpus, strict=False))
                return f"{count(moved, 'running vCPU')} to another CPU"
            case "cpu0":
                return "it has some of the first core, where the kernel's own work gathers"
            case "gpu_room":
                return f"{count(value, 'vCPU')} on a node whose GPU is not its own"
            case "l3_shared":
                l3s = sorted({self.host.l3_of[cpu] for cpu in given.vcpus})
                shared = [l3 for l3 in l3s if self.scene.sharers(self.need.name, {l3})]
                sharers = self.scene.sharers(self.need.name, l3s)
                return f"{numbered('L3', shared)} with {self.scene.listed(sharers)}"
            case _:
                return f"{count(value, 'L3 domain')} nobody else is in"

    def _memory(self, displaced: int) -> str:
        memory = self.need.all_memory()
        if not memory:
            return "it will be where its vCPUs are when it starts"
        if displaced:
            return f"{count(displaced, 'vCPU')} away from {numbered('node', sorted(memory))}, which has it"
        return f"on {numbered('node', sorted(memory))}, as its vCPUs are"

    def _cores(self, given: Assignment) -> str:
        need = self.need
        own = o.domain_terms(self.host, need, given, None).smt
        crowded = crowded_cores(self.host, self.owner, given)
        parts: list[str] = []
        if need.threads > 1:
            guests = -(-need.vcpus // need.threads)
            parts.append(f"{max(0, guests - own)} of {guests} guest cores on host cores of their own")
        elif need.isolated:
            parts.append(f"{_of(need.vcpus - own, need.vcpus)} on a core of its own")
        if crowded:
            names = sorted(set().union(*crowded.values()))
            parts.append(f"{numbered('core', list(crowded))} shared with {self.scene.listed(names)}")
        return ", ".join(parts) or "no core is shared"

    def _classes(self, given: Assignment) -> str:
        classes = Counter(str(self.host.cpus[cpu].core_class) for cpu in given.vcpus)
        if list(classes) == ["uniform"]:
            return "all cores are alike"
        wanted = self.need.core_class
        text = " and ".join(f"{count(n, 'vCPU')} on {name} cores" for name, n in sorted(classes.items()))
        return text + (f", {wanted} cores are wanted" if wanted and set(classes) != {wanted} else "")

    def _nodes(self, given: Assignment) -> str:
        nodes = sorted({self.host.cpus[cpu].node for cpu in given.vcpus})
        sockets = sorted({self.host.cpus[cpu].socket for cpu in given.vcpus})
        text = numbered("node", nodes)
        return f"{text}, {numbered('socket', sockets)}" if len(sockets) > 1 else text

    def _distance(self, given: Assignment) -> str:
        nodes = frozenset(self.host.cpus[cpu].node for cpu in given.cpus)
        gpu = self.need.gpu_node
        near = "its memory" if gpu is None else "its memory and its device"
        if not self.now.locality:
            return f"next to {near}"
        if gpu is not None and nodes != frozenset({gpu}):
            return f"on {numbered('node', sorted(nodes))}, its device is at node {gpu}"
        return f"on {numbered('node', sorted(nodes))}, farther from memory than on another"

    def _l3s(self, ids: list[int]) -> str:
        if self.fewest is not None and len(self.need.units()) == 1 and len(ids) > self.fewest:
            return f"{len(ids)} L3 domains instead of {self.fewest} ({_listing(ids)})"
        return numbered("L3", ids)


def count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _of(some: int, number: int) -> str:
    return f"{some} of {count(number, 'vCPU')}"


def needed(number: int) -> str:
    return f"{number} {'is' if number == 1 else 'are'} needed"


def numbered(what: str, ids: list[int]) -> str:
    """`L3 0`, `nodes 0 and 2`, `cores 1, 4 and 6`; many as ranges."""
    if min(ids) < 0:
        return "no L3 domain known"  # a node's CPUs without one count as one, with a negative number
    if len(ids) == 1:
        return f"{what} {ids[0]}"
    plural = f"{what} domains" if what == "L3" else f"{what}s"
    if len(ids) > 4:
        return f"{plural} {format_cpu_list(frozenset(ids))}"
    return f"{plural} {_listing(ids)}"


def _listing(ids: list[int]) -> str:
    names = [str(number) for number in ids]
    return f"{', '.join(names[:-1])} and {names[-1]}"
