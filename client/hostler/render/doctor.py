"""What doctor found, the worst first, as a person reads it: what, why, what to do; then the kernel command line.

Rules: what a person may copy (the command line, the steps to change it) stands in one line, however long; a terminal
folds it, and what is copied is whole.
"""

from __future__ import annotations

from hostler.render.text import PLAIN, Style, clean, count, paragraph, texts_of
from hostler.shapes import map_of, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEADS = {
    "fine": ("green", "nothing is in the way of giving devices and CPUs to domains"),
    "warnings": ("yellow", "it works, and could work better"),
    "broken": ("red", "domains cannot have devices until this is mended"),
}
_MARKS = {
    "broken": ("red", "BROKEN"),
    "warning": ("yellow", "warning"),
    "note": ("cyan", "note"),
    "ok": ("green", "ok"),
}
_LABEL = 9
"""Columns before a finding's text."""


def render(found: Mapping[str, object], style: Style = PLAIN, *, everything: bool = False) -> str:
    """`found` as `hostler doctor --json` has it. `everything`: what is fine in full, and all evidence."""
    rows = rows_of(found.get("findings"))
    unknown = [row for row in rows if row.get("known") is False]
    known = [row for row in rows if row.get("known") is not False]
    state = clean(found.get("state"))
    paint, story = _HEADS.get(state, ("", ""))
    if state == "fine" and unknown:
        story = "nothing of what could be looked at is in the way"
    lines = paragraph(state + (f": {story}" if story else ""), style, indent="  ", first="")
    lines[0] = style.paint(state, paint) + lines[0][len(state) :]
    for severity in ("broken", "warning", "note"):
        for row in known:
            if row.get("severity") == severity:
                lines += ["", *_finding(row, severity, style, evidence=everything)]
    fine = [row for row in known if row.get("severity") == "ok"]
    if fine:
        lines.append("")
        for row in fine:
            lines += _finding(row, "ok", style, evidence=everything)
    if unknown:
        lines += ["", *_unknown(unknown, style, everything=everything)]
    boot = _boot(map_of(found.get("command_line")), style)
    if boot:
        lines += ["", *boot]
    return "\n".join(lines)


def _finding(row: Mapping[str, object], severity: str, style: Style, *, evidence: bool) -> list[str]:
    paint, mark = _MARKS[severity]
    # Painted after it is wrapped: a paint has no width.
    lines = paragraph(clean(row.get("what")), style, first=f"{mark:<{_LABEL}}", indent=" " * _LABEL)
    lines[0] = style.paint(mark, paint) + lines[0][len(mark) :]
    for key, label in (("why", "why:"), ("do", "to do:")):
        if row.get(key) and (severity != "ok" or evidence):
            lines += _labelled(clean(row.get(key)), label, style)
    if evidence and row.get("evidence"):
        lines += _labelled(clean(row.get("evidence")), "from:", style)
    return lines


def _labelled(text: str, label: str, style: Style) -> list[str]:
    first = f"{'':<{_LABEL}}{label:<7}"
    return paragraph(text, style, first=first, indent=" " * len(first))


def _unknown(rows: Sequence[Mapping[str, object]], style: Style, *, everything: bool) -> list[str]:
    """Not told from what is there; in one line each where all is wanted, else in one."""
    head = f"{count(len(rows), 'thing')} could not be told"
    if not everything:
        told = "; ".join(clean(row.get("what")) for row in rows)
        return paragraph(f"{head}: {told} (--all says for want of what)", style, indent="  ", first="")
    lines = [f"{head}:"]
    for row in rows:
        lines += paragraph(
            f"{clean(row.get('what'))}: {clean(row.get('why'))}", style, first="  ", indent="    "
        )
    return lines


def _boot(boot: Mapping[str, object], style: Style) -> list[str]:
    """The line as it is and as it should be; the one for realtime is an offer."""
    now, line, realtime = boot.get("now"), boot.get("line"), boot.get("realtime")
    changes = [*texts_of(boot.get("add")), *texts_of(boot.get("remove"))]
    if not (changes or realtime):
        return []
    lines = [style.paint("kernel command line", "bold")]
    lines += _option(
        "now", "not known; what follows is to be added" if now is None else clean(now, nothing="(empty)")
    )
    if changes:
        lines += _option("better", clean(line, nothing="(empty)"))
    if realtime:
        lines += _option("for the profile realtime", clean(realtime))
        lines += paragraph(f"its price: {clean(boot.get('costs'))}", style, first="    ", indent="    ")
    how = texts_of(boot.get("how"))
    if how:
        loader = clean(boot.get("loader"))
        lines.append(f"  to change it ({loader}{'' if changes else '; for realtime'}):")
        for number, step in enumerate(how, 1):
            lines.append(f"    {number}. {step}")
    elif not boot.get("loader"):
        lines.append("  to change it: by your boot loader's means, which is none that hostler knows")
    return lines


def _option(label: str, text: str) -> list[str]:
    return [f"  {label}:", f"    {text}"]
