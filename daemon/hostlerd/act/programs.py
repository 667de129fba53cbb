"""Moving the process that asked for CPUs into a scope of its own, through systemd.

Read back from the kernel: that the process is in there, and that the scope's cpuset is what it was given.
"""

from __future__ import annotations

from hostler.errors import HostFailed
from hostlerd.host import Host
from hostlerd.model.cpuset import format_cpu_list, parse_cpu_list
from hostlerd.model.plan import EnterScope
from hostlerd.model.programs import SLICE

GROUPS = "/sys/fs/cgroup"


async def enter_scope(host: Host, step: EnterScope) -> None:
    """Raises HostFailed: what came of it is then put right as what is left of any claim is."""
    program = step.record
    await host.units.enter_scope(
        program.scope,
        slice_=SLICE,
        pid=program.pid,
        start=program.start,
        uid=program.uid,
        cpus=program.own,
        description=f"{program.name} on CPUs of its own ({program.cpus})",
    )
    try:
        found = parse_cpu_list(host.files.read(f"{GROUPS}/{SLICE}/{program.scope}/cpuset.cpus.effective"))
    except (OSError, ValueError) as error:
        raise HostFailed(
            f"{program.scope} is not on CPUs {program.cpus}: its control group has no cpuset ({error})",
            remedy="see whether the kernel has the cpuset controller (/sys/fs/cgroup/cgroup.controllers)",
            data={"object": program.scope},
        ) from error
    if found != program.own:
        raise HostFailed(
            f"{program.scope} is on CPUs {format_cpu_list(found)} and not on {program.cpus}",
            remedy=f"see whether another program sets AllowedCPUs of {SLICE}",
            data={"object": program.scope},
        )
