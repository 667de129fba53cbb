"""What of a host's kernel can be set for the quiet of some CPUs: where it is, not what is in it.

Looked at only while something is isolated or has to be put back (model/questions). What is in the files comes with it,
as answers to questions about files (Observed.attributes).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hostlerd.model.cpuset import CpuSet

DEFAULT_AFFINITY = "/proc/irq/default_smp_affinity"
WATCHDOG = "/proc/sys/kernel/watchdog_cpumask"
STAT_INTERVAL = "/proc/sys/vm/stat_interval"
TIMER_MIGRATION = "/proc/sys/kernel/timer_migration"
SPLIT_LOCK = "/proc/sys/kernel/split_lock_mitigate"
NUMA_BALANCING = "/proc/sys/kernel/numa_balancing"
HALT_POLL = "/sys/module/kvm/parameters/halt_poll_ns"
KSM = "/sys/kernel/mm/ksm/run"
SINGLE = (
    *(DEFAULT_AFFINITY, WATCHDOG, STAT_INTERVAL, TIMER_MIGRATION, SPLIT_LOCK, NUMA_BALANCING, HALT_POLL, KSM),
)
"""Files there is one of."""

WORKQUEUES = "/sys/devices/virtual/workqueue"
WORKQUEUE_MASKS = (f"{WORKQUEUES}/cpumask", f"{WORKQUEUES}/writeback/cpumask")
SHOWN_AS = {f"{WORKQUEUES}/cpumask": f"{WORKQUEUES}/cpumask_requested"}
"""Where a file shows something else than was written, the one that shows it. The work queues' cpumask is since 6.8
without the CPUs of isolated partitions (kernel/workqueue.c, workqueue_unbound_exclude_cpumask)."""


REFUSED = (1, 5, 13, 16, 28)
"""Why an interrupt stays where it is. EPERM, EIO, EACCES: the kernel manages it (kernel/irq/proc.c, write_irq_affinity;
EIO before 6.12; since then its file has no right to be written, which the owner cannot pass over without
CAP_DAC_OVERRIDE). ENOSPC, EBUSY: the CPUs have no vector left (irq_matrix_alloc)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """`name`: of all that use it, as /sys/kernel/irq/N/actions has it. `function`: the PCI function of a guest whose
    interrupt it is (vfio_pci_intrs.c names them ``vfio-msix[0](0000:01:00.0)``)."""

    number: int
    name: str
    function: str | None = None

    @property
    def path(self) -> str:
        return f"/proc/irq/{self.number}/smp_affinity_list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequency:
    """A cpufreq policy: CPUs that have one clock. `governors`, `preferences`: what its files accept."""

    path: str
    cpus: CpuSet
    governors: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelThread:
    """One that may be moved. `start`: with the pid, which one it is."""

    pid: int
    start: int
    name: str
    cpus: CpuSet

    @property
    def object(self) -> str:
        return f"kthread {self.pid} ({self.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """irqbalance. `socket`: where it can be told, empty if nowhere."""

    pid: int
    socket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """`steering`: rps_cpus files that are in use. `sleep`: by CPU its pm_qos_resume_latency_us. `x3d`: mode files."""

    interrupts: tuple[Interrupt, ...] = ()
    frequencies: tuple[Frequency, ...] = ()
    steering: tuple[str, ...] = ()
    sleep: dict[int, str] = field(default_factory=dict[int, str])
    x3d: tuple[str, ...] = ()
    threads: tuple[KernelThread, ...] = ()
    balancer: Balancer | None = None
