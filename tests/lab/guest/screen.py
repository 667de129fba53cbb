"""Facts about a boot framebuffer, with the machine started by OVMF and bochs not loaded. Without the product."""

import glob
import os

from . import attempts, holding, pci
from .domains import Domain
from .programs import need, run
from .report import Report, scenario

CARD = "0000:02:00.0"


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def owner() -> list[str]:
    """What /proc/iomem shows within the card's memory, outermost first."""
    lines = _lines("/proc/iomem")
    start = next((i for i, line in enumerate(lines) if line.endswith(f": {CARD}")), None)
    if start is None:
        return []
    depth = len(lines[start]) - len(lines[start].lstrip())
    found = []
    for line in lines[start + 1 :]:
        if len(line) - len(line.lstrip()) <= depth:
            break
        found.append(line.strip())
    return found


def consoles() -> dict[str, str]:
    """`name: bound` of each /sys/class/vtconsole entry."""
    found = {}
    for folder in sorted(glob.glob("/sys/class/vtconsole/vtcon*")):
        found[os.path.basename(folder)] = f"{_lines(f'{folder}/name')[0]}: {_lines(f'{folder}/bind')[0]}"
    return found


def _describe() -> str:
    drivers = {
        name: [os.path.basename(p) for p in glob.glob(f"/sys/bus/platform/drivers/{name}/*.[0-9]*")]
        for name in ("efi-framebuffer", "simple-framebuffer", "vesa-framebuffer")
        if os.path.isdir(f"/sys/bus/platform/drivers/{name}")
    }
    return (
        f"iomem {owner()}; platform {drivers}; {consoles()}; fb {_lines('/proc/fb')}; "
        f"graphics {sorted(os.listdir('/sys/class/graphics'))}; dri {glob.glob('/dev/dri/*')}; "
        f"boot_vga {glob.glob('/sys/bus/pci/devices/*/boot_vga')}"
    )


@scenario(
    "booted by EFI", "no driver", "memory is taken", "fb0 is there", "its console is bound", "efifb lets go"
)
def boot_framebuffer(report: Report) -> None:
    report.check("booted by EFI", os.path.isdir("/sys/firmware/efi"))
    report.equal("no driver", pci.driver(CARD), None)
    report.note(_describe())
    report.check("memory is taken", owner(), _lines("/proc/iomem"))
    report.check("fb0 is there", os.path.exists("/dev/fb0"), _lines("/proc/fb"))
    bound = [name for name, text in consoles().items() if "frame buffer" in text and text.endswith(": 1")]
    report.check("its console is bound", bound, consoles())
    device = glob.glob("/sys/bus/platform/drivers/efi-framebuffer/efi-framebuffer*")
    report.note(f"{device} is {[os.path.realpath(path) for path in device]}")
    for name in bound:
        attempt = attempts.write(f"/sys/class/vtconsole/{name}/bind", "0")
        report.note(f"console: {attempt.ends(20.0)} {attempt}")
    attempt = attempts.write("/sys/bus/platform/drivers/efi-framebuffer/unbind", os.path.basename(device[0]))
    report.check(
        "efifb lets go", attempt.ends(20.0) and attempt.status == 0 and not owner(), (attempt, owner())
    )
    report.note(f"after: {_describe()}")
    back = attempts.write("/sys/bus/platform/drivers/efi-framebuffer/bind", os.path.basename(device[0]))
    report.note(f"bound again: {back.ends(20.0)} {back}; {_describe()}")
    for name in bound:
        attempt = attempts.write(f"/sys/class/vtconsole/{name}/bind", "1")
        report.note(f"console again: {attempt.ends(20.0)} {attempt}; {consoles()}")


@scenario("starts", "holds the screen", "stops")
def display_manager(report: Report) -> None:
    report.note(f"enable: {run('systemctl', 'enable', 'lab-display.service')}")
    need("systemctl", "start", "display-manager.service")
    shown = need("systemctl", "show", "-p", "Id,Names,MainPID,ActiveState", "display-manager.service")
    report.check("starts", "ActiveState=active" in shown, shown)
    pid = need("systemctl", "show", "--value", "-p", "MainPID", "display-manager.service").strip()
    opened = holding.opened(int(pid))
    report.check("holds the screen", "/dev/fb0" in opened, (shown, opened))
    need("systemctl", "stop", "display-manager.service")
    report.note(f"disable: {run('systemctl', 'disable', 'lab-display.service')}")
    active = run("systemctl", "is-active", "display-manager.service").out.strip()
    report.check("stops", active != "active", active)


@scenario("a domain on the framebuffer's card")
def taken_as_it_is(report: Report) -> None:
    """Nothing lets go of the screen before; what does the kernel do?"""
    with Domain(name="screen", hostdevs=(CARD,)).defined() as domain:
        started = domain.start()
        report.check("a domain on the framebuffer's card", started.ok == pci.on_vfio(CARD), started)
        report.note(f"{started}; {pci.describe([CARD])}; {_describe()}")
        report.note(run("sh", "-c", "dmesg | tail -n 8").out)


SCENARIOS = (boot_framebuffer, display_manager, taken_as_it_is)
