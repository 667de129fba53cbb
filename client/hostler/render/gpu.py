"""An edit of a domain's definition: the difference, and a sentence."""

from __future__ import annotations

from hostler.render.text import PLAIN, Style, clean, paragraph, texts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PAINTS = {"+": "green", "-": "red", "@": "cyan"}


def render(
    result: Mapping[str, object],
    style: Style = PLAIN,
    *,
    dry_run: bool = False,
    is_undo: bool = False,
    verb: str = "gpu",
) -> str:
    """`result` as `hostler gpu --json` and `hostler pins --json` have it."""
    name = clean(result.get("domain"))
    if not result.get("changed"):
        lines = [f"{name} is so already: nothing to change"]
    else:
        change = f"{clean(result.get('before'))} -> {clean(result.get('after'))}"
        lines = [*_diff(str(result.get("diff")), style), ""]
        way_back = "" if dry_run or is_undo else f"; `hostler {verb} {name} undo` takes it back"
        lines.append(f"{name} {'would be' if dry_run else 'was'} changed: {change}{way_back}")
    for note in texts_of(result.get("notes")):
        lines += paragraph(note, style, first="it would not start now: ", indent="  ")
    return "\n".join(lines)


def _diff(diff: str, style: Style) -> list[str]:
    """In red and green; of a line that could steer the terminal the letters that can are question marks."""
    lines: list[str] = []
    for number, line in enumerate(diff.splitlines()):
        paint = "bold" if number < 2 else _PAINTS.get(line[:1], "")
        indent = line[: len(line) - len(line.lstrip())]
        lines.append(style.paint(indent + clean(line.lstrip(), nothing=""), paint))
    return lines
