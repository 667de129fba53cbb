"""Control groups that come and go, heard by inotify: what the sources of threads, partitions and programs share.

Control groups are made with mkdir(2) and removed with rmdir(2), by systemd and libvirt, of which inotify tells; of what
the kernel itself makes it does not. Where there is nothing to listen with, the next event of any kind has to do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterator

import trio

from hostlerd.host.inotify import Folders, folders
from hostlerd.model.isolation import DOMAIN, HOST_UNITS

log = logging.getLogger(__name__)


async def listen(
    hear: Callable[[Folders], Awaitable[None]],
    look: Callable[[Folders], object],
    *,
    unseen: str,
    task_status: trio.TaskStatus[None],
) -> None:
    """`look` says what to watch; `hear` runs for ever. Started once it listens. `unseen`: what is not heard without."""
    try:
        with folders() as watched:
            look(watched)
            task_status.started()
            await hear(watched)
    except OSError as error:
        log.warning("%s not seen at once: %s", unseen, error)
        task_status.started()
        await trio.sleep_forever()


def domain_groups(folder: str) -> Iterator[str]:
    """Slices below a folder in which domains may be, and the scopes of domains."""
    for name in names(folder):
        path = f"{folder}/{name}"
        if name.endswith(".slice") and name not in HOST_UNITS:
            yield path
            yield from domain_groups(path)
        elif name.startswith(DOMAIN) and name.endswith(".scope"):
            yield path


def names(folder: str) -> list[str]:
    """What is in it; nothing where it has gone."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
