"""Why a program gets no CPUs, in words, with who has them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hostlerd.decide.placement import Host
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.plan import Refusal
from hostlerd.model.programs import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """`holders`: who has which CPUs, by name. `at_least`: how many the host keeps."""

    program: Program
    host: Host
    holders: Mapping[str, CpuSet]
    at_least: int

    def no_room(self) -> Refusal:
        return self._refusal(
            f"{self.program.name} asks for {_cpus(self.program.count)} of its own, and {self._free()}",
            self._to_free(f"ask for fewer than {self.program.count}"),
        )

    def no_such(self, wish: str) -> Refusal:
        return self._refusal(
            f"{self.program.name} asks for {_cpus(self.program.count)} {wish}, and no such ones are free: "
            f"{self._free()}",
            self._to_free("ask for fewer, or without that wish"),
        )

    def over_limit(self, reason: str) -> Refusal:
        return self._refusal(
            f"{self.program.name} does not get {_cpus(self.program.count)} of its own: {reason}",
            "ask for less, end what has some, or have the policy changed",
        )

    def no_unified(self) -> Refusal:
        return self._refusal(
            f"{self.program.name} gets no CPUs of its own: this host uses control groups v1",
            "boot with systemd.unified_cgroup_hierarchy=1 (the default since systemd 248)",
        )

    def _refusal(self, reason: str, remedy: str) -> Refusal:
        return Refusal(object=self.program.name, reason=reason, remedy=remedy, claim=self.program.id)

    def _free(self) -> str:
        free = self.host.usable.difference(*self.holders.values())
        spare = min(len(free), len(self.host.topology.online - self._held()) - self.at_least)
        has = "; ".join(
            f"{name} has {format_cpu_list(cpus)}" for name, cpus in sorted(self.holders.items()) if cpus
        )
        return f"{max(0, spare)} can be had, as the host keeps {self.at_least}" + (
            f" and {has}" if has else ""
        )

    def _held(self) -> CpuSet:
        return self.host.taken.union(*self.holders.values())

    def _to_free(self, otherwise: str) -> str:
        names = [name for name, cpus in sorted(self.holders.items()) if cpus]
        return f"end {' or '.join(names)}, or {otherwise}" if names else otherwise


def _cpus(count: int) -> str:
    return f"{count} CPU{'' if count == 1 else 's'}"
