"""Virtual functions of the NVMe drive at 05:00.0: at most 4.

Without autoprobe they stay without a driver; the host's nvme driver could not use them anyway, because nobody gives
them queues.
"""

import os
import re

from . import pci
from .programs import Failed, holds

CARD = "0000:05:00.0"


def total() -> int:
    with open(f"{pci.DEVICES}/{CARD}/sriov_totalvfs", encoding="ascii") as file:
        return int(file.read())


def functions() -> list[str]:
    """Addresses of the virtual functions, in their order."""
    folder = f"{pci.DEVICES}/{CARD}"
    links = sorted(
        (name for name in os.listdir(folder) if re.fullmatch(r"virtfn\d+", name)), key=lambda n: int(n[6:])
    )
    return [os.path.basename(os.readlink(f"{folder}/{name}")) for name in links]


def create(count: int, *, autoprobe: bool = False) -> list[str]:
    """The functions' addresses.

    Raises:
        Failed: not as many came.
    """
    pci.write(CARD, "sriov_drivers_autoprobe", str(int(autoprobe)))
    pci.write(CARD, "sriov_numvfs", str(count))
    if not holds(lambda: len(functions()) == count, 30.0):
        raise Failed(f"{count} virtual functions asked for: {functions()}")
    return functions()


def remove() -> None:
    """None are left, and autoprobe is as the kernel starts with."""
    if functions():
        pci.write(CARD, "sriov_numvfs", "0")
    pci.write(CARD, "sriov_drivers_autoprobe", "1")
