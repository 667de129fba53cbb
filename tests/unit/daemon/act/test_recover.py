"""What a restart makes of what had begun."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from hostlerd.act.journal import Journal
from hostlerd.act.recover import PATIENCE, recover
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.ledger import Claim, Trouble
from hostlerd.model.plan import Unbind
from hostlerd.observe.domain_xml import parse_domain

pytestmark = pytest.mark.trio

GPU = "0000:01:00.0"
STEP = Unbind(object=GPU, before="amdgpu", after=None, why="")
WRITER = "/proc/4711/cmdline"


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost("desktop", parse=parse_domain)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "journal"), "boot", parse_domain)


async def test_a_step_whose_writer_is_gone_has_ended(host: SimulatedHost, journal: Journal):
    journal.begin(STEP, writer=4711)
    await recover(host, journal)
    assert not journal.ledger.outstanding
    assert not journal.ledger.troubles


async def test_a_trouble_ends_with_the_write_that_made_it(host: SimulatedHost, journal: Journal):
    """The daemon was away when the write returned."""
    journal.begin(STEP, writer=4711)
    trouble = Trouble(object=GPU, reason="hangs", remedy="", since=1.0, wedged=True)
    other = Trouble(
        object="0000:05:00.0", reason="hangs by somebody else's", remedy="", since=1.0, wedged=True
    )
    journal.trouble(trouble)
    journal.trouble(other)
    await recover(host, journal)
    assert set(journal.ledger.troubles) == {"0000:05:00.0"}
    assert not journal.ledger.outstanding


async def test_a_trouble_stays_while_another_write_is_outstanding(
    host: SimulatedHost, journal: Journal, autojump_clock: trio.testing.MockClock
):
    journal.begin(STEP, writer=4711)
    journal.begin(STEP, writer=4712)
    host.kernel.tree.put("/proc/4712/cmdline", "python3\0writing.py\0")
    journal.trouble(Trouble(object=GPU, reason="hangs", remedy="", since=1.0, wedged=True))
    await recover(host, journal)
    assert set(journal.ledger.troubles) == {GPU}
    assert [step.writer for step in journal.ledger.outstanding.values()] == [4712]


async def test_a_trouble_that_no_write_made_stays(host: SimulatedHost, journal: Journal):
    journal.begin(STEP, writer=4711)
    journal.trouble(Trouble(object=GPU, reason="broken", remedy="", since=1.0))
    await recover(host, journal)
    assert set(journal.ledger.troubles) == {GPU}


async def test_another_process_with_the_writers_number_is_no_writer(host: SimulatedHost, journal: Journal):
    journal.begin(STEP, writer=4711)
    host.kernel.tree.put(WRITER, "/usr/bin/bash\0")
    await recover(host, journal)
    assert not journal.ledger.outstanding


async def test_a_writer_that_hangs_degrades_its_object(
    host: SimulatedHost, journal: Journal, autojump_clock: trio.testing.MockClock
):
    journal.begin(STEP, writer=4711)
    host.kernel.tree.put(WRITER, "python3\0-I\0-S\0/usr/lib/hostlerd/host/writing.py\0")
    began = trio.current_time()
    await recover(host, journal)
    assert trio.current_time() - began == pytest.approx(PATIENCE)
    assert journal.ledger.troubles[GPU].wedged
    assert journal.ledger.untouchable(GPU)


async def test_a_writer_gets_a_moment_to_end(
    host: SimulatedHost, journal: Journal, autojump_clock: trio.testing.MockClock
):
    journal.begin(STEP, writer=4711)
    host.kernel.tree.put(WRITER, "python3\0writing.py\0")

    async def ends() -> None:
        await trio.sleep(1)
        host.kernel.tree.discard(WRITER)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends)
        await recover(host, journal)
    assert not journal.ledger.troubles


@pytest.mark.parametrize("prepared", [True, False])
async def test_only_a_claim_that_was_answered_survives(host: SimulatedHost, journal: Journal, prepared: bool):
    xml = domain("win11", hostdevs=[GPU]).replace(
        "<memory", "<uuid>11111111-1111-1111-1111-111111111111</uuid><memory"
    )
    journal.claim(Claim(definition=parse_domain(xml), since=1, prepared=prepared, xml=xml))
    await recover(host, journal)
    assert bool(journal.ledger.claims) is prepared
