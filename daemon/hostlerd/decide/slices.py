"""The steps that make slices for those who want them and take them away from those who do not any more.

Pure. Slices are made before the device steps of a plan, as a VF has to be there to be handed over, and taken away after
them. Only what we made is taken away, and only while nobody has it: a VF on a driver, a vGPU or a mediated device that
a process has open stays until it is let go, because the kernel would wait for that for ever.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from hostlerd.decide.attributes import Wish
from hostlerd.decide.closure import virtual_functions
from hostlerd.decide.ownership import Ownership
from hostlerd.decide.slice_claims import NVIDIA_DRIVER
from hostlerd.decide.slice_wants import WantedVfs
from hostlerd.model.devices import DEVICES
from hostlerd.model.ledger import MdevRecord, VfsRecord, VgpuRecord, vgpu_key
from hostlerd.model.observed import Observed
from hostlerd.model.plan import CreateMdev, Refusal, RemoveMdev, SetVfs, SetVgpuType, Step
from hostlerd.model.questions import Question
from hostlerd.model.settings import Settings

UNWANTED = "nobody claims it any more"


@dataclass(slots=True, kw_only=True)
class SliceSteps:
    """`settled`: records that can be closed. `wishes`: for the files of PFs whose VFs are ours."""

    make: list[Step] = field(default_factory=list[Step])
    unmake: list[Step] = field(default_factory=list[Step])
    wishes: list[Wish] = field(default_factory=list[Wish])
    settled: list[str] = field(default_factory=list[str])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    questions: list[Question] = field(default_factory=list[Question])

    def is_free(self, observed: Observed, *things: str) -> bool:
        """Nobody has any of these open; False, too, while that has yet to be asked."""
        unknown = [thing for thing in things if thing not in observed.holders]
        self.questions += [Question(kind="holders", object=thing) for thing in unknown]
        return not unknown and not any(_guests(observed, thing) for thing in things)


def decide_slices(
    observed: Observed, settings: Settings, own: Ownership, devices_settled: Collection[str]
) -> SliceSteps:
    steps = SliceSteps()
    _idle_vfs(steps, observed, settings, own)
    for wanted in own.slices.vfs.values():
        _make_vfs(steps, observed, wanted)
    _mdevs(steps, observed, own)
    _vgpus(steps, observed, own)
    settled = frozenset((*devices_settled, *steps.settled))
    for record in observed.ledger.vfs.values():
        _return_vfs(steps, observed, own, record, settled)
    return steps


def _guests(observed: Observed, thing: str) -> bool:
    """Through VFIO: what else has a node of NVIDIA's driver open (its own services) has no vGPU."""
    return any(holder.node.startswith("/dev/vfio/") for holder in observed.holders[thing])


# Virtual functions


def _idle_vfs(steps: SliceSteps, observed: Observed, settings: Settings, own: Ownership) -> None:
    """Those that policy keeps, wanted by a domain or not."""
    for sriov in observed.slices.sriov.values():
        address = sriov.address
        function = observed.functions[address]
        policy = settings.device(function)
        if policy is None or not (policy.keep_vfs and policy.vfs) or address in own.slices.vfs:
            continue
        if policy.vfs > sriov.total:
            steps.refusals.append(
                Refusal(
                    object=address,
                    reason=f"policy {policy.name!r} wants {policy.vfs} virtual functions of {address}, which can have "
                    f"{sriov.total}",
                    remedy=f"set vfs to {sriov.total} or less",
                )
            )
        elif (
            address not in own.holder
            and address not in own.wants
            and function.driver
            and not function.on_vfio
        ):
            own.slices.vfs[address] = WantedVfs(
                address=address, count=policy.vfs, why=f"policy {policy.name!r} keeps them"
            )


def _make_vfs(steps: SliceSteps, observed: Observed, wanted: WantedVfs) -> None:
    address = wanted.address
    sriov = observed.slices.sriov.get(address)
    if sriov is None or sriov.count or observed.untouchable(address):
        return
    _no_driver(steps, observed, address, wanted.claim)
    steps.make.append(
        SetVfs(
            object=address,
            before="0",
            after=str(wanted.count),
            count=wanted.count,
            why=wanted.why,
            claim=wanted.claim,
            record=VfsRecord(address=address, ours=wanted.count),
        )
    )


def _no_driver(steps: SliceSteps, observed: Observed, address: str, claim: str | None = None) -> None:
    """As long as they are there: udev loads a driver for VFs long after they were made, and it would take them all.

    NVIDIA's VFs are of use on its driver alone, which is to find them.
    """
    if observed.functions[address].driver != NVIDIA_DRIVER:
        steps.wishes.append(
            Wish(
                path=f"{DEVICES}/{address}/sriov_drivers_autoprobe",
                value="0",
                why="no driver of the host is to take the virtual functions",
                claim=claim,
            )
        )


def _return_vfs(
    steps: SliceSteps, observed: Observed, own: Ownership, record: VfsRecord, settled: Collection[str]
) -> None:
    address = record.address
    sriov = observed.slices.sriov.get(address)
    if sriov is None or observed.untouchable(address):
        if address not in observed.functions:
            steps.settled.append(record.key)  # the card is gone, and its VFs with it
        return
    if address in own.slices.vfs:
        if sriov.count:
            _no_driver(steps, observed, address)
    elif sriov.count != record.ours:
        steps.settled.append(record.key)  # as it was, or another number by now: somebody else's
    elif vfs_in_use(observed, own, address, settled) or not steps.is_free(
        observed, *virtual_functions(observed.functions, address)
    ):
        _no_driver(steps, observed, address)
    else:
        steps.unmake.append(SetVfs(object=address, before=str(sriov.count), after="0", count=0, why=UNWANTED))


def vfs_in_use(observed: Observed, own: Ownership, address: str, settled: Collection[str]) -> list[str]:
    """The VFs of a PF that somebody has, or that are not back where they were."""
    ledger, slices = observed.ledger, observed.slices
    used: list[str] = []
    for vf in virtual_functions(observed.functions, address):
        driver = observed.functions[vf].driver
        theirs = driver is not None and not driver == observed.functions[address].driver == NVIDIA_DRIVER
        slot = slices.vgpus.get(vf)
        if (
            vf in own.holder
            or vf in own.wants
            or (vf in ledger.devices and vf not in settled)
            or (vgpu_key(vf) in ledger.vgpus and vgpu_key(vf) not in settled)
            or observed.untouchable(vf)
            or theirs
            or (slot is not None and slot.current)
            or any(mdev.parent == vf for mdev in slices.mdevs.values())
        ):
            used.append(vf)
    return used


# Mediated devices


def _mdevs(steps: SliceSteps, observed: Observed, own: Ownership) -> None:
    ledger, there = observed.ledger, observed.slices.mdevs
    for uuid, wanted in sorted(own.slices.mdevs.items()):
        if uuid in there or ledger.untouchable(uuid) or ledger.untouchable(wanted.parent):
            continue
        steps.make.append(
            CreateMdev(
                object=uuid,
                before=None,
                after=f"{wanted.type} on {wanted.parent}",
                parent=wanted.parent,
                type=wanted.type,
                attrs=wanted.attrs,
                why=wanted.why,
                claim=wanted.claim,
                record=MdevRecord(
                    uuid=uuid, parent=wanted.parent, type=wanted.type, persistent=wanted.persistent
                ),
            )
        )
    for uuid, record in sorted(ledger.mdevs.items()):
        if uuid in own.holder or uuid in own.slices.mdevs or ledger.untouchable(uuid):
            continue
        mdev = there.get(uuid)
        if mdev is None or record.persistent or (mdev.type, mdev.parent) != (record.type, record.parent):
            steps.settled.append(uuid)  # gone, to stay, or another one of the same name
        elif steps.is_free(observed, uuid):
            steps.unmake.append(
                RemoveMdev(object=uuid, before=f"{record.type} on {record.parent}", after=None, why=UNWANTED)
            )


# NVIDIA's vGPUs


def _vgpus(steps: SliceSteps, observed: Observed, own: Ownership) -> None:
    ledger, slots = observed.ledger, observed.slices.vgpus
    for address, wanted in sorted(own.slices.vgpus.items()):
        slot = slots.get(address)
        if slot is None or slot.current == wanted.number or observed.untouchable(address):
            continue
        if slot.current:  # of one that is gone: the driver changes no type but by way of none
            steps.make.append(_vgpu_gone(address, slot.current))
        steps.make.append(
            SetVgpuType(
                object=address,
                before="0",
                after=str(wanted.number),
                number=wanted.number,
                why=wanted.why,
                claim=wanted.claim,
                record=VgpuRecord(
                    address=address, ours=wanted.number, name=wanted.name, persistent=wanted.persistent
                ),
            )
        )
    for record in ledger.vgpus.values():
        address = record.address
        if address in own.holder or address in own.slices.vgpus or observed.untouchable(address):
            continue
        slot = slots.get(address)
        if slot is None:
            if address not in observed.functions or observed.functions[address].readable:
                steps.settled.append(
                    record.key
                )  # it is gone, or on another driver, which takes the vGPU along
        elif slot.current != record.ours or record.persistent:
            steps.settled.append(record.key)
        elif steps.is_free(observed, address):
            steps.unmake.append(_vgpu_gone(address, slot.current))


def _vgpu_gone(address: str, current: int) -> SetVgpuType:
    return SetVgpuType(object=address, before=str(current), after="0", number=0, why=UNWANTED)
