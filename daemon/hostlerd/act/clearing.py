"""Getting what has a device open out of the way, and back: stop, start, terminate, check-free.

What is read back: the unit's state as systemd has it, the end of the process by its own number. A container is stopped
and started by its engine, which says when that is done.
"""

from __future__ import annotations

from hostler.errors import HostFailed, InUse
from hostlerd.host import Host
from hostlerd.model.plan import CheckFree, StartAgain, Stop, Terminate
from hostlerd.observe.holders import look_for_holders

LOOK_LIMIT = 5.0


async def stop(host: Host, step: Stop) -> None:
    if step.container is not None:
        await host.engines.stop(step.container, seconds=step.limit)
    else:
        await host.units.stop_unit(step.object, limit=step.limit)


async def start(host: Host, step: StartAgain) -> None:
    if step.container is not None:
        await host.engines.start(step.container)
    else:
        await host.units.start_unit(step.object)


async def terminate(host: Host, step: Terminate) -> None:
    if not await host.processes.terminate(step.pid, step.start, limit=step.limit):
        raise HostFailed(
            f"{step.before} ({step.object}) has not ended after SIGTERM and SIGKILL, {step.limit:g} s each",
            remedy=f"it hangs in the kernel; see what it waits for with `cat /proc/{step.pid}/stack`",
            data={"object": step.object},
        )


async def check_free(host: Host, step: CheckFree) -> None:
    found = [h for h in await look_for_holders(host, step.functions, limit=LOOK_LIMIT) if h.blocks]
    if found:
        first = found[0]
        raise InUse(
            f"{first.address} is in use: {first.told} has {first.node} open since a moment ago",
            remedy="end it and try again",
            data={"object": first.address, "holders": [holder.told for holder in found]},
        )
