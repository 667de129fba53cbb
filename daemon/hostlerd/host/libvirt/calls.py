"""What is asked of libvirt, each a function of a connection that blocks; and its errors in our words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostler.errors import HostFailed, HostlerError, TimedOut, Unsupported
from hostlerd.host.libvirt.link import libvirt, no_domain_is_fine
from hostlerd.model.cpuset import CpuSet

LibvirtError: type[Exception] = libvirt.libvirtError

STATES = ("no state", "running", "blocked", "paused", "shutdown", "shut off", "crashed", "pmsuspended")
"""By number of virDomainState, in virsh's words."""

Pin = Callable[[Any, tuple[bool, ...]], object]
"""Pins something of a domain to a map of CPUs."""


def running(connection: Any) -> list[tuple[str, str, str, str | None]]:
    """Name, state, live XML and inactive XML of each active domain; the last is None for a transient one."""
    found: list[tuple[str, str, str, str | None]] = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        with no_domain_is_fine():
            live = domain.XMLDesc(0)
            inactive = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if domain.isPersistent() else None
            number = domain.state()[0]
            # Asked last: of a domain that has stopped since, XMLDesc(0) gave the inactive XML.
            if domain.isActive():
                state = STATES[number] if number < len(STATES) else STATES[0]
                found.append((domain.name(), state, live, inactive))
    return found


def inactive(connection: Any) -> list[tuple[str, str]]:
    """Name and XML of each domain that is defined and does not run."""
    found: list[tuple[str, str]] = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE):
        with no_domain_is_fine():
            found.append((domain.name(), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
    return found


def version(connection: Any) -> int:
    """Of the libvirtd at the other end."""
    return int(connection.getLibVersion())


def pin(connection: Any, uuid: str, cpus: CpuSet, how: Pin) -> None:
    how(connection.lookupByUUIDString(uuid), cpu_map(connection, cpus))


def pin_vcpu(vcpu: int) -> Pin:
    return lambda domain, cpus: domain.pinVcpuFlags(vcpu, cpus, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def pin_emulator() -> Pin:
    return lambda domain, cpus: domain.pinEmulator(cpus, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def pin_iothread(iothread: int) -> Pin:
    return lambda domain, cpus: domain.pinIOThread(iothread, cpus, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def definition_xml(connection: Any, uuid: str) -> str:
    """The inactive XML with passwords: without VIR_DOMAIN_XML_SECURE a redefinition would lose them."""
    domain = connection.lookupByUUIDString(uuid)
    return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))


def redefine(connection: Any, uuid: str, xml: str) -> None:
    """Only of a domain that is defined now: one undefined meanwhile does not come back."""
    domain = connection.lookupByUUIDString(uuid)
    if not domain.isPersistent():
        raise HostFailed(f"{domain.name()} has no definition", data={"object": uuid})
    connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)


def plug(connection: Any, uuid: str, device: str) -> None:
    connection.lookupByUUIDString(uuid).attachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def unplug(connection: Any, uuid: str, device: str) -> None:
    """virDomainDetachDeviceFlags returns when the guest was asked; gone is it with the event DEVICE_REMOVED."""
    connection.lookupByUUIDString(uuid).detachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def cpu_map(connection: Any, cpus: CpuSet) -> tuple[bool, ...]:
    """One bool for each CPU of the host; libvirt-python writes past its buffer when there are more."""
    count: int = connection.getCPUMap()[0]
    if not cpus or max(cpus) >= count:
        raise HostFailed(f"libvirt knows CPUs 0 to {count - 1}, not {sorted(cpus)}")
    return tuple(cpu in cpus for cpu in range(count))


def as_ours(error: Any, what: str, domain: str | None) -> HostlerError:
    """libvirt's words are kept; data: errno (libvirt's error code), object."""
    code = error.get_error_code()
    kind: type[HostlerError] = HostFailed
    if code in (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_ERR_AGENT_UNRESPONSIVE):
        kind = TimedOut
    elif code == libvirt.VIR_ERR_NO_SUPPORT:
        kind = Unsupported
    data: dict[str, object] = {"errno": code}
    if domain is not None:
        data["object"] = domain
    return kind(f"libvirt, {what}: {error}", data=data)
