"""The main job on the simulated host: there, back, refused, failed, killed at every line of the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.daemon.mortal import at_every_line, does, life
from tests.unit.daemon.stable import CARD, GPU, NIC, SATA, simulated, stable

from hostler.errors import Claimed, HostFailed, TimedOut
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.settings import DevicePolicy, Match, Settings
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio


def state(host: SimulatedHost) -> dict[str, Any]:
    """What must be as it was."""
    shown = host.show()
    return {"devices": shown["devices"], "slices": shown["slices"]}


def with_uuid(xml: str) -> str:
    return xml.replace("<memory", "<uuid>11111111-1111-1111-1111-111111111111</uuid><memory")


def on_vfio(host: SimulatedHost) -> list[str]:
    return [address for address, device in host.show()["devices"].items() if device["on_vfio"]]


async def test_there_and_back(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        assert state(host) == before
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        assert on_vfio(host) == list(CARD)
        slices = host.show()["slices"]
        assert (
            slices["system.slice"]
            == slices["user.slice"]
            == slices["init.scope"]
            != before["slices"]["init.scope"]
        )
        assert slices["machine.slice"] == before["slices"]["machine.slice"]
        live = (await host.hypervisor.running())[0].live
        cpus = [next(iter(live.vcpu_pins[i])) for i in range(4)]
        assert len(set(cpus)) == 4
        assert one.plan.converged
        assert one.plan.owners[GPU].who == "win11"
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert state(host) == before
        assert not one.journal.ledger.devices
        assert not one.journal.ledger.groups
        assert not one.journal.ledger.claims
        assert not one.journal.ledger.pins
        assert not one.journal.ledger.outstanding


async def test_managed_no_works_too(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU], managed=False))
        await host.hypervisor.start("win11")
        assert on_vfio(host) == list(CARD)
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert state(host) == before


async def test_a_foreign_member_refuses_and_leaves_nothing_behind(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("router", hostdevs=[NIC]))
        with pytest.raises(HostFailed, match=SATA):
            await host.hypervisor.start("router")
        await one.settle()
        assert state(host) == before
        assert not one.journal.ledger.claims


async def test_a_start_that_fails_after_prepare_gives_everything_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        host.kernel.faults.cause("start-fails", "win11")
        with pytest.raises(HostFailed, match="firmware"):
            await host.hypervisor.start("win11")
        await one.settle()
        assert state(host) == before
        assert not one.journal.ledger.claims


async def test_a_second_domain_is_told_who_has_the_card(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        for name in ("win11", "work"):
            await host.hypervisor.define(domain(name, hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        with pytest.raises(HostFailed, match="belongs to domain win11"):
            await host.hypervisor.start("work")
        assert on_vfio(host) == list(CARD)
        xml = with_uuid(domain("third", hostdevs=[GPU]))
        with pytest.raises(Claimed) as caught:
            await one.reconciler.prepare(parse_domain(xml), xml)
        assert caught.value.data["holder"] == "win11"


async def test_a_probe_that_fails_puts_everything_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        host.kernel.faults.cause("probe-fails", CARD[1], "vfio-pci")
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        with pytest.raises(HostFailed, match=f"{CARD[1]} should be on vfio-pci"):
            await host.hypervisor.start("win11")
        await one.settle()
        assert state(host) == before
        assert not one.journal.ledger.troubles


async def test_an_unbind_that_hangs_degrades_the_device_and_nothing_waits_for_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        host.kernel.faults.cause("hang-unbind", GPU)
        host.kernel.write(f"/sys/bus/pci/devices/{GPU}/power/control", "auto")
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        began = trio.current_time()
        with pytest.raises(HostFailed):
            await host.hypervisor.start("win11")
        assert trio.current_time() - began < 30
        await one.settle()
        assert one.journal.ledger.troubles[GPU].wedged
        assert one.plan.owners[GPU].kind == "degraded"
        # The rest of the card is the host's again, and nothing of the stuck device was read.
        shown = host.show()
        assert not [a for a in CARD[1:] if shown["devices"][a]["on_vfio"]]
        assert not shown["hung"]
        assert set(one.journal.ledger.troubles) == {
            GPU
        }  # its power setting is not put back: that would hang, too
        with pytest.raises(HostFailed, match="degraded"):
            await host.hypervisor.start("win11")


async def test_two_domains_in_turn(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    before = state(host)
    settings = Settings(
        devices=(DevicePolicy(name="nic", match=Match(address=NIC), group=(SATA,)),),
    )
    async with stable(host, tmp_path / "journal", settings) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.define(domain("router", hostdevs=[NIC], cores=1))
        await host.hypervisor.start("win11")
        await one.settle()
        first = one.plan.dedicated
        await host.hypervisor.start("router")
        await one.settle()
        assert one.plan.dedicated > first
        assert set(on_vfio(host)) == {*CARD, NIC, SATA}
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert set(on_vfio(host)) == {NIC, SATA}
        assert len(one.plan.dedicated) == 2
        await host.hypervisor.destroy("router")
        await one.settle()
        assert state(host) == before


async def test_a_caller_that_hangs_up_rolls_back(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        xml = with_uuid(domain("win11", hostdevs=[GPU]))
        host.kernel.faults.cause("slow-write", f"/sys/bus/pci/devices/{GPU}/driver_override", "1")
        with trio.move_on_after(0.5) as scope:
            await one.reconciler.prepare(parse_domain(xml), xml)
        assert scope.cancelled_caught
        await one.settle()
        await trio.sleep(60)
        assert state(host) == before
        assert not one.journal.ledger.claims


async def test_prepare_has_a_limit_and_leaves_nothing(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        for address in CARD:
            host.kernel.faults.cause("slow-write", f"/sys/bus/pci/devices/{address}/driver_override", "9")
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        xml = with_uuid(domain("win11", hostdevs=[GPU]))
        with pytest.raises(TimedOut):
            await one.reconciler.prepare(parse_domain(xml), xml)
        host.kernel.faults.active.clear()
        await trio.sleep(120)
        await one.settle()
        assert state(host) == before


async def test_a_card_for_vfio_is_bound_when_plugged_in_and_may_go(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    card = next(iter(host.spec.cards))
    spec = host.spec.cards[card][0]
    settings = Settings(
        devices=(
            DevicePolicy(name="hot", match=Match(vendor=spec.vendor, device=spec.device), when_idle="vfio"),
        ),
    )
    async with stable(host, tmp_path / "journal", settings) as one:
        rule = host.files.read("/run/udev/rules.d/70-hostler.rules")
        assert f'ATTR{{device}}=="0x{spec.device:04x}"' in rule
        await host.simulate("plug", {"card": card})
        await one.settle()
        assert spec.address in on_vfio(host)
        assert one.plan.owners[spec.address].kind == "idle"
        await host.simulate("unplug", {"address": spec.address})
        await one.settle()
        assert not one.journal.ledger.troubles
        assert spec.address not in one.journal.ledger.devices
        one.reconciler.apply(Settings())
        await one.settle()
        assert not host.files.exists("/run/udev/rules.d/70-hostler.rules")


async def test_attach_and_detach_are_claims(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("work"))
        await host.hypervisor.start("work")
        await one.settle()
        before = state(host)["devices"]
        nvme = "0000:02:00.0"
        await host.hypervisor.attach("work", nvme)
        await one.settle()
        assert one.plan.owners[nvme].who == "work"
        assert one.plan.dedicated
        await host.hypervisor.detach_device("work", nvme)
        await one.settle()
        assert state(host)["devices"] == before
        assert one.plan.owners[nvme].kind == "host"
        assert not one.plan.dedicated


async def test_libvirtd_may_come_and_go(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        running = state(host)
        host.hypervisor.stop_libvirtd()
        await trio.sleep(100)
        await one.settle()
        assert state(host) == running
        await host.hypervisor.start_libvirtd()
        await one.settle()
        assert state(host) == running
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert state(host) == before


async def test_a_domain_of_the_same_name_is_another_domain(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        xml = with_uuid(domain("win11", hostdevs=[GPU]))
        with pytest.raises(Claimed, match="belongs to domain win11"):
            await one.reconciler.prepare(parse_domain(xml), xml)


async def test_a_card_our_rule_aimed_in_time_can_go_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """udev won the race: the card was on VFIO before anybody looked."""
    host = simulated()
    card = next(iter(host.spec.cards))
    spec = host.spec.cards[card][0]
    settings = Settings(
        devices=(
            DevicePolicy(name="hot", match=Match(vendor=spec.vendor, device=spec.device), when_idle="vfio"),
        ),
    )
    host.kernel.modprobe(["vfio-pci"])
    host.kernel.faults.cause("early-udev")
    async with stable(host, tmp_path / "journal", settings) as one:
        await host.simulate("plug", {"card": card})
        await one.settle()
        assert spec.address in on_vfio(host)
        one.reconciler.apply(Settings())
        await one.settle()
        assert spec.address not in on_vfio(host)
        assert host.show()["devices"][spec.address]["override"] is None
        assert not one.journal.ledger.devices


@pytest.mark.parametrize("action", ["start", "destroy"])
async def test_killed_at_any_line_it_ends_there_or_as_before(
    memory_path: Path, action: str, autojump_clock: trio.testing.MockClock
):
    """At every line of the journal, on the way there and on the way back."""

    async def once(line: int) -> bool:
        host = simulated()
        before = state(host)
        path = memory_path / f"journal-{line}"
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        if action == "destroy":
            async with stable(host, path) as one:
                await host.hypervisor.start("win11")
                await one.settle()
        died = await life(host, path, line, does(host, action))
        async with stable(host, path) as one:
            await trio.sleep(40)
            await one.settle()
            active = [d.name for d in await host.hypervisor.running()]
            if active:
                assert on_vfio(host) == list(CARD)
                await host.hypervisor.destroy("win11")
                await one.settle()
            assert state(host) == before
            assert not one.journal.ledger.devices
            # And it still works.
            await host.hypervisor.start("win11")
            await one.settle()
            assert on_vfio(host) == list(CARD)
        return died

    await at_every_line(once, more_than=20, below=200)
