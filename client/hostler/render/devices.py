"""PCI functions: who has them and who holds them open."""

from __future__ import annotations

from hostler.render.text import PLAIN, Cell, Style, clean, count, table, texts_of
from hostler.shapes import map_of, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Device = Mapping[str, object]

_DISPLAY = 0x03
_PAINTS = {"domain": "cyan", "idle": "dim", "degraded": "red"}
_MOST_HOLDERS = 3


def render(devices: Sequence[Device], style: Style = PLAIN, *, everything: bool = False) -> str:
    """`devices` as `hostler devices --json` has them; of interest is what concerns a display card or a domain."""
    if not devices:
        return "no PCI functions here"
    shown = list(devices) if everything else of_interest(devices)
    lines: list[str] = []
    if shown:
        rows = [_row(device) for device in shown]
        lines = table(
            ["ADDRESS", "NAME", "DRIVER", "GROUP", "OWNER", "HELD BY"], rows, style, flexible=(1, 4, 5)
        )
    else:
        lines = ["no display card and nothing that a domain has"]
    hidden = len(devices) - len(shown)
    if hidden:
        lines += ["", style.paint(f"{count(hidden, 'more function')}: `hostler devices --all`", "dim")]
    return "\n".join(lines)


def of_interest(devices: Sequence[Device]) -> list[Device]:
    """Display cards, what comes with them or shares their group, and all that is not simply the host's."""
    keep: set[str] = set()
    for device in devices:
        if is_display(device) or map_of(device.get("owner")).get("kind") not in {"host", None}:
            keep.add(clean(device.get("address")))
            keep.update(texts_of(device.get("companions")))
            keep.update(texts_of(device.get("group")))
    return [device for device in devices if clean(device.get("address")) in keep]


def is_display(device: Device) -> bool:
    """By the PCI class code: a number of 24 bits, or its hexadecimal text, of class and subclass alone too."""
    code = device.get("class")
    if isinstance(code, int):
        return code >> 16 == _DISPLAY
    digits = str(code).removeprefix("0x")
    return digits.startswith("03") and len(digits) in {2, 4, 6}


def _row(device: Device) -> list[str | Cell]:
    owner = map_of(device.get("owner"))
    kind = clean(owner.get("kind"))
    name = clean(device.get("name"), nothing="")
    ids = f"{_hex(device.get('vendor'))}:{_hex(device.get('device'))}"
    if device.get("boot_vga"):
        name = f"{name or ids} (boot display)"
    return [
        clean(device.get("address")),
        name or ids,
        clean(device.get("driver"), nothing="none"),
        clean(device.get("iommu_group"), nothing="none"),
        Cell(_owner(kind, clean(owner.get("who"), nothing="")), _PAINTS.get(kind, "")),
        _holders(rows_of(device.get("holders"))),
    ]


def _hex(value: object) -> str:
    return f"{value:04x}" if isinstance(value, int) else clean(value).removeprefix("0x")


def _owner(kind: str, who: str) -> str:
    if kind == "idle":
        return f"idle on VFIO ({who})" if who else "idle on VFIO"
    return f"{kind} {who}" if who and kind != "host" else kind


def _holders(holders: Sequence[Mapping[str, object]]) -> str:
    if not holders:
        return "-"
    words: list[str] = []
    for holder in holders:
        place = holder.get("container") or holder.get("unit") or holder.get("user")
        word = f"{clean(holder.get('command'))} ({clean(holder.get('pid'))}, {clean(place)})"
        if word not in words:
            words.append(word)
    if len(words) > _MOST_HOLDERS:
        words = [*words[:_MOST_HOLDERS], f"and {len(words) - _MOST_HOLDERS} more"]
    return ", ".join(words)
