"""Where a domain has its CPUs and why: a line for every term of the objective, and what a start would move."""

from __future__ import annotations

from hostler.render.plan import refusals
from hostler.render.text import PLAIN, Style, clean, columns_of, cpu_list, pad, paragraph
from hostler.shapes import ints_of, list_of, map_of, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MODES = {
    "dedicated": "CPUs of its own",
    "pinned": "pinned by its own definition",
    "floating": "floats on the host's CPUs, though it is to have its own",
    "shared": "shares the host's CPUs",
    "off": "left alone",
}
_MISSED = "! "


def head(placement: Mapping[str, object]) -> str:
    """In a line: what it has, and why it has no more."""
    mode, why = clean(placement.get("mode")), clean(placement.get("why"), nothing="")
    text = _MODES.get(mode, mode)
    if mode == "floating" and rows_of(placement.get("terms")):
        why = ""  # its one term says it
    parts = []
    if vcpus := sorted({cpu for cpus in list_of(placement.get("vcpus")) for cpu in ints_of(cpus)}):
        parts.append(f"vCPUs on {cpu_list(vcpus)}")
    for key, words in (("emulator", "emulator on {}"), ("idle", "{} kept empty")):
        if cpus := ints_of(placement.get(key)):
            parts.append(words.format(cpu_list(cpus)))
    return text + (f": {', '.join(parts)}" if parts else "") + (f"; {why}" if why else "")


def terms(placement: Mapping[str, object], style: Style = PLAIN, *, indent: str = "  ") -> list[str]:
    """A line for each term; what is missed is marked, with what stands in the way."""
    rows = rows_of(placement.get("terms"))
    width = max((columns_of(clean(row.get("title"))) for row in rows), default=0)
    lines: list[str] = []
    for row in rows:
        value, best = row.get("value"), row.get("best")
        missed = isinstance(value, int) and isinstance(best, int) and value > best
        why = clean(row.get("why"), nothing="")
        text = clean(row.get("reached")) + (f": {why}" if why else "")
        opening = f"{indent}{_MISSED if missed else '  '}{pad(clean(row.get('title')), width)}  "
        found = paragraph(text, style, first=opening, indent=" " * len(opening))
        lines += [style.paint(line, "yellow") if missed else line for line in found]
    return lines


def block(placement: Mapping[str, object], name: object, style: Style = PLAIN) -> list[str]:
    """A paragraph of its own about one domain."""
    opening = f"placement of {clean(name)}: "
    first, *more = paragraph(opening + head(placement), style, first="", indent="  ")
    return [style.paint(first, "bold"), *more, *terms(placement, style)]


def what_if(value: object, style: Style = PLAIN) -> str:
    """`what_if` of `hostler cpus --what-if --json`."""
    found = map_of(value)
    name = clean(found.get("domain"))
    opening = paragraph(f"if {name} were started now; nothing is changed", style)
    lines = [*(style.paint(line, "bold") for line in opening), ""]
    lines += block(map_of(found.get("placement")), name, style)
    lines += ["", *_moves(rows_of(found.get("moves")), style)]
    if refused := rows_of(found.get("refusals")):
        lines += ["", *refusals(refused, style)]
    return "\n".join(lines)


def _moves(moves: Sequence[Mapping[str, object]], style: Style) -> list[str]:
    """Those of a domain that have one reason together."""
    if not moves:
        return ["no vCPU that runs would move"]
    reasons: dict[tuple[str, str], list[str]] = {}
    for move in moves:
        vcpu = move.get("vcpu")
        what = f"vCPU {clean(vcpu)}" if isinstance(vcpu, int) else "what floats of it"
        text = f"{what} from {clean(move.get('from'))} to {clean(move.get('to'))}"
        reasons.setdefault((clean(move.get("domain")), clean(move.get("why"), nothing="")), []).append(text)
    lines = [style.paint("would move:", "bold")]
    for (domain, why), texts in reasons.items():
        text = f"{domain}: {', '.join(texts)}" + (f" ({why})" if why else "")
        lines += paragraph(text, style, first="  ", indent="    ")
    return lines
