"""What goes away while somebody has it: a card that is pulled out from under its domain, and the host, to sleep."""

import json
import os

from . import outside, pci, service
from .domains import Domain
from .events import PLUGGED, plug
from .programs import busctl, holds, need, run
from .report import Report, scenario

OTHER = "0000:02:00.0"
LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
SLEEPER = "/run/systemd/system/systemd-suspend.service"
"""In place of the one that puts the machine to sleep: logind and everybody who listens to it does all as before."""


def status() -> dict[str, object]:
    """Whatever its exit status, which is not 0 where something is degraded."""
    found: dict[str, object] = json.loads(run("hostler", "status", "--json", limit=30.0).out)
    return found


def said(address: str) -> str:
    """What status has to say about this device, as one text."""
    found = status()
    rows = [*found["refusals"], *found["degraded"]]  # type: ignore[misc]
    return "; ".join(f"{row['reason']}; {row['remedy']}" for row in rows if row["object"] == address)


def hanging() -> list[str]:
    """Processes of ours that nothing can interrupt."""
    lines = run("sh", "-c", "ps -eo stat,pid,args").out.splitlines()
    return [line for line in lines if line.startswith("D") and "hostler" in line]


def why_not(address: str) -> str:
    """What keeps a device from coming home, for the reader of a failure."""
    devices = json.loads(run("hostler", "devices", "--json", limit=30.0).out)
    (found,) = (one for one in devices if one["address"] == address)
    plan = run("hostler", "plan", "--json", limit=30.0).out
    stuck = run("sh", "-c", "ps -eo stat,pid,args | grep ^D").out
    return f"{found['owner']} {found['holders']}; plan {plan}; stuck {stuck}"


@scenario(
    "a domain has it",
    "is still there",
    "status says who has to let go",
    "plan says so, too",
    "the domain has it",
    "nothing hangs",
    "not degraded",
    "another domain starts",
    "another domain stops",
    "goes when the domain is stopped",
    "nothing more is said",
    "service is well",
    "no traceback",
)
def unplugged_while_running(report: Report) -> None:
    """The kernel waits in remove() for QEMU, and holds the lock of all rescanning (see `pulled` in kinds)."""
    plug()
    holds(lambda: pci.driver(PLUGGED) is not None, 30.0)
    old = service.pid()
    with Domain(name="pulled", hostdevs=(PLUGGED,), managed=False).defined() as domain:
        started = domain.start()
        report.check("a domain has it", started.ok and pci.on_vfio(PLUGGED), started)
        report.check("is still there", not unplug_for(15.0), pci.functions())  # on 6.1 reading it hangs
        told = holds(lambda: "pulled still has it" in said(PLUGGED), 30.0)
        report.check("status says who has to let go", told and "stop pulled" in said(PLUGGED), said(PLUGGED))
        plan = run("hostler", "plan", "--json", limit=30.0)
        report.check("plan says so, too", plan.status == 4 and "pulled still has it" in plan.out, plan)
        devices = json.loads(need("hostler", "devices", "--json", limit=30.0))
        owner = next(d["owner"] for d in devices if d["address"] == PLUGGED)
        report.equal("the domain has it", owner, {"kind": "domain", "who": "pulled"})
        report.equal("not degraded", status()["degraded"], [])
        before = pci.driver(OTHER)
        with Domain(name="other", hostdevs=(OTHER,), managed=False).defined() as other:
            started = other.start()
            report.check("another domain starts", started.ok and pci.on_vfio(OTHER), started)
            if started.ok:
                other.destroy()
            back = holds(lambda: pci.driver(OTHER) == before, 60.0)
            report.check("another domain stops", back, f"{pci.describe([OTHER])}; {why_not(OTHER)}")
        report.equal("nothing hangs", hanging(), [])
        domain.destroy()
        gone = holds(lambda: PLUGGED not in pci.functions(), 60.0)
        report.check("goes when the domain is stopped", gone, pci.functions())
    quiet = holds(lambda: not said(PLUGGED) and not status()["degraded"], 30.0)
    report.check("nothing more is said", quiet, status())
    report.check("service is well", service.active() and service.pid() == old, service.log("-n", "40"))
    log = service.log()
    report.check("no traceback", "Traceback" not in log, log[-3000:])
    report.note(f"kernel {os.uname().release}")


def unplug_for(seconds: float) -> bool:
    """Whether it is gone after so long."""
    outside.qmp("device_del", id="hot1")
    return holds(lambda: PLUGGED not in pci.functions(), seconds)


def inhibitors() -> list[tuple[str, str]]:
    """Mode and reason of our locks, as logind lists them."""
    answer = json.loads(busctl("--json=short", "call", *LOGIND, "ListInhibitors").out)
    return [
        (mode, why) for what, who, why, mode, *_ in answer["data"][0] if (what, who) == ("sleep", "hostler")
    ]


def refusing() -> str:
    return "; ".join(why for mode, why in inhibitors() if mode == "block")


@scenario(
    "delayed while awake",
    "not refused without a domain",
    "refused while a domain runs",
    "systemctl says who refuses",
    "status says so",
    "not refused afterwards",
    "told before and after",
    "delayed again",
    "a domain starts after it",
    "service is well",
)
def host_sleep(report: Report) -> None:
    modes = [mode for mode, _ in inhibitors()]
    report.check("delayed while awake", modes.count("delay") == 1, inhibitors())
    report.equal("not refused without a domain", refusing(), "")
    domain = Domain(name="awake", hostdevs=(OTHER,), managed=False)
    with domain.defined():
        domain.must_start()
        held = holds(lambda: f"awake has {OTHER}" in refusing(), 30.0)
        report.check("refused while a domain runs", held, inhibitors())
        # Root's own wish is asked for by this option alone (systemctl(1), --check-inhibitors=).
        answer = run("systemctl", "suspend", "--check-inhibitors=yes", limit=30.0)
        named = "hostler" in answer.err and OTHER in answer.err
        report.check("systemctl says who refuses", not answer.ok and named, answer)
        report.equal("status says so", status()["sleep"], {"refused": True, "why": f"awake has {OTHER}"})
        domain.destroy()
        report.check("not refused afterwards", holds(lambda: not refusing(), 30.0), inhibitors())

    with open(SLEEPER, "w", encoding="ascii") as file:
        file.write("[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/sleep 2\n")
    need("systemctl", "daemon-reload")
    try:
        asked = run("systemctl", "suspend", limit=30.0)
        told = holds(
            lambda: "the host is awake" in service.log() and "is about to sleep" in service.log(), 60.0
        )
        report.check("told before and after", told, f"{asked}; {service.log('-n', '20')}")
        again = holds(lambda: [mode for mode, _ in inhibitors()] == ["delay"], 30.0)
        report.check("delayed again", again, inhibitors())
    finally:
        os.unlink(SLEEPER)
        need("systemctl", "daemon-reload")
    with domain.defined():
        started = domain.start()
        report.check("a domain starts after it", started.ok and pci.on_vfio(OTHER), started)
        if started.ok:
            domain.destroy()
    report.check("service is well", service.active(), service.log("-n", "40"))


SCENARIOS = (host_sleep, unplugged_while_running)
