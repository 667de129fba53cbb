"""PCI functions: one row a card for people who own one, or one row a function.

The card's row folds what goes with it (audio, USB), says who has it in plain words, which programs have it open, and
what can be done. `everything` is for whoever looks for a driver or a group.
"""

from __future__ import annotations

from hostler.render import slices
from hostler.render.holders import by_process, by_program, domain_of
from hostler.render.text import PLAIN, Cell, Style, clean, count, table, texts_of
from hostler.shapes import map_of, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Device = Mapping[str, object]

_DISPLAY, _BRIDGE = 0x03, 0x06
_PARTS = {0x0403: "audio", 0x0C03: "USB", 0x0C80: "USB-C"}
"""Class and subclass of what comes with a card."""
_PAINTS = {"domain": "cyan", "idle": "dim", "degraded": "red"}
_VENDORS = {
    "Advanced Micro Devices, Inc. [AMD/ATI]": "AMD",
    "Advanced Micro Devices, Inc. [AMD]": "AMD",
    "NVIDIA Corporation": "NVIDIA",
    "Intel Corporation": "Intel",
}
"""As pci.ids has them, and as people do."""


def render(devices: Sequence[Device], style: Style = PLAIN, *, everything: bool = False) -> str:
    """`devices` as `hostler devices --json` has them; of interest is what concerns a display card or a domain."""
    if not devices:
        return "no PCI functions here"
    if everything:
        headers = ["ADDRESS", "NAME", "DRIVER", "GROUP", "OWNER", "HELD BY"]
        lines = table(headers, [_row(device) for device in devices], style, flexible=(1, 4, 5))
        return "\n".join([*lines, *_below(slices.render(devices, style, everything=True))])
    known = {clean(device.get("address")): device for device in devices}
    cards = of_interest(devices)
    lines = ["no display card and nothing that a domain has"]
    if cards:
        headers = ["CARD", "ADDRESS", "WHO HAS IT", "OPEN IN", "WHAT YOU CAN DO"]
        rows = [_card(card, folded(card, known), known) for card in cards]
        lines = table(headers, rows, style, flexible=(0, 2, 3, 4))
    lines += _below(slices.render(devices, style))
    hidden = len(devices) - sum(1 + len(folded(card, known)) for card in cards)
    if hidden > 0:
        lines += ["", style.paint(f"{count(hidden, 'more function')}: `hostler devices --all`", "dim")]
    return "\n".join(lines)


def _below(lines: Sequence[str]) -> list[str]:
    return ["", *lines] if lines else []


def of_interest(devices: Sequence[Device]) -> list[Device]:
    """Display cards, and all that is not simply the host's; without what is folded into another's row."""
    known = {clean(device.get("address")): device for device in devices}
    chosen = [d for d in devices if (is_display(d) or _kind(d) not in {"host", "-"}) and not _is_spare(d)]
    inside: set[str] = set()
    for device in sorted(chosen, key=lambda d: not is_display(d)):  # the card leads, not its audio
        if clean(device.get("address")) not in inside:
            inside.update(clean(part.get("address")) for part in folded(device, known))
    return [device for device in chosen if clean(device.get("address")) not in inside]


def _is_spare(device: Device) -> bool:
    """A virtual function that nobody has: there may be dozens, and the row of what is left counts them."""
    return bool(device.get("physfn")) and _kind(device) in {"host", "idle", "-"}


def folded(card: Device, known: Mapping[str, Device]) -> list[Device]:
    """Its companions, as far as whoever has the card has them, too."""
    parts = [known[address] for address in texts_of(card.get("companions")) if address in known]
    return [part for part in parts if _owner_of(part) == _owner_of(card) and not is_display(part)]


def _owner_of(device: Device) -> tuple[str, object]:
    """Kind, and the domain; of the host's, `who` is a driver, which is each function's own."""
    kind = _kind(device)
    return kind, map_of(device.get("owner")).get("who") if kind == "domain" else None


def is_display(device: Device) -> bool:
    return _class(device) >> 8 == _DISPLAY


def _class(device: Device) -> int:
    """Class and subclass, 16 bits: of a number of 24 bits, or of hexadecimal text of class and subclass alone, too."""
    code = device.get("class")
    if isinstance(code, int):
        return code >> 8
    digits = str(code).removeprefix("0x")
    try:
        return int(digits[:4].ljust(4, "0"), 16) if len(digits) in {2, 4, 6} else 0
    except ValueError:
        return 0


def _kind(device: Device) -> str:
    return clean(map_of(device.get("owner")).get("kind"))


# --- one row a card


def _card(card: Device, parts: Sequence[Device], known: Mapping[str, Device]) -> list[str | Cell]:
    with_it = list({_PARTS.get(_class(part), short_name(part)): None for part in parts})
    name = short_name(card) + (" (shows the boot)" if card.get("boot_vga") else "")
    holders = [holder for device in (card, *parts) for holder in rows_of(device.get("holders"))]
    of_host = (card, *parts) if _kind(card) in {"host", "-"} else ()
    busy = [word for device in of_host for word in texts_of(device.get("busy"))]
    return [
        f"{name} + {', '.join(with_it)}" if with_it else name,
        clean(card.get("address")),
        Cell(_has(card), _PAINTS.get(_kind(card), "")),
        by_program(holders),
        "; ".join([*_to_do(card, holders, parts, known), *busy]),
    ]


def short_name(device: Device) -> str:
    """`GeForce RTX 3080` of `NVIDIA Corporation GA102 [GeForce RTX 3080]`; the ids where there is no name."""
    name = (
        clean(device.get("name"), nothing="") or f"{_hex(device.get('vendor'))}:{_hex(device.get('device'))}"
    )
    for long, short in _VENDORS.items():
        name = name.replace(long, short)
    return name.removesuffix("]").rpartition("[")[2] if name.endswith("]") else name


def _has(card: Device) -> str:
    owner = map_of(card.get("owner"))
    who = clean(owner.get("who"), nothing="")
    driver = clean(card.get("driver"), nothing="")
    match _kind(card):
        case "domain":
            return f"domain {who}"
        case "idle":
            return f"nobody: kept free for domains ({who})" if who else "nobody: kept free for domains"
        case "degraded":
            return f"nobody may touch it: {who}" if who else "nobody may touch it"
        case _:
            return f"the host ({driver})" if driver else "the host, without a driver"


def _to_do(
    card: Device,
    holders: Sequence[Mapping[str, object]],
    parts: Sequence[Device],
    known: Mapping[str, Device],
) -> list[str]:
    address = clean(card.get("address"))
    match _kind(card):
        case "domain":
            return [f"stop {clean(map_of(card.get('owner')).get('who'))} to have it back"]
        case "idle":
            return ["start a domain with it"]
        case "degraded":
            return [f"see `hostler status`, then `hostler retry {address}`"]
        case _:
            pass
    if card.get("iommu_group") is None:
        return ["the host has no IOMMU for it: it cannot be given away"]
    along = _foreign(card, parts, known)
    if along:
        return [f"to give it away, {', '.join(along)} must go, too (same IOMMU group)"]
    users = [domain_of(holder) for holder in holders]  # of its mediated devices, and of its virtual functions
    users += [
        clean(map_of(other.get("owner")).get("who"))
        for other in known.values()
        if other.get("physfn") == card.get("address") and _kind(other) == "domain"
    ]
    if users and all(users):
        return [f"stop {', '.join(dict.fromkeys(users))} before another domain takes it"]
    return ["close that before a domain takes it" if holders else "ready for a domain"]


def _foreign(card: Device, parts: Sequence[Device], known: Mapping[str, Device]) -> list[str]:
    """The others of its group, which go only where policy lets them; bridges stay where they are."""
    own = {clean(part.get("address")) for part in parts}
    return [
        f"{short_name(known[address])} ({address})" if address in known else address
        for address in texts_of(card.get("group"))
        if address not in own | {clean(card.get("address"))} | set(texts_of(card.get("companions")))
        and not (address in known and _class(known[address]) >> 8 == _BRIDGE)
    ]


# --- one row a function


def _row(device: Device) -> list[str | Cell]:
    owner = map_of(device.get("owner"))
    name = clean(device.get("name"), nothing="")
    ids = f"{_hex(device.get('vendor'))}:{_hex(device.get('device'))}"
    if device.get("boot_vga"):
        name = f"{name or ids} (boot display)"
    return [
        clean(device.get("address")),
        name or ids,
        clean(device.get("driver"), nothing="none"),
        clean(device.get("iommu_group"), nothing="none"),
        Cell(_owner(_kind(device), clean(owner.get("who"), nothing="")), _PAINTS.get(_kind(device), "")),
        by_process(rows_of(device.get("holders"))),
    ]


def _hex(value: object) -> str:
    return f"{value:04x}" if isinstance(value, int) else clean(value).removeprefix("0x")


def _owner(kind: str, who: str) -> str:
    if kind == "idle":
        return f"idle on VFIO ({who})" if who else "idle on VFIO"
    return f"{kind} {who}" if who and kind != "host" else kind
