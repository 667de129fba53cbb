"""Why a domain has what it has: each term of the objective as it sees it, in words, and what stands in the way.

Rules: what is claimed is true of the planner itself. "Stopping X would" is said only where planning without X gave the
domain a better value of that very term and no worse one of those before it. Each of these is a plan, so readers ask for
an explanation and no pass does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.reached import Reached, count, needed, numbered
from hostlerd.decide.placement.scene import Scene
from hostlerd.decide.placement.standing import owners_of
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.explanation import Term

TRIALS = 8
"""Domains whose stop is tried for one explanation."""

CORE = o.Terms._fields[: o.Terms._fields.index("migrations")]
_TOGETHER = "what counts more, for it or for all domains together, comes first"
TITLES = {
    "undedicated": "own CPUs",
    "displaced": "memory",
    "smt": "whole cores",
    "core_class": "kind of core",
    "node_span": "NUMA nodes",
    "locality": "distance",
    "l3_span": "L3 domains",
    "cache_pref": "cache, clock",
    "migrations": "moves",
    "cpu0": "CPU 0",
    "gpu_room": "GPU's node",
    "l3_shared": "L3 shared",
    "free_l3": "L3 left free",
}


def explain(scene: Scene, domain: str) -> tuple[Term, ...]:
    """The eight terms that matter most, and of the others those that `domain` misses. One that floats has the first."""
    return tuple(_Explainer(scene, domain).terms())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """CPUs a domain would rather be on. `needed`: what they have too little of, as `text` says; 0: it is not that."""

    cpus: CpuSet
    text: str
    needed: int = 0


class _Explainer:
    def __init__(self, scene: Scene, domain: str) -> None:
        self.scene, self.host = scene, scene.host
        self.need = next(need for need in scene.needs if need.name == domain)
        self.given = scene.assignments.get(domain)
        self.runs = scene.current.get(domain) is not None
        owner = owners_of(scene.needs, scene.assignments)
        self.others = {cpu: name for cpu, name in owner.items() if name != domain}
        self.now = scene.standing(domain)
        self.alone = scene.alone(domain).standing(domain)
        self._tried: dict[tuple[str | None, bool], Scene] = {}

    def terms(self) -> Iterator[Term]:
        if self.given is None:
            spare = self._spare()
            what = f"{count(self.need.vcpus + self.need.emulator, 'CPU')} needed"
            if self.alone.undedicated >= self.now.undedicated:
                most = min(len(self.host.usable), self.host.most_owned)
                text = f"{what}, and this host can give away {most}"
            else:
                lacking = self.need.vcpus + self.need.emulator - spare
                ground = _Ground(cpus=self.host.topology.online, text=f"{what}, {spare} free", needed=lacking)
                text = self._sentence("undedicated", ground)
            floats = f"none: its {count(self.need.vcpus, 'vCPU')} float on the host's CPUs"
            yield self._term("undedicated", floats, text)
            return
        reached = Reached(self.scene, self.need.name, fewest=self.alone.l3_span)
        for name in CORE:
            missed = getattr(self.now, name) > getattr(self.alone, name)
            yield self._term(name, reached.text(name, self.given), self._why(name) if missed else "")
        for name in o.Terms._fields[len(CORE) :]:
            value = getattr(self.now, name)
            plain = name == "l3_shared" and len(self.host.l3_sets) == 1  # there is nowhere else
            if value and value > getattr(self.alone, name) and not plain:
                yield self._term(name, reached.text(name, self.given), self._beside(name))

    def _term(self, name: str, reached: str, why: str) -> Term:
        value = getattr(self.now, name)
        best = min(value, getattr(self.alone, name))
        shown = "class" if name == "core_class" else name
        return Term(term=shown, title=TITLES[name], value=value, best=best, reached=reached, why=why)

    # What stands in the way.

    def _why(self, name: str) -> str:
        match name:
            case "undedicated":
                text = f"{count(self._spare(), 'CPU')} left for the emulator"
                return self._sentence(
                    name, _Ground(cpus=self.host.topology.online, text=text, needed=self.now.undedicated)
                )
            case "displaced" | "locality" | "node_span":
                nodes = {f"node {node}": cpus for node, cpus in self.host.node_sets.items()}
                return self._sentence(name, self._nearest(nodes))
            case "l3_span":
                l3s = {numbered("L3", [l3]): cpus for l3, cpus in self.host.l3_sets.items()}
                return self._sentence(name, self._nearest(l3s))
            case "smt":
                return self._sentence(name, self._nearest({"the host": self.host.topology.online}))
            case "core_class":
                return self._sentence(name, self._nearest(self._kinds()))
            case _:
                return self._sentence(name, self._taken(self._preferred()))

    def _beside(self, name: str) -> str:
        """Of a term that matters less: whom to stop, if that is plain."""
        sharers = self.scene.sharers(
            self.need.name, {self.host.l3_of[cpu] for cpu in (self.given.vcpus if self.given else ())}
        )
        for other in sharers[:2] if name == "l3_shared" else ():
            if self._betters(name, self._try(other)):
                return f"stopping {self.scene.name(other)} would give it more of the cache"
        return ""

    def _sentence(self, name: str, ground: _Ground) -> str:
        """What is in the way, and the first of the ways out that the planner says would help."""
        obstacle = ground.text if ground.needed else self._held() or ground.text
        way = next(self._ways(name, ground.cpus), None)
        if way is None:
            return obstacle
        other, again, found = way
        stop = f"stopping {self.scene.name(other)}" if other else ""
        start = f"starting {self.scene.name(self.need.name)} again" if again else ""
        act = " and ".join(filter(None, (stop, start)))
        given = found.assignments[self.need.name]
        if getattr(found.standing(self.need.name), name) > getattr(self.alone, name):
            return f"{obstacle}; {act} would help"
        if ground.needed and not again and given is not None and ground.cpus.issuperset(given.vcpus):
            return f"{obstacle}; {act} would free {'it' if ground.needed == 1 else 'them'}"
        return f"{obstacle}; {act} would put that right"

    def _held(self) -> str:
        """Why it stays though there is room."""
        if not self.runs:
            return ""
        if not self.need.movable:
            return "it is never moved while it runs"
        if memory := self.need.all_memory():
            return f"its memory is on {numbered('node', sorted(memory))} and cannot follow it"
        return ""

    def _ways(self, name: str, ground: CpuSet) -> Iterator[tuple[str | None, bool, Scene]]:
        """Whom to stop and whether to start it again, as far as the planner says that this betters the term."""
        others = self._in_the_way(ground)
        ways: list[tuple[str | None, bool]] = [(other, False) for other in others]
        if self.runs:
            ways += [(None, True), *((other, True) for other in others)]
        for other, again in ways:
            if self._betters(name, found := self._try(other, again=again)):
                yield other, again, found

    def _betters(self, name: str, found: Scene) -> bool:
        """A better value of this term, and no worse one of any before it."""
        index, then = o.Terms._fields.index(name), found.standing(self.need.name)
        return then[index] < self.now[index] and all(
            a <= b for a, b in zip(then[:index], self.now, strict=False)
        )

    def _try(self, other: str | None, *, again: bool = False) -> Scene:
        if (other, again) not in self._tried:
            self._tried[other, again] = self.scene.without(other, again=self.need.name if again else None)
        return self._tried[other, again]

    def _in_the_way(self, ground: CpuSet) -> list[str]:
        """Those with CPUs there, who has most of them first; of those alike the smallest."""
        held = Counter(self.others[cpu] for cpu in ground & self.others.keys())
        held.update({name: len(ground & cpus) for name, cpus in self.scene.pinned.items() if ground & cpus})
        held.pop(self.need.name, None)
        lacking = self.need.vcpus - len(ground & self._free())
        sizes = Counter(self.others.values())
        order = sorted(held, key=lambda name: (held[name] < lacking, sizes[name], -held[name], name))
        return order[:TRIALS]

    # Room.

    def _free(self) -> CpuSet:
        return self.host.usable.difference(self.others)

    def _spare(self) -> int:
        return max(0, min(len(self._free()), self.host.most_owned - len(self.others)))

    def _preferred(self) -> CpuSet:
        """The CPUs that are as it prefers."""
        small, slow = self.host.small_l3, self.host.slow
        return frozenset(
            cpu
            for cpu, l3 in self.host.l3_of.items()
            if not o.spurned(self.need, small_cache=l3 in small, slow=cpu in slow)
        )

    def _taken(self, cpus: CpuSet) -> _Ground:
        free, vcpus = len(cpus & self._free()), self.need.vcpus
        if free >= vcpus:
            return _Ground(cpus=cpus, text=_TOGETHER)
        return _Ground(cpus=cpus, text=f"{count(free, 'such CPU')} free, {needed(vcpus)}", needed=vcpus)

    def _kinds(self) -> dict[str, CpuSet]:
        """The CPUs of each class of cores that it may be on."""
        kinds: dict[str, set[int]] = {}
        for cpu in self.host.cpus.values():
            if not o.wrong_class(self.need, cpu.core_class):
                kinds.setdefault(f"the {cpu.core_class} part", set()).add(cpu.id)
        return {kind: frozenset(cpus) for kind, cpus in kinds.items()} or {
            "the host": self.host.topology.online
        }

    def _nearest(self, sets: Mapping[str, CpuSet]) -> _Ground:
        """Of the sets, by name, that could hold its largest cell, were they empty, the one with most room."""
        vcpus = max(len(cell) for cell in self.need.units())
        able = {k: s for k, s in sets.items() if self._room(s & self.host.usable) >= vcpus} or dict(sets)
        gpu = self.need.gpu_node
        if gpu is not None:
            by_gpu = self.host.node_sets.get(gpu, frozenset())
            able = {k: s for k, s in able.items() if s & by_gpu} or able
        free = self._free()
        label = max(able, key=lambda k: self._room(able[k] & free))
        cpus, here = able[label], able[label] & free
        cores = {c: len(self.host.cores[c]) for c in {self.host.cpus[cpu].core for cpu in cpus}}
        whole = sum(here.issuperset(self.host.cores[core]) for core in cores)
        if self._room(here) >= vcpus:
            return _Ground(cpus=cpus, text=_TOGETHER)
        if len(set(cores.values())) == 1:
            wanted = -(-vcpus // self._per_core(next(iter(cores.values()))))
            text = f"{label} has {count(whole, 'free core')}, {needed(wanted)}"
            return _Ground(cpus=cpus, text=text, needed=wanted)
        text = f"{label} has room for {count(self._room(here), 'vCPU')}, {needed(vcpus)}"
        return _Ground(cpus=cpus, text=text, needed=vcpus)

    def _room(self, cpus: CpuSet) -> int:
        """vCPUs that the whole cores among `cpus` hold."""
        cores = {self.host.cpus[cpu].core for cpu in cpus}
        return sum(
            self._per_core(len(self.host.cores[c])) for c in cores if cpus.issuperset(self.host.cores[c])
        )

    def _per_core(self, width: int) -> int:
        threads = self.need.threads
        if self.need.isolated:
            return 1
        return width // threads * threads if 1 < threads <= width else width


def better_by(scene: Scene, mover: str) -> str:
    """What is gained where `mover` leaves the CPUs it runs on: the first term that would be worse if it stayed."""
    stay = scene.staying(mover)
    everybody = sorted((need.name for need in scene.needs), key=lambda name: (name == mover, name))
    for index, name in enumerate(CORE):
        for domain in everybody:
            now, then = scene.standing(domain), stay.standing(domain)
            given, instead = scene.assignments.get(domain), stay.assignments.get(domain)
            if now[index] >= then[index] or given is None:
                continue
            if instead is None:
                return f"{scene.name(domain)} has CPUs of its own by it"
            texts = (Reached(at, domain).text(name, cpus) for at, cpus in ((scene, given), (stay, instead)))
            return f"for {scene.name(domain)}, {TITLES[name]}: {' instead of '.join(texts)}"
    return "the domains together are better placed"
