"""Run one group's scenarios of one phase and write their checks: `python3 -m guest`, told what by /host/job.json.

Every scenario starts from the state of the boot: what the one before it left is put back by force and said in a note.
"""

import json
import os
import time
import traceback

from . import domains, groups, mdev, modules, outside, service, snapshot
from .programs import run
from .report import Report, Scenario

HOST = "/host"


def _restore(before: snapshot.Snapshot, report: Report, *, product: bool) -> None:
    domains.forget_all()
    modules.calm()
    if product:
        service.policy("")
        if not service.active():
            service.start()
    left = snapshot.differences(before, limit=snapshot.SETTLE if product else 0.0)
    if left:
        report.note(f"left behind, put back by force: {left}")
        if product:
            service.stop()
            run("sh", "-c", "rm -rf /run/hostler/journal* /var/lib/hostler/*")
        snapshot.force(before)
        if product:
            service.start()
    if made := mdev.forget_all():
        report.note(f"mediated devices left behind, removed: {made}")


def _run(scenario: Scenario, before: snapshot.Snapshot, *, product: bool) -> None:
    report = Report(scenario=scenario.__name__, names=scenario.checks)
    error = ""
    try:
        scenario(report)
    except Exception:  # noqa: BLE001  a scenario that throws is a red check, and the next one still runs
        error = traceback.format_exc()
    report.end(error)
    if scenario.keeps:
        return
    try:
        _restore(before, report, product=product)
    except Exception:  # noqa: BLE001  the same
        report.note(f"could not be put back: {traceback.format_exc()}")


def _keep_logs(phase: int) -> None:
    for name, command in {
        "journal": ("journalctl", "-b", "--no-pager", "-o", "short-monotonic"),
        "hostlerd": ("journalctl", "-b", "--no-pager", "-o", "short-monotonic", "-u", "hostlerd.service"),
        "domains": ("sh", "-c", "tail -n 60 /var/log/libvirt/qemu/*.log"),
    }.items():
        done = run(*command)
        with open(f"{HOST}/{name}.{phase}.log", "w", encoding="utf-8") as file:
            file.write(done.out)


def main() -> None:
    with open(f"{HOST}/started", "w", encoding="ascii") as file:
        file.write(f"{time.monotonic()}\n")
    with open(f"{HOST}/job.json", encoding="utf-8") as file:
        job = json.load(file)
    group, phase = groups.GROUPS[job["group"]], job["phase"]
    run("udevadm", "settle", "--timeout=60")
    # A domain that started with the host is part of what a later phase looks at: the state before it is the first's.
    kept = f"{HOST}/before.json"
    if os.path.exists(kept):
        with open(kept, encoding="utf-8") as file:
            before = snapshot.Snapshot.from_json(file.read())
    else:
        before = snapshot.take()
        with open(kept, "w", encoding="utf-8") as file:
            file.write(before.to_json())
    try:
        for scenario in group.scenarios:
            if scenario.phase == phase and job["only"] in ("", scenario.__name__):
                _run(scenario, before, product=group.product)
    finally:
        _keep_logs(phase)
    if job["last"]:
        # Nobody looks at the disk any more. Powering off takes half as long as booting, and for ever while a driver's
        # remove() waits.
        outside.end()


main()
