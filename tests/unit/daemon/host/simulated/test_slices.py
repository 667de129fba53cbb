"""The simulated kernel's slices answer as the real ones do."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.pci import Blocked
from hostlerd.host.simulated.tree import WouldHang

PF, VF1, VF2 = "0000:05:00.0", "0000:05:00.1", "0000:05:00.2"
CARD, VGPU1, VGPU2 = "0000:41:00.0", "0000:41:00.4", "0000:41:00.5"
A, B = (f"{n:08d}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" for n in (1, 2))
TYPES = "/sys/class/mdev_bus/mbochs/mdev_supported_types"
MDEVS = "/sys/bus/mdev/devices"


def device(address: str, name: str) -> str:
    return f"/sys/bus/pci/devices/{address}/{name}"


def refused(number: int, act: Callable[[], None]) -> None:
    with pytest.raises(OSError) as error:
        act()
    assert error.value.errno == number


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost("slices")


def left(host: SimulatedHost, kind: str = "mbochs-small") -> str:
    return host.files.read(f"{TYPES}/{kind}/available_instances").strip()


# Mediated devices


def test_types_share_what_their_parent_has(host: SimulatedHost):
    assert [left(host, f"mbochs-{size}") for size in ("small", "medium", "large")] == ["64", "16", "4"]
    host.kernel.write(f"{TYPES}/mbochs-small/create", A)
    assert [left(host, f"mbochs-{size}") for size in ("small", "medium", "large")] == ["63", "15", "3"]
    host.kernel.write(f"{MDEVS}/{A}/remove", "1")
    assert left(host) == "64"
    assert not host.files.exists(f"{MDEVS}/{A}")


def test_what_create_refuses(host: SimulatedHost):
    create = f"{TYPES}/mbochs-large/create"
    refused(errno.EINVAL, lambda: host.kernel.write(create, "no uuid"))
    for number in range(4):
        host.kernel.write(create, f"{number:08d}-bbbb-4bbb-8bbb-bbbbbbbbbbbb")
    refused(errno.ENOSPC, lambda: host.kernel.write(create, A))
    refused(errno.EEXIST, lambda: host.kernel.write(create, "00000000-bbbb-4bbb-8bbb-bbbbbbbbbbbb"))


def test_remove_waits_for_who_has_it_open(host: SimulatedHost):
    host.kernel.write(f"{TYPES}/mbochs-small/create", A)
    group = host.kernel.mdevs.devices[A].group
    host.kernel.pci.open_group(group, "win11")
    with pytest.raises(Blocked) as blocked:
        host.kernel.write(f"{MDEVS}/{A}/remove", "1")
    # Its place on the bus is gone, its UUID is not.
    assert not host.files.exists(f"{MDEVS}/{A}")
    refused(errno.EEXIST, lambda: host.kernel.write(f"{TYPES}/mbochs-small/create", A))
    assert left(host) == "63"
    again = SimulatedHost("slices")
    again.kernel.load(host.kernel.dump())
    for one in (host, again):
        one.kernel.pci.close_groups("win11")
        assert left(one) == "64"
        assert not one.files.exists(f"/dev/vfio/{group}")
    assert blocked.value.ticket.done


def test_groups_of_all_devices_are_of_one_kind(host: SimulatedHost):
    host.kernel.write(f"{TYPES}/mbochs-small/create", A)
    host.kernel.write(device(PF, "sriov_numvfs"), "1")
    host.kernel.write(f"{TYPES}/mbochs-small/create", B)
    groups = [host.kernel.mdevs.devices[uuid].group for uuid in (A, B)]
    assert len({*groups, host.kernel.pci.devices[VF1].spec.group}) == 3


# Virtual functions


def test_drivers_find_vfs_or_not(host: SimulatedHost):
    host.kernel.write(device(PF, "sriov_numvfs"), "1")
    assert host.kernel.pci.devices[VF1].driver == "nvme"
    host.kernel.write(device(PF, "sriov_numvfs"), "0")
    host.kernel.write(device(PF, "sriov_drivers_autoprobe"), "0")
    host.kernel.write(device(PF, "sriov_numvfs"), "1")
    assert host.kernel.pci.devices[VF1].driver is None
    host.kernel.write("/sys/bus/pci/drivers_probe", VF1)
    assert host.kernel.pci.devices[VF1].driver is None
    refused(errno.ENODEV, lambda: host.kernel.write("/sys/bus/pci/drivers/nvme/bind", VF1))
    # pci_device_can_probe: with an override they may.
    host.kernel.write(device(VF1, "driver_override"), "nvme")
    host.kernel.write("/sys/bus/pci/drivers_probe", VF1)
    assert host.kernel.pci.devices[VF1].driver == "nvme"


def test_what_numvfs_refuses(host: SimulatedHost):
    path = device(PF, "sriov_numvfs")
    refused(errno.ERANGE, lambda: host.kernel.write(path, "5"))
    refused(errno.EINVAL, lambda: host.kernel.write(path, "some"))
    host.kernel.write(path, "2")
    refused(errno.EBUSY, lambda: host.kernel.write(path, "3"))
    host.kernel.write(path, "0")
    host.kernel.write(f"/sys/bus/pci/devices/{PF}/driver/unbind", PF)
    refused(errno.ENOENT, lambda: host.kernel.write(path, "2"))


def test_taking_vfs_away_waits_for_a_guest(host: SimulatedHost):
    host.kernel.write(device(PF, "sriov_drivers_autoprobe"), "0")
    host.kernel.write(device(PF, "sriov_numvfs"), "2")
    host.kernel.modprobe(["vfio-pci"])
    host.kernel.write(device(VF1, "driver_override"), "vfio-pci")
    host.kernel.write("/sys/bus/pci/drivers_probe", VF1)
    group = host.kernel.pci.devices[VF1].spec.group
    assert group is not None
    host.kernel.pci.open_group(group, "win11")
    with pytest.raises(Blocked) as blocked:
        host.kernel.write(device(PF, "sriov_numvfs"), "0")
    # sriov_numvfs_show takes the lock that sriov_numvfs_store holds.
    with pytest.raises(WouldHang):
        host.files.read(device(PF, "sriov_numvfs"))
    assert VF2 in host.kernel.pci.devices
    host.kernel.pci.close_groups("win11")
    assert blocked.value.ticket.done
    assert host.files.read(device(PF, "sriov_numvfs")) == "0\n"
    assert not {VF1, VF2} & host.kernel.pci.devices.keys()
    host.kernel.write(device(PF, "sriov_numvfs"), "2")


# NVIDIA's vGPUs


def creatable(host: SimulatedHost, vf: str) -> list[str]:
    lines = host.files.read(device(vf, "nvidia/creatable_vgpu_types")).splitlines()
    return [line.split(":")[1].strip() for line in lines[1:]]


def test_vgpus_of_a_card_are_alike_and_fit_in_its_memory(host: SimulatedHost):
    host.kernel.write(device(CARD, "sriov_numvfs"), "3")
    assert len(creatable(host, VGPU1)) == 4
    current = device(VGPU1, "nvidia/current_vgpu_type")
    refused(errno.EIO, lambda: host.kernel.write(current, "9999"))
    host.kernel.write(current, "1149")
    assert host.files.read(current) == "1149\n"
    assert host.files.exists(device(VGPU1, "vfio-dev"))
    assert creatable(host, VGPU1) == []
    assert creatable(host, VGPU2) == ["NVIDIA L40S-24Q"]
    refused(errno.EIO, lambda: host.kernel.write(current, "1145"))
    host.kernel.write(device(VGPU2, "nvidia/current_vgpu_type"), "1149")
    assert creatable(host, "0000:41:00.6") == []
    host.kernel.write(current, "0")
    assert not host.files.exists(device(VGPU1, "vfio-dev"))
    assert creatable(host, VGPU1) == ["NVIDIA L40S-24Q"]


def test_a_vgpu_in_use_stays(host: SimulatedHost):
    host.kernel.write(device(CARD, "sriov_numvfs"), "1")
    current = device(VGPU1, "nvidia/current_vgpu_type")
    host.kernel.write(current, "1149")
    group = host.kernel.pci.devices[VGPU1].spec.group
    assert group is not None
    host.kernel.pci.open_group(group, "win11")
    refused(errno.EBUSY, lambda: host.kernel.write(current, "0"))
    host.kernel.pci.close_groups("win11")
    host.kernel.write(current, "0")
