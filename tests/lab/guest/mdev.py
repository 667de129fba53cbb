"""Mediated devices of the kernel's samples: mbochs (a display: mbochs-small, ...) and mtty (serial ports: mtty-1, ...).

The modules are loaded by `modules.load`; loading one makes its parent device. Documentation/driver-api/vfio-mediated-
device.rst of the kernel.
"""

import os

from . import attempts
from .programs import Failed

PARENTS = "/sys/class/mdev_bus"
DEVICES = "/sys/bus/mdev/devices"


def parents() -> list[str]:
    """Names below PARENTS."""
    try:
        return sorted(os.listdir(PARENTS))
    except FileNotFoundError:
        return []


def types(parent: str) -> dict[str, int]:
    """Instances left, by type."""
    folder = f"{PARENTS}/{parent}/mdev_supported_types"
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(f"{folder}/{name}/available_instances", encoding="ascii") as file:
            found[name] = int(file.read())
    return found


def create(parent: str, kind: str, uuid: str) -> None:
    """Raises Failed when the kernel refuses."""
    _write(f"{PARENTS}/{parent}/mdev_supported_types/{kind}/create", uuid)


def remove(uuid: str) -> None:
    """Raises Failed when it is in use: the write then waits for its user."""
    _write(f"{DEVICES}/{uuid}/remove", "1")


def devices() -> dict[str, str]:
    """The type of each mediated device, by UUID."""
    try:
        names = os.listdir(DEVICES)
    except FileNotFoundError:
        return {}
    return {name: os.path.basename(os.readlink(f"{DEVICES}/{name}/mdev_type")) for name in names}


def forget_all() -> list[str]:
    """No mediated device is there afterwards, unless somebody has it; what was there."""
    found = sorted(devices())
    for uuid in found:
        attempts.write(f"{DEVICES}/{uuid}/remove", "1").ends(10.0)
    return found


def _write(path: str, text: str) -> None:
    attempt = attempts.write(path, text)
    if not attempt.ends(30.0) or attempt.status:
        raise Failed(f"{text} into {path}: {attempt}")
