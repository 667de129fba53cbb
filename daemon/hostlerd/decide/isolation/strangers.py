"""Control groups that are no units of systemd: AllowedCPUs cannot be set on them, so they are named, with what to do.

Pure. A program that makes its groups by itself (LXC, Docker with cgroupfs) is not to be written into either: the next
thing it does may undo it. A partition takes its CPUs from these, too; then there is nothing to say.
"""

from __future__ import annotations

from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.observed import Observed

_TO_DO = (
    ("docker", 'set "exec-opts": ["native.cgroupdriver=systemd"] in /etc/docker/daemon.json'),
    ("lxc", "set lxc.cgroup2.cpuset.cpus = {host} in the container's configuration"),
    ("kubepods", "set cgroupDriver: systemd in the kubelet's configuration"),
    ("machine", "run systemd-machined, with which libvirt puts domains into units"),
)


def strangers(observed: Observed, isolated: CpuSet) -> list[str]:
    """A sentence for each that may use isolated CPUs."""
    host = format_cpu_list(observed.topology.online - isolated)
    found: list[str] = []
    for group in observed.groups.strangers:
        both = group.effective & isolated
        if not both:
            continue
        to_do = next(
            (words for name, words in _TO_DO if group.unit.startswith(name)),
            "have its program let systemd make it, or keep it to CPUs {host} itself",
        )
        found.append(
            f"control group {group.unit} is no unit of systemd and may use CPUs {format_cpu_list(both)}, which are a "
            f"domain's: {to_do.format(host=host)}"
        )
    return found
