"""One device, two who want it; and domains that end without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import CARD, GPU, Stable, simulated, stable
from tests.unit.daemon.test_reconcile import state

from hostler.errors import Claimed, HostFailed
from hostlerd.host.simulated.guests import domain
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio

NVME = "0000:02:00.0"


def asked(number: int, *hostdevs: str) -> str:
    uuid = f"{number}" * 8 + "-1111-1111-1111-111111111111"
    xml = domain(f"vm{number}", hostdevs=list(hostdevs), cores=1)
    return xml.replace("<memory", f"<uuid>{uuid}</uuid><memory")


async def test_of_two_preparations_at_once_the_first_gets_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    outcomes: dict[str, object] = {}

    async def prepare(one: Stable, xml: str) -> None:
        definition = parse_domain(xml)
        try:
            outcomes[definition.name] = await one.reconciler.prepare(definition, xml)
        except Claimed as error:
            outcomes[definition.name] = error.data["holder"]

    async with stable(host, tmp_path / "journal") as one:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(prepare, one, asked(1, GPU))
            await trio.lowlevel.checkpoint()
            nursery.start_soon(prepare, one, asked(2, GPU))
        names = {name for name, outcome in outcomes.items() if outcome == sorted(CARD)}
        assert len(names) == 1
        assert [outcome for name, outcome in outcomes.items() if name not in names] == list(names)
        assert {one.plan.owners[address].who for address in CARD} == names


async def test_the_same_domain_twice_is_prepared_once(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        xml = asked(1, GPU)
        host.kernel.faults.cause("slow-write", f"/sys/bus/pci/devices/{GPU}/driver_override", "2")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.reconciler.prepare, parse_domain(xml), xml)
            await trio.sleep(1)
            with pytest.raises(Claimed, match="being prepared already"):
                await one.reconciler.prepare(parse_domain(xml), xml)
        assert one.plan.owners[GPU].who == "vm1"


async def test_what_is_being_prepared_is_not_attached_elsewhere(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """No hook runs for `virsh attach-device`: libvirt gives it away, or finds it in use; either way one has it."""
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("work", cores=1))
        await host.hypervisor.define(domain("win11", hostdevs=[NVME], cores=1))
        await host.hypervisor.start("work")
        await one.settle()
        host.kernel.faults.cause("slow-write", f"/sys/bus/pci/devices/{NVME}/driver_override", "2")
        told: list[str] = []

        async def start() -> None:
            try:
                await host.hypervisor.start("win11")
            except HostFailed as error:
                told.append(error.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            await trio.sleep(1)
            with trio.move_on_after(30):
                try:
                    await host.hypervisor.attach("work", NVME)
                except HostFailed as error:
                    told.append(error.message)
        await one.settle()
        assert len(told) == 1
        owner = one.plan.owners[NVME].who
        assert owner in ("work", "win11")
        assert owner in told[0]
        assert set(host.hypervisor.show()) >= {owner}
        assert not one.journal.ledger.troubles


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("while_away", [True, False])
async def test_a_domain_that_was_killed_has_nothing_any_more(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, attached: bool, while_away: bool
):
    """QEMU by SIGKILL: while libvirtd is away nobody runs a hook for it, and nobody says so afterwards."""
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("work", hostdevs=[] if attached else [NVME]))
        await host.hypervisor.start("work")
        if attached:
            await host.hypervisor.attach("work", NVME)
        await one.settle()
        assert one.plan.owners[NVME].who == "work"
        if while_away:
            host.hypervisor.stop_libvirtd()
        await host.hypervisor.power_off("work")
        if while_away:
            await one.settle()
            await trio.sleep(100)
            await host.hypervisor.start_libvirtd()
        await one.settle()
        await trio.sleep(60)
        assert not one.journal.ledger.claims
        assert not one.journal.ledger.devices
        assert one.plan.owners[NVME].kind == "host"
        assert state(host) == before
        await host.hypervisor.define(domain("next", hostdevs=[NVME]))
        await host.hypervisor.start("next")
        await one.settle()
        assert one.plan.owners[NVME].who == "next"


async def test_killed_while_both_are_away(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("work", hostdevs=[NVME]))
        await host.hypervisor.start("work")
        await one.settle()
    host.hypervisor.stop_libvirtd()
    await host.hypervisor.power_off("work")
    async with stable(host, tmp_path / "journal") as one:
        # Prepared, and nobody says that it does not run: it is asked who has the card open.
        await one.settle()
        assert one.journal.ledger.claims
        await host.hypervisor.start_libvirtd()
        await one.settle()
        await trio.sleep(60)
        assert not one.journal.ledger.claims
        assert state(host) == before
