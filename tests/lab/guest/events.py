"""What comes without a hook: cards plugged and unplugged, devices attached to a running domain, a changed policy."""

from . import cpus, outside, pci, service, snapshot
from .domains import UNPLUGS, Domain, hostdev, written
from .jobs import PIN_LIMIT, RETURNED, check_returned, overlaps, settled
from .main import BRIDGED, CARD, FOREIGN
from .programs import holds, virsh
from .report import Report, scenario

PLUGGED = "0000:04:00.0"


def device(address: str, *, idle: str = "host", group: str = "[]") -> str:
    return f'[[device]]\nname = "lab"\nmatch = {{ address = "{address}" }}\nwhen_idle = "{idle}"\ngroup = {group}\n'


def plug() -> None:
    outside.qmp("device_add", driver="secondary-vga", bus="rp4", id="hot1")


def unplug() -> bool:
    outside.qmp("device_del", id="hot1")
    return holds(lambda: PLUGGED not in pci.functions(), 60.0)


@scenario(
    "to its driver without a policy",
    "to VFIO by policy",
    "gone without an error",
    "service is well",
    "no traceback",
)
def hotplug(report: Report) -> None:
    plug()
    report.within(
        "to its driver without a policy",
        PIN_LIMIT,
        lambda: pci.driver(PLUGGED) == "bochs-drm",
        lambda: pci.describe([PLUGGED]),
    )
    unplug()
    service.policy(device(PLUGGED, idle="vfio"))
    plug()
    report.within(
        "to VFIO by policy", PIN_LIMIT, lambda: pci.on_vfio(PLUGGED), lambda: pci.describe([PLUGGED])
    )
    old = service.pid()
    report.check("gone without an error", unplug(), pci.functions())
    stayed = not holds(lambda: service.pid() != old, 5.0)
    report.check("service is well", stayed and service.active(), service.log("-n", "40"))
    log = service.log()
    report.check("no traceback", "Traceback" not in log, log[-3000:])


@scenario("on VFIO while idle", "a wrong policy changes nothing", *RETURNED)
def policy_changes(report: Report) -> None:
    """A card that is already there goes to VFIO when policy says so, and back when it no longer does."""
    before = snapshot.take()
    service.policy(device(CARD, idle="vfio"))
    report.within("on VFIO while idle", PIN_LIMIT, lambda: pci.on_vfio(CARD), lambda: pci.describe([CARD]))
    service.policy(device(CARD, idle="vfio").replace("when_idle", "when_idel"))
    moved = holds(lambda: not pci.on_vfio(CARD), 5.0)
    report.check("a wrong policy changes nothing", not moved and service.active(), pci.describe([CARD]))
    service.policy("")
    check_returned(report, before)


@scenario("both on VFIO", *RETURNED)
def allowed_member(report: Report) -> None:
    """Policy lets us take the foreign member of a group along."""
    before = snapshot.take()
    service.policy(device(BRIDGED, group=f'["{FOREIGN}"]'))
    with Domain(name="allowed", hostdevs=(BRIDGED,), managed=False).defined() as domain:
        started = domain.start()
        report.check("both on VFIO", all(map(pci.on_vfio, (BRIDGED, FOREIGN))), started)
        if started.ok:
            domain.destroy()
        check_returned(report, before)


@scenario(
    "attached",
    "on VFIO",
    "becomes dedicated",
    "host off its CPUs",
    "detached",
    "runs on",
    "drivers as they were while it runs",
    "slices as they were while it runs",
    "shared again",
    *RETURNED,
)
def attach_and_detach(report: Report) -> None:
    """No hook runs for these: libvirt's events make and end the claim."""
    before = snapshot.take()
    xml = written("attached.xml", hostdev(CARD, managed=True))
    with Domain(name="hot", vcpus=2, threads=2, machine=UNPLUGS, ports=1).defined() as domain:
        domain.must_start()
        everywhere = cpus.threads(domain.name).everything
        attached = virsh("attach-device", domain.name, xml, "--live")
        report.check("attached", attached.ok, attached)
        report.check("on VFIO", pci.on_vfio(CARD), pci.describe([CARD]))
        threads = settled(domain.name)
        report.check("becomes dedicated", threads.single, threads)
        report.check("host off its CPUs", threads.single and not overlaps(threads.pinned), cpus.slices())

        detached = virsh("detach-device", domain.name, xml, "--live")
        gone = holds(lambda: "<hostdev" not in virsh("dumpxml", domain.name).out, PIN_LIMIT)
        report.check("detached", detached.ok and gone, detached)
        check_returned(
            report, before, ("drivers as they were while it runs", "slices as they were while it runs")
        )
        report.within(
            "shared again",
            PIN_LIMIT,
            lambda: cpus.threads(domain.name).everything == everywhere,
            lambda: cpus.threads(domain.name),
        )
        report.equal("runs on", domain.state(), "running")
        domain.destroy()
        check_returned(report, before)


SCENARIOS = (hotplug, policy_changes, allowed_member, attach_and_detach)
