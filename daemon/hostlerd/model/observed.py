"""Everything a decision may look at: the host and libvirt as they are, and what the journal says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostlerd.model.cpus import Topology
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.devices import Function, Variant
from hostlerd.model.domains import Snapshot
from hostlerd.model.edits import NO_EDITS, Edits
from hostlerd.model.guest_memory import Placed
from hostlerd.model.holders import Grip, Holder
from hostlerd.model.hugepages import Hugepages
from hostlerd.model.identity import Known
from hostlerd.model.isolation import Groups
from hostlerd.model.ledger import Ledger
from hostlerd.model.memory import Bar
from hostlerd.model.slices import Slices
from hostlerd.model.tuning import Tuning
from hostlerd.model.usb import UsbDevice

RUNS = ("active", "activating", "reloading")
"""ActiveState of a unit that is there (org.freedesktop.systemd1(5))."""
UNKNOWN = "unknown"
"""systemd does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """`kernel`: (major, minor), (0, 0) if not known. `rule`: text of our udev rule file, None if there is none.

    `known`: what is remembered of the card at an address. `usb`: by port, without hubs. `edits`: ours of
    domain definitions.

    What only questions bring (model/questions), each absent where it was not asked: `holders` by address (of a mediated
    device by UUID), `grips` by address, `attributes` by path (None: there is no such file), `units` by name
    (ActiveState; empty: systemd does not say), `variants` by address (None: vfio-pci is the best), `platform` by device
    (its driver; empty for none, None: there is no such device), `bars` and `alive` by address, `guest_memory` by UUID
    of a running domain (empty: not known yet), `tuning`.

    `immovable`: files and threads that the kernel did not let us change. `imagined`: claims of domains that somebody
    only asks about.
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
    usb: Mapping[str, UsbDevice] = field(default_factory=dict)
    holders: Mapping[str, tuple[Holder, ...]] = field(default_factory=dict)
    grips: Mapping[str, Grip] = field(default_factory=dict)
    attributes: Mapping[str, str | None] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Variant | None] = field(default_factory=dict)
    platform: Mapping[str, str | None] = field(default_factory=dict)
    bars: Mapping[str, tuple[Bar, ...]] = field(default_factory=dict)
    alive: Mapping[str, bool] = field(default_factory=dict)
    guest_memory: Mapping[str, Placed] = field(default_factory=dict)
    hugepages: Hugepages | None = None
    tuning: Tuning | None = None
    scopes: Mapping[str, str | None] = field(default_factory=dict)
    """By name of a running domain, its control group's folder; None: there is none. Brought by questions, too."""
    immovable: frozenset[str] = frozenset()
    imagined: frozenset[str] = frozenset()
    affinity: Mapping[str, Mapping[int, CpuSet]] = field(default_factory=dict)
    """By UUID of a running domain and vCPU, where the kernel lets its thread run. Read where it may differ from the pin
    that libvirt shows, which is on Linux before 6.2."""
    starving: bool = False
    """Shared domains have waited for a CPU too much of late."""
    unseen: frozenset[str] = frozenset()
    """Scopes of programs that were made since this was looked at."""
    known: Mapping[str, Known] = field(default_factory=dict)
    edits: Edits = field(default_factory=lambda: NO_EDITS)

    def untouchable(self, obj: str) -> bool:
        """Nothing may be written to it: it is degraded, a write of ours is outstanding, or the kernel is at it.

        Also where that was so when this look began: what was not read then is not known.
        """
        function = self.functions.get(obj)
        return self.ledger.untouchable(obj) or (
            function is not None and (function.leaving or not function.readable)
        )

    @property
    def kept(self) -> Mapping[str, str]:
        """What a process has open through VFIO, to that process for people: a guest's, whatever libvirt lists."""
        found: dict[str, str] = {}
        for address, holders in self.holders.items():
            function = self.functions.get(address)
            guests = [holder for holder in holders if holder.node.startswith("/dev/vfio/")]
            if guests and (address in self.slices.mdevs or (function is not None and function.on_vfio)):
                found[address] = f"{guests[-1].command} (process {guests[-1].pid})"
        return found
