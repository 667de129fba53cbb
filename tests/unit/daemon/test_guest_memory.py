"""Where the memory of running domains is, through the whole loop on the simulated host with two nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import Stable, simulated, stable

from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.tree import WouldHang
from hostlerd.model.guest_memory import Placed
from hostlerd.model.plan import Placement
from hostlerd.model.settings import DevicePolicy, DomainPolicy, Match, Settings
from hostlerd.reconcile.guest_memory import LOOKS

pytestmark = pytest.mark.trio

DEDICATED = Settings(domains=DomainPolicy(cpus="dedicated"))
GIB = 1 << 20
NODE_0, NODE_1 = (
    frozenset(range(16)) | frozenset(range(32, 48)),
    frozenset(range(16, 32)) | frozenset(range(48, 64)),
)


class Reads:
    """How often numa_maps was read."""

    def __init__(self, host: SimulatedHost) -> None:
        self.count, self.hangs = 0, False
        self._original = host.kernel.tree.lines_with
        host.kernel.tree.lines_with = self  # type: ignore[method-assign, assignment]

    def __call__(self, path: str, words: tuple[str, ...]) -> list[str]:
        if path.endswith("/numa_maps"):
            self.count += 1
            if self.hangs:
                raise WouldHang
        return self._original(path, words)


def bound(text: str, node: int, *, pins: str = "") -> str:
    tune = f"<numatune><memory mode='strict' nodeset='{node}'/></numatune>"
    return text.replace("<os>", f"{tune}{pins}<os>")


def card(host: SimulatedHost, node: int) -> str:
    return next(f.address for f in host.spec.functions if f.class_code >> 16 == 3 and f.numa_node == node)


def placement(one: Stable, host: SimulatedHost, name: str = "win11") -> Placement:
    uuid = host.hypervisor.domains[name].uuid
    return next(placement for placement in one.plan.placements if placement.uuid == uuid)


def memory(one: Stable) -> list[Placed]:
    return list(one.passes[-1][0].guest_memory.values())


async def test_vfio_memory_is_looked_at_once_and_counts(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("server")
    reads = Reads(host)
    address = card(host, 0)
    device = DevicePolicy(name="card", match=Match(vendor=0x10DE), when_idle="vfio")
    async with stable(host, tmp_path / "journal", Settings(devices=(device,))) as one:
        # Its card is at node 0, its memory is not, and cannot follow.
        await host.hypervisor.define(bound(domain("win11", hostdevs=[address], memory_mib=8192), 1))
        await host.hypervisor.start("win11")
        await one.settle()
        assert placement(one, host).taken <= NODE_1
        (placed,) = memory(one)
        assert placed.nodes == {1}
        assert placed.total >= 8 * GIB
        assert reads.count == 1
        await trio.sleep(2 * LOOKS[-1])
        await host.hypervisor.define(domain("other"))
        await host.hypervisor.start("other")
        await trio.sleep(2 * LOOKS[-1])
        uuid = host.hypervisor.domains["other"].uuid
        others = reads.count - 1
        assert others == len(LOOKS)  # it has no VFIO device, so it may move: a few looks, and no more
        assert uuid in one.passes[-1][0].guest_memory
        await host.hypervisor.destroy("win11")
        await one.settle()
        assert len(memory(one)) == 1
        assert one.plan.cautions == ()


async def test_vcpus_that_are_far_from_memory_are_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("server")
    pins = "<cputune>" + "".join(f"<vcpupin vcpu='{i}' cpuset='{i}'/>" for i in range(4)) + "</cputune>"
    async with stable(host, tmp_path / "journal", DEDICATED) as one:
        await host.hypervisor.define(bound(domain("win11"), 1, pins=pins))
        await host.hypervisor.start("win11")
        await one.settle()
        (caution,) = one.plan.cautions
        assert caution.object == "win11"
        assert caution.reason == (
            "99 % of win11's memory (4.0 GiB) is on node 1, and its vCPUs are on node 0"
        )
        assert "`virsh numatune win11 --nodeset 0 --live`" in caution.remedy
        assert one.plan.converged  # a word, and nothing is done
        domain_ = host.hypervisor.domains["win11"]
        domain_.memory = [[0, 4 * GIB]]
        host.hypervisor._hostdevs.show_process(domain_)
        await trio.sleep(LOOKS[-1] + 1)
        assert one.plan.cautions == ()


async def test_one_that_starts_where_its_memory_will_be(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """What is bound is known before there is a process."""
    host = simulated("server")
    async with stable(host, tmp_path / "journal", DEDICATED) as one:
        await host.hypervisor.define(bound(domain("win11"), 1))
        await host.hypervisor.start("win11")
        await one.settle()
        assert placement(one, host).taken <= NODE_1
        assert not [text for kind, _, text in one.told if kind == "pin" and "0-" in text and "vcpu" in text]


async def test_a_guest_that_hangs_is_left_and_nobody_waits(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = simulated("server")
    reads = Reads(host)
    reads.hangs = True
    async with stable(host, tmp_path / "journal", DEDICATED) as one:
        await host.hypervisor.define(domain("win11"))
        await host.hypervisor.define(domain("work"))
        await host.hypervisor.start("win11")
        await one.settle()
        assert placement(one, host).vcpus
        before = trio.current_time()
        await host.hypervisor.start("work")
        await one.settle()
        assert placement(one, host, "work").vcpus
        assert trio.current_time() == before
        await trio.sleep(1000)
        assert reads.count == 2
        assert not any(placed.kib for placed in memory(one))


async def test_on_one_node_nothing_is_read(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    host = simulated("desktop")
    reads = Reads(host)
    async with stable(host, tmp_path / "journal", DEDICATED) as one:
        await host.hypervisor.define(domain("win11"))
        await host.hypervisor.start("win11")
        await trio.sleep(1000)
        assert reads.count == 0
        assert memory(one) == []
