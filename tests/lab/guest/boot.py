"""A domain that libvirt starts by itself at boot, before it answers anybody: its hook must find the daemon ready."""

from . import snapshot
from .domains import Domain
from .jobs import RETURNED, RUNNING, check_returned, check_running
from .main import PAIR
from .programs import holds, need
from .report import Report, scenario

KEPT = "/host/before.json"


def _domain() -> Domain:
    # managed='no': had the daemon not prepared it, it could not run.
    return Domain(name="early", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False)


@scenario("defined", keeps=True)
def autostart_is_set(report: Report) -> None:
    domain = _domain()
    domain.define()
    report.check("defined", need("virsh", "-c", "qemu:///system", "autostart", domain.name))


@scenario("runs after boot", *RUNNING, *RETURNED, phase=2)
def autostarted(report: Report) -> None:
    with open(KEPT, encoding="utf-8") as file:
        before = snapshot.Snapshot.from_json(file.read())
    domain = _domain()
    if report.check("runs after boot", holds(lambda: domain.state() == "running", 180.0), domain.state()):
        check_running(report, domain, PAIR)
        domain.destroy()
    check_returned(report, before)


SCENARIOS = (autostart_is_set, autostarted)
