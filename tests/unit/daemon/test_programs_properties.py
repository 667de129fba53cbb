"""Whatever domains and programs come and go, in whatever order, over restarts: no CPU has two owners, nobody who has
some loses them to a newcomer, the host is off exactly the owned ones, and in the end all is as it was.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.daemon.stable import Stable, simulated, stable
from tests.unit.daemon.test_programs import ALL, ends, host_has, program, runs_on

from hostler.errors import HostFailed, Refused
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.programs import Program
from hostlerd.model.settings import DomainPolicy, Settings

DOMAINS = {"small": 1, "large": 3}
SETTINGS = Settings(domains=DomainPolicy(cpus="dedicated"))

acts = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 9)),
    st.tuples(st.just("ask for one L3"), st.integers(1, 9)),
    st.tuples(st.just("ask for cores"), st.integers(1, 4)),
    st.tuples(st.just("close"), st.integers(0, 3)),
    st.tuples(st.just("end"), st.integers(0, 3)),
    st.tuples(st.just("start"), st.integers(0, 1)),
    st.tuples(st.just("stop"), st.integers(0, 1)),
    st.tuples(st.just("restart"), st.just(0)),
)


class History:
    def __init__(self, host: SimulatedHost) -> None:
        self.host = host
        self.descriptors: dict[str, int] = {}
        self.alive: list[Program] = []
        """Processes that asked and have not ended, those whose claim is over included."""

    async def act(self, one: Stable, what: str, number: int) -> None:
        match what:
            case "close":
                for ident in list(self.descriptors)[number : number + 1]:
                    os.close(self.descriptors.pop(ident))
            case "end":
                for asked in self.alive[number : number + 1]:
                    self.alive.remove(asked)
                    await ends(self.host, asked)
            case "start" | "stop":
                with contextlib.suppress(HostFailed):
                    name = sorted(DOMAINS)[number]
                    await (self.host.hypervisor.start if what == "start" else self.host.hypervisor.destroy)(
                        name
                    )
            case _:
                await self.ask(one, what, number)

    async def ask(self, one: Stable, what: str, number: int) -> None:
        before = {p.uuid: p.taken for p in one.plan.placements}
        game = program(
            number, same_l3=what == "ask for one L3", smt="isolate" if what == "ask for cores" else "pair"
        )
        with contextlib.suppress(Refused):
            given, self.descriptors[game.id] = await one.reconciler.isolate(game)
            self.alive.append(game)
            assert len(given.own) == number
            if what == "ask for one L3":
                assert any(given.own <= cache.cpus for cache in one.passes[-1][0].topology.l3)
            if what == "ask for cores":
                assert len(given.taken) == 2 * number
        await one.settle()
        after = {p.uuid: p.taken for p in one.plan.placements}
        assert before.keys() <= after.keys()
        assert all(bool(after[owner]) for owner, cpus in before.items() if cpus)

    def check(self, one: Stable) -> None:
        owned = [p.taken for p in one.plan.placements]
        union = frozenset[int]().union(*owned)
        assert sum(map(len, owned)) == len(union)
        assert len(ALL - union) >= 2
        assert host_has(self.host) == ALL - union
        assert not one.plan.steps
        assert not one.journal.ledger.troubles
        programs = one.journal.ledger.programs
        for asked in self.alive:
            known = programs.get(asked.id)
            assert runs_on(self.host, asked) == (known.own if known else ALL)


async def live(history: list[tuple[str, int]], path: Path) -> None:
    host = simulated()
    done = History(host)
    for name, cores in DOMAINS.items():
        await host.hypervisor.define(domain(name, cores=cores))
    left = [*history, ("restart", 0)]
    while left:
        async with stable(host, path, SETTINGS) as one:
            done.check(one)
            while left and left[0][0] != "restart":
                await done.act(one, *left.pop(0))
                await one.settle()
                done.check(one)
            left = left[1:]
        for kicks in (
            host.kernel.kicks,
            host.hypervisor.kicks,
            host.kernel.thread_kicks,
            host.units.program_kicks,
        ):
            kicks.clear()
    async with stable(host, path, SETTINGS) as one:
        for asked in done.alive:
            await ends(host, asked)
        for name in DOMAINS:
            with contextlib.suppress(HostFailed):
                await host.hypervisor.destroy(name)
        await one.settle()
        assert host_has(host) == ALL
        assert not one.plan.placements
        assert not one.journal.ledger.programs
        assert not one.journal.ledger.groups
    for descriptor in done.descriptors.values():
        os.close(descriptor)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(acts, max_size=10))
def test_nobody_shares_and_nobody_loses(history: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trio.run(live, history, Path(folder) / "journal", clock=trio.testing.MockClock(autojump_threshold=0))
