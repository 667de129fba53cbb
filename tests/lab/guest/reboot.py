"""A reboot while a domain's CPUs are isolated: nothing of ours is left of it."""

import json
import os

from . import cpus, service
from .domains import Domain
from .jobs import settled
from .main import CARD
from .programs import holds, run
from .quiet import MASKS, NUMBERS, PROFILE, QUIET, latencies, read
from .report import Report, scenario

NOTES = "/host/reboot.json"
HUGE = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"


def state() -> dict[str, object]:
    """What is the same after each boot: interrupts are numbered and spread anew."""
    return {
        **{path: read(path) for path in (*MASKS, *NUMBERS)},
        **{f"latency of {cpu}": text for cpu, text in latencies().items()},
        **{f"pages of node {node}": read(HUGE.format(node)) for node in (0, 1)},
        **{unit: sorted(found) for unit, found in cpus.slices().items()},
        "rules": sorted(os.listdir("/run/udev/rules.d")) if os.path.isdir("/run/udev/rules.d") else [],
    }


@scenario("isolated when the machine goes down", phase=1, keeps=True)
def goes_down(report: Report) -> None:
    with open(NOTES, "w", encoding="utf-8") as file:
        json.dump(state(), file)
    service.policy(PROFILE.format("latency"))
    domain = Domain(name="left", vcpus=2, threads=2, hostdevs=(CARD,), managed=False)
    domain.define()
    domain.must_start()
    settled(domain.name)
    report.within("isolated when the machine goes down", QUIET, lambda: read(NUMBERS[0]) == "10", state)


@scenario("everything is as after any boot", "nothing is isolated", "nothing is in the journal", phase=2)
def comes_up(report: Report) -> None:
    with open(NOTES, encoding="utf-8") as file:
        before = json.load(file)
    holds(service.active, 60.0)

    def differs() -> list[str]:
        now = json.loads(json.dumps(state()))
        return [
            f"{what}: was {was!r}, is {now.get(what)!r}"
            for what, was in before.items()
            if now.get(what) != was
        ]

    report.within("everything is as after any boot", 60.0, lambda: not differs(), differs)
    status = json.loads(run("hostler", "status", "--json").out)
    report.check("nothing is isolated", not status["isolation"]["cpus"] and not status["degraded"], status)
    with open(service.JOURNAL, encoding="utf-8") as file:
        kept = [line for line in file if '"open"' in line]
    report.check("nothing is in the journal", not kept, kept)


SCENARIOS = (goes_down, comes_up)
