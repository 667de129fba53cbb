"""Moving threads of the kernel, and telling irqbalance: what is set for quiet CPUs and is no file."""

from __future__ import annotations

import os

from hostler.errors import Unsupported
from hostlerd.host import Host
from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.model.plan import MoveThread, TellBalancer

LIMIT = 5.0
"""Seconds to read one file back."""


async def move_thread(host: Host, step: MoveThread) -> None:
    """Raises Unsupported where the kernel says no, or does something else; one that has ended meanwhile is none.

    It takes away the CPUs of others' partitions without a word (sched_setaffinity, cpuset_cpus_allowed).
    """
    wanted = parse_cpu_list(step.after or "")
    try:
        await host.processes.move_thread(step.pid, step.start, wanted)
        status = await host.look(lambda: host.files.read(f"/proc/{step.pid}/status"), limit=LIMIT)
    except (ProcessLookupError, FileNotFoundError):
        return
    except OSError as error:
        raise Unsupported(
            f"{step.object} stays where it is: {os.strerror(error.errno or 0)}", data={"object": step.object}
        ) from error
    lines = [line.partition(":") for line in status.splitlines()]
    allowed = next((text for name, _, text in lines if name == "Cpus_allowed_list"), "")
    if parse_cpu_list(allowed) != wanted:
        raise Unsupported(
            f"{step.object} may run on CPUs {allowed.strip()}, although {step.after} was asked for",
            data={"object": step.object},
        )


async def tell_balancer(host: Host, step: TellBalancer) -> None:
    """Raises HostFailed, TimedOut."""
    await host.processes.tell_balancer(step.socket, step.after)
