"""What can only be seen of a card that is awake: whether it answers, and which sizes its BARs can have.

Rules: read by the writer process, as such a read wakes the card and waits for that (pci_config_pm_runtime_get). A card
that does not come back from it does not answer. What cannot be read is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostler.errors import Wedged
from hostlerd.host import Host
from hostlerd.model.devices import DEVICES
from hostlerd.model.memory import BARS, Bar, size_of
from hostlerd.observe.reading import text, to_number

LIMIT = 5.0
READ = 16
ONES = b"\xff" * READ
"""What a read of configuration space gives where nobody answers.

Not of the first four bytes: a virtual function has ones in place of vendor and device (PCIe base specification, SR-IOV,
"Vendor ID"; drivers/pci/iov.c sets them from its PF), and its class behind them.
"""


async def answering(host: Host, addresses: Iterable[str]) -> Mapping[str, bool]:
    return {address: await is_alive(host, address) for address in addresses}


async def is_alive(host: Host, address: str) -> bool:
    """A function that has gone is not dead."""
    try:
        return await host.writer.read(f"{DEVICES}/{address}/config", size=READ, limit=LIMIT) != ONES
    except OSError:
        return True
    except Wedged:
        return False


async def resizable(host: Host, addresses: Iterable[str]) -> Mapping[str, tuple[Bar, ...]]:
    return {address: await _bars(host, address) for address in addresses}


async def _bars(host: Host, address: str) -> tuple[Bar, ...]:
    found: list[Bar] = []
    resource = text(host.files, f"{DEVICES}/{address}/resource")
    for index in range(BARS):
        path = f"{DEVICES}/{address}/resource{index}_resize"
        size = size_of(resource, index)
        if size is None or not host.files.exists(path):
            continue
        try:
            read = await host.writer.read(path, size=64, limit=LIMIT)
        except (OSError, Wedged):
            continue
        sizes = to_number(read.decode(errors="replace").strip(), 16)
        if sizes:
            found.append(Bar(index=index, size=size, sizes=sizes))
    return tuple(found)
