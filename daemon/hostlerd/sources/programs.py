"""Scopes of programs that come and go, as kicks: systemd removes one a moment after its last process has ended.

It does so by rmdir(2), of which inotify tells. hostler.slice itself is there only while something is in it, so the
folder above is watched, too.
"""

from __future__ import annotations

import trio

from hostlerd.host import Kick
from hostlerd.host.inotify import Folders
from hostlerd.model.isolation import CGROUPS
from hostlerd.model.programs import SCOPE, SLICE
from hostlerd.sources.control_groups import listen


async def run(
    kick: Kick, *, root: str = CGROUPS, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Started once it listens."""

    def look(watched: Folders) -> None:
        watched.keep([root, f"{root}/{SLICE}"])

    async def hear(watched: Folders) -> None:
        while True:
            names = await watched.wait()
            look(watched)
            if not names or any(name == SLICE or name.startswith(SCOPE) for name in names):
                kick()

    await listen(hear, look, unseen="the end of programs with CPUs of their own is", task_status=task_status)
