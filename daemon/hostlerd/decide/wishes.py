"""What has to be set in the kernel's files while devices are handed over, and while domains have them.

Pure. Power: a card is awake before it is touched and stays so while a domain has it; one that slept in D3cold may not
come back (D3cold to D0, "device inaccessible"). Console: the frame buffer console lets go of a card's screen before its
driver does, and comes back to whatever screen there is.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.decide.attributes import Wish
from hostlerd.decide.gate import must_let_go
from hostlerd.decide.ownership import Ownership
from hostlerd.decide.reset import reset_path, reset_value
from hostlerd.model.devices import DEVICES
from hostlerd.model.observed import Observed
from hostlerd.model.settings import Settings

CONSOLES = "/sys/class/vtconsole/"
SCREENS = "/proc/fb"
"""One line a frame buffer; empty where there is none (fb_proc_show)."""


def is_of_device(path: str) -> bool:
    """Whether a file is set for the sake of a device's handoff, and not for that of CPUs."""
    return path.startswith((f"{DEVICES}/", CONSOLES, SCREENS))


def wishes(observed: Observed, settings: Settings, own: Ownership) -> Iterator[Wish]:
    for address, why, awake in _handled(observed, own):
        policy = settings.device(observed.functions[address])
        if awake and (policy is None or policy.power == "auto"):
            yield Wish(path=f"{DEVICES}/{address}/power/control", value="on", why=why)
            yield Wish(path=f"{DEVICES}/{address}/d3cold_allowed", value="0", why=why)
        if awake and policy is not None and (policy.reset or policy.recover == "reset"):
            yield Wish(path=reset_path(address), value=reset_value(observed, address, policy), why=why)
    yield from _consoles(observed, own)


def _handled(observed: Observed, own: Ownership) -> Iterator[tuple[str, str, bool]]:
    """Functions that are on their way or that a domain has, and whether they must be awake."""
    for address in dict.fromkeys((*own.wants, *observed.ledger.devices)):
        function = observed.functions.get(address)
        if function is None or not function.readable or observed.untouchable(address):
            continue
        want = own.wants.get(address)
        if want is None:
            if address not in own.holder:
                yield address, f"{address} is on its way back to the host", True
        elif not want.waits:
            there = function.on_vfio if want.place == "vfio" else function.driver is None
            yield address, want.why, want.domain or not there


def _consoles(observed: Observed, own: Ownership) -> Iterator[Wish]:
    ours = [path for path in observed.ledger.attributes if path.startswith(CONSOLES)]
    for address, want in own.wants.items():
        grip = observed.grips.get(address)
        if grip is None or want.waits or not must_let_go(observed.functions[address]):
            continue
        # Of those that are unbound already the grip does not know any more.
        bound = [f"{CONSOLES}{console}/bind" for console in grip.consoles]
        for path in (*bound, *(ours if grip.framebuffers else ())):
            why = f"the console is on the screen of {address}; {want.why}"
            yield Wish(path=path, value="0", why=why, claim=want.claim)
    if ours:
        # Without a screen there is nothing to bind it to, and with the last one the console itself has gone.
        yield Wish(path=SCREENS, value=None, why="is there a screen for the console?")
        away = observed.ledger.devices or observed.ledger.framebuffers
        if away and not observed.attributes.get(SCREENS):
            yield from (Wish(path=path, value=None, why="there is no screen") for path in ours)
