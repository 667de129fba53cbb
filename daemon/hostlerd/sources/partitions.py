"""Partitions that become invalid, or valid again, as kicks: a CPU goes off line, somebody sets another mask.

The kernel tells by a notification of the file (cpuset.c, notify_partition_change; cgroup_file_notify), which inotify
hears as a modification (kernfs_notify_workfn). Only of a file that is watched itself, or it may be forgotten: its inode
has to be in memory. Ours are those of machine.slice, of slices beside it that domains may be in, and of domains.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import trio

from hostlerd.host import Kick
from hostlerd.host.inotify import Folders, folders
from hostlerd.model.isolation import HOST_UNITS
from hostlerd.model.partition import CGROUPS, KIND
from hostlerd.sources.quiet import kick_when_quiet

log = logging.getLogger(__name__)

_DOMAIN = "machine-qemu\\x2d"


async def run(
    kick: Kick,
    *,
    root: str = CGROUPS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Started once it listens."""
    try:
        with folders() as watched:
            _keep(watched, root)
            task_status.started()
            await kick_when_quiet(lambda: _wait_changed(watched, root), kick)
    except OSError as error:
        log.warning("partitions that become invalid are not seen at once: %s", error)
        task_status.started()
        await trio.sleep_forever()


async def _wait_changed(watched: Folders, root: str) -> None:
    while True:
        names = await watched.wait()
        _keep(watched, root)
        if not names:
            return


def _keep(watched: Folders, root: str) -> None:
    """Look again until there is nothing new: the files of a group come when the controller is turned on."""
    found: frozenset[str] = frozenset()
    while True:
        groups = list(_groups(root))
        new = watched.keep([root, *groups], [f"{group}/{KIND}" for group in groups]) - found
        if not new:
            return
        found |= new


def _groups(folder: str) -> Iterator[str]:
    for name in _names(folder):
        path = f"{folder}/{name}"
        if name.endswith(".slice") and name not in HOST_UNITS:
            yield path
            yield from _groups(path)
        elif name.startswith(_DOMAIN) and name.endswith(".scope"):
            yield path


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
