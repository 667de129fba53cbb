"""Which processes have a device open, and what the kernel itself has it open for.

Rules. One pass over /proc: open files first, which never blocks; then memory maps, because a mapping outlives its file,
and reading those of a process that hangs in a page fault hangs, too (mmap_lock): `progress` hears whose they are, and
`look_for_holders` goes on without that one. What may not be read is skipped, so without root a user sees their own. A
process is told by pid and start time, read while it had the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from hostler.errors import TimedOut
from hostlerd.host import Engines, Files, Host
from hostlerd.model.devices import Function
from hostlerd.model.holders import KERNEL, Holder
from hostlerd.observe.blocks import kernel_uses
from hostlerd.observe.opened import Opened, Way
from hostlerd.observe.places import place
from hostlerd.observe.reading import names, text, to_number
from hostlerd.observe.wanted import Wanted

HANGING = 3
"""Processes whose maps are given up before the whole look is."""


def holders(
    files: Files,
    functions: Iterable[Function],
    *,
    unmapped: frozenset[str] = frozenset(),
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Holder, ...]:
    """Who has a node of one of these functions open or mapped, by address, pid and node; pid 0 is the kernel.

    `unmapped`: processes whose maps are not read.
    """
    wanted = Wanted(files, functions)
    if not wanted:
        return ()
    opened, users = Opened(files, wanted), _Users(files)
    pids = [name for name in names(files, "/proc") if name.isdecimal()]
    ways = {pid: of for pid in pids if (of := opened.in_files(pid))}
    for pid in pids:
        if pid not in unmapped:
            progress(pid)
            more = list(opened.in_maps(pid))
            if more:
                ways.setdefault(pid, []).extend(more)
    progress("")
    found = list(_kernel(files, wanted))
    for pid, its in ways.items():
        found.extend(_holders(files, pid, opened.completed(its), users))
    return tuple(sorted(found, key=lambda holder: (holder.address, holder.pid, holder.node)))


@dataclass(slots=True)
class _Progress:
    pid: str = ""

    def at(self, pid: str) -> None:
        self.pid = pid


async def look_for_holders(host: Host, functions: Iterable[Function], *, limit: float) -> tuple[Holder, ...]:
    """As `holders`, and does not hang with a process that hangs. `limit`: seconds of one try. Raises TimedOut."""
    functions, unmapped = tuple(functions), frozenset[str]()
    while True:
        progress = _Progress()
        look = partial(holders, host.files, functions, unmapped=unmapped, progress=progress.at)
        try:
            return await host.look(look, limit=limit)
        except TimedOut:
            if not progress.pid or len(unmapped) == HANGING:
                raise
            unmapped |= {progress.pid}


async def with_names(engines: Engines, found: Iterable[Holder]) -> tuple[Holder, ...]:
    """The same with what the engines call the containers. It takes as long as they may take to answer."""
    found = tuple(found)
    containers = {container: None for holder in found if (container := holder.in_container) is not None}
    known = await engines.names(containers) if containers else {}
    return tuple(
        replace(holder, container_name=known[container])
        if (container := holder.in_container) is not None and container in known
        else holder
        for holder in found
    )


def _kernel(files: Files, wanted: Wanted) -> Iterator[Holder]:
    found: dict[tuple[str, str], list[str]] = {}
    for number, source, use in kernel_uses(files):
        known = wanted.numbers.get(number) if number is not None else None
        path, addresses = known or (source, wanted.paths.get(source, set()))
        for address in addresses:
            found.setdefault((address, path), []).append(use)
    for (address, path), uses in found.items():
        more = f" and in {len(uses) - 1} more" if len(uses) > 1 else ""
        yield Holder(
            address=address,
            pid=KERNEL,
            command=f"kernel: {uses[0]}{more}",
            user="root",
            unit=None,
            container=None,
            node=path,
            how="kernel",
        )


@dataclass(slots=True)
class _Users:
    """uid to name; users of a directory service are shown by number."""

    files: Files
    _names: dict[str, str] | None = field(default=None)

    def name(self, uid: str) -> str:
        if self._names is None:
            lines = (text(self.files, "/etc/passwd") or "").splitlines()
            self._names = {parts[2]: parts[0] for line in lines if len(parts := line.split(":")) > 2}
        return self._names.get(uid, uid)


def _holders(files: Files, pid: str, ways: Iterable[Way], users: _Users) -> Iterator[Holder]:
    status = text(files, f"/proc/{pid}/status")
    if status is None:
        return  # it has ended
    uid = next((line.split()[1] for line in status.splitlines() if line.startswith("Uid:\t")), "")
    where = place(text(files, f"/proc/{pid}/cgroup") or "")
    # The name may have spaces and brackets in it (proc(5)); the start is field 22.
    stat = (text(files, f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    command = text(files, f"/proc/{pid}/comm") or pid
    for way in ways:
        if way.at is not None and not _still(files, *way.at):
            continue  # closed meanwhile, or the pid is another process's by now
        yield Holder(
            address=way.address,
            pid=int(pid),
            command=command,
            user=users.name(uid),
            unit=where.unit,
            container=where.container,
            node=way.node,
            session=where.session,
            manager=where.manager,
            engine=where.engine,
            start=to_number(stat[19]) if len(stat) > 19 else None,
            how=way.how,
        )


def _still(files: Files, link: str, target: str) -> bool:
    try:
        return files.readlink(link) == target
    except OSError:
        return False
