"""Huge pages through the whole loop, on the simulated host: before the start, while it runs, after, and killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.daemon.mortal import at_every_line, does, life
from tests.unit.daemon.stable import GPU, Stable, simulated, stable

from hostler.errors import HostFailed
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.hugepages import COMPACT, DROP_CACHES
from hostlerd.model.settings import DomainPolicy, HugepagesPolicy, Settings

pytestmark = pytest.mark.trio

MIB = 2048
"""KiB of a page of 2 MiB."""
GIB = 1 << 20
DESKTOP, NODE0, NODE1 = "node0 2048kB", "node0 2048kB", "node1 2048kB"


def nr(node: int = 0, size: int = MIB) -> str:
    return f"/sys/devices/system/node/node{node}/hugepages/hugepages-{size}kB/nr_hugepages"


def pools(host: SimulatedHost) -> dict[str, tuple[int, int, int]]:
    """Total, free and surplus, as the kernel has them; pools without a page are left out."""
    return {name: (p["total"], p["free"], p["surplus"]) for name, p in host.show()["hugepages"].items()}


def policy(**more: Any) -> Settings:
    return Settings(domains=DomainPolicy(cpus="off", hugepages=HugepagesPolicy(**more)))


async def define(host: SimulatedHost, name: str = "win11", mib: int = 1024, **more: Any) -> None:
    await host.hypervisor.define(
        domain(name, cores=1, threads=1, managed=False, memory_mib=mib, **({"hugepages": [0]} | more))
    )


async def start(host: SimulatedHost, one: Stable, name: str = "win11") -> None:
    await host.hypervisor.start(name)
    await one.settle()


async def stop(host: SimulatedHost, one: Stable, name: str = "win11") -> None:
    await host.hypervisor.destroy(name)
    await one.settle()


async def refused(host: SimulatedHost, one: Stable, name: str = "win11") -> str:
    with pytest.raises(HostFailed) as caught:
        await host.hypervisor.start(name)
    await one.settle()
    assert not one.journal.ledger.hugepages
    return str(caught.value.message)


async def test_what_is_missing_is_added_and_taken_away(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await define(host, hostdevs=[GPU])
        await start(host, one)
        assert pools(host) == {DESKTOP: (512, 0, 0)}
        [record] = one.journal.ledger.hugepages.values()
        assert (record.added, record.node, record.name) == (512, 0, "win11")
        await stop(host, one)
        assert pools(host) == {}
        assert not one.journal.ledger.hugepages


async def test_only_what_is_missing(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    host.kernel.write(nr(), "300")
    async with stable(host, tmp_path / "journal") as one:
        await define(host)
        await start(host, one)
        assert pools(host) == {DESKTOP: (512, 0, 0)}
        await stop(host, one)
        assert pools(host) == {DESKTOP: (300, 300, 0)}
        host.kernel.write(nr(), "512")
        writes = len(host.kernel.log)
        await start(host, one)
        await stop(host, one)
        assert pools(host) == {DESKTOP: (512, 512, 0)}
        assert nr() not in [path for path, _ in host.kernel.log[writes:]]


async def test_pages_of_1_gib_in_portions(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await define(host, mib=3000, hugepages=[GIB])
        await start(host, one)
        assert pools(host) == {"node0 1048576kB": (3, 0, 0)}
        assert [text.strip() for path, text in host.kernel.log if path == nr(0, GIB)] == ["1", "2", "3"]
        await stop(host, one)
        assert pools(host) == {}
        await define(host, "large", mib=20 * 1024, hugepages=[GIB])
        said = await refused(host, one, "large")
        assert "needs 20 pages of 1 GiB (20 GiB) on node 0, and 16 of 20 can be had" in said
        assert "hugepagesz=1G" in said
        assert pools(host) == {}


async def test_more_than_there_is_memory_is_not_even_tried(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await define(host, mib=40 * 1024)
        said = await refused(host, one)
        assert "all memory there would be no more than 16384 pages of 2 MiB (32 GiB)" in said
        assert not host.kernel.log


async def test_off(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal", policy(mode="off")) as one:
        await define(host)
        assert "unable to map backing store" in await refused(host, one)
        assert pools(host) == {}


@pytest.mark.parametrize(
    ("fault", "allowed", "room"),
    [
        ("fragmented", {"compact": True}, [COMPACT]),
        ("cached", {"drop_caches": True}, [DROP_CACHES]),
        ("fragmented", {"compact": True, "drop_caches": True}, [DROP_CACHES, COMPACT]),
    ],
)
async def test_room_is_made_once_where_policy_lets_it(
    tmp_path: Path,
    fault: str,
    allowed: dict[str, bool],
    room: list[str],
    autojump_clock: trio.testing.MockClock,
):
    host = simulated()
    host.kernel.faults.cause(fault, "0", "100")
    async with stable(host, tmp_path / "journal", policy(**allowed)) as one:
        await define(host)
        await start(host, one)
        assert pools(host) == {DESKTOP: (512, 0, 0)}
        assert [path for path, _ in host.kernel.log if path.startswith("/proc")] == room
        assert ("hugepages", nr(), "the kernel gave 100 of 512 pages for win11") in one.told
        await stop(host, one)
        assert pools(host) == {}


@pytest.mark.parametrize("allowed", [{}, {"compact": True, "drop_caches": True}])
async def test_refused_with_how_many_of_how_many(
    tmp_path: Path, allowed: dict[str, bool], autojump_clock: trio.testing.MockClock
):
    host = simulated()
    host.kernel.write(nr(), "7")
    host.kernel.faults.cause("crowded", "0", "100")
    before = host.show()["devices"]
    async with stable(host, tmp_path / "journal", policy(**allowed)) as one:
        await define(host, hostdevs=[GPU])
        said = await refused(host, one)
        assert "win11 needs 512 pages of 2 MiB (1 GiB) on node 0, and 107 of 512 can be had" in said
        assert ("drop_caches = true" in said) == (not allowed)
        assert pools(host) == {DESKTOP: (7, 7, 0)}
        assert host.show()["devices"] == before
        room = [path for path, _ in host.kernel.log if path.startswith("/proc")]
        assert room == ([DROP_CACHES, COMPACT] if allowed else [])
        host.kernel.faults.lift("crowded", "0")
        await start(host, one)
        assert pools(host) == {DESKTOP: (512, 0, 0)}


async def test_two_domains_and_somebody_else(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    """Each takes away what was added for it, whatever else happened to the pool."""
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        for name, mib in (("a", 256), ("b", 512)):
            await define(host, name, mib)
            await start(host, one, name)
        assert pools(host) == {DESKTOP: (384, 0, 0)}
        host.kernel.write(nr(), "394")  # virsh allocpages --add 10
        await stop(host, one, "a")
        assert pools(host) == {DESKTOP: (266, 10, 0)}
        await start(host, one, "a")
        assert pools(host) == {DESKTOP: (384, 0, 0)}  # 118 more: 10 were there
        await stop(host, one, "b")
        await stop(host, one, "a")
        assert pools(host) == {DESKTOP: (10, 10, 0)}


async def test_both_at_once(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await define(host, "a", 256)
        await define(host, "b", 512)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.hypervisor.start, "a")
            nursery.start_soon(host.hypervisor.start, "b")
        await one.settle()
        assert pools(host) == {DESKTOP: (384, 0, 0)}
        assert {r.name: r.added for r in one.journal.ledger.hugepages.values()} == {"a": 128, "b": 256}
        await stop(host, one, "a")
        await stop(host, one, "b")
        assert pools(host) == {}


async def test_pages_that_somebody_uses_go_when_they_are_let_go_of(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await define(host)
        await start(host, one)
        win11 = host.hypervisor.domains["win11"]
        win11.pages = [[0, MIB, 400]]  # the other 112 another program has by the time that the daemon looks
        await stop(host, one)
        assert pools(host) == {DESKTOP: (112, 0, 112)}
        assert not one.journal.ledger.hugepages
        host.kernel.hugepages.let_go([[0, MIB, 112]])
        assert pools(host) == {}


async def test_what_was_taken_out_by_hand_is_not_taken_twice(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    host.kernel.write(nr(), "1000")
    async with stable(host, tmp_path / "journal") as one:
        await define(host, mib=2400)
        await start(host, one)
        assert pools(host) == {DESKTOP: (1200, 0, 0)}
        host.kernel.write(nr(), "600")
        assert pools(host) == {DESKTOP: (1200, 0, 600)}
        await stop(host, one)
        assert pools(host) == {DESKTOP: (600, 600, 0)}


async def test_too_slow_is_too_few(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    """Of what was there in time none is left behind, and nothing is degraded."""
    host = simulated()
    host.kernel.faults.cause("slow-pages", "0", "0.1")
    async with stable(host, tmp_path / "journal", policy(compact=True)) as one:
        await define(host)
        began = trio.current_time()
        assert "and 160 of 512 can be had" in await refused(host, one)
        assert trio.current_time() - began < 20
        assert pools(host) == {}
        assert not one.journal.ledger.troubles
        host.kernel.faults.cause("slow-pages", "0", "0.02")
        await start(host, one)
        assert pools(host) == {DESKTOP: (512, 0, 0)}


async def test_a_failed_start_gives_all_back(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    host.kernel.faults.cause("start-fails", "win11")
    async with stable(host, tmp_path / "journal") as one:
        await define(host)
        await refused(host, one)
        assert pools(host) == {}


async def test_a_restart_between(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    async with stable(host, tmp_path / "journal") as one:
        await define(host)
        await start(host, one)
    async with stable(host, tmp_path / "journal") as one:
        assert pools(host) == {DESKTOP: (512, 0, 0)}
        await stop(host, one)
        assert pools(host) == {}
    async with stable(host, tmp_path / "journal") as one:
        assert not one.journal.ledger.hugepages


async def test_a_write_that_does_not_return(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated()
    host.kernel.faults.cause("slow-write", nr(), "3600")
    async with stable(host, tmp_path / "journal") as one:
        await define(host)
        began = trio.current_time()
        with pytest.raises(HostFailed):
            await host.hypervisor.start("win11")
        assert trio.current_time() - began < 14
        await one.settle()
        assert nr() in one.journal.ledger.troubles
        with pytest.raises(HostFailed, match="has not returned"):
            await host.hypervisor.start("win11")
        await one.settle()
        host.kernel.lift("slow-write", nr())
        await one.settle()
        assert not one.journal.ledger.troubles
        assert not one.journal.ledger.hugepages
        await start(host, one)
        assert pools(host) == {DESKTOP: (512, 0, 0)}


# --- two nodes


async def test_bound_to_a_node(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("server")
    host.kernel.write(nr(0), "1000")
    async with stable(host, tmp_path / "journal") as one:
        await define(host, nodes="1")
        await start(host, one)
        assert pools(host) == {NODE0: (1000, 1000, 0), NODE1: (512, 0, 0)}
        await stop(host, one)
        assert pools(host) == {NODE0: (1000, 1000, 0)}


async def test_bound_to_two_the_rest_comes_from_the_other(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    host = simulated("server")
    host.kernel.faults.cause("crowded", "0", "100")
    async with stable(host, tmp_path / "journal") as one:
        await define(host, nodes="0-1")
        await start(host, one)
        assert pools(host) == {NODE0: (100, 0, 0), NODE1: (412, 0, 0)}
        await stop(host, one)
        assert pools(host) == {}


async def test_cells_with_pages_of_their_own(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("server")
    async with stable(host, tmp_path / "journal") as one:
        xml = domain(
            "win11",
            cores=2,
            threads=1,
            memory_mib=4096,
            managed=False,
            cells=["0", "1"],
            hugepages=[MIB, GIB],
        ).replace(
            "<os>",
            "<numatune><memnode cellid='0' mode='strict' nodeset='1'/>"
            "<memnode cellid='1' mode='strict' nodeset='0'/></numatune><os>",
        )
        await host.hypervisor.define(xml)
        await start(host, one)
        assert pools(host) == {NODE1: (1024, 0, 0), "node0 1048576kB": (2, 0, 0)}
        await stop(host, one)
        assert pools(host) == {}


async def test_bound_to_none_it_is_where_its_cpus_are(tmp_path: Path, autojump_clock: trio.testing.MockClock):
    host = simulated("server")
    async with stable(host, tmp_path / "journal") as one:
        await define(host, hostdevs=["0000:c0:02.0"])
        await start(host, one)
        assert pools(host) == {NODE1: (512, 0, 0)}
        await stop(host, one)
        await define(host, "floats", mib=1022)
        await start(host, one, "floats")
        assert pools(host) == {NODE0: (256, 0, 0), NODE1: (255, 0, 0)}
        await stop(host, one, "floats")
        assert pools(host) == {}


@pytest.mark.parametrize(
    ("action", "case"), [("start", "whole"), ("start", "short"), ("start", "room"), ("destroy", "whole")]
)
async def test_killed_at_any_line(
    memory_path: Path, action: str, case: str, autojump_clock: trio.testing.MockClock
):
    """The sum is right at every line, and in the end the pool is as it was."""
    settings = policy(compact=True) if case == "room" else policy()

    async def once(line: int) -> bool:
        host = simulated()
        host.kernel.write(nr(), "50")
        if case != "whole":
            host.kernel.faults.cause("crowded" if case == "short" else "fragmented", "0", "100")
        path = memory_path / f"journal-{line}"
        await define(host)
        await define(host, "other", 40)
        async with stable(host, path, settings) as one:
            await start(host, one, "other")
            if action == "destroy":
                await start(host, one)
        died = await life(host, path, line, does(host, action), settings)
        async with stable(host, path, settings) as one:
            await trio.sleep(40)
            await one.settle()
            if "win11" in [running.name for running in await host.hypervisor.running()]:
                assert pools(host) == {DESKTOP: (532, 0, 0)}
                await stop(host, one)
            assert pools(host) == {DESKTOP: (50, 30, 0)}
            await stop(host, one, "other")
            assert pools(host) == {DESKTOP: (50, 50, 0)}
            assert not one.journal.ledger.hugepages
            assert not one.journal.ledger.troubles
        return died

    await at_every_line(once, more_than=4, below=60)
