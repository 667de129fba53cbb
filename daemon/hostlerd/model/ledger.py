"""What the journal says: the only truth that is stored. Everything else is read from the host again and again.

A *record* keeps how an object was before hostler first touched it; it is opened, with fsync, before the first write and
closed when the object is seen to be as it was. Putting back is therefore an ordinary pass: an object with a record that
nobody wants any more is wanted as the record says. That is what makes kill -9 harmless at any point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostlerd.model.domains import Definition
from hostlerd.model.programs import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """`driver`: None if it had none; `module`: that it is in. `any_driver`: it was new, whatever takes it is right.

    `ours`: what we override to; all that we ever did, with spaces between, as policy may have changed meanwhile.
    """

    address: str
    driver: str | None
    override: str | None
    any_driver: bool = False
    module: str = ""
    ours: str = "vfio-pci"
    identity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecord:
    """`allowed`: AllowedCPUs as set before (list text, empty if unset); `ours`: every list we wrote since.

    All of `ours`, not the last alone: it is journalled before the write, and the write may not have come.
    """

    unit: str
    allowed: str
    ours: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PinRecord:
    """What we pinned in a domain, so that it is never mistaken for the user's. Lists are kernel CPU lists.

    Of a thread that is about to be moved both lists are recorded, with a space between: either may be in force.
    `vcpus`, `iothreads`: index to list. `emulator`: list, empty if we did not pin it. `idle`: siblings kept empty for
    it. `own`: CPUs that its emulator and iothreads have for themselves.
    """

    uuid: str
    vcpus: Mapping[int, str] = field(default_factory=dict)
    iothreads: Mapping[int, str] = field(default_factory=dict)
    emulator: str = ""
    idle: str = ""
    own: str = ""
    away: str = ""
    """Its vCPUs that were not plugged in when this was written: their lists are ours, and no place that is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file of ours in /run (the udev rule): nothing was there before."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeRecord:
    """A file of the kernel with one value. `before`: its text when we first changed it; `ours`: all we ever wrote.

    `identity`: what the file was about where the same path may be about something else some day.
    """

    path: str
    before: str
    ours: tuple[str, ...] = ()
    identity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadRecord:
    """A thread of the kernel that we moved: lists of CPUs, as AttributeRecord has values. `start`: which one it is."""

    thread: str
    start: int
    before: str
    ours: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerRecord:
    """What irqbalance (`balancer`: its process) was told to keep off. What it knew before it knows by itself."""

    balancer: str
    cpus: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedRecord:
    """Something that ran, was stopped for a device and is to run again when that is home.

    `name`: a unit of systemd, or a container's id with its `engine`. `owner`: uid of a rootless engine's user.
    """

    name: str
    device: str
    claim: str
    engine: str = ""
    owner: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadedRecord:
    """A driver's module that was unloaded for a device, with those that used it, in the order in which they went."""

    module: str
    device: str
    stack: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VfsRecord:
    """A PF had no VFs when we made `ours`."""

    address: str
    ours: int

    @property
    def key(self) -> str:
        """Not the address alone: what is settled is settled whatever its kind, and a PF may have a device record."""
        return vfs_key(self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class MdevRecord:
    """There was no mediated device of this UUID. `persistent`: it stays when nobody wants it any more."""

    uuid: str
    parent: str
    type: str
    persistent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VgpuRecord:
    """An NVIDIA VF had no vGPU; `ours`: the type's number that we gave it.

    `name`: that type's name, which the host does not tell once there is nothing left to give.
    """

    address: str
    ours: int
    name: str = ""
    persistent: bool = False

    @property
    def key(self) -> str:
        return vgpu_key(self.address)


def vfs_key(address: str) -> str:
    return f"{address}/sriov_numvfs"


def vgpu_key(address: str) -> str:
    return f"{address}/nvidia/current_vgpu_type"


@dataclass(frozen=True, slots=True, kw_only=True)
class FramebufferRecord:
    """A boot framebuffer that let go of a card: its platform `device`, and the `driver` that is to have it again.

    `card_driver`: the card's own, empty for none; `memory`: where the card's BARs were.
    """

    device: str
    driver: str
    card: str
    card_driver: str = ""
    memory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarRecord:
    """A BAR that we resized: `before` and `ours` (all that we ever wanted) in MiB."""

    path: str
    address: str
    index: int
    before: int
    ours: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedRecord:
    """A function that was removed in order to be found anew. Its key is not the address, which other records have."""

    address: str

    @property
    def key(self) -> str:
        return f"removed {self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRecord:
    """What could be tried with a dead card was tried; `attempt`: see decide/life."""

    address: str
    attempt: str

    @property
    def key(self) -> str:
        return f"recovery of {self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HugepagesRecord:
    """Huge pages that a pool got for a domain: `added` so far, of `asked`. They are taken away when it is gone.

    Not the pool's count before: others use it, too, and change it, and what they do stays. `base`: the pages in it that
    no record of ours explains, below which nothing is taken.

    `before`, `target`: of a write that may have been made or not, or in part (the kernel gives fewer without an error,
    and a kill may come at any moment). What came of it is told from the pool's count, see decide/hugepages/counting.
    `compacted`: the kernel was asked to make room before.
    """

    uuid: str
    name: str
    path: str
    node: int
    page_kib: int
    added: int = 0
    asked: int = 0
    base: int = 0
    before: int = 0
    target: int = 0
    compacted: bool = False

    @property
    def key(self) -> str:
        return hugepages_key(self.uuid, self.path)

    @property
    def is_open(self) -> bool:
        """It is not known yet what came of the last write."""
        return self.before != self.target

    @property
    def spent(self) -> bool:
        """The kernel gave fewer than it was asked for."""
        return not self.is_open and self.added < self.asked


def hugepages_key(uuid: str, path: str) -> str:
    return f"{path} for {uuid}"


Record = (
    DeviceRecord
    | GroupRecord
    | PinRecord
    | FileRecord
    | AttributeRecord
    | ThreadRecord
    | BalancerRecord
    | StoppedRecord
    | UnloadedRecord
    | VfsRecord
    | MdevRecord
    | VgpuRecord
    | FramebufferRecord
    | BarRecord
    | RemovedRecord
    | RecoveryRecord
    | Program
    | HugepagesRecord
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A domain that is about to start or runs: from its hook's XML until it is seen to be gone.

    `since`: order against snapshots. `prepared`: its hook was told yes; from then on nothing is taken from it while
    it may run. One that is not yet is dropped by a restart, as its hook saw the connection break and refused the start.
    `saved`: it does not begin with the pins of its definition but with those that it was saved with (managed save,
    `virsh restore`), among them ours of that time.
    """

    definition: Definition
    since: int = 0
    prepared: bool = False
    xml: str = ""
    saved: bool = False

    @property
    def uuid(self) -> str:
        return self.definition.uuid

    @property
    def name(self) -> str:
        return self.definition.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A degraded object: `since` in seconds since the epoch."""

    object: str
    reason: str
    remedy: str
    since: float
    wedged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outstanding:
    """A step that began and of which no end was written."""

    number: int
    kind: str
    object: str
    writer: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    devices: Mapping[str, DeviceRecord] = field(default_factory=dict)
    groups: Mapping[str, GroupRecord] = field(default_factory=dict)
    pins: Mapping[str, PinRecord] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    vfs: Mapping[str, VfsRecord] = field(default_factory=dict)
    mdevs: Mapping[str, MdevRecord] = field(default_factory=dict)
    vgpus: Mapping[str, VgpuRecord] = field(default_factory=dict)
    attributes: Mapping[str, AttributeRecord] = field(default_factory=dict)
    threads: Mapping[str, ThreadRecord] = field(default_factory=dict)
    balancers: Mapping[str, BalancerRecord] = field(default_factory=dict)
    stopped: Mapping[str, StoppedRecord] = field(default_factory=dict)
    unloaded: Mapping[str, UnloadedRecord] = field(default_factory=dict)
    framebuffers: Mapping[str, FramebufferRecord] = field(default_factory=dict)
    bars: Mapping[str, BarRecord] = field(default_factory=dict)
    removed: Mapping[str, RemovedRecord] = field(default_factory=dict)
    recoveries: Mapping[str, RecoveryRecord] = field(default_factory=dict)
    hugepages: Mapping[str, HugepagesRecord] = field(default_factory=dict)
    claims: Mapping[str, Claim] = field(default_factory=dict)
    programs: Mapping[str, Program] = field(default_factory=dict)
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    outstanding: Mapping[int, Outstanding] = field(default_factory=dict)
    residue: tuple[str, ...] = ()
    """Units whose AllowedCPUs had to be left on the full mask (clearing it leaves the old mask on, systemd#43846)."""

    def claimant(self, claim: str) -> Claim | Program | None:
        """Whom something is done for: a domain, by its UUID, or a program, by its id."""
        return self.claims.get(claim) or self.programs.get(claim)

    def untouchable(self, obj: str) -> bool:
        """Its attributes must not be read and nothing may be written to it."""
        return obj in self.troubles or self.is_outstanding(obj)

    def is_outstanding(self, obj: str) -> bool:
        return any(step.object == obj for step in self.outstanding.values())
