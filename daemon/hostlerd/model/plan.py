"""What will be done and what will not, with reasons. A plan is data: it is printed, then performed as printed.

Longer than 400 lines because each kind of step there is is a few lines here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hostlerd.model.caution import Caution
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.devices import Function
from hostlerd.model.edits import GPU, By, GpuChange, Kind, PinsChange
from hostlerd.model.holders import Container
from hostlerd.model.identity import Known
from hostlerd.model.ledger import (
    AttributeRecord,
    BalancerRecord,
    BarRecord,
    DeviceRecord,
    FileRecord,
    FramebufferRecord,
    GroupRecord,
    HugepagesRecord,
    MdevRecord,
    PinRecord,
    RecoveryRecord,
    RemovedRecord,
    StoppedRecord,
    ThreadRecord,
    UnloadedRecord,
    VfsRecord,
    VgpuRecord,
)
from hostlerd.model.partition import Partition
from hostlerd.model.programs import Program
from hostlerd.model.questions import Question
from hostlerd.model.usb import UsbDevice

Lane = Literal["host", "libvirt"]
"""Who performs a step: the host's own pass, or the pass that talks to libvirt, which may have to wait for a hook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`object` is what is changed, `before` and `after` its values as text, `claim` the domain it is for (UUID).

    `record` is journalled before the step is performed.
    """

    kind: ClassVar[str]
    lane: ClassVar[Lane] = "host"

    object: str
    before: str | None
    after: str | None
    why: str
    claim: str | None = None
    optional: bool = False
    """Its claim does without it where it fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModule(Step):
    """`object`: the module, or an alias of it; `driver`: the PCI driver that must be there then, if it is one.

    Not undone: an idle module harms nobody, unloading one may.
    """

    kind: ClassVar[str] = "load-module"
    driver: str = ""
    device: str = ""
    """The function that is waiting for it on its way home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadModule(Step):
    """Leave a driver whose unbind may never return: where `modules` (`object` the last of them) cannot be unloaded, the
    kernel says so at once and nothing has happened (delete_module, EWOULDBLOCK).
    """

    kind: ClassVar[str] = "unload-module"
    modules: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    """The functions on the driver: while it is under way none of their attributes may be read."""
    record: UnloadedRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFree(Step):
    """Look once more, right before they are taken from their drivers, that nobody has one of `functions` open."""

    kind: ClassVar[str] = "check-free"
    functions: tuple[Function, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAttribute(Step):
    """Write one value to the kernel file `object`."""

    kind: ClassVar[str] = "attribute"
    record: AttributeRecord | None = None
    tolerated: tuple[int, ...] = ()
    """Numbers of errors that say that it cannot be changed, which is no fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPartition(Step):
    """Make the control group whose cpuset.cpus.partition `object` is a partition, or (member) none any more."""

    kind: ClassVar[str] = "partition"
    record: AttributeRecord | None = None

    @property
    def unit(self) -> str:
        return self.object.split("/")[-2]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveThread(Step):
    """Let the thread `pid` of the kernel that began at `start` run on the CPUs `after`."""

    kind: ClassVar[str] = "kthread"
    pid: int
    start: int
    record: ThreadRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class TellBalancer(Step):
    """Tell irqbalance to keep off the CPUs `after`, or with None that it may do as it would by itself."""

    kind: ClassVar[str] = "irqbalance"
    pid: int
    socket: str
    record: BalancerRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop(Step):
    """Stop a unit, or a container, for a device; it has `limit` seconds."""

    kind: ClassVar[str] = "stop"
    limit: float
    container: Container | None = None
    record: StoppedRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAgain(Step):
    """Start what was stopped for a device that is home again."""

    kind: ClassVar[str] = "start"
    container: Container | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminate(Step):
    """SIGTERM, and SIGKILL after `limit` seconds, to the process `pid` that began at `start`. Cannot be undone."""

    kind: ClassVar[str] = "terminate"
    pid: int
    start: int | None
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Override(Step):
    """Set driver_override; None clears it (Documentation/ABI/testing/sysfs-bus-pci)."""

    kind: ClassVar[str] = "override"
    record: DeviceRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbind(Step):
    """Take the device from its driver `before`."""

    kind: ClassVar[str] = "unbind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Step):
    """Let drivers have the device; `after` is the one that must have it then, None if any will do."""

    kind: ClassVar[str] = "probe"
    to_vfio: bool = False
    record: DeviceRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Framebuffer(Step):
    """Take the platform device `object` from its `driver`, or (`after`) bind it again."""

    kind: ClassVar[str] = "framebuffer"
    driver: str
    record: FramebufferRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeBar(Step):
    """Give BAR `index` of the function `address` `size` MiB; no driver may have it."""

    kind: ClassVar[str] = "bar"
    address: str
    index: int
    size: int
    record: BarRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAlive(Step):
    """Does the function answer? `recoverable`: if not, the next look does something about it, and `together` wait."""

    kind: ClassVar[str] = "check-alive"
    reason: str
    remedy: str
    recoverable: bool = False
    together: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetCard(Step):
    """Reset the bus of a function that does not answer. `recovery` is recorded when it was tried, not before."""

    kind: ClassVar[str] = "reset-card"
    recovery: RecoveryRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFunction(Step):
    """Take a function off the bus, to be found again by the Rescan that follows."""

    kind: ClassVar[str] = "remove"
    record: RemovedRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescan(Step):
    """Look for `functions` on the bus. `recovery`: as of a ResetCard."""

    kind: ClassVar[str] = "rescan"
    functions: tuple[str, ...]
    recovery: RecoveryRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHugepages(Step):
    """Bring the lasting pages of the pool `object` from `record.before` to `record.target`, or as near as they come."""

    kind: ClassVar[str] = "hugepages"
    record: HugepagesRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeRoom(Step):
    """Have the kernel move memory together, or forget what it has cached of files: for huge pages. Cannot be undone."""

    kind: ClassVar[str] = "make-room"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowCpus(Step):
    """Set AllowedCPUs of a unit to `cpus`."""

    kind: ClassVar[str] = "allowed-cpus"
    cpus: CpuSet
    path: str = ""
    """Its control group's folder, empty if it has none yet."""
    record: GroupRecord | None = None
    residue: bool = False
    """The property was not set before and has to stay on the full mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterScope(Step):
    """Move the process that asked for CPUs into a scope of its own (`object`), which has no others."""

    kind: ClassVar[str] = "scope"
    record: Program


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRule(Step):
    """Write (or, with `text` None, remove) the udev rule that sets overrides before drivers probe."""

    kind: ClassVar[str] = "udev-rule"
    text: str | None
    record: FileRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin(Step):
    """Pin one vCPU, one iothread or the emulator of a domain through libvirt."""

    kind: ClassVar[str] = "pin"
    lane: ClassVar[Lane] = "libvirt"
    uuid: str
    thread: Literal["vcpu", "iothread", "emulator"]
    index: int = 0
    cpus: CpuSet
    record: PinRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVfs(Step):
    """Make a PF's VFs, all at once, or take all away: the kernel cannot add to some (sriov_numvfs_store)."""

    kind: ClassVar[str] = "virtual-functions"
    count: int
    record: VfsRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateMdev(Step):
    """Make a mediated device (`object` is its UUID) and give it its attributes."""

    kind: ClassVar[str] = "mdev"
    parent: str
    type: str
    attrs: tuple[tuple[str, str], ...] = ()
    record: MdevRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMdev(Step):
    """Take a mediated device away."""

    kind: ClassVar[str] = "mdev"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVgpuType(Step):
    """Give an NVIDIA VF a vGPU of the type with this number, or with 0 take it away."""

    kind: ClassVar[str] = "vgpu-type"
    number: int
    record: VgpuRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EditDefinition(Step):
    """Change how a domain's definition gives it its GPU or where it begins (`about`), or (`change` None) take hostler's
    last edit of that kind back.

    Its record is kept in /var/lib/hostler, as a definition outlives the journal. `lacks`: what it has to do without.
    """

    kind: ClassVar[str] = "definition"
    lane: ClassVar[Lane] = "libvirt"
    uuid: str
    change: GpuChange | PinsChange | None
    about: Kind = GPU
    by: By = "fallback"
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachUsb(Step):
    """Give a USB device to a running domain, marked as ours (model/usb)."""

    kind: ClassVar[str] = "attach-usb"
    lane: ClassVar[Lane] = "libvirt"
    uuid: str
    device: UsbDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachUsb(Step):
    """Take a USB device that we attached from a running domain; it may have been unplugged since."""

    kind: ClassVar[str] = "detach-usb"
    lane: ClassVar[Lane] = "libvirt"
    uuid: str
    device: UsbDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """`claim`: the domain whose start it refuses, if it is one."""

    object: str
    reason: str
    remedy: str
    claim: str | None = None
    claimed_by: str | None = None
    in_use: bool = False
    """It is a matter of who has it open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a domain's threads belong. `vcpus` is None for a shared domain, which floats on the host's CPUs.

    Of a program (`uuid`: its id) each of `vcpus` is one of its CPUs, and its threads may run on all of them.

    `vcpus`: in the order of the definition's `present`. `emulator`: CPUs that its emulator and iothreads have for
    themselves. `idle`: siblings kept empty for it. `explicit`: the CPUs its user has pinned it to.
    """

    uuid: str
    vcpus: tuple[CpuSet, ...] | None
    emulator: CpuSet = frozenset()
    idle: CpuSet = frozenset()
    explicit: CpuSet = frozenset()

    @property
    def used(self) -> CpuSet:
        """What something of it runs on."""
        return frozenset().union(*(self.vcpus or ())) | self.emulator

    @property
    def taken(self) -> CpuSet:
        return self.used | self.idle


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """kind: host, domain, idle (on VFIO, nobody's) or degraded."""

    kind: Literal["host", "domain", "idle", "degraded"]
    who: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """For status. `moved`, `immovable`: interrupts. `late`: domains whose own interrupts may still come or change."""

    isolated: bool = False
    """Whether anything is set for somebody."""
    moved: int = 0
    immovable: int = 0
    late: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`questions`: what has to be looked at before this is the whole plan (model/questions).

    `counted`: records of which it is known by now what came of a write. `waiting`: claims for which something is left
    to do that is not among the steps yet.

    `settled`: objects with a record that are as they were, so that their record can be closed. `learned`: what is to be
    remembered of cards.

    `housekeeping`, `dedicated`: the CPUs the host keeps and the ones domains own; of those, its own slices are kept off
    `isolated` (all but those of domains with the profile "none").
    """

    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    cautions: tuple[Caution, ...] = ()
    questions: tuple[Question, ...] = ()
    settled: tuple[str, ...] = ()
    counted: tuple[HugepagesRecord, ...] = ()
    waiting: frozenset[str] = frozenset()
    learned: Mapping[str, Known] = field(default_factory=dict)
    owners: dict[str, Owner] = field(default_factory=dict)
    placements: tuple[Placement, ...] = ()
    housekeeping: CpuSet = frozenset()
    dedicated: CpuSet = frozenset()
    isolated: CpuSet = frozenset()
    tuned: Tuned = field(default_factory=Tuned)
    partitions: tuple[Partition, ...] = ()
    """Those that are wanted; `made`: of these, what is in force."""
    made: tuple[Partition, ...] = ()
    lent: CpuSet = frozenset()
    """Of the dedicated CPUs, those that shared domains may use for now."""
    confirmed: tuple[PinRecord, ...] = ()
    """Records that are to be replaced by these without a step: what they announced is seen to be so."""
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By UUID of a domain, sentences about its CPUs."""
    awake: str = ""
    """Why the host must not sleep; empty: it may."""

    @property
    def converged(self) -> bool:
        return not self.steps and not self.refusals

    def of(self, lane: Lane) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.lane == lane)
