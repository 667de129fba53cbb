"""Who else binds, pins or tunes. Named, with what each does; which of them is to go is for a person to say.

irqbalance looks every ten seconds (its --interval) and moves interrupts wherever it was not told to leave CPUs out
(irqbalance(1), IRQBALANCE_BANNED_CPULIST).
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.model.checkup import Checkup
from hostlerd.model.findings import Finding, Severity, unknown

PROGRAMS: tuple[tuple[str, Severity, str, str], ...] = (
    (
        "irqbalance",
        "note",
        "it moves interrupts every ten seconds, also onto domains' CPUs unless it is told to leave these out",
        "IRQBALANCE_BANNED_CPULIST= in its defaults keeps it off the CPUs that only domains are to have",
    ),
    (
        "tuned",
        "note",
        "its profiles write the same files: clocks, interrupts' and work queues' CPUs, huge pages",
        "let one of the two do it: a profile such as virtual-host beside hostler, not cpu-partitioning or realtime-*",
    ),
    ("supergfxd", "warning", "it binds cards to vfio-pci, too", "stop it, or leave the card to it alone"),
    (
        "ksmtuned",
        "note",
        "it merges equal pages of guests, which costs time; memory that a device can reach is never merged",
        "stop it where all domains have devices",
    ),
    (
        "gamemoded",
        "note",
        "while a game runs on the host it sets the CPUs' clock governor, and pins the game",
        "",
    ),
    ("auto-cpufreq", "note", "it sets the CPUs' clock governor", ""),
    ("system76-power", "note", "it sets the CPUs' clock governor", ""),
    ("power-profiles-", "note", "it sets the CPUs' energy preference", ""),
    ("intel_lpmd", "warning", "it confines slices to few CPUs by AllowedCPUs, as hostler does", "stop it"),
    ("ananicy-cpp", "note", "it sets nice values and may set CPUs of programs", ""),
)
"""Name, severity, what it does, what to do."""


def examine(checkup: Checkup) -> Iterator[Finding]:
    programs = checkup.rivals.programs
    if programs is None:
        yield unknown("rivals", "which programs run that tune the host, too", "processes are not shown")
    else:
        for name, severity, why, do in PROGRAMS:
            if name in programs:
                full = "power-profiles-daemon" if name == "power-profiles-" else name
                yield Finding(
                    id=f"rival:{full}",
                    severity=severity,
                    what=f"{full} runs",
                    why=why,
                    do=do,
                    evidence=f"/proc/*/comm: {name}",
                )
    yield from _hooks(checkup)


def _hooks(checkup: Checkup) -> Iterator[Finding]:
    hooks = checkup.rivals.hooks
    if hooks is None:
        yield unknown(
            "hooks", "which hooks libvirt has beside hostler's", "/etc/libvirt/hooks cannot be listed"
        )
        return
    for hook in hooks:
        if hook.does is None:
            yield unknown(f"hook:{hook.path}", f"what {hook.path} does", "it may not be read")
        elif hook.does:
            yield Finding(
                id=f"hook:{hook.path}",
                severity="warning",
                what=f"{hook.path}: {', '.join(hook.does)}",
                why="hostler does that, too, and what one does the other undoes or waits for",
                do="take these lines out of it, or the whole file where nothing else is in it",
                evidence=f"{hook.path}: words of its text",
            )
    others = [hook.path for hook in hooks if hook.does == ()]
    if others:
        yield Finding(
            id="hooks",
            severity="ok",
            what=f"other hooks of libvirt's do nothing that hostler does: {', '.join(others)}",
            evidence="/etc/libvirt/hooks",
        )
