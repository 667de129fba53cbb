"""Writes that hang and return after all: the device is trusted again by itself, also by a daemon that came later."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import CARD, GPU, simulated, stable

from hostler.errors import HostFailed
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost

pytestmark = pytest.mark.trio

AUDIO = CARD[1]


async def wedge(host: SimulatedHost) -> None:
    """A start whose unbind hangs: it is refused, and the card's first function is degraded."""
    host.kernel.cause("hang-unbind", GPU, "")
    await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
    with pytest.raises(HostFailed, match="does not return"):
        await host.hypervisor.start("win11")


async def test_a_write_that_returns_makes_all_as_it_was(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = host.show()["devices"]
    async with stable(host, tmp_path / "journal") as one:
        await wedge(host)
        await one.settle()
        assert one.journal.ledger.troubles[GPU].wedged
        assert len(host.kernel.left_behind) == 1
        host.kernel.lift("hang-unbind", GPU)
        await one.settle()
        assert not one.journal.ledger.troubles
        assert not one.journal.ledger.outstanding
        assert not one.journal.ledger.devices
        assert host.show()["devices"] == before
        assert "the unbind has returned" in next(text for kind, _, text in one.told if kind == "returned")
        await host.hypervisor.start("win11")
        await one.settle()
        assert {one.plan.owners[address].who for address in CARD} == {"win11"}


async def test_the_reason_names_who_has_it(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    """A sound server is expected to let go when udev says that the card goes, and this one does not."""
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        host.kernel.hold(
            AUDIO,
            pid=900,
            command="pipewire",
            uid=1000,
            cgroup="/user.slice/user-1000.slice",
            paths=["/dev/snd/controlC0"],
        )
        host.kernel.cause("hang-unbind", AUDIO, "")
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        with pytest.raises(HostFailed, match=r"pipewire \(process 900.*has /dev/snd/controlC0 open"):
            await host.hypervisor.start("win11")
        await one.settle()
        trouble = one.journal.ledger.troubles[AUDIO]
        assert trouble.wedged
        assert "pipewire (process 900" in trouble.reason
        assert "goes on by itself" in trouble.remedy
        host.kernel.lift("hang-unbind", AUDIO)
        await one.settle()
        assert not one.journal.ledger.troubles
        assert not host.files.hung
        assert host.show()["devices"][AUDIO]["driver"] == "snd_hda_intel"


@pytest.mark.parametrize("while_down", [True, False])
async def test_a_daemon_that_came_later_hears_of_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, while_down: bool
):
    host = simulated()
    before = host.show()["devices"]
    async with stable(host, tmp_path / "journal") as one:
        await wedge(host)
        await one.settle()
    if while_down:
        host.kernel.lift("hang-unbind", GPU)
    began = trio.current_time()
    async with stable(host, tmp_path / "journal") as one:
        assert trio.current_time() - began < 10
        if not while_down:
            assert one.journal.ledger.troubles[GPU].wedged
            host.kernel.lift("hang-unbind", GPU)
            await one.settle()
        assert not one.journal.ledger.troubles
        assert not one.journal.ledger.outstanding
        assert host.show()["devices"] == before


async def test_trusted_by_hand_first(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    """`hostler retry` while it still hangs: it is degraded again, and the end of either write is no fault."""
    host = simulated()
    before = host.show()["devices"]
    async with stable(host, tmp_path / "journal") as one:
        await wedge(host)
        await one.settle()
        assert await one.reconciler.retry(GPU)
        await one.settle()
        await trio.sleep(30)
        assert set(one.journal.ledger.troubles) == {GPU}
        host.kernel.lift("hang-unbind", GPU)
        await one.settle()
        await trio.sleep(30)
        await one.settle()
        await one.reconciler.retry(GPU)
        await one.settle()
        assert host.show()["devices"] == before
        assert not one.journal.ledger.troubles


async def test_a_module_that_loads_in_the_end(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        host.kernel.cause("slow-write", "/sbin/modprobe", "100")
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        with pytest.raises(HostFailed):
            await host.hypervisor.start("win11")
        await one.settle()
        assert set(one.journal.ledger.troubles) == {"vfio-pci"}
        host.kernel.lift("slow-write", "/sbin/modprobe")
        await one.settle()
        assert not one.journal.ledger.troubles
        await host.hypervisor.start("win11")


async def test_a_degraded_card_that_is_pulled_out_is_forgotten(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await wedge(host)
        await one.settle()
        with pytest.raises(HostFailed, match="the kernel waits"):
            await host.simulate("unplug", {"address": GPU})
        host.kernel.lift("hang-unbind", GPU)
        await one.settle()
        assert not set(CARD) & set(host.show()["devices"])
        assert not one.journal.ledger.troubles
        assert not one.journal.ledger.devices
        assert not host.files.hung
