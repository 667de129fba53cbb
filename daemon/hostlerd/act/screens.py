"""The boot framebuffer: its platform driver lets go of the screen, and has it again."""

from __future__ import annotations

import os

from hostler.errors import HostFailed
from hostlerd.host import Host
from hostlerd.model.plan import Framebuffer
from hostlerd.observe.screen import platform_driver

DRIVERS = "/sys/bus/platform/drivers"
LIMIT = 10.0


async def move_framebuffer(host: Host, step: Framebuffer) -> None:
    """Raises HostFailed; some kernels refuse to bind it a second time (ENODEV), and then the screen stays dark."""
    verb, wanted = ("unbind", "") if step.after is None else ("bind", step.after)
    if platform_driver(host.files, step.object) == wanted:
        return
    try:
        await host.writer.write(f"{DRIVERS}/{step.driver}/{verb}", step.object, limit=LIMIT)
    except OSError as error:
        raise _failed(step, os.strerror(error.errno or 0)) from error
    now = platform_driver(host.files, step.object)
    if now not in (wanted, None):
        raise _failed(step, f"it is on {now}" if now else "it is on no driver")


def _failed(step: Framebuffer, why: str) -> HostFailed:
    if step.after is None:
        return HostFailed(
            f"the boot framebuffer {step.object} does not let go of the screen: {why}",
            remedy="see the kernel's log",
            data={"object": step.object},
        )
    return HostFailed(
        f"the boot framebuffer {step.object} cannot be put back on {step.driver}: {why}",
        remedy="the card is the host's again and its console stays dark until the host is restarted; "
        f"`hostler retry {step.object}` tries again",
        data={"object": step.object},
    )
