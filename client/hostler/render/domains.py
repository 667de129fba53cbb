"""Domains: a table of many, a description of one."""

from __future__ import annotations

from hostler.render import placement
from hostler.render.text import (
    PLAIN,
    Cell,
    Style,
    clean,
    count,
    cpu_list,
    huge_pages,
    memory,
    paragraph,
    table,
    texts_of,
)
from hostler.shapes import ints_of, map_of, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Domain = Mapping[str, object]

_LABEL = 12


def render(domains: Sequence[Domain], style: Style = PLAIN) -> str:
    """`domains` as `hostler domains --json` has them: of the daemon (`state`) or read from files (`file`)."""
    if not domains:
        return "no domains"
    first = "FILE" if any("file" in domain for domain in domains) else "STATE"
    headers = ["NAME", first, "VCPUS", "PINS", "GPU", "HOSTDEVS"]
    return "\n".join(table(headers, [_row(domain) for domain in domains], style, flexible=(0, 1, 3, 5)))


def _row(domain: Domain) -> list[str | Cell]:
    state = clean(domain.get("file") or domain.get("state"))
    gpu = _gpu(domain)
    if map_of(domain.get("edit")).get("by") == "fallback":
        gpu += " (fallback)"
    return [
        clean(domain.get("name")),
        Cell(state, "green" if state == "running" else ""),
        _vcpus(domain),
        _pins_in_short(domain),
        Cell(gpu, "yellow" if "(" in gpu else "cyan" if gpu[:5] in {"passt", "slice"} else ""),
        ", ".join(_hostdev(hostdev) for hostdev in rows_of(domain.get("hostdevs"))) or "-",
    ]


def _gpu(domain: Domain) -> str:
    """`slice: mbochs-small of mbochs`."""
    cut = [
        f"{clean(one.get('type'), nothing='virtual function')} of {clean(one.get('parent'), nothing='any')}"
        for one in rows_of(domain.get("slices"))
    ]
    word = clean(domain.get("gpu"))
    return f"{word}: {', '.join(cut)}" if cut and word == "slice" else word


def _vcpus(domain: Domain) -> str:
    vcpus = map_of(domain.get("vcpus"))
    current, most = vcpus.get("current"), vcpus.get("maximum")
    return clean(current) if current == most or most is None else f"{clean(current)} of {clean(most)}"


def _pins_in_short(domain: Domain) -> str:
    pinned = {cpu for cpus in _in_force(domain).values() for cpu in ints_of(cpus)}
    return cpu_list(sorted(pinned)) if pinned else "-"


def _in_force(domain: Domain) -> Mapping[str, object]:
    """The vCPU pins of a domain that runs, else those its definition asks for."""
    return map_of(map_of(domain.get("live_pins")).get("vcpus")) or map_of(domain.get("vcpu_pins"))


def _hostdev(hostdev: Mapping[str, object]) -> str:
    kind = clean(hostdev.get("kind"))
    which = hostdev.get("address") or hostdev.get("uuid") or hostdev.get("source")
    return f"{kind} {clean(which)}" if which else kind


def render_one(domain: Domain, style: Style = PLAIN) -> str:
    """Everything about one domain."""
    state = clean(domain.get("state") or domain.get("file"))
    lines = [style.paint(f"{clean(domain.get('name'))}: {state}", "bold")]
    lines.append(_entry("uuid", clean(domain.get("uuid"))))
    lines.append(_entry("type", clean(domain.get("type"))))
    lines.append(_entry("vCPUs", _vcpus(domain) + _topology(map_of(domain.get("topology")))))
    lines += _entries(_pins("vCPU", _in_force(domain)), "pins")
    live = map_of(domain.get("live_pins"))
    emulator = live.get("emulator") or domain.get("emulator_pins")
    if emulator is not None:
        lines.append(_entry("emulator", cpu_list(emulator)))
    if given := map_of(domain.get("placement")):
        label = _entry("placement", "")
        lines += paragraph(placement.head(given), style, first=label, indent=" " * len(label))
        lines += placement.terms(given, style, indent="    ")
    if domain.get("iothreads"):
        lines.append(_entry("iothreads", clean(domain.get("iothreads"))))
        lines += _entries(_pins("iothread", map_of(live.get("iothreads") or domain.get("iothread_pins"))), "")
    cells = [
        f"vCPUs {cpu_list(cell.get('cpus'))}, {memory(cell.get('memory_kib'))}"
        for cell in rows_of(domain.get("numa_cells"))
    ]
    lines += _entries(cells, "NUMA cells")
    lines += _entries(_memory(domain), "memory")
    lines += _entries(_hugepages(domain), "hugepages")
    lines.append(_entry("GPU", _gpu(domain)))
    lines += _entries(_edit(map_of(domain.get("edit")), clean(domain.get("name"))), "")
    lines += _entries(_pins_edit(map_of(domain.get("pins_edit")), clean(domain.get("name"))), "begins with")
    lines += _entries([_hostdev(hostdev) for hostdev in rows_of(domain.get("hostdevs"))], "hostdevs")
    lines += _entries(texts_of(domain.get("notes")), "notes")
    return "\n".join(lines)


def _entry(label: str, text: str) -> str:
    return f"  {label:<{_LABEL}}{text}"


def _entries(texts: Sequence[str], label: str) -> list[str]:
    return [_entry("" if number else label, text) for number, text in enumerate(texts)]


def _edit(edit: Mapping[str, object], name: str) -> list[str]:
    """What hostler changed in the definition, and how it ends."""
    if not edit:
        return []
    change = f"{clean(edit.get('before'))} -> {clean(edit.get('after'))}"
    if edit.get("by") == "fallback":
        return [
            f"fallback in force ({change}) until {' '.join(texts_of(edit.get('waits_for')))} is there and free"
        ]
    return [f"changed by hostler ({change}); `hostler gpu {name} undo` takes it back"]


def _pins_edit(edit: Mapping[str, object], name: str) -> list[str]:
    """What hostler wrote into the definition of where it begins, and how that ends."""
    if not edit:
        return []
    ends = f"`hostler pins {name} undo` takes it back"
    if edit.get("by") == "policy":
        ends = "as policy says (write_config)"
    return [f"{clean(edit.get('text'))}: written by hostler, {ends}"]


def _memory(domain: Domain) -> list[str]:
    """`node 0: 8 GiB`, of a domain that runs on a host with several nodes."""
    return [
        f"node {clean(row.get('node'))}: {memory(row.get('kib'))}" for row in rows_of(domain.get("memory"))
    ]


def _hugepages(domain: Domain) -> list[str]:
    added = [
        f"{huge_pages(row)} added on node {clean(row.get('node'))}"
        for row in rows_of(domain.get("added_hugepages"))
    ]
    return [clean(domain.get("hugepages")), *added]


def _topology(topology: Mapping[str, object]) -> str:
    if not topology:
        return ""
    parts = [(topology.get("sockets"), "socket"), (topology.get("dies"), "die")]
    words = [count(number, word) for number, word in parts if isinstance(number, int) and number > 1]
    cores, threads = topology.get("cores"), topology.get("threads")
    if isinstance(cores, int) and isinstance(threads, int):
        words += [count(cores, "core"), f"{count(threads, 'thread')} each"]
    return f" ({', '.join(words)})" if words else ""


def _pins(word: str, pins: Mapping[str, object]) -> list[str]:
    """`vCPU 0 -> 2,10`, in the order of the numbers."""
    numbered = sorted(
        pins.items(),
        key=lambda pin: (not str(pin[0]).isdecimal(), int(pin[0]) if str(pin[0]).isdecimal() else 0),
    )
    return [f"{word} {clean(number)} -> CPU {cpu_list(cpus)}" for number, cpus in numbered]
