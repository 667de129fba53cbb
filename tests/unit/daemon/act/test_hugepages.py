"""Changing a pool: in portions, fewer without an error, the kernel's no in words."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio.testing

from hostler.errors import HostFailed, Wedged
from hostlerd.act import hugepages
from hostlerd.act.journal import Journal
from hostlerd.act.perform import is_gone, perform
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.hugepages import COMPACT, DROP_CACHES
from hostlerd.model.ledger import HugepagesRecord
from hostlerd.model.plan import MakeRoom, SetHugepages
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio

GIB = 1 << 20


def path(size: int = 2048) -> str:
    return f"/sys/devices/system/node/node0/hugepages/hugepages-{size}kB/nr_hugepages"


def change(before: int, target: int, size: int = 2048) -> SetHugepages:
    record = HugepagesRecord(
        uuid="u", name="win11", path=path(size), node=0, page_kib=size, before=before, target=target
    )
    return SetHugepages(object=path(size), before=str(before), after=str(target), why="", record=record)


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost("desktop", parse=parse_domain)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "journal"), "boot", parse_domain)


def written(host: SimulatedHost) -> list[int]:
    return [int(text) for where, text in host.kernel.log if where == path()]


async def test_in_portions_of_a_gib_and_back_at_once(host: SimulatedHost, journal: Journal):
    await perform(host, journal, change(0, 1200))
    assert written(host) == [512, 1024, 1200]
    assert [record.target for record in journal.ledger.hugepages.values()] == [1200]
    await perform(host, journal, change(1200, 0))
    assert written(host) == [512, 1024, 1200, 0]
    assert host.files.read(path()) == "0\n"


async def test_fewer_pages_are_no_error_and_nothing_more_is_asked_for(host: SimulatedHost, journal: Journal):
    host.kernel.faults.cause("crowded", "0", "700")
    await perform(host, journal, change(0, 2000))
    assert written(host) == [512, 1024]
    assert host.files.read(path()) == "700\n"
    assert not journal.ledger.outstanding


async def test_surplus_pages_do_not_count(host: SimulatedHost, journal: Journal):
    host.kernel.write(path(), "10")
    host.kernel.hugepages._put(0, 2048, 10, 0, 0)
    host.kernel.write(path(), "4")
    assert host.show()["hugepages"] == {"node0 2048kB": {"total": 10, "free": 0, "surplus": 6}}
    await perform(host, journal, change(4, 15))
    assert host.show()["hugepages"] == {"node0 2048kB": {"total": 15, "free": 5, "surplus": 0}}


async def test_no_longer_than_the_limit(
    host: SimulatedHost, journal: Journal, autojump_clock: trio.testing.MockClock
):
    host.kernel.faults.cause("slow-pages", "0", "0.01")
    began = trio.current_time()
    await perform(host, journal, change(0, 10_000))
    assert trio.current_time() - began < hugepages.LIMIT + 0.1
    assert int(host.files.read(path())) == pytest.approx(800, abs=5)
    assert not journal.ledger.outstanding


async def test_a_write_that_stays_in_the_kernel_is_left_there(
    host: SimulatedHost, journal: Journal, autojump_clock: trio.testing.MockClock
):
    host.kernel.faults.cause("slow-write", path(), "60")
    with pytest.raises(Wedged):
        await perform(host, journal, change(0, 2000))
    assert journal.ledger.outstanding
    host.kernel.faults.cause("slow-write", COMPACT, "60")
    with pytest.raises(Wedged):
        await perform(host, journal, MakeRoom(object=COMPACT, before=None, after="1", why=""))


@pytest.mark.parametrize(("error", "remedy"), [("EINVAL", "hugepagesz=1G"), ("EPERM", "")])
async def test_what_the_kernel_says(host: SimulatedHost, journal: Journal, error: str, remedy: str):
    host.kernel.faults.cause("write-fails", path(GIB), error)
    with pytest.raises(HostFailed, match="changes nothing about pages of 1 GiB on node 0") as caught:
        await perform(host, journal, change(0, 2, GIB))
    assert remedy in caught.value.remedy
    assert not journal.ledger.outstanding


async def test_room(host: SimulatedHost, journal: Journal):
    for file, value in ((DROP_CACHES, "3"), (COMPACT, "1")):
        await perform(host, journal, MakeRoom(object=file, before=None, after=value, why=""))
        assert host.kernel.log[-1] == (file, f"{value}\n")
        host.kernel.faults.cause("write-fails", file, "EACCES")
        with pytest.raises(HostFailed, match="cannot be written: Permission denied"):
            await perform(host, journal, MakeRoom(object=file, before=None, after=value, why=""))


async def test_a_node_may_go(host: SimulatedHost):
    assert not is_gone(host, change(0, 1))
    host.kernel.tree.discard("/sys/devices/system/node/node0")
    assert is_gone(host, change(0, 1))
