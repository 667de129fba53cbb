"""Who has open what a plan would take away: devices that would leave VFIO, VFs, vGPUs and mediated devices.

The kernel would wait for them for ever (vfio_unregister_group_dev), with locks held. Asked of /proc, not of libvirt,
which may be away, or not the only one that runs guests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hostlerd.host import Files
from hostlerd.model.devices import Function
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Plan, RemoveMdev, SetVfs, SetVgpuType, Unbind
from hostlerd.model.slices import Mdev
from hostlerd.observe.everything import observe_open
from hostlerd.observe.reading import names, text
from hostlerd.observe.slices import MDEVS


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    functions: tuple[Function, ...] = ()
    mdevs: tuple[Mdev, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.functions or self.mdevs)


def leaving_of(plan: Plan, observed: Observed) -> Leaving:
    functions: dict[str, Function] = {}
    mdevs: list[Mdev] = []
    for step in plan.steps:
        function = observed.functions.get(step.object)
        if isinstance(step, RemoveMdev):
            mdevs.append(observed.slices.mdevs[step.object])
        elif isinstance(step, SetVfs) and not step.count:
            functions |= {f.address: f for f in observed.functions.values() if f.physfn == step.object}
        elif function is None:
            continue
        elif (isinstance(step, Unbind) and function.on_vfio) or (
            isinstance(step, SetVgpuType) and not step.number
        ):
            functions[function.address] = function
    return Leaving(functions=tuple(functions.values()), mdevs=tuple(mdevs))


def observe_leaving(files: Files, leaving: Leaving) -> Mapping[str, str]:
    """Those of them that a process has open, by address or UUID, to that process for people."""
    return {**observe_open(files, leaving.functions), **_open_mdevs(files, leaving.mdevs)}


def _open_mdevs(files: Files, mdevs: tuple[Mdev, ...]) -> dict[str, str]:
    """By their group's node, or by their own (/dev/vfio/devices/vfioN, through iommufd)."""
    nodes: dict[str, str] = {}
    for mdev in mdevs:
        if mdev.group is not None:
            nodes[f"/dev/vfio/{mdev.group}"] = mdev.uuid
        for name in names(files, f"{MDEVS}/{mdev.uuid}/vfio-dev"):
            nodes[f"/dev/vfio/devices/{name}"] = mdev.uuid
    found: dict[str, str] = {}
    if not nodes:
        return found
    for pid in names(files, "/proc"):
        if not pid.isdecimal():
            continue
        for fd in names(files, f"/proc/{pid}/fd"):
            try:
                uuid = nodes.get(files.readlink(f"/proc/{pid}/fd/{fd}"))
            except OSError:
                continue
            if uuid is not None:
                found[uuid] = f"{text(files, f'/proc/{pid}/comm') or pid} (process {pid})"
    return found
