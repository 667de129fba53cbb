"""What a kernel lets one set for the quiet of some CPUs: interrupts, work queues, sysctls, clocks, sleep, its threads.

Answers as kernel/irq/proc.c, kernel/workqueue.c, drivers/cpufreq/{cpufreq,amd-pstate}.c, drivers/base/power/sysfs.c and
kernel/sched/syscalls.c do. A guest's vectors come and go as its driver wants (vfio_pci_intrs.c).
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from hostlerd.host.simulated.pci import fail
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import CpuSet, format_cpu_list, format_cpu_mask, parse_cpu_list, parse_cpu_mask

WORKQUEUE = "/sys/devices/virtual/workqueue"
_IRQ = re.compile(r"/proc/irq/(\d+)/smp_affinity_list")
_RPS = re.compile(r"/sys/.*/queues/rx-\d+/rps_cpus")
_FREQUENCY = re.compile(
    r"(/sys/devices/system/cpu/cpufreq/policy\d+)/(scaling_governor|energy_performance_preference)"
)
_LATENCY = re.compile(r"/sys/devices/system/cpu/cpu\d+/power/pm_qos_resume_latency_us")
_ACCEPTED = {
    "scaling_governor": "scaling_available_governors",
    "energy_performance_preference": "energy_performance_available_preferences",
}
_MASKS = ("/proc/irq/default_smp_affinity", f"{WORKQUEUE}/cpumask", f"{WORKQUEUE}/writeback/cpumask")
_NUMBERS = {
    "/proc/sys/vm/stat_interval": "1",
    "/proc/sys/kernel/timer_migration": "1",
    "/proc/sys/kernel/split_lock_mitigate": "1",
    "/proc/sys/kernel/numa_balancing": "0",
    "/sys/module/kvm/parameters/halt_poll_ns": "200000",
    "/sys/kernel/mm/ksm/run": "0",
}
X3D = "/sys/bus/platform/drivers/amd_x3d_vcache/AMDI0101:00/amd_x3d_mode"
IRQS = ((1, "i8042"), (9, "acpi"), (24, "xhci_hcd"), (25, "enp5s0"), (26, "nvme0q0"), (27, "nvme0q1"), (28, "nvme0q2"),
        (29, "amdgpu"))  # fmt: skip
MANAGED = ("nvme0q1", "nvme0q2")
"""Of queues: the kernel manages them."""
THREADS = ((2, "kthreadd", 0), (15, "rcu_preempt", 0), (35, "kcompactd0", 0), (16, "ksoftirqd/0", 0x04000000))
"""Number, name, and PF_NO_SETAFFINITY."""


@dataclass(slots=True)
class Quiet:
    tree: Tree
    cpus: CpuSet
    release: tuple[int, int] = (6, 1)

    def boot(self) -> None:
        everything, tree = format_cpu_list(self.cpus), self.tree
        like = "0" * -(-(max(self.cpus) + 1) // 4)
        for path in _MASKS:
            tree.put(path, format_cpu_mask(self.cpus, like=like) + "\n")
        if self.release >= (6, 8):
            tree.put(f"{WORKQUEUE}/cpumask_requested", tree.read(f"{WORKQUEUE}/cpumask"))
        for path, value in _NUMBERS.items():
            tree.put(path, value + "\n")
        tree.put("/proc/sys/kernel/watchdog_cpumask", everything + "\n")
        for number, name in IRQS:
            self.request(number, name)
        for cpu in sorted(self.cpus):
            tree.put(f"/sys/devices/system/cpu/cpu{cpu}/power/pm_qos_resume_latency_us", "0\n")
        for pid, name, flags in THREADS:
            folder = f"/proc/{pid}"
            numbers = ["0"] * 5 + [str(0x00200000 | flags), *["0"] * 12, "7"]
            tree.put(f"{folder}/comm", name + "\n")
            tree.put(f"{folder}/cmdline", "")
            tree.put(f"{folder}/stat", f"{pid} ({name}) S " + " ".join(numbers) + "\n")
            self._show(pid, name, self.cpus if flags == 0 else frozenset({min(self.cpus)}))

    def clocks(self) -> None:
        """cpufreq by amd-pstate-epp, a policy for each CPU, and the switch of an X3D processor."""
        for cpu in sorted(self.cpus):
            folder = f"/sys/devices/system/cpu/cpufreq/policy{cpu}"
            for name, text in {
                "affected_cpus": str(cpu),
                "scaling_available_governors": "performance powersave",
                "scaling_governor": "powersave",
                "energy_performance_available_preferences": "default performance balance_performance power",
                "energy_performance_preference": "balance_performance",
            }.items():
                self.tree.put(f"{folder}/{name}", text + "\n")
        self.tree.put(X3D, "frequency\n")

    def request(self, number: int, name: str) -> None:
        """request_irq(): it begins with the default affinity."""
        self.tree.put(f"/sys/kernel/irq/{number}/actions", name + "\n")
        default = parse_cpu_mask(self.tree.read("/proc/irq/default_smp_affinity"))
        self.tree.put(f"/proc/irq/{number}/smp_affinity_list", format_cpu_list(default & self.cpus) + "\n")

    def free(self, number: int) -> None:
        self.tree.discard(f"/sys/kernel/irq/{number}")
        self.tree.discard(f"/proc/irq/{number}")

    def vectors(self, address: str, count: int) -> None:
        """A guest's driver has so many MSI-X vectors of a function; 0: none any more."""
        for entry in self.tree.listdir("/proc/irq"):
            if entry.isdecimal() and f"({address})" in self.tree.read(f"/sys/kernel/irq/{entry}/actions"):
                self.free(int(entry))
        for vector in range(count):
            number = 1 + max(int(e) for e in self.tree.listdir("/proc/irq") if e.isdecimal())
            self.request(number, f"vfio-msix[{vector}]({address})")

    def write(self, real: str, text: str) -> bool:
        """False for a file that is not one of these. Raises OSError."""
        word = text.strip()
        if match := _IRQ.fullmatch(real):
            if self.tree.read(f"/sys/kernel/irq/{match[1]}/actions").strip() in MANAGED:
                raise fail(errno.EACCES if self.release >= (6, 12) else errno.EIO, real)
            self._list(real, word)
        elif real == "/proc/sys/kernel/watchdog_cpumask":
            self._list(real, word)
        elif real in _MASKS or _RPS.fullmatch(real):
            self._mask(real, word)
        elif real in _NUMBERS:
            if not word.isdecimal():
                raise fail(errno.EINVAL, real)
            self.tree.put(real, word + "\n")
        elif match := _FREQUENCY.fullmatch(real):
            self._clock(match[1], match[2], word)
        elif _LATENCY.fullmatch(real):
            if word != "n/a" and not word.isdecimal():
                raise fail(errno.EINVAL, real)
            self.tree.put(real, word + "\n")
        elif real == X3D:
            if word not in ("frequency", "cache"):
                raise fail(errno.EINVAL, real)
            self.tree.put(real, word + "\n")
        else:
            return False
        return True

    def move(self, pid: int, start: int, cpus: CpuSet) -> None:
        """sched_setaffinity(2) of the process that began then. Raises OSError."""
        if not self.tree.exists(f"/proc/{pid}/stat"):
            raise ProcessLookupError(errno.ESRCH, "No such process")
        stat = self.tree.read(f"/proc/{pid}/stat").partition("(")[2].rpartition(")")
        if int(stat[2].split()[19]) != start:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        if int(stat[2].split()[6]) & 0x04000000 or not cpus & self.cpus:
            raise fail(errno.EINVAL, f"/proc/{pid}")
        self._show(pid, stat[0], cpus & self.cpus)

    def _show(self, pid: int, name: str, cpus: CpuSet) -> None:
        self.tree.put(f"/proc/{pid}/status", f"Name:\t{name}\nCpus_allowed_list:\t{format_cpu_list(cpus)}\n")

    def _list(self, real: str, word: str) -> None:
        try:
            cpus = parse_cpu_list(word)
        except ValueError:
            raise fail(errno.EINVAL, real) from None
        if not cpus & self.cpus:
            raise fail(errno.EINVAL, real)
        self.tree.put(real, format_cpu_list(cpus) + "\n")

    def _mask(self, real: str, word: str) -> None:
        try:
            cpus = parse_cpu_mask(word)
        except ValueError:
            raise fail(errno.EINVAL, real) from None
        if not cpus & self.cpus and "rps_cpus" not in real:
            raise fail(errno.EINVAL, real)
        shown = format_cpu_mask(cpus & self.cpus, like=self.tree.read(real).strip()) + "\n"
        self.tree.put(real, shown)
        if real == f"{WORKQUEUE}/cpumask" and self.release >= (6, 8):
            self.tree.put(f"{WORKQUEUE}/cpumask_requested", shown)

    def _clock(self, folder: str, name: str, word: str) -> None:
        read = self.tree.read
        known = (
            "scaling_available_governors"
            if name == "scaling_governor"
            else "energy_performance_available_preferences"
        )
        if word not in read(f"{folder}/{known}").split():
            raise fail(errno.EINVAL, f"{folder}/{name}")
        if name != "scaling_governor" and read(f"{folder}/scaling_governor").strip() == "performance":
            raise fail(errno.EBUSY, f"{folder}/{name}")
        self.tree.put(f"{folder}/{name}", word + "\n")
        if (name, word) == ("scaling_governor", "performance"):
            self.tree.put(f"{folder}/energy_performance_preference", "performance\n")
