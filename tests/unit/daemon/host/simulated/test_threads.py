"""The threads of simulated domains, and what becomes of their masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hostler.errors import HostFailed
from hostlerd.host.simulated import hosts
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.observe.cpus import observe_cpus
from hostlerd.observe.threads import affinities

ALL = frozenset(range(16))


async def host_with(
    release: str = "6.1.0-sim", *, cpusets: bool = True, state: Path | None = None
) -> SimulatedHost:
    host = SimulatedHost(
        replace(hosts.DESKTOP, release=release), state_file=None if state is None else str(state)
    )
    if not cpusets:
        host.kernel.faults.cause("no-cpusets", "a")
    await host.hypervisor.define(domain("a", iothreads=1, pins={0: "3"}))
    await host.hypervisor.start("a")
    return host


async def test_each_thread_is_shown_as_it_is_pinned() -> None:
    host = await host_with()
    found = affinities(host.files, "a")
    assert found["vcpu", 0] == {3}
    assert found["vcpu", 1] == found["emulator", 0] == found["iothread", 1] == ALL
    await host.hypervisor.pin_by_hand("a", "iothreadpin", 1, frozenset({5}))
    await host.hypervisor.attach("a", "0000:0b:00.1")  # its process is shown anew
    assert affinities(host.files, "a")["iothread", 1] == {5}
    await host.hypervisor.destroy("a")
    assert affinities(host.files, "a") == {}


@pytest.mark.parametrize(("release", "kept"), [("6.1.0-sim", False), ("6.2.0-sim", True)])
async def test_a_change_of_its_cpuset_wipes_a_mask_before_linux_6_2(release: str, kept: bool) -> None:
    host = await host_with(release, cpusets=False)
    host.units.set_by_hand("machine.slice", frozenset(range(8)))
    assert affinities(host.files, "a")["vcpu", 0] == ({3} if kept else frozenset(range(8)))
    pins = (await host.hypervisor.running())[0].live.vcpu_pins
    assert pins == {0: {3}}  # libvirt knows nothing of it


async def test_a_mask_that_the_cpuset_has_nothing_of_any_more_is_the_cpusets() -> None:
    host = await host_with("6.12.0-sim", cpusets=False)
    host.units.set_by_hand("machine.slice", frozenset({8, 9}))
    assert affinities(host.files, "a")["vcpu", 0] == {8, 9}


async def test_a_cpu_goes_and_comes() -> None:
    host = await host_with("6.12.0-sim")
    host.kernel.switch_cpu(3, online=False)
    assert affinities(host.files, "a")["vcpu", 0] == ALL - {3}
    assert observe_cpus(host.files).online == ALL - {3}
    assert observe_cpus(host.files).offline == {3}
    host.kernel.switch_cpu(3, online=True)
    assert affinities(host.files, "a")["vcpu", 0] == {3}
    assert observe_cpus(host.files).online == ALL
    with pytest.raises(PermissionError):
        host.kernel.switch_cpu(0, online=False)


async def test_vcpus_come_and_go_without_an_event_of_libvirts() -> None:
    host = SimulatedHost("desktop")
    text = domain("a").replace("<vcpu>4</vcpu>", "<vcpu current='2'>4</vcpu>")
    await host.hypervisor.define(text)
    await host.hypervisor.start("a")
    told: list[int] = []
    host.subscribe_threads(lambda: told.append(1))
    events = len(host.hypervisor.events)
    await host.hypervisor.set_vcpus("a", 4)
    assert {kind for kind in affinities(host.files, "a") if kind[0] == "vcpu"} == {
        ("vcpu", i) for i in range(4)
    }
    await host.hypervisor.set_vcpus("a", 1)
    assert {kind for kind in affinities(host.files, "a") if kind[0] == "vcpu"} == {("vcpu", 0)}
    assert len(told) == 5
    assert len(host.hypervisor.events) == events
    with pytest.raises(HostFailed, match="max allowable"):
        await host.hypervisor.set_vcpus("a", 5)


async def test_the_state_file_has_them(tmp_path: Path) -> None:
    host = await host_with(state=tmp_path / "host.json")
    host.kernel.switch_cpu(5, online=False)
    await host.hypervisor.suspend("a")
    again = SimulatedHost(replace(hosts.DESKTOP, release="6.1.0-sim"), state_file=str(tmp_path / "host.json"))
    assert affinities(again.files, "a") == affinities(host.files, "a")
    assert again.kernel.cgroups.offline == {5}
    assert (await again.hypervisor.running())[0].state == "paused"
    await again.hypervisor.pin_by_hand("a", "vcpupin", 0, frozenset({4}))
    assert affinities(again.files, "a")["vcpu", 0] == {4}


async def test_starving_is_heard_by_who_listens() -> None:
    host = SimulatedHost("desktop")
    host.kernel.starve()
    with trio.move_on_after(0.01) as scope:
        await host.pressure.wait_starved("machine.slice")
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.pressure.wait_starved, "machine.slice")
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        host.kernel.starve()
