"""Facts about a driver whose remove() waits: what blocks, what does not, what ends it. Without the product.

Where Linux 6.1 and 6.12 differ, the check knows both answers; the notes of a run say what else was seen.
"""

import os
import time

from . import attempts, holding, modules, pci
from .attempts import Attempt
from .domains import Domain, libvirt_version
from .programs import holds, need, wait_until
from .report import Report, scenario

CARD, SOUND = "0000:01:00.0", "0000:01:00.1"
OTHER = "0000:07:02.0"
SCREEN = "0000:02:00.0"
# Attributes whose reading takes the device's lock, which is held while its driver's remove() runs. Linux 6.12 has none
# (as Debian has it); writing driver_override is the same, and power/control waits on both.
LOCKED = {"driver_override", "uevent"} if os.uname().release.startswith("6.1.") else set[str]()
# Only for writing, or no attribute but the memory itself.
NOT_READ = ("remove", "rescan", "reset", "rom")


def unbind(address: str) -> Attempt:
    return attempts.write(f"{pci.DEVICES}/{address}/driver/unbind", address)


def attributes(address: str) -> list[str]:
    """The readable files of a device's folder and of its power folder."""
    folder = f"{pci.DEVICES}/{address}"
    names = [
        name for name in sorted(os.listdir(folder)) if not name.startswith("resource") or name == "resource"
    ]
    names += [f"power/{name}" for name in sorted(os.listdir(f"{folder}/power"))]
    paths = [f"{folder}/{name}" for name in names if name not in NOT_READ]
    return [path for path in paths if os.path.isfile(path) and os.access(path, os.R_OK)]


def names(paths: list[str]) -> str:
    return " ".join(path.removeprefix(f"{pci.DEVICES}/") for path in paths) or "none"


@scenario(
    "known by its alias",
    "not loaded by itself",
    "binds",
    "node below the device",
    "named by uevent",
    "unloads",
)
def bound(report: Report) -> None:
    found = modules.aliases("pci:v00001002d00005046")
    report.check("known by its alias", modules.LABGPU in found.values(), found)
    report.check("not loaded by itself", not modules.loaded(modules.LABGPU), pci.describe([CARD]))
    node = modules.bind(CARD)
    report.equal("binds", pci.driver(CARD), modules.LABGPU)
    report.equal("node below the device", node, "/dev/labgpu0")
    with open(f"{pci.DEVICES}/{CARD}/labgpu/labgpu0/uevent", encoding="ascii") as file:
        text = file.read()
    report.check("named by uevent", "DEVNAME=labgpu0" in text and "MAJOR=" in text, text)
    report.check(
        "unloads", modules.unload(modules.LABGPU).ok and pci.driver(CARD) is None, pci.describe([CARD])
    )


@scenario(
    "counted",
    "unload fails at once",
    "still bound after that",
    "unbind blocks",
    "and no signal ends it",
    "node refuses to open",
    "driver link is gone already",
    "what cannot be read",
    "its siblings answer",
    "ends when let go",
    "node is gone",
)
def open_node(report: Report) -> None:
    node = modules.bind(CARD)
    with holding.process(node) as holder:
        # Two: a device node's own reference and that of its operations (chrdev_open of fs/char_dev.c).
        report.equal("counted", modules.references(modules.LABGPU), 2)
        began = time.monotonic()
        done = modules.unload(modules.LABGPU)
        seconds = time.monotonic() - began
        report.check("unload fails at once", not done.ok and seconds < 5.0, f"{seconds:.2f} s, {done}")
        report.note(f"modprobe -r: {seconds:.2f} s, {done}")
        report.equal("still bound after that", pci.driver(CARD), modules.LABGPU)
        leaving = unbind(CARD)
        report.check("unbind blocks", not leaving.ends(3.0) and modules.removing() == 1, leaving)
        leaving.kill()
        report.check("and no signal ends it", not leaving.ends(3.0), leaving)
        report.note(f"the writer: {leaving}")
        refused = attempts.start("sh", "-c", f"exec 3<{node}")
        report.check("node refuses to open", refused.ends() and refused.status, refused)
        report.equal("driver link is gone already", pci.driver(CARD), None)
        unreadable = {os.path.basename(path) for path in attempts.stuck(attributes(CARD))}
        report.equal("what cannot be read", unreadable, LOCKED)
        report.equal("its siblings answer", names(attempts.stuck(attributes(SOUND))), "none")
        holder.let_go()
        report.check("ends when let go", leaving.ends(5.0), leaving)
    report.check("node is gone", not os.path.exists(node) and pci.driver(CARD) is None, pci.describe([CARD]))


@scenario("counted", "no node is open", "unload fails", "unbind blocks", "ends when let go")
def held_by_kernel(report: Report) -> None:
    """A module reference that no descriptor explains."""
    modules.bind(CARD, hold_module=1)
    report.equal("counted", modules.references(modules.LABGPU), 1)
    report.equal("no node is open", modules.parameter("opens"), "0")
    report.check("unload fails", not modules.unload(modules.LABGPU).ok)
    leaving = unbind(CARD)
    report.check("unbind blocks", not leaving.ends(3.0), leaving)
    modules.parameter("hold_module", 0)
    report.check("ends when let go", leaving.ends(5.0), leaving)


@scenario("companion bound", "companion blocks alone", "both unload")
def companion(report: Report) -> None:
    """labgpu takes the audio function as well, where driver_override says so."""
    modules.bind(CARD)
    node = modules.bind(SOUND)
    report.equal("companion bound", (pci.driver(SOUND), node), (modules.LABGPU, "/dev/labgpu1"))
    with holding.process(node) as holder:
        card, sound = unbind(CARD), unbind(SOUND)
        report.check("companion blocks alone", card.ends() and not sound.ends(3.0), (card, sound))
        holder.let_go()
        sound.ends(5.0)
    report.check("both unload", modules.unload(modules.LABGPU).ok, pci.describe([CARD, SOUND]))


@scenario("mapping counts", "unit counts", "container counts", "session counts", "ends with the last")
def holders(report: Report) -> None:
    node = modules.bind(CARD)
    with holding.mapping(node):
        report.equal("mapping counts", modules.parameter("opens"), "1")
    for kind in ("unit", "container", "session"):
        make = {"unit": holding.service, "container": holding.container, "session": holding.session}[kind]
        with make(node) as holder, open(f"/proc/{holder.pid}/cgroup", encoding="ascii") as file:
            report.equal(f"{kind} counts", modules.parameter("opens"), "1")
            report.note(f"{kind}: {file.read().strip()}")
    report.equal("ends with the last", modules.parameter("opens"), "0")


@scenario(
    "unbind blocks with nobody there",
    "another device can be unbound",
    "and bound",
    "lspci and a rescan work",
    "a domain starts on another device",
    "ends when allowed",
)
def never_returning(report: Report) -> None:
    """What else works while one remove() waits, with vfio-pci loaded before."""
    need("modprobe", "vfio-pci")
    modules.bind(CARD, never_return=1)
    pci.write(CARD, "driver_override", "vfio-pci")
    leaving = unbind(CARD)
    report.check("unbind blocks with nobody there", not leaving.ends(3.0), leaving)
    other = unbind(OTHER)
    report.check("another device can be unbound", other.ends(10.0) and pci.driver(OTHER) is None, other)
    back = attempts.write("/sys/bus/pci/drivers_probe", OTHER)
    report.check("and bound", back.ends(10.0) and pci.driver(OTHER) == "e1000", back)
    looks = attempts.start("lspci", "-vvk"), attempts.write("/sys/bus/pci/rescan", "1")
    report.check(
        "lspci and a rescan work", all(look.ends(20.0) for look in looks), [str(look) for look in looks]
    )
    for title, attempt in (
        ("drivers_probe of the card", attempts.write("/sys/bus/pci/drivers_probe", CARD)),
        ("power/control of the card", attempts.write(f"{pci.DEVICES}/{CARD}/power/control", "on")),
        ("d3cold_allowed of the card", attempts.write(f"{pci.DEVICES}/{CARD}/d3cold_allowed", "1")),
        ("reset_method of the card", attempts.write(f"{pci.DEVICES}/{CARD}/reset_method", "default")),
        ("config of the card", attempts.start("head", "-c", "64", f"{pci.DEVICES}/{CARD}/config")),
        ("udevadm info of the card", attempts.start("udevadm", "info", "-a", f"{pci.DEVICES}/{CARD}")),
        ("udevadm trigger", attempts.start("udevadm", "trigger", f"{pci.DEVICES}/{CARD}")),
        ("udevadm settle", attempts.start("udevadm", "settle", "--timeout=3")),
        ("nodedev-dumpxml", attempts.start("virsh", "nodedev-dumpxml", "pci_0000_01_00_0")),
        ("override of the card", attempts.write(f"{pci.DEVICES}/{CARD}/driver_override", "vfio-pci")),
        ("modprobe -r labgpu", attempts.start("modprobe", "-r", modules.LABGPU)),
    ):
        report.note(f"{title}: {'ended' if attempt.ends(5.0) else 'stuck'}; {str(attempt)[:300]}")
    with Domain(name="other", hostdevs=(SCREEN,)).defined() as domain:
        started = domain.start()
        report.check("a domain starts on another device", started.ok and pci.on_vfio(SCREEN), started)
        if started.ok:
            domain.destroy()
    modules.parameter("never_return", 0)
    report.check("ends when allowed", leaving.ends(5.0), leaving)


@scenario("a module that fits the card hangs", "starts only where libvirt asks the bus", "ends when allowed")
def module_too_late(report: Report) -> None:
    """vfio-pci is loaded while a card with its override is stuck: registering a driver visits each device that matches
    and takes its lock (__driver_attach of drivers/base/dd.c). Hence: load it before the first unbind.
    """
    report.note(f"vfio-pci before: {modules.unload('vfio-pci')}")
    modules.bind(CARD, never_return=1)
    pci.write(CARD, "driver_override", "vfio-pci")
    leaving = unbind(CARD)
    leaving.ends(2.0)
    loading = attempts.start("modprobe", "vfio-pci")
    report.check("a module that fits the card hangs", not loading.ends(5.0), loading)
    with Domain(name="other", hostdevs=(SCREEN,)).defined() as domain:
        starting = attempts.start("virsh", "-c", "qemu:///system", "start", domain.name)
        # libvirt since 10.0 looks at the module, which names its drivers once it is loaded; before, at the folder
        # of the bus, which is there from the first moment.
        starts = starting.ends(60.0) and starting.status == 0
        report.equal("starts only where libvirt asks the bus", starts, libvirt_version() < (10, 0))
        report.note(f"start meanwhile: {starting}")
        modules.parameter("never_return", 0)
        report.check(
            "ends when allowed", leaving.ends(5.0) and loading.ends(10.0), (str(leaving), str(loading))
        )
        starting.ends(60.0)


@scenario(
    "has a stream",
    "blocked with the control open",
    "with the control open",
    "blocked with a stream open",
    "with a stream open",
)
def sound(report: Report) -> None:
    """snd_hda_intel's remove() with its nodes open (snd_card_disconnect_sync of sound/core/init.c waits for files)."""
    report.check("has a stream", holds(lambda: bool(_sound_nodes("pcm")), 10.0), os.listdir("/dev/snd"))
    for title, kind, direction in (
        ("with the control open", "control", "<"),
        ("with a stream open", "pcm", ">"),
    ):
        with holding.process(_sound_nodes(kind)[0], direction=direction) as holder:
            references = modules.references("snd_hda_intel")
            leaving = unbind(SOUND)
            ended = leaving.ends(5.0)
            report.check(f"blocked {title}", not ended, leaving)
            report.note(f"{title}: {references} references; {leaving}")
            holder.let_go()
            report.check(title, leaving.ends(10.0) and pci.driver(SOUND) is None, leaving)
        pci.probe(SOUND)
        wait_until(lambda: bool(_sound_nodes("pcm")), 30.0, "the card's nodes to be back")


def _sound_nodes(kind: str) -> list[str]:
    """Nodes of the card, whose number may be another after each binding."""
    folder = f"{pci.DEVICES}/{SOUND}/sound"
    (card,) = [name for name in os.listdir(folder) if name.startswith("card")]
    found = [f"/dev/snd/{name}" for name in os.listdir(f"{folder}/{card}") if name.startswith(kind)]
    return sorted(path for path in found if os.path.exists(path))


SCENARIOS = (bound, open_node, held_by_kernel, companion, holders, never_returning, module_too_late, sound)
