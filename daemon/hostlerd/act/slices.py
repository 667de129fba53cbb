"""AllowedCPUs of units, through systemd, so that a daemon-reload does not undo it.

Read back from the control group: the kernel degrades a mask it cannot grant without saying so.
"""

from __future__ import annotations

from hostler.errors import HostFailed
from hostlerd.host import Host
from hostlerd.model.cpuset import format_cpu_list, parse_cpu_list
from hostlerd.model.plan import AllowCpus


async def allow_cpus(host: Host, step: AllowCpus) -> None:
    """Raises HostFailed when systemd refuses or the kernel keeps tasks on other CPUs."""
    await host.units.set_allowed_cpus(step.object, step.cpus)
    if not step.path or not host.files.exists(step.path):
        return  # without a process there is no control group; the property holds for the next one
    try:
        effective = parse_cpu_list(host.files.read(f"{step.path}/cpuset.cpus.effective"))
    except FileNotFoundError as error:
        raise HostFailed(
            f"{step.object} is not confined: systemd took AllowedCPUs, and its control group has no cpuset",
            remedy="see whether the kernel has the cpuset controller (/sys/fs/cgroup/cgroup.controllers)",
            data={"object": step.object},
        ) from error
    except (OSError, ValueError) as error:
        raise HostFailed(f"the CPUs of {step.object} cannot be read back: {error}") from error
    if not effective <= step.cpus:
        raise HostFailed(
            f"{step.object} may still use CPUs {format_cpu_list(effective - step.cpus)} after being confined to "
            f"{format_cpu_list(step.cpus)}",
            remedy="see whether another program sets AllowedCPUs or writes cpuset.cpus",
            data={"object": step.object},
        )
