"""Somebody else who moves devices: a user with sysfs, and driverctl."""

from . import attempts, pci
from .programs import Done, Failed, run


def steal(address: str, driver: str) -> None:
    """Bind the function to another driver, as driverctl and scripts do: driver_override, unbind, drivers_probe.

    Raises:
        Failed: a write did not come back or was refused.
    """
    folder = f"{pci.DEVICES}/{address}"
    writes = [(f"{folder}/driver_override", driver)]
    if pci.driver(address) is not None:
        writes.append((f"{folder}/driver/unbind", address))
    writes.append(("/sys/bus/pci/drivers_probe", address))
    for path, text in writes:
        attempt = attempts.write(path, text)
        if not attempt.ends(30.0) or attempt.status:
            raise Failed(f"{text} into {path}: {attempt}")


def driverctl(address: str, driver: str) -> Done:
    """Without saving: what it saved would be in force again after a restart."""
    return run("driverctl", "--nosave", "set-override", address, driver)


def driverctl_undo(address: str) -> Done:
    return run("driverctl", "--nosave", "unset-override", address)
