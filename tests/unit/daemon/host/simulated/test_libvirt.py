"""What a hook, a client and the kernel see of libvirt, in libvirt's order."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from hostler.errors import BadInput, HostFailed, TimedOut, Unreachable
from hostlerd.host.simulated import guests
from hostlerd.host.simulated.host import SimulatedHost

GPU, NVME, NIC = "0000:01:00.0", "0000:02:00.0", "0000:05:00.0"
COMPANIONS = ("0000:01:00.1", "0000:01:00.2", "0000:01:00.3")


class Hook:
    """Records what it is called with; does what a test asks for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.refuse: str | None = None
        self.seconds = 0.0
        self.at: dict[str, Any] = {}

    async def __call__(self, name: str, operation: str, sub_operation: str, xml: str) -> tuple[int, str]:
        assert f"<name>{name}</name>" in xml
        assert "<uuid>" in xml
        self.calls.append((operation, sub_operation))
        await trio.sleep(self.seconds)
        if operation in self.at:
            self.at[operation]()
        return (1, "no, because") if operation == self.refuse else (0, "")


@pytest.fixture
def hook() -> Hook:
    return Hook()


@pytest.fixture
def host(hook: Hook) -> SimulatedHost:
    return SimulatedHost("desktop", hook=hook)


def drivers(host: SimulatedHost, *addresses: str) -> list[str | None]:
    return [host.kernel.pci.devices[address].driver for address in addresses]


def free_companions(host: SimulatedHost) -> None:
    for address in COMPANIONS:
        host.kernel.write(f"/sys/bus/pci/devices/{address}/driver/unbind", address)


async def defined(host: SimulatedHost, name: str = "win11", **what: Any) -> str:
    await host.hypervisor.define(guests.domain(name, **what))
    return name


async def test_hooks_run_in_libvirts_order(host: SimulatedHost, hook: Hook) -> None:
    await defined(host)
    await host.hypervisor.start("win11")
    assert hook.calls == [("prepare", "begin"), ("start", "begin"), ("started", "begin")]
    assert host.hypervisor.events[-2:] == [("win11", "resumed"), ("win11", "started")]
    hook.calls.clear()
    await host.hypervisor.destroy("win11")
    assert hook.calls == [("stopped", "end"), ("release", "end")]
    assert host.hypervisor.events[-1] == ("win11", "stopped")


async def test_devices_are_detached_after_prepare_and_back_before_release(
    host: SimulatedHost, hook: Hook
) -> None:
    seen = list[tuple[str, list[str | None]]]()
    for operation in ("prepare", "start", "stopped", "release"):
        hook.at[operation] = lambda operation=operation: seen.append((operation, drivers(host, NVME)))
    await defined(host, hostdevs=[NVME])
    await host.hypervisor.start("win11")
    await host.hypervisor.destroy("win11")
    assert seen == [
        ("prepare", ["nvme"]),
        ("start", ["vfio-pci"]),
        ("stopped", ["vfio-pci"]),
        ("release", ["nvme"]),
    ]
    assert host.kernel.pci.override(NVME) is None


async def test_a_device_that_is_on_vfio_already_is_left_there(host: SimulatedHost) -> None:
    await defined(host, hostdevs=[NVME])
    host.kernel.modprobe(["vfio-pci"])
    for path, text in (("driver_override", "vfio-pci"), ("driver/unbind", NVME)):
        host.kernel.write(f"/sys/bus/pci/devices/{NVME}/{path}", text)
    host.kernel.write("/sys/bus/pci/drivers_probe", NVME)
    await host.hypervisor.start("win11")
    await host.hypervisor.destroy("win11")
    assert drivers(host, NVME) == ["vfio-pci"]


async def test_an_unmanaged_device_must_be_on_vfio(host: SimulatedHost, hook: Hook) -> None:
    await defined(host, hostdevs=[NVME], managed=False)
    with pytest.raises(HostFailed, match="must be manually detached from the host"):
        await host.hypervisor.start("win11")
    assert hook.calls == [("prepare", "begin"), ("stopped", "end"), ("release", "end")]


async def test_prepare_that_fails_aborts_with_the_hooks_words(host: SimulatedHost, hook: Hook) -> None:
    await defined(host, hostdevs=[NVME])
    before = len(host.hypervisor.events)
    hook.refuse = "prepare"
    with pytest.raises(HostFailed, match=r"unexpected exit status 1: no, because"):
        await host.hypervisor.start("win11")
    assert hook.calls == [("prepare", "begin"), ("stopped", "end"), ("release", "end")]
    assert host.hypervisor.events[before:] == []  # a start that fails sends no event
    assert await host.hypervisor.running() == ()
    assert drivers(host, NVME) == ["nvme"]


async def test_started_that_fails_kills_the_domain(host: SimulatedHost, hook: Hook) -> None:
    await defined(host)
    hook.refuse = "started"
    with pytest.raises(HostFailed):
        await host.hypervisor.start("win11")
    assert hook.calls[-2:] == [("stopped", "end"), ("release", "end")]
    assert await host.hypervisor.running() == ()


async def test_a_group_that_is_not_viable_ends_qemu(host: SimulatedHost) -> None:
    await defined(host, hostdevs=[GPU])
    with pytest.raises(HostFailed, match="group 14 is not viable"):
        await host.hypervisor.start("win11")
    assert drivers(host, GPU) == ["amdgpu"]
    free_companions(host)
    await host.hypervisor.start("win11")
    assert host.kernel.pci.owners == {14: "win11"}


async def test_without_an_iommu_libvirt_cannot_bind() -> None:
    host = SimulatedHost("no-iommu")
    await defined(host, hostdevs=[NVME])
    with pytest.raises(HostFailed, match="Failed to bind"):
        await host.hypervisor.start("win11")
    assert drivers(host, NVME) == ["nvme"]


async def test_a_device_of_another_domain(host: SimulatedHost) -> None:
    await defined(host, "a", hostdevs=[NVME])
    await defined(host, "b", hostdevs=[NVME])
    await host.hypervisor.start("a")
    with pytest.raises(HostFailed, match="in use by driver QEMU, domain a"):
        await host.hypervisor.start("b")
    with pytest.raises(HostFailed, match="already running"):
        await host.hypervisor.start("a")


async def test_a_start_that_fails_after_prepare(host: SimulatedHost, hook: Hook) -> None:
    await defined(host, hostdevs=[NVME])
    host.kernel.faults.cause("start-fails", "win11")
    with pytest.raises(HostFailed, match="process exited while connecting to monitor"):
        await host.hypervisor.start("win11")
    assert hook.calls == [("prepare", "begin"), ("start", "begin"), ("stopped", "end"), ("release", "end")]
    assert drivers(host, NVME) == ["nvme"]


async def test_calls_block_while_a_hook_runs(host: SimulatedHost, hook: Hook, autojump_clock: object) -> None:
    await defined(host)
    hook.seconds = 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.hypervisor.start, "win11")
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        host.hypervisor.limit = 1
        with pytest.raises(TimedOut):
            await host.hypervisor.running()
        host.hypervisor.limit = 60
        await host.hypervisor.inactive()
        assert trio.current_time() - started >= 2


async def test_a_domain_is_active_before_its_prepare_is_over(host: SimulatedHost, hook: Hook) -> None:
    await defined(host)
    state = list[str]()
    hook.at["prepare"] = lambda: state.append(host.hypervisor.domains["win11"].state)
    await host.hypervisor.start("win11")
    assert state == ["starting"]
    (running,) = await host.hypervisor.running()
    assert (running.name, running.state, running.definition is not None) == ("win11", "running", True)


async def test_a_transient_domain_has_no_definition(host: SimulatedHost) -> None:
    await host.hypervisor.create(guests.domain("live"))
    (running,) = await host.hypervisor.running()
    assert running.definition is None
    await host.hypervisor.destroy("live")
    assert host.hypervisor.domains == {}
    with pytest.raises(BadInput):
        await host.hypervisor.destroy("live")


async def test_pins_show_in_the_live_xml_alone(host: SimulatedHost) -> None:
    await defined(host, iothreads=1, pins={0: "4"})
    await host.hypervisor.start("win11")
    uuid = host.hypervisor.domains["win11"].uuid
    await host.hypervisor.pin_vcpu(uuid, 1, frozenset({5}))
    await host.hypervisor.pin_emulator(uuid, frozenset({0, 8}))
    await host.hypervisor.pin_iothread(uuid, 1, frozenset({1}))
    (running,) = await host.hypervisor.running()
    assert running.definition is not None
    assert dict(running.live.vcpu_pins) == {0: frozenset({4}), 1: frozenset({5})}
    assert running.live.emulator_pins == frozenset({0, 8})
    assert dict(running.live.iothread_pins) == {1: frozenset({1})}
    assert dict(running.definition.vcpu_pins) == {0: frozenset({4})}
    scope = "/sys/fs/cgroup/machine.slice/machine-qemu\\x2d1\\x2dwin11.scope/libvirt"
    assert host.files.read(f"{scope}/vcpu1/cpuset.cpus.effective") == "5\n"
    await host.hypervisor.pin_by_hand("win11", "vcpupin", 2, frozenset({6}), config=True)
    (running,) = await host.hypervisor.running()
    assert running.definition is not None
    assert running.definition.vcpu_pins[2] == frozenset({6})
    for wrong in (
        host.hypervisor.pin_vcpu(uuid, 9, frozenset({1})),
        host.hypervisor.pin_vcpu(uuid, 1, frozenset()),
    ):
        with pytest.raises(HostFailed, match="invalid argument"):
            await wrong
    with pytest.raises(HostFailed, match="Domain not found"):
        await host.hypervisor.pin_vcpu("0", 1, frozenset({1}))
    await host.hypervisor.destroy("win11")
    assert not host.files.exists(scope)
    with pytest.raises(HostFailed, match="not running"):
        await host.hypervisor.pin_vcpu(uuid, 1, frozenset({1}))


async def test_pins_outside_machine_slice_are_einval(host: SimulatedHost) -> None:
    await host.units.set_allowed_cpus("machine.slice", frozenset({0, 1}))
    await defined(host, pins={0: "4"})
    with pytest.raises(HostFailed, match="cannot set CPU affinity"):
        await host.hypervisor.start("win11")
    await defined(host, "plain")
    await host.hypervisor.start("plain")
    with pytest.raises(HostFailed, match="cannot set CPU affinity"):
        await host.hypervisor.pin_vcpu(host.hypervisor.domains["plain"].uuid, 0, frozenset({4}))


async def test_devices_come_and_go_while_it_runs(host: SimulatedHost, hook: Hook) -> None:
    await defined(host)
    await host.hypervisor.start("win11")
    hook.calls.clear()
    kicks = list[str]()
    host.subscribe_domains(lambda: kicks.append("kick"))
    await host.hypervisor.attach("win11", NVME)
    assert drivers(host, NVME) == ["vfio-pci"]
    (running,) = await host.hypervisor.running()
    assert running.live.pci_addresses == (NVME,)
    await host.hypervisor.detach_device("win11", NVME)
    assert drivers(host, NVME) == ["nvme"]
    assert hook.calls == []  # no hook runs for these
    assert [what for _, what in host.hypervisor.events[-2:]] == ["device-added", "device-removed"]
    assert len(kicks) == 2
    with pytest.raises(HostFailed, match="not viable"):
        await host.hypervisor.attach("win11", NIC)
    assert drivers(host, NIC) == ["r8169"]
    with pytest.raises(HostFailed, match="not found"):
        await host.hypervisor.detach_device("win11", NIC)


async def test_a_restart_of_libvirtd(host: SimulatedHost, hook: Hook) -> None:
    await defined(host)
    await host.hypervisor.start("win11")
    hook.calls.clear()
    kicks = list[str]()
    host.subscribe_domains(lambda: kicks.append("kick"))
    host.hypervisor.stop_libvirtd()
    with pytest.raises(Unreachable):
        await host.hypervisor.running()
    await host.hypervisor.start_libvirtd()
    assert hook.calls == [("reconnect", "begin")]
    assert len(await host.hypervisor.running()) == 1
    assert len(kicks) == 2


async def test_autostart_runs_hooks_before_clients_are_accepted(host: SimulatedHost, hook: Hook) -> None:
    await host.hypervisor.define(guests.domain("boot"), autostart=True)
    await host.hypervisor.define(guests.domain("fails", hostdevs=[NVME], managed=False), autostart=True)
    host.hypervisor.stop_libvirtd()
    away = list[bool]()

    def ask() -> None:
        away.append(host.hypervisor.libvirtd.away)

    hook.at["prepare"] = ask
    await host.hypervisor.start_libvirtd()
    assert away == [True, True]
    assert [running.name for running in await host.hypervisor.running()] == ["boot"]


async def test_a_libvirtd_that_hangs(host: SimulatedHost, autojump_clock: object) -> None:
    host.hypervisor.hang()
    with pytest.raises(TimedOut):
        await host.hypervisor.inactive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.hypervisor.inactive)
        await trio.sleep(1)
        host.hypervisor.go_on()


async def test_libvirt_hangs_with_its_own_write(host: SimulatedHost, autojump_clock: object) -> None:
    host.kernel.faults.cause("hang-unbind", NVME)
    await defined(host, hostdevs=[NVME])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.hypervisor.start, "win11")
        await trio.sleep(100)
        assert host.hypervisor.domains["win11"].state == "starting"
        host.kernel.lift("hang-unbind", NVME)
    assert host.hypervisor.domains["win11"].state == "running"


@pytest.mark.parametrize(
    "xml", ["", "<domain/>", "<domain><name/></domain>", "<network><name>a</name></network>", "<a"]
)
async def test_what_is_no_domain(host: SimulatedHost, xml: str) -> None:
    with pytest.raises(BadInput):
        await host.hypervisor.define(xml)


async def test_names_and_uuids_are_unique(host: SimulatedHost) -> None:
    await defined(host)
    await defined(host, cores=1)  # defining again replaces
    assert [d.vcpus for d in await host.hypervisor.inactive()] == [2]
    other = guests.domain("win11").replace(
        "</name>", "</name><uuid>00000000-0000-4000-8000-000000000001</uuid>"
    )
    with pytest.raises(HostFailed, match="already exists"):
        await host.hypervisor.define(other)
    with pytest.raises(HostFailed, match="already exists"):
        await host.hypervisor.create(guests.domain("win11"))
    await host.hypervisor.undefine("win11")
    assert await host.hypervisor.inactive() == ()


async def test_a_guest_that_ends_by_itself(host: SimulatedHost, hook: Hook) -> None:
    await defined(host, hostdevs=[NVME])
    await host.hypervisor.start("win11")
    await host.hypervisor.power_off("win11")
    assert hook.calls[-2:] == [("stopped", "end"), ("release", "end")]
    await host.hypervisor.start("win11")
    host.hypervisor.stop_libvirtd()
    hook.calls.clear()
    await host.hypervisor.power_off("win11")
    assert hook.calls == []
    assert drivers(host, NVME) == ["vfio-pci"]
    await host.hypervisor.start_libvirtd()
    assert hook.calls == [("stopped", "end"), ("release", "end")]
    assert drivers(host, NVME) == ["nvme"]
    assert await host.hypervisor.running() == ()


async def test_qemu_is_seen_to_have_the_group_open(host: SimulatedHost) -> None:
    def opened() -> list[str]:
        folder = "/proc/4001/fd"
        return [host.files.readlink(f"{folder}/{fd}") for fd in host.files.listdir(folder)]

    await defined(host, hostdevs=[NVME])
    await host.hypervisor.start("win11")
    assert opened() == ["/dev/vfio/vfio", "/dev/vfio/15"]
    assert (
        host.files.read("/proc/4001/cgroup")
        == "0::/machine.slice/machine-qemu\\x2d1\\x2dwin11.scope/libvirt/emulator\n"
    )
    await host.hypervisor.detach_device("win11", NVME)
    assert opened() == ["/dev/kvm"]
    await host.hypervisor.destroy("win11")
    assert not host.files.exists("/proc/4001")


async def test_two_at_once_want_the_same_device(host: SimulatedHost) -> None:
    said = list[str]()

    async def start(name: str) -> None:
        try:
            await host.hypervisor.start(name)
        except HostFailed as error:
            said.append(error.message)

    for name in ("a", "b"):
        await defined(host, name, hostdevs=[NVME])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(start, "a")
        nursery.start_soon(start, "b")
    assert len(said) == 1
    assert "is in use by driver QEMU" in said[0]
    assert len(await host.hypervisor.running()) == 1


async def test_a_device_is_attached_once(host: SimulatedHost) -> None:
    await defined(host)
    await host.hypervisor.start("win11")
    await host.hypervisor.attach("win11", NVME)
    with pytest.raises(HostFailed, match="in use by driver QEMU, domain win11"):
        await host.hypervisor.attach("win11", NVME)
    assert drivers(host, NVME) == ["vfio-pci"]
    await host.hypervisor.detach_device("win11", NVME)
    await host.hypervisor.attach("win11", NVME)


async def test_functions_of_one_group_may_go_to_one_domain_only(host: SimulatedHost) -> None:
    free_companions(host)
    await defined(host, "a", hostdevs=[GPU, COMPANIONS[0]])
    await defined(host, "b", hostdevs=[COMPANIONS[1]])
    await host.hypervisor.start("a")
    with pytest.raises(HostFailed, match="in use by driver QEMU, domain a"):
        await host.hypervisor.start("b")


async def test_a_stop_waits_for_the_start(host: SimulatedHost, hook: Hook, autojump_clock: object) -> None:
    await defined(host)
    hook.seconds = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.hypervisor.start, "win11")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(host.hypervisor.destroy, "win11")
    assert [operation for operation, _ in hook.calls] == ["prepare", "start", "started", "stopped", "release"]
