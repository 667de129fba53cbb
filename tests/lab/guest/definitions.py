"""How a domain has its GPU: edits of its definition by hand and by the declared fallback, and SIGKILL in the middle.

Read from `virsh dumpxml --inactive` and the folder of what is kept, never from the daemon's own words.
"""

import os
import re
import signal
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Self

from . import pci, service, snapshot
from .domains import UNPLUGS, Domain
from .events import PLUGGED, device, plug, unplug
from .jobs import RETURNED, check_returned
from .main import CARD
from .programs import Done, holds, need, run
from .report import Report, scenario

KEPT = "/var/lib/hostler/definitions"
EDIT_LIMIT = 90.0
FALLBACK = '[domain."fall"]\nfallback = "emulated"\n'


def xml(domain: Domain) -> str:
    return need("virsh", "-c", "qemu:///system", "dumpxml", "--inactive", "--security-info", domain.name)


def gpu(domain: Domain, *words: str) -> Done:
    return run("hostler", "gpu", domain.name, *words)


def is_emulated(text: str) -> bool:
    return "<video>" in text and "type='pci' managed" not in text


@scenario(
    "a dry run shows and changes nothing",
    "edited",
    "has a display and no card",
    "starts so",
    "refused while it runs",
    "taken back byte for byte",
    "starts with its card",
    *RETURNED,
)
def by_hand(report: Report) -> None:
    before = snapshot.take()
    with Domain(name="hand", hostdevs=(CARD,), managed=False).defined() as domain:
        original = xml(domain)
        dry = gpu(domain, "emulated", "--dry-run")
        shown = dry.ok and "-    <hostdev" in dry.out and "+    <video" in dry.out
        report.check("a dry run shows and changes nothing", shown and xml(domain) == original, dry)
        edited = gpu(domain, "emulated")
        report.check("edited", edited.ok, edited)
        report.check("has a display and no card", is_emulated(xml(domain)), xml(domain))
        started = domain.start()
        report.check("starts so", started.ok, started)
        refused = gpu(domain, "undo")
        report.check("refused while it runs", refused.status == 4 and "stop it first" in refused.err, refused)
        if started.ok:
            domain.destroy()
        back = gpu(domain, "undo")
        report.check(
            "taken back byte for byte", back.ok and xml(domain) == original, f"{back}\n{xml(domain)}"
        )
        started = domain.start()
        report.check("starts with its card", started.ok, started)
        if started.ok:
            domain.destroy()
        check_returned(report, before)


@scenario(
    "emulated when the card is pulled out",
    "said in `hostler domains`",
    "starts without it",
    "as it was when it is put in again",
    "nothing is kept",
    "no traceback",
)
def fallback(report: Report) -> None:
    """A card at 04:00.0 that comes and goes."""
    plug()
    holds(lambda: os.path.exists(f"/sys/bus/pci/devices/{PLUGGED}"), EDIT_LIMIT)
    service.policy(FALLBACK)
    with Domain(name="fall", hostdevs=(PLUGGED,), managed=False).defined() as domain:
        original = xml(domain)
        time.sleep(8.0)  # longer than a wish for an edit has to last: with the card there, there is none
        untouched = xml(domain) == original
        unplug()
        fell = holds(lambda: is_emulated(xml(domain)), EDIT_LIMIT)
        report.check("emulated when the card is pulled out", untouched and fell, xml(domain))
        shown = run("hostler", "domains", domain.name)
        report.check("said in `hostler domains`", "fallback in force" in shown.out, shown)
        started = domain.start()
        report.check("starts without it", started.ok, started)
        if started.ok:
            domain.destroy()
        plug()
        back = holds(lambda: xml(domain) == original, EDIT_LIMIT)
        report.check("as it was when it is put in again", back, xml(domain))
        report.check("nothing is kept", holds(lambda: not os.listdir(KEPT), 10.0), os.listdir(KEPT))
    unplug()
    log = service.log()
    report.check("no traceback", "Traceback" not in log, log[-3000:])


class KillWhen:
    """Kills the daemon the moment a condition holds, looked at without a pause."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition, self._pid = condition, service.pid()
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self.fired = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.wait(0.0 if self.fired else 1.0)
        self._stop.set()
        self._thread.join()
        if self.fired:
            service.wait_back(self._pid)

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                if self._condition():
                    os.kill(self._pid, signal.SIGKILL)
                    self.fired = True
                    return
            except OSError:
                continue


def kept() -> str:
    """What is kept of the one domain there is; empty where there is nothing."""
    for name in os.listdir(KEPT) if os.path.isdir(KEPT) else ():
        if name.endswith(".json"):
            with open(f"{KEPT}/{name}", encoding="utf-8") as file:
                return file.read()
    return ""


POINTS: dict[str, tuple[str, Callable[[], bool]]] = {
    "kept as begun": ("emulated", lambda: '"done": false' in kept()),
    "kept as done": ("emulated", lambda: '"done": true' in kept()),
    "forgotten": ("undo", lambda: not kept()),
}


@scenario(*(f"{point}: {check}" for point in POINTS for check in ("killed", "before or after", "as it was")))
def killed_edits(report: Report) -> None:
    """What is kept and the definition agree, and one command takes the edit back."""
    for point, (way, condition) in POINTS.items():
        with Domain(name="cut", hostdevs=(CARD,), managed=False).defined() as domain:
            original = xml(domain)
            if way == "undo":
                gpu(domain, "emulated")
            with KillWhen(condition) as killer:
                asked = gpu(domain, way)
            report.check(f"{point}: killed", killer.fired, asked)

            def whole(domain: Domain = domain, original: str = original) -> bool:
                now = xml(domain)
                return '"done": true' in kept() if is_emulated(now) else not kept() and now == original

            agrees = holds(whole, EDIT_LIMIT)
            report.check(f"{point}: before or after", agrees, f"{kept()}\n{xml(domain)}")
            back = gpu(domain, "undo") if kept() else None
            report.check(f"{point}: as it was", xml(domain) == original, f"{back}\n{xml(domain)}")
        holds(lambda: not kept(), EDIT_LIMIT)  # of a domain that is gone


@scenario(
    "refused while it is the host's",
    "plugged in while it runs",
    "QEMU has it open",
    "in the definition, too",
    "taken back while it runs",
    "runs on",
    "definition as it was",
    *RETURNED,
)
def plugged_live(report: Report) -> None:
    before = snapshot.take()
    with Domain(name="live", machine=UNPLUGS, ports=2, managed=False).defined() as domain:
        domain.must_start()
        original = xml(domain)
        refused = gpu(domain, "passthrough", CARD, "--live")
        report.check(
            "refused while it is the host's", refused.status == 4 and "not on VFIO" in refused.err, refused
        )
        service.policy(device(CARD, idle="vfio"))
        holds(lambda: pci.on_vfio(CARD), EDIT_LIMIT)
        plugged = gpu(domain, "passthrough", CARD, "--live")
        report.check(
            "plugged in while it runs", plugged.ok and CARD in _live(domain), f"{plugged}\n{_live(domain)}"
        )
        holders = run("hostler", "devices", "--json").out
        report.check("QEMU has it open", "/dev/vfio/" in holders and "qemu" in holders, holders)
        report.check("in the definition, too", CARD in _addresses(xml(domain)), xml(domain))
        back = gpu(domain, "undo", "--live")
        gone = holds(lambda: CARD not in _live(domain), EDIT_LIMIT)
        report.check("taken back while it runs", back.ok and gone, f"{back}\n{_live(domain)}")
        report.equal("runs on", domain.state(), "running")
        report.check("definition as it was", xml(domain) == original, xml(domain))
        service.policy("")
        domain.destroy()
        check_returned(report, before)


def _live(domain: Domain) -> list[str]:
    return _addresses(need("virsh", "-c", "qemu:///system", "dumpxml", domain.name))


def _addresses(text: str) -> list[str]:
    """Of the PCI hostdevs."""
    sources = re.findall(
        r"<source>\s*<address domain='0x(\w+)' bus='0x(\w+)' slot='0x(\w+)' function='0x(\w+)'/>", text
    )
    return ["{}:{}:{}.{}".format(*source) for source in sources]


SCENARIOS = (by_hand, fallback, killed_edits, plugged_live)
