"""Resizing a BAR, and seeing in `resource` that it has the size."""

from __future__ import annotations

import errno
import os

from hostler.errors import HostFailed
from hostlerd.act.devices import driver
from hostlerd.host import Host
from hostlerd.model.devices import DEVICES
from hostlerd.model.memory import size_of
from hostlerd.model.plan import ResizeBar

LIMIT = 10.0
WHY = {
    errno.ENOENT: "it is none that can be resized",
    errno.EINVAL: "the card cannot have that size",
    524: "the firmware's layout must stay",  # ENOTSUPP, the kernel's own
}


async def resize_bar(host: Host, step: ResizeBar) -> None:
    """Raises HostFailed where the kernel refuses: EBUSY (a driver, VFs), ENOTSUPP, ENOSPC (no room), EINVAL."""
    bound = driver(host, step.address)
    if bound is not None:
        raise _failed(step, f"{bound} has the card")
    try:
        await host.writer.write(step.object, f"{step.size.bit_length() - 1}\n", limit=LIMIT)
        text = await host.look(lambda: host.files.read(f"{DEVICES}/{step.address}/resource"), limit=LIMIT)
    except OSError as error:
        code = error.errno or 0
        raise _failed(step, WHY.get(code) or os.strerror(code)) from error
    now = size_of(text, step.index)
    if now != step.size:
        raise _failed(step, f"it has {now or 0} MiB after that")


def _failed(step: ResizeBar, why: str) -> HostFailed:
    return HostFailed(
        f"BAR {step.index} of {step.address} cannot be made {step.after}: {why}",
        remedy="the card works with the size that it has; Above 4G Decoding in the firmware gives BARs room; "
        f"`hostler retry {step.object}` has it tried again",
        data={"object": step.object},
    )
