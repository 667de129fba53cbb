"""Kernel modules of the lab: loading them, and making labgpu worse or better while it is loaded.

What labgpu does and what its parameters mean is said in modules/labgpu/labgpu.c. The image blacklists it, so nothing
loads it but `load`.
"""

import os

from . import pci
from .programs import Done, Failed, holds, need, run

ROOT = "/sys/module"
LABGPU = "labgpu"
VARIANT = "labvfio"
MBOCHS, MTTY = "mbochs", "mtty"


def loaded(name: str) -> bool:
    return os.path.isdir(f"{ROOT}/{name}")


def load(name: str, **parameters: object) -> None:
    need("modprobe", name, *(f"{key}={value}" for key, value in parameters.items()))


def unload(name: str) -> Done:
    """A refusal is an answer. It does not come back while a remove() waits: ask `removing` first."""
    return run("modprobe", "-r", name)


def references(name: str) -> int:
    """What /sys/module/NAME/refcnt says."""
    with open(f"{ROOT}/{name}/refcnt", encoding="ascii") as file:
        return int(file.read())


def aliases(start: str) -> dict[str, str]:
    """Module by alias, of the aliases of modules.alias that begin so."""
    with open(f"/lib/modules/{os.uname().release}/modules.alias", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith(f"alias {start}")]
    return {words[1]: words[2] for words in lines}


def offer_variant(offered: bool) -> None:
    """Whether modules.alias has labvfio's line, as it has from the start; libvirt and others read that text.

    Not put back between scenarios.
    """
    path = f"/lib/modules/{os.uname().release}/modules.alias"
    with open(path, encoding="ascii") as file:
        kept = [line for line in file if not line.endswith(f" {VARIANT}\n")]
    if offered:
        kept.append(f"alias vfio_pci:v00001002d00005046sv*sd*bc*sc*i* {VARIANT}\n")
    with open(path, "w", encoding="ascii") as file:
        file.writelines(kept)


def parameter(key: str, value: object | None = None) -> str:
    """A parameter of labgpu, after setting it if a value is given."""
    path = f"{ROOT}/{LABGPU}/parameters/{key}"
    if value is not None:
        with open(path, "w", encoding="ascii") as file:
            file.write(str(value))
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def removing() -> int:
    """Calls of labgpu's remove() that have not returned; 0 where it is not loaded."""
    return int(parameter("removing")) if loaded(LABGPU) else 0


def node(address: str) -> str | None:
    """The device node that labgpu made for the function, while it has it."""
    try:
        (name,) = os.listdir(f"{pci.DEVICES}/{address}/{LABGPU}")
    except FileNotFoundError:
        return None
    return f"/dev/{name}"


def bind(address: str, **parameters: object) -> str:
    """Load labgpu and have it drive the function; its node.

    Raises:
        Failed: it does not bind.
    """
    load(LABGPU, **parameters)
    if pci.driver(address) != LABGPU:
        pci.write(address, "driver_override", LABGPU)
        if pci.driver(address) is not None:
            pci.write(address, "driver/unbind", address)
        pci.probe(address)
    found = node(address)
    if found is None or not holds(lambda: os.path.exists(found), 10.0):
        raise Failed(f"labgpu does not drive {address}: {pci.describe([address])}")
    return found


def calm() -> None:
    """labgpu lets go of everything and is unloaded, if it is there.

    Raises:
        Failed: a remove() still waits, or something has its node open.
    """
    if not loaded(LABGPU):
        return
    for key in ("hold_module", "never_return", "slow_remove"):
        parameter(key, 0)
    if not holds(lambda: removing() == 0, 10.0):
        raise Failed("a remove() of labgpu still waits")
    done = unload(LABGPU)
    if not done.ok:
        raise Failed(f"labgpu cannot be unloaded: {done}")
