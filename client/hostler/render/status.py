"""The state of everything as a short story."""

from __future__ import annotations

from hostler.render.text import PLAIN, Style, clean, count, cpu_list, huge_pages, paragraph, texts_of
from hostler.render.times import moment
from hostler.shapes import map_of, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_STORY = {
    "converged": ("green", "the host is as it should be"),
    "working": ("yellow", "the host is being brought to what it should be; `hostler plan` shows the steps"),
    "degraded": ("red", "a person must look"),
}


def render(status: Mapping[str, object], style: Style = PLAIN) -> str:
    """`status` as `hostler status --json` has it."""
    state = clean(status.get("state"))
    paint, story = _STORY.get(state, ("", ""))
    head = style.paint(state, paint) + (f": {story}" if story else "")
    lines = [head]
    lines += _entry("devices", _devices(status.get("devices"), status.get("mdevs")), style)
    lines += _entry("domains", _domains(status.get("domains")), style)
    for domain in rows_of(status.get("domains")):
        for note in texts_of(domain.get("notes")):
            lines += _entry("", f"{clean(domain.get('name'))}: {note}", style)
    for claim in rows_of(status.get("claims")):
        lines += _entry("claim", _claim(claim), style)
    lines += _entry("isolation", _isolation(map_of(status.get("isolation"))), style)
    for partition in rows_of(map_of(status.get("isolation")).get("partitions")):
        kind, unit = clean(partition.get("kind")), clean(partition.get("unit"))
        lines += _entry("", f"{unit} is a partition ({kind}): CPUs {cpu_list(partition.get('cpus'))}", style)
    for note in texts_of(map_of(status.get("isolation")).get("notes")):
        lines += _entry("", note, style)
    lines += _entry(
        "daemon", f"hostler {clean(status.get('version'))}, pass {clean(status.get('pass'))}", style
    )
    pages = [
        f"{huge_pages(row)} on node {clean(row.get('node'))} for {clean(row.get('domain'))}"
        for row in rows_of(status.get("hugepages"))
    ]
    if pages:
        lines += _entry("hugepages", f"added {', '.join(pages)}", style)
    if status.get("libvirt") not in (None, "connected"):
        lines += _entry("libvirt", clean(status.get("libvirt")), style)
    sleep = map_of(status.get("sleep"))
    if sleep.get("refused"):
        lines += _entry("sleep", f"the host's suspend is refused: {clean(sleep.get('why'))}", style)
    residue = texts_of(status.get("residue"))
    if residue:
        lines += _entry("residue", f"AllowedCPUs is set to all CPUs on {', '.join(residue)}", style)
    for refusal in rows_of(status.get("refusals")):
        lines += ["", style.paint(f"refused: {clean(refusal.get('object'))}", "yellow")]
        lines += paragraph(clean(refusal.get("reason")), style, first="  why:   ", indent="         ")
        lines += paragraph(clean(refusal.get("remedy")), style, first="  to do: ", indent="         ")
    for warning in rows_of(status.get("warnings")):
        lines += ["", style.paint(f"could be better: {clean(warning.get('object'))}", "yellow")]
        lines += paragraph(clean(warning.get("reason")), style, first="  why:   ", indent="         ")
        lines += paragraph(clean(warning.get("remedy")), style, first="  to do: ", indent="         ")
    for trouble in rows_of(status.get("degraded")):
        since = trouble.get("since")
        what = clean(trouble.get("object")) + (f" (since {moment(since)})" if since is not None else "")
        lines += ["", style.paint(f"degraded: {what}", "red")]
        lines += paragraph(clean(trouble.get("reason")), style, first="  why:   ", indent="         ")
        if trouble.get("remedy"):
            lines += paragraph(clean(trouble.get("remedy")), style, first="  to do: ", indent="         ")
    if state == "degraded" and not rows_of(status.get("degraded")):
        lines += ["", "the daemon names no object: see `journalctl -u hostlerd`"]
    return "\n".join(lines)


def _entry(label: str, text: str, style: Style) -> list[str]:
    return paragraph(text, style, first=f"  {label:<11}", indent=" " * 13)


def _devices(devices: object, mdevs: object) -> str:
    """What is not simply the host's, by owner: `win11 has 0000:01:00.0, 0000:01:00.1`."""
    by_owner: dict[str, list[str]] = {}
    for device in rows_of(devices):
        owner = map_of(device.get("owner"))
        kind = clean(owner.get("kind"))
        who = {"domain": f"{clean(owner.get('who'))} has", "idle": "idle on VFIO:"}.get(kind, f"{kind}:")
        by_owner.setdefault(who, []).append(clean(device.get("address")))
    for mdev in rows_of(mdevs):
        what = f"a slice of {clean(mdev.get('parent'))} ({clean(mdev.get('type'))})"
        by_owner.setdefault(f"{clean(mdev.get('domain'))} has", []).append(what)
    return (
        "; ".join(f"{who} {', '.join(addresses)}" for who, addresses in by_owner.items()) or "all the host's"
    )


def _domains(domains: object) -> str:
    return (
        ", ".join(f"{clean(row.get('name'))} {clean(row.get('state'))}" for row in rows_of(domains)) or "none"
    )


def _claim(claim: Mapping[str, object]) -> str:
    who = f"{clean(claim.get('name'))} (pid {clean(claim.get('pid'))}, uid {clean(claim.get('uid'))})"
    cpus, idle = claim.get("cpus"), claim.get("idle")
    if not cpus:
        return f"{who} waits for CPUs"
    return f"{who} has CPUs {cpu_list(cpus)}" + (f" ({cpu_list(idle)} kept empty)" if idle else "")


def _isolation(isolation: Mapping[str, object]) -> str:
    cpus = isolation.get("cpus")
    if not cpus:
        return "none"
    whom = ", ".join(texts_of(isolation.get("for")))
    text = f"CPUs {cpu_list(cpus)}" + (f" for {whom}" if whom else "")
    interrupts = map_of(isolation.get("interrupts"))
    moved, stay = interrupts.get("moved"), interrupts.get("immovable")
    if isinstance(moved, int) and moved:
        text += f", {count(moved, 'interrupt')} moved away"
    if isinstance(stay, int) and stay:
        text += f", {stay} cannot be moved"
    return text
