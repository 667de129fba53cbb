"""Moving threads of the kernel, and telling irqbalance: what is set for quiet CPUs and is no file."""

from __future__ import annotations

import os

from hostler.errors import Unsupported
from hostlerd.host import Host
from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.model.plan import MoveThread, TellBalancer


async def move_thread(host: Host, step: MoveThread) -> None:
    """Raises Unsupported where the kernel says no; one that has ended meanwhile is none."""
    try:
        await host.processes.move_thread(step.pid, step.start, parse_cpu_list(step.after or ""))
    except ProcessLookupError:
        return
    except OSError as error:
        raise Unsupported(
            f"{step.object} stays where it is: {os.strerror(error.errno or 0)}", data={"object": step.object}
        ) from error


async def tell_balancer(host: Host, step: TellBalancer) -> None:
    """Raises HostFailed, TimedOut."""
    await host.processes.tell_balancer(step.socket, step.after)
