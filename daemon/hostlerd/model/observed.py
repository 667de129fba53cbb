"""Everything a decision may look at: the host and libvirt as they are, and what the journal says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostlerd.model.cpus import Topology
from hostlerd.model.devices import Function
from hostlerd.model.domains import Snapshot
from hostlerd.model.isolation import Groups
from hostlerd.model.ledger import Ledger
from hostlerd.model.slices import Slices


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """`kernel`: (major, minor), (0, 0) if not known. `rule`: text of our udev rule file, None if there is none.

    `open`: of the devices that would leave VFIO, and of the mediated devices that would be removed (by
    UUID), those that a process has open, to that process for people.
    """

    topology: Topology
    functions: Mapping[str, Function]
    slices: Slices = field(default_factory=Slices)
    groups: Groups = field(default_factory=Groups)
    snapshot: Snapshot = field(default_factory=Snapshot)
    ledger: Ledger = field(default_factory=Ledger)
    drivers: frozenset[str] = frozenset()
    kernel: tuple[int, int] = (0, 0)
    rule: str | None = None
    open: Mapping[str, str] = field(default_factory=dict)
