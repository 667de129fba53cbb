"""vCPUs and iothreads that come and go as kicks: libvirt sends no event for `virsh setvcpus --live`
(qemuDomainSetVcpusLive) nor for `virsh iothreadadd` (qemuDomainAddIOThread).

It makes a control group for each such thread in the domain's own, and removes it (virCgroupNewThread,
virCgroupDelThread): inotify tells of these. So the folders are watched in which that happens, and those on the way to
them, because domains come and go, too. A new one is looked for again until there is none: what was made meanwhile is
not missed.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator

import trio

from hostlerd.host import Kick
from hostlerd.host.inotify import Folders, folders
from hostlerd.model.isolation import HOST_UNITS
from hostlerd.sources.quiet import kick_when_quiet

log = logging.getLogger(__name__)

ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/cpuset")
"""Of control groups version 2 and version 1."""
_DOMAIN = "machine-qemu\\x2d"
_THREAD = re.compile(r"(vcpu|iothread)[0-9]+")


async def run(
    kick: Kick,
    *,
    roots: tuple[str, ...] = ROOTS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Started once it listens. Where there is nothing to listen with, plugged vCPUs are seen with the next event."""
    try:
        with folders() as watched:
            _keep(watched, roots)
            task_status.started()
            await kick_when_quiet(lambda: _wait_changed(watched, roots), kick)
    except OSError as error:
        log.warning("vCPUs that are plugged in are not seen at once: %s", error)
        task_status.started()
        await trio.sleep_forever()


async def _wait_changed(watched: Folders, roots: tuple[str, ...]) -> None:
    """Until a thread of a domain came or went, or may have."""
    while True:
        names = await watched.wait()
        new = _keep(watched, roots)
        if not names or any(_THREAD.fullmatch(name) for name in names):
            return
        if any(_THREAD.fullmatch(name) for folder in new for name in _names(folder)):
            return


def _keep(watched: Folders, roots: tuple[str, ...]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    while new := watched.keep([folder for root in roots for folder in _folders(root)]) - found:
        found |= new
    return found


def _folders(root: str) -> Iterator[str]:
    """This one and those below in which domains, or their threads, come and go."""
    yield root
    for name in _names(root):
        path = f"{root}/{name}"
        if name.endswith(".slice") and name not in HOST_UNITS:
            yield from _folders(path)
        elif name.startswith(_DOMAIN) and name.endswith(".scope"):
            yield path
            yield f"{path}/libvirt"


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
