"""The lab itself, without the product: is this the machine that the other groups rely on?"""

from . import cpus, hooks, outside, pci, snapshot
from .domains import BROKEN, UNPLUGS, Domain, hostdev, written
from .programs import holds, run, virsh
from .report import Report, scenario

CARD = "0000:02:00.0"
PAIR = ["0000:01:00.0", "0000:01:00.1"]
BRIDGED = ["0000:06:00.0", "0000:07:01.0", "0000:07:02.0"]


@scenario(
    "card driven",
    "pair grouped",
    "pair's audio driven",
    "bridged grouped",
    "siblings",
    "caches",
    "AppArmor on",
)
def machine(report: Report) -> None:
    report.equal("card driven", pci.driver(CARD), "bochs-drm")
    report.equal("pair grouped", pci.group(PAIR[0]), PAIR)
    report.equal("pair's audio driven", pci.driver(PAIR[1]), "snd_hda_intel")
    report.check("bridged grouped", set(BRIDGED) <= set(pci.group(BRIDGED[1])), pci.group(BRIDGED[1]))
    report.equal("siblings", cpus.siblings(4), frozenset({4, 5}))
    report.equal("caches", (cpus.l3(0), cpus.l3(7)), (frozenset(range(4)), frozenset(range(4, 8))))
    report.check("AppArmor on", run("aa-enabled", "--quiet").ok, run("aa-status").out[:300])


@scenario("starts", "threads found", "pinned", "as it was")
def plain_domain(report: Report) -> None:
    before = snapshot.take()
    with Domain(
        name="plain", vcpus=4, threads=2, iothreads=1, pins={0: "4", 1: "5", 2: "6", 3: "7"}
    ).defined() as d:
        started = d.start()
        report.check("starts", started.ok, started)
        threads = cpus.threads(d.name)
        report.check("threads found", len(threads.vcpus) == 4 and len(threads.iothreads) == 1, threads)
        report.check("pinned", threads.single and threads.pinned == {4, 5, 6, 7}, threads)
    report.equal("as it was", snapshot.differences(before), [])


@scenario("starts", "on VFIO", "as it was")
def managed_card(report: Report) -> None:
    before = snapshot.take()
    with Domain(name="card", hostdevs=(CARD,)).defined() as d:
        started = d.start()
        report.check("starts", started.ok, started)
        report.check("on VFIO", pci.on_vfio(CARD), pci.describe([CARD]))
        d.destroy()
    report.equal("as it was", snapshot.differences(before), [])


@scenario("plugged", "driven", "unplugged")
def hotplug(report: Report) -> None:
    card = "0000:04:00.0"
    outside.qmp("device_add", driver="secondary-vga", bus="rp4", id="hot1")
    report.within("plugged", 30.0, lambda: card in pci.functions(), pci.functions)
    report.within("driven", 30.0, lambda: pci.driver(card) is not None, lambda: pci.driver(card))
    outside.qmp("device_del", id="hot1")
    report.within("unplugged", 30.0, lambda: card not in pci.functions(), pci.functions)


@scenario("attached", "on VFIO", "detached", "as it was")
def attach(report: Report) -> None:
    before = snapshot.take()
    xml = written("attached.xml", hostdev(CARD, managed=True))
    with Domain(name="ports", machine=UNPLUGS, ports=1).defined() as d:
        d.must_start()
        done = virsh("attach-device", d.name, xml, "--live")
        report.check("attached", done.ok, done)
        report.check("on VFIO", pci.on_vfio(CARD), pci.describe([CARD]))
        done = virsh("detach-device", d.name, xml, "--live")
        gone = holds(lambda: "<hostdev" not in virsh("dumpxml", d.name).out, 60.0)
        report.check("detached", done.ok and gone, done)
        report.equal("as it was", snapshot.differences(before), [])


@scenario("fails", "came as far as the hooks", "one member alone is not enough", "both are")
def failing(report: Report) -> None:
    """What the starts that must fail rely on: a wrong firmware is found late, a group's foreign member late too."""
    with Domain(name="late", firmware=BROKEN).defined() as d:
        done = d.start()
        report.check("fails", not done.ok, done)
        report.equal("came as far as the hooks", hooks.operations(d.name)[0], "prepare")
    with Domain(name="bridged", hostdevs=(BRIDGED[1],)).defined() as d:
        done = d.start()
        report.check("one member alone is not enough", not done.ok, done)
    with Domain(name="whole", hostdevs=tuple(BRIDGED[1:])).defined() as d:
        done = d.start()
        report.check("both are", done.ok, done)


SCENARIOS = (machine, plain_domain, managed_card, hotplug, attach, failing)
