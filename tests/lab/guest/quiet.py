"""The kernel's own files for the quiet of a domain's CPUs: before, during and after, and with SIGKILL in between.

A guest here enables no interrupts, so a small VFIO program (vectors.py) stands for it.
"""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import cpus, service, snapshot
from .domains import Domain
from .jobs import RETURNED, check_returned, settled
from .programs import holds, need, run, virsh
from .report import Report, scenario

CARD, SOUND = "0000:01:00.0", "0000:01:00.1"
QUIET = 90.0
PROFILE = '[domains]\nprofile = "{}"\n'
MASKS = (
    "/proc/irq/default_smp_affinity",
    "/sys/devices/virtual/workqueue/cpumask",
    "/sys/devices/virtual/workqueue/writeback/cpumask",
)
NUMBERS = (
    "/proc/sys/vm/stat_interval",
    "/proc/sys/kernel/timer_migration",
    "/proc/sys/kernel/watchdog_cpumask",
)


def read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def mask(path: str) -> cpus.Set:
    value = int(read(path).replace(",", "") or "0", 16)
    return frozenset(i for i in range(value.bit_length()) if value >> i & 1)


def interrupts() -> dict[str, str]:
    """Number and user to affinity, of those that somebody uses."""
    found = {}
    for number in filter(str.isdecimal, os.listdir("/proc/irq")):
        actions = read(f"/sys/kernel/irq/{number}/actions")
        if actions:
            found[f"{number} {actions}"] = read(f"/proc/irq/{number}/smp_affinity_list")
    return found


def latencies() -> dict[int, str]:
    path = "/sys/devices/system/cpu/cpu{}/power/pm_qos_resume_latency_us"
    return {cpu: read(path.format(cpu)) for cpu in sorted(cpus.online())}


def kthreads() -> dict[str, str]:
    """Threads of the kernel that may run on several CPUs, kthreadd among them."""
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if len(fields) > 6 and int(fields[6]) & 0x00200000 and not int(fields[6]) & 0x04000000:
            status = re.search(r"^Cpus_allowed_list:\t(.*)$", read(f"/proc/{pid}/status"), re.MULTILINE)
            if status and ("," in status[1] or "-" in status[1]):
                found[f"{pid} {read(f'/proc/{pid}/comm')}"] = status[1]
    return found


def everything() -> dict[str, object]:
    """What must be as it was. Threads of the kernel come and go: only those that are still there count."""
    return {
        **{path: read(path) for path in (*MASKS, *NUMBERS)},
        **interrupts(),
        **{f"latency of {cpu}": text for cpu, text in latencies().items()},
    }


def differences(before: dict[str, object]) -> list[str]:
    """Without interrupts of the card's sound: they end with its driver, and it requests another."""
    before = {what: was for what, was in before.items() if "snd_hda" not in what}
    now = everything()
    return [
        f"{what}: was {was!r}, is {now[what]!r}" for what, was in before.items() if now.get(what, was) != was
    ]


def movable() -> dict[str, cpus.Set]:
    """By number and user, those that the kernel does not manage (their affinity can be written, to the same)."""
    found = {}
    for name, affinity in interrupts().items():
        path = f"/proc/irq/{name.split()[0]}/smp_affinity_list"
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(affinity)
        except OSError:
            continue
        found[name] = cpus.parse(affinity)
    return found


def strays(house: cpus.Set) -> dict[str, list[int]]:
    return {name: sorted(there - house) for name, there in movable().items() if there - house}


def its(domain: Domain) -> cpus.Set:
    """Its CPUs now: where its memory turns out to be it is moved to, once."""
    return cpus.threads(domain.name).pinned


def the_hosts(domain: Domain) -> cpus.Set:
    return cpus.online() - its(domain)


@contextmanager
def unbalanced() -> Iterator[None]:
    """Without irqbalance, which moves interrupts on its own while nobody is isolated."""
    ran = run("systemctl", "is-active", "irqbalance").ok
    run("systemctl", "stop", "irqbalance")
    try:
        yield
    finally:
        if ran:
            run("systemctl", "start", "irqbalance")


def balancer_says() -> str:
    """What irqbalance answers to `setup`: the interrupts and CPUs that it keeps off."""
    folder = "/run/irqbalance"
    names = [name for name in os.listdir(folder) if name.endswith(".sock")] if os.path.isdir(folder) else []
    if not names:
        return ""
    credentials = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(10.0)
        one.connect(f"{folder}/{names[0]}")
        one.sendmsg([b"setup"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
        return one.recv(65536).decode(errors="replace")


def banned() -> cpus.Set:
    found = re.search(r"BANNED ([0-9a-f,]+)", balancer_says())
    value = int(found[1].replace(",", ""), 16) if found else 0
    return frozenset(i for i in range(value.bit_length()) if value >> i & 1)


@scenario("it keeps off its CPUs", "interrupts stay off them", "it is told back", *RETURNED)
def irqbalance(report: Report) -> None:
    """It looks every ten seconds; a minute shows whether it moves anything back."""
    before = snapshot.take()
    if not balancer_says():
        need("systemctl", "restart", "irqbalance")
        holds(lambda: bool(balancer_says()), 30.0)
    with Domain(name="balanced", vcpus=2, threads=2, hostdevs=(CARD,), managed=False).defined() as domain:
        domain.must_start()
        settled(domain.name)
        time.sleep(20.0)
        report.within("it keeps off its CPUs", QUIET, lambda: banned() == its(domain), balancer_says)
        holds(lambda: not strays(the_hosts(domain)), QUIET)
        stray = holds(lambda: bool(strays(the_hosts(domain))), 40.0)
        report.check("interrupts stay off them", not stray, strays(the_hosts(domain)))
        domain.destroy()
        report.within("it is told back", QUIET, lambda: not banned(), balancer_says)
        check_returned(report, before)


@scenario(
    "interrupts keep off its CPUs",
    "some cannot be moved, which is counted",
    "work queues keep off its CPUs",
    "nothing else is changed",
    "as it was",
    *RETURNED,
)
def balanced(report: Report) -> None:
    before = snapshot.take()
    with unbalanced(), Domain(name="quiet", vcpus=2, hostdevs=(CARD,), managed=False).defined() as domain:
        settings = everything()
        domain.must_start()
        settled(domain.name)
        report.within(
            "interrupts keep off its CPUs",
            QUIET,
            lambda: not strays(the_hosts(domain)),
            lambda: strays(the_hosts(domain)),
        )
        status = json.loads(run("hostler", "status", "--json").out)
        counted = status["isolation"]["interrupts"]
        report.check(
            "some cannot be moved, which is counted",
            counted["moved"] > 0
            and 0 < counted["immovable"] <= len(interrupts()) - len(movable())
            and not status["degraded"],
            (counted, status["degraded"]),
        )
        report.within(
            "work queues keep off its CPUs",
            QUIET,
            lambda: all(mask(path) == the_hosts(domain) for path in MASKS),
            lambda: {path: read(path) for path in MASKS},
        )
        report.equal("nothing else is changed", [read(p) for p in NUMBERS], [settings[p] for p in NUMBERS])
        domain.destroy()
        holds(lambda: not differences(settings), QUIET)
        report.equal("as it was", differences(settings), [])
        check_returned(report, before)


@scenario(
    "statistics, timers and the watchdog",
    "its CPUs wake up in time",
    "threads of the kernel keep off its CPUs",
    "the same after SIGKILL",
    "as it was",
    "threads as they were",
    *RETURNED,
)
def latency(report: Report) -> None:
    service.policy(PROFILE.format("latency"))
    before = snapshot.take()
    with unbalanced(), Domain(name="quick", vcpus=2, hostdevs=(CARD,), managed=False).defined() as domain:
        settings, threads = everything(), kthreads()
        domain.must_start()
        settled(domain.name)

        def quiet() -> bool:
            return (
                [read(path) for path in NUMBERS[:2]] == ["10", "0"]
                and cpus.parse(read(NUMBERS[2])) == the_hosts(domain)
                and not strays(the_hosts(domain))
            )

        def wanted() -> dict[int, str]:
            mine = its(domain)
            return {cpu: "20" if cpu in mine else "0" for cpu in sorted(cpus.online())}

        report.within(
            "statistics, timers and the watchdog", QUIET, quiet, lambda: [read(path) for path in NUMBERS]
        )
        report.within("its CPUs wake up in time", QUIET, lambda: latencies() == wanted(), latencies)

        def roaming() -> dict[str, str]:
            now = kthreads()
            return {
                name: now[name] for name in threads if name in now and cpus.parse(now[name]) & its(domain)
            }

        report.within("threads of the kernel keep off its CPUs", QUIET, lambda: not roaming(), roaming)
        during, old = everything(), service.pid()
        os.kill(old, signal.SIGKILL)
        service.wait_back(old)
        time.sleep(10.0)
        same = quiet() and not differences(during) and not roaming()
        report.check("the same after SIGKILL", same, differences(during))
        domain.destroy()
        holds(lambda: not differences(settings), QUIET)
        report.equal("as it was", differences(settings), [])

        def moved() -> list[str]:
            now = kthreads()
            return [f"{name}: {now[name]}" for name, was in threads.items() if now.get(name, was) != was]

        report.within("threads as they were", QUIET, lambda: not moved(), moved)
        check_returned(report, before)
    service.policy("")


@contextmanager
def guest(domain: Domain) -> Iterator[subprocess.Popen[str]]:
    """Who turns the interrupts of a domain's device on and off."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vectors.py")
    pid = read(f"/run/libvirt/qemu/{domain.name}.pid")
    process = subprocess.Popen(
        [sys.executable, program, pid], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10.0)


def turn(process: subprocess.Popen[str], word: str) -> bool:
    if process.stdin is None or process.stdout is None:
        return False
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return process.stdout.readline().strip() == word


def message_signalled(address: str) -> dict[str, str]:
    return {name: text for name, text in interrupts().items() if f"vfio-msi[0]({address})" in name}


@scenario("there is a vector", "near the domain and off its CPUs", "off", "again after a restart", *RETURNED)
def late_vectors(report: Report) -> None:
    """The vector of a guest comes late, goes, and comes again when the guest restarts: no event tells of it."""
    before = snapshot.take()
    with Domain(name="late", vcpus=2, threads=2, hostdevs=(CARD, SOUND), managed=False).defined() as domain:
        domain.must_start()
        settled(domain.name)

        def wanted() -> cpus.Set:
            mine = its(domain)
            return frozenset[int]().union(*(cpus.node(cpu) for cpu in mine)) - mine

        def near() -> bool:
            found = message_signalled(SOUND)
            return bool(found) and all(cpus.parse(text) == wanted() for text in found.values())

        def detail() -> object:
            return message_signalled(SOUND), sorted(wanted())

        with guest(domain) as process:
            report.check("there is a vector", turn(process, "on") and message_signalled(SOUND), interrupts())
            report.within("near the domain and off its CPUs", QUIET, near, detail)
            report.check("off", turn(process, "off") and not message_signalled(SOUND), interrupts())
            virsh("reset", domain.name)
            turn(process, "on")
            report.within("again after a restart", QUIET, near, detail)
        domain.destroy()
        check_returned(report, before)


SCENARIOS = (balanced, irqbalance, latency, late_vectors)
