"""The topology as a map: a line of cores for every level-3 cache, each core with its siblings, each with its owner.

On a narrow screen every core has a line of its own.
"""

from __future__ import annotations

from hostler.render.owners import Owners
from hostler.render.text import PLAIN, Style, clean, columns_of, count, cpu_list, memory, paragraph
from hostler.shapes import ints_of, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Cpu = Mapping[str, object]

_CELLS_A_LINE = 8
"""Cores of a line where the width is not known; most level-3 caches have so many or a multiple."""
_NARROW = 60
"""Columns below which a core has a line of its own."""


def render(topology: Mapping[str, object], style: Style = PLAIN) -> str:
    """`topology` as `hostler cpus --json` has it."""
    cpus = [cpu for cpu in rows_of(topology.get("cpus")) if cpu.get("online")]
    owners = Owners(topology)
    lines = [*paragraph(_summary(topology, cpus), style), ""]
    for socket in sorted(_distinct(cpus, "socket"), key=_number):
        of_socket = [cpu for cpu in cpus if cpu.get("socket") == socket]
        lines.append(style.paint(f"socket {clean(socket)}", "bold"))
        lines += _socket(topology, of_socket, owners, style, differ=_differ(cpus))
        lines.append("")
    lines += _nodes(topology, style)
    lines += owners.legend(style)
    lines += _rest(topology, style)
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
    topology: Mapping[str, object], cpus: Sequence[Cpu], owners: Owners, style: Style, *, differ: bool
) -> list[str]:
    """`differ`: say of each line what its CPUs are."""
    sizes = {cache.get("id"): cache.get("kib") for cache in rows_of(topology.get("l3"))}
    many_nodes = len(_distinct(cpus, "node")) > 1
    groups: list[tuple[str, list[list[int]]]] = []
    for cache in _distinct(cpus, "l3"):
        of_cache = [cpu for cpu in cpus if cpu.get("l3") == cache]
        words = ["no L3" if cache is None else f"L3 {clean(cache)}, {memory(sizes.get(cache))}"]
        if many_nodes:
            words.append(f"node {','.join(clean(node) for node in _distinct(of_cache, 'node'))}")
        for kind in _distinct(of_cache, "class"):
            members = [cpu for cpu in of_cache if cpu.get("class") == kind]
            about = ["" if kind in {"uniform", None} else clean(kind), _clock(members)] if differ else []
            groups.append((", ".join([*words, *filter(None, about)]), _cores(members)))
    width = max((len(label) for label, _ in groups), default=0)
    cells = [_Cell(core, owners) for _, cores in groups for core in cores]
    cell = max((cell.columns for cell in cells), default=1)
    if style.width is not None and style.width < max(_NARROW, cell + 4):
        return [line for label, cores in groups for line in _one_each(label, cores, owners, style)]
    return [
        line
        for label, cores in groups
        for line in _line(f"{label:<{width}}", [_Cell(core, owners) for core in cores], cell, style)
    ]


class _Cell:
    """A core: its threads with their marks."""

    __slots__ = ("_parts", "columns")

    def __init__(self, core: Sequence[int], owners: Owners) -> None:
        self._parts = [(f"{cpu}{owners.mark(cpu)}", owners.paint(cpu)) for cpu in core]
        self.columns = sum(columns_of(text) + 1 for text, _ in self._parts) - 1

    def lines(self, style: Style, room: int | None = None) -> list[str]:
        """Painted; threads for which there is no room are on further lines."""
        lines: list[list[str]] = [[]]
        used = 0
        for text, paint in self._parts:
            if room is not None and lines[-1] and used + len(text) + 1 > room:
                lines.append([])
                used = 0
            used += len(text) + 1
            lines[-1].append(style.paint(text, paint))
        return ["+".join(parts) for parts in lines]

    def padded(self, style: Style, columns: int) -> str:
        return self.lines(style)[0] + " " * (columns - self.columns)


def _cores(cpus: Sequence[Cpu]) -> list[list[int]]:
    """CPU ids by core, cores in the order of their lowest id."""
    cores: dict[object, list[int]] = {}
    for cpu in cpus:
        ident = cpu.get("id")
        if isinstance(ident, int):
            cores.setdefault(cpu.get("core"), []).append(ident)
    return [sorted(core) for core in cores.values()]


def _line(label: str, cells: Sequence[_Cell], cell: int, style: Style) -> list[str]:
    """The cores of one cache: behind its label, or below it where the terminal is too narrow for two."""
    opening = f"  {label}  "
    lines: list[str] = []
    a_line = _CELLS_A_LINE
    if style.width is not None:
        if style.width - len(opening) < 2 * (cell + 1):
            lines.append(opening.rstrip())
            opening = "    "
        a_line = max(1, (style.width - len(opening) + 1) // (cell + 1))
        a_line = a_line // _CELLS_A_LINE * _CELLS_A_LINE or a_line
    for start in range(0, len(cells), a_line):
        parts = [one.padded(style, cell) for one in cells[start : start + a_line]]
        lines.append(((" " * len(opening) if start else opening) + " ".join(parts)).rstrip())
    return lines


def _one_each(label: str, cores: Sequence[Sequence[int]], owners: Owners, style: Style) -> list[str]:
    """A line for every core, with the names of its owners where there is room."""
    lines = paragraph(label, style, first="  ", indent="    ")
    room = max(1, (style.width or _NARROW) - 4)
    for core in cores:
        cell = _Cell(core, owners)
        first, *more = cell.lines(style, room)
        names = owners.names(core)
        if names and not more and cell.columns + 2 + columns_of(names) <= room:
            first += f"  {names}"
        lines += [f"    {first}", *(f"     +{line}" for line in more)]
    return lines


def _nodes(topology: Mapping[str, object], style: Style) -> list[str]:
    nodes = rows_of(topology.get("nodes"))
    if len(nodes) < 2:
        return [f"memory {memory(node.get('memory_kib'))}" for node in nodes if node.get("memory_kib")]
    lines: list[str] = []
    for node in nodes:
        distances = " ".join(clean(distance) for distance in ints_of(node.get("distances")))
        line = f"node {clean(node.get('id'))}: CPUs {cpu_list(node.get('cpus'))}, {memory(node.get('memory_kib'))}"
        lines += paragraph(
            line + (f", distances {distances}" if distances else ""), style, first="", indent="  "
        )
    return lines


def _rest(topology: Mapping[str, object], style: Style) -> list[str]:
    lines: list[str] = []
    if quiet := ints_of(topology.get("nohz_full")):
        text = f"nohz_full, no timer tick while one task runs: {cpu_list(quiet)}"
        lines += paragraph(text, style, first="", indent="  ")
    dark = [cpu.get("id") for cpu in rows_of(topology.get("cpus")) if not cpu.get("online")]
    if dark:
        lines += paragraph(f"off line: {cpu_list(dark)}", style, first="", indent="  ")
    return lines
