"""Placement for readers: what a domain was given, term by term, who has which CPU, and what would move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hostlerd.model.cpuset import CpuSet

Mode = Literal["dedicated", "pinned", "floating", "shared", "off"]
"""CPUs of its own; all where its definition pins it; would have CPUs of its own but has none; on the host's CPUs by
policy or for want of a device; left alone by policy.
"""

OwnerKind = Literal[
    "vcpu", "emulator", "idle", "pinned", "program", "reserved", "host", "isolated", "offline"
]
"""A domain's: a vCPU's, its emulator's and iothreads', a sibling kept empty, pinned by its own definition. A program's
that asked for it, whose sibling may be kept empty, too; `domain` is that one's name then. Nobody's:
the host's for good (`housekeeping.cpus`), the host's, isolated at boot, off line.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One term of the objective as one domain sees it; lower is better.

    `term`: the objective's name for it, `title`: people's. `best`: what the domain would have if it were started alone
    on this host. `reached`: the value in words. `why`: what stands in the way; empty where nothing does.
    """

    term: str
    title: str
    value: int
    best: int
    reached: str
    why: str = ""

    @property
    def missed(self) -> bool:
        return self.value > self.best


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a domain was given and why. `vcpus`: the CPUs of each vCPU; None where it has none of its own."""

    name: str
    uuid: str
    mode: Mode
    why: str = ""
    vcpus: tuple[CpuSet, ...] | None = None
    emulator: CpuSet = frozenset()
    idle: CpuSet = frozenset()
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuOwner:
    """Who has a CPU. `domain`: its name, empty for the host's; `vcpu`: None where it is not one alone."""

    cpu: int
    kind: OwnerKind
    domain: str = ""
    vcpu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A thread that would run elsewhere. `vcpu`: None for all that floats of a domain. `before`, `after`: CPUs."""

    domain: str
    uuid: str
    vcpu: int | None
    before: CpuSet
    after: CpuSet
    why: str
