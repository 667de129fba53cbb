"""Where vCPUs of several domains are, and stay: two domains, a hand that pins, vCPUs that are plugged, CPUs that go.

Read from `virsh vcpupin` and from /proc/PID/task/*/status, never from the daemon's own words.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import cpus, service, snapshot
from .definitions import kept, xml
from .domains import Domain
from .jobs import PIN_LIMIT, RETURNED, check_returned, overlaps, settled, siblings_kept
from .main import CARD, PAIR
from .programs import holds, need, run, virsh
from .report import Report, scenario

LIMIT = 90.0


def shown(domain: Domain) -> dict[int, cpus.Set]:
    """What `virsh vcpupin` says."""
    rows = re.findall(r"^\s*(\d+)\s+([\d,-]+)\s*$", virsh("vcpupin", domain.name).out, re.MULTILINE)
    return {int(vcpu): cpus.parse(text) for vcpu, text in rows}


def really(domain: Domain) -> dict[int, cpus.Set]:
    return cpus.threads(domain.name).vcpus


def agree(domain: Domain) -> bool:
    return bool(shown(domain)) and shown(domain) == really(domain)


def whole(domain: Domain) -> bool:
    """Cores of its own, in one L3, and the host off them."""
    threads = cpus.threads(domain.name)
    return (
        threads.single
        and len(threads.vcpus) == domain.vcpus
        and siblings_kept(threads, domain.threads)
        and threads.pinned <= cpus.l3(threads.cpu(0))
        and not overlaps(threads.pinned)
    )


def resting(domain: Domain) -> None:
    """Until it has not been moved for a while: it is, once, to where its memory turns out to be."""
    where, since = really(domain), time.monotonic()
    while time.monotonic() - since < 15.0:
        time.sleep(0.5)
        if really(domain) != where:
            where, since = really(domain), time.monotonic()


def told(domain: Domain) -> str:
    return run("hostler", "domains", domain.name).out


@scenario(
    "the first is whole",
    "the second is whole",
    "virsh and the kernel agree",
    "no CPU of both",
    "the map shows both",
    "what the third would be is told",
    "the second is not moved by a stop",
    *RETURNED,
)
def two_domains(report: Report) -> None:
    before = snapshot.take()
    first = Domain(name="one", vcpus=2, threads=2, hostdevs=(CARD,), managed=False)
    second = Domain(name="two", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False)
    third = Domain(name="three", vcpus=2, threads=2)
    with first.defined(), second.defined(), third.defined():
        first.must_start()
        report.within("the first is whole", LIMIT, lambda: whole(first), lambda: really(first))
        second.must_start()
        report.within(
            "the second is whole",
            LIMIT,
            lambda: whole(second) and whole(first),
            lambda: (really(first), really(second)),
        )
        report.within(
            "virsh and the kernel agree",
            LIMIT,
            lambda: agree(first) and agree(second),
            lambda: (shown(first), really(first)),
        )
        one, two = cpus.threads(first.name), cpus.threads(second.name)
        # Not "in an L3 of its own each": that is for new ones, and memory that is there already comes first.
        report.check("no CPU of both", not one.pinned & two.pinned, (one.vcpus, two.vcpus))
        drawn = run("hostler", "cpus").out
        report.check("the map shows both", "one" in drawn and "two" in drawn, drawn)
        if_it_ran = run("hostler", "cpus", "--what-if", third.name)
        report.check("what the third would be is told", "three" in if_it_ran.out, if_it_ran)
        resting(second)
        where = really(second)
        first.destroy()
        moved = holds(lambda: really(second) != where, 10.0)
        report.check("the second is not moved by a stop", not moved, (where, really(second)))
        second.destroy()
        check_returned(report, before)


@scenario(
    "stays where a hand put it",
    "also when another starts",
    "nobody else is there",
    "said in status",
    "said of the domain",
    "stays over SIGKILL",
    "ours again at the next start",
    *RETURNED,
)
def by_hand(report: Report) -> None:
    before = snapshot.take()
    first = Domain(name="hand", vcpus=2, threads=2, hostdevs=(CARD,), managed=False)
    second = Domain(name="next", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False)
    with first.defined(), second.defined():
        first.must_start()
        settled(first.name)
        resting(first)
        taken = cpus.threads(first.name).pinned
        there = max(cpus.online() - taken)
        need("virsh", "-c", "qemu:///system", "vcpupin", first.name, "0", str(there), "--live")
        wanted = frozenset({there})
        left = holds(lambda: really(first)[0] != wanted, 10.0)
        report.check("stays where a hand put it", not left, really(first))
        second.must_start()
        settled(second.name)
        stays = really(first)[0] == wanted and shown(first)[0] == wanted
        report.check("also when another starts", stays, (really(first), shown(first)))
        report.check("nobody else is there", there not in cpus.threads(second.name).pinned, really(second))
        notes = json.dumps(json.loads(run("hostler", "status", "--json").out)["domains"])
        report.check("said in status", "by hand" in notes, notes)
        report.check("said of the domain", "by hand" in told(first), told(first))
        service.kill()
        lost = holds(lambda: really(first)[0] != wanted, 10.0)
        report.check("stays over SIGKILL", not lost, really(first))
        second.destroy()
        first.destroy()
        first.must_start()
        report.within("ours again at the next start", LIMIT, lambda: whole(first), lambda: really(first))
        first.destroy()
        check_returned(report, before)


@scenario("the plugged have CPUs of their own", "the others stay", "virsh and the kernel agree", *RETURNED)
def plugged(report: Report) -> None:
    before = snapshot.take()
    with Domain(
        name="grows", vcpus=4, threads=2, plugged=2, hostdevs=(CARD,), managed=False
    ).defined() as domain:
        domain.must_start()
        holds(lambda: cpus.threads(domain.name).single, LIMIT)
        resting(domain)
        old = really(domain)
        need("virsh", "-c", "qemu:///system", "setvcpus", domain.name, "4", "--live")
        report.within(
            "the plugged have CPUs of their own", LIMIT, lambda: whole(domain), lambda: really(domain)
        )
        now = really(domain)
        report.check("the others stay", all(now[vcpu] == there for vcpu, there in old.items()), (old, now))
        report.within("virsh and the kernel agree", LIMIT, lambda: agree(domain), lambda: shown(domain))
        domain.destroy()
        check_returned(report, before)


@contextmanager
def off_line(cpu: int) -> Iterator[None]:
    path = f"/sys/devices/system/cpu/cpu{cpu}/online"
    with open(path, "w", encoding="ascii") as file:
        file.write("0")
    try:
        yield
    finally:
        with open(path, "w", encoding="ascii") as file:
            file.write("1")


@scenario(
    "placed anew when a CPU goes off line", "not on the one that went", "well when it is back", *RETURNED
)
def cpu_goes(report: Report) -> None:
    before = snapshot.take()
    with Domain(name="robbed", vcpus=2, threads=2, hostdevs=(CARD,), managed=False).defined() as domain:
        domain.must_start()
        settled(domain.name)
        gone = max(cpus.threads(domain.name).pinned)
        with off_line(gone):
            report.within(
                "placed anew when a CPU goes off line",
                LIMIT,
                lambda: whole(domain) and gone not in cpus.threads(domain.name).pinned,
                lambda: really(domain),
            )
            report.check(
                "not on the one that went", gone not in cpus.threads(domain.name).pinned, really(domain)
            )
        report.within("well when it is back", LIMIT, lambda: whole(domain), lambda: really(domain))
        domain.destroy()
        holds(lambda: gone in cpus.online(), PIN_LIMIT)
        check_returned(report, before)


@scenario("siblings stay empty", "paired again", *RETURNED)
def wishes(report: Report) -> None:
    """A domain's own metadata, changed while it runs."""
    before, uri = snapshot.take(), "urn:hostler:cpus:1"
    with Domain(name="wishes", vcpus=2, hostdevs=(CARD,), managed=False).defined() as domain:
        domain.must_start()
        settled(domain.name)

        def cores() -> int:
            return len({cpus.siblings(cpus.threads(domain.name).cpu(vcpu)) for vcpu in range(2)})

        asked = virsh(
            "metadata", domain.name, uri, "--live", "--key", "hostler", "--set", "<cpus smt='isolate'/>"
        )
        report.within(
            "siblings stay empty", LIMIT, lambda: asked.ok and cores() == 2, lambda: (asked, really(domain))
        )
        virsh("metadata", domain.name, uri, "--live", "--remove")
        report.within("paired again", LIMIT, lambda: cores() == 1 and whole(domain), lambda: really(domain))
        domain.destroy()
        check_returned(report, before)


@scenario(
    "written when it is defined",
    "its memory is planned, too",
    "begins where it was written",
    "nothing is moved",
    "its memory is told",
    "taken back when policy says so",
    *RETURNED,
)
def written(report: Report) -> None:
    """write_config: where it begins is in the definition before it starts."""
    before = snapshot.take()
    with Domain(name="begins", vcpus=2, threads=2, hostdevs=(CARD,), managed=False).defined() as domain:
        original = xml(domain)
        service.policy('[domain."begins"]\nwrite_config = true\n')
        done = holds(lambda: xml(domain).count("<vcpupin") == 2, LIMIT)
        report.check("written when it is defined", done, xml(domain))
        report.check("its memory is planned, too", "<numatune>" in xml(domain), xml(domain))
        pins = {
            int(v): cpus.parse(c)
            for v, c in re.findall(r"vcpupin vcpu='(\d+)' cpuset='([\d,-]+)'", xml(domain))
        }
        domain.must_start()
        report.equal("begins where it was written", really(domain), pins)
        moved = holds(lambda: really(domain) != pins, 15.0)
        report.check("nothing is moved", not moved and whole(domain), really(domain))
        report.within("its memory is told", LIMIT, lambda: "memory" in told(domain), lambda: told(domain))
        domain.destroy()
        service.policy("")
        back = holds(lambda: xml(domain) == original, LIMIT)
        report.check("taken back when policy says so", back and not kept(), xml(domain))
        check_returned(report, before)


@scenario("saved", "comes back", "nobody pinned it by hand", "who needs CPUs of its own has them", *RETURNED)
def saved(report: Report) -> None:
    """A domain without devices that is saved while another has CPUs of its own: it was kept off these by us."""
    before = snapshot.take()
    other = Domain(name="other", vcpus=4, threads=2, hostdevs=(CARD,), managed=False)
    with Domain(name="slept", vcpus=2).defined() as domain, other.defined():
        domain.must_start()
        other.must_start()
        taken = settled(other.name).pinned
        holds(lambda: not cpus.threads(domain.name).everything & taken, LIMIT)
        done = virsh("managedsave", domain.name, limit=180.0)
        report.check("saved", done.ok and domain.state() == "shut off", done)
        other.destroy()
        back = domain.start()
        report.check("comes back", back.ok and domain.state() == "running", back)
        other.must_start()
        report.within(
            "who needs CPUs of its own has them",
            LIMIT,
            lambda: whole(other),
            lambda: (really(other), told(other)),
        )
        report.check("nobody pinned it by hand", "by hand" not in told(domain), told(domain))
        other.destroy()
        domain.destroy()
        check_returned(report, before)


SCENARIOS = (two_domains, by_hand, plugged, cpu_goes, wishes, written, saved)
