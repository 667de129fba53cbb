"""Whose CPUs are isolated, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hostlerd.model.cpuset import CpuSet
from hostlerd.model.profile import Isolation


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolated:
    """A domain with CPUs of its own. `functions`: the PCI functions that it has, `nodes`: where its CPUs are."""

    name: str
    cpus: CpuSet
    how: Isolation
    nodes: frozenset[int] = frozenset()
    functions: frozenset[str] = frozenset()


def cpus_of(isolated: Iterable[Isolated], wants: Callable[[Isolation], bool]) -> CpuSet:
    """The CPUs of all that want something."""
    return frozenset().union(*(one.cpus for one in isolated if wants(one.how)))


def whom(isolated: Iterable[Isolated], wants: Callable[[Isolation], bool]) -> str:
    return ", ".join(sorted(one.name for one in isolated if wants(one.how)))
