"""Whether a card answers, and what is tried with one that does not: check-alive, reset-card, remove, rescan.

Configuration space is read by the writer process, since that wakes the card.
"""

from __future__ import annotations

import os

from hostler.errors import HostFailed
from hostlerd.act.devices import is_gone
from hostlerd.host import Host
from hostlerd.model.devices import DEVICES
from hostlerd.model.plan import CheckAlive, RemoveFunction, Rescan, ResetCard
from hostlerd.observe.awake import is_alive

LIMIT = 10.0
RESCAN_LIMIT = 20.0


async def check_alive(host: Host, step: CheckAlive) -> None:
    if not await is_alive(host, step.object):
        raise HostFailed(step.reason, remedy=step.remedy, data={"object": step.object})


async def reset_card(host: Host, step: ResetCard) -> None:
    """The bus below its bridge where the kernel can do that (reset_subordinate), else the function itself.

    A function's own `reset` takes the bus only where it is alone on it (pci_parent_bus_reset).
    """
    path = _bridge_reset(host, step.object)
    try:
        await host.writer.write(path or f"{DEVICES}/{step.object}/reset", "1", limit=LIMIT)
    except OSError as error:
        raise HostFailed(
            f"{step.object} does not answer and cannot be reset: {os.strerror(error.errno or 0)}",
            remedy='switch the host off and on again, or set recover = "rescan" in its [[device]] section',
            data={"object": step.object, "errno": error.errno},
        ) from error


async def remove_function(host: Host, step: RemoveFunction) -> None:
    try:
        await host.writer.write(f"{DEVICES}/{step.object}/remove", "1", limit=LIMIT)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostFailed(
            f"{step.object} cannot be removed: {os.strerror(error.errno or 0)}", data={"object": step.object}
        ) from error


async def rescan(host: Host, step: Rescan) -> None:
    try:
        await host.writer.write("/sys/bus/pci/rescan", "1", limit=RESCAN_LIMIT)
    except OSError as error:
        raise HostFailed(
            f"the PCI bus cannot be scanned: {os.strerror(error.errno or 0)}", data={"object": step.object}
        ) from error
    missing = [address for address in step.functions if is_gone(host, address)]
    if missing:
        raise HostFailed(
            f"{', '.join(missing)} was removed as it did not answer, and is not found again",
            remedy="switch the host off and on again, as a restart alone may leave it without power",
            data={"object": step.object},
        )


def _bridge_reset(host: Host, address: str) -> str | None:
    try:
        above = host.files.readlink(f"{DEVICES}/{address}").split("/")[-2]
    except (OSError, IndexError):
        return None
    path = f"{DEVICES}/{above}/reset_subordinate"
    return path if host.files.exists(path) else None
