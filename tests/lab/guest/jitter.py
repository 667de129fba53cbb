"""How long vCPUs that want to run have to wait beside a busy host: unpinned, pinned alone, isolated, after release.

The measure is a thread's own run delay (/proc/PID/task/TID/schedstat, second field): time on a run queue. Latencies by
the clock are none here, as one thread of the machine's QEMU emulates all CPUs in turn; what the guest's scheduler does
is real, and that is what isolation changes. Each round has every condition once, in an order of its own; figures are
compared within a round. They are notes: what can be red is where threads may run, and do.
"""

import json
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from . import cpus, service
from .domains import Domain
from .jobs import overlaps
from .programs import holds, need, run
from .report import Report, scenario

ROUNDS = 5
SECONDS = 6.0
LIMIT = 90.0
# One of its vCPUs: the other waits for the first to wake it.
SPINS = bytes.fromhex("fa eb fd").ljust(16, b"\x90").rjust(65536, b"\x90")
"""`cli`, then a jump to it."""
POLICY = '[domains]\nprofile = "{}"\n[domain."spins"]\ncpus = "{}"\n'
CONDITIONS = {
    "unpinned": POLICY.format("none", "off"),
    "pinned": POLICY.format("none", "dedicated"),
    "isolated": POLICY.format("balanced", "dedicated"),
}
NOISE = {
    "spin": "while :; do :; done",
    "fork": "while :; do /bin/true; done",
    "write": "while :; do dd if=/dev/zero of=/var/tmp/lab-noise bs=64k count=16 conv=fsync status=none; done",
}
SPINNERS = 20
"""More than CPUs: everyone of the host's wants one, whoever has it."""


@contextmanager
def noise() -> Iterator[None]:
    """There, and stopped: it goes on while something is measured. Under it the daemon itself takes minutes to move."""
    units = [("spin", n) for n in range(SPINNERS)] + [("fork", n) for n in range(2)] + [("write", 0)]
    for kind, number in units:
        need("systemd-run", f"--unit=lab-{kind}-{number}", "--quiet", "sh", "-c", NOISE[kind])
        signal_noise("STOP")
    try:
        yield
    finally:
        for kind, number in units:
            run("systemctl", "stop", f"lab-{kind}-{number}.service")


def signal_noise(name: str) -> None:
    need("systemctl", "kill", f"--signal={name}", "lab-*.service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Of all vCPUs together, in milliseconds a second and vCPU; `ran`: the share of a CPU that each had."""

    delay: float
    ran: float


def tasks(domain: Domain) -> dict[int, str]:
    """vCPU to its thread's folder."""
    with open(f"/run/libvirt/qemu/{domain.name}.pid", encoding="ascii") as file:
        pid = file.read().strip()
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/comm", encoding="ascii") as file:
            name = file.read().strip()
        if name.startswith("CPU "):
            found[int(name.split()[1].partition("/")[0])] = f"/proc/{pid}/task/{tid}"
    return found


def times(domain: Domain) -> tuple[float, float]:
    """Seconds that the vCPUs have run, and that they have waited for a CPU."""
    ran = waited = 0.0
    for folder in tasks(domain).values():
        with open(f"{folder}/schedstat", encoding="ascii") as file:
            numbers = file.read().split()
        ran, waited = ran + int(numbers[0]) / 1e9, waited + int(numbers[1]) / 1e9
    return ran, waited


def sample(domain: Domain) -> Sample:
    signal_noise("CONT")
    time.sleep(1.0)
    begin, (ran, waited) = time.monotonic(), times(domain)
    time.sleep(SECONDS)
    (later_ran, later_waited), wall = times(domain), time.monotonic() - begin
    whole = wall * domain.vcpus
    return Sample(delay=(later_waited - waited) / whole * 1000, ran=(later_ran - ran) / whole)


def runs_on(domain: Domain) -> dict[int, int]:
    """The vCPU that spins to the CPU that its thread runs on (stat, field 39); the other has not run for long."""
    with open(f"{tasks(domain)[0]}/stat", encoding="ascii") as file:
        return {0: int(file.read().rpartition(")")[2].split()[36])}


def is_so(domain: Domain, condition: str) -> bool:
    threads = cpus.threads(domain.name)
    match condition:
        case "unpinned":
            return all(allowed == cpus.online() for allowed in threads.vcpus.values()) and not _confined()
        case "pinned":
            return threads.single and not _confined()
        case _:
            return threads.single and not overlaps(threads.pinned)


def _confined() -> bool:
    return any(cpus.effective(unit) != cpus.online() for unit in cpus.HOST_SLICES)


@scenario(
    "every condition is there when it is measured",
    "pinned vCPUs run where they may",
    "isolated vCPUs run where they may",
    "nothing of the host runs there",
    "figures",
)
def run_delay(report: Report) -> None:
    dice, rounds = random.Random(1), list[dict[str, Sample]]()
    there, ran_well = list[str](), {"pinned": True, "isolated": True}
    strangers = dict[str, int]()
    domain = Domain(name="spins", vcpus=2, threads=2, firmware=SPINS)
    with noise(), domain.defined():
        service.policy(CONDITIONS["unpinned"])
        domain.must_start()
        for _ in range(ROUNDS):
            one = dict[str, Sample]()
            for condition in dice.sample(list(CONDITIONS), len(CONDITIONS)):
                service.policy(CONDITIONS[condition])
                if not holds(lambda condition=condition: is_so(domain, condition), LIMIT):  # type: ignore[misc]
                    there.append(f"{condition}: {cpus.threads(domain.name)}, {cpus.slices()}")
                one[condition] = sample(domain)  # with the noise on
                if condition != "unpinned":
                    allowed = cpus.threads(domain.name).vcpus
                    ran_well[condition] &= all(cpu in allowed[vcpu] for vcpu, cpu in runs_on(domain).items())
                if condition == "isolated":
                    strangers.update(_noise_on(cpus.threads(domain.name).pinned))
                signal_noise("STOP")
            rounds.append(one)
            report.note(json.dumps({name: [round(s.delay, 2), round(s.ran, 3)] for name, s in one.items()}))
        service.policy(CONDITIONS["unpinned"])
        holds(lambda: is_so(domain, "unpinned"), LIMIT)
        after = [sample(domain) for _ in range(3)]
        signal_noise("STOP")
        domain.destroy()
    report.check("every condition is there when it is measured", not there, there)
    report.check("pinned vCPUs run where they may", ran_well["pinned"])
    report.check("isolated vCPUs run where they may", ran_well["isolated"])
    report.check("nothing of the host runs there", not strangers, strangers)
    report.note(json.dumps({"released": [[round(s.delay, 2), round(s.ran, 3)] for s in after]}))
    report.check("figures", len(rounds) == ROUNDS)


def _noise_on(dedicated: cpus.Set) -> Mapping[str, int]:
    """Of the noise, what ran last on one of these CPUs."""
    found = {}
    for number in range(SPINNERS):
        pid = service.show(f"lab-spin-{number}.service", "MainPID")
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            cpu = int(file.read().rpartition(")")[2].split()[36])
        if cpu in dedicated:
            found[f"lab-spin-{number}"] = cpu
    return found


SCENARIOS = (run_delay,)
