"""The topology as a map: a line of cores for every level-3 cache, each core with its siblings."""

from __future__ import annotations

from hostler.render.text import NARROWEST, PLAIN, Style, clean, count, cpu_list, memory, pad, texts_of
from hostler.shapes import ints_of, map_of, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Cpu = Mapping[str, object]

_DEDICATED, _ISOLATED = "*", "^"
_PAINTS = {_DEDICATED: "cyan", _ISOLATED: "yellow", "": ""}
_CELLS_A_LINE = 8
"""Cores of a line where the width is not known; most level-3 caches have so many or a multiple."""


def render(topology: Mapping[str, object], style: Style = PLAIN, *, isolation: object = None) -> str:
    """`topology` as `hostler cpus --json` has it, `isolation` as in `hostler status --json`: {"cpus", "for"}."""
    cpus = [cpu for cpu in rows_of(topology.get("cpus")) if cpu.get("online")]
    isolation = map_of(isolation)
    marks = dict.fromkeys(ints_of(topology.get("isolated")), _ISOLATED)
    marks |= dict.fromkeys(ints_of(isolation.get("cpus")), _DEDICATED)
    lines = [_summary(topology, cpus), ""]
    for socket in sorted(_distinct(cpus, "socket"), key=_number):
        of_socket = [cpu for cpu in cpus if cpu.get("socket") == socket]
        lines.append(style.paint(f"socket {clean(socket)}", "bold"))
        lines += _socket(topology, of_socket, marks, style, differ=_differ(cpus))
        lines.append("")
    lines += _nodes(topology)
    lines += _legend(topology, isolation)
    return "\n".join(lines).rstrip()


def _summary(topology: Mapping[str, object], cpus: Sequence[Cpu]) -> str:
    parts = [f"{count(len(cpus), 'CPU')} on line"]
    cores, sockets = topology.get("cores"), topology.get("sockets")
    if isinstance(cores, int):
        parts.append(count(cores, "core"))
    if isinstance(sockets, int):
        parts.append(count(sockets, "socket"))
    caches = rows_of(topology.get("l3"))
    parts.append(count(len(caches), "level-3 cache") if caches else "no level-3 cache known")
    parts.append(count(len(rows_of(topology.get("nodes"))), "NUMA node"))
    if not _differ(cpus) and (clock := _clock(cpus)):
        parts.append(f"up to {clock}")
    return ", ".join(parts)


def _distinct(cpus: Sequence[Cpu], key: str) -> list[object]:
    return list(dict.fromkeys(cpu.get(key) for cpu in cpus))


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1


def _differ(cpus: Sequence[Cpu]) -> bool:
    """Whether there are CPUs of several kinds here."""
    return any(len(_distinct(cpus, key)) > 1 for key in ("class", "max_mhz"))


def _clock(cpus: Sequence[Cpu]) -> str:
    """The highest clock of any of them."""
    clocks = [mhz for cpu in cpus if isinstance(mhz := cpu.get("max_mhz"), int | float)]
    return f"{max(clocks) / 1000:.2f} GHz" if clocks else ""


def _socket(
    topology: Mapping[str, object],
    cpus: Sequence[Cpu],
    marks: Mapping[int, str],
    style: Style,
    *,
    differ: bool,
) -> list[str]:
    """`differ`: say of each line what its CPUs are."""
    sizes = {cache.get("id"): cache.get("kib") for cache in rows_of(topology.get("l3"))}
    many_nodes = len(_distinct(cpus, "node")) > 1
    cell = max((len(_core(core, marks)) for core in _cores(cpus)), default=1)
    groups: list[tuple[str, list[Cpu]]] = []
    for cache in _distinct(cpus, "l3"):
        of_cache = [cpu for cpu in cpus if cpu.get("l3") == cache]
        words = ["no L3" if cache is None else f"L3 {memory(sizes.get(cache))}"]
        if many_nodes:
            words.append(f"node {','.join(clean(node) for node in _distinct(of_cache, 'node'))}")
        for kind in _distinct(of_cache, "class"):
            members = [cpu for cpu in of_cache if cpu.get("class") == kind]
            about = ["" if kind in {"uniform", None} else clean(kind), _clock(members)] if differ else []
            groups.append((" ".join([*words, *filter(None, about)]), members))
    width = max((len(label) for label, _ in groups), default=0)
    lines: list[str] = []
    for label, members in groups:
        cores = [(_core(core, marks), _paint(core, marks)) for core in _cores(members)]
        lines += _line(f"{label:<{width}}", cores, cell, style)
    return lines


def _cores(cpus: Sequence[Cpu]) -> list[list[int]]:
    """CPU ids by core, cores in the order of their lowest id."""
    cores: dict[object, list[int]] = {}
    for cpu in cpus:
        ident = cpu.get("id")
        if isinstance(ident, int):
            cores.setdefault(cpu.get("core"), []).append(ident)
    return [sorted(core) for core in cores.values()]


def _core(core: Sequence[int], marks: Mapping[int, str]) -> str:
    return "+".join(f"{cpu}{marks.get(cpu, '')}" for cpu in core)


def _paint(core: Sequence[int], marks: Mapping[int, str]) -> str:
    found = {marks.get(cpu, "") for cpu in core}
    return _PAINTS[found.pop()] if len(found) == 1 else ""


def _line(label: str, cores: Sequence[tuple[str, str]], cell: int, style: Style) -> list[str]:
    """The cores of one cache: behind its label, or below it where the terminal is too narrow for two."""
    opening = f"  {label}  "
    lines: list[str] = []
    a_line = _CELLS_A_LINE
    if style.width is not None:
        if style.width - len(opening) < max(NARROWEST, 2 * (cell + 1)):
            lines.append(opening.rstrip())
            opening = "    "
        a_line = max(1, (style.width - len(opening) + 1) // (cell + 1))
        a_line = a_line // _CELLS_A_LINE * _CELLS_A_LINE or a_line
    for start in range(0, len(cores), a_line):
        parts = [style.paint(pad(text, cell), paint) for text, paint in cores[start : start + a_line]]
        lines.append(((" " * len(opening) if start else opening) + " ".join(parts)).rstrip())
    return lines


def _nodes(topology: Mapping[str, object]) -> list[str]:
    nodes = rows_of(topology.get("nodes"))
    if len(nodes) < 2:
        return [f"memory {memory(node.get('memory_kib'))}" for node in nodes if node.get("memory_kib")]
    lines: list[str] = []
    for node in nodes:
        distances = " ".join(clean(distance) for distance in ints_of(node.get("distances")))
        line = f"node {clean(node.get('id'))}: CPUs {cpu_list(node.get('cpus'))}, {memory(node.get('memory_kib'))}"
        lines.append(line + (f", distances {distances}" if distances else ""))
    return lines


def _legend(topology: Mapping[str, object], isolation: Mapping[str, object]) -> list[str]:
    lines: list[str] = []
    if dedicated := ints_of(isolation.get("cpus")):
        whom = ", ".join(texts_of(isolation.get("for")))
        lines.append(f"{_DEDICATED} dedicated{f' to {whom}' if whom else ''}: {cpu_list(dedicated)}")
    if isolated := ints_of(topology.get("isolated")):
        lines.append(f"{_ISOLATED} isolated, the scheduler keeps its hands off: {cpu_list(isolated)}")
    if quiet := ints_of(topology.get("nohz_full")):
        lines.append(f"nohz_full, no timer tick while one task runs: {cpu_list(quiet)}")
    dark = [cpu.get("id") for cpu in rows_of(topology.get("cpus")) if not cpu.get("online")]
    if dark:
        lines.append(f"off line: {cpu_list(dark)}")
    return lines
