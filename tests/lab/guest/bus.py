"""The faces as other programs meet them: the system bus with polkit, and the socket, as root and as nobody."""

import json
import os

from . import service
from .main import CARD
from .programs import Done, busctl, run
from .report import Report, scenario

NAME = "org.hostler1"
MANAGER = "/org/hostler1"
INTERFACE = "org.hostler1.Manager"


def _as_nobody(*command: str) -> Done:
    return run("runuser", "-u", "nobody", "--", *command)


@scenario(
    "objects for Manager and devices",
    "interfaces of Manager",
    "nobody may read",
    "nobody may not reload",
    "root may reload",
)
def system_bus(report: Report) -> None:
    tree = busctl("tree", "--list", NAME)
    paths = tree.out.split()
    # The card's address, in whatever way a path spells it.
    digits = CARD.replace(":", "").replace(".", "")
    cards = [
        p for p in paths if "/device/" in p and digits in "".join(c for c in p if c in "0123456789abcdef")
    ]
    report.check("objects for Manager and devices", tree.ok and MANAGER in paths and cards, tree)
    shown = busctl("introspect", NAME, MANAGER)
    wanted = (INTERFACE, "org.freedesktop.DBus.ObjectManager", "org.freedesktop.DBus.Properties")
    report.check("interfaces of Manager", shown.ok and all(name in shown.out for name in wanted), shown)
    read = _as_nobody("busctl", "--system", "call", NAME, MANAGER, wanted[1], "GetManagedObjects")
    report.check("nobody may read", read.ok, str(read)[:500])
    reload = ("busctl", "--system", "call", NAME, MANAGER, INTERFACE, "Reload")
    refused = _as_nobody(*reload)
    report.check(
        "nobody may not reload", not refused.ok and "org.hostler1.change-policy" in refused.err, refused
    )
    allowed = run(*reload)
    report.check("root may reload", allowed.ok, allowed)


@scenario("answers nobody", "lists the card", "absent is 3", "starts by its socket")
def command_line(report: Report) -> None:
    status = _as_nobody("hostler", "status", "--json")
    report.check("answers nobody", status.ok, status)
    devices = run("hostler", "devices", "--json")
    listed = devices.ok and any(entry["address"] == CARD for entry in json.loads(devices.out))
    report.check("lists the card", listed, str(devices)[:500])
    service.stop()
    absent = run("hostler", "status")
    report.equal("absent is 3", (absent.status, os.path.exists("/run/hostler/hostler.sock")), (3, False))
    run("systemctl", "start", "hostler.socket")
    woken = run("hostler", "status")
    report.check("starts by its socket", woken.ok and service.active(), woken)


SCENARIOS = (system_bus, command_line)
