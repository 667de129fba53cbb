"""Huge pages of domains: before the start, while they run and after, from the kernel's own files.

Two nodes of 2 GiB each; pages of 2 MiB. Nobody else in the guest uses huge pages.
"""

import contextlib
import os
import re
from collections.abc import Iterator

from . import service
from .domains import Domain
from .kills import comes_back
from .programs import holds, run
from .report import Report, scenario

NODES = "/sys/devices/system/node"
PAGE = 2048
"""KiB."""
LIMIT = 60.0
POOL = f"hugepages-{PAGE}kB"


def counts(node: int) -> tuple[int, int, int]:
    """Total, free and surplus."""
    folder = f"{NODES}/node{node}/hugepages/{POOL}"
    return (
        _number(f"{folder}/nr_hugepages"),
        _number(f"{folder}/free_hugepages"),
        _number(f"{folder}/surplus_hugepages"),
    )


def _number(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())


def put(node: int, pages: int) -> None:
    """As an administrator does it."""
    with open(f"{NODES}/node{node}/hugepages/{POOL}/nr_hugepages", "w", encoding="ascii") as file:
        file.write(f"{pages}\n")


def everything() -> list[tuple[int, int, int]]:
    return [counts(0), counts(1)]


def settles(wanted: list[tuple[int, int, int]]) -> bool:
    return holds(lambda: everything() == wanted, LIMIT)


EMPTY = [(0, 0, 0), (0, 0, 0)]


def node_kib(node: int) -> int:
    with open(f"{NODES}/node{node}/meminfo", encoding="ascii") as file:
        found = re.search(r"MemTotal:\s+(\d+)", file.read())
    return int(found[1]) if found else 0


def dropped() -> int:
    """How often caches were dropped since the boot."""
    with open("/proc/vmstat", encoding="ascii") as file:
        return int(dict(line.split() for line in file)["drop_pagecache"])


def huge(name: str, *, node: int, memory: int = 128) -> Domain:
    backing = (
        "<memoryBacking><hugepages/></memoryBacking>"
        f"<numatune><memory mode='strict' nodeset='{node}'/></numatune>"
    )
    return Domain(name=name, memory=memory, backing=backing)


RULES = "/etc/apparmor.d/local/abstractions/libvirt-qemu"


def let_qemu_read_nodes() -> None:
    """Debian 12: libvirt has QEMU preallocate by threads near the node (thread-context), which looks for the node's
    CPUs, and AppArmor's rules of libvirt do not let it: "The nodes select no CPUs".
    """
    os.makedirs(os.path.dirname(RULES), exist_ok=True)
    with open(RULES, "w", encoding="ascii") as file:
        file.write("/sys/devices/system/node/node[0-9]*/cpumap r,\n")


@contextlib.contextmanager
def emptied() -> Iterator[None]:
    """No huge pages before and after, so that one failed scenario does not fail the next."""
    let_qemu_read_nodes()
    for node in (0, 1):
        put(node, 0)
    try:
        yield
    finally:
        for node in (0, 1):
            put(node, 0)


@scenario(
    "none before",
    "the plan shows it",
    "starts",
    "added on its node, and in use",
    "said in `hostler domains`",
    "said in `hostler status`",
    "none after",
    "what is there already is used",
    "and left there",
)
def reserved(report: Report) -> None:
    with emptied(), huge("huge", node=1).defined() as domain:
        report.equal("none before", everything(), EMPTY)
        plan = run("hostler", "plan", "--domain", domain.name)
        step = "hugepages" in plan.out and "node1" in plan.out and "0 -> 64" in plan.out
        report.check("the plan shows it", step and everything() == EMPTY, plan)
        started = domain.start()
        report.check("starts", started.ok, started)
        report.equal("added on its node, and in use", everything(), [(0, 0, 0), (64, 0, 0)])
        shown = run("hostler", "domains", domain.name)
        report.check("said in `hostler domains`", "64 of 2 MiB added on node 1" in shown.out, shown)
        shown = run("hostler", "status")
        report.check("said in `hostler status`", "64 of 2 MiB on node 1 for huge" in shown.out, shown)
        domain.destroy()
        report.check("none after", settles(EMPTY), everything())
        put(1, 100)
        domain.must_start()
        report.equal("what is there already is used", everything(), [(0, 0, 0), (100, 36, 0)])
        domain.destroy()
        report.check("and left there", settles([(0, 0, 0), (100, 100, 0)]), everything())


@scenario(
    "far too many are refused",
    "without a try",
    "more than the kernel can give are refused",
    "with how many of how many",
    "given back",
    "no caches dropped unasked",
    "once where policy lets it",
    "and given back then, too",
    "a domain of the right size starts",
)
def too_many(report: Report) -> None:
    with emptied():
        with huge("far", node=0, memory=4096).defined() as domain:
            refused = domain.start()
            report.check(
                "far too many are refused",
                not refused.ok and "all memory there would be" in refused.err,
                refused,
            )
            report.check("without a try", everything() == EMPTY, everything())
        # More than the kernel has left of the node, which has its own and our programs on it.
        most = node_kib(1) // 1024 - 40
        before = dropped()
        with huge("many", node=1, memory=most).defined() as domain:
            refused = domain.start()
            report.check("more than the kernel can give are refused", not refused.ok, refused)
            told = re.search(rf"and (\d+) of {most // 2 + most % 2} can be had", refused.err)
            report.check("with how many of how many", told is not None and int(told[1]) > 0, refused)
            report.check("given back", settles(EMPTY), everything())
            report.equal("no caches dropped unasked", dropped(), before)
            service.policy("[domains]\nhugepages = { compact = true, drop_caches = true }\n")
            domain.start()
            report.equal("once where policy lets it", dropped(), before + 1)
            report.check("and given back then, too", settles(EMPTY), everything())
        # On a node that is in pieces by now, which is what compaction is for.
        with huge("right", node=0).defined() as domain:
            started = domain.start()
            report.check("a domain of the right size starts", started.ok, started)
        service.policy("")


@scenario("both run", "the first goes", "what was added by hand stays", "the second goes")
def two(report: Report) -> None:
    with emptied(), huge("one", node=0).defined() as one, huge("other", node=0, memory=64).defined() as other:
        one.must_start()
        other.must_start()
        report.equal("both run", everything(), [(96, 0, 0), (0, 0, 0)])
        put(0, 106)
        one.destroy()
        report.check("the first goes", settles([(42, 10, 0), (0, 0, 0)]), everything())
        other.destroy()
        report.check("what was added by hand stays", settles([(10, 10, 0), (0, 0, 0)]), everything())
        put(0, 0)
        report.check("the second goes", settles(EMPTY), everything())


KILLED = ("killed at the step", "comes back", "all or nothing", "starts later", "none in the end")


def check_killed(report: Report, at: str) -> None:
    """Kill while a start is prepared. Answers all of KILLED."""
    with emptied(), huge("cut", node=1).defined() as domain:
        with service.KillAt("hugepages", at=at) as killer:
            started = domain.start()
        report.check("killed at the step", killer.fired, f"no step in {service.JOURNAL}; start: {started}")
        comes_back(report, killer)

        def whole() -> bool:
            runs = domain.state() == "running"
            return everything() == ([(0, 0, 0), (64, 0, 0)] if runs else EMPTY)

        report.check("all or nothing", holds(whole, LIMIT), f"{domain.state()} {everything()}")
        if domain.state() != "running":
            started = domain.start()
        report.check("starts later", domain.state() == "running", started)
        if domain.state() == "running":
            domain.destroy()
        report.check("none in the end", settles(EMPTY), everything())


@scenario(*KILLED)
def killed_at_the_write(report: Report) -> None:
    check_killed(report, "begin")


@scenario(*KILLED)
def killed_after_the_write(report: Report) -> None:
    check_killed(report, "end")


@scenario(
    "killed while it runs",
    "the pages stay",
    "killed while they are taken away",
    "comes back",
    "none in the end",
)
def killed_while_it_runs(report: Report) -> None:
    with emptied(), huge("kept", node=1).defined() as domain:
        domain.must_start()
        before = service.pid()
        service.kill()
        report.check("killed while it runs", service.pid() != before, before)
        report.equal("the pages stay", everything(), [(0, 0, 0), (64, 0, 0)])
        with service.KillAt("hugepages") as killer:
            domain.destroy()
            holds(lambda: killer.fired, 30.0)
        report.check("killed while they are taken away", killer.fired, f"no step in {service.JOURNAL}")
        comes_back(report, killer)
        report.check("none in the end", settles(EMPTY), everything())


SCENARIOS = (reserved, too_many, two, killed_at_the_write, killed_after_the_write, killed_while_it_runs)
