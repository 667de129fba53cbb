"""Binding, letting go, refusing and hanging, as drivers/base and drivers/pci do it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from hostler.errors import Wedged
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.pci import Blocked
from hostlerd.host.simulated.tree import WouldHang

GPU, AUDIO, NIC, SATA = "0000:01:00.0", "0000:01:00.1", "0000:05:00.0", "0000:06:00.0"
BUS = "/sys/bus/pci"


def device(address: str, name: str) -> str:
    return f"{BUS}/devices/{address}/{name}"


@contextmanager
def refused(number: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:  # the number is checked
        yield
    assert caught.value.errno == number


def driver(host: SimulatedHost, address: str) -> str | None:
    path = device(address, "driver")
    return host.files.readlink(path).rpartition("/")[2] if host.files.exists(path) else None


def hand_over(host: SimulatedHost, address: str) -> None:
    host.kernel.modprobe(["vfio-pci"])
    host.kernel.write(device(address, "driver_override"), "vfio-pci\n")
    host.kernel.write(device(address, "driver/unbind"), address)
    host.kernel.write(f"{BUS}/drivers_probe", address)


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost("desktop")


def test_a_handoff_and_the_way_back(host: SimulatedHost) -> None:
    before = host.files.flat("/sys/devices", "/sys/bus/pci/devices", "/sys/bus/pci/drivers/amdgpu", "/dev")
    hand_over(host, GPU)
    assert driver(host, GPU) == "vfio-pci"
    assert host.files.listdir(device(GPU, "vfio-dev")) == ["vfio0"]
    assert host.files.exists("/dev/vfio/14")
    assert not host.files.exists(device(GPU, "drm"))
    assert "DRIVER=vfio-pci\n" in host.files.read(device(GPU, "uevent"))
    assert host.kernel.uevents == [("unbind", GPU), ("bind", GPU)]
    host.kernel.write(device(GPU, "driver_override"), "\n")
    host.kernel.write(f"{BUS}/drivers/vfio-pci/unbind", GPU + "\n")
    host.kernel.write(f"{BUS}/drivers_probe", GPU)
    assert (
        host.files.flat("/sys/devices", "/sys/bus/pci/devices", "/sys/bus/pci/drivers/amdgpu", "/dev")
        == before
    )


def test_an_override_is_an_attribute_and_nothing_else(host: SimulatedHost) -> None:
    path = device(GPU, "driver_override")
    assert host.files.read(path) == "(null)\n"
    host.kernel.write(path, "vfio-pci")
    assert (host.files.read(path), driver(host, GPU)) == ("vfio-pci\n", "amdgpu")
    host.kernel.write(path, "")  # no bytes, no write
    assert host.files.read(path) == "vfio-pci\n"
    host.kernel.write(path, "\n")
    assert host.files.read(path) == "(null)\n"
    with refused(errno.EINVAL):
        host.kernel.write(path, "x" * 4096)
    assert host.kernel.uevents == []


def test_a_probe_succeeds_when_nothing_is_bound(host: SimulatedHost) -> None:
    host.kernel.write(device(GPU, "driver_override"), "none")
    host.kernel.write(device(GPU, "driver/unbind"), GPU)
    host.kernel.write(f"{BUS}/drivers_probe", GPU)
    assert driver(host, GPU) is None
    host.kernel.write(f"{BUS}/drivers_probe", NIC)  # bound already
    assert driver(host, NIC) == "r8169"


def test_an_override_for_the_wrong_hardware_leaves_it_without_a_driver(host: SimulatedHost) -> None:
    host.kernel.write(device(AUDIO, "driver_override"), "amdgpu")
    host.kernel.write(device(AUDIO, "driver/unbind"), AUDIO)
    host.kernel.write(f"{BUS}/drivers_probe", AUDIO)
    assert driver(host, AUDIO) is None


def test_unknown_addresses_and_wrong_drivers(host: SimulatedHost) -> None:
    with refused(errno.ENODEV):
        host.kernel.write(f"{BUS}/drivers_probe", "0000:99:00.0")
    with refused(errno.ENODEV):
        host.kernel.write(f"{BUS}/drivers/nvme/unbind", GPU)
    with refused(errno.ENODEV):  # it does not match
        host.kernel.write(f"{BUS}/drivers/nvme/bind", GPU)
    with refused(errno.EBUSY):
        host.kernel.write(f"{BUS}/drivers/amdgpu/bind", GPU)
    with refused(errno.ENOENT):
        host.kernel.write(f"{BUS}/drivers/none/bind", GPU)
    with refused(errno.EACCES):
        host.kernel.write(device(GPU, "vendor"), "0x1234")
    with refused(errno.EISDIR):
        host.kernel.write(f"{BUS}/devices/{GPU}", "x")


def test_without_an_iommu_vfio_refuses() -> None:
    host = SimulatedHost("no-iommu")
    assert host.files.listdir("/sys/kernel/iommu_groups") == []
    assert not host.files.exists(device(GPU, "iommu_group"))
    hand_over(host, GPU)
    assert driver(host, GPU) is None
    with refused(errno.EINVAL):
        host.kernel.write(f"{BUS}/drivers/vfio-pci/bind", GPU)


def test_a_probe_that_fails_is_seen_only_by_reading_back(host: SimulatedHost) -> None:
    host.kernel.faults.cause("probe-fails", GPU, "vfio-pci")
    hand_over(host, GPU)
    assert driver(host, GPU) is None
    host.kernel.write(device(GPU, "driver_override"), "\n")
    host.kernel.write(f"{BUS}/drivers_probe", GPU)
    assert driver(host, GPU) == "amdgpu"


def test_a_module_registers_takes_what_matches_and_unloads_only_when_free(host: SimulatedHost) -> None:
    assert not host.files.exists(f"{BUS}/drivers/vfio-pci")
    host.kernel.write(device(GPU, "driver_override"), "vfio-pci")
    host.kernel.write(device(GPU, "driver/unbind"), GPU)
    host.kernel.write(f"{BUS}/drivers_probe", GPU)
    assert driver(host, GPU) is None
    assert host.kernel.modprobe(["vfio_pci"]) == 0  # driver_attach: tries what is free
    assert driver(host, GPU) == "vfio-pci"
    for function in "123":
        host.kernel.write(device(f"0000:01:00.{function}", "driver/unbind"), f"0000:01:00.{function}")
    host.kernel.pci.open_group(14, "win11")
    assert host.files.read("/sys/module/vfio_pci/refcnt") == "1\n"
    assert host.kernel.modprobe(["-r", "vfio-pci"]) == 1
    host.kernel.pci.close_groups("win11")
    assert host.files.read("/sys/module/vfio_pci/refcnt") == "0\n"
    assert host.kernel.modprobe(["-r", "vfio-pci"]) == 0  # what is bound and not open does not keep it
    assert driver(host, GPU) is None
    assert not host.files.exists(f"{BUS}/drivers/vfio-pci")
    assert host.kernel.modprobe(["no-such-module"]) == 1


def test_new_id_is_for_all_devices_and_once(host: SimulatedHost) -> None:
    host.kernel.modprobe(["vfio-pci"])
    host.kernel.write(device(GPU, "driver/unbind"), GPU)
    host.kernel.write(f"{BUS}/drivers/vfio-pci/new_id", "1002 73bf")
    assert driver(host, GPU) == "vfio-pci"
    with refused(errno.EEXIST):
        host.kernel.write(f"{BUS}/drivers/vfio-pci/new_id", "1002 73bf")
    with refused(errno.EINVAL):
        host.kernel.write(f"{BUS}/drivers/vfio-pci/new_id", "1002")
    host.kernel.write(f"{BUS}/drivers/vfio-pci/remove_id", "1002 73bf")
    with refused(errno.ENODEV):
        host.kernel.write(f"{BUS}/drivers/vfio-pci/remove_id", "1002 73bf")


def test_a_group_opens_only_when_no_host_driver_is_in_it(host: SimulatedHost) -> None:
    hand_over(host, NIC)
    assert host.kernel.pci.foreign(17) == [SATA]  # the bridge's pcieport does not count
    with refused(errno.EPERM):
        host.kernel.pci.open_group(17, "win11")
    host.kernel.write(device(SATA, "driver/unbind"), SATA)
    host.kernel.pci.open_group(17, "win11")
    with refused(errno.EBUSY):
        host.kernel.pci.open_group(17, "other")
    # The group is the domain's: a host driver that probes is refused (iommu_device_use_default_domain).
    host.kernel.write(f"{BUS}/drivers_probe", SATA)
    assert driver(host, SATA) is None
    with refused(errno.EBUSY):
        host.kernel.write(f"{BUS}/drivers/ahci/bind", SATA)
    with refused(errno.ENOENT):
        host.kernel.pci.open_group(99, "win11")


async def test_an_unbind_that_never_returns_holds_the_lock(
    host: SimulatedHost, autojump_clock: object
) -> None:
    host.kernel.faults.cause("hang-unbind", GPU)
    started = trio.current_time()
    with pytest.raises(Wedged):
        await host.writer.write(device(GPU, "driver/unbind"), GPU, limit=5)
    assert trio.current_time() - started == pytest.approx(5)
    # The link is gone although the driver still has it; reading what takes the lock hangs, other files do not.
    assert driver(host, GPU) is None
    assert host.files.read(device(GPU, "vendor")) == "0x1002\n"
    for name in ("class", "enable", "power/control", "numa_node"):  # as seen on Linux 6.1
        host.files.read(device(GPU, name))
    for name in ("driver_override", "uevent"):
        with pytest.raises(WouldHang):
            host.files.read(device(GPU, name))
    assert len(host.files.hung) == 2
    assert host.kernel.uevents == []
    await host.writer.write(f"{BUS}/drivers_probe", GPU, limit=1)  # returns at once, does nothing
    with pytest.raises(Wedged):
        await host.writer.write(device(GPU, "driver_override"), "vfio-pci", limit=1)
    # It ends: what waited for the lock follows in order.
    host.kernel.lift("hang-unbind", GPU)
    assert host.kernel.uevents == [("unbind", GPU)]
    assert host.files.read(device(GPU, "driver_override")) == "vfio-pci\n"
    await host.writer.write(device(GPU, "driver_override"), "\n", limit=1)
    await host.writer.write(f"{BUS}/drivers_probe", GPU, limit=1)
    assert driver(host, GPU) == "amdgpu"


async def test_a_newer_kernel_lets_the_override_be_read_and_set_meanwhile(
    host: SimulatedHost, autojump_clock: object
) -> None:
    host.kernel.pci.release = (6, 12)
    host.kernel.faults.cause("hang-unbind", GPU)
    with pytest.raises(Wedged):
        await host.writer.write(device(GPU, "driver/unbind"), GPU, limit=5)
    await host.writer.write(device(GPU, "driver_override"), "vfio-pci", limit=1)
    assert host.files.read(device(GPU, "driver_override")) == "vfio-pci\n"
    assert "DRIVER" in host.files.read(device(GPU, "uevent"))


async def test_a_hang_that_ends_in_time_is_a_success(host: SimulatedHost, autojump_clock: object) -> None:
    host.kernel.hold(AUDIO, pid=700, command="pipewire", uid=1000, cgroup="/user.slice")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: host.writer.write(device(AUDIO, "driver/unbind"), AUDIO, limit=10))
        await trio.sleep(3)
        assert host.kernel.pci.devices[AUDIO].stuck
        host.kernel.let_go(700)
    assert not host.kernel.pci.devices[AUDIO].stuck
    assert driver(host, AUDIO) is None


async def test_a_write_that_waited_gets_its_own_error(host: SimulatedHost, autojump_clock: object) -> None:
    host.kernel.faults.cause("hang-unbind", GPU)
    with pytest.raises(Wedged):
        await host.writer.write(device(GPU, "driver/unbind"), GPU, limit=1)
    host.kernel.faults.cause("probe-fails", GPU)

    async def bind() -> None:
        with refused(errno.EIO):
            await host.writer.write(f"{BUS}/drivers/amdgpu/bind", GPU, limit=10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bind)
        await trio.sleep(1)
        host.kernel.lift("hang-unbind", GPU)


@pytest.mark.parametrize(("release", "there"), [((6, 1), True), ((6, 12), False)])
def test_vfio_waits_for_the_domain_that_has_the_device_open(
    host: SimulatedHost, release: tuple[int, int], there: bool
) -> None:
    host.kernel.pci.release = release
    hand_over(host, AUDIO)
    for function in "023":
        hand_over(host, f"0000:01:00.{function}")
    host.kernel.pci.open_group(14, "win11")
    with pytest.raises(Blocked):
        host.kernel.write(device(AUDIO, "driver/unbind"), AUDIO)
    assert host.files.exists(device(AUDIO, "vfio-dev")) == there
    host.kernel.pci.close_groups("win11")
    assert not host.files.exists(device(AUDIO, "vfio-dev"))
    for function in "023":
        host.kernel.write(device(f"0000:01:00.{function}", "driver/unbind"), f"0000:01:00.{function}")
    assert not host.files.exists("/dev/vfio/14")
    assert host.kernel.pci.devices[AUDIO].driver is None


def test_a_process_that_holds_a_device_is_seen_in_proc(host: SimulatedHost) -> None:
    host.kernel.hold(GPU, pid=812, command="gnome-shell", uid=1000, cgroup="/user.slice/user-1000.slice")
    assert host.files.read("/proc/812/comm") == "gnome-shell\n"
    assert host.files.read("/proc/812/cgroup") == "0::/user.slice/user-1000.slice\n"
    links = [host.files.readlink(f"/proc/812/fd/{fd}") for fd in host.files.listdir("/proc/812/fd")]
    assert links == ["/dev/dri/card0", "/dev/dri/renderD128"]
    host.kernel.write(device(GPU, "driver/unbind"), GPU)  # amdgpu does not wait for it
    host.kernel.let_go(812)
    assert not host.files.exists("/proc/812")


def test_a_card_is_plugged_in_and_pulled_out(host: SimulatedHost) -> None:
    before = host.files.flat("/sys/devices", "/sys/kernel", "/sys/bus/pci/devices")
    host.kernel.plug(list(host.spec.cards["second"]))
    assert (driver(host, "0000:04:00.0"), driver(host, "0000:04:00.1")) == ("nvidia", "snd_hda_intel")
    assert host.kernel.uevents[0] == ("add", "0000:04:00.0")
    host.kernel.unplug("0000:04:00.0")
    assert host.kernel.uevents[-2:] == [("unbind", "0000:04:00.0"), ("remove", "0000:04:00.0")]
    assert host.files.flat("/sys/devices", "/sys/kernel", "/sys/bus/pci/devices") == before


def test_a_card_that_is_pulled_out_while_a_domain_has_it(host: SimulatedHost) -> None:
    for function in "0123":
        hand_over(host, f"0000:01:00.{function}")
    host.kernel.pci.open_group(14, "win11")
    with pytest.raises(Blocked):
        host.kernel.unplug(GPU)
    # The last function is the first to be removed, and what its driver waits for keeps all the others.
    last = "0000:01:00.3"
    assert host.files.exists(device(last, "vfio-dev"))
    assert not host.files.exists(device(last, "driver"))
    assert host.files.read(device(last, "vendor")) == "0x1002\n"
    assert driver(host, GPU) == "vfio-pci"
    for path, text in ((f"{BUS}/rescan", "1"), (device("0000:05:00.0", "remove"), "1")):
        with pytest.raises(Blocked):  # pci_lock_rescan_remove
            host.kernel.write(path, text)
    assert "0000:05:00.0" in host.kernel.pci.devices
    host.kernel.pci.close_groups("win11")
    assert GPU not in host.kernel.pci.devices
    assert host.kernel.uevents[-4:-2] == [("unbind", GPU), ("remove", GPU)]
    assert "0000:05:00.0" not in host.kernel.pci.devices  # whoever waited gets the turn
    host.kernel.write(f"{BUS}/rescan", "1")


def test_a_card_that_is_pulled_out_is_so_after_a_restart_of_the_simulation(
    host: SimulatedHost, tmp_path: Path
) -> None:
    kept = SimulatedHost("desktop", state_file=str(tmp_path / "host.json"))
    for function in "0123":
        hand_over(kept, f"0000:01:00.{function}")
    kept.kernel.pci.open_group(14, "win11")
    with pytest.raises(Blocked):
        kept.kernel.unplug(GPU)
    again = SimulatedHost("desktop", state_file=str(tmp_path / "host.json"))
    assert again.files.exists(device(GPU, "vfio-dev"))
    again.kernel.pci.close_groups("win11")
    assert GPU not in again.kernel.pci.devices


def test_power_control_takes_the_device_lock(host: SimulatedHost) -> None:
    host.kernel.write(device(GPU, "power/control"), "auto")
    assert host.files.read(device(GPU, "power/control")) == "auto\n"
    with refused(errno.EINVAL):
        host.kernel.write(device(GPU, "power/control"), "off")
    host.kernel.faults.cause("hang-unbind", GPU)
    with pytest.raises(Blocked):
        host.kernel.write(device(GPU, "driver/unbind"), GPU)
    with pytest.raises(Blocked):
        host.kernel.write(device(GPU, "power/control"), "on")
    assert host.files.read(device(GPU, "power/control")) == "auto\n"


def test_virtual_functions_come_and_go() -> None:
    host = SimulatedHost("lab")
    nvme, vfs = "0000:05:00.0", ["0000:05:00.1", "0000:05:00.2"]
    host.kernel.write(device(nvme, "sriov_drivers_autoprobe"), "0")
    host.kernel.write(device(nvme, "sriov_numvfs"), "2")
    assert host.files.read(device(nvme, "sriov_numvfs")) == "2\n"
    assert [driver(host, vf) for vf in vfs] == [None, None]
    assert host.files.real(device(vfs[0], "physfn")) == host.files.real(f"{BUS}/devices/{nvme}")
    assert host.files.real(device(nvme, "virtfn1")) == host.files.real(f"{BUS}/devices/{vfs[1]}")
    with refused(errno.EBUSY):
        host.kernel.write(device(nvme, "sriov_numvfs"), "3")
    with refused(errno.ERANGE):
        host.kernel.write(device(nvme, "sriov_numvfs"), "5")
    hand_over(host, nvme)  # a PF with VFs is refused
    assert driver(host, nvme) is None
    host.kernel.write(device(nvme, "driver_override"), "\n")
    host.kernel.write(f"{BUS}/drivers_probe", nvme)
    host.kernel.write(device(nvme, "sriov_numvfs"), "0")
    assert not host.files.exists(f"{BUS}/devices/{vfs[0]}")
    assert not host.files.exists(device(nvme, "virtfn0"))


def test_autoprobe_off_leaves_new_devices_alone(host: SimulatedHost) -> None:
    host.kernel.write(f"{BUS}/drivers_autoprobe", "0")
    host.kernel.plug(list(host.spec.cards["second"]))
    assert driver(host, "0000:04:00.1") is None
    assert host.files.read(f"{BUS}/drivers_autoprobe") == "0\n"


def test_a_device_removed_by_software_comes_off_the_bus(host: SimulatedHost) -> None:
    host.kernel.write(device("0000:00:01.0", "remove"), "1")
    assert not [address for address in host.kernel.pci.devices if address.startswith("0000:01")]
    with refused(errno.ENOENT):
        host.kernel.write(device(GPU, "driver_override"), "vfio-pci")


def test_faults_of_files(host: SimulatedHost) -> None:
    host.kernel.faults.cause("write-fails", device(GPU, "driver_override"), "EBUSY")
    with refused(errno.EBUSY):
        host.kernel.write(device(GPU, "driver_override"), "vfio-pci")
    assert host.kernel.lift("write-fails", device(GPU, "driver_override"))
    host.kernel.write(device(GPU, "driver_override"), "vfio-pci")


async def test_slow_writes_take_their_time(host: SimulatedHost, autojump_clock: object) -> None:
    path = device(GPU, "driver_override")
    host.kernel.faults.cause("slow-write", path, "3")
    started = trio.current_time()
    await host.writer.write(path, "vfio-pci", limit=5)
    assert trio.current_time() - started == pytest.approx(3)
    with pytest.raises(Wedged):
        await host.writer.write(path, "\n", limit=1)


async def test_a_card_vanishes_in_the_middle(host: SimulatedHost) -> None:
    host.kernel.faults.cause("vanish-after-writes", GPU, "2")
    await host.writer.write(device(GPU, "driver_override"), "vfio-pci", limit=5)
    assert GPU in host.kernel.pci.devices
    await host.writer.write(device(AUDIO, "driver_override"), "vfio-pci", limit=5)
    assert not [address for address in host.kernel.pci.devices if address.startswith("0000:01")]
    with refused(errno.ENODEV):
        await host.writer.write(f"{BUS}/drivers/amdgpu/unbind", GPU, limit=5)
    assert host.kernel.faults.active == {}


def test_every_write_of_nothing_is_nothing(host: SimulatedHost) -> None:
    for path in (device(GPU, "driver_override"), device(GPU, "driver/unbind"), f"{BUS}/drivers_probe"):
        host.kernel.write(path, "")
    assert host.kernel.log == []
