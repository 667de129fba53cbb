"""Scopes of programs that come and go, as kicks: systemd removes one a moment after its last process has ended.

It does so by rmdir(2), of which inotify tells. hostler.slice itself is there only while something is in it, so the
folder above is watched, too.
"""

from __future__ import annotations

import logging

import trio

from hostlerd.host import Kick
from hostlerd.host.inotify import Folders, folders
from hostlerd.model.programs import SCOPE, SLICE

log = logging.getLogger(__name__)

ROOT = "/sys/fs/cgroup"


async def run(
    kick: Kick, *, root: str = ROOT, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Started once it listens. Where there is nothing to listen with, the next event of any kind has to do."""
    try:
        with folders() as watched:
            _keep(watched, root)
            task_status.started()
            while True:
                names = await watched.wait()
                _keep(watched, root)
                if not names or any(name == SLICE or name.startswith(SCOPE) for name in names):
                    kick()
    except OSError as error:
        log.warning("the end of programs with CPUs of their own is not seen at once: %s", error)
        task_status.started()
        await trio.sleep_forever()


def _keep(watched: Folders, root: str) -> None:
    watched.keep([root, f"{root}/{SLICE}"])
