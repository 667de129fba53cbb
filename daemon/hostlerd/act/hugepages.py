"""Changing a pool of huge pages, and having the kernel make room for them.

A write ends when all pages are there or one cannot be had, which may take long where memory is in pieces. What takes
too long is given up, and that is no hanging write: the process that is killed leaves the kernel with its next page
(set_max_huge_pages: "Bail for signals"; reclaim and compaction look for a fatal one themselves). A large pool grows in
portions, so that as a rule the limit falls between two writes. That there are fewer in the end is no error here, as it
is none of the kernel's: the next look counts them.
"""

from __future__ import annotations

import errno
import os

import trio

from hostler.errors import HostFailed, Wedged
from hostlerd.host import Host
from hostlerd.model.hugepages import NR, size_text
from hostlerd.model.plan import MakeRoom, SetHugepages
from hostlerd.observe.reading import number

LIMIT = 8.0
"""Seconds for one pool: a start must be answered (hostler.wire, PREPARE_LIMIT)."""
ROOM_LIMIT = 4.0
END_LIMIT = 4.0
"""For a process that was killed."""
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
            whole = await _write(
                host, path, f"{goal}\n", limit=max(0.1, round(deadline - trio.current_time(), 1))
            )
        except OSError as error:
            raise _refused(step, error) from error
        now = await host.look(lambda: _lasting(host, path), limit=LIMIT)
        if not whole or now != goal:
            return


async def make_room(host: Host, step: MakeRoom) -> None:
    """Nothing can be read back: both are files for writing alone. What was done in time has to do."""
    try:
        await _write(host, step.object, f"{step.after}\n", limit=ROOM_LIMIT)
    except OSError as error:
        raise HostFailed(
            f"{step.object} cannot be written: {os.strerror(error.errno or 0)}", data={"object": step.object}
        ) from error


async def _write(host: Host, path: str, text: str, *, limit: float) -> bool:
    """False where it was given up. Raises OSError, and Wedged where it has not returned even then."""
    try:
        await host.writer.write(path, text, limit=limit)
    except Wedged as stuck:
        pid = stuck.data.get("pid")
        if isinstance(pid, int) and pid:
            with trio.move_on_after(END_LIMIT):
                await host.writer.wait_ended(pid)
                return False
        raise
    return True


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
