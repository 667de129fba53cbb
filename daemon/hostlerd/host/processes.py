"""Ending processes, moving threads of the kernel, telling irqbalance: host.Processes on the live host.

Rules: a number names a process only as long as that lives, so it is held by a pidfd, and compared by its start time
after that is open (pidfd_open(2), proc(5)).
"""

from __future__ import annotations

import errno
import os
import signal

import trio

from hostler.errors import HostFailed
from hostlerd.host import irqbalance
from hostlerd.model.cpuset import CpuSet


class LiveProcesses:
    async def move_thread(self, pid: int, start: int, cpus: CpuSet) -> None:
        """See host.Processes. Never blocks: the thread moves itself when it runs next, or is moved by the stopper."""
        if started(pid) != start:
            raise ProcessLookupError(errno.ESRCH, "it has ended")
        os.sched_setaffinity(pid, cpus)

    async def tell_balancer(self, socket: str, cpus: str | None) -> None:
        await irqbalance.tell(socket, cpus)

    async def terminate(self, pid: int, start: int | None, *, limit: float) -> bool:
        """See host.Processes. One that has ended already is fine."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        except OSError as error:
            raise _refused(pid, error) from error
        try:
            if start is not None and started(pid) != start:
                return True  # that one has ended, and the number is another's now
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    signal.pidfd_send_signal(pidfd, number)
                except ProcessLookupError:
                    return True
                except OSError as error:
                    raise _refused(pid, error) from error
                with trio.move_on_after(limit):
                    await trio.lowlevel.wait_readable(pidfd)
                    return True
            return False
        finally:
            os.close(pidfd)


def started(pid: int) -> int | None:
    """Clock ticks after boot: field 22 of /proc/PID/stat; the name before it may hold anything. None: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def _refused(pid: int, error: OSError) -> HostFailed:
    return HostFailed(
        f"process {pid} cannot be ended: {error.strerror}",
        data={"object": f"process {pid}", "errno": error.errno},
    )
