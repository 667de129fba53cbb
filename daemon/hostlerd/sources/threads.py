"""vCPUs and iothreads that come and go as kicks: libvirt sends no event for `virsh setvcpus --live`
(qemuDomainSetVcpusLive) nor for `virsh iothreadadd` (qemuDomainAddIOThread).

It makes a control group for each such thread in the domain's own, and removes it (virCgroupNewThread,
virCgroupDelThread): inotify tells of these. So the folders are watched in which that happens, and those on the way to
them, because domains come and go, too. A new one is looked for again until there is none: what was made meanwhile is
not missed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import trio

from hostlerd.host import Kick
from hostlerd.host.inotify import Folders
from hostlerd.model.isolation import CGROUPS
from hostlerd.sources.control_groups import domain_groups, listen, names
from hostlerd.sources.quiet import kick_when_quiet

ROOTS = (CGROUPS, f"{CGROUPS}/cpuset")
"""Of control groups version 2 and version 1."""
_THREAD = re.compile(r"(vcpu|iothread)[0-9]+")


async def run(
    kick: Kick,
    *,
    roots: tuple[str, ...] = ROOTS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Started once it listens."""

    async def hear(watched: Folders) -> None:
        await kick_when_quiet(lambda: _wait_changed(watched, roots), kick)

    await listen(
        hear,
        lambda watched: _keep(watched, roots),
        unseen="vCPUs that are plugged in are",
        task_status=task_status,
    )


async def _wait_changed(watched: Folders, roots: tuple[str, ...]) -> None:
    """Until a thread of a domain came or went, or may have."""
    while True:
        changed = await watched.wait()
        new = _keep(watched, roots)
        if not changed or any(_THREAD.fullmatch(name) for name in changed):
            return
        if any(_THREAD.fullmatch(name) for folder in new for name in names(folder)):
            return


def _keep(watched: Folders, roots: tuple[str, ...]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    while new := watched.keep([folder for root in roots for folder in _folders(root)]) - found:
        found |= new
    return found


def _folders(root: str) -> Iterator[str]:
    """This one and those below in which domains, or their threads, come and go."""
    yield root
    for group in domain_groups(root):
        yield group
        if group.endswith(".scope"):
            yield f"{group}/libvirt"
