"""Facts about the other kinds of devices: a variant driver, mediated devices, virtual functions, USB, a pulled card.

Without the product.
"""

import glob
import os
import uuid

from . import attempts, mdev, modules, outside, pci, rival, sriov, usb
from .domains import Domain, libvirt_version
from .programs import holds, run
from .report import Report, scenario
from .stuck import LOCKED, attributes, names

CARD = "0000:01:00.0"
SCREEN = "0000:02:00.0"
NETWORK = "0000:07:02.0"
PLUGGED = "0000:04:00.0"


@scenario(
    "better alias than vfio-pci's",
    "binds",
    "is a VFIO device",
    "runs on it where libvirt knows variants",
    "runs managed",
)
def variant(report: Report) -> None:
    found = modules.aliases("vfio_pci:")
    wanted = [name for name in found if name.startswith("vfio_pci:v00001002d00005046")]
    report.check("better alias than vfio-pci's", wanted and found[wanted[0]] == modules.VARIANT, found)
    modules.load(modules.VARIANT)
    rival.steal(CARD, modules.VARIANT)
    report.equal("binds", pci.driver(CARD), modules.VARIANT)
    report.check("is a VFIO device", pci.on_vfio(CARD), pci.describe([CARD]))
    rival.steal("0000:01:00.1", "vfio-pci")
    with Domain(name="variant", hostdevs=(CARD,), managed=False).defined() as domain:
        started = domain.start()
        # libvirt before 10.0 knows drivers by name, and for a device that it does not manage only vfio-pci's
        # (virHostdevPreparePCIDevicesImpl).
        knows = libvirt_version() >= (10, 0)
        report.check("runs on it where libvirt knows variants", started.ok == knows, started)
        report.note(f"libvirt {libvirt_version()}: {started}; {pci.describe([CARD])}")
    with Domain(name="managed", hostdevs=(CARD, "0000:01:00.1")).defined() as domain:
        started = domain.start()
        report.note(f"managed: {started}; {pci.describe([CARD])}")
        report.check("runs managed", started.ok and pci.on_vfio(CARD), started)


@scenario(
    "mbochs has types",
    "mtty has types",
    "made",
    "fewer while it is there",
    "a domain has it",
    "removing it waits for the domain",
    "and ends with it",
    "removed",
)
def mediated(report: Report) -> None:
    modules.load(modules.MBOCHS)
    modules.load(modules.MTTY)
    shown = {parent: mdev.types(parent) for parent in mdev.parents()}
    report.note(f"types: {shown}")
    (display,) = [parent for parent, types in shown.items() if "mbochs-small" in types]
    serial = [parent for parent, types in shown.items() if "mtty-1" in types]
    report.check("mbochs has types", display, shown)
    report.check("mtty has types", serial, shown)
    report.note(f"parent: {os.path.realpath(f'{mdev.PARENTS}/{display}')}")
    one = str(uuid.uuid4())
    mdev.create(display, "mbochs-small", one)
    report.equal("made", mdev.devices(), {one: "mbochs-small"})
    report.note(
        f"device: {os.path.realpath(f'{mdev.DEVICES}/{one}')}: {sorted(os.listdir(f'{mdev.DEVICES}/{one}'))}"
    )
    left = mdev.types(display)
    report.check("fewer while it is there", left["mbochs-small"] < shown[display]["mbochs-small"], left)
    report.note(
        f"with one mbochs-small: {left}; mdevctl: {run('mdevctl', 'types')}; {run('mdevctl', 'list')}"
    )
    with Domain(name="slice", mdevs=(one,)).defined() as domain:
        started = domain.start()
        report.check("a domain has it", started.ok, started)
        if started.ok:
            removing = attempts.write(f"{mdev.DEVICES}/{one}/remove", "1")
            report.check("removing it waits for the domain", not removing.ends(), removing)
            report.note(f"{removing}; cannot be read: {names(attempts.stuck(_files(one)))}")
            domain.destroy()
            report.check("and ends with it", removing.ends(20.0), removing)
    report.equal("removed", mdev.devices(), {})
    report.note(f"unload: {modules.unload(modules.MBOCHS)}; {modules.unload(modules.MTTY)}")


@scenario(
    "four at most",
    "two come",
    "without a driver",
    "bound to VFIO",
    "a third is refused",
    "a domain has one",
    "taking them away waits",
    "and ends with the domain",
    "go",
)
def virtual_functions(report: Report) -> None:
    report.equal("four at most", sriov.total(), 4)
    found = sriov.create(2)
    report.check("two come", len(found) == 2 and set(found) <= set(pci.functions()), found)
    report.equal("without a driver", [pci.driver(address) for address in found], [None, None])
    report.note("; ".join(f"{address} in {pci.group(address)}" for address in found))
    run("modprobe", "vfio-pci")
    rival.steal(found[0], "vfio-pci")
    report.check("bound to VFIO", pci.on_vfio(found[0]), pci.describe(found))
    third = attempts.write(f"{pci.DEVICES}/{sriov.CARD}/sriov_numvfs", "3")
    report.check("a third is refused", third.ends() and third.status, third)
    report.note(f"a third: {third}")
    with Domain(name="virtual", hostdevs=found[:1]).defined() as domain:
        started = domain.start()
        report.check("a domain has one", started.ok and pci.on_vfio(found[0]), started)
        removing = attempts.write(f"{pci.DEVICES}/{sriov.CARD}/sriov_numvfs", "0")
        report.check("taking them away waits", not removing.ends(), removing)
        report.note(f"{removing}; left meanwhile: {sriov.functions()}")
        report.note(f"cannot be read of the physical one: {names(attempts.stuck(attributes(sriov.CARD)))}")
        domain.destroy()
        report.check("and ends with the domain", removing.ends(20.0), removing)
    sriov.remove()
    report.equal("go", sriov.functions(), [])


@scenario("plugged", "bind announced", "by port", "told apart by serial", "storage", "hub", "unplugged")
def usb_devices(report: Report) -> None:
    with usb.Monitor() as monitor:
        usb.plug("usb-mouse", "u1", port="1", serial="one")
        report.within("plugged", 30.0, lambda: usb.find("usb-mouse", serial="one") is not None, monitor.lines)
        name = usb.find("usb-mouse", serial="one") or ""
        bound = holds(
            lambda: any(line.startswith("bind") and line.endswith(name) for line in monitor.lines()), 20.0
        )
        report.check("bind announced", bound, monitor.lines())
        report.note(f"{monitor.lines()}; drivers {usb.driver(name)} {usb.driver(f'{name}:1.0')}")
    report.check("by port", name.endswith("-1"), name)
    usb.plug("usb-tablet", "u2", port="2", serial="two")
    other = holds(lambda: usb.find("usb-tablet", serial="two") is not None, 30.0)
    report.check("told apart by serial", other and usb.find("usb-tablet", serial="two") != name, name)
    usb.plug("usb-storage", "u3", port="3")
    report.within(
        "storage", 30.0, lambda: usb.find("usb-storage") is not None, lambda: os.listdir(usb.DEVICES)
    )
    usb.plug("usb-hub", "u4", port="4")
    holds(lambda: usb.find("usb-hub") is not None, 30.0)
    usb.plug("usb-kbd", "u5", port="4.1", serial="five")
    behind = holds(lambda: str(usb.find("usb-kbd", serial="five")).endswith("-4.1"), 30.0)
    report.check("hub", behind, os.listdir(usb.DEVICES))
    report.note(f"all: {sorted(os.listdir(usb.DEVICES))}")
    for ident in ("u5", "u4", "u3", "u2", "u1"):
        usb.unplug(ident)
    report.within(
        "unplugged",
        30.0,
        lambda: not any(usb.find(kind) for kind in usb.KINDS),
        lambda: os.listdir(usb.DEVICES),
    )


@scenario("driverctl binds", "and undoes")
def rivals(report: Report) -> None:
    done = rival.driverctl(NETWORK, "vfio-pci")
    report.check("driverctl binds", done.ok and pci.on_vfio(NETWORK), (done, pci.describe([NETWORK])))
    done = rival.driverctl_undo(NETWORK)
    report.check("and undoes", done.ok and pci.driver(NETWORK) == "e1000", (done, pci.describe([NETWORK])))


@scenario(
    "a domain has it",
    "without a driver, and with vfio-dev only on 6.1",
    "what cannot be read",
    "stays until the domain ends",
    "other devices can be unbound",
    "then goes",
)
def pulled(report: Report) -> None:
    """A card is pulled out while a domain has it: vfio's remove() waits for QEMU, with the rescan lock held."""
    outside.qmp("device_add", driver="secondary-vga", bus="rp4", id="hot1")
    holds(lambda: pci.driver(PLUGGED) is not None, 30.0)
    with Domain(name="pulled", hostdevs=(PLUGGED,)).defined() as domain:
        started = domain.start()
        report.check("a domain has it", started.ok and pci.on_vfio(PLUGGED), started)
        outside.qmp("device_del", id="hot1")
        gone = holds(lambda: PLUGGED not in pci.functions(), 15.0)
        report.check("stays until the domain ends", not gone and domain.state() == "running", domain.state())
        # vfio_unregister_group_dev waits with the folder still there on 6.1, and without it on 6.12.
        left = pci.driver(PLUGGED), pci.on_vfio(PLUGGED)
        report.equal("without a driver, and with vfio-dev only on 6.1", left, (None, bool(LOCKED)))
        unreadable = {os.path.basename(path) for path in attempts.stuck(attributes(PLUGGED))}
        report.equal("what cannot be read", unreadable, LOCKED)
        other = attempts.write(f"{pci.DEVICES}/{NETWORK}/driver/unbind", NETWORK)
        report.check("other devices can be unbound", other.ends(10.0), other)
        for title, attempt in (
            ("bind of another", attempts.write("/sys/bus/pci/drivers_probe", NETWORK)),
            ("rescan", attempts.write("/sys/bus/pci/rescan", "1")),
            ("VFs of another card", attempts.write(f"{pci.DEVICES}/{sriov.CARD}/sriov_numvfs", "1")),
            ("override of the card", attempts.write(f"{pci.DEVICES}/{PLUGGED}/driver_override", "none")),
            ("its remove", attempts.write(f"{pci.DEVICES}/{PLUGGED}/remove", "1")),
            ("lspci", attempts.start("lspci", "-k")),
        ):
            report.note(f"{title}: {'ended' if attempt.ends(10.0) else 'stuck'}; {str(attempt)[:300]}")
        report.note(f"kernel: {run('sh', '-c', 'dmesg | tail -n 6').out.strip()}")
        destroyed = attempts.start("virsh", "-c", "qemu:///system", "destroy", domain.name)
        report.note(f"destroy: {'ended' if destroyed.ends(60.0) else 'stuck'}; {destroyed}")
        report.within("then goes", 30.0, lambda: PLUGGED not in pci.functions(), pci.functions)
        sriov.remove()


def _files(uuid: str) -> list[str]:
    """The readable files of a mediated device and of the type that made it."""
    folder = f"{mdev.DEVICES}/{uuid}"
    found = [*glob.glob(f"{folder}/*"), *glob.glob(f"{folder}/vendor/*"), *glob.glob(f"{folder}/mdev_type/*")]
    return [
        path for path in found if os.path.isfile(path) and os.access(path, os.R_OK) and "/remove" not in path
    ]


SCENARIOS = (variant, mediated, virtual_functions, usb_devices, rivals, pulled)
