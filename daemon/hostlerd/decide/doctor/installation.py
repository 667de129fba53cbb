"""Whether hostler itself is in place, and what libvirt there is.

libvirt sees hooks in qemu.d from 6.5 on, and looks for hooks when it starts (https://libvirt.org/hooks.html). Its floor
here is 9.0, Debian 12's; from 10.0 on it knows VFIO drivers made for a card (NEWS).
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlerd.model.checkup import Checkup
from hostlerd.model.findings import Finding, unknown
from hostlerd.model.settings import Settings

HOOK = "/etc/libvirt/hooks/qemu.d/hostler"
RUNTIME_DIRECTORY = "/run/hostler"
POLICY = "/etc/hostler/hostler.toml"
FLOOR, VARIANTS = 9_000_000, 10_000_000


def examine(checkup: Checkup, settings: Settings) -> Iterator[Finding]:
    yield from _hook(checkup)
    yield from _daemon(checkup)
    yield from _libvirt(checkup)
    if checkup.installation.policy:
        yield Finding(
            id="policy",
            severity="warning",
            what="the policy cannot be read",
            why=f"{checkup.installation.policy}; the defaults were taken here",
            do="mend it, then `hostler reload`",
            evidence=POLICY,
        )
    if settings.suspend == "allow":
        yield Finding(
            id="suspend",
            severity="note",
            what="the host may be suspended while a domain has a device",
            why="many a card does not come back from that",
            do='suspend = "block" in [host] refuses it',
            evidence='the policy: suspend = "allow"',
        )
    for path in checkup.unread:
        yield unknown(f"unread:{path}", f"what is in {path}", "it cannot be read here; as root it could be")


def _hook(checkup: Checkup) -> Iterator[Finding]:
    match checkup.installation.hook:
        case None:
            yield unknown(
                "hook", "whether libvirt tells hostler of starts", "there is no /etc/libvirt to look into"
            )
        case "absent":
            yield Finding(
                id="hook",
                severity="broken" if checkup.live else "warning",
                what="libvirt does not tell hostler when a domain starts",
                why="the hook is not installed, so devices are handed over by nobody or by libvirt itself",
                do="install hostler's package (make -f packaging/install.mk install), then restart libvirtd: it "
                "looks for hooks when it starts",
                evidence=f"{HOOK} is not there",
            )
        case "not executable":
            yield Finding(
                id="hook",
                severity="broken",
                what="libvirt cannot run hostler's hook",
                why="it is not executable, and libvirt overlooks such files",
                do=f"chmod 755 {HOOK}",
                evidence=f"{HOOK}: its mode",
            )
        case "there":
            yield Finding(id="hook", severity="ok", what="libvirt has hostler's hook", evidence=HOOK)


def _daemon(checkup: Checkup) -> Iterator[Finding]:
    found, programs = checkup.installation, checkup.rivals.programs
    if found.answers:
        yield Finding(
            id="daemon", severity="ok", what="hostlerd answers", evidence=f"{RUNTIME_DIRECTORY}/hostler.sock"
        )
    elif not checkup.live:
        return
    elif programs is None:
        yield unknown("daemon", "whether hostlerd runs", "processes are not shown")
    elif "hostlerd" in programs:
        yield Finding(id="daemon", severity="ok", what="hostlerd runs", evidence="/proc/*/comm: hostlerd")
    else:
        yield Finding(
            id="daemon",
            severity="warning",
            what="hostlerd does not run",
            why="domains start as if hostler were not there",
            do="systemctl enable --now hostlerd; journalctl -u hostlerd says why where it does not stay",
            evidence="/proc/*/comm: no hostlerd"
            + ("" if found.runtime or found.runtime is None else f"; {RUNTIME_DIRECTORY} is not there"),
        )


def _libvirt(checkup: Checkup) -> Iterator[Finding]:
    version, daemons = checkup.installation.libvirt, checkup.installation.daemons
    if version is None:
        yield unknown(
            "libvirt", "which libvirt this is", "neither libvirt nor the name of its library says it"
        )
    else:
        text = f"{version // 1_000_000}.{version // 1_000 % 1_000}.{version % 1_000}"
        old = version < FLOOR
        variants = "" if version >= VARIANTS else "VFIO drivers made for a card are used from 10.0 on"
        yield Finding(
            id="libvirt",
            severity="warning" if old else "ok",
            what=f"libvirt {text}" + (" is older than hostler is made for" if old else ""),
            why="hostler is made for 9.0 and newer" if old else variants,
            do="install a newer libvirt" if old else "",
            evidence="its own word" if checkup.observed.snapshot.libvirt else "the name of libvirt.so.0",
        )
    both = {"libvirtd", "virtqemud"} <= daemons
    if both or {"libvirtd.socket", "virtqemud.socket"} <= checkup.installation.sockets:
        yield Finding(
            id="libvirt.daemons",
            severity="warning",
            what="both libvirtd and virtqemud are " + ("running" if both else "enabled"),
            why="each has domains of its own under qemu:///system, and they take each other's files",
            do="disable one of them (https://libvirt.org/daemons.html)",
            evidence="/proc/*/comm" if both else "/etc/systemd/system/sockets.target.wants",
        )
    elif daemons:
        name = min(daemons)
        yield Finding(
            id="libvirt.daemons",
            severity="ok",
            what=f"{name} runs" + (" (modular daemons)" if name == "virtqemud" else ""),
            evidence=f"/proc/*/comm: {name}",
        )
