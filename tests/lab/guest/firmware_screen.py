"""The card of the boot framebuffer: consoles, efifb and the display manager go before it does, and come back.

The machine is started by OVMF and bochs is not loaded; see `screen` for what happens when nobody takes care.
"""

import os

from . import holding, pci, screen, service, snapshot
from .domains import Domain
from .jobs import RETURNED, check_returned
from .programs import holds, need, run
from .report import Report, scenario

CARD = screen.CARD
MANAGER = "display-manager.service"
BACK = 60.0


def _policy(more: str = "") -> str:
    return f'[[device]]\nname = "screen"\nmatch = {{ address = "{CARD}" }}\n{more}'


def _looks() -> tuple[list[str], dict[str, str], bool]:
    """Who has the card's memory, the consoles, and whether there is a frame buffer."""
    return screen.owner(), screen.consoles(), os.path.exists("/dev/fb0")


@scenario(
    "the plan shows it",
    "starts",
    "on VFIO",
    "framebuffer let go",
    "the kernel gives it its memory",
    "screen as before",
    *RETURNED,
)
def without_display_manager(report: Report) -> None:
    before, looked = snapshot.take(), _looks()
    with Domain(name="bare", hostdevs=(CARD,)).defined() as domain:
        plan = run("hostler", "plan", "--domain", "bare").out
        report.check("the plan shows it", "efi-framebuffer.0" in plan and "vtcon" in plan, plan)
        started = domain.start()
        if report.check("starts", started.ok, started):
            report.check("on VFIO", pci.on_vfio(CARD), pci.describe([CARD]))
            owner = screen.owner()
            report.check("framebuffer let go", not any("efifb" in line for line in owner), owner)
            kernel = run("sh", "-c", "dmesg | grep 'reserve'").out
            report.check("the kernel gives it its memory", "can't reserve" not in kernel, kernel)
            domain.destroy()
        report.check("screen as before", holds(lambda: _looks() == looked, BACK), (_looks(), looked))
        check_returned(report, before)


@scenario(
    "refused while it is shown",
    "names the display manager",
    "starts",
    "display manager stopped",
    "on VFIO",
    "screen as before",
    "display manager runs again and has it",
    *RETURNED,
)
def with_display_manager(report: Report) -> None:
    before, looked = snapshot.take(), _looks()
    need("systemctl", "enable", "lab-display.service")
    need("systemctl", "start", MANAGER)
    with Domain(name="desk", hostdevs=(CARD,)).defined() as domain:
        refused = domain.start()
        report.check("refused while it is shown", not refused.ok, refused)
        report.check("names the display manager", "/dev/fb0" in refused.err, refused)
        service.policy(_policy(f'units = ["{MANAGER}"]\n'))
        started = domain.start()
        if report.check("starts", started.ok, started):
            active = service.show(MANAGER, "ActiveState")
            report.check("display manager stopped", active == "inactive", active)
            report.check("on VFIO", pci.on_vfio(CARD), pci.describe([CARD]))
            domain.destroy()
        report.check("screen as before", holds(lambda: _looks() == looked, BACK), (_looks(), looked))
        report.check("display manager runs again and has it", holds(_shown, BACK), service.log("-n", "20"))
        check_returned(report, before)
    service.policy("")
    need("systemctl", "stop", MANAGER)
    run("systemctl", "disable", "lab-display.service")


def _shown() -> bool:
    pid = service.show(MANAGER, "MainPID")
    return pid not in ("", "0") and "/dev/fb0" in holding.opened(int(pid))


@scenario("it fired", "domain runs or all is as before", "screen as before", *RETURNED)
def killed_at_framebuffer(report: Report) -> None:
    """SIGKILL when the step is announced: on the way there, and the next life puts back or goes on."""
    before, looked = snapshot.take(), _looks()
    with Domain(name="killed", hostdevs=(CARD,)).defined() as domain:
        with service.KillAt("framebuffer") as kill:
            started = domain.start()
        report.check("it fired", kill.fired, started)
        service.wait_back(kill.pid)
        report.check("domain runs or all is as before", started.ok == pci.on_vfio(CARD), started)
        if started.ok:
            domain.destroy()
        report.check("screen as before", holds(lambda: _looks() == looked, BACK), (_looks(), looked))
        check_returned(report, before)


SCENARIOS = (without_display_manager, with_display_manager, killed_at_framebuffer)
