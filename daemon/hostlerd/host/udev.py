"""The kernel's device events, through udev. The only module that imports pyudev.

Rules: an event is a reason to look again; of what it holds only action and path are used, for the log,
because reading a device's attributes may hang while a write on it does. Never `Monitor.poll()`: after an
overrun it raises for ever (pyudev issue 194). Listening begins when `Uevents` is made.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Sequence
from typing import Any, Literal

import pyudev as _untyped
import trio

pyudev: Any = _untyped
"""pyudev has no type information."""

log = logging.getLogger(__name__)

CONTROL = "/run/udev/control"
BUFFER = 128 << 20
"""Bytes, as udevd itself asks for; used under a flood only. 8 KiB lost 488 of 500 events."""
AT_ONCE = 64
"""Events taken before other tasks have their turn."""


def source() -> Literal["udev", "kernel"]:
    """Events after udevd's rules have run where it runs, else the kernel's own: without udevd the others never come."""
    return "udev" if os.path.exists(CONTROL) else "kernel"


class Uevents:
    """A subscription to some subsystems' events. Raises OSError where the kernel has none to give."""

    def __init__(self, subsystems: Sequence[str], *, monitor: Any = None) -> None:
        """`monitor` stands in for pyudev's in tests."""
        self._monitor = monitor or _monitor(subsystems)
        self._monitor.start()

    async def wait(self) -> bool:
        """Until there was an event. False if some were lost: then anything may have happened."""
        while True:
            await trio.lowlevel.wait_readable(self._monitor.fileno())
            count, lost = self._take()
            if lost:
                log.info("device events were lost")
            if count or lost:
                return not lost

    def _take(self) -> tuple[int, int]:
        """How many events there were, and how many times some were lost."""
        count = lost = 0
        while count + lost < AT_ONCE:
            try:
                # What poll() calls, without its own select(), which takes the overrun for an event for ever.
                device = self._monitor._receive_device()  # noqa: SLF001
            except (
                ValueError,
                OverflowError,
            ):  # pyudev's words for EINVAL and EOVERFLOW: a message nobody understands
                lost += 1
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost += 1
                continue
            if device is None:
                break
            count += 1
            log.debug("udev: %s %s", device.action, device.device_path)
        return count, lost


def _monitor(subsystems: Sequence[str]) -> Any:
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source())
    for subsystem in subsystems:
        monitor.filter_by(subsystem)
    with contextlib.suppress(OSError):  # more than the limit needs CAP_NET_ADMIN; what there is will do
        monitor.set_receive_buffer_size(BUFFER)
    return monitor
