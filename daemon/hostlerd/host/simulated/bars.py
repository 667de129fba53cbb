"""BARs of a function: where they are, and which sizes they can have.

drivers/pci/pci-sysfs.c (resource_show, __resource_resize_show, __resource_resize_store) and setup-res.c
(pci_resize_resource) of Linux 6.1 to 6.12.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from hostlerd.host.simulated.tree import Tree

BARS = 7
"""Lines of `resource`: six BARs and the ROM."""
MIB = 1 << 20
ENOTSUPP = 524
"""Of the kernel alone; no libc has a word for it."""
_MEMORY64 = 0x0014220C


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """`size` in MiB; `sizes`: those that it can be given, bit n for 2^n MiB; 0 for one that cannot be resized."""

    index: int
    size: int
    sizes: int = 0


def base(address: str, index: int) -> int:
    """Every BAR has room for 32 GiB here."""
    segment, bus, rest = address.split(":")
    number = int(segment, 16) << 16 | int(bus, 16) << 8 | int(rest[:2], 16) << 3 | int(rest[3])
    return 1 << 44 | number << 38 | index << 35


def show(tree: Tree, folder: str, address: str, bars: tuple[Bar, ...]) -> None:
    sizes = {bar.index: bar.size * MIB for bar in bars}
    lines = [
        f"0x{base(address, n):016x} 0x{base(address, n) + sizes[n] - 1:016x} 0x{_MEMORY64:016x}\n"
        if n in sizes
        else f"0x{0:016x} 0x{0:016x} 0x{0:016x}\n"
        for n in range(BARS)
    ]
    tree.put(f"{folder}/resource", "".join(lines))
    for bar in bars:
        if bar.sizes:
            tree.put(f"{folder}/resource{bar.index}_resize", f"{bar.sizes:016x}\n")


def resized(bars: tuple[Bar, ...], index: int, text: str, room: int) -> tuple[Bar, ...]:
    """The BARs with the size of which `text` is the bit's number. `room`: MiB of the bridge's window.

    Raises OSError: EINVAL for what is no number or no size of it, ENOSPC where the window cannot hold it.
    """
    (bar,) = [bar for bar in bars if bar.index == index]
    try:
        bit = int(text.strip(), 0)
    except ValueError:
        raise _fail(errno.EINVAL, index) from None
    if not bar.sizes >> bit & 1:
        raise _fail(errno.EINVAL, index)
    changed = tuple(Bar(index=b.index, size=1 << bit, sizes=b.sizes) if b is bar else b for b in bars)
    if sum(b.size for b in changed) > room:
        raise _fail(errno.ENOSPC, index)
    return changed


def _fail(code: int, index: int) -> OSError:
    return OSError(code, os.strerror(code), f"resource{index}_resize")
