"""sd_notify, read at the other end of the socket."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hostler.errors import Unsupported
from hostlerd.host.notify import Notify, watchdog_interval


class Systemd:
    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        found: list[str] = []
        try:
            while True:
                found.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            return found


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    systemd = Systemd(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    yield systemd
    systemd.socket.close()


def test_each_word_is_one_message(systemd: Systemd) -> None:
    notify = Notify()
    notify.ready("1 domain,\n2 devices")
    notify.status("converged")
    notify.status("")
    notify.stopping()
    assert systemd.heard() == ["READY=1\nSTATUS=1 domain, 2 devices", "STATUS=converged", "STOPPING=1"]


def test_a_reload_says_when_it_began(systemd: Systemd) -> None:
    before = time.monotonic_ns() // 1000
    Notify().reloading()
    (message,) = systemd.heard()
    word, _, value = message.partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert before <= int(value) <= time.monotonic_ns() // 1000


def test_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setitem(sys.modules, "systemd.daemon", None)
    Notify().ready("nothing is sent, and nothing imported")


def test_systemd_asked_and_systemd_python_is_missing(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "systemd.daemon", None)
    with pytest.raises(Unsupported, match="systemd-python is not installed"):
        Notify()


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("60000000", "", 30.0),
        ("60000000", str(os.getpid()), 30.0),
        ("60000000", "1", float("inf")),
        ("0", "", float("inf")),
        ("", "", float("inf")),
        ("soon", "", float("inf")),
    ],
)
def test_how_often_the_watchdog_wants_a_word(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, seconds: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_interval() == seconds


async def test_the_watchdog_hears_of_us_twice_in_its_time(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    heard: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(Notify().run_watchdog)
        for _ in range(10):
            await trio.sleep(60)
            heard += systemd.heard()  # a socket holds ten datagrams, and then its writer waits
        nursery.cancel_scope.cancel()
    assert 20 <= len(heard) <= 21
    assert set(heard) == {"WATCHDOG=1"}


async def test_without_a_watchdog_there_is_no_task(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(Notify().run_watchdog)
    assert systemd.heard() == []
