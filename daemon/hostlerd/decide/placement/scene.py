"""A placement to be explained, and what it would be with a domain less."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from hostlerd.decide.placement import objective as o
from hostlerd.decide.placement.need import Need
from hostlerd.decide.placement.planner import place
from hostlerd.decide.placement.standing import Assignments, standing
from hostlerd.decide.placement.topology import Host
from hostlerd.model.cpuset import CpuSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the planner was asked and what it answered.

    `names`: what people call the domains. `pinned`: domains that are not the planner's, and the CPUs of `host.taken`
    that their own definitions name.
    """

    host: Host
    needs: tuple[Need, ...]
    current: Assignments
    assignments: Assignments
    names: Mapping[str, str] = field(default_factory=dict)
    pinned: Mapping[str, CpuSet] = field(default_factory=dict)

    def name(self, domain: str) -> str:
        return f"`{self.names.get(domain, domain)}`"

    def listed(self, domains: list[str]) -> str:
        """Domains by name; the empty one is the host."""
        words = ["the host" if not domain else self.name(domain) for domain in domains]
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

    def sharers(self, domain: str, l3s: Iterable[int]) -> list[str]:
        """Other domains that run vCPUs in these L3 domains."""
        return sorted(
            other.name
            for other in self.needs
            if other.name != domain
            and (has := self.assignments.get(other.name)) is not None
            and any(self.host.l3_of[cpu] in l3s for cpu in has.vcpus)
        )

    def without(self, domain: str | None, *, again: str | None = None) -> Scene:
        """Planned anew with `domain` stopped and the domain `again` started again."""
        needs = [n if n.name != again else _fresh(n) for n in self.needs if n.name != domain]
        pinned = {name: cpus for name, cpus in self.pinned.items() if name != domain}
        host = self.host
        if domain is not None and domain in self.pinned:
            gone = self.pinned[domain].difference(*pinned.values())
            host = replace(host, taken=host.taken - gone)
        current = {name: at for name, at in self.current.items() if name not in (domain, again)}
        answer = place(host, needs, current).assignments
        return replace(
            self, host=host, needs=tuple(needs), current=current, assignments=answer, pinned=pinned
        )

    def alone(self, domain: str) -> Scene:
        """`domain` started on a host without any other."""
        needs = tuple(_fresh(n) for n in self.needs if n.name == domain)
        others = frozenset().union(*(cpus for name, cpus in self.pinned.items() if name != domain))
        own = self.pinned.get(domain, frozenset[int]())
        host = replace(self.host, taken=self.host.taken - (others - own))
        answer = place(host, needs, {}).assignments
        return replace(self, host=host, needs=needs, current={}, assignments=answer)

    def staying(self, domain: str) -> Scene:
        """Planned anew with `domain` left where it runs."""
        needs = tuple(replace(n, movable=False) if n.name == domain else n for n in self.needs)
        return replace(self, needs=needs, assignments=place(self.host, needs, self.current).assignments)

    def standing(self, domain: str) -> o.Terms:
        need = next(n for n in self.needs if n.name == domain)
        return standing(self.host, self.needs, self.assignments, self.current, need)


def _fresh(need: Need) -> Need:
    """As at its next start: its memory is not placed yet."""
    return replace(need, memory=(), movable=True)
