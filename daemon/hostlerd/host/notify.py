"""Telling systemd how the daemon is (sd_notify(3)), and that it still turns.

Rules: says nothing where nobody asked for it, and then needs no systemd-python either. The watchdog's ping
comes from the trio loop, so it says that the loop turns, not that the host is well.
"""

from __future__ import annotations

import math
import os
import time
from typing import Any

import trio

from hostler.errors import Unsupported


class Notify:
    """Of this process; a child that inherits the variables does not speak for us (sd_watchdog_enabled(3))."""

    def __init__(self) -> None:
        self._send = _sender()

    def ready(self, status: str = "") -> None:
        """READY=1: dependent units start now. Also the end of a reload."""
        self._tell("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """The sentence that `systemctl status` shows."""
        self._tell(*_status(text))

    def reloading(self) -> None:
        """Ends with the next `ready`. Type=notify ignores the time, which Type=notify-reload (253) asks for."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    async def run_watchdog(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """WATCHDOG=1 twice in each WatchdogSec=; returns where there is none. Nothing else wakes an idle daemon."""
        interval = watchdog_interval()
        task_status.started()
        while interval < math.inf:
            self._tell("WATCHDOG=1")
            await trio.sleep(interval)

    def _tell(self, *lines: str) -> None:
        if self._send is not None and lines:
            self._send("\n".join(lines))


def watchdog_interval() -> float:
    """Half of what systemd waits, in seconds; infinite where it does not watch this process."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or not int(usec) or pid not in ("", str(os.getpid())):
        return math.inf
    return int(usec) / 2e6


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _sender() -> Any:
    if not os.environ.get("NOTIFY_SOCKET"):
        return None
    try:
        from systemd.daemon import notify  # noqa: PLC0415 - 8 ms, and only where systemd started us
    except ImportError as error:
        raise Unsupported(
            "systemd waits for a word (NOTIFY_SOCKET is set), but systemd-python is not installed",
            remedy="install python3-systemd",
        ) from error
    return notify
