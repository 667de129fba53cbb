"""Whatever comes and goes in whatever order, killed or not: pools end with what others put into them, and no more."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.daemon.mortal import life
from tests.unit.daemon.stable import simulated, stable
from tests.unit.daemon.test_hugepages import MIB, nr, policy

from hostler.errors import HostFailed
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost

DOMAINS = {"a": (256, "0"), "b": (512, "1"), "c": (128, "0-1"), "d": (300, "")}
"""MiB, and the nodes that it is bound to."""
POLICY = policy(compact=True)


class World:
    """The host, and what others have done to its pools, by node."""

    def __init__(self) -> None:
        self.host: SimulatedHost = simulated("server")
        self.put = [0, 0]
        self.used = [0, 0]

    def lasting(self, node: int) -> int:
        pool = self._pool(node)
        return pool["total"] - pool["surplus"]

    def _pool(self, node: int) -> dict[str, int]:
        nothing = {"total": 0, "free": 0, "surplus": 0}
        return self.host.kernel.hugepages.shown().get(f"node{node} {MIB}kB", nothing)

    def add(self, node: int, pages: int) -> None:
        """By hand, as virsh allocpages does."""
        before = self.lasting(node)
        self.host.kernel.write(nr(node), str(before + pages))
        self.put[node] += self.lasting(node) - before

    def use(self, node: int, pages: int) -> None:
        """Another program takes what is free."""
        taken = min(pages, self._pool(node)["free"])
        pool = self._pool(node)
        if taken:
            self.host.kernel.hugepages._put(node, MIB, pool["total"], pool["free"] - taken, pool["surplus"])
            self.used[node] += taken

    def let_go(self, node: int) -> None:
        self.host.kernel.hugepages.let_go([[node, MIB, self.used[node]]])
        self.used[node] = 0

    async def act(self, action: str, name: str, number: int) -> None:
        node, hypervisor, faults = number % 2, self.host.hypervisor, self.host.kernel.faults
        with contextlib.suppress(HostFailed):
            match action:
                case "start":
                    await hypervisor.start(name)
                case "fail":
                    faults.cause("start-fails", name)
                    await hypervisor.start(name)
                case "stop":
                    await hypervisor.destroy(name)
                case "add":
                    self.add(node, number)
                case "use":
                    self.use(node, number)
                case "let go":
                    self.let_go(node)
                case _:
                    faults.cause(action, str(node), str(number))
        faults.lift("start-fails", name)


async def live(actions: list[tuple[str, str, int, int]], path: Path) -> None:
    world = World()
    for name, (mib, nodes) in DOMAINS.items():
        await world.host.hypervisor.define(
            domain(name, cores=1, threads=1, managed=False, memory_mib=mib, hugepages=[0], nodes=nodes)
        )
    for action, name, number, line in actions:
        # A life for each, and some end in the middle of it.
        await life(world.host, path, line, lambda: world.act(action, name, number), POLICY)  # noqa: B023
        await settled(world, path)
    for name in DOMAINS:
        with contextlib.suppress(HostFailed):
            await world.host.hypervisor.destroy(name)
    await settled(world, path, ends=True)
    for node in (0, 1):
        world.let_go(node)
        assert world.lasting(node) == world.put[node], f"node {node}"
        assert world._pool(node)["total"] == world.put[node], f"node {node}"


async def settled(world: World, path: Path, *, ends: bool = False) -> None:
    async with stable(world.host, path, POLICY) as one:
        await one.settle()
        ledger = one.journal.ledger
        assert not ledger.troubles
        running = {running.name for running in await world.host.hypervisor.running()}
        assert {record.name for record in ledger.hugepages.values()} <= running
        for node in (0, 1):
            ours = sum(record.added for record in ledger.hugepages.values() if record.node == node)
            assert world.lasting(node) == world.put[node] + ours, f"node {node}"
        assert not (ends and ledger.hugepages)


ACTIONS = ["start", "start", "start", "stop", "stop", "fail", "add", "use", "let go", "crowded", "fragmented"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ACTIONS),
            st.sampled_from(sorted(DOMAINS)),
            st.integers(0, 300),
            st.one_of(st.just(-1), st.integers(1, 12)),
        ),
        max_size=10,
    )
)
def test_pages_come_and_go(actions: list[tuple[str, str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trio.run(live, actions, Path(folder) / "journal", clock=trio.testing.MockClock(autojump_threshold=0))
