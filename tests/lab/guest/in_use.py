"""A card that somebody has open, under a driver whose remove() waits for them for ever: never written to in vain.

labgpu is the driver (modules/labgpu). The hook is called without a libvirt.
"""

import os
import signal
import threading

from . import asked, holding, modules, pci, service, snapshot
from .domains import Domain
from .jobs import RETURNED, check_returned
from .programs import Done, holds, need, run
from .report import Report, scenario

CARD, SOUND = "0000:01:00.0", "0000:01:00.1"
PAIR = (CARD, SOUND)
UNIT = "/run/systemd/system/lab-user.service"

REFUSED = ("refused", "names the holder", "nothing was touched", "answered within a second")


def domain() -> Domain:
    return Domain(name="gamer", vcpus=2, threads=2, hostdevs=(CARD,), managed=False)


def policy(**keys: object) -> str:
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for key, value in keys.items()
    ]
    text = "\n".join(lines).replace("'", '"')
    return f'[[device]]\nname = "card"\nmatch = {{ address = "{CARD}" }}\n{text}\n'


def check_refused(report: Report, before: snapshot.Snapshot, *words: str) -> Done:
    """Answer all of REFUSED for a prepare that somebody is in the way of."""
    answer = asked.prepare(domain())
    report.check("refused", answer.status == 1, answer)
    report.check("names the holder", all(word in answer.err for word in words), f"{words}: {answer.err}")
    asked.release(domain())
    report.equal("nothing was touched", before.differences(snapshot.take()), [])
    took = asked.seconds(domain())
    report.check("answered within a second", took is not None and took < 1.0, took)
    report.note(f"answered after {took} s")
    return answer


@scenario(*REFUSED, "prepared when it has been closed", "on VFIO", *RETURNED)
def open_node(report: Report) -> None:
    modules.bind(CARD)
    before = snapshot.take()
    with holding.process(modules.node(CARD) or "") as holder:
        check_refused(report, before, "sleep", str(holder.pid), holder.node)
    answer = asked.prepare(domain())
    report.check("prepared when it has been closed", answer.ok, answer)
    report.check("on VFIO", all(map(pci.on_vfio, PAIR)), pci.describe(list(PAIR)))
    asked.release(domain())
    check_returned(report, before)
    modules.calm()


@scenario(*REFUSED)
def mapped_node(report: Report) -> None:
    """No descriptor any more, only the memory."""
    modules.bind(CARD)
    before = snapshot.take()
    with holding.mapping(modules.node(CARD) or "") as holder:
        check_refused(report, before, str(holder.pid), holder.node)
    modules.calm()


@scenario(*REFUSED)
def held_by_the_kernel(report: Report) -> None:
    """No process at all: a kernel client has a reference to the driver's module."""
    modules.bind(CARD, hold_module=1)
    before = snapshot.take()
    check_refused(report, before, "labgpu", "in the kernel")
    modules.calm()


@scenario(*REFUSED)
def held_by_a_container(report: Report) -> None:
    modules.bind(CARD)
    before = snapshot.take()
    with holding.container(modules.node(CARD) or "") as holder:
        check_refused(report, before, "container", holder.unit.removeprefix("docker-")[:12])
    modules.calm()


@scenario(*REFUSED)
def held_sound(report: Report) -> None:
    """The companion's: its driver waits for every open file, too."""
    before = snapshot.take()
    with holding.process("/dev/snd/controlC0") as holder:
        check_refused(report, before, str(holder.pid), "/dev/snd/controlC0")


@scenario("prepared", "unit is stopped", "on VFIO", "unit runs again", *RETURNED)
def stopped_unit(report: Report) -> None:
    node = modules.bind(CARD)
    before = snapshot.take()
    with open(UNIT, "w", encoding="ascii") as file:
        file.write(f"[Service]\nExecStart=/bin/sh -c 'exec 3<>{node}; exec sleep infinity'\n")
    need("systemctl", "daemon-reload")
    need("systemctl", "start", "lab-user.service")
    holds(lambda: modules.references(modules.LABGPU) > 0, 20.0)
    service.policy(policy(holders="stop"))
    answer = asked.prepare(domain())
    report.check("prepared", answer.ok, answer)
    report.equal("unit is stopped", service.show("lab-user.service", "ActiveState"), "inactive")
    report.check("on VFIO", all(map(pci.on_vfio, PAIR)), pci.describe(list(PAIR)))
    # Whatever it opens when it starts, the card's node must be there again by then.
    asked.release(domain())
    check_returned(report, before)
    report.within(
        "unit runs again",
        30.0,
        lambda: service.show("lab-user.service", "ActiveState") == "active",
        lambda: service.log("-n", "30"),
    )
    run("systemctl", "stop", "lab-user.service")
    os.unlink(UNIT)
    need("systemctl", "daemon-reload")
    service.policy("")
    modules.calm()


@scenario("prepared", "holders are gone", "on VFIO", *RETURNED)
def ended_holders(report: Report) -> None:
    """One goes when it is asked to, the other has to be killed."""
    node = modules.bind(CARD)
    before = snapshot.take()
    service.policy(policy(holders="terminate", holder_limit=2))
    polite = holding.process(node)
    stubborn = holding.process(node, before=("env", "--ignore-signal=TERM"))
    answer = asked.prepare(domain())
    report.check("prepared", answer.ok, answer)
    gone = [holder.process.poll() for holder in (polite, stubborn) if holder.process]
    report.equal("holders are gone", gone, [-signal.SIGTERM, -signal.SIGKILL])
    report.check("on VFIO", all(map(pci.on_vfio, PAIR)), pci.describe(list(PAIR)))
    asked.release(domain())
    check_returned(report, before)
    service.policy("")
    modules.calm()


@scenario("opened in time", "refused", "names the holder", "nothing hangs", *RETURNED)
def appears_before_the_last_look(report: Report) -> None:
    """After the first look, before the write: the last look finds it."""
    node = modules.bind(CARD)
    before = snapshot.take()
    found: list[holding.Holder] = []
    with service.KillAt("override", at="end", do=lambda: found.append(holding.process(node))) as watch:
        answer = asked.prepare(domain())
    report.check("opened in time", watch.fired, "no override in the journal")
    report.check("refused", answer.status == 1, answer)
    report.check("names the holder", any(str(holder.pid) in answer.err for holder in found), answer.err)
    report.equal("nothing hangs", modules.removing(), 0)
    asked.release(domain())
    for holder in found:
        holder.let_go()
    check_returned(report, before)
    modules.calm()


@scenario("opened in time", "prepared when it let go", "on VFIO", *RETURNED)
def appears_after_the_last_look(report: Report) -> None:
    """The window that nothing closes: remove() waits, the write has its limit, and the holder lets go before it."""
    node = modules.bind(CARD)
    before = snapshot.take()

    def hold_for_a_while() -> None:
        # Not a process that would take its time to start: opened here and now.
        handle = os.open(node, os.O_RDWR)
        threading.Timer(2.0, os.close, (handle,)).start()

    with service.KillAt("unbind", do=hold_for_a_while) as watch:
        answer = asked.prepare(domain())
    report.check("opened in time", watch.fired, "no unbind in the journal")
    report.check("prepared when it let go", answer.ok, answer)
    report.check("on VFIO", all(map(pci.on_vfio, PAIR)), pci.describe(list(PAIR)))
    asked.release(domain())
    check_returned(report, before)
    modules.calm()


@scenario("prepared", "unloaded meanwhile", "driver is back", *RETURNED)
def driver_unloaded_meanwhile(report: Report) -> None:
    """The way home leads over a module that is not there any more."""
    modules.bind(CARD)
    before = snapshot.take()
    answer = asked.prepare(domain())
    report.check("prepared", answer.ok, answer)
    report.check("unloaded meanwhile", modules.unload(modules.LABGPU).ok, "")
    asked.release(domain())
    report.within(
        "driver is back", 30.0, lambda: pci.driver(CARD) == modules.LABGPU, lambda: pci.describe([CARD])
    )
    check_returned(report, before)
    modules.calm()


@scenario("prepared", "left by unloading", "back", "in use: refused at once", "nothing hangs", *RETURNED)
def left_by_unloading(report: Report) -> None:
    """As NVIDIA's driver is: never unbound, and a module that is in use refuses to go."""
    node = modules.bind(CARD)
    before = snapshot.take()
    service.policy(policy(leave="unload"))
    answer = asked.prepare(domain())
    report.check("prepared", answer.ok and all(map(pci.on_vfio, PAIR)), answer)
    report.check("left by unloading", not modules.loaded(modules.LABGPU), pci.describe([CARD]))
    asked.release(domain())
    report.within("back", 30.0, lambda: pci.driver(CARD) == modules.LABGPU, lambda: pci.describe([CARD]))
    modules.parameter("hold_module", 1)
    answer = asked.prepare(domain())
    report.check("in use: refused at once", answer.status == 1 and "labgpu" in answer.err, answer)
    report.equal("nothing hangs", modules.removing(), 0)
    asked.release(domain())
    modules.parameter("hold_module", 0)
    check_returned(report, before)
    service.policy("")
    modules.calm()
    report.note(f"node {node}")


SCENARIOS = (
    open_node,
    mapped_node,
    held_by_the_kernel,
    held_by_a_container,
    held_sound,
    stopped_unit,
    ended_holders,
    appears_before_the_last_look,
    appears_after_the_last_look,
    driver_unloaded_meanwhile,
    left_by_unloading,
)
