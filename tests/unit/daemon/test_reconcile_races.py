"""What comes at a bad moment: a full disk, another start, another policy, a card that is pulled out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.daemon.stable import CARD, GPU, Stable, simulated, stable

from hostler.errors import HostFailed
from hostlerd.act.journal import Journal
from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost

pytestmark = pytest.mark.trio


def state(host: SimulatedHost) -> dict[str, Any]:
    """What must be as it was."""
    shown = host.show()
    return {"devices": shown["devices"], "slices": shown["slices"]}


def on_vfio(host: SimulatedHost) -> list[str]:
    return [address for address, device in host.show()["devices"].items() if device["on_vfio"]]


class FullJournal(Journal):
    """Has room for so many ends of steps more, and then for nothing until `full` is False."""

    full = True
    ends_left = 0

    def _append(self, line: dict[str, Any]) -> None:
        if self.full and ("end" in line or self.ends_left < 0):
            self.ends_left -= 1
            if self.ends_left < 0:
                raise HostFailed("the journal cannot be written", data={"object": self._path})
        super()._append(line)


def fill(one: Stable, ends_left: int) -> FullJournal:
    journal = FullJournal.__new__(FullJournal)
    journal.__dict__.update(one.journal.__dict__)
    journal.ends_left = ends_left
    one.journal = one.reconciler._shared.journal = journal
    return journal


@pytest.mark.parametrize("ends", [0, 1, 4, 9, 13])
async def test_no_room_for_the_end_of_a_step_leaves_no_object_untouchable(
    tmp_path: Path, ends: int, autojump_clock: trio.testing.MockClock
):
    host = simulated()
    before = state(host)
    async with stable(host, tmp_path / "journal") as one:
        await host.hypervisor.define(domain("win11", hostdevs=[GPU]))
        journal = fill(one, ends)
        with pytest.raises(HostFailed, match="cannot be written"):
            await host.hypervisor.start("win11")
        journal.full = False
        await trio.sleep(120)
        await one.settle()
        assert not journal.ledger.outstanding
        assert not journal.ledger.troubles
        assert state(host) == before
        await host.hypervisor.start("win11")
        await one.settle()
        assert on_vfio(host) == list(CARD)
    assert Journal(str(tmp_path / "journal"), "boot", journal._parse).ledger == journal.ledger
