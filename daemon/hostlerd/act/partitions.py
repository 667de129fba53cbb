"""A control group becomes a partition, or a member again: told to systemd where it knows of such things, written to the
kernel's file, and read back.

One that is not directly below the root asks for CAP_SYS_ADMIN (remote_partition_enable). The daemon has not got that,
and systemd writes it.

A write that cannot be had succeeds (update_prstate). On Linux 6.1 one that is invalid stays so when the same is written
again, until it was a member in between.
"""

from __future__ import annotations

import os

from hostler.errors import HostFailed, Unsupported
from hostlerd.host import Host
from hostlerd.model.isolation import CGROUPS
from hostlerd.model.partition import MEMBER, asked, is_invalid, reason
from hostlerd.model.plan import SetPartition
from hostlerd.observe.tuning import shown

LIMIT = 5.0


async def set_partition(host: Host, step: SetPartition) -> None:
    """Raises HostFailed; Unsupported, with the kernel's reason, where it cannot be had."""
    path, wanted = step.object, step.after or MEMBER
    await host.units.set_partition(step.unit, wanted)
    now = await _read(host, path)
    try:
        if is_invalid(now) and asked(now) == wanted:
            await host.writer.write(path, f"{MEMBER}\n", limit=LIMIT)
            now = MEMBER
        if wanted not in (now, MEMBER) and _is_remote(path):
            await host.units.write(path, wanted, limit=LIMIT)
        elif now != wanted:
            await host.writer.write(path, f"{wanted}\n", limit=LIMIT)
    except OSError as error:
        raise Unsupported(
            f"{step.unit} cannot be a partition ({wanted}): {os.strerror(error.errno or 0)}",
            data={"object": path},
        ) from error
    now = await _read(host, path)
    if is_invalid(now):
        raise Unsupported(f"{step.unit} is no partition ({wanted}): {reason(now)}", data={"object": path})
    if now != wanted:
        raise HostFailed(f"{path} is {now}, although {wanted} was written", data={"object": path})


def _is_remote(path: str) -> bool:
    return path.removeprefix(f"{CGROUPS}/").count("/") > 1


async def _read(host: Host, path: str) -> str:
    now = await host.look(lambda: shown(host.files, path), limit=LIMIT)
    if now is None:
        raise HostFailed(f"{path} is gone", data={"object": path})
    return now
