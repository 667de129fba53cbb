"""What devices are cut into: types, how many are left, and who has which."""

from __future__ import annotations

from hostler.render.text import PLAIN, Cell, Style, clean, table, texts_of
from hostler.shapes import map_of, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Device = Mapping[str, object]


def render(devices: Sequence[Device], style: Style = PLAIN, *, everything: bool = False) -> list[str]:
    """A row a type of each device, if any. `everything`: what could have VFs and has none, too."""
    owners = {clean(device.get("address")): map_of(device.get("owner")) for device in devices}
    rows: list[list[str | Cell]] = []
    for device in devices:
        own = [*_types(device), *_virtual(device, owners, everything=everything)]
        rows += [[clean(device.get("address")) if not n else "", *row] for n, row in enumerate(own)]
    return table(["SLICES OF", "TYPE", "LEFT", "WHO HAS ONE"], rows, style, flexible=(1, 3)) if rows else []


def _types(device: Device) -> list[list[str | Cell]]:
    found = map_of(device.get("slices"))
    users: dict[str, list[str]] = {}
    for one in rows_of(found.get("instances")):
        users.setdefault(clean(one.get("type")), []).append(clean(one.get("domain"), nothing="no domain"))
    rows: list[list[str | Cell]] = []
    for kind in rows_of(found.get("types")):
        name, words = clean(kind.get("type")), clean(kind.get("name"), nothing="")
        shown = name if words in ("", name) else f"{name} ({words})"
        rows.append([shown, clean(kind.get("available")), _who(users.pop(name, []))])
    rows += [[name, "0", _who(names)] for name, names in users.items()]
    return rows


def _virtual(
    device: Device, owners: Mapping[str, Mapping[str, object]], *, everything: bool
) -> list[list[str | Cell]]:
    found = map_of(device.get("sriov"))
    if not found or not (everything or found.get("count")):
        return []
    vfs = texts_of(found.get("vfs"))
    taken = {a: clean(owners[a].get("who")) for a in vfs if owners.get(a, {}).get("kind") == "domain"}
    users = [f"{who} ({address})" for address, who in taken.items()]
    words = f"virtual function, {clean(found.get('count'))} of {clean(found.get('total'))} made"
    return [[words, str(len(vfs) - len(taken)), _who(users)]]


def _who(names: Sequence[str]) -> Cell:
    shown = [
        f"{names.count(name)} x {name}" if names.count(name) > 1 else name for name in dict.fromkeys(names)
    ]
    return Cell(", ".join(shown) or "-", "cyan" if shown else "")
