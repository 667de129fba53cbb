"""Partitions that become invalid, or valid again, as kicks: a CPU goes off line, somebody sets another mask.

The kernel tells by a notification of the file (cpuset.c, notify_partition_change; cgroup_file_notify), which inotify
hears as a modification (kernfs_notify_workfn). Only of a file that is watched itself, or it may be forgotten: its inode
has to be in memory. Ours are those of machine.slice, of slices beside it that domains may be in, and of domains.
"""

from __future__ import annotations

import trio

from hostlerd.host import Kick
from hostlerd.host.inotify import Folders
from hostlerd.model.isolation import CGROUPS
from hostlerd.model.partition import KIND
from hostlerd.sources.control_groups import domain_groups, listen
from hostlerd.sources.quiet import kick_when_quiet


async def run(
    kick: Kick, *, root: str = CGROUPS, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Started once it listens."""

    async def hear(watched: Folders) -> None:
        await kick_when_quiet(lambda: _wait_changed(watched, root), kick)

    await listen(
        hear,
        lambda watched: _keep(watched, root),
        unseen="partitions that become invalid are",
        task_status=task_status,
    )


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
        groups = list(domain_groups(root))
        new = watched.keep([root, *groups], [f"{group}/{KIND}" for group in groups]) - found
        if not new:
            return
        found |= new
