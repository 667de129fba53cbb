"""What there is to be set for quiet CPUs, and what is in it: one answer to one question (model/questions).

Rules: nothing is read here that wakes a device or that a driver's lock is needed for. Threads of the kernel cost a walk
through /proc and are looked at only where `threads` says so.
"""

from __future__ import annotations

from hostlerd.host import Files
from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.model.tuning import SHOWN_AS, SINGLE, WORKQUEUE_MASKS, Frequency, Tuning
from hostlerd.observe.interrupts import observe_balancer, observe_interrupts
from hostlerd.observe.kthreads import observe_kthreads
from hostlerd.observe.reading import names, text

CPU = "/sys/devices/system/cpu"
CPUFREQ = f"{CPU}/cpufreq"
NET = "/sys/class/net"
X3D = "/sys/bus/platform/drivers/amd_x3d_vcache"


def observe_tuning(files: Files, *, threads: bool) -> tuple[Tuning, dict[str, str | None]]:
    """What there is, and the text of each of its files."""
    found = Tuning(
        interrupts=observe_interrupts(files),
        frequencies=_frequencies(files),
        steering=tuple(_steering(files)),
        sleep={cpu: path for cpu, path in _sleep(files) if files.exists(path)},
        x3d=tuple(f"{X3D}/{name}/amd_x3d_mode" for name in sorted(names(files, X3D)) if ":" in name),
        threads=observe_kthreads(files) if threads else (),
        balancer=observe_balancer(files),
    )
    paths = [
        *SINGLE,
        *WORKQUEUE_MASKS,
        *(interrupt.path for interrupt in found.interrupts),
        *(f"{policy.path}/{name}" for policy in found.frequencies for name in FREQUENCY_FILES),
        *found.steering,
        *found.sleep.values(),
        *found.x3d,
    ]
    return found, {path: shown(files, path) for path in paths}


FREQUENCY_FILES = ("scaling_governor", "energy_performance_preference")


def shown(files: Files, path: str) -> str | None:
    """What was written to a file last, as far as the kernel says."""
    other = SHOWN_AS.get(path)
    return text(files, other if other is not None and files.exists(other) else path)


def _frequencies(files: Files) -> tuple[Frequency, ...]:
    """By their folders: CPUs of one policy share its files (Documentation/admin-guide/pm/cpufreq.rst)."""
    found: list[Frequency] = []
    for name in sorted(n for n in names(files, CPUFREQ) if n.startswith("policy")):
        path = f"{CPUFREQ}/{name}"
        try:
            cpus = parse_cpu_list((text(files, f"{path}/affected_cpus") or "").replace(" ", ","))
        except ValueError:
            continue
        found.append(
            Frequency(
                path=path,
                cpus=cpus,
                governors=_words(files, f"{path}/scaling_available_governors"),
                preferences=_words(files, f"{path}/energy_performance_available_preferences"),
            )
        )
    return tuple(found)


def _words(files: Files, path: str) -> tuple[str, ...]:
    return tuple((text(files, path) or "").split())


def _steering(files: Files) -> list[str]:
    found: list[str] = []
    for card in sorted(names(files, NET)):
        for queue in sorted(names(files, f"{NET}/{card}/queues")):
            path = f"{NET}/{card}/queues/{queue}/rps_cpus"
            if queue.startswith("rx-") and (text(files, path) or "").strip("0,"):
                found.append(path)
    return found


def _sleep(files: Files) -> list[tuple[int, str]]:
    cpus = [int(name[3:]) for name in names(files, CPU) if name.startswith("cpu") and name[3:].isdecimal()]
    return [(cpu, f"{CPU}/cpu{cpu}/power/pm_qos_resume_latency_us") for cpu in sorted(cpus)]
