"""Placement for whoever asks: what each domain was given and why, who has which CPU, and what a start would move.

Pure. It plans again, and once more for each domain that may be in the way (decide/placement/explanation), so no pass
does this. A domain whose start is refused is placed here all the same: its reader wants to know where it would be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from hostlerd.decide.living import living
from hostlerd.decide.occupancy import cpu_owners
from hostlerd.decide.pinning import Tenant, ask, decide_placement, tenants
from hostlerd.decide.placement import Assignment, Scene, better_by, explain
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.explanation import CpuOwner, Explanation, Mode, Move
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Placement, Plan
from hostlerd.model.settings import Settings


def owners(observed: Observed, settings: Settings, plan: Plan) -> tuple[CpuOwner, ...]:
    """Who has each CPU by a plan that was made."""
    placements = {placement.uuid: placement for placement in plan.placements}
    domains = _present(observed, settings, placements)
    return cpu_owners(observed.topology, settings.housekeeping.cpus, domains, placements, living(observed))


def outlines(observed: Observed, settings: Settings, plan: Plan) -> dict[str, Explanation]:
    """By UUID what each domain was given by a plan that was made, without the terms: cheap enough for a pass."""
    placements = {placement.uuid: placement for placement in plan.placements}
    nothing = Placement(uuid="", vcpus=None)
    return {
        uuid: _outline(tenant, placements.get(uuid, nothing))
        for tenant in _present(observed, settings, placements)
        for uuid in [tenant.definition.uuid]
    }


def _present(observed: Observed, settings: Settings, uuids: Collection[str]) -> list[Tenant]:
    """Those that run, and of those that are about to start the ones in `uuids`, and whoever is left alone."""
    return [
        t
        for t in tenants(observed, settings)
        if t.running is not None or t.mode == "off" or t.definition.uuid in uuids
    ]


class Explained:
    """The placement of all domains as a plan has it, with `asked`, whatever that plan refuses."""

    def __init__(
        self, observed: Observed, settings: Settings, plan: Plan, asked: Collection[str] = ()
    ) -> None:
        self._observed, self._settings, self._plan = observed, settings, plan
        present = {placement.uuid for placement in plan.placements}.union(asked)
        self._domains = {t.definition.uuid: t for t in _present(observed, settings, present)}
        self._placements = decide_placement(observed, settings, self._domains.values())
        question = ask(observed, settings, self._domains.values())
        self._scene = Scene(
            host=question.host,
            needs=question.needs,
            current=question.current,
            assignments={need.name: self._assignment(need.name) for need in question.needs},
            names={uuid: tenant.definition.name for uuid, tenant in self._domains.items()}
            | {one.id: one.name for one in living(observed)},
            pinned={
                uuid: cpus
                for uuid, tenant in self._domains.items()
                if (cpus := tenant.explicit & question.host.taken)
            }
            | {one.id: one.taken for one in living(observed)},
        )

    def _assignment(self, uuid: str) -> Assignment | None:
        placement = self._placements[uuid]
        if placement.vcpus is None:
            return None
        tenant = self._domains[uuid]
        spots = dict(zip(tenant.definition.present, placement.vcpus, strict=True))
        free = [spots[vcpu] for vcpu in tenant.free_vcpus]
        return Assignment(
            vcpus=tuple(min(cpus) for cpus in free),
            emulator=tuple(sorted(placement.emulator)),
            idle=tuple(sorted(placement.idle)),
        )

    def of(self, uuid: str) -> Explanation | None:
        """None for a domain that neither runs nor was asked for."""
        tenant = self._domains.get(uuid)
        if tenant is None:
            return None
        placement = self._placements.get(uuid) or Placement(uuid=uuid, vcpus=None)
        outline = _outline(tenant, placement)
        terms = explain(self._scene, uuid) if uuid in self._scene.assignments else ()
        why = "; ".join(term.why for term in terms if term.why) if outline.mode == "floating" else outline.why
        return replace(outline, why=why, terms=terms)

    def owners(self) -> tuple[CpuOwner, ...]:
        reserved = self._settings.housekeeping.cpus
        return cpu_owners(
            self._observed.topology,
            reserved,
            self._domains.values(),
            self._placements,
            living(self._observed),
        )

    @property
    def housekeeping(self) -> CpuSet:
        """The CPUs that the host keeps."""
        if {placement.uuid for placement in self._plan.placements} >= self._placements.keys():
            return self._plan.housekeeping
        own = frozenset[int]().union(
            *(p.taken for p in self._placements.values()), *(one.taken for one in living(self._observed))
        )
        return self._observed.topology.online - (own - self._settings.housekeeping.cpus)

    def moves(self, before: CpuSet) -> Iterator[Move]:
        """Threads of running domains that would run elsewhere. `before`: the CPUs that the host keeps now."""
        for uuid, tenant in self._domains.items():
            if tenant.running is None or tenant.mode == "off":
                continue
            if self._placements[uuid].vcpus is not None:
                yield from self._moved(uuid, tenant)
            elif tenant.free_vcpus and before != self.housekeeping:
                yield Move(
                    domain=tenant.definition.name,
                    uuid=uuid,
                    vcpu=None,
                    before=before,
                    after=self.housekeeping,
                    why="what has no CPUs of its own floats on the host's",
                )

    def _moved(self, uuid: str, tenant: Tenant) -> Iterator[Move]:
        now, then = self._scene.current.get(uuid), self._scene.assignments.get(uuid)
        if now is None or then is None:
            return
        why: str | None = None
        for vcpu, old, new in zip(tenant.free_vcpus, now.vcpus, then.vcpus, strict=False):
            if old != new:
                why = better_by(self._scene, uuid) if why is None else why
                yield Move(
                    domain=tenant.definition.name,
                    uuid=uuid,
                    vcpu=vcpu,
                    before=frozenset({old}) & self._observed.topology.online,
                    after=frozenset({new}),
                    why=why,
                )


def _outline(tenant: Tenant, placement: Placement) -> Explanation:
    mode, why = _mode(tenant, placement)
    return Explanation(
        name=tenant.definition.name,
        uuid=tenant.definition.uuid,
        mode=mode,
        why=why,
        vcpus=placement.vcpus,
        emulator=placement.emulator,
        idle=placement.idle,
    )


def _mode(tenant: Tenant, placement: Placement) -> tuple[Mode, str]:
    """Why it floats is for the terms to say."""
    if tenant.mode == "shared" and tenant.policy.cpus == "auto":
        return "shared", 'it has no PCI device of the host; cpus = "dedicated" would give it CPUs of its own'
    if tenant.mode != "dedicated":
        return tenant.mode, f'cpus = "{tenant.mode}" is set for it'
    if not tenant.free_vcpus:
        return "pinned", "each of its vCPUs has a pin of its own, which is left alone"
    if placement.vcpus is None:
        return "floating", ""
    which = format_cpu_list(frozenset(tenant.pins))
    return "dedicated", f"its vCPUs {which} have pins of their own, which are left alone" if which else ""
