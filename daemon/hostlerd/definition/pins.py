"""Where a domain begins, written into its XML: `<vcpupin>`, `<emulatorpin>`, `<numatune>`.

Pure. What is there already is its owner's and stays; so what an edit wrote is told from its changes, not from what was
asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from hostlerd.definition.elements import fragment
from hostlerd.definition.splice import Document
from hostlerd.model.edits import Change, PinsChange

PARENTS = ("cputune", "numatune")


def set_pins(document: Document, change: PinsChange) -> None:
    """Put in what is not there. A `<numatune>` of its owner's is left alone as a whole: its parts depend on each
    other."""
    pinned = {e.get("vcpu") for e in document.children("cputune") if e.tag == "vcpupin"}
    for vcpu, cpus in change.vcpus:
        if str(vcpu) not in pinned:
            document.put("cputune", f"<vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>", after="vcpupin")
    if change.emulator and document.root.find("cputune", "emulatorpin") is None:
        document.put("cputune", f"<emulatorpin cpuset='{change.emulator}'/>", after="vcpupin")
    if document.children("numatune"):
        return
    if change.memory:
        document.put("numatune", f"<memory mode='{change.mode}' nodeset='{change.memory}'/>")
    for cell, nodes in change.cells:
        document.put("numatune", f"<memnode cellid='{cell}' mode='{change.mode}' nodeset='{nodes}'/>")


def pins_of(changes: Iterable[Change]) -> PinsChange:
    """What the elements say that came."""
    vcpus: list[tuple[int, str]] = []
    cells: list[tuple[int, str]] = []
    emulator = memory = ""
    mode = "strict"
    for change in changes:
        if not change.added or change.parent not in PARENTS:
            continue
        element = fragment(change.text)
        match element.tag:
            case "vcpupin":
                vcpus.append((int(element.get("vcpu") or 0), element.get("cpuset") or ""))
            case "emulatorpin":
                emulator = element.get("cpuset") or ""
            case "memory":
                memory, mode = element.get("nodeset") or "", element.get("mode") or mode
            case _:
                cells.append((int(element.get("cellid") or 0), element.get("nodeset") or ""))
                mode = element.get("mode") or mode
    return PinsChange(
        vcpus=tuple(sorted(vcpus)), emulator=emulator, mode=mode, memory=memory, cells=tuple(sorted(cells))
    )
