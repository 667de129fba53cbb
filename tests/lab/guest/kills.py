"""SIGKILL in the middle of a handoff: afterwards it is done or undone, never between.

The kill is triggered by the daemon's journal of steps; what came of it is read from sysfs and libvirt.
"""

from . import pci, service, snapshot
from .domains import Domain
from .programs import holds
from .report import Report, scenario

PAIR = ("0000:01:00.0", "0000:01:00.1")

KILLED = (
    "killed at the step",
    "comes back",
    "done or undone",
    "starts later",
    "on VFIO then",
    "as it was in the end",
)


def victim() -> Domain:
    """managed='no', so that no driver moves but by us."""
    return Domain(name="victim", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False)


def whole(domain: Domain, before: snapshot.Snapshot) -> bool:
    """The domain runs with everything on VFIO, or nothing runs and everything is as before."""
    if domain.state() == "running":
        return all(map(pci.on_vfio, PAIR))
    return not before.differences(snapshot.take())


def check_killed_start(report: Report, kind: str, *, at: str = "begin", count: int = 1) -> None:
    """Kill while a start is prepared. Answers all of KILLED."""
    before = snapshot.take()
    with victim().defined() as domain:
        with service.KillAt(kind, at=at, count=count) as killer:
            started = domain.start()
        report.check("killed at the step", killer.fired, f"no {kind} in {service.JOURNAL}; start: {started}")
        comes_back(report, killer)
        report.check("done or undone", holds(lambda: whole(domain, before), 60.0), left(domain, before))
        if domain.state() != "running":
            started = domain.start()
        report.check("starts later", domain.state() == "running", started)
        report.check("on VFIO then", all(map(pci.on_vfio, PAIR)), pci.describe(list(PAIR)))
        if domain.state() == "running":
            domain.destroy()
        report.equal("as it was in the end", snapshot.differences(before), [])


def check_killed_stop(report: Report, kind: str) -> None:
    """Kill while everything is put back. Answers all of KILLED but those of a later start."""
    before = snapshot.take()
    with victim().defined() as domain:
        domain.must_start()
        with service.KillAt(kind) as killer:
            domain.destroy()
            holds(lambda: killer.fired, 30.0)
        report.check("killed at the step", killer.fired, f"no {kind} in {service.JOURNAL}")
        comes_back(report, killer)
        report.equal("as it was in the end", snapshot.differences(before, limit=60.0), [])


def comes_back(report: Report, killer: service.KillAt) -> None:
    if killer.fired:
        service.wait_back(killer.pid)
    report.check("comes back", service.active(), service.log("-n", "40"))


def left(domain: Domain, before: snapshot.Snapshot) -> str:
    return f"{domain.state()}; {pci.describe(list(PAIR))}; {before.differences(snapshot.take())}"


@scenario(*KILLED)
def killed_at_override(report: Report) -> None:
    check_killed_start(report, "override")


@scenario(*KILLED)
def killed_after_unbind(report: Report) -> None:
    check_killed_start(report, "unbind", at="end")


@scenario(*KILLED)
def killed_at_probe(report: Report) -> None:
    """The second of two: the first function is on VFIO, the other without a driver."""
    check_killed_start(report, "probe", count=2)


@scenario(*KILLED)
def killed_at_allowed_cpus(report: Report) -> None:
    check_killed_start(report, "allowed-cpus")


@scenario("killed at the step", "comes back", "as it was in the end")
def killed_while_returning_drivers(report: Report) -> None:
    check_killed_stop(report, "probe")


@scenario("killed at the step", "comes back", "as it was in the end")
def killed_while_returning_cpus(report: Report) -> None:
    check_killed_stop(report, "allowed-cpus")


SCENARIOS = (
    killed_at_override,
    killed_after_unbind,
    killed_at_probe,
    killed_at_allowed_cpus,
    killed_while_returning_drivers,
    killed_while_returning_cpus,
)
