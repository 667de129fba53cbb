"""What a domain wants of the host's CPUs, and what it was given: the planner's input and output values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cells = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One domain that wants CPUs of its own.

    `threads`: SMT threads of a guest core, vCPUs 0..threads-1 being the first core. `cells`: vCPU indexes of each guest
    NUMA cell; () is one cell. `emulator`: CPUs wanted for its emulator. `memory`: host nodes that hold each cell's
    memory, () while nothing is allocated. `movable`: False pins it where it is for good.
    """

    name: str
    vcpus: int
    threads: int = 1
    cells: Cells = ()
    emulator: int = 0
    gpu_node: int | None = None
    core_class: Literal["performance", "efficiency"] | None = None
    prefer: Literal["vcache", "frequency", "none"] = "none"
    smt: Literal["pair", "isolate"] = "pair"
    priority: int = 0
    memory: tuple[frozenset[int], ...] = ()
    movable: bool = True

    @property
    def isolated(self) -> bool:
        """Each vCPU wants a core of its own. A guest that sees threads needs the siblings instead."""
        return self.smt == "isolate" and self.threads == 1

    def units(self) -> Cells:
        """vCPU indexes by guest cell, covering 0..vcpus-1 once: a vCPU no cell names is in the last one."""
        if not self.cells:
            return (tuple(range(self.vcpus)),)
        named = {i for cell in self.cells for i in cell}
        cells = [tuple(i for i in cell if i < self.vcpus) for cell in self.cells]
        cells[-1] += tuple(i for i in range(self.vcpus) if i not in named)
        return tuple(cells)

    def memory_of(self, cell: int) -> frozenset[int]:
        """Nodes that hold the memory of a cell; empty while there is none."""
        return self.memory[cell] if cell < len(self.memory) else self.all_memory()

    def all_memory(self) -> frozenset[int]:
        return frozenset[int]().union(*self.memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """CPUs of one domain: `vcpus` by vCPU index, `emulator`, and `idle` siblings nobody else may use."""

    vcpus: tuple[int, ...]
    emulator: tuple[int, ...] = ()
    idle: tuple[int, ...] = ()

    @property
    def cpus(self) -> tuple[int, ...]:
        return self.vcpus + self.emulator + self.idle
