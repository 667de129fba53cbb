"""The host keeps its hands off a domain's CPUs, and takes everything back."""

from __future__ import annotations

from hostlerd.host.simulated.hosts import DESKTOP
from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.sunny import CARD, vcpu_pins
from hostlerd.host.simulated.story.telling import Telling
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list, parse_cpu_mask

LIMIT = 10.0
QUEUES = "/sys/devices/virtual/workqueue/cpumask"


def play(stage: Stage, tell: Telling) -> None:
    before = stage.remember()
    tell.scene(
        "The host keeps its hands off",
        "Interrupts, work queues and clocks follow a domain's profile. What the kernel does not let go is counted.",
    )
    stage.simulate("define", name="win11", devices=CARD[0], cores=3)
    plan = stage.client("plan", "--domain", "win11", "--json").json
    listed = {step["object"]: (step["from"], step["to"]) for step in plan["steps"]}
    tell.check("the plan has every file with its old and new value", QUEUES in listed, sorted(listed))
    stage.client("simulate", "start", "name=win11")

    def quiet() -> bool:
        return stage.settled() == "converged" and not _strays(stage)

    tell.check("interrupts that can be moved keep off its CPUs", stage.until(quiet, LIMIT), _strays(stage))
    house = DESKTOP.processors.all - _its(stage)
    tell.check(
        "so do work queues", parse_cpu_mask(stage.tree().read(QUEUES)) == house, stage.tree().read(QUEUES)
    )
    governors = {cpu: _governor(stage, cpu) for cpu in DESKTOP.processors.all}
    fast = frozenset(cpu for cpu, governor in governors.items() if governor == "performance")
    tell.check("its CPUs run at full clock, the others as they did", fast == _its(stage), governors)
    counted = stage.client("status", "--json").json["isolation"]["interrupts"]
    tell.check("what cannot be moved is counted", counted["immovable"] == 2, counted)
    tell.command("hostler status", stage.client("status").text)
    stage.client("simulate", "stop", "name=win11")
    differences = stage.differences(before)
    tell.check("every file of the host is as it was", not differences, differences)


def _its(stage: Stage) -> CpuSet:
    return frozenset[int]().union(*vcpu_pins(stage.show(), "win11").values())


def _governor(stage: Stage, cpu: int) -> str:
    return stage.tree().read(f"/sys/devices/system/cpu/cpufreq/policy{cpu}/scaling_governor").strip()


def _strays(stage: Stage) -> dict[str, str]:
    """Interrupts that may come to its CPUs, less the two that the kernel manages."""
    tree, its = stage.tree(), _its(stage)
    found = {}
    for number in filter(str.isdecimal, tree.listdir("/proc/irq")):
        allowed = parse_cpu_list(tree.read(f"/proc/irq/{number}/smp_affinity_list"))
        name = tree.read(f"/sys/kernel/irq/{number}/actions").strip()
        if allowed & its and name not in ("nvme0q1", "nvme0q2"):
            found[name] = format_cpu_list(allowed)
    return found
