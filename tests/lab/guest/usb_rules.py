"""USB devices that rules give to running domains: plugged in, pulled out, wanted twice, in a storm, and killed between.

What a domain has is read from libvirt's live XML, what its QEMU has open from the drivers of the device's interfaces.
"""

import json
import os
import xml.etree.ElementTree as ET

from . import service, usb
from .domains import Domain, usb_hostdev, written
from .kills import comes_back
from .programs import holds, run, virsh
from .report import Report, scenario

LIMIT = 60.0
MOUSE = ":".join(usb.KINDS["usb-mouse"])
CONTROLLER = "qemu-xhci"


def rule(domain: str, **match: str) -> str:
    pairs = ", ".join(f'{key} = "{value}"' for key, value in match.items())
    return f'[[usb]]\nname = "lab"\nmatch = {{ {pairs} }}\ndomain = "{domain}"\n'


def mice(domain: str) -> str:
    vendor, product = usb.KINDS["usb-mouse"]
    return rule(domain, vendor=vendor, product=product)


def attached(domain: Domain) -> list[tuple[int, int]]:
    """Bus and device of each USB device in the live XML."""
    done = virsh("dumpxml", domain.name)
    found = ET.fromstring(done.out).findall("devices/hostdev[@type='usb']/source/address") if done.ok else []
    return [(int(address.get("bus", "0")), int(address.get("device", "0"))) for address in found]


def address(name: str | None) -> tuple[int, int]:
    def number(file: str) -> int:
        with open(f"{usb.DEVICES}/{name}/{file}", encoding="ascii") as text:
            return int(text.read())

    return number("busnum"), number("devnum")


def has(domain: Domain, serial: str, kind: str = "usb-mouse") -> bool:
    """The domain has this device, as it is plugged in now, and nothing else; QEMU has taken it from the host's driver.

    usbfs has an interface only once the guest uses it, and these guests have no operating system.
    """
    name = usb.find(kind, serial=serial)
    return (
        name is not None
        and attached(domain) == [address(name)]
        and usb.driver(f"{name}:1.0") in (None, "usbfs")
    )


def told(domain: Domain) -> str:
    """For the reader of a failure."""
    devices = {name: usb.driver(f"{name}:1.0") for name in sorted(os.listdir(usb.DEVICES)) if ":" not in name}
    return f"{attached(domain)}; {devices}; {run('hostler', 'plan').out}; {service.log('-n', '15')}"


def unplug_all(*idents: str) -> None:
    for ident in idents:
        usb.unplug(ident)
    holds(lambda: not any(usb.find(kind) for kind in usb.KINDS), 30.0)


@scenario(
    "attached when plugged in",
    "listed by hostler domains",
    "another kind stays with the host",
    "detached when pulled out",
    "attached when plugged in again",
    "the host's again when the domain stops",
    "attached when the domain starts",
    "detached when the rule goes",
    "the domain runs on",
    "converged",
)
def usb_comes_and_goes(report: Report) -> None:
    domain = Domain(name="usb", usb=CONTROLLER)
    service.policy(mice(domain.name))
    with domain.defined():
        domain.must_start()
        usb.plug("usb-storage", "s1", port="3")
        usb.plug("usb-mouse", "m1", port="1", serial="one")
        report.within("attached when plugged in", LIMIT, lambda: has(domain, "one"), lambda: told(domain))
        listed = run("hostler", "domains", "--json")
        report.check("listed by hostler domains", f'"source": "{MOUSE} bus' in listed.out, listed)
        stick = usb.find("usb-storage")
        report.equal("another kind stays with the host", usb.driver(f"{stick}:1.0"), "usb-storage")
        usb.unplug("m1")
        report.within("detached when pulled out", LIMIT, lambda: not attached(domain), lambda: told(domain))
        usb.plug("usb-mouse", "m2", port="1", serial="two")
        report.within(
            "attached when plugged in again", LIMIT, lambda: has(domain, "two"), lambda: told(domain)
        )
        domain.destroy()
        mouse = usb.find("usb-mouse", serial="two")
        report.within(
            "the host's again when the domain stops",
            LIMIT,
            lambda: usb.driver(f"{mouse}:1.0") == "usbhid",
            lambda: told(domain),
        )
        domain.must_start()
        report.within(
            "attached when the domain starts", LIMIT, lambda: has(domain, "two"), lambda: told(domain)
        )
        service.policy("")
        gone = holds(lambda: not attached(domain) and usb.driver(f"{mouse}:1.0") == "usbhid", LIMIT)
        report.check("detached when the rule goes", gone, told(domain))
        report.equal("the domain runs on", domain.state(), "running")
        state = json.loads(run("hostler", "status", "--json").out)["state"]
        report.equal("converged", state, "converged")
    unplug_all("m2", "s1")


@scenario("not from another port", "from its port", "behind a hub", "by serial number", "twins told apart")
def usb_by_port_and_serial(report: Report) -> None:
    domain = Domain(name="port", usb=CONTROLLER)
    service.policy(rule(domain.name, port="1-2"))
    with domain.defined():
        domain.must_start()
        usb.plug("usb-mouse", "m1", port="1", serial="one")
        usb.plug("usb-mouse", "m2", port="2", serial="two")
        report.within("from its port", LIMIT, lambda: has(domain, "two"), lambda: told(domain))
        other = usb.find("usb-mouse", serial="one")
        report.equal("not from another port", usb.driver(f"{other}:1.0"), "usbhid")
        service.policy(rule(domain.name, serial="one"))
        report.within("by serial number", LIMIT, lambda: has(domain, "one"), lambda: told(domain))
        twin = usb.find("usb-mouse", serial="two")
        report.equal("twins told apart", usb.driver(f"{twin}:1.0"), "usbhid")
        service.policy(rule(domain.name, port="1-4.1"))
        usb.plug("usb-hub", "h1", port="4")
        holds(lambda: usb.find("usb-hub") is not None, 30.0)
        usb.plug("usb-kbd", "k1", port="4.1", serial="three")
        report.within("behind a hub", LIMIT, lambda: has(domain, "three", "usb-kbd"), lambda: told(domain))
    unplug_all("k1", "h1", "m2", "m1")


@scenario(
    "the first one keeps it",
    "the refusal names it",
    "what was attached by hand is left alone",
    "the other gets it then",
    "a start that wants it is refused",
    "libvirt's error names who has it",
)
def usb_wanted_twice(report: Report) -> None:
    first, second = Domain(name="first", usb=CONTROLLER), Domain(name="second", usb=CONTROLLER)
    usb.plug("usb-mouse", "m1", port="1", serial="one")
    holds(lambda: usb.find("usb-mouse", serial="one") is not None, 30.0)
    with first.defined(), second.defined():
        first.must_start()
        by_hand = virsh("attach-device", first.name, written("mouse.xml", usb_hostdev(MOUSE)), "--live")
        service.policy(mice(second.name))
        second.must_start()
        holds(lambda: bool(attached(second)), 10.0)
        kept = has(first, "one") and not attached(second)
        report.check("the first one keeps it", by_hand.ok and kept, (by_hand, told(second)))
        plan = json.loads(run("hostler", "plan", "--json").out)
        named = [refusal["reason"] for refusal in plan["refusals"]]
        report.check(
            "the refusal names it", any("belongs to domain first" in reason for reason in named), plan
        )
        service.policy("")
        taken = holds(lambda: not has(first, "one"), 5.0)
        report.check("what was attached by hand is left alone", not taken, told(first))
        service.policy(mice(second.name))
        first.destroy()
        report.within("the other gets it then", LIMIT, lambda: has(second, "one"), lambda: told(second))
    rival = Domain(name="rival", usb=CONTROLLER, usb_devices=(MOUSE,))
    with second.defined(), rival.defined():
        second.must_start()
        holds(lambda: has(second, "one"), LIMIT)
        started = rival.start()
        report.check("a start that wants it is refused", not started.ok and has(second, "one"), started)
        report.check("libvirt's error names who has it", "belongs to domain second" in started.err, started)
    unplug_all("m1")


@scenario("ends attached", "in few passes", "ends detached", "nothing failed for good", "no traceback")
def usb_storm(report: Report) -> None:
    """A bad cable: twenty times in and out."""
    domain = Domain(name="storm", usb=CONTROLLER)
    service.policy(mice(domain.name))
    with domain.defined():
        domain.must_start()
        before = json.loads(run("hostler", "status", "--json").out)["pass"]
        for number in range(20):
            usb.plug("usb-mouse", f"m{number}", port="1", serial="one")
            usb.unplug(f"m{number}")
        usb.plug("usb-mouse", "last", port="1", serial="one")
        report.within("ends attached", LIMIT, lambda: has(domain, "one"), lambda: told(domain))
        status = json.loads(run("hostler", "status", "--json").out)
        report.check("in few passes", status["pass"] - before < 60, (before, status["pass"]))
        report.note(f"{status['pass'] - before} passes for 41 events of plugging")
        usb.unplug("last")
        report.within("ends detached", LIMIT, lambda: not attached(domain), lambda: told(domain))
        usb.plug("usb-mouse", "more", port="1", serial="two")
        report.within("nothing failed for good", LIMIT, lambda: has(domain, "two"), lambda: told(domain))
    log = service.log()
    report.check("no traceback", "Traceback" not in log, log[-3000:])
    unplug_all("more")


@scenario(
    "killed before it attaches",
    "attached afterwards",
    "killed when it has attached",
    "still attached",
    "killed before it detaches",
    "comes back",
    "detached afterwards",
)
def usb_killed(report: Report) -> None:
    domain = Domain(name="killed", usb=CONTROLLER)
    service.policy(mice(domain.name))
    with domain.defined():
        domain.must_start()
        with service.KillAt("attach-usb") as killer:
            usb.plug("usb-mouse", "m1", port="1", serial="one")
            holds(lambda: killer.fired, LIMIT)
        report.check("killed before it attaches", killer.fired, service.log("-n", "20"))
        report.within("attached afterwards", 2 * LIMIT, lambda: has(domain, "one"), lambda: told(domain))
        usb.unplug("m1")
        holds(lambda: not attached(domain), LIMIT)
        with service.KillAt("attach-usb", at="end") as killer:
            usb.plug("usb-mouse", "m2", port="1", serial="two")
            holds(lambda: killer.fired, LIMIT)
        report.check("killed when it has attached", killer.fired, service.log("-n", "20"))
        service.wait_back(killer.pid)
        kept = has(domain, "two")
        report.check("still attached", kept and not holds(lambda: not has(domain, "two"), 10.0), told(domain))
        with service.KillAt("detach-usb") as killer:
            usb.unplug("m2")
            holds(lambda: killer.fired, LIMIT)
        report.check("killed before it detaches", killer.fired, service.log("-n", "20"))
        comes_back(report, killer)
        report.within("detached afterwards", 2 * LIMIT, lambda: not attached(domain), lambda: told(domain))
    unplug_all()


SCENARIOS = (usb_comes_and_goes, usb_by_port_and_serial, usb_wanted_twice, usb_storm, usb_killed)
