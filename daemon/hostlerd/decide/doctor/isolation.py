"""What the kernel was told at boot about CPUs, against what domains would have: isolcpus=, nohz_full=, rcu_nocbs=.

Sources: Documentation/admin-guide/kernel-parameters.txt (nohz_full= offloads the RCU callbacks of its CPUs as if
rcu_nocbs= named them, too), Documentation/admin-guide/cpu-isolation.rst (cpusets are the way that can be changed;
what each costs), Documentation/timers/no_hz.rst (the boot CPU is taken out of nohz_full=; one runnable task a CPU or
no gain).
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.decide.doctor.shares import Share
from hostlerd.model.checkup import Checkup
from hostlerd.model.command_line import parse_cpus, parse_isolcpus
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.findings import Finding, unknown

NAMES = ("isolcpus", "nohz_full", "rcu_nocbs")


def examine(checkup: Checkup, share: Share) -> Iterator[Finding]:
    line, topology = checkup.boot.command_line, checkup.observed.topology
    if line is None and not (checkup.described and checkup.isolation_told):
        yield unknown(
            "boot-isolation", "whether CPUs are isolated since boot", "there is no /proc/cmdline to read"
        )
        return
    found = [*_isolcpus(checkup, share), *_nohz_full(checkup, share), *_rcu_nocbs(checkup, share)]
    yield from found
    if not found and not topology.isolated and not topology.nohz_full:
        yield Finding(
            id="boot-isolation",
            severity="ok",
            what="no CPU is taken from the host since boot",
            why="hostler keeps the host off a domain's CPUs while that runs, and no longer",
            evidence="/proc/cmdline: no isolcpus=, nohz_full="
            if line
            else "/sys/devices/system/cpu/isolated: none",
        )
    if share.realtime and not topology.nohz_full:
        yield Finding(
            id="realtime",
            severity="note",
            what=f"the profile realtime is asked for by {', '.join(share.realtime)}, and no CPU is free of the "
            f"timer tick",
            why="that can only be had at boot",
            do="see the line for realtime below, and what it costs",
            evidence="/sys/devices/system/cpu/nohz_full: none",
        )


def wanted_at_boot(checkup: Checkup) -> dict[str, CpuSet]:
    """Which of NAMES are there, with the CPUs that make sense."""
    line, possible = checkup.boot.command_line, checkup.observed.topology.possible
    if line is None:
        return {}
    found: dict[str, CpuSet] = {}
    for value in line.values("isolcpus"):
        isolcpus = parse_isolcpus(value)
        if "domain" in isolcpus.flags:
            found["isolcpus"] = found.get("isolcpus", frozenset()) | (isolcpus.cpus or frozenset())
    for name in NAMES[1:]:
        told = line.value(name)
        if told is not None:
            found[name] = parse_cpus(told, possible=possible) or frozenset()
    return found


def fits_not(checkup: Checkup, share: Share, name: str) -> bool:
    """It names CPUs that no domain would have, nor could have if one were defined."""
    cpus = wanted_at_boot(checkup).get(name)
    return share.known and cpus is not None and bool(cpus - share.fitting)


def _wastes(checkup: Checkup, share: Share, name: str) -> bool:
    """It names CPUs that no domain would have."""
    cpus = wanted_at_boot(checkup).get(name)
    return share.known and cpus is not None and bool(cpus - share.cpus)


def _isolcpus(checkup: Checkup, share: Share) -> Iterator[Finding]:
    line, topology = checkup.boot.command_line, checkup.observed.topology
    written = () if line is None else line.written("isolcpus")
    evidence = f"/proc/cmdline: {' '.join(written)}" if written else "/sys/devices/system/cpu/isolated"
    values = () if line is None else line.values("isolcpus")
    if any(parse_isolcpus(value).cpus is None for value in values):
        yield Finding(
            id="isolcpus",
            severity="warning",
            what=f"the kernel makes no sense of {' '.join(written)}",
            why="it overlooks the whole word",
            do="mend its CPU list",
            evidence=evidence,
        )
        return
    cpus = wanted_at_boot(checkup).get("isolcpus")
    if cpus is None:
        if line is not None or not topology.isolated:
            return
        cpus = topology.isolated
    yield from _absent(checkup, "isolcpus", cpus, evidence)
    wasted = (cpus - share.cpus) & topology.online if share.known else frozenset[int]()
    if wasted:
        none = "no domain gets CPUs of its own" if not share.cpus else "no domain would get them"
        yield Finding(
            id="isolcpus",
            severity="warning",
            what=f"CPUs {format_cpu_list(wasted)} are taken from the host for good, and {none}",
            why="nothing is balanced onto isolated CPUs: the host does not use them, and threads that are let "
            "onto them pile up on the first one",
            do=f"isolate {format_cpu_list(share.cpus)} instead"
            if share.cpus
            else (
                "" if fits_not(checkup, share, "isolcpus") else "define the domain that is to have them, or "
            )
            + "take isolcpus= off the kernel command line: hostler clears CPUs while a domain runs",
            evidence=evidence + (f"; the plan for {', '.join(share.whom)}" if share.whom else "; no domain"),
        )
        return
    yield Finding(
        id="isolcpus",
        severity="note",
        what=f"CPUs {format_cpu_list(cpus)} are taken from the host for good",
        why="the host cannot use them while no domain runs; hostler clears a domain's CPUs only while it runs"
        if share.known
        else "whether domains have just these is not known: their definitions were not read",
        do="take isolcpus= off the kernel command line if that is not what you want",
        evidence=evidence,
    )


def _nohz_full(checkup: Checkup, share: Share) -> Iterator[Finding]:
    line, topology, config = checkup.boot.command_line, checkup.observed.topology, checkup.boot.config
    cpus = wanted_at_boot(checkup).get("nohz_full")
    if cpus is None or line is None:
        return
    evidence = f"/proc/cmdline: {' '.join(line.written('nohz_full'))}"
    yield from _absent(checkup, "nohz_full", cpus, evidence)
    text = format_cpu_list(cpus)
    if config is not None and config.get("CONFIG_NO_HZ_FULL") == "n":
        yield Finding(
            id="nohz_full",
            severity="warning",
            what="nohz_full= has no effect",
            why="this kernel was built without CONFIG_NO_HZ_FULL",
            do="take it off the kernel command line",
            evidence=evidence,
        )
    elif _wastes(checkup, share, "nohz_full"):
        wasted = format_cpu_list(cpus - share.cpus)
        yield Finding(
            id="nohz_full",
            severity="warning",
            what=f"CPUs {wasted} pay for a stopped timer tick, and no domain would get them",
            why="every entry into the kernel costs more there, and the tick stops only where a single task runs",
            do=f"name {format_cpu_list(share.cpus)} instead"
            if share.cpus
            else "take nohz_full= off the kernel command line",
            evidence=evidence,
        )
    else:
        boot = topology.cpus and topology.cpus[0].id in cpus
        yield Finding(
            id="nohz_full",
            severity="note",
            what=f"the timer tick stops on CPUs {text} where a single task runs",
            why="RCU's callbacks are kept off them, too, without rcu_nocbs=; entries into the kernel cost more there"
            + ("; the CPU the host boots on is left out by the kernel" if boot else ""),
            evidence=evidence,
        )


def _rcu_nocbs(checkup: Checkup, share: Share) -> Iterator[Finding]:
    line = checkup.boot.command_line
    found = wanted_at_boot(checkup)
    cpus, ticks = found.get("rcu_nocbs"), found.get("nohz_full", frozenset[int]())
    if cpus is None or line is None:
        return
    evidence = f"/proc/cmdline: {' '.join(line.written('rcu_nocbs'))}"
    yield from _absent(checkup, "rcu_nocbs", cpus, evidence)
    if _wastes(checkup, share, "rcu_nocbs") and cpus != ticks:
        yield Finding(
            id="rcu_nocbs",
            severity="note",
            what=f"RCU's callbacks are kept off CPUs {format_cpu_list(cpus - share.cpus)}, and no domain would "
            f"get them",
            why="it costs a little more work elsewhere",
            do=f"name {format_cpu_list(share.cpus)} instead" if share.cpus else "take rcu_nocbs= off",
            evidence=evidence,
        )
    else:
        yield Finding(
            id="rcu_nocbs",
            severity="ok",
            what=f"RCU's callbacks are kept off CPUs {format_cpu_list(cpus)}",
            evidence=evidence,
        )


def _absent(checkup: Checkup, name: str, cpus: CpuSet, evidence: str) -> Iterator[Finding]:
    possible = checkup.observed.topology.possible
    missing = cpus - possible if possible else frozenset[int]()
    if missing:
        yield Finding(
            id=f"{name}.absent",
            severity="warning",
            what=f"{name}= names CPUs {format_cpu_list(missing)}, which this host does not have",
            why="the line was written for another machine, or for another setting of SMT",
            do="mend its CPU list",
            evidence=evidence,
        )
