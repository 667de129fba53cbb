"""Changing a pool of huge pages, and having the kernel make room for them.

A large pool grows in portions: a write ends when all pages are there or one cannot be had, which may take long where
memory is in pieces, and a write that is given up goes on until its next page (set_max_huge_pages: "Bail for signals").
That there are fewer in the end is no error here, as it is none of the kernel's: the next look counts them.
"""

from __future__ import annotations

import errno
import os

import trio

from hostler.errors import HostFailed
from hostlerd.host import Host
from hostlerd.model.hugepages import NR, size_text
from hostlerd.model.plan import MakeRoom, SetHugepages
from hostlerd.observe.reading import number

LIMIT = 8.0
"""Seconds for one pool: a start must be answered (hostler.wire, PREPARE_LIMIT)."""
ROOM_LIMIT = 6.0
PORTION = 1 << 20
"""KiB."""


async def set_hugepages(host: Host, step: SetHugepages) -> None:
    """Raises HostFailed where the kernel says no: EINVAL for 1 GiB pages that it gives at boot alone (CONTIG_ALLOC)."""
    record, path = step.record, step.object
    now = record.before
    portion = max(1, PORTION // record.page_kib) if record.target > now else now
    deadline = trio.current_time() + LIMIT
    while now != record.target and trio.current_time() < deadline:
        goal = min(record.target, now + portion) if record.target > now else record.target
        try:
            await host.writer.write(path, f"{goal}\n", limit=LIMIT)
        except OSError as error:
            raise _refused(step, error) from error
        found = await host.look(lambda: _lasting(host, path), limit=LIMIT)
        if found < goal:
            return
        now = goal


async def make_room(host: Host, step: MakeRoom) -> None:
    """Nothing can be read back: both are files for writing alone."""
    try:
        await host.writer.write(step.object, f"{step.after}\n", limit=ROOM_LIMIT)
    except OSError as error:
        raise HostFailed(
            f"{step.object} cannot be written: {os.strerror(error.errno or 0)}", data={"object": step.object}
        ) from error


def _lasting(host: Host, path: str) -> int:
    folder = path.removesuffix(NR)
    total = number(host.files, path) or 0
    return total - (number(host.files, f"{folder}surplus_hugepages") or 0)


def _refused(step: SetHugepages, error: OSError) -> HostFailed:
    size, remedy = size_text(step.record.page_kib), ""
    if error.errno == errno.EINVAL:
        word = size.replace(" ", "").removesuffix("iB")
        remedy = (
            f"reserve them on the kernel command line (hugepagesz={word} hugepages=...), or use smaller pages"
        )
    return HostFailed(
        f"the kernel changes nothing about pages of {size} on node {step.record.node}: "
        f"{os.strerror(error.errno or 0)}",
        remedy=remedy,
        data={"object": step.object, "errno": error.errno},
    )
