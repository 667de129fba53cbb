"""What isolating a domain's CPUs is made of, and the profiles that name sets of it.

Values alone. `balanced` does what costs nobody anything and is undone without a trace; `latency` also what makes the
host's own work a little slower; `realtime` takes CPUs from the scheduler altogether and lets them not sleep. What
changes the host as a whole, or for longer than a domain runs, is in no profile (performance against what others rely
on): it has to be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

Partition = Literal["none", "root", "isolated"]
VfioInterrupts = Literal["node", "domain", "host", "keep"]
X3dMode = Literal["keep", "cache", "frequency"]

KEEP = -1
"""Of a number: as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """`slices`: AllowedCPUs of the host's units. `partition`: a cpuset partition for the domain's CPUs.

    `interrupts`: those that can be moved go to the host's CPUs; `vfio_interrupts`: where those of the domain's own
    devices go: to the host's CPUs of its node, to its own, to any of the host's. `workqueues`: unbound work queues.
    `kthreads`: unbound threads of the kernel. `rps`: receive steering of network cards, where it is on. `watchdog`:
    the lockup detector's CPUs. `stat_interval`: seconds between two rounds of the kernel's statistics worker.
    `timer_migration`: False keeps other CPUs' timers from being pulled over.

    `governor`, `epp` (energy_performance_preference): of the domain's CPUs, "keep" or the kernel's word.
    `resume_latency`: microseconds that one of them may take to wake up; 0: none at all, so it does not sleep.

    The rest is the whole host's: `halt_poll_ns`, `x3d_mode`, `split_lock_mitigate`, `numa_balancing`, `ksm` (0: stop
    merging).
    """

    slices: bool = False
    partition: Partition = "none"
    interrupts: bool = False
    vfio_interrupts: VfioInterrupts = "keep"
    workqueues: bool = False
    kthreads: bool = False
    rps: bool = False
    watchdog: bool = False
    stat_interval: int = KEEP
    timer_migration: bool = True
    governor: str = "keep"
    epp: str = "keep"
    resume_latency: int = KEEP
    x3d_mode: X3dMode = "keep"
    halt_poll_ns: int = KEEP
    split_lock_mitigate: int = KEEP
    numa_balancing: int = KEEP
    ksm: int = KEEP


_BALANCED = Isolation(
    slices=True,
    interrupts=True,
    vfio_interrupts="node",
    workqueues=True,
    governor="performance",
    epp="performance",
)
_LATENCY = replace(
    _BALANCED,
    kthreads=True,
    rps=True,
    watchdog=True,
    stat_interval=10,
    timer_migration=False,
    resume_latency=20,
)
_REALTIME = replace(_LATENCY, partition="isolated", resume_latency=0)

PROFILES: Mapping[str, Isolation] = MappingProxyType(
    {"none": Isolation(), "balanced": _BALANCED, "latency": _LATENCY, "realtime": _REALTIME}
)
"""20 us: C1 and its kind, and nothing deeper, on processors of the last ten years (intel_idle.c, exit_latency)."""
