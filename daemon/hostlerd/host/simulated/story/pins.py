"""Whose CPUs are whose, while users, wishes, vCPUs and CPUs come and go."""

from __future__ import annotations

import signal
from typing import Any

from hostlerd.host.simulated.hosts import DESKTOP
from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.sunny import CARD, vcpu_pins
from hostlerd.host.simulated.story.telling import Telling
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list

LIMIT = 10.0


def play(stage: Stage, tell: Telling) -> None:
    before = stage.remember()
    wished(stage, tell)
    by_hand(stage, tell)
    plugged(stage, tell)
    off_line(stage, tell)
    starving(stage, tell)
    stage.client("simulate", "stop", "name=work")
    stage.client("simulate", "stop", "name=win11")
    differences = stage.differences(before)
    tell.check("every file of the host is as it was", not differences, differences)


def wished(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "A domain that wishes for CPUs",
        "win11's own metadata asks for a CPU for its emulator. work has no device and floats on the host's CPUs.",
    )
    stage.simulate("define", name="win11", devices=CARD[0], cores=2)
    stage.simulate("define", name="work", cores=1)
    for name in ("win11", "work"):
        _do(stage, tell, "start", f"name={name}")
    _do(stage, tell, "wish", "name=win11", "cpus=emulator='1' priority='11'")

    def done() -> bool:
        emulator = _pins(stage, "win11").get("emulatorpin 0", frozenset())
        return len(emulator) == 1 and not emulator & _vcpus(stage, "win11")

    tell.check("its emulator has a CPU of its own", stage.until(done, LIMIT), _pins(stage, "win11"))

    def said() -> bool:
        return any("priority cannot be" in note for note in _notes(stage, "domains", "win11"))

    noted = stage.until(said, LIMIT)
    tell.check(
        "what makes no sense is a note, and the rest is heeded", noted, _notes(stage, "domains", "win11")
    )
    float_on = _vcpus(stage, "work")
    own = _vcpus(stage, "win11") | _pins(stage, "win11")["emulatorpin 0"]
    tell.check("work floats on the others", not float_on & own, format_cpu_list(float_on))


def by_hand(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "Somebody pins by hand",
        "`virsh vcpupin win11 0 15 --live`: who does that wins until the domain stops, also over the daemon's end.",
    )
    _do(stage, tell, "pin", "name=win11", "vcpu=0", "cpus=15")

    def told() -> bool:
        return any("by hand" in note for note in _notes(stage, "status", "win11"))

    tell.check("`hostler status` says so", stage.until(told, LIMIT), _notes(stage, "status", "win11"))
    tell.command("hostler status", stage.client("status").text)
    stage.end(signal.SIGKILL)
    stage.start()
    tell.command("hostlerd", "killed, and started again")
    stage.settled()
    pins = vcpu_pins(stage.show(), "win11")
    tell.check("vCPU 0 is where it was put", pins.get(0) == frozenset({15}), pins)
    tell.check("it is still told", stage.until(told, LIMIT), _notes(stage, "status", "win11"))
    free = not _vcpus(stage, "work") & {15}
    tell.check("nobody else is there", free and list(pins.values()).count(frozenset({15})) == 1, pins)


def plugged(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "A vCPU less, and one more", "libvirt sends no event for it; the folder of its control group tells."
    )
    for count in (3, 4):
        _do(stage, tell, "set-vcpus", "name=win11", f"count={count}")

    def done() -> bool:
        return len(_vcpus(stage, "win11")) == 4 and stage.settled() == "converged"

    tell.check("each has a CPU of its own again", stage.until(done, LIMIT), vcpu_pins(stage.show(), "win11"))


def off_line(stage: Stage, tell: Telling) -> None:
    tell.scene("A CPU goes off line", "The vCPU that was there gets another one, the rest stay.")
    pins = vcpu_pins(stage.show(), "win11")
    [lost] = pins[1]
    _do(stage, tell, "offline", f"cpu={lost}")

    def done() -> bool:
        now = _vcpus(stage, "win11")
        return len(now) == 4 and lost not in now

    tell.check(f"vCPU 1 has left CPU {lost}", stage.until(done, LIMIT), vcpu_pins(stage.show(), "win11"))
    stayed = vcpu_pins(stage.show(), "win11")[0] == pins[0]
    tell.check("what was pinned by hand stayed", stayed, vcpu_pins(stage.show(), "win11"))
    _do(stage, tell, "online", f"cpu={lost}")
    stage.settled()


def starving(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "Shared domains starve while another is paused",
        "The kernel tells that machine.slice waits for CPUs (PSI). What nobody uses is lent until it is wanted.",
    )
    _do(stage, tell, "suspend", "name=win11")
    stage.settled()
    own, floats = _vcpus(stage, "win11"), _vcpus(stage, "work")
    _do(stage, tell, "starve")
    lent = stage.until(lambda: own <= _vcpus(stage, "work"), LIMIT)
    tell.check("work may use the paused domain's CPUs", lent, format_cpu_list(_vcpus(stage, "work")))
    _do(stage, tell, "continue", "name=win11")
    back = stage.until(lambda: _vcpus(stage, "work") == floats, LIMIT)
    tell.check("when it goes on it has them back", back, format_cpu_list(_vcpus(stage, "work")))


def _do(stage: Stage, tell: Telling, *words: str) -> None:
    done = stage.client("simulate", *words)
    tell.command(f"hostler simulate {' '.join(words)}", done.text)


def _pins(stage: Stage, name: str) -> dict[str, CpuSet]:
    return {key: parse_cpu_list(cpus) for key, cpus in stage.show()["domains"][name]["pins"].items()}


def _vcpus(stage: Stage, name: str) -> CpuSet:
    """The CPUs that its vCPUs are pinned to; all where they are not pinned."""
    pins = vcpu_pins(stage.show(), name)
    return frozenset[int]().union(*pins.values()) if pins else DESKTOP.processors.all


def _notes(stage: Stage, verb: str, name: str) -> list[Any]:
    answer = stage.ask(verb)
    return next((d["notes"] for d in answer["domains"] if d["name"] == name), [])
