"""The hook, called as libvirt calls it, without a libvirt: who is only told yes or no needs no QEMU that starts.

What hooks are called with, and what their status means: https://libvirt.org/hooks.html.
"""

import re
from uuid import NAMESPACE_DNS, uuid5

from . import service
from .domains import Domain
from .programs import Done, run

HOOK = "/etc/libvirt/hooks/qemu.d/hostler"


def hook(domain: Domain, operation: str, sub_operation: str) -> Done:
    """The domain's XML as libvirt would pass it: it always has a UUID there."""
    uuid = uuid5(NAMESPACE_DNS, domain.name)
    xml = domain.xml().replace("</name>", f"</name><uuid>{uuid}</uuid>", 1)
    return run(HOOK, domain.name, operation, sub_operation, "-", given=xml)


def prepare(domain: Domain) -> Done:
    return hook(domain, "prepare", "begin")


def release(domain: Domain) -> Done:
    return hook(domain, "release", "end")


def seconds(domain: Domain) -> float | None:
    """How long the daemon took to answer the last request to prepare the domain, by its own log."""
    found = re.findall(rf"{domain.name}: answered after ([\d.]+) s", service.log())
    return float(found[-1]) if found else None
