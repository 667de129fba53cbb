"""The gate: the main job with both cards, a refusal, a start that fails late, and one SIGKILL in a handoff.

This is the group that every change runs.
"""

from . import hooks, pci, service, snapshot
from .domains import BROKEN, Domain
from .jobs import RETURNED, RUNNING, check_returned, check_running
from .kills import KILLED, check_killed_start
from .report import Report, scenario

CARD = "0000:02:00.0"
PAIR = ("0000:01:00.0", "0000:01:00.1")
BRIDGED, FOREIGN = "0000:07:01.0", "0000:07:02.0"


@scenario("driven by the host before", "starts", *RUNNING, "stops", *RETURNED)
def console_card(report: Report) -> None:
    """A card that a DRM driver holds and that owns the console, managed by libvirt as well."""
    before = snapshot.take()
    report.equal("driven by the host before", pci.driver(CARD), "bochs-drm")
    with Domain(name="console", vcpus=4, threads=2, iothreads=1, hostdevs=(CARD,)).defined() as domain:
        started = domain.start()
        if report.check("starts", started.ok, started):
            check_running(report, domain, [CARD])
            domain.destroy()
        report.equal("stops", domain.state(), "shut off")
        check_returned(report, before)


@scenario("companion driven before", "starts", *RUNNING, "stops", *RETURNED)
def two_functions(report: Report) -> None:
    """One hostdev, managed='no': nobody but us binds it, and the audio function of its group comes along."""
    before = snapshot.take()
    report.equal("companion driven before", [pci.driver(a) for a in PAIR], [None, "snd_hda_intel"])
    with Domain(name="pair", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False).defined() as domain:
        started = domain.start()
        if report.check("starts", started.ok, started):
            check_running(report, domain, PAIR)
            domain.destroy()
        report.equal("stops", domain.state(), "shut off")
        check_returned(report, before)


@scenario(
    "does not start",
    "libvirt's error names the member",
    "refused by our hook",
    "nothing was touched",
    "does not run",
    *RETURNED,
)
def foreign_member(report: Report) -> None:
    """A group with an endpoint that no policy lets us take: refused in a sentence, nothing touched."""
    before = snapshot.take()
    with Domain(name="foreign", hostdevs=(BRIDGED,)).defined() as domain:
        started = domain.start()
        report.check("does not start", not started.ok, started)
        report.check("libvirt's error names the member", FOREIGN in started.err, started)
        report.check("refused by our hook", "hooks/qemu.d/hostler" in started.err, started)
        report.equal("nothing was touched", hooks.on_vfio_at(domain.name, "prepare"), set())
        report.equal("does not run", domain.state(), "shut off")
        check_returned(report, before)


@scenario("does not start", "was prepared", "does not run", *RETURNED)
def fails_after_prepare(report: Report) -> None:
    """QEMU cannot be started: no event tells, the release hook does."""
    before = snapshot.take()
    domain = Domain(name="late", hostdevs=PAIR[:1], managed=False, firmware=BROKEN)
    with domain.defined():
        started = domain.start()
        report.check("does not start", not started.ok, started)
        prepared = hooks.on_vfio_at(domain.name, "prepare")
        report.check("was prepared", prepared is not None and prepared >= set(PAIR), f"{prepared} {started}")
        report.equal("does not run", domain.state(), "shut off")
        check_returned(report, before)


@scenario(*KILLED)
def killed_at_unbind(report: Report) -> None:
    check_killed_start(report, "unbind")


@scenario("active all along", "no traceback")
def quiet(report: Report) -> None:
    """After all of the above (a kill included, which systemd mends) the service is well."""
    report.check("active all along", service.active(), service.log("-n", "40"))
    log = service.log()
    report.check("no traceback", "Traceback" not in log, log[-3000:] if "Traceback" in log else "")


SCENARIOS = (console_card, two_functions, foreign_member, fails_after_prepare, killed_at_unbind, quiet)
