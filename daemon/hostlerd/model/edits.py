"""Edits of domain definitions: what is asked for, and what was done so that it can be taken back.

An edit is kept in /var/lib/hostler from before it is made until it is taken back: definitions outlive a reboot. It is
kept as the elements that came and went, never as the whole XML, so that what others change meanwhile stays theirs, and
no password of a definition is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.domains import Definition
from hostlerd.model.guest_memory import Numatune

Way = Literal["passthrough", "slice", "emulated"]
Model = Literal["virtio", "qxl", "bochs"]
WAYS: tuple[Way, ...] = ("passthrough", "slice", "emulated")
MODELS: tuple[Model, ...] = ("virtio", "qxl", "bochs")
By = Literal["user", "fallback", "policy"]
"""`policy`: `write_config = true`."""
Kind = Literal["gpu", "pins"]

GPU: Kind = "gpu"
"""The kind of edit that is about how a domain has its GPU."""
PINS: Kind = "pins"
"""The kind that is about where its threads and its memory begin. Edits of different kinds know nothing of each
other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceChoice:
    """A mediated device (`uuid`, `type`), or a virtual function (`vf`) of a card. `parent`: where it must be made."""

    uuid: str | None = None
    vf: str | None = None
    type: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuChange:
    """How a domain is to have its GPU. `leave`: PCI hostdevs that were its GPU and go if they are not in `pci`.

    `pci`: addresses it is to have, function 0 first. `model`: of the emulated display where it needs one;
    `keep_model`: one that is there may be of another model. `video`: False leaves the guest without one.
    """

    way: Way
    leave: frozenset[str] = frozenset()
    pci: tuple[str, ...] = ()
    slice: SliceChoice | None = None
    model: Model = "virtio"
    keep_model: bool = True
    video: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PinsChange:
    """Where a domain is to begin: lists of CPUs by vCPU and of the emulator, lists of nodes of its memory or of each
    cell.

    Empty text: there is no such element of ours. `mode`: of memory and cells.
    """

    vcpus: tuple[tuple[int, str], ...] = ()
    emulator: str = ""
    mode: str = "strict"
    memory: str = ""
    cells: tuple[tuple[int, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.vcpus or self.emulator or self.memory or self.cells)

    def __str__(self) -> str:
        """For people: ``vCPUs on 2,10,3,11, emulator on 0-1, memory on node 0 (strict)``."""
        parts = [f"vCPUs on {','.join(cpus for _, cpus in self.vcpus)}"] if self.vcpus else []
        parts += [f"emulator on {self.emulator}"] if self.emulator else []
        parts += [f"memory on node {self.memory} ({self.mode})"] if self.memory else []
        cells = ", ".join(f"{cell} on node {nodes}" for cell, nodes in self.cells)
        parts += [f"memory of cell {cells} ({self.mode})"] if cells else []
        return ", ".join(parts) or NO_PINS


NO_PINS = "no pins of hostler's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One element that came (`added`) or went. `parent`: "" is the domain itself, else `devices`, `cputune`, ...

    `index`: its place among the elements of its parent; `before`: what stood between the one in front and it (a
    comment); `text`: the element with the white space in front of it.
    """

    added: bool
    parent: str
    index: int
    before: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """`before`, `after`: for people. `changes` in the order they were made.

    `done`: False from before the definition is written until it was read back. `known`: the devices' canonical forms
    before, by which what libvirt itself added along (a port for the card) is told from what was there. `lacks`: PCI
    addresses a fallback waits for. `pins`: what the elements of an edit of that kind say.
    """

    uuid: str
    name: str
    kind: Kind
    by: By
    before: str
    after: str
    changes: tuple[Change, ...]
    known: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    since: float = 0.0
    done: bool = False
    pins: PinsChange = PinsChange()


Edits = Mapping[str, tuple[Edit, ...]]
"""By UUID of the domain; of each kind the last one is the newest, and the first to be taken back."""
NO_EDITS: Edits = MappingProxyType({})


def in_force(edits: Edits, uuid: str, kind: Kind = GPU) -> Edit | None:
    """The newest edit of a domain of this kind."""
    return next((edit for edit in reversed(edits.get(uuid, ())) if edit.kind == kind), None)


def written_pins(edits: Edits, uuid: str) -> PinsChange:
    """What hostler wrote into its definition of where it begins."""
    edit = in_force(edits, uuid, PINS)
    return PinsChange() if edit is None else edit.pins


def users_own(definition: Definition, edits: Edits) -> Definition:
    """A definition without the pins and the numatune that hostler wrote: what is left is explicit, and never
    overridden.

    By what they say: an element that somebody changed is somebody's.
    """
    ours = written_pins(edits, definition.uuid)
    if not ours:
        return definition
    vcpus = dict(ours.vcpus)
    return replace(
        definition,
        vcpu_pins={i: cpus for i, cpus in definition.vcpu_pins.items() if _list(cpus) != vcpus.get(i)},
        emulator_pins=None if _list(definition.emulator_pins) == ours.emulator else definition.emulator_pins,
        numatune=_users_numatune(definition.numatune, ours),
    )


def _users_numatune(numatune: Numatune | None, ours: PinsChange) -> Numatune | None:
    if numatune is None:
        return None
    of_cells = dict(ours.cells)
    cells = {
        cell: nodes
        for cell, nodes in numatune.cells.items()
        if (_list(nodes), numatune.modes.get(cell)) != (of_cells.get(cell), ours.mode)
    }
    is_ours = ours.memory and (_list(numatune.nodes), numatune.mode) == (ours.memory, ours.mode)
    nodes: CpuSet = frozenset() if is_ours else numatune.nodes
    if not cells and (is_ours or (ours.cells and not numatune.nodes)):
        return None
    return replace(numatune, nodes=nodes, cells=cells, modes={cell: numatune.modes[cell] for cell in cells})


def _list(cpus: CpuSet | None) -> str | None:
    return None if cpus is None else format_cpu_list(cpus)
