"""CPUs: the host's topology, what slices may use, where threads may run."""

import os
import re
from dataclasses import dataclass

CGROUPS = "/sys/fs/cgroup"
CPUS = "/sys/devices/system/cpu"
HOST_SLICES = ("system.slice", "user.slice", "init.scope")
SLICES = (*HOST_SLICES, "machine.slice")

Set = frozenset[int]


def parse(text: str) -> Set:
    """`0-3,8` to a set."""
    found: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def online() -> Set:
    return parse(_read(f"{CPUS}/online"))


def siblings(cpu: int) -> Set:
    return parse(_read(f"{CPUS}/cpu{cpu}/topology/thread_siblings_list"))


def l3(cpu: int) -> Set:
    return parse(_read(f"{CPUS}/cpu{cpu}/cache/index3/shared_cpu_list"))


def node(cpu: int) -> Set:
    """The CPUs of its NUMA node."""
    folder = f"{CPUS}/cpu{cpu}"
    (name,) = [entry for entry in os.listdir(folder) if re.fullmatch(r"node\d+", entry)]
    return parse(_read(f"{folder}/{name}/cpulist"))


def effective(unit: str) -> Set:
    """The CPUs that processes of a slice may use.

    Without the file (the cpuset controller is off there, or the slice does not exist yet) they are the root's.
    """
    for folder in (f"{CGROUPS}/{unit}", CGROUPS):
        try:
            return parse(_read(f"{folder}/cpuset.cpus.effective"))
        except FileNotFoundError:
            continue
    return online()


def slices() -> dict[str, Set]:
    return {unit: effective(unit) for unit in SLICES}


def allowed(pid: str) -> Set:
    """Where the main thread of a process may run."""
    found = re.search(r"^Cpus_allowed_list:\t(.*)$", _read(f"/proc/{pid}/status"), re.MULTILINE)
    return parse(found[1]) if found else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Threads:
    """Where the threads of one domain may run, from /proc."""

    vcpus: dict[int, Set]
    emulator: Set
    iothreads: dict[int, Set]
    others: dict[str, Set]

    @property
    def pinned(self) -> Set:
        """The union of the vCPUs' CPUs."""
        return frozenset().union(*self.vcpus.values())

    @property
    def helpers(self) -> Set:
        """Where all threads but the vCPUs may run."""
        return self.emulator.union(*self.iothreads.values(), *self.others.values())

    @property
    def everything(self) -> Set:
        return self.pinned | self.helpers

    @property
    def single(self) -> bool:
        """Each vCPU has one CPU, and its own."""
        return all(len(cpus) == 1 for cpus in self.vcpus.values()) and len(self.pinned) == len(self.vcpus)

    def cpu(self, vcpu: int) -> int:
        (cpu,) = self.vcpus[vcpu]
        return cpu


def threads(domain: str) -> Threads:
    """Raises OSError when the domain does not run."""
    pid = _read(f"/run/libvirt/qemu/{domain}.pid").strip()
    vcpus: dict[int, Set] = {}
    iothreads: dict[int, Set] = {}
    others: dict[str, Set] = {}
    emulator: Set = frozenset()
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            status = _read(f"/proc/{pid}/task/{tid}/status")
        except (FileNotFoundError, ProcessLookupError):
            continue  # a worker thread that ended meanwhile
        name = re.search(r"^Name:\t(.*)$", status, re.MULTILINE)
        allowed = re.search(r"^Cpus_allowed_list:\t(.*)$", status, re.MULTILINE)
        if name is None or allowed is None:
            continue
        cpus = parse(allowed[1])
        if found := re.fullmatch(r"CPU (\d+)/(?:TCG|KVM)", name[1]):
            vcpus[int(found[1])] = cpus
        elif found := re.fullmatch(r"IO iothread(\d+)", name[1]):
            iothreads[int(found[1])] = cpus
        elif tid == pid:
            emulator = cpus
        else:
            others[f"{name[1]}/{tid}"] = cpus
    return Threads(vcpus=vcpus, emulator=emulator, iothreads=iothreads, others=others)
