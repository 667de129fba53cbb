"""The host sleeps, or would: with a domain running, in the middle of a handoff, and with nothing in the way."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import CARD, GPU, NIC, SATA, Stable, simulated, stable

from hostler.errors import HostFailed
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.settings import DevicePolicy, Match, Settings

pytestmark = pytest.mark.trio


def refused(host: SimulatedHost) -> list[str]:
    return [lock["why"] for lock in host.sleep.show() if lock["mode"] == "block"]


def delays(host: SimulatedHost) -> int:
    return len([lock for lock in host.sleep.show() if lock["mode"] == "delay"])


async def start(host: SimulatedHost, one: Stable) -> None:
    await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
    await host.hypervisor.start("win11")
    await one.settle()


async def test_sleep_is_refused_from_the_start_of_a_domain_to_its_end(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    settings = Settings(devices=(DevicePolicy(name="nic", match=Match(address=NIC), group=(SATA,)),))
    async with stable(host, tmp_path / "journal", settings) as one:
        assert (refused(host), delays(host)) == ([], 1)
        await start(host, one)
        assert refused(host) == [f"win11 has {GPU}"]
        assert one.reconciler.awake.refused_with == f"win11 has {GPU}"
        await host.hypervisor.define(domain("router", hostdevs=[NIC], cores=1))
        await host.hypervisor.start("router")
        await one.settle()
        assert refused(host) == [f"win11 has {GPU}; router has {NIC}, {SATA}"]
        with pytest.raises(HostFailed, match=GPU):
            await host.simulate("sleep", {})
        await host.hypervisor.destroy("router")
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert (refused(host), delays(host)) == ([], 1)
        assert one.reconciler.awake.refused_with == ""
        await host.simulate("sleep", {})


async def test_a_handoff_is_in_the_way_whatever_policy_says(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal", Settings(suspend="allow")) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        host.kernel.faults.cause("slow-write", f"/sys/bus/pci/devices/{GPU}/driver_override", "2")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.hypervisor.start, "win11")
            await trio.sleep(1)
            assert refused(host) == [f"{GPU} is being handed over"]
        await one.settle()
        assert refused(host) == []
        await host.simulate("sleep", {})
        await host.simulate("resume", {})
        await one.settle()
        assert not one.plan.steps
        assert one.plan.owners[GPU].who == "win11"


async def test_forced_in_the_middle_of_a_handoff_it_goes_on_after_waking(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """The step that had begun is waited for, the next one is not begun, and libvirt's hook waits."""
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        host.kernel.faults.cause("slow-write", f"/sys/bus/pci/devices/{GPU}/driver_override", "2")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.hypervisor.start, "win11")
            await trio.sleep(1)
            slept = await host.simulate("sleep", {"force": "yes"})
            assert slept["seconds"] == pytest.approx(1, abs=0.1)
            await one.settle()
            assert not one.journal.ledger.outstanding
            assert host.kernel.pci.override(GPU) == "vfio-pci"
            assert host.show()["devices"][GPU]["driver"] == "amdgpu"
            writes = len(host.kernel.log)
            one.reconciler.look_at_host.kick()
            one.reconciler.look_at_domains.kick()
            await one.settle()
            assert len(host.kernel.log) == writes
            await host.simulate("resume", {})
        await one.settle()
        assert {one.plan.owners[address].who for address in CARD} == {"win11"}
        assert one.plan.converged
        assert delays(host) == 1


async def test_what_happened_while_it_slept_is_seen(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    before = host.show()["devices"]
    async with stable(host, tmp_path / "journal") as one:
        await start(host, one)
        await host.simulate("sleep", {"force": "yes"})
        await host.hypervisor.power_off("win11")
        await one.settle()
        assert host.show()["devices"] != before
        await host.simulate("resume", {})
        await one.settle()
        assert host.show()["devices"] == before
        assert not one.journal.ledger.claims


async def test_a_write_that_hangs_does_not_keep_the_host_from_sleeping(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        host.kernel.cause("hang-unbind", GPU, "")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_to_start, host)
            await trio.sleep(1)
            slept = await host.simulate("sleep", {"force": "yes"})
            assert slept["seconds"] < 5
            await host.simulate("resume", {})
        await one.settle()
        assert set(one.journal.ledger.troubles) == {GPU}


async def test_a_card_that_does_not_answer_after_it_is_said(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    settings = Settings(
        devices=(
            DevicePolicy(name="card", match=Match(address=GPU), recover="reset"),
            DevicePolicy(name="nic", match=Match(address=NIC), when_idle="vfio", group=(SATA,)),
        )
    )
    async with stable(host, tmp_path / "journal", settings) as one:
        await start(host, one)
        await host.simulate("sleep", {"force": "yes"})
        for address in (GPU, NIC):
            host.kernel.cause("dead", address, "reset")
        await host.simulate("resume", {})
        await one.settle()
        (refusal,) = one.plan.refusals
        assert (refusal.object, refusal.claim) == (GPU, None)
        assert "does not answer any more" in refusal.reason
        assert "since the host slept, and win11 has it" in refusal.reason
        assert {obj for kind, obj, _ in one.told if kind == "silent"} == {GPU, NIC}
        assert not one.journal.ledger.troubles
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert [r.object for r in one.plan.refusals] == [GPU]
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert not one.plan.refusals
        assert host.show()["devices"][GPU]["driver"] == "amdgpu"  # its reset helped


async def fail_to_start(host: SimulatedHost) -> None:
    with pytest.raises(HostFailed, match="does not return"):
        await host.hypervisor.start("win11")
