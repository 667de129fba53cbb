"""What of a domain's memory is of huge pages: <memoryBacking><hugepages>, and memory devices that are there from the
start.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.hugepages import Dimm, PageSize
from hostlerd.observe.libvirt_text import cpu_set, decimal, kib, wrong


def page_sizes(domain: Element, cells: int) -> tuple[PageSize, ...]:
    """`cells`: how many the guest has. One that has none counts as cell 0 (virDomainDefPostParseMemtune)."""
    if domain.find("memoryBacking/hugepages") is None:
        return ()
    found: list[PageSize] = []
    for page in domain.iterfind("memoryBacking/hugepages/page"):
        size = kib(page, page.get("size"), page.get("unit"))
        nodes: CpuSet | None = None
        if page.get("nodeset") is not None:
            nodes = cpu_set(page, "nodeset", what="cells")
            beyond = nodes - frozenset(range(max(1, cells)))
            if beyond:
                raise wrong(page, f"the domain has no NUMA cell {format_cpu_list(beyond)}")
        if not size:
            raise wrong(page, "no page has this size")
        found.append(PageSize(kib=size, cells=nodes if cells else None))
    return tuple(found) or (PageSize(),)


def dimms(domain: Element, cells: int) -> tuple[Dimm, ...]:
    """Of a virtio-mem the part that the guest has at its start. NVDIMMs and their kin have a file of their own."""
    found: list[Dimm] = []
    for device in domain.iterfind("devices/memory"):
        cell = _cell(device.find("target/node"), cells)
        part = {"dimm": "size", "virtio-mem": "requested"}.get(device.get("model", ""))
        size = device.find(f"target/{part}")
        if part is not None and size is not None:
            found.append(Dimm(kib=_kib(size), cell=cell, page_kib=_kib(device.find("source/pagesize"))))
    return tuple(found)


def _cell(target: Element | None, cells: int) -> int | None:
    if target is None:
        return None
    cell = decimal(target, target.text or "", "the cell")
    if cells and cell >= cells:
        raise wrong(target, f"the domain has no NUMA cell {cell}")
    return cell if cells else None


def _kib(element: Element | None) -> int:
    return 0 if element is None else kib(element, (element.text or "").strip(), element.get("unit"))
