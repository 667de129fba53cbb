"""Boots one group of scenarios on one suite and reads what the guest reports.

The answer to a check that the guest never gave is red, with the scenario's traceback or the boot's failure as reason.
One guest at a time on a machine: two under emulation starve each other beyond every limit.
"""

import json
import os
import shutil
import time
from dataclasses import dataclass, field

from lab import image, stage
from lab.guest.groups import GROUPS, Group
from lab.machine import BootFailed, Machine

START_LIMIT = 480.0
STARVED = "timer doesn't work through Interrupt-remapped IO-APIC"
"""A panic of check_timer (arch/x86/kernel/apic/io_apic.c), in the first second on a machine that is too busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    ok: bool
    detail: str


@dataclass(kw_only=True)
class Outcome:
    """What a boot said about its checks, by scenario and check."""

    folder: str
    failure: str = ""
    results: dict[tuple[str, str], Result] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def result(self, scenario: str, check: str) -> Result:
        found = self.results.get((scenario, check))
        if found is not None and (found.ok or not self.errors.get(scenario)):
            return found
        why = self.errors.get(scenario) or self.failure or "the scenario never answered this check"
        if found is not None:
            why = f"{found.detail}\n{why}"
        return Result(ok=found.ok if found else False, detail=f"{why}\nlogs: {self.folder}")


def boot(suite: str, name: str, *, only: str = "") -> Outcome:
    """Run the group; `only` names one scenario of it."""
    group = GROUPS[name]
    machine = Machine(
        image=image.image(suite),
        folder=os.path.join(image.cache(), "runs", f"{suite}-{name}"),
        firmware=group.firmware,
    )
    outcome = Outcome(folder=machine.folder)
    with image.locked("machine"):
        machine.create()
        try:
            _prepare(machine, group)
            for phase in range(1, group.phases + 1):
                job = {"group": name, "phase": phase, "only": only, "last": phase == group.phases}
                _write(machine, "job.json", json.dumps(job))
                begin = time.monotonic()
                _boot(machine, f"boot{phase}", group.limit)
                outcome.seconds[f"boot {phase}"] = round(time.monotonic() - begin, 1)
        except (BootFailed, stage.StageFailed) as error:
            outcome.failure = str(error)
        finally:
            machine.discard()
        _read_results(machine, outcome)
    return outcome


def _boot(machine: Machine, name: str, limit: float) -> None:
    """Once more where the emulated timer starved while the kernel looked at it: that says nothing about anything."""
    try:
        machine.boot(name=name, start_limit=START_LIMIT, limit=limit)
    except BootFailed as error:
        if STARVED not in str(error):
            raise
        machine.boot(name=name, start_limit=START_LIMIT, limit=limit)


def _prepare(machine: Machine, group: Group) -> None:
    guest = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest")
    shutil.copytree(guest, os.path.join(machine.share, "guest"), ignore=shutil.ignore_patterns("__pycache__"))
    if group.product:
        folder = os.path.join(machine.folder, "stage")
        stage.build(folder, machine.image.suite)
        stage.install(folder, machine.disk)


def _write(machine: Machine, name: str, text: str) -> None:
    with open(os.path.join(machine.share, name), "w", encoding="utf-8") as file:
        file.write(text)


def _read_results(machine: Machine, outcome: Outcome) -> None:
    path = os.path.join(machine.share, "results.jsonl")
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            scenario = line["scenario"]
            if "check" in line:
                outcome.results[scenario, line["check"]] = Result(ok=line["ok"], detail=line["detail"])
            elif "note" in line:
                outcome.notes.setdefault(scenario, []).append(line["note"])
            else:
                outcome.errors[scenario] = line["error"]
                outcome.seconds[scenario] = line["seconds"]
