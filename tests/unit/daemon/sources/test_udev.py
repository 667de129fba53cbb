"""The udev source: it listens before it says so, and each gulp of events is one kick."""

from __future__ import annotations

import pytest
import trio

from hostlerd.sources import udev


class FakeUevents:
    made = 0
    last: FakeUevents

    def __init__(self, subsystems: tuple[str, ...]) -> None:
        FakeUevents.made += 1
        self.subsystems = subsystems
        FakeUevents.last = self
        self.answers = [True, False, True]

    async def wait(self) -> bool:
        await trio.lowlevel.checkpoint()
        if not self.answers:
            await trio.sleep_forever()
        return self.answers.pop()


async def test_it_kicks_for_events_and_for_lost_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udev, "Uevents", FakeUevents)
    kicks: list[None] = []
    made = FakeUevents.made
    async with trio.open_nursery() as nursery:
        await nursery.start(udev.run, lambda: kicks.append(None))
        assert FakeUevents.made == made + 1
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(kicks) == 3
    assert FakeUevents.last.subsystems == ("pci", "mdev", "cpu", "vfio-dev")


async def test_usb_events_are_one_kick_when_it_is_quiet(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(udev, "Uevents", FakeUevents)
    kicks: list[None] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(udev.run_usb, lambda: kicks.append(None))
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert len(kicks) == 1
    assert FakeUevents.last.subsystems == ("usb",)
