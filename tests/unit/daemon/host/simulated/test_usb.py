"""The simulated USB bus: what sysfs shows, which events come in which order, what libvirt makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.daemon.host import usb_contract

from hostler.errors import BadInput, HostFailed
from hostlerd.host.simulated import guests
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.usb import THINGS
from hostlerd.observe.holders import holders
from hostlerd.observe.pci import observe_functions
from hostlerd.observe.usb import observe_usb

CARD, GPU = "0000:01:00.2", "0000:01:00.0"
DEVICES = "/sys/bus/usb/devices"


@pytest.fixture
def host() -> SimulatedHost:
    """With usb_contract's STICK."""
    host = SimulatedHost("desktop")
    host.kernel.plug_usb(THINGS["hub"], "1-2")
    host.kernel.plug_usb(THINGS["stick"], "1-2.3")
    host.kernel.storm_usb("1-2.3", 2)
    host.kernel.uevents.clear()
    return host


async def running(host: SimulatedHost, name: str, **what: object) -> str:
    await host.hypervisor.define(guests.domain(name, **what))  # type: ignore[arg-type]
    await host.hypervisor.start(name)
    return host.hypervisor.domains[name].uuid


def test_what_is_there(host: SimulatedHost) -> None:
    files = host.files
    assert {"usb1", "usb2", "1-2", "1-2:1.0", "1-2.3", "1-2.3:1.0"} == set(files.listdir(DEVICES))
    assert files.read(f"{DEVICES}/1-2.3/serial") == "60A44C413A8CF320\n"
    assert files.readlink(f"{DEVICES}/1-2.3/driver").endswith("/bus/usb/drivers/usb")
    assert files.readlink(f"{DEVICES}/1-2.3").endswith("/0000:01:00.2/usb1/1-2/1-2.3")
    assert list(observe_usb(files)) == ["1-2.3"]
    assert observe_usb(files)["1-2.3"].path == "pci-0000:01:00.2-usb-0:2.3"


def test_bind_comes_last_and_numbers_go_on(host: SimulatedHost) -> None:
    host.kernel.plug_usb(THINGS["keyboard"], "1-1")
    assert host.kernel.uevents == [
        ("add", "1-1"),
        ("add", "1-1:1.0"),
        ("bind", "1-1:1.0"),
        ("add", "1-1:1.1"),
        ("bind", "1-1:1.1"),
        ("bind", "1-1"),
    ]
    assert host.files.read(f"{DEVICES}/1-1/devnum") == "6\n"
    host.kernel.storm_usb("1-1", 130)
    assert host.files.read(f"{DEVICES}/1-1/devnum") == "12\n"  # 130 on, in a round of 124: 2 and 5 are taken


def test_a_hub_takes_along_what_is_behind_it(host: SimulatedHost) -> None:
    host.kernel.unplug_usb("1-2")
    assert set(host.files.listdir(DEVICES)) == {"usb1", "usb2"}
    assert [event for event in host.kernel.uevents if ":" not in event[1]] == [
        ("remove", "1-2.3"),
        ("remove", "1-2"),
    ]
    with pytest.raises(OSError, match="No such device"):
        host.kernel.unplug_usb("1-2")


@pytest.mark.parametrize("port", ["1-2", "9-1", "1-1.1", "1-2.3.1"])
async def test_ports_that_are_none(host: SimulatedHost, port: str) -> None:
    with pytest.raises(BadInput, match=r"plug-usb: there is (no|something in)"):
        await host.simulate("plug-usb", {"device": "stick", "port": port})


async def test_what_is_no_thing(host: SimulatedHost) -> None:
    with pytest.raises(BadInput, match="there is keyboard, stick"):
        await host.simulate("plug-usb", {"device": "cup", "port": "1-1"})


async def test_driven_from_outside(host: SimulatedHost) -> None:
    heard: list[None] = []
    host.subscribe_usb(lambda: heard.append(None))
    await host.simulate("plug-usb", {"device": "stick", "port": "1-1"})
    await host.simulate("storm-usb", {"port": "1-1", "times": "3"})
    assert host.show()["usb"]["1-1"] == {"number": 9, "configured": True, "user": None}
    await host.simulate("unplug-usb", {"port": "1-1"})
    assert "1-1" not in host.show()["usb"]
    assert len(heard) > 20


def test_authorized(host: SimulatedHost) -> None:
    host.kernel.write(f"{DEVICES}/1-2.3/authorized", "0")
    assert not observe_usb(host.files)["1-2.3"].bound
    host.kernel.write(f"{DEVICES}/1-2.3/authorized", "1")
    assert observe_usb(host.files)["1-2.3"].bound


def test_a_controller_takes_its_bus_along_and_brings_it_back(host: SimulatedHost) -> None:
    host.kernel.write(f"/sys/bus/pci/devices/{CARD}/driver/unbind", CARD)
    assert set(host.files.listdir(DEVICES)) == {"usb2"}
    host.kernel.write("/sys/bus/pci/drivers_probe", CARD)
    assert observe_usb(host.files)["1-2.3"].number == 3  # a new bus counts anew


async def test_state_and_recordings(host: SimulatedHost, tmp_path: Path) -> None:
    await running(host, "win11")
    await host.hypervisor.attach_usb(host.hypervisor.domains["win11"].uuid, usb_contract.STICK)
    state = str(tmp_path / "state.json")
    host._state_file = state
    host.save()
    again = SimulatedHost("desktop", state_file=state)
    assert again.kernel.usb.dump() == host.kernel.usb.dump()
    with pytest.raises(HostFailed, match="is in use by driver QEMU, domain win11"):
        await again.hypervisor.attach_usb(again.hypervisor.domains["win11"].uuid, usb_contract.STICK)
    await again.hypervisor.destroy("win11")
    host.files.save(str(tmp_path / "host"))
    played = SimulatedHost(str(tmp_path / "host"))
    assert observe_usb(played.files) == observe_usb(host.files)
    played.kernel.unplug_usb("1-2")
    assert observe_usb(played.files) == {}
    played.kernel.plug_usb(THINGS["stick"], "1-2")
    assert observe_usb(played.files)["1-2"].number == 6


# --- libvirt


async def test_the_contract(host: SimulatedHost) -> None:
    hypervisor = host.hypervisor
    none = guests.domain("none").replace("<devices>", "<devices><controller type='usb' model='none'/>")
    await hypervisor.define(none)
    await hypervisor.start("none")
    await usb_contract.without_a_controller(hypervisor, hypervisor.domains["none"].uuid)
    await hypervisor.define(guests.domain("off"))
    await usb_contract.of_a_domain_that_does_not_run(hypervisor, hypervisor.domains["off"].uuid)
    await usb_contract.of_a_domain_that_is_not_there(hypervisor)
    uuid = await running(host, "win11")
    await usb_contract.of_what_is_not_there(hypervisor, uuid)
    host.kernel.usb.claim("1-2.3", "scanner")
    await usb_contract.of_what_qemu_cannot_open(hypervisor, uuid)
    await usb_contract.of_what_is_not_attached(hypervisor, uuid)


async def test_attach_and_detach(host: SimulatedHost) -> None:
    uuid = await running(host, "win11")
    live = await host.hypervisor.attach_usb(uuid, usb_contract.STICK)
    (source,) = live.usb_sources
    assert source.as_attached() == usb_contract.STICK
    assert host.hypervisor.events[-1] == ("win11", "device-added")
    assert observe_usb(host.files)["1-2.3"].drivers == ("usbfs",)
    (held,) = holders(host.files, [observe_functions(host.files)[CARD]])
    assert (held.command, held.node) == ("qemu-system-x86", "/dev/bus/usb/001/005")
    assert host.show()["usb"]["1-2.3"]["user"] == "win11"
    other = await running(host, "work")
    with pytest.raises(HostFailed, match=r"USB device 001:005 is in use by driver QEMU, domain win11"):
        await host.hypervisor.attach_usb(other, usb_contract.STICK)
    assert not (await host.hypervisor.detach_usb(uuid, usb_contract.STICK)).usb_sources
    assert host.hypervisor.events[-1] == ("win11", "device-removed")
    assert observe_usb(host.files)["1-2.3"].drivers == ("usb-storage",)


async def test_pulled_out_it_stays_listed_until_it_is_detached(host: SimulatedHost) -> None:
    uuid = await running(host, "win11")
    await host.hypervisor.attach_usb(uuid, usb_contract.STICK)
    host.kernel.unplug_usb("1-2.3")
    (domain,) = await host.hypervisor.running()
    assert len(domain.live.usb_sources) == 1
    assert not (await host.hypervisor.detach_usb(uuid, usb_contract.STICK)).usb_sources


@pytest.mark.parametrize("power_off", [False, True])
async def test_a_domain_that_stops_lets_go(host: SimulatedHost, power_off: bool) -> None:
    uuid = await running(host, "win11")
    await host.hypervisor.attach_usb(uuid, usb_contract.STICK)
    if power_off:
        host.hypervisor.stop_libvirtd()
        await host.hypervisor.power_off("win11")
        assert host.show()["usb"]["1-2.3"]["user"] is None
        await host.hypervisor.start_libvirtd()
    else:
        await host.hypervisor.destroy("win11")
    assert host.show()["usb"]["1-2.3"]["user"] is None
    await host.hypervisor.start("win11")
    await host.hypervisor.attach_usb(uuid, usb_contract.STICK)


async def test_a_definition_with_a_device(host: SimulatedHost) -> None:
    uuid = await running(host, "win11", usb=["0951:1666"])
    (domain,) = await host.hypervisor.running()
    assert [(s.bus, s.number, s.mark) for s in domain.live.usb_sources] == [(1, 5, "")]
    assert domain.definition is not None
    assert [s.bus for s in domain.definition.usb_sources] == [None]
    await host.hypervisor.define(guests.domain("work", usb=["0951:1666"]))
    with pytest.raises(HostFailed, match="in use by driver QEMU, domain win11"):
        await host.hypervisor.start("work")
    await host.hypervisor.destroy("win11")
    host.kernel.plug_usb(THINGS["other-stick"], "1-1")
    with pytest.raises(HostFailed, match="Multiple USB devices for 951:1666, use <address>"):
        await host.hypervisor.start("win11")
    for port in ("1-1", "1-2"):
        host.kernel.unplug_usb(port)
    with pytest.raises(HostFailed, match="Did not find USB device 0951:1666"):
        await host.hypervisor.start("win11")
    optional = guests.domain("win11", usb=["0951:1666"]).replace(
        "<source>", "<source startupPolicy='optional'>"
    )
    await host.hypervisor.define(optional.replace("<memory", f"<uuid>{uuid}</uuid><memory", 1))
    await host.hypervisor.start("win11")
    (domain,) = await host.hypervisor.running()
    assert [s.missing for s in domain.live.usb_sources] == [True]
