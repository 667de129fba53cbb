"""SIGKILL at point after point of one handoff: claim, stopped unit, power, overrides, unbinds, probes, CPUs, and back.

The trigger is the daemon's journal, the hook is called without a libvirt, so that QEMU need not start. What came of it
is read from sysfs and systemd: as before, for a hook that was not answered refuses the start.
"""

import os
from dataclasses import dataclass

from . import asked, modules, pci, service, snapshot
from .domains import Domain
from .in_use import CARD, PAIR, UNIT, policy
from .programs import holds, need, run
from .report import Report, scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    kind: str
    at: str = "begin"
    count: int = 1
    back: bool = False
    """On the way back, not on the way there."""

    def __str__(self) -> str:
        way = "back" if self.back else "there"
        return f"{way}: {self.at} {self.count} of {self.kind}"


POINTS = (
    Point(kind="stop"),
    Point(kind="stop", at="end"),
    Point(kind="attribute"),
    Point(kind="override"),
    Point(kind="override", count=2, at="end"),
    Point(kind="check-free"),
    Point(kind="unbind"),
    Point(kind="unbind", at="end"),
    Point(kind="unbind", count=2, at="end"),
    Point(kind="probe"),
    Point(kind="probe", count=2),
    Point(kind="allowed-cpus"),
    Point(kind="override", back=True),
    Point(kind="unbind", back=True),
    Point(kind="probe", back=True),
    Point(kind="probe", count=2, at="end", back=True),
    Point(kind="start", back=True),
)
ENOUGH = 10


@scenario("points hit", "there or as before at each", "nothing stays in the journal", "prepared afterwards")
def killed_at_points(report: Report) -> None:
    node = modules.bind(CARD)
    with open(UNIT, "w", encoding="ascii") as file:
        file.write(f"[Service]\nExecStart=/bin/sh -c 'exec 3<>{node}; exec sleep infinity'\n")
    need("systemctl", "daemon-reload")
    service.policy(policy(holders="stop"))
    before = snapshot.take()
    victim = Domain(name="victim", vcpus=2, threads=2, hostdevs=(CARD,), managed=False)
    hit, wrong = [], []
    for point in POINTS:
        need("systemctl", "start", "lab-user.service")
        holds(lambda: modules.references(modules.LABGPU) > 0, 20.0)
        if point.back and not asked.prepare(victim).ok:
            wrong.append(f"{point}: cannot be prepared")
            continue
        with service.KillAt(point.kind, at=point.at, count=point.count, limit=60.0) as killer:
            if point.back:
                asked.release(victim)
            else:
                asked.prepare(victim)
            holds(lambda killer=killer: killer.fired, 10.0)
        if killer.fired:
            hit.append(str(point))
            service.wait_back(killer.pid)
        asked.release(victim)
        left = snapshot.differences(before, limit=60.0)
        again = holds(lambda: service.show("lab-user.service", "ActiveState") == "active", 30.0)
        if left or not again:
            wrong.append(f"{point}: {left}; unit runs: {again}; {pci.describe(list(PAIR))}")
        report.note(
            f"{point}: {'killed' if killer.fired else 'not reached'}, {'wrong' if left else 'as before'}"
        )
    report.check("points hit", len(hit) >= ENOUGH, hit)
    report.equal("there or as before at each", wrong, [])
    open_records = run("hostler", "status", "--json").out
    report.check("nothing stays in the journal", '"converged"' in open_records, open_records)
    answer = asked.prepare(victim)
    report.check("prepared afterwards", answer.ok and all(map(pci.on_vfio, PAIR)), answer)
    asked.release(victim)
    run("systemctl", "stop", "lab-user.service")
    os.unlink(UNIT)
    need("systemctl", "daemon-reload")
    service.policy("")
    snapshot.differences(before)
    modules.calm()


SCENARIOS = (killed_at_points,)
