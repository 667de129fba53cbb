"""Events, one a line."""

from __future__ import annotations

from hostler.render.text import PLAIN, Style, clean
from hostler.render.times import moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PAINTS = {"refused": "red", "refusal": "red", "degraded": "red", "failed": "red", "undo": "yellow"}


def render(event: Mapping[str, object], style: Style = PLAIN) -> str:
    """`event` as `hostler watch --json` has it. Never wrapped: a line is an event."""
    kind = clean(event.get("kind"))
    what = clean(event.get("object"), nothing="")
    text = clean(event.get("text"), nothing="")
    story = f"{what}: {text}" if what and text else what or text
    time = style.paint(moment(event.get("time")), "dim")
    return f"{time}  {style.paint(f'{kind:<12}', _PAINTS.get(kind, ''))}  {story}".rstrip()
