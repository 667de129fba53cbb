"""Pins, through libvirt, so that `virsh vcpupin` shows the truth; one call at a time.

Read back twice: at once from the kernel, which may let the thread run elsewhere all the same, and by the next snapshot
of the domains.
"""

from __future__ import annotations

from hostler.errors import HostFailed, TimedOut
from hostlerd.host import Host
from hostlerd.model.cpuset import format_cpu_list
from hostlerd.model.plan import Pin
from hostlerd.observe.threads import affinity_of

WITHOUT_EFFECT = "without_effect"
"""In an error's data: libvirt did it, and the kernel did not."""
LIMIT = 5.0
"""Seconds that looking at the threads of one process may take."""


async def pin(host: Host, step: Pin) -> None:
    """Raises what the hypervisor raises: Unreachable, TimedOut, HostFailed; HostFailed where it has no effect."""
    match step.thread:
        case "vcpu":
            await host.hypervisor.pin_vcpu(step.uuid, step.index, step.cpus)
        case "emulator":
            await host.hypervisor.pin_emulator(step.uuid, step.cpus)
        case "iothread":
            await host.hypervisor.pin_iothread(step.uuid, step.index, step.cpus)
    domain = step.object.partition("/")[0]
    try:
        allowed = await host.look(
            lambda: affinity_of(host.files, domain, (step.thread, step.index)), limit=LIMIT
        )
    except TimedOut:
        return  # the pin is libvirt's word then
    if allowed is not None and allowed > step.cpus:  # on other CPUs altogether somebody was faster
        raise HostFailed(
            f"{step.object} may run on CPUs {format_cpu_list(allowed)} after being pinned to {step.after}",
            remedy="see whether another program sets its affinity (taskset -p), or its control group's cpuset",
            data={"object": step.object, WITHOUT_EFFECT: True},
        )
