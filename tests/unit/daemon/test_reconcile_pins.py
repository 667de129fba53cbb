"""Pins of running domains on the simulated host: kept so, as domains, vCPUs, CPUs, wishes and users come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import GPU, Stable, simulated, stable

from hostlerd.host.simulated import hosts
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.domains import Definition
from hostlerd.model.settings import DomainPolicy, Settings
from hostlerd.observe.domain_xml import parse_domain
from hostlerd.observe.threads import affinities
from hostlerd.reconcile.pressure import HOLD

pytestmark = pytest.mark.trio


async def live(host: SimulatedHost, name: str) -> Definition:
    return next(d.live for d in await host.hypervisor.running() if d.name == name)


async def on(host: SimulatedHost, name: str) -> dict[int, CpuSet]:
    """The pins of the vCPUs it has, which the kernel agrees with."""
    found = await live(host, name)
    pins = {i: found.vcpu_pins[i] for i in found.present if i in found.vcpu_pins}
    real = affinities(host.files, name)
    assert {i: real["vcpu", i] for i in pins} == pins
    return pins


def writes(host: SimulatedHost) -> list[str]:
    return [what for what, _ in host.kernel.log if "pin" in what]


@asynccontextmanager
async def running(
    host: SimulatedHost, path: Path, *names: str, settings: Settings | None = None, **more: int
) -> AsyncIterator[Stable]:
    """win11 has the card; every other name is a domain without one."""
    async with stable(host, path / "journal", settings) as one:
        for name in names:
            devices = [GPU] if name == "win11" else []
            await host.hypervisor.define(domain(name, hostdevs=devices, iothreads=1, **more))
            await host.hypervisor.start(name)
        await one.settle()
        yield one


def one_each(pins: dict[int, CpuSet], count: int) -> bool:
    return len(pins) == count == len(frozenset().union(*pins.values()))


async def test_wishes_in_the_metadata_are_heeded_when_they_change(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    async with running(host, tmp_path, "win11") as one:
        assert (await live(host, "win11")).emulator_pins == one.plan.housekeeping
        await host.hypervisor.set_wishes("win11", "emulator='1' smt='isolated'")
        await one.settle()
        found = await live(host, "win11")
        assert found.emulator_pins
        assert len(found.emulator_pins) == 1
        assert found.emulator_pins <= one.plan.dedicated
        assert found.iothread_pins == {1: found.emulator_pins}
        assert found.problems
        await host.hypervisor.set_wishes("win11", "cpus='off'")
        await one.settle()
        assert not one.plan.dedicated
        assert not one.plan.notes
        await host.hypervisor.set_wishes("win11", "cpus='dedicated'")
        await one.settle()
        assert one_each(await on(host, "win11"), 4)
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert not one.journal.ledger.pins


async def test_by_hand_wins_until_the_domain_stops_and_over_a_restart(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    async with running(host, tmp_path, "win11") as one:
        before = await on(host, "win11")
        hand = max(cpu for cpu in range(16) if frozenset({cpu}) not in before.values())
        await host.hypervisor.pin_by_hand("win11", "vcpupin", 0, frozenset({hand}))
        await host.hypervisor.pin_by_hand("win11", "iothreadpin", 1, frozenset({hand}))
        await one.settle()
        [notes] = one.plan.notes.values()
        assert "vCPU 0 to" in notes[0]
    async with stable(host, tmp_path / "journal") as one:
        assert (await on(host, "win11"))[0] == {hand}
        assert (await live(host, "win11")).iothread_pins == {1: {hand}}
        assert list(one.plan.notes.values()) == [notes]
        # Somebody else comes: not to that CPU.
        await host.hypervisor.define(domain("work", cores=1))
        one.reconciler.apply(Settings(domains=DomainPolicy(cpus="dedicated")))
        await host.hypervisor.start("work")
        await one.settle()
        assert one_each(await on(host, "work"), 2)
        assert frozenset({hand}) not in (await on(host, "work")).values()
        assert (await on(host, "win11"))[0] == {hand}
        await host.hypervisor.destroy("win11")
        await host.hypervisor.start("win11")
        await one.settle()
        assert one_each(await on(host, "win11"), 4)
        assert not one.plan.notes
        assert one.plan.converged


async def test_nothing_is_written_twice(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    host = simulated()
    async with running(host, tmp_path, "win11", "work") as one:
        seen = writes(host)
        assert len(seen) == len(set(seen))
        for latch in (one.reconciler.look_at_host, one.reconciler.look_at_domains):
            latch.kick()
        await one.settle()
        assert writes(host) == seen
        assert all(" " not in text for r in one.journal.ledger.pins.values() for text in r.vcpus.values())


async def test_vcpus_that_are_plugged_in_and_out(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        text = domain("win11", hostdevs=[GPU]).replace("<vcpu>4</vcpu>", "<vcpu current='2'>4</vcpu>")
        await host.hypervisor.define(text)
        await host.hypervisor.start("win11")
        await one.settle()
        before = await on(host, "win11")
        assert one_each(before, 2)
        for count in (4, 2, 4):
            await host.hypervisor.set_vcpus("win11", count)
            await one.settle()
            pins = await on(host, "win11")
            assert one_each(pins, count)
            assert before.items() <= pins.items()
            assert one.plan.dedicated == frozenset().union(*pins.values())
            assert not one.plan.notes
            assert one.plan.converged


async def test_a_cpu_goes_off_line_and_comes_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    async with running(host, tmp_path, "win11") as one:
        before = await on(host, "win11")
        [lost] = before[0]
        host.kernel.switch_cpu(lost, online=False)
        await one.settle()
        after = await on(host, "win11")
        assert one_each(after, 4)
        assert lost not in frozenset().union(*after.values())
        assert one.plan.converged
        host.kernel.switch_cpu(lost, online=True)
        await one.settle()
        assert one_each(await on(host, "win11"), 4)
        assert one.plan.converged


@pytest.mark.parametrize("release", ["6.1.0-sim", "6.12.0-sim"])
@pytest.mark.parametrize("cpusets", [True, False])
async def test_a_pin_that_the_kernel_forgets_is_set_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, release: str, cpusets: bool
) -> None:
    """The masks of machine.slice change below a domain that has no cpusets of its own."""
    host = SimulatedHost(replace(hosts.DESKTOP, release=release), parse=parse_domain, limit=60.0)
    if not cpusets:
        host.kernel.faults.cause("no-cpusets", "win11")
    async with running(host, tmp_path, "win11") as one:
        pins = await on(host, "win11")
        one.told.clear()
        host.units.set_by_hand("machine.slice", frozenset(range(15)))
        forgotten = affinities(host.files, "win11")["vcpu", 0]
        assert (forgotten == pins[0]) == (cpusets or release.startswith("6.12"))
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert await on(host, "win11") == pins
        told = [text for kind, name, text in one.told if kind == "pin" and "vcpu" in name]
        assert bool(told) == (forgotten != pins[0])
        assert all("before 6.2" in text for text in told)
        assert one.plan.converged


async def test_a_pin_without_effect_is_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = simulated()
    host.kernel.faults.cause("no-cpusets", "win11")
    monkeypatch.setattr(host.kernel.threads, "pin", lambda *_: None)
    async with running(host, tmp_path, "win11") as one:
        failed = [text for kind, _, text in one.told if kind == "failed"]
        assert any("after being pinned" in text for text in failed)
        seen = len(writes(host))
        await one.settle()
        assert len(writes(host)) == seen


async def test_who_starves_is_lent_what_nobody_uses_and_gives_it_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    async with running(host, tmp_path, "win11", "work") as one:
        floats = (await on(host, "work"))[0]
        mine = frozenset().union(*(await on(host, "win11")).values())
        assert not floats & mine
        host.kernel.starve()
        await one.settle()
        assert (await on(host, "work"))[0] == floats
        await host.hypervisor.suspend("win11")
        await one.settle()
        assert (await on(host, "work"))[0] == floats | mine
        assert one.plan.lent == mine
        await host.hypervisor.resume("win11")
        await one.settle()
        assert (await on(host, "work"))[0] == floats
        await host.hypervisor.suspend("win11")
        await one.settle()
        assert (await on(host, "work"))[0] == floats | mine
        await trio.sleep(HOLD + 1)
        await one.settle()
        assert (await on(host, "work"))[0] == floats
        assert not one.plan.lent


async def test_pressure_means_nothing_where_nobody_shares(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    async with running(host, tmp_path, "win11") as one:
        await trio.sleep(60)  # its interrupts are looked for a few times
        passes = len(one.passes)
        host.kernel.starve()
        await trio.sleep(10 * HOLD)
        assert len(one.passes) == passes


async def test_pinned_once_and_never_moved(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    host = simulated()
    still = Settings(domains=DomainPolicy(cpus="dedicated", rebalance=False))
    async with running(host, tmp_path, "a", "b", "win11", settings=still, cores=1) as one:
        before = {name: await on(host, name) for name in ("a", "b", "win11")}
        await host.hypervisor.destroy("a")
        await host.hypervisor.define(domain("big", cores=4))
        await host.hypervisor.start("big")
        await one.settle()
        assert one_each(await on(host, "big"), 8)
        assert {name: await on(host, name) for name in ("b", "win11")} == {
            name: before[name] for name in ("b", "win11")
        }
