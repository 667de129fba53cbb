"""Where a domain begins on a host with two nodes: its memory cannot be moved once a device is mapped into it."""

from __future__ import annotations

import os

from hostlerd.host.simulated.hosts import SERVER
from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.sunny import vcpu_pins
from hostlerd.host.simulated.story.telling import Telling
from hostlerd.model.cpuset import CpuSet, format_cpu_list

DISK = "0000:c0:02.0"
"""At node 1."""
POLICY = '[domain."db"]\nwrite_config = true\n'
LIMIT = 15.0


def play(folder: str, tell: Telling) -> None:
    folder = os.path.join(folder, "server")
    os.mkdir(folder)
    stage = Stage(folder, "server")
    stage.start()
    try:
        _play(stage, tell)
    finally:
        stage.end()


def _play(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "Where a domain begins",
        "On another host, with two nodes: db has the disk at node 1. Its memory is pinned before anybody hears of the "
        "start, on the node where QEMU happens to run.",
    )
    near, far = SERVER.processors.of_nodes()[1], SERVER.processors.of_nodes()[0]
    stage.simulate("define", name="db", devices=DISK, cores=2)
    _start(stage, tell)
    cpus = _pinned(stage)
    tell.check(
        "its memory is at node 0, and its vCPUs go where that is", cpus <= far and bool(cpus), _text(cpus)
    )
    _stop(stage, tell)
    _policy(stage, tell, POLICY)
    stage.until(lambda: len(vcpu_pins(stage.show(), "db")) == 4, LIMIT)
    tell.command("hostler domains db", stage.client("domains", "db").text)
    planned = vcpu_pins(stage.show(), "db")
    tell.check("while it is off its definition gets pins near the disk", _all(planned) <= near, planned)
    _start(stage, tell)
    cpus = _pinned(stage)
    tell.command("hostler domains db", stage.client("domains", "db").text)
    tell.check("it begins there, and nothing has to be moved", vcpu_pins(stage.show(), "db") == planned, cpus)
    memory = stage.ask("domains", name="db")["domains"][0]["memory"] or []
    most = max(memory, key=lambda row: row["kib"], default={"node": None})["node"]
    tell.check("its memory is at node 1, beside its disk and its vCPUs", most == 1, memory)
    warnings = stage.ask("status")["warnings"]
    tell.check("there is nothing to be warned of", not warnings, warnings)
    _stop(stage, tell)
    _policy(stage, tell, "")
    stage.until(lambda: not vcpu_pins(stage.show(), "db"), LIMIT)
    left = stage.show()["domains"]["db"]["pins"]
    tell.check("without that policy its definition is as it was", not left, left)


def _start(stage: Stage, tell: Telling) -> None:
    tell.command("hostler simulate start name=db", stage.client("simulate", "start", "name=db").text)


def _stop(stage: Stage, tell: Telling) -> None:
    tell.command("hostler simulate stop name=db", stage.client("simulate", "stop", "name=db").text)
    stage.settled()


def _pinned(stage: Stage) -> CpuSet:
    """Its CPUs once it has some and its memory has been looked at."""

    def done() -> bool:
        known = stage.ask("domains", name="db")["domains"][0]["memory"]
        return bool(known) and stage.settled() == "converged" and len(vcpu_pins(stage.show(), "db")) == 4

    stage.until(done, LIMIT)
    return _all(vcpu_pins(stage.show(), "db"))


def _all(pins: dict[int, CpuSet]) -> CpuSet:
    return frozenset().union(*pins.values())


def _text(cpus: CpuSet) -> str:
    return format_cpu_list(cpus)


def _policy(stage: Stage, tell: Telling, text: str) -> None:
    with open(stage.policy, "w", encoding="utf-8") as file:
        file.write(text)
    done = stage.client("reload")
    tell.command("hostler reload", done.text)
    tell.check("the policy is in force", done.status == 0, done.text)
