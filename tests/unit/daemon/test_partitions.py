"""Partitions of domains' CPUs on the simulated kernel, by its release: made, invalid, mended, killed, undone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio.testing
from tests.unit.daemon.mortal import at_every_line, does, life
from tests.unit.daemon.stable import GPU, Stable, simulated, stable

from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list
from hostlerd.model.settings import DomainPolicy, Settings
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio

ROOT = "/sys/fs/cgroup"
MACHINES = f"{ROOT}/machine.slice"
KEPT = re.compile(r"cpuset\.cpus\.(partition|exclusive)$")
OLD, NEW, NEWEST = (6, 1), (6, 12), (7, 0)
BY_RELEASE = pytest.mark.parametrize("release", [OLD, (6, 7), NEW, NEWEST])


def wants(kind: str = "isolated", **more: object) -> Settings:
    return Settings(domains=DomainPolicy(isolation={"slices": True, "partition": kind}, **more))  # type: ignore[arg-type]


def machine(release: tuple[int, int] = OLD, name: str = "desktop") -> SimulatedHost:
    host = simulated(name)
    host.kernel.pci.release = host.kernel.quiet.release = release
    host.kernel.tree.put("/proc/sys/kernel/osrelease", f"{release[0]}.{release[1]}.0-sim\n")
    host.kernel.quiet.boot()
    return host


def read(host: SimulatedHost, path: str) -> str:
    return host.kernel.tree.read(path).strip()


def scope(host: SimulatedHost, name: str = "win11") -> str:
    names = host.kernel.tree.listdir(MACHINES)
    return next(f"{MACHINES}/{n}" for n in names if n.endswith(f"x2d{name}.scope"))


def group(host: SimulatedHost, release: tuple[int, int], name: str = "win11") -> str:
    return MACHINES if release == OLD else scope(host, name)


def files(host: SimulatedHost) -> dict[str, str]:
    return {path: text for path, text in host.kernel.tree.flat(ROOT).items() if KEPT.search(path)}


def clean(host: SimulatedHost) -> bool:
    """No control group is a partition, or has CPUs that are nobody else's."""
    return all(text.strip() in ("", "member") for text in files(host).values())


async def run(one: Stable, host: SimulatedHost, name: str = "win11", **more: object) -> CpuSet:
    """It runs: the CPUs that are its own, its emulator's among them."""
    more = {"hostdevs": [GPU], "cores": 1, "threads": 2} | more
    await host.hypervisor.define(domain(name, **more))  # type: ignore[arg-type]
    await host.hypervisor.start(name)
    await one.settle()
    return next((p.taken for p in one.plan.placements if p.taken), frozenset())


def reasons(one: Stable) -> list[str]:
    return [refusal.reason for refusal in one.plan.refusals]


@BY_RELEASE
@pytest.mark.parametrize("kind", ["root", "isolated"])
async def test_made_when_all_is_pinned_and_undone(
    tmp_path: Path, release: tuple[int, int], kind: str, autojump_clock: trio.testing.MockClock
):
    host = machine(release)
    async with stable(host, tmp_path / "journal", wants(kind)) as one:
        mine = await run(one, host)
        here = group(host, release)
        assert len(mine) == 4  # its emulator has a core of its own
        assert read(host, f"{here}/cpuset.cpus.partition") == kind
        assert parse_cpu_list(read(host, f"{here}/cpuset.cpus.effective")) == mine
        assert parse_cpu_list(read(host, f"{ROOT}/cpuset.cpus.effective")) == host.kernel.cpus - mine
        if release != OLD:
            for path in (MACHINES, here):
                assert parse_cpu_list(read(host, f"{path}/cpuset.cpus.exclusive")) == mine
        for name, thread in host.kernel.threads.of.popitem()[1].items():
            assert thread.allowed <= mine, name
        assert not reasons(one)
        assert [(p.kind, p.names) for p in one.plan.made] == [(kind, ("win11",))]
        writes = len(host.kernel.log)
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert len(host.kernel.log) == writes
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert clean(host)
        assert not one.journal.ledger.attributes
        assert parse_cpu_list(read(host, f"{MACHINES}/cpuset.cpus.effective")) == host.kernel.cpus


async def test_realtime_is_an_isolated_partition(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = machine(NEW)
    async with stable(host, tmp_path / "journal", Settings(domains=DomainPolicy(profile="realtime"))) as one:
        await run(one, host)
        assert read(host, f"{scope(host)}/cpuset.cpus.partition") == "isolated"


async def test_a_profile_of_all_says_nothing_of_who_shares_cpus(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine(NEW)
    async with stable(host, tmp_path / "journal", Settings(domains=DomainPolicy(profile="realtime"))) as one:
        await run(one, host, "floats", hostdevs=[])
        assert not reasons(one)
        assert clean(host)


@pytest.mark.parametrize("release", [OLD, NEW])
async def test_a_reload_of_systemd_leaves_it(
    tmp_path: Path, release: tuple[int, int], autojump_clock: trio.testing.MockClock
):
    host = machine(release)
    async with stable(host, tmp_path / "journal", wants()) as one:
        await run(one, host)
        host.units.daemon_reload()
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert read(host, f"{group(host, release)}/cpuset.cpus.partition") == "isolated"
        assert not reasons(one)


async def test_a_systemd_that_knows_partitions_is_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine(OLD)
    host.units.partitions = {}
    async with stable(host, tmp_path / "journal", wants()) as one:
        await run(one, host)
        assert host.units.partitions == {"machine.slice": "isolated"}
        host.units.daemon_reload()
        assert read(host, f"{MACHINES}/cpuset.cpus.partition") == "isolated"
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert host.units.partitions == {"machine.slice": "member"}
        assert clean(host)


async def test_a_mask_that_makes_it_invalid_is_put_right_and_it_is_made_anew(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine(OLD)
    async with stable(host, tmp_path / "journal", wants()) as one:
        await run(one, host)
        host.units.set_by_hand("system.slice", host.kernel.cpus)
        await one.settle()
        assert read(host, f"{MACHINES}/cpuset.cpus.partition") == "isolated"
        assert not reasons(one)


async def test_one_that_stays_invalid_is_told_in_the_kernels_words_and_not_tried_for_ever(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine(OLD)
    async with stable(host, tmp_path / "journal", wants()) as one:
        host.kernel.cgroups.make("/docker")
        await host.units.set_allowed_cpus("system.slice", frozenset(range(16)))
        host.kernel.cgroups.ask("/docker", frozenset(range(16)))
        await run(one, host)
        assert read(host, f"{MACHINES}/cpuset.cpus.partition").startswith("isolated invalid")
        (why,) = reasons(one)
        assert "Cpu list in cpuset.cpus not exclusive" in why
        assert not one.journal.ledger.troubles
        writes = len(host.kernel.log)
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert len(host.kernel.log) == writes
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert clean(host)
        assert not one.journal.ledger.attributes


@pytest.mark.parametrize("release", [OLD, NEW])
async def test_cpus_that_go_and_come_back(
    tmp_path: Path, release: tuple[int, int], autojump_clock: trio.testing.MockClock
):
    host = machine(release)
    async with stable(host, tmp_path / "journal", wants()) as one:
        mine = await run(one, host)
        for cpu in sorted(mine):
            host.kernel.switch_cpu(cpu, online=False)
        await one.settle()
        for cpu in sorted(mine):
            host.kernel.switch_cpu(cpu, online=True)
        await one.settle()
        assert read(host, f"{group(host, release)}/cpuset.cpus.partition") == "isolated"
        assert not reasons(one)


async def test_before_6_7_all_of_machine_slice_or_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine(OLD)
    async with stable(host, tmp_path / "journal", wants()) as one:
        await run(one, host)
        assert read(host, f"{MACHINES}/cpuset.cpus.partition") == "isolated"
        await run(one, host, "floats", hostdevs=[])
        assert read(host, f"{MACHINES}/cpuset.cpus.partition") == "member"
        assert parse_cpu_list(read(host, f"{MACHINES}/cpuset.cpus.effective")) == host.kernel.cpus
        (floats, win11) = sorted(reasons(one))
        assert floats.startswith("floats gets no partition: it has no CPUs of its own")
        assert "only all of machine.slice can be one, and floats cannot be in it" in win11
        await host.hypervisor.destroy("floats")
        await one.settle()
        assert read(host, f"{MACHINES}/cpuset.cpus.partition") == "isolated"


async def test_from_6_7_on_each_domain_has_its_own(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = machine(NEW)
    settings = Settings(
        domains=DomainPolicy(isolation={"partition": "isolated"}),
        overrides={
            "a": DomainPolicy(cpus="dedicated", isolation={"partition": "root"}),
            "floats": DomainPolicy(profile="none"),
        },
    )
    async with stable(host, tmp_path / "journal", settings) as one:
        await run(one, host)
        await run(one, host, "a", hostdevs=[])
        await run(one, host, "floats", hostdevs=[])
        assert not reasons(one)
        kinds = {n: read(host, f"{scope(host, n)}/cpuset.cpus.partition") for n in ("win11", "a", "floats")}
        assert kinds == {"win11": "isolated", "a": "root", "floats": "member"}
        both = parse_cpu_list(read(host, f"{MACHINES}/cpuset.cpus.exclusive"))
        assert len(both) == 8
        free = parse_cpu_list(read(host, f"{scope(host, 'floats')}/cpuset.cpus.effective"))
        assert free == host.kernel.cpus - both
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert len(parse_cpu_list(read(host, f"{MACHINES}/cpuset.cpus.exclusive"))) == 4
        assert read(host, f"{scope(host, 'a')}/cpuset.cpus.partition") == "root"
        await host.hypervisor.destroy("a")
        await one.settle()
        assert clean(host)


async def test_before_6_7_a_container_in_machine_slice_is_in_the_way(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine(OLD)
    host.units.start("libpod-1.scope", "/machine.slice/libpod-1.scope")
    async with stable(host, tmp_path / "journal", wants()) as one:
        await run(one, host)
        (why,) = reasons(one)
        assert "libpod-1.scope cannot be in it" in why
        assert clean(host)
        host.units.stop("libpod-1.scope")
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert read(host, f"{MACHINES}/cpuset.cpus.partition") == "isolated"


async def test_a_list_that_another_group_has_alone_is_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine(NEW)
    async with stable(host, tmp_path / "journal", wants()) as one:
        await host.units.set_allowed_cpus("system.slice", host.kernel.cpus)
        host.kernel.cgroups.make("/lab")
        host.kernel.write(f"{ROOT}/lab/cpuset.cpus.exclusive", "1-15")
        await run(one, host)
        (why,) = reasons(one)
        assert "another control group has them in cpuset.cpus.exclusive" in why
        assert not one.journal.ledger.troubles
        host.kernel.write(f"{ROOT}/lab/cpuset.cpus.exclusive", "\n")
        host.units.set_by_hand("user.slice", frozenset({0}))  # masks are others
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert read(host, f"{scope(host)}/cpuset.cpus.partition") == "isolated"
        assert not reasons(one)


async def test_nothing_is_given_up_while_libvirt_is_away(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    for release in (OLD, NEW):
        host = machine(release)
        async with stable(host, tmp_path / f"journal-{release[1]}", wants()) as one:
            await run(one, host)
            before = files(host)
            await host.simulate("stop-libvirtd", {})
            one.reconciler.look_at_host.kick()
            await one.settle()
            assert files(host) == before
            await host.simulate("start-libvirtd", {})
            await one.settle()
            assert files(host) == before


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"pins": {0: "2-3", 1: "2-3"}}, "its vCPUs are not pinned one to one"),
        ({"emulator": "0-1"}, "every thread needs a CPU inside"),
    ],
)
async def test_refused_with_the_reason_while_the_domain_runs(
    tmp_path: Path, more: dict[str, object], why: str, autojump_clock: trio.testing.MockClock
):
    host = machine(NEW)
    xml = domain("win11", hostdevs=[GPU], cores=1, threads=2)
    pins = "".join(f"<vcpupin vcpu='{v}' cpuset='{c}'/>" for v, c in more.get("pins", {}).items())  # type: ignore[attr-defined]
    pins += f"<emulatorpin cpuset='{more['emulator']}'/>" if "emulator" in more else ""
    xml = xml.replace("</domain>", f"<cputune>{pins}</cputune></domain>")
    async with stable(host, tmp_path / "journal", wants()) as one:
        await host.hypervisor.define(xml)
        await host.hypervisor.start("win11")
        await one.settle()
        (reason,) = reasons(one)
        assert why in reason
        assert clean(host)
        assert [d.name for d in await host.hypervisor.running()] == ["win11"]


async def test_a_group_that_is_no_unit_is_named_with_what_to_do(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = machine(NEW)
    host.kernel.cgroups.make("/lxc.payload.web")
    host.kernel.tree.put(f"{ROOT}/lxc.payload.web/cgroup.events", "populated 1\nfrozen 0\n")
    async with stable(host, tmp_path / "journal", Settings()) as one:
        mine = await run(one, host)
        (note,) = [note for note in one.plan.tuned.notes if "lxc" in note]
        assert f"may use CPUs {format_cpu_list(mine)}" in note
        assert "lxc.cgroup2.cpuset.cpus" in note
    async with stable(host, tmp_path / "journal", wants()) as one:
        assert not [note for note in one.plan.tuned.notes if "lxc" in note]  # a partition takes them from it


@pytest.mark.parametrize("release", [OLD, NEW])
@pytest.mark.parametrize("action", ["start", "destroy"])
async def test_killed_at_any_line(
    memory_path: Path, release: tuple[int, int], action: str, autojump_clock: trio.testing.MockClock
):
    settings = Settings(
        domains=DomainPolicy(profile="none", isolation={"slices": True, "partition": "isolated"})
    )

    async def once(line: int) -> bool:
        host = machine(release)
        path = memory_path / f"journal-{line}"
        await host.hypervisor.define(domain("win11", hostdevs=[GPU], cores=1, threads=2))
        if action == "destroy":
            async with stable(host, path, settings) as one:
                await host.hypervisor.start("win11")
                await one.settle()
                assert read(host, f"{group(host, release)}/cpuset.cpus.partition") == "isolated"
        died = await life(host, path, line, does(host, action), settings)
        async with stable(host, path, settings) as one:
            await one.settle()
            if await host.hypervisor.running():
                assert read(host, f"{group(host, release)}/cpuset.cpus.partition") == "isolated"
                await host.hypervisor.destroy("win11")
                await one.settle()
            assert clean(host)
            assert not one.journal.ledger.attributes
            assert host.kernel.cgroups.effective("/system.slice") == host.kernel.cpus
        return died

    await at_every_line(once, more_than=20, below=250)


async def test_a_restart_keeps_it(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    for release in (OLD, NEW):
        host = machine(release)
        path = tmp_path / f"journal-{release[1]}"
        async with stable(host, path, wants()) as one:
            await run(one, host)
        before, writes = files(host), len(host.kernel.log)
        async with stable(host, path, wants()) as one:
            await one.settle()
            assert files(host) == before
            assert not [path for path, _ in host.kernel.log[writes:] if path.startswith(ROOT)]


@pytest.mark.parametrize("release", [OLD, NEW])
async def test_the_plan_of_a_domain_lists_the_files(
    tmp_path: Path, release: tuple[int, int], autojump_clock: trio.testing.MockClock
):
    host = machine(release)
    async with stable(host, tmp_path / "journal", wants()) as one:
        definition = parse_domain(domain("win11", hostdevs=[GPU], cores=1, threads=2))
        plan = await one.reconciler.what_if(definition)
        (step,) = [step for step in plan.steps if step.kind == "partition"]
        assert (step.before, step.after) == ("member", "isolated")
        lists = [s for s in plan.steps if s.object.endswith("/cpuset.cpus.exclusive")]
        assert len(lists) == (0 if release == OLD else 2)
        plan = await one.reconciler.what_if(parse_domain(domain("floats")))
        assert "floats gets no partition: it has no CPUs of its own" in [r.reason for r in plan.refusals]
