"""What is set for the quiet of a domain's CPUs, on the simulated kernel: before, during and after, killed anywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.unit.daemon.mortal import at_every_line, does, life
from tests.unit.daemon.stable import GPU, Stable, simulated, stable

from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.cpuset import format_cpu_list, parse_cpu_list, parse_cpu_mask
from hostlerd.model.settings import DevicePolicy, DomainPolicy, Match, Settings
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio

KEPT = re.compile(
    r"smp_affinity|workqueue/|/proc/sys/|scaling_governor|preference$|latency_us$|x3d_mode$|halt_poll_ns|ksm/run"
    r"|/proc/\d+/status$|rps_cpus"
)
EVERYTHING = Settings(
    domains=DomainPolicy(
        profile="latency",
        isolation={
            "x3d_mode": "cache",
            "halt_poll_ns": 0,
            "numa_balancing": 0,
            "split_lock_mitigate": 0,
            "ksm": 0,
        },
    )
)
RPS = "/sys/class/net/enp5s0/queues/rx-0/rps_cpus"


def files(host: SimulatedHost) -> dict[str, str]:
    flat = host.kernel.tree.flat("/proc", "/sys")
    return {path: text for path, text in flat.items() if KEPT.search(path) and "/fd/" not in path}


def machine(release: tuple[int, int] = (6, 1)) -> SimulatedHost:
    host = simulated()
    host.kernel.quiet.release = release
    host.kernel.tree.put(RPS, "ffff\n")
    if release >= (6, 8):
        host.kernel.quiet.boot()
    return host


async def run(one: Stable, host: SimulatedHost, **more: object) -> frozenset[int]:
    """win11 runs: the CPUs that are its own."""
    await host.hypervisor.define(domain("win11", hostdevs=[GPU], cores=3, threads=2, **more))  # type: ignore[arg-type]
    await host.hypervisor.start("win11")
    await one.settle()
    return one.plan.dedicated


@pytest.mark.parametrize("release", [(6, 1), (6, 12)])
async def test_every_setting_before_during_and_after(
    tmp_path: Path, release: tuple[int, int], autojump_clock: trio.testing.MockClock
):
    host = machine(release)
    before = files(host)
    async with stable(host, tmp_path / "journal", EVERYTHING) as one:
        mine = await run(one, host)
        house = host.kernel.cpus - mine
        read = host.kernel.tree.read
        assert len(mine) == 6
        for number in (1, 9, 24, 25, 26, 29):
            assert parse_cpu_list(read(f"/proc/irq/{number}/smp_affinity_list")) == house
        for number in (27, 28):
            assert read(f"/proc/irq/{number}/smp_affinity_list") == "0-15\n"
        masks = ("/proc/irq/default_smp_affinity", "/sys/devices/virtual/workqueue/cpumask",
                 "/sys/devices/virtual/workqueue/writeback/cpumask", RPS)  # fmt: skip
        assert {parse_cpu_mask(read(path)) for path in masks} == {house}
        assert parse_cpu_list(read("/proc/sys/kernel/watchdog_cpumask")) == house
        assert read("/proc/sys/vm/stat_interval") == "10\n"
        assert read("/proc/sys/kernel/timer_migration") == "0\n"
        assert read("/sys/module/kvm/parameters/halt_poll_ns") == "0\n"
        for cpu in host.kernel.cpus:
            policy = f"/sys/devices/system/cpu/cpufreq/policy{cpu}"
            ours = cpu in mine
            assert read(f"{policy}/scaling_governor") == ("performance\n" if ours else "powersave\n")
            preference = "performance\n" if ours else "balance_performance\n"
            assert read(f"{policy}/energy_performance_preference") == preference
            latency = read(f"/sys/devices/system/cpu/cpu{cpu}/power/pm_qos_resume_latency_us")
            assert latency == ("20\n" if ours else "0\n")
        assert f"Cpus_allowed_list:\t{format_cpu_list(house)}" in read("/proc/2/status")
        assert "Cpus_allowed_list:\t0\n" in read("/proc/16/status")
        assert one.plan.converged
        assert (one.plan.tuned.moved, one.plan.tuned.immovable) == (6, 2)
        assert not one.journal.ledger.troubles
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert files(host) == before
        assert not one.journal.ledger.attributes
        assert not one.journal.ledger.threads


@pytest.mark.parametrize(
    ("profile", "changed"), [("balanced", {"irq", "workqueue", "cpufreq"}), ("none", set())]
)
async def test_a_profile_names_what_is_set(
    tmp_path: Path, profile: str, changed: set[str], autojump_clock: trio.testing.MockClock
):
    host = machine()
    before = files(host)
    async with stable(host, tmp_path / "journal", Settings(domains=DomainPolicy(profile=profile))) as one:  # type: ignore[arg-type]
        assert await run(one, host)
        now = files(host)
        assert {re.findall("irq|workqueue|cpufreq|sys/kernel|vm|power|kvm", p)[0]
                for p in before if now[p] != before[p]} == changed  # fmt: skip


async def test_one_word_of_a_domain_is_stronger_than_its_profile(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine()
    quiet = DomainPolicy(isolation={"governor": "keep", "epp": "keep", "workqueues": False})
    async with stable(host, tmp_path / "journal", Settings(overrides={"win11": quiet})) as one:
        before = files(host)
        await run(one, host)
        now = files(host)
        assert now["/proc/irq/24/smp_affinity_list"] != before["/proc/irq/24/smp_affinity_list"]
        for path in before:
            if "workqueue" in path or "cpufreq" in path:
                assert now[path] == before[path]


async def test_a_guests_own_interrupts_are_found_late_and_kept_near(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("server")
    card = "0000:41:00.0"
    policy = DevicePolicy(name="card", match=Match(address=card), leave="unbind")
    async with stable(host, tmp_path / "journal", Settings(devices=(policy,))) as one:
        await host.hypervisor.define(domain("win11", hostdevs=[card], cores=4, threads=2))
        await host.hypervisor.start("win11")
        await one.settle()
        node = frozenset(cpu.id for cpu in one.passes[-1][0].topology.cpus if cpu.node == 0)
        mine = one.plan.dedicated
        assert mine <= node
        host.kernel.quiet.vectors(card, 3)
        await trio.sleep(4)
        await one.settle()
        entries = [e for e in host.kernel.tree.listdir("/proc/irq") if e.isdecimal() and int(e) > 29]
        assert len(entries) == 3
        for entry in entries:
            assert (
                parse_cpu_list(host.kernel.tree.read(f"/proc/irq/{entry}/smp_affinity_list")) == node - mine
            )
        # The guest restarts: the numbers are others' now.
        host.kernel.quiet.vectors(card, 0)
        host.kernel.quiet.request(30, "somebody else")
        host.kernel.quiet.vectors(card, 2)
        one.reconciler.domains_changed()
        await trio.sleep(31)
        await one.settle()
        for entry in (31, 32):
            assert (
                parse_cpu_list(host.kernel.tree.read(f"/proc/irq/{entry}/smp_affinity_list")) == node - mine
            )
        passes = len(one.passes)
        await trio.sleep(3600)
        assert len(one.passes) == passes  # nothing is looked for any more
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert not one.journal.ledger.attributes


async def test_a_plan_for_a_domain_lists_every_file_with_its_values(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine()
    async with stable(host, tmp_path / "journal", EVERYTHING) as one:
        before = files(host)
        definition = parse_domain(domain("win11", hostdevs=[GPU], cores=3, threads=2))
        plan = await one.reconciler.what_if(definition)
        values = {step.object: (step.before, step.after) for step in plan.steps}
        assert values["/proc/sys/vm/stat_interval"] == ("1", "10")
        assert values["/proc/irq/24/smp_affinity_list"][0] == "0-15"
        assert values["kthread 2 (kthreadd)"][0] == "0-15"
        assert files(host) == before
        await run(one, host)
        assert (
            host.kernel.tree.read("/proc/irq/24/smp_affinity_list").strip()
            == values["/proc/irq/24/smp_affinity_list"][1]
        )


async def test_what_somebody_else_set_meanwhile_stays(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = machine()
    async with stable(host, tmp_path / "journal", EVERYTHING) as one:
        await run(one, host)
        host.kernel.tree.put("/proc/sys/vm/stat_interval", "3\n")
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert host.kernel.tree.read("/proc/sys/vm/stat_interval") == "3\n"
        assert host.kernel.tree.read("/proc/sys/kernel/timer_migration") == "1\n"


IRQ = "/proc/irq/9/smp_affinity_list"


async def test_an_interrupt_that_was_on_just_the_hosts_cpus_goes_back_to_them(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """By an administrator's hand it may have been where ours begin while CPUs are isolated."""
    host = machine()
    async with stable(host, tmp_path / "journal", EVERYTHING) as one:
        house = host.kernel.cpus - await run(one, host)
        await host.hypervisor.destroy("win11")
        await one.settle()
        host.kernel.tree.put(IRQ, format_cpu_list(house) + "\n")
        await host.hypervisor.start("win11")
        await one.settle()
        # One that a driver requests meanwhile begins with the default that is ours.
        host.kernel.quiet.request(40, "a driver")
        one.reconciler.look_at_host.kick()
        await one.settle()
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert host.kernel.tree.read(IRQ) == format_cpu_list(house) + "\n"
        assert host.kernel.tree.read("/proc/irq/40/smp_affinity_list") == "0-15\n"


async def test_an_interrupt_for_which_there_is_no_vector_is_counted(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine()
    host.kernel.cause("write-fails", IRQ, "ENOSPC")
    async with stable(host, tmp_path / "journal", EVERYTHING) as one:
        await run(one, host)
        assert one.plan.tuned.immovable == 3
        assert not one.journal.ledger.troubles
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert not one.journal.ledger.troubles
        assert not one.journal.ledger.attributes


async def test_a_thread_that_was_moved_to_one_cpu_comes_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine()
    async with stable(host, tmp_path / "journal", EVERYTHING) as one:
        mine = await run(one, host)
        await host.hypervisor.destroy("win11")
        await one.settle()
        node = format_cpu_list(mine | {15})
        host.kernel.quiet.move(35, 7, mine | {15})
        before = host.kernel.tree.read("/proc/35/status")
        assert node in before
        await host.hypervisor.start("win11")
        await one.settle()
        assert "Cpus_allowed_list:\t15\n" in host.kernel.tree.read("/proc/35/status")
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert host.kernel.tree.read("/proc/35/status") == before


@pytest.mark.parametrize("when", ["there", "back"])
async def test_threads_that_the_kernel_keeps_elsewhere_are_left_there(
    tmp_path: Path, when: str, autojump_clock: trio.testing.MockClock
):
    """sched_setaffinity succeeds and gives less, or fails: neither is tried for ever, nor is anything degraded."""
    host = machine()
    async with stable(host, tmp_path / "journal", EVERYTHING) as one:
        if when == "there":
            host.kernel.cause("partitioned", "", "15")
        await run(one, host)
        if when == "back":
            host.kernel.cause("partitioned", "", "0-15")
        passes = len(one.passes)
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert len(one.passes) < passes + 10
        assert not one.journal.ledger.troubles
        assert not one.journal.ledger.threads


async def test_irqbalance_is_told_and_told_back(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = machine()
    tree, socket = host.kernel.tree, "/run/irqbalance/irqbalance812.sock"
    tree.put(socket, "")
    tree.put("/proc/812/comm", "irqbalance\n")
    host.kernel.tree.put("/proc/812/status", "Uid:\t0\t0\t0\t0\n")
    async with stable(host, tmp_path / "journal", Settings()) as one:
        mine = await run(one, host)
        told = [text for path, text in host.kernel.log if path == socket]
        assert told == [f"settings cpus {format_cpu_list(mine)}"]
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert [text for path, text in host.kernel.log if path == socket][1:] == ["settings cpus NULL"]
        assert not one.journal.ledger.balancers


async def test_an_irqbalance_that_does_not_listen_degrades_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine()
    host.kernel.tree.put("/run/irqbalance/irqbalance812.sock", "")
    host.kernel.tree.put("/proc/812/comm", "irqbalance\n")
    host.kernel.tree.put("/proc/812/status", "Uid:\t0\t0\t0\t0\n")
    host.kernel.cause("deaf", "/run/irqbalance/irqbalance812.sock", "")
    async with stable(host, tmp_path / "journal", Settings()) as one:
        await run(one, host)
        (note,) = one.plan.tuned.notes
        assert "could not be told to keep off" in note
        assert one.plan.converged
        assert not one.journal.ledger.troubles
        host.kernel.lift("deaf", "/run/irqbalance/irqbalance812.sock")
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert not one.journal.ledger.balancers


async def test_who_calls_itself_irqbalance_and_is_not_roots_is_not_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine()
    host.kernel.tree.put("/proc/812/comm", "irqbalance\n")
    host.kernel.tree.put("/proc/812/status", "Uid:\t1000\t1000\t1000\t1000\n")
    async with stable(host, tmp_path / "journal", Settings()) as one:
        await run(one, host)
        assert not one.plan.tuned.notes


async def test_an_irqbalance_that_cannot_be_told_is_named(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine()
    host.kernel.tree.put("/proc/812/comm", "irqbalance\n")
    host.kernel.tree.put("/proc/812/status", "Uid:\t0\t0\t0\t0\n")
    async with stable(host, tmp_path / "journal", Settings()) as one:
        await run(one, host)
        (note,) = one.plan.tuned.notes
        assert "irqbalance (process 812)" in note


@pytest.mark.parametrize("action", ["start", "destroy"])
async def test_killed_at_any_line(memory_path: Path, action: str, autojump_clock: trio.testing.MockClock):
    policy = replace(
        EVERYTHING.domains, isolation={**EVERYTHING.domains.isolation, "governor": "keep", "epp": "keep"}
    )
    settings = Settings(domains=policy)

    async def once(line: int) -> bool:
        host = machine((6, 12))
        for number in (1, 9, 24, 25, 26):
            host.kernel.quiet.free(number)
        before, path = files(host), memory_path / f"journal-{line}"
        await host.hypervisor.define(domain("win11", hostdevs=[GPU], cores=1, threads=2))
        if action == "destroy":
            async with stable(host, path, settings) as one:
                await host.hypervisor.start("win11")
                await one.settle()
        died = await life(host, path, line, does(host, action), settings, quiet=True)
        async with stable(host, path, settings) as one:
            await one.settle()
            if await host.hypervisor.running():
                assert host.kernel.tree.read("/proc/sys/vm/stat_interval") == "10\n"
                await host.hypervisor.destroy("win11")
                await one.settle()
            assert files(host) == before
        return died

    await at_every_line(once, more_than=60, below=250)
