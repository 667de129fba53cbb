"""PCI functions as sysfs shows them."""

import os

DEVICES = "/sys/bus/pci/devices"


def functions() -> list[str]:
    return sorted(os.listdir(DEVICES))


def driver(address: str) -> str | None:
    """The name of the bound driver."""
    try:
        return os.path.basename(os.readlink(f"{DEVICES}/{address}/driver"))
    except FileNotFoundError:
        return None


def override(address: str) -> str:
    """The content of driver_override, byte for byte; `(null)` and a newline where none is set."""
    with open(f"{DEVICES}/{address}/driver_override", encoding="ascii") as file:
        return file.read()


def on_vfio(address: str) -> bool:
    """A user process can open it: the folder that the kernel makes for a VFIO device is there."""
    try:
        return bool(os.listdir(f"{DEVICES}/{address}/vfio-dev"))
    except FileNotFoundError:
        return False


def group(address: str) -> list[str]:
    """All functions of the IOMMU group, the function itself included."""
    return sorted(os.listdir(f"{DEVICES}/{address}/iommu_group/devices"))


def describe(addresses: list[str]) -> str:
    return "; ".join(f"{a} {driver(a)} {override(a).strip()} vfio={on_vfio(a)}" for a in addresses)


def write(address: str, name: str, text: str) -> None:
    with open(f"{DEVICES}/{address}/{name}", "w", encoding="ascii") as file:
        file.write(text)


def probe(address: str) -> None:
    """Let the drivers that match the function try."""
    with open("/sys/bus/pci/drivers_probe", "w", encoding="ascii") as file:
        file.write(address)
