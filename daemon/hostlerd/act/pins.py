"""Pins, through libvirt, so that `virsh vcpupin` shows the truth; one call at a time.

Read back by the next snapshot of the domains.
"""

from __future__ import annotations

from hostlerd.host import Host
from hostlerd.model.plan import Pin


async def pin(host: Host, step: Pin) -> None:
    """Raises what the hypervisor raises: Unreachable, TimedOut, HostFailed."""
    match step.thread:
        case "vcpu":
            await host.hypervisor.pin_vcpu(step.uuid, step.index, step.cpus)
        case "emulator":
            await host.hypervisor.pin_emulator(step.uuid, step.cpus)
        case "iothread":
            await host.hypervisor.pin_iothread(step.uuid, step.index, step.cpus)
