"""Something else that wants a card which policy gives to VFIO: put back three times, then said."""

import time

from . import pci, rival, service, snapshot
from .events import device
from .jobs import RETURNED, check_returned
from .main import CARD
from .programs import holds, run
from .report import Report, scenario

HOME = "bochs-drm"
SOUND, SOUND_DRIVER = "0000:01:00.1", "snd_hda_intel"


@scenario(
    "on VFIO while idle",
    "put back once",
    "put back twice",
    "put back three times",
    "left alone the fourth time",
    "names the other driver",
    "trusted again",
    *RETURNED,
)
def stolen(report: Report) -> None:
    before = snapshot.take()
    service.policy(device(CARD, idle="vfio"))
    report.check("on VFIO while idle", holds(lambda: pci.on_vfio(CARD), 60.0), pci.describe([CARD]))
    for name in ("put back once", "put back twice", "put back three times"):
        began = time.monotonic()
        rival.steal(CARD, HOME)
        back = holds(lambda: pci.on_vfio(CARD), 30.0)
        report.check(name, back, pci.describe([CARD]))
        report.note(f"{name}: after {time.monotonic() - began:.1f} s")
    rival.steal(CARD, HOME)
    moved = holds(lambda: pci.on_vfio(CARD), 15.0)
    report.check("left alone the fourth time", not moved and pci.driver(CARD) == HOME, pci.describe([CARD]))
    status = run("hostler", "status", "--json").out
    report.check("names the other driver", HOME in status and CARD in status, status)
    run("hostler", "retry", CARD)
    report.check("trusted again", holds(lambda: pci.on_vfio(CARD), 60.0), run("hostler", "status").out)
    service.policy("")
    check_returned(report, before)


@scenario("put back", "driverctl is named", *RETURNED)
def stolen_by_driverctl(report: Report) -> None:
    before = snapshot.take()
    service.policy(device(SOUND, idle="vfio"))
    holds(lambda: pci.on_vfio(SOUND), 60.0)
    # driverctl loads the module of the driver's name, so one that has it.
    done = rival.driverctl(SOUND, SOUND_DRIVER)
    back = done.ok and holds(lambda: pci.on_vfio(SOUND), 60.0)
    report.check("put back", back, f"{done}; {pci.describe([SOUND])}")
    with open(f"/etc/driverctl.d/{SOUND}", "w", encoding="ascii") as file:
        file.write(SOUND_DRIVER)
    for _ in range(4):
        if not holds(lambda: pci.on_vfio(SOUND), 15.0):
            break
        rival.driverctl(SOUND, SOUND_DRIVER)
    said = holds(lambda: "driverctl" in run("hostler", "status", "--json").out, 30.0)
    report.check("driverctl is named", said, run("hostler", "status", "--json").out)
    run("rm", "-f", f"/etc/driverctl.d/{SOUND}")
    rival.driverctl_undo(SOUND)
    service.policy("")
    run("hostler", "retry", SOUND)
    check_returned(report, before)


SCENARIOS = (stolen, stolen_by_driverctl)
