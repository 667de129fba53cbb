"""Slices made and taken away: a write that succeeded is not a result."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from hostler.errors import HostFailed
from hostlerd.act import device_slices
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.plan import CreateMdev, RemoveMdev, SetVfs, SetVgpuType

pytestmark = pytest.mark.trio

PF, CARD, VGPU = "0000:05:00.0", "0000:41:00.0", "0000:41:00.4"
UUID = "00000001-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
MADE = CreateMdev(
    object=UUID,
    before=None,
    after="x",
    why="",
    parent="mbochs",
    type="mbochs-small",
    attrs=(("vendor/memory", "3"),),
)
GONE = RemoveMdev(object=UUID, before="x", after=None, why="")


def vfs(count: int) -> SetVfs:
    return SetVfs(object=PF, before=None, after=str(count), why="", count=count)


def vgpu(number: int) -> SetVgpuType:
    return SetVgpuType(object=VGPU, before=None, after=str(number), why="", number=number)


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost("slices")


async def test_there_and_back(host: SimulatedHost):
    await device_slices.set_vfs(host, vfs(3))
    await device_slices.set_vfs(host, vfs(0))
    await device_slices.create_mdev(host, MADE)
    assert host.files.read(f"/sys/bus/mdev/devices/{UUID}/vendor/memory") == "3\n"
    await device_slices.remove_mdev(host, GONE)
    await device_slices.remove_mdev(host, GONE)  # gone already is fine
    host.kernel.write(f"/sys/bus/pci/devices/{CARD}/sriov_numvfs", "1")
    await device_slices.set_vgpu_type(host, vgpu(1149))
    await device_slices.set_vgpu_type(host, vgpu(0))


async def test_a_driver_that_makes_fewer_than_it_was_asked_for(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
):
    """It says so in the kernel's log alone (sriov_numvfs_store)."""
    write = host.kernel.write

    def fewer(path: str, text: str) -> None:
        write(path, "1" if path.endswith("numvfs") else text)

    monkeypatch.setattr(type(host.kernel), "write", lambda _, path, text: fewer(path, text))
    with pytest.raises(HostFailed, match=r"2 virtual functions of .* cannot be made: there are 1 now"):
        await device_slices.set_vfs(host, vfs(2))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (vfs(5), "more than it can have"),
        (replace(MADE, attrs=(("nothing", "1"),)), "not there, or its driver cannot do that"),
        (replace(MADE, type="mbochs-none"), "not there"),
        (replace(MADE, object="x"), "Invalid argument"),
    ],
)
async def test_what_the_kernel_says_is_told(host: SimulatedHost, step: SetVfs | CreateMdev, words: str):
    act = (
        device_slices.set_vfs(host, step)
        if isinstance(step, SetVfs)
        else device_slices.create_mdev(host, step)
    )
    with pytest.raises(HostFailed, match=words):
        await act


async def test_none_left_and_one_there_already(host: SimulatedHost):
    large = replace(MADE, type="mbochs-large", attrs=())
    for number in range(4):
        await device_slices.create_mdev(host, replace(large, object=f"{number}{UUID[1:]}"))
    with pytest.raises(HostFailed, match="no instance of the type is left") as caught:
        await device_slices.create_mdev(host, replace(large, object=f"9{UUID[1:]}"))
    assert caught.value.data["errno"] == errno.ENOSPC
    with pytest.raises(HostFailed, match="another one has this UUID"):
        await device_slices.create_mdev(host, replace(large, object=UUID))


async def test_a_type_that_is_not_taken(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch):
    host.kernel.write(f"/sys/bus/pci/devices/{CARD}/sriov_numvfs", "1")
    monkeypatch.setattr(type(host.kernel), "write", lambda *_: None)
    with pytest.raises(HostFailed, match="cannot be made of type 1149: its type is 0"):
        await device_slices.set_vgpu_type(host, vgpu(1149))
