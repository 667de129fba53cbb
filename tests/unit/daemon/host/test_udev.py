"""Device events: taken from the socket in bounded gulps, and what an overrun is."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass, field

import pytest
import trio

from hostlerd.host import udev
from hostlerd.host.udev import AT_ONCE, Uevents


@dataclass
class Device:
    action: str = "add"
    device_path: str = "/devices/pci0000:00/0000:00:01.0"


@dataclass
class FakeMonitor:
    """pyudev's, with a socket that is readable as long as something is left; an exception is raised in its turn."""

    left: list[Device | Exception] = field(default_factory=list)
    started: bool = False

    def __post_init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)

    def add(self, *items: Device | Exception) -> None:
        self.left += items
        self.theirs.send(b"x" * len(items))

    def start(self) -> None:
        self.started = True

    def fileno(self) -> int:
        return self.ours.fileno()

    def _receive_device(self) -> Device | None:
        try:
            self.ours.recv(1)
        except BlockingIOError:
            return None
        item = self.left.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def monitor():
    monitor = FakeMonitor()
    yield monitor
    monitor.close()


async def test_many_events_are_one_return(monitor: FakeMonitor) -> None:
    uevents = Uevents(["pci"], monitor=monitor)
    assert monitor.started
    monitor.add(Device(), Device(), Device())
    assert await uevents.wait()
    with trio.move_on_after(0.02) as scope:
        await uevents.wait()
    assert scope.cancelled_caught


async def test_a_flood_is_taken_in_gulps(monitor: FakeMonitor) -> None:
    uevents = Uevents(["pci"], monitor=monitor)
    monitor.add(*[Device()] * (AT_ONCE + 1))
    assert await uevents.wait()
    assert len(monitor.left) == 1
    assert await uevents.wait()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOBUFS, "No buffer space available"), ValueError("Invalid argument")]
)
async def test_lost_events_are_told_and_end_nothing(monitor: FakeMonitor, error: Exception) -> None:
    uevents = Uevents(["pci"], monitor=monitor)
    monitor.add(Device(), error, Device())
    assert not await uevents.wait()
    monitor.add(Device())
    assert await uevents.wait()


async def test_another_error_is_not_hidden(monitor: FakeMonitor) -> None:
    monitor.add(OSError(errno.ENETDOWN, "Network is down"))
    with pytest.raises(OSError, match="Network is down"):
        await Uevents(["pci"], monitor=monitor).wait()


def test_the_kernel_is_listened_to_where_udevd_does_not_run(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udev, "CONTROL", f"{tmp_path}/control")
    assert udev.source() == "kernel"
    os.mknod(f"{tmp_path}/control")
    assert udev.source() == "udev"


NULL = trio.Path("/sys/class/mem/null/uevent")


async def make_events(count: int) -> bool:
    """Root can have the kernel say that /dev/null changed; nobody else can make an event."""
    try:
        for _ in range(count):
            await NULL.write_text("change")
    except OSError:
        return False
    return True


async def test_the_real_monitor_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udev, "CONTROL", "/nonexistent")
    uevents = Uevents(["mem"])
    expected = await make_events(1)
    with trio.move_on_after(20 if expected else 0.05) as scope:
        assert await uevents.wait()
    assert scope.cancelled_caught is not expected


async def test_the_real_monitor_survives_an_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udev, "CONTROL", "/nonexistent")
    monkeypatch.setattr(udev, "BUFFER", 4096)
    uevents = Uevents(["mem"])
    if not await make_events(200):
        return  # then the tests above, on a monitor that says it was overrun, have to do
    with trio.fail_after(20):
        while await uevents.wait():
            pass
    with trio.move_on_after(0.1):
        while True:
            await uevents.wait()
    assert await make_events(1)
    with trio.fail_after(20):
        assert await uevents.wait()
