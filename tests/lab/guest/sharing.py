"""Several domains, the user's own pins, and everyone else being restarted."""

from . import cpus, pci, service, snapshot
from .domains import Domain
from .jobs import PIN_LIMIT, RETURNED, check_returned, overlaps, settled
from .main import CARD, PAIR
from .programs import holds, need, virsh, wait_until
from .report import Report, scenario

CONTAINER = "lab-container.service"


def container() -> cpus.Set:
    """Where the other inhabitant of machine.slice may run."""
    return cpus.allowed(service.show(CONTAINER, "MainPID"))


def on_the_hosts_cpus(domain: str, dedicated: cpus.Set) -> bool:
    threads = cpus.threads(domain)
    return bool(threads.vcpus) and not threads.everything & dedicated


@scenario(
    "first has CPUs of its own",
    "second has CPUs of its own",
    "no CPU of both",
    "host off the CPUs of both",
    "shared domain off the first's",
    "shared domain off the CPUs of both",
    "container off the CPUs of both",
    "two CPUs are left to the host",
    "first's card is back, second's is not",
    "host off the second's CPUs alone",
    "second undisturbed",
    "shared domain has all CPUs again",
    "container has all CPUs again",
    *RETURNED,
)
def in_turn(report: Report) -> None:
    """Two domains with devices come and go while one without runs all along."""
    before = snapshot.take()
    first = Domain(name="first", vcpus=2, threads=2, hostdevs=(CARD,))
    second = Domain(name="second", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False)
    with Domain(name="shared", vcpus=2).defined() as shared, first.defined(), second.defined():
        shared.must_start()
        everywhere = cpus.threads(shared.name).everything
        # What systemd-machined would have put there.
        need("systemd-run", f"--unit={CONTAINER}", "--slice=machine.slice", "sleep", "infinity")

        first.must_start()
        one = settled(first.name)
        report.check("first has CPUs of its own", one.single, one)
        report.within(
            "shared domain off the first's",
            PIN_LIMIT,
            lambda: on_the_hosts_cpus(shared.name, one.pinned),
            lambda: cpus.threads(shared.name),
        )

        second.must_start()
        two = settled(second.name)
        one = settled(first.name)  # it may have been moved
        both = one.pinned | two.pinned
        report.check("second has CPUs of its own", two.single and one.single, two)
        report.check("no CPU of both", not one.pinned & two.pinned, (one, two))
        report.within("host off the CPUs of both", PIN_LIMIT, lambda: not overlaps(both), cpus.slices)
        report.within(
            "shared domain off the CPUs of both",
            PIN_LIMIT,
            lambda: on_the_hosts_cpus(shared.name, both),
            lambda: cpus.threads(shared.name),
        )
        report.within(
            "container off the CPUs of both",
            PIN_LIMIT,
            lambda: not container() & both,
            lambda: (sorted(container()), sorted(both)),
        )
        report.check("two CPUs are left to the host", len(cpus.online() - both) >= 2, both)

        first.destroy()
        report.within(
            "first's card is back, second's is not",
            PIN_LIMIT,
            lambda: pci.driver(CARD) == before.drivers[CARD] and all(map(pci.on_vfio, PAIR)),
            lambda: pci.describe([CARD, *PAIR]),
        )

        def alone() -> bool:
            taken = cpus.threads(second.name).pinned
            return all(cpus.effective(unit) == cpus.online() - taken for unit in cpus.HOST_SLICES)

        report.within("host off the second's CPUs alone", PIN_LIMIT, alone, cpus.slices)
        two = settled(second.name)
        report.check("second undisturbed", two.single and second.state() == "running", two)

        second.destroy()
        report.within(
            "shared domain has all CPUs again",
            PIN_LIMIT,
            lambda: cpus.threads(shared.name).everything == everywhere,
            lambda: cpus.threads(shared.name),
        )
        report.within("container has all CPUs again", PIN_LIMIT, lambda: container() == everywhere, container)
        need("systemctl", "stop", CONTAINER)
        shared.destroy()
        check_returned(report, before)


@scenario(
    "starts",
    "its pins stand",
    "others keep off them",
    "host off them",
    "definition untouched",
    "stand in the end",
    *RETURNED,
)
def explicit_pins(report: Report) -> None:
    """A definition's own <vcpupin> is the user's: never moved, and nobody else is put there."""
    before = snapshot.take()
    wanted = {0: frozenset({3}), 1: frozenset({6})}
    first = Domain(name="explicit", vcpus=2, hostdevs=(CARD,), pins={0: "3", 1: "6"})
    second = Domain(name="other", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False)
    with first.defined(), second.defined():
        started = first.start()
        report.check("starts", started.ok, started)
        second.must_start()
        two = settled(second.name)
        report.equal("its pins stand", cpus.threads(first.name).vcpus, wanted)
        report.check("others keep off them", two.single and not two.pinned & {3, 6}, two)
        report.within("host off them", PIN_LIMIT, lambda: not overlaps(frozenset({3, 6})), cpus.slices)
        xml = virsh("dumpxml", "--inactive", second.name).out
        report.check("definition untouched", "vcpupin" not in xml, xml)
        second.destroy()
        holds(lambda: not any(map(pci.on_vfio, PAIR)), PIN_LIMIT)
        report.equal("stand in the end", cpus.threads(first.name).vcpus, wanted)
        first.destroy()
        check_returned(report, before)


@scenario(
    "pins outlive libvirtd",
    "pins outlive a kill",
    "slices outlive a kill",
    "devices outlive a kill",
    *RETURNED,
)
def adopted(report: Report) -> None:
    """libvirtd is restarted, then the daemon killed, while a domain runs: nothing moves, and the stop is still seen."""
    before = snapshot.take()
    with Domain(name="adopted", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False).defined() as domain:
        domain.must_start()
        threads = settled(domain.name)
        slices = cpus.slices()
        need("systemctl", "restart", "libvirtd.service")
        wait_until(lambda: domain.state() == "running", 90.0, "libvirtd to know the domain again")
        now = settled(domain.name)
        report.check("pins outlive libvirtd", now.single and now.vcpus == threads.vcpus, (threads, now))

        service.kill()
        moved = holds(lambda: cpus.threads(domain.name).vcpus != threads.vcpus, 10.0)
        report.check(
            "pins outlive a kill", threads.single and not moved, (threads, cpus.threads(domain.name))
        )
        report.equal(
            "slices outlive a kill", (bool(overlaps(threads.pinned)), cpus.slices()), (False, slices)
        )
        report.check("devices outlive a kill", all(map(pci.on_vfio, PAIR)), pci.describe(list(PAIR)))
        domain.destroy()
        check_returned(report, before)


@scenario("stays as it is", "waits for the daemon", *RETURNED)
def stopped_while_away(report: Report) -> None:
    """The domain ends while the daemon is stopped: what was kept for it is returned at the next start."""
    before = snapshot.take()
    with Domain(name="away", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False).defined() as domain:
        domain.must_start()
        threads = settled(domain.name)
        service.stop()
        stays = threads.single and not overlaps(threads.pinned) and all(map(pci.on_vfio, PAIR))
        report.check("stays as it is", stays, (cpus.slices(), pci.describe(list(PAIR))))
        domain.destroy()
        report.check("waits for the daemon", all(map(pci.on_vfio, PAIR)), pci.describe(list(PAIR)))
        service.start()
        check_returned(report, before)


@scenario("starts", "on VFIO", "as it was")
def daemon_absent(report: Report) -> None:
    """Unit and socket stopped: as with plain libvirt."""
    before = snapshot.take()
    service.stop()
    with Domain(name="plain", hostdevs=(CARD,)).defined() as domain:
        started = domain.start()
        report.check("starts", started.ok, started)
        report.check("on VFIO", pci.on_vfio(CARD), pci.describe([CARD]))
        if started.ok:
            domain.destroy()
        report.equal("as it was", snapshot.differences(before), [])


SCENARIOS = (in_turn, explicit_pins, adopted, stopped_while_away, daemon_absent)
