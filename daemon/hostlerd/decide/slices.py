"""The steps that make slices for those who want them and take them away from those who do not any more.

Pure. Slices are made before the device steps of a plan, as a VF has to be there to be handed over, and taken away after
them. Only what we made is taken away, and only while nobody has it: a VF on a driver, a vGPU or a mediated device that
a process has open stays until it is let go, because the kernel would wait for that for ever.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from hostlerd.decide.closure import virtual_functions
from hostlerd.decide.ownership import Ownership
from hostlerd.decide.slice_claims import NVIDIA_DRIVER, WantedVfs
from hostlerd.model.ledger import MdevRecord, VfsRecord, VgpuRecord, vfs_key, vgpu_key
from hostlerd.model.observed import Observed
from hostlerd.model.plan import CreateMdev, Refusal, RemoveMdev, SetAutoprobe, SetVfs, SetVgpuType, Step
from hostlerd.model.settings import Settings
from hostlerd.model.slices import Sriov

UNWANTED = "nobody claims it any more"


@dataclass(slots=True, kw_only=True)
class SliceSteps:
    """`settled`: records that can be closed."""

    make: list[Step] = field(default_factory=list[Step])
    unmake: list[Step] = field(default_factory=list[Step])
    settled: list[str] = field(default_factory=list[str])
    refusals: list[Refusal] = field(default_factory=list[Refusal])


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
    if sriov is None or sriov.count or observed.ledger.untouchable(address):
        return
    record = observed.ledger.vfs.get(vfs_key(address))
    if record is None:
        # NVIDIA's VFs are of use on its driver alone, which is to find them.
        hands_off = observed.functions[address].driver == NVIDIA_DRIVER or sriov.autoprobe.strip() in (
            "",
            "0",
        )
        record = VfsRecord(
            address=address, ours=wanted.count, autoprobe=None if hands_off else sriov.autoprobe
        )
    record = replace(record, ours=wanted.count)
    if record.autoprobe is not None and sriov.autoprobe.strip() != "0":
        steps.make.append(
            SetAutoprobe(
                object=address,
                before=sriov.autoprobe.strip(),
                after="0",
                text="0\n",
                why="no driver of the host is to take the virtual functions",
                claim=wanted.claim,
                record=record,
            )
        )
    steps.make.append(
        SetVfs(
            object=address,
            before="0",
            after=str(wanted.count),
            count=wanted.count,
            why=wanted.why,
            claim=wanted.claim,
            record=record,
        )
    )


def _return_vfs(
    steps: SliceSteps, observed: Observed, own: Ownership, record: VfsRecord, settled: Collection[str]
) -> None:
    address = record.address
    sriov = observed.slices.sriov.get(address)
    if observed.ledger.untouchable(address) or address in own.slices.vfs:
        return
    if sriov is None:
        if address not in observed.functions:
            steps.settled.append(record.key)  # the card is gone, and its VFs with it
        return
    if sriov.count == record.ours:
        if vfs_in_use(observed, own, address, settled):
            return
        steps.unmake.append(SetVfs(object=address, before=str(sriov.count), after="0", count=0, why=UNWANTED))
    back = _autoprobe_back(sriov, record)
    if back is not None:
        steps.unmake.append(back)
    elif sriov.count != record.ours:
        steps.settled.append(record.key)  # as it was, or another number by now: somebody else's


def _autoprobe_back(sriov: Sriov, record: VfsRecord) -> SetAutoprobe | None:
    if record.autoprobe is None or sriov.autoprobe == record.autoprobe or sriov.autoprobe.strip() != "0":
        return None
    return SetAutoprobe(
        object=record.address,
        before="0",
        after=record.autoprobe.strip(),
        text=record.autoprobe,
        why=UNWANTED,
    )


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
            or ledger.untouchable(vf)
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
        else:
            steps.unmake.append(
                RemoveMdev(object=uuid, before=f"{record.type} on {record.parent}", after=None, why=UNWANTED)
            )


# NVIDIA's vGPUs


def _vgpus(steps: SliceSteps, observed: Observed, own: Ownership) -> None:
    ledger, slots = observed.ledger, observed.slices.vgpus
    for address, wanted in sorted(own.slices.vgpus.items()):
        slot = slots.get(address)
        if slot is None or slot.current == wanted.number or ledger.untouchable(address):
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
        if address in own.holder or address in own.slices.vgpus or ledger.untouchable(address):
            continue
        slot = slots.get(address)
        if slot is None:
            if address not in observed.functions or observed.functions[address].readable:
                steps.settled.append(
                    record.key
                )  # it is gone, or on another driver, which takes the vGPU along
        elif slot.current != record.ours or record.persistent:
            steps.settled.append(record.key)
        else:
            steps.unmake.append(_vgpu_gone(address, slot.current))


def _vgpu_gone(address: str, current: int) -> SetVgpuType:
    return SetVgpuType(object=address, before=str(current), after="0", number=0, why=UNWANTED)
