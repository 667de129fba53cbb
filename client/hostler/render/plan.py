"""What would be done and what is refused, each with its why."""

from __future__ import annotations

from hostler.render.text import NARROWEST, PLAIN, Style, clean, columns_of, count, pad, paragraph
from hostler.shapes import rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDEST = 60
"""Columns of the steps themselves; a longer one has its why on the next line."""


def render(plan: Mapping[str, object], style: Style = PLAIN) -> str:
    """`plan` as `hostler plan --json` has it."""
    steps, refused = rows_of(plan.get("steps")), rows_of(plan.get("refusals"))
    if not steps and not refused:
        return "nothing to do: the host is as it should be"
    lines: list[str] = []
    if steps:
        lines.append(style.paint(f"{count(len(steps), 'step')} to take:", "bold"))
        lines += _steps(steps, style)
    if refused:
        if lines:
            lines.append("")
        lines += refusals(refused, style)
    return "\n".join(lines)


def refusals(refused: Sequence[Mapping[str, object]], style: Style) -> list[str]:
    lines = [style.paint(f"{count(len(refused), 'refusal')}:", "red")]
    for refusal in refused:
        name, reason = clean(refusal.get("object")), clean(refusal.get("reason"))
        if not reason.startswith(f"{name} "):  # which says it already
            reason = f"{name}: {reason}"
        lines += paragraph(reason, style, first="  ", indent="    ")
        if refusal.get("remedy"):
            lines += paragraph(clean(refusal.get("remedy")), style, first="    to do: ", indent="           ")
    return lines


def _steps(steps: list[dict[str, object]], style: Style) -> list[str]:
    kinds = max(columns_of(clean(step.get("kind"))) for step in steps)
    acts = [
        f"  {pad(clean(step.get('kind')), kinds)}  {clean(step.get('object'))}: "
        f"{clean(step.get('from'), nothing='(none)')} -> {clean(step.get('to'), nothing='(none)')}"
        for step in steps
    ]
    width = min(_WIDEST, max(map(columns_of, acts)))
    if style.width is not None and style.width - width - 2 < 2 * NARROWEST:
        width = 0
    lines: list[str] = []
    for act, step in zip(acts, steps, strict=True):
        why = clean(step.get("why"), nothing="")
        if not why:
            lines.append(act)
        elif columns_of(act) > width:
            lines.append(act)
            lines += paragraph(why, style, indent=" " * (width + 2 if width else 6))
        else:
            lines += paragraph(why, style, first=pad(act, width + 2), indent=" " * (width + 2))
    return lines
