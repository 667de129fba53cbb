"""Programs that have CPUs for themselves, or ask for some: what domains are for QEMU, any other process can be.

A program runs in a scope of its own below hostler.slice. That slice is at the top on purpose: a cpuset only ever
narrows what the one above it has (cgroup-v2, cpuset.cpus.effective), and user.slice is what is kept off these CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hostlerd.model.cpuset import CpuSet, parse_cpu_list
from hostlerd.model.profile import PROFILES, Isolation

SLICE = "hostler.slice"
"""Never confined as the host's own slices are."""
SCOPE = "hostler-claim-"
"""How the scope of a program begins; its id follows."""
ROOT = 0
"""The user whom policy sets no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """`pid`, `start`: the process that asked (clock ticks after boot), which its scope is made of. `count`: CPUs.

    `cpus`: those it was given, `idle`: siblings kept empty for it, both as lists; empty while it waits for them. From
    then on it has them for as long as its scope lives.
    """

    id: str
    name: str
    uid: int
    pid: int
    start: int
    count: int
    same_l3: bool = False
    same_node: bool = False
    smt: Literal["pair", "isolate"] = "pair"
    core_class: Literal["performance", "efficiency", "none"] = "none"
    profile: Literal["balanced", "latency", "realtime", "none"] = "balanced"
    cpus: str = ""
    idle: str = ""

    @property
    def scope(self) -> str:
        return f"{SCOPE}{self.id}.scope"

    @property
    def given(self) -> bool:
        return bool(self.cpus)

    @property
    def isolates(self) -> Isolation:
        """Without a partition of its own: in an isolated one nothing would spread its threads over its CPUs."""
        return replace(PROFILES[self.profile], partition="none")

    @property
    def own(self) -> CpuSet:
        """What its processes may run on."""
        return parse_cpu_list(self.cpus)

    @property
    def taken(self) -> CpuSet:
        """What nobody else may."""
        return self.own | parse_cpu_list(self.idle)
