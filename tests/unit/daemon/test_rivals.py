"""Who else moves our devices: put back at once, then later, then said."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import GPU, Stable, simulated, stable
from tests.unit.daemon.test_reconcile import on_vfio

from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.settings import DevicePolicy, Match, Settings

pytestmark = pytest.mark.trio

IDLE = Settings(devices=(DevicePolicy(name="gaming", match=Match(address=GPU), when_idle="vfio"),))


def steal(host: SimulatedHost) -> None:
    """As driverctl does it."""
    host.kernel.write(f"/sys/bus/pci/devices/{GPU}/driver_override", "amdgpu\n")
    host.kernel.write("/sys/bus/pci/drivers/vfio-pci/unbind", GPU)
    host.kernel.write("/sys/bus/pci/drivers_probe", GPU)


async def taken_for(host: SimulatedHost, one: Stable) -> float:
    """Seconds until it is back."""
    steal(host)
    began = trio.current_time()
    await one.settle()
    while GPU not in on_vfio(host):
        await trio.sleep(0.1)
        await one.settle()
    return trio.current_time() - began


async def test_three_times_with_growing_pauses_then_a_conflict(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal", IDLE) as one:
        assert GPU in on_vfio(host)
        with trio.fail_after(60):
            pauses = [await taken_for(host, one) for _ in range(3)]
        assert pauses == [pytest.approx(0, abs=0.3), pytest.approx(1, abs=0.3), pytest.approx(3, abs=0.3)]
        steal(host)
        await trio.sleep(20)
        trouble = one.journal.ledger.troubles[GPU]
        assert "4 times within a minute and put on amdgpu" in trouble.reason
        assert GPU not in on_vfio(host)
        await one.reconciler.retry(GPU)
        await one.settle()
        assert GPU in on_vfio(host)


async def test_long_after_it_counts_anew(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal", IDLE) as one:
        with trio.fail_after(600):
            for _ in range(6):
                assert await taken_for(host, one) < 1
                await trio.sleep(70)
        assert not one.journal.ledger.troubles


async def test_driverctl_is_named(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    host.kernel.tree.put(f"/etc/driverctl.d/{GPU}", "amdgpu\n")
    async with stable(host, tmp_path / "journal", IDLE) as one:
        with trio.fail_after(60):
            for _ in range(3):
                await taken_for(host, one)
        steal(host)
        await trio.sleep(20)
        trouble = one.journal.ledger.troubles[GPU]
        assert "by driverctl" in trouble.reason
        assert f"driverctl unset-override {GPU}" in trouble.remedy


async def test_another_card_at_the_address_is_refused_until_it_is_accepted(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    host.kernel.tree.put("/var/lib/hostler/devices.json", f'{{"{GPU}": {{"identity": "10de:2684:030000"}}}}')
    async with stable(host, tmp_path / "journal", IDLE) as one:
        assert GPU not in on_vfio(host)
        assert any(r.object == GPU and "10de:2684" in r.reason for r in one.plan.refusals)
        assert await one.reconciler.retry(GPU)
        await one.settle()
        assert GPU in on_vfio(host)
        assert "1002:" in host.files.read("/var/lib/hostler/devices.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": {"x": 1}}'])
async def test_a_memory_that_makes_no_sense_is_made_anew(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, text: str
):
    host = simulated()
    host.kernel.tree.put("/var/lib/hostler/devices.json", text)
    async with stable(host, tmp_path / "journal", IDLE):
        assert GPU in on_vfio(host)
        assert GPU in host.files.read("/var/lib/hostler/devices.json")
