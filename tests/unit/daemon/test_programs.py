"""Programs with CPUs of their own on the simulated host, with real descriptors: asked for, had, ended, killed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.unit.daemon.mortal import at_every_line, make_mortal
from tests.unit.daemon.stable import GPU, Killed, Stable, simulated, stable

from hostler.errors import HostFailed, HostlerError, Refused
from hostlerd.decide.explained import Explained, owners
from hostlerd.decide.living import living
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.cpuset import CpuSet, parse_cpu_list
from hostlerd.model.isolation import HOST_UNITS
from hostlerd.model.programs import Program
from hostlerd.model.settings import ClaimsPolicy, DomainPolicy, Settings
from hostlerd.report.plan import status_json

pytestmark = pytest.mark.trio

ALL = frozenset(range(16))
_numbers = count(1)


def program(cpus: int = 4, *, uid: int = 0, **more: object) -> Program:
    number = next(_numbers)
    return Program(  # type: ignore[arg-type]
        id=f"id{number}", name=f"game{number}", uid=uid, pid=700_000 + number, start=99, count=cpus, **more
    )


def host_has(host: SimulatedHost) -> CpuSet:
    """The CPUs of the host's own units, which agree."""
    masks = {host.kernel.cgroups.effective(f"/{unit}") for unit in HOST_UNITS}
    assert len(masks) == 1
    return masks.pop()


def runs_on(host: SimulatedHost, one: Program) -> CpuSet:
    """Where the process that asked may run, by its own control group."""
    cgroup = host.files.read(f"/proc/{one.pid}/cgroup").strip().removeprefix("0::")
    return host.kernel.cgroups.effective(cgroup)


async def ends(host: SimulatedHost, one: Program) -> None:
    await host.simulate("let-go", {"pid": one.pid})


@asynccontextmanager
async def running(
    tmp_path: Path, settings: Settings | None = None
) -> AsyncIterator[tuple[SimulatedHost, Stable]]:
    host = simulated()
    async with stable(host, tmp_path / "journal", settings) as one:
        yield host, one


async def test_it_has_cpus_that_the_host_leaves_and_gives_them_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as (host, one):
        game = program(4)
        given, descriptor = await one.reconciler.isolate(game)
        assert len(given.own) == 4
        assert runs_on(host, game) == given.own
        assert host_has(host) == ALL - given.own
        assert host.kernel.cgroups.effective("/hostler.slice") == ALL
        await one.settle()
        assert one.plan.isolated == given.own
        assert not one.plan.steps
        os.close(descriptor)
        await one.settle()
        # Its process lives on, and may run anywhere.
        assert host_has(host) == runs_on(host, game) == ALL
        assert not one.journal.ledger.programs
        assert not one.journal.ledger.groups
        await ends(host, game)
        await one.settle()
        assert not one.plan.steps
        assert [text for kind, _, text in one.told if kind == "claim"][-1] == "has let go of its CPUs"


async def test_it_ends_with_the_last_copy_of_its_descriptor(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as (host, one):
        given, descriptor = await one.reconciler.isolate(program(2))
        copy = os.dup(descriptor)
        os.write(copy, b"whatever")
        os.close(descriptor)
        await one.settle()
        assert host_has(host) == ALL - given.own
        os.close(copy)
        await one.settle()
        assert host_has(host) == ALL


async def test_it_ends_with_its_scope_though_somebody_keeps_the_descriptor(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as (host, one):
        game = program(2)
        _, descriptor = await one.reconciler.isolate(game)
        await ends(host, game)
        await one.settle()
        assert host_has(host) == ALL
        assert not one.journal.ledger.programs
        with pytest.raises(BrokenPipeError):  # nobody listens any more
            os.write(descriptor, b"x")
        os.close(descriptor)


async def test_two_programs_and_a_domain_share_no_cpu(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as (host, one):
        first, a = await one.reconciler.isolate(program(4, same_l3=True))
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        await one.settle()
        second, b = await one.reconciler.isolate(program(3))
        await one.settle()
        ours = [p.taken for p in one.plan.placements]
        assert len(ours) == 3
        assert sum(map(len, ours)) == len(frozenset().union(*ours)) == 4 + 4 + 4  # a sibling stays empty
        assert host_has(host) == ALL.difference(*ours)
        assert len(second.own) == 3
        assert len(parse_cpu_list(second.idle)) == 1
        await host.hypervisor.destroy("win11")
        os.close(a)
        await one.settle()
        assert host_has(host) == ALL - second.taken
        assert first.own <= host_has(host)
        os.close(b)
        await one.settle()
        assert host_has(host) == ALL


async def test_what_cannot_be_had_is_refused_and_nobody_loses_anything(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as (host, one):
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        await host.hypervisor.start("win11")
        given, descriptor = await one.reconciler.isolate(program(8))
        await one.settle()
        before = one.plan.placements, host_has(host)
        with pytest.raises(Refused) as refused:
            await one.reconciler.isolate(program(4))
        sentence = refused.value.sentence
        assert "2 can be had, as the host keeps 2" in sentence
        assert "win11 has" in sentence
        assert f"{given.name} has" in sentence
        await one.settle()
        assert (one.plan.placements, host_has(host)) == before
        assert not one.plan.refusals
        os.close(descriptor)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"same_l3": True}, "that share a level-3 cache"),
        ({"smt": "isolate"}, "on cores of their own"),
    ],
)
async def test_a_wish_is_met_or_refused(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, wish: dict[str, object], words: str
) -> None:
    async with running(tmp_path) as (host, one):
        with pytest.raises(Refused) as refused:
            await one.reconciler.isolate(program(10, **wish))
        assert words in refused.value.message
        assert host_has(host) == ALL


async def test_limits_are_of_users_and_not_of_root(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    settings = Settings(claims=ClaimsPolicy(users_at_most=4, at_most=6))
    async with running(tmp_path, settings) as (_, one):
        _, a = await one.reconciler.isolate(program(4, uid=1000))
        with pytest.raises(Refused, match="users_at_most = 4"):
            await one.reconciler.isolate(program(1, uid=1000))
        with pytest.raises(Refused, match=r"\[claims\] at_most = 6"):
            await one.reconciler.isolate(program(4, uid=1001))
        with pytest.raises(Refused, match='users_profile = "balanced"'):
            await one.reconciler.isolate(program(2, uid=1001, profile="latency"))
        _, b = await one.reconciler.isolate(program(2, uid=1001))
        _, c = await one.reconciler.isolate(program(6))
        for descriptor in (a, b, c):
            os.close(descriptor)
        await one.settle()
        _, a = await one.reconciler.isolate(program(4, uid=1000))
        os.close(a)


async def test_a_domain_that_may_not_be_moved_stays_and_one_that_may_makes_room(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    for rebalance, works in ((False, False), (True, True)):
        host = simulated()
        settings = Settings(domains=DomainPolicy(rebalance=rebalance))
        async with stable(host, tmp_path / f"journal-{rebalance}", settings) as one:
            # Six CPUs of each cache are a program's and a domain's: then the program ends.
            await host.hypervisor.define(domain("win11", hostdevs=[GPU], cores=2))
            await host.hypervisor.start("win11")
            await one.settle()
            win11 = one.plan.placements[0].taken
            try:
                given, descriptor = await one.reconciler.isolate(program(8, same_l3=True))
            except Refused:
                assert not works
                continue
            await one.settle()
            assert not given.own & one.plan.placements[0].taken
            assert works or one.plan.placements[0].taken == win11
            os.close(descriptor)


async def test_a_profile_of_none_keeps_domains_off_and_not_the_host(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as (host, one):
        given, descriptor = await one.reconciler.isolate(program(4, profile="none"))
        await one.settle()
        assert host_has(host) == ALL
        assert one.plan.dedicated == given.own
        os.close(descriptor)


async def test_a_scope_that_systemd_refuses_gives_all_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as (host, one):
        host.kernel.cause("unit-refuses", "hostler.slice", "Access denied")
        with pytest.raises(HostFailed, match="Access denied"):
            await one.reconciler.isolate(program(4))
        await one.settle()
        assert host_has(host) == ALL
        assert not one.journal.ledger.programs
        assert not one.journal.ledger.troubles


async def test_one_who_gives_up_waiting_has_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as (host, one):
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.reconciler.isolate(program(4))
        await one.settle()
        assert not one.journal.ledger.programs
        assert host_has(host) == ALL


async def test_a_cpu_that_goes_is_missed_and_comes_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as (host, one):
        game = program(4)
        given, descriptor = await one.reconciler.isolate(game)
        away = max(given.own)
        await host.simulate("offline", {"cpu": away})
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert runs_on(host, game) == given.own - {away}
        assert one.plan.dedicated == given.own - {away}
        await host.simulate("online", {"cpu": away})
        one.reconciler.look_at_host.kick()
        await one.settle()
        assert runs_on(host, game) == given.own
        assert host_has(host) == ALL - given.own
        os.close(descriptor)


async def test_a_restart_adopts_what_lives_and_releases_what_does_not(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated()
    one_program, other = program(4), program(2)
    async with stable(host, tmp_path / "journal") as one:
        given, a = await one.reconciler.isolate(one_program)
        _, b = await one.reconciler.isolate(other)
    os.close(a)  # nobody of the next life knows of it
    os.close(b)
    host.units.program_kicks.clear()
    await ends(host, other)
    async with stable(host, tmp_path / "journal") as one:
        assert host_has(host) == ALL - given.own
        assert runs_on(host, one_program) == given.own
        await ends(host, one_program)
        await one.settle()
        assert host_has(host) == ALL
        assert not one.journal.ledger.programs


async def _one_life(host: SimulatedHost, path: Path, line: int, game: Program) -> tuple[bool, int | None]:
    """The daemon dies at this line while a program asks: whether it did, and the descriptor it handed out."""
    handed: list[int] = []
    died = False

    async def asks(one: Stable, done: trio.Event) -> None:
        with suppress(HostlerError):
            try:
                handed.append((await one.reconciler.isolate(game))[1])
            except Killed:  # inside the request
                one._dead.set()
        done.set()

    try:
        async with stable(host, path) as one:
            make_mortal(one, line)
            done = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(asks, one, done)
                await done.wait()
            await one.settle()
            if handed:
                os.close(handed.pop())  # and dies on the way back
                await one.settle()
    except* Killed:
        died = True
    for kicks in (host.kernel.kicks, host.hypervisor.kicks, host.units.program_kicks):
        kicks.clear()
    return died, handed[0] if handed else None


async def test_killed_at_every_line_it_is_had_or_given_back(
    memory_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def once(line: int) -> bool:
        host, game, path = simulated(), program(4), memory_path / f"journal{line}"
        died, descriptor = await _one_life(host, path, line, game)
        if descriptor is not None:
            os.close(descriptor)
        async with stable(host, path) as one:
            entered = game.pid in host.kernel.processes.open
            kept = one.journal.ledger.programs
            if kept:
                assert entered
                assert host_has(host) == ALL - runs_on(host, game)
                assert len(runs_on(host, game)) == 4
            else:
                assert host_has(host) == ALL
                assert not entered or runs_on(host, game) == ALL
            if entered:
                await ends(host, game)
            await one.settle()
            assert host_has(host) == ALL
            assert not one.journal.ledger.programs
            assert not one.journal.ledger.groups
            assert not one.journal.ledger.outstanding
            assert not one.plan.steps
        return died

    await at_every_line(once, more_than=10, below=400)


async def test_readers_see_whose_cpus_they_are(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    settings = Settings(domains=DomainPolicy(cpus="dedicated"))
    async with running(tmp_path, settings) as (host, one):
        given, descriptor = await one.reconciler.isolate(program(3))
        await host.hypervisor.define(domain("large", cores=6))
        await host.hypervisor.start("large")  # it floats: there are ten left
        await one.settle()
        observed, plan = one.passes[-1]
        found = owners(observed, settings, plan)
        theirs = {(o.cpu, o.kind) for o in found if o.domain == given.name}
        assert theirs == {(cpu, "program") for cpu in given.own} | {
            (c, "idle") for c in given.taken - given.own
        }
        explanation = Explained(observed, settings, plan).of(plan.placements[0].uuid)
        assert explanation is not None
        assert explanation.mode == "floating"
        assert f"stopping `{given.name}` would" in explanation.why
        status = status_json(version="1", passes=1, observed=observed, plan=plan, devices=[])
        assert status["isolation"]["for"] == [given.name]
        [claim] = status["claims"]
        assert (claim["name"], claim["cpus"], claim["scope"]) == (given.name, sorted(given.own), given.scope)
        os.close(descriptor)


async def test_the_other_lane_keeps_off_though_it_has_not_seen_the_scope(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as (_, one):
        before, _ = one.passes[-1]
        given, descriptor = await one.reconciler.isolate(program(4))
        assert list(living(one.reconciler._shared.seen(before))) == [given]
        os.close(descriptor)
        await one.settle()
        assert not list(living(one.reconciler._shared.seen(before)))
