"""Making slices of devices and taking them away: virtual-functions, mdev, vgpu-type.

Every write goes through the writer process: sriov_numvfs takes the device's lock and runs its driver, `remove` waits
for who has the mediated device open (vfio_unregister_group_dev), and a vGPU's type is a call into NVIDIA's firmware.
Nobody had it open when the plan was made; who came since costs the slice, not the daemon.
"""

from __future__ import annotations

import errno
import os
import re

from hostler.errors import HostFailed
from hostlerd.host import Host
from hostlerd.model.devices import DEVICES
from hostlerd.model.plan import CreateMdev, RemoveMdev, SetVfs, SetVgpuType

PARENTS = "/sys/class/mdev_bus"
MDEVS = "/sys/bus/mdev/devices"

LIMIT = 10.0
VFS_LIMIT = 20.0
"""Seconds for all of a PF's VFs: the kernel itself sleeps a second when it takes them away (sriov_disable)."""
READ_LIMIT = 5.0

_VIRTFN = re.compile(r"virtfn\d+")
_WORDS = {
    errno.ENOSPC: "no instance of the type is left",
    errno.EEXIST: "another one has this UUID, or is still on its way out",
    errno.EBUSY: "there are others already, and the kernel cannot add to them",
    errno.ENOENT: "it is not there, or its driver cannot do that",
    errno.ERANGE: "these are more than it can have",
}
"""What the kernel means (mdev_device_create, mbochs_init_dev, sriov_numvfs_store)."""


def is_gone(host: Host, uuid: str) -> bool:
    return not host.files.exists(f"{MDEVS}/{uuid}")


def _failed(obj: str, what: str, error: OSError) -> HostFailed:
    reason = _WORDS.get(error.errno or 0) or (os.strerror(error.errno) if error.errno else str(error))
    return HostFailed(
        f"{what}: {reason}",
        remedy="see the kernel's log for the driver's reason",
        data={"object": obj, "errno": error.errno},
    )


def _vfs(host: Host, address: str) -> int:
    """By their links: reading sriov_numvfs takes the device's lock."""
    try:
        return sum(1 for name in host.files.listdir(f"{DEVICES}/{address}") if _VIRTFN.fullmatch(name))
    except OSError:
        return 0


async def set_vfs(host: Host, step: SetVfs) -> None:
    """A driver may make fewer than it was asked for and say so in the kernel's log alone (sriov_numvfs_store)."""
    what = (
        f"{step.count} virtual functions of {step.object} cannot be made"
        if step.count
        else f"the virtual functions of {step.object} cannot be taken away"
    )
    try:
        await host.writer.write(f"{DEVICES}/{step.object}/sriov_numvfs", f"{step.count}\n", limit=VFS_LIMIT)
    except OSError as error:
        raise _failed(step.object, what, error) from error
    now = _vfs(host, step.object)
    if now != step.count:
        raise HostFailed(
            f"{what}: there are {now} now",
            remedy="see the kernel's log for the driver's reason",
            data={"object": step.object},
        )


async def create_mdev(host: Host, step: CreateMdev) -> None:
    folder = f"{PARENTS}/{step.parent}/mdev_supported_types/{step.type}"
    what = f"the mediated device {step.object} cannot be made as {step.type} on {step.parent}"
    try:
        await host.writer.write(f"{folder}/create", step.object, limit=LIMIT)
        for name, value in step.attrs:
            await host.writer.write(f"{MDEVS}/{step.object}/{name}", value, limit=LIMIT)
        kind = os.path.basename(host.files.readlink(f"{MDEVS}/{step.object}/mdev_type"))
    except OSError as error:
        raise _failed(step.object, what, error) from error
    if kind != step.type:
        raise HostFailed(f"{what}: it is of type {kind}", data={"object": step.object})


async def remove_mdev(host: Host, step: RemoveMdev) -> None:
    """Gone already is fine; so is going: then somebody else has asked for it (mdev_device_remove, EAGAIN)."""
    if is_gone(host, step.object):
        return
    what = f"the mediated device {step.object} cannot be taken away"
    try:
        await host.writer.write(f"{MDEVS}/{step.object}/remove", "1", limit=LIMIT)
    except OSError as error:
        if is_gone(host, step.object):
            return
        raise _failed(step.object, what, error) from error
    if not is_gone(host, step.object):
        raise HostFailed(f"{what}: it is still there", data={"object": step.object})


async def set_vgpu_type(host: Host, step: SetVgpuType) -> None:
    path = f"{DEVICES}/{step.object}/nvidia/current_vgpu_type"
    what = f"the vGPU of {step.object} cannot be " + (
        f"made of type {step.number}" if step.number else "taken away"
    )
    try:
        await host.writer.write(path, f"{step.number}\n", limit=LIMIT)
        now = (await host.look(lambda: host.files.read(path), limit=READ_LIMIT)).strip()
    except OSError as error:
        raise _failed(step.object, what, error) from error
    if now != str(step.number):
        raise HostFailed(f"{what}: its type is {now}", data={"object": step.object})
