"""Partitions of CPUs: what the kernel's own files say before, during and after, by what the kernel can do.

Without cpuset.cpus.exclusive (before Linux 6.7) machine.slice is the partition, with it each domain's scope.
"""

import glob
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import cpus, service, snapshot
from .domains import Domain
from .jobs import RETURNED, check_returned
from .programs import holds, need, run
from .report import Report, scenario

CARD = "0000:01:00.0"
QUIET = 90.0
MACHINES = f"{cpus.CGROUPS}/machine.slice"
STRANGER = f"{cpus.CGROUPS}/lab"
POLICY = '[domains]\nisolation = {{ partition = "{}" }}\n'


def read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def remote() -> bool:
    """Whether a domain's own scope can be one."""
    return os.path.exists(f"{MACHINES}/cpuset.cpus.exclusive")


def scope(name: str) -> str:
    found = glob.glob(f"{MACHINES}/machine-qemu*x2d{name}.scope")
    return found[0] if found else ""


def group(name: str) -> str:
    """The control group that is to be a partition for this domain."""
    return scope(name) if remote() else MACHINES


def kind(path: str) -> str:
    return read(f"{path}/cpuset.cpus.partition")


def own(path: str) -> cpus.Set:
    return cpus.parse(read(f"{path}/cpuset.cpus.effective"))


def everything() -> dict[str, str]:
    """All that can be a partition or hand CPUs down to one, and is more than an empty member."""
    found = {}
    for path in glob.glob(f"{cpus.CGROUPS}/**/cpuset.cpus.partition", recursive=True):
        folder = os.path.dirname(path)
        state = (read(path), read(f"{folder}/cpuset.cpus.exclusive"))
        if state != ("member", ""):
            found[folder] = " ".join(state)
    return found


def reasons() -> list[str]:
    status = json.loads(run("hostler", "status", "--json").out)
    return [refusal["reason"] for refusal in status["refusals"]]


def notes() -> list[str]:
    return list(json.loads(run("hostler", "status", "--json").out)["isolation"]["notes"])


def state(name: str) -> object:
    return {
        "files": everything(),
        "root": read(f"{cpus.CGROUPS}/cpuset.cpus.effective"),
        "threads": cpus.threads(name),
        "slices": {unit: sorted(found) for unit, found in cpus.slices().items()},
        "refusals": reasons(),
    }


def is_made(name: str, wanted: str) -> bool:
    """The kernel says so, every thread is inside, and nobody else is."""
    here = group(name)
    mine = own(here)
    return (
        kind(here) == wanted
        and cpus.threads(name).everything <= mine
        and not mine & cpus.parse(read(f"{cpus.CGROUPS}/cpuset.cpus.effective"))
        and not any(cpus.effective(unit) & mine for unit in cpus.HOST_SLICES)
    )


def victim(name: str = "alone", **more: object) -> Domain:
    given = {"vcpus": 2, "threads": 2, "iothreads": 1, "hostdevs": (CARD,), "managed": False} | more
    return Domain(name=name, **given)  # type: ignore[arg-type]


@scenario(
    "no partition before",
    "isolated, with all its threads and nobody else's",
    "each vCPU has one CPU",
    "the same after a daemon-reload",
    "the same after SIGKILL",
    "made again after somebody's change",
    "no partition afterwards",
    *RETURNED,
)
def isolated(report: Report) -> None:
    service.policy(POLICY.format("isolated"))
    before = snapshot.take()
    report.equal("no partition before", everything(), {})
    with victim().defined() as domain:
        domain.must_start()
        report.within(
            "isolated, with all its threads and nobody else's",
            QUIET,
            lambda: is_made(domain.name, "isolated"),
            lambda: state(domain.name),
        )
        threads = cpus.threads(domain.name)
        report.check(
            "each vCPU has one CPU", threads.single and not threads.helpers & threads.pinned, threads
        )
        report.note(f"during: {state(domain.name)}")
        during = everything()
        need("systemctl", "daemon-reload")
        time.sleep(5.0)
        same = everything() == during and is_made(domain.name, "isolated")
        report.check("the same after a daemon-reload", same, state(domain.name))
        old = service.pid()
        os.kill(old, signal.SIGKILL)
        service.wait_back(old)
        time.sleep(10.0)
        same = everything() == during and is_made(domain.name, "isolated")
        report.check("the same after SIGKILL", same, state(domain.name))
        if remote():
            write(f"{MACHINES}/cpuset.cpus.exclusive", "\n")
        else:
            need("systemctl", "set-property", "--runtime", "system.slice", "AllowedCPUs=0-7")
        report.note(f"somebody's change: {kind(group(domain.name))}")
        report.within(
            "made again after somebody's change",
            QUIET,
            lambda: is_made(domain.name, "isolated") and cpus.threads(domain.name).single,
            lambda: state(domain.name),
        )
        domain.destroy()
        holds(lambda: not everything(), QUIET)
        report.equal("no partition afterwards", everything(), {})
        check_returned(report, before)
    service.policy("")


@scenario("root", "killed on the way back", "no partition afterwards", "runs all the while", *RETURNED)
def balanced(report: Report) -> None:
    """With load balancing; and given up while the domain runs, by a daemon that is killed at that."""
    service.policy(POLICY.format("root"))
    before = snapshot.take()
    with victim().defined() as domain:
        domain.must_start()
        report.within("root", QUIET, lambda: is_made(domain.name, "root"), lambda: state(domain.name))
        with service.KillAt("partition") as killer:
            service.policy("")
            holds(lambda: killer.fired, 30.0)
        report.check("killed on the way back", killer.fired, service.log("-n", "20"))
        service.wait_back(killer.pid)
        report.within("no partition afterwards", QUIET, lambda: not everything(), everything)
        report.equal("runs all the while", domain.state(), "running")
        domain.destroy()
        check_returned(report, before)


@contextmanager
def stranger(wanted: str) -> Iterator[None]:
    """A control group at the top that systemd does not know, with a process, and with CPUs that it will not share."""
    os.mkdir(STRANGER)
    process = subprocess.Popen(["sleep", "infinity"])
    try:
        write(f"{STRANGER}/cgroup.procs", str(process.pid))
        if os.path.exists(f"{STRANGER}/cpuset.cpus"):
            write(f"{STRANGER}/{wanted}", "1-7")  # not all of them: nobody else may be left without any
        yield
    finally:
        process.kill()
        process.wait(10.0)
        holds(lambda: "populated 0" in read(f"{STRANGER}/cgroup.events"), 10.0)
        os.rmdir(STRANGER)


@scenario(
    "runs without a partition", "the kernel's reason is told", "the group that is no unit is named", *RETURNED
)
def invalid(report: Report) -> None:
    service.policy(POLICY.format("isolated"))
    before = snapshot.take()
    # One that runs already turns the controller on, so that the stranger can have CPUs.
    with victim("first", hostdevs=(), iothreads=0).defined() as first, victim().defined() as domain:
        first.must_start()
        new = remote()
        with stranger("cpuset.cpus.exclusive" if new else "cpuset.cpus"):
            first.destroy()
            domain.must_start()
            words = "cpuset.cpus.exclusive" if new else "Cpu list in cpuset.cpus not exclusive"
            report.within(
                "the kernel's reason is told",
                QUIET,
                lambda: any(words in reason for reason in reasons()),
                lambda: state(domain.name),
            )
            report.note(f"{kind(group(domain.name))}; {reasons()}")
            made = kind(group(domain.name)) == "isolated"
            report.check("runs without a partition", domain.state() == "running" and not made, everything())
            named = [note for note in notes() if "control group lab is no unit" in note]
            report.check("the group that is no unit is named", named, notes())
            domain.destroy()
        holds(lambda: not everything(), QUIET)
        check_returned(report, before)
    service.policy("")


@scenario("refused where vCPUs share CPUs", "refused where the emulator is outside", "they run", *RETURNED)
def refused(report: Report) -> None:
    service.policy(POLICY.format("isolated"))
    before = snapshot.take()
    states = []
    with victim(pins={0: "2-3", 1: "2-3"}).defined() as domain:
        domain.must_start()
        report.within(
            "refused where vCPUs share CPUs",
            QUIET,
            lambda: any("not pinned one to one" in reason for reason in reasons()),
            reasons,
        )
        states.append(domain.state())
        domain.destroy()
    with victim().defined() as domain:
        domain.must_start()
        holds(lambda: is_made(domain.name, "isolated"), QUIET)
        need("virsh", "-c", "qemu:///system", "destroy", domain.name)
        xml = need("virsh", "-c", "qemu:///system", "dumpxml", domain.name)
        tuned = "<cputune><emulatorpin cpuset='0-7'/></cputune><os"
        need("virsh", "-c", "qemu:///system", "define", _written(xml.replace("<os", tuned, 1)))
        domain.must_start()
        report.within(
            "refused where the emulator is outside",
            QUIET,
            lambda: any("every thread needs a CPU inside" in reason for reason in reasons()),
            reasons,
        )
        states.append(domain.state())
        domain.destroy()
    report.equal("they run", states, ["running", "running"])
    check_returned(report, before)
    service.policy("")


def _written(xml: str) -> str:
    path = "/var/lib/lab/tuned.xml"
    write(path, xml)
    return path


@scenario("as this kernel can", "alone again", "nothing afterwards", *RETURNED)
def two(report: Report) -> None:
    """A second domain that shares the host's CPUs: it has none inside, so before 6.7 it ends the partition."""
    service.policy(POLICY.format("isolated") + '[domain."shares"]\nprofile = "none"\n')
    before = snapshot.take()
    other = Domain(name="shares", vcpus=1, memory=32)
    with victim().defined() as domain, other.defined():
        domain.must_start()
        holds(lambda: is_made(domain.name, "isolated"), QUIET)
        other.must_start()
        if remote():
            report.within(
                "as this kernel can",
                QUIET,
                lambda: (
                    is_made(domain.name, "isolated")
                    and not cpus.threads(other.name).everything & own(group(domain.name))
                ),
                lambda: (state(domain.name), cpus.threads(other.name)),
            )
        else:
            report.within(
                "as this kernel can",
                QUIET,
                lambda: not everything() and any("only all of machine.slice" in why for why in reasons()),
                lambda: state(domain.name),
            )
        other.destroy()
        report.within(
            "alone again", QUIET, lambda: is_made(domain.name, "isolated"), lambda: state(domain.name)
        )
        domain.destroy()
        holds(lambda: not everything(), QUIET)
        report.equal("nothing afterwards", everything(), {})
        check_returned(report, before)
    service.policy("")


SCENARIOS = (isolated, balanced, invalid, refused, two)
