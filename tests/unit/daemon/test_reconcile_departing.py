"""A device that is taken away while somebody has it: the kernel waits, nobody else does, and it is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio.testing
from tests.unit.daemon.stable import CARD, GPU, NIC, SATA, Stable, stable

from hostler.errors import HostFailed
from hostlerd.host.simulated import hosts
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.settings import DevicePolicy, Match, Settings
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio

LAST = CARD[-1]
"""Functions are removed from the last to the first (pciehp_unconfigure_device)."""
ROUTER = Settings(devices=(DevicePolicy(name="nic", match=Match(address=NIC), group=(SATA,)),))


def simulated(release: str) -> SimulatedHost:
    return SimulatedHost(replace(hosts.find("desktop"), release=release), parse=parse_domain, limit=60.0)


def refusals(one: Stable) -> dict[str, str]:
    return {refusal.object: f"{refusal.reason}; {refusal.remedy}" for refusal in one.plan.refusals}


@pytest.mark.parametrize("release", ["6.1.0-sim", "6.12.0-sim"])
@pytest.mark.parametrize("managed", [True, False])
async def test_pulled_out_while_its_domain_runs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, release: str, managed: bool
):
    host = simulated(release)
    async with stable(host, tmp_path / "journal", ROUTER) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU], managed=managed))
        await host.hypervisor.define(domain("router", hostdevs=[NIC], cores=1))
        await host.hypervisor.define(domain("other", hostdevs=[GPU], cores=1))
        await host.hypervisor.start("win11")
        await one.settle()
        writes = len(host.kernel.log)
        with pytest.raises(HostFailed, match="the kernel waits"):
            await host.simulate("unplug", {"address": GPU})
        if release.startswith("6.1."):
            one.reconciler.look_at_host.kick()  # no event tells that remove() waits
        await one.settle()
        assert refusals(one) == {
            LAST: f"{LAST} is being taken out of the host, and win11 still has it: the kernel waits; stop win11"
        }
        assert {one.plan.owners[address].who for address in CARD} == {"win11"}
        assert not one.plan.steps
        assert len(host.kernel.log) == writes
        assert not host.files.hung
        assert not one.journal.ledger.troubles

        await host.hypervisor.start("router")
        await one.settle()
        assert one.plan.owners[NIC].who == "router"
        with pytest.raises(HostFailed, match="belongs to domain win11"):
            await host.hypervisor.start("other")

        await host.hypervisor.destroy("win11")
        await one.settle()
        assert not refusals(one)
        assert not set(CARD) & set(host.show()["devices"])
        ledger = one.journal.ledger
        assert not set(CARD) & {*ledger.devices, *ledger.claims}
        assert not [path for path in ledger.attributes if "0000:01:00" in path]
        assert not ledger.troubles
        assert not ledger.outstanding
        assert not host.files.hung


async def test_pulled_out_and_the_daemon_is_restarted_meanwhile(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("6.1.0-sim")
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        with pytest.raises(HostFailed):
            await host.simulate("unplug", {"address": GPU})
    host.hypervisor.stop_libvirtd()
    async with stable(host, tmp_path / "journal") as one:
        # The claim alone says whose it is.
        assert "win11 still has it" in refusals(one)[LAST]
        assert not host.files.hung
        await host.hypervisor.start_libvirtd()
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert not refusals(one)
        assert not one.journal.ledger.devices


@pytest.mark.parametrize("release", ["6.12.0-sim"])
async def test_pulled_out_while_a_program_has_it_open(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, release: str
):
    """The sound card of the host, which waits for whoever plays (snd_card_disconnect_sync)."""
    host = simulated(release)
    async with stable(host, tmp_path / "journal") as one:
        host.kernel.hold(CARD[1], pid=900, command="mpv", uid=1000, cgroup="/user.slice/user-1000.slice")
        with pytest.raises(HostFailed, match="the kernel waits"):
            await host.simulate("unplug", {"address": GPU})
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert "mpv (process 900" in refusals(one)[CARD[1]]
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        with pytest.raises(HostFailed, match="is being taken out of the host"):
            await host.hypervisor.start("win11")
        host.kernel.let_go(900)
        await one.settle()
        assert not one.plan.refusals
        assert not set(CARD) & set(host.show()["devices"])
        assert not one.journal.ledger.troubles


async def test_a_host_driver_that_waits_on_an_older_kernel_costs_one_look(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """There is no telling without reading, and the read hangs: then the device is left alone."""
    host = simulated("6.1.0-sim")
    async with stable(host, tmp_path / "journal") as one:
        host.kernel.hold(CARD[1], pid=900, command="mpv", uid=1000, cgroup="/user.slice/user-1000.slice")
        with pytest.raises(HostFailed, match="the kernel waits"):
            await host.simulate("unplug", {"address": GPU})
        one.reconciler.look_at_host.kick()
        await one.settle()
        await trio.sleep(20)
        assert set(one.journal.ledger.troubles) == {CARD[1]}
        assert len(host.files.hung) == 1
