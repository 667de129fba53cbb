"""libvirt's events as kicks, and the connection they come over.

Rules: libvirtd is away as a matter of course (not installed, restarted, started after us): that is no error,
and it is not polled for. A try after each pause of PAUSES, then nothing until inotify tells of its socket.
What happened in a gap is lost, so a new connection kicks, and so does a lost one: what is known of domains
has become old.
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import trio

from hostler.errors import HostlerError
from hostlerd.host import Kick
from hostlerd.host.inotify import Appearances, appearances

log = logging.getLogger(__name__)

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
SHORT = 60.0
"""A connection that lived less long than this (seconds) counts as one more failed try."""
NOBODY_LISTENS = (errno.ENOENT, errno.ECONNREFUSED)


class Connection(Protocol):
    """What this source needs of hostlerd.host.libvirt.Libvirt."""

    @property
    def uri(self) -> str: ...

    @property
    def sockets(self) -> tuple[str, ...]: ...

    async def connect(self, changed: Kick) -> None: ...

    async def wait_lost(self) -> str: ...

    async def aclose(self) -> None: ...


async def run(
    connection: Connection, kick: Kick, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Keeps the connection until cancelled. Starts at once: nobody waits for libvirt."""
    task_status.started()
    try:
        await _keep(connection, kick)
    finally:
        with trio.CancelScope(shield=True):  # bounded by itself
            await connection.aclose()


async def _keep(connection: Connection, kick: Kick) -> None:
    tries, said = 0, ""
    while True:
        with _watched(connection.sockets) as watch:
            try:
                await connection.connect(kick)
            except HostlerError as error:
                if error.message != said:
                    log.info("%s", error.message)
                    said = error.message
                tries = await _pause(tries, watch, absent=error.data.get("errno") in NOBODY_LISTENS)
                continue
        log.info("connected to libvirt at %s", connection.uri)
        said, since = "", trio.current_time()
        kick()
        reason = await connection.wait_lost()
        log.warning("the connection to libvirt at %s is lost: %s", connection.uri, reason)
        kick()
        if trio.current_time() - since >= SHORT:
            tries = 0
        with _watched(connection.sockets) as watch:
            tries = await _pause(tries, watch, absent=False)


async def _pause(tries: int, watch: Appearances | None, *, absent: bool) -> int:
    """Wait for the next try, and return how many there were.

    A socket that appears starts the pauses anew, as it is made before anyone listens on it.
    """
    last = math.inf if absent and watch is not None else PAUSES[-1]
    with trio.move_on_after(PAUSES[tries] if tries < len(PAUSES) else last):
        if watch is None:
            await trio.sleep_forever()
        else:
            await watch.wait()
            return 0
    return tries + 1


@contextmanager
def _watched(paths: tuple[str, ...]) -> Iterator[Appearances | None]:
    """None where there is nothing to watch, or no watch to be had."""
    with ExitStack() as stack:
        watch = None
        if paths:
            try:
                watch = stack.enter_context(appearances(paths))
            except OSError as error:
                log.warning("cannot watch for libvirt's socket: %s", error)
        yield watch
